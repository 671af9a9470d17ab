//! One small file, and who asked for what.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use netboot_server::{
    Arch, Bytes, Client, Content, ContentFile, IgnitionRefusal, IgnitionRequest, RefusalStatus, Sha256,
};
use tempfile::NamedTempFile;

use crate::place::file_name;

/// What a link serves.
#[derive(Debug, Default)]
pub(crate) struct Files {
    served: AtomicUsize,
    asked: Mutex<Vec<IgnitionRequest>>,
    /// Why nobody is configured, if so.
    refusal: Option<RefusalStatus>,
}

/// The octets of the file.
pub(crate) fn file() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| (0..700_u16).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect())
}

/// What it goes by; nobody computes it anew.
pub(crate) fn digest() -> Sha256 {
    Sha256([0xab; 32])
}

// === impl Files ===

impl Files {
    pub(crate) fn refusing(refusal: Option<RefusalStatus>) -> Self {
        Self { refusal, ..Self::default() }
    }

    /// How often a file was found.
    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    /// Who wanted to be configured.
    pub(crate) fn asked(&self) -> Vec<IgnitionRequest> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn found(&self) -> ContentFile {
        static PLACE: OnceLock<NamedTempFile> = OnceLock::new();
        self.served.fetch_add(1, Ordering::Relaxed);
        let place = PLACE.get_or_init(|| {
            let mut place = NamedTempFile::new().unwrap();
            place.write_all(file()).unwrap();
            place
        });
        let size = u64::try_from(file().len()).unwrap();
        ContentFile { name: file_name(), path: place.path().to_owned(), sha256: digest(), size }
    }
}

impl Content for Files {
    fn boot_file(&self, arch: Arch, _client: &Client) -> Option<ContentFile> {
        match arch {
            Arch::X64 => Some(self.found()),
            Arch::Arm64 => None,
        }
    }

    fn boot_file_named(&self, name: &str) -> Option<ContentFile> {
        (name == file_name().as_str()).then(|| self.found())
    }

    fn artefact(&self, sha256: Sha256) -> Option<ContentFile> {
        (sha256 == digest()).then(|| self.found())
    }

    fn ignition(
        &self,
        request: IgnitionRequest,
    ) -> impl Future<Output = Result<Bytes, IgnitionRefusal>> + Send {
        self.asked.lock().unwrap().push(request);
        let answer = match self.refusal {
            None => Ok(Bytes::from_static(b"{}")),
            Some(status) => Err(IgnitionRefusal { status, reason: "because".to_owned() }),
        };
        std::future::ready(answer)
    }
}
