//! What one client is offered: it asks for a file's size, for the file, and perhaps for what is left of it.

use std::fs::File;
use std::io;
use std::net::SocketAddrV6;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hyper::header::HeaderValue;
use mesh::Stage;
use tokio::sync::OnceCell;

use super::tally::Tally;
use crate::content::{Content, ContentFile};
use plain_http::file;

const EFI: HeaderValue = HeaderValue::from_static("application/efi");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) peer: SocketAddrV6,
    pub(super) tally: Arc<Tally>,
    /// What it was offered last, by its path.
    last: Mutex<Option<(String, Arc<Offered>)>>,
}

/// A file on offer.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) file: ContentFile,
    /// Its digest, as an ETag.
    pub(super) tag: HeaderValue,
    pub(super) media_type: HeaderValue,
    /// How far a boot is that fetches it.
    pub(super) stage: Stage,
    opened: OnceCell<Arc<File>>,
    /// All of it, if that is little.
    octets: OnceCell<Bytes>,
}

// === impl Client ===

impl Client {
    pub(super) fn new(peer: SocketAddrV6, tally: Tally) -> Self {
        Self { peer, tally: Arc::new(tally), last: Mutex::default() }
    }

    /// The file at a path.
    pub(super) fn offered<C: Content>(&self, path: &str, content: &C) -> Option<Arc<Offered>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, offered)) = last.as_ref().filter(|(known, _)| known == path) {
            return Some(Arc::clone(offered));
        }
        let (file, media_type, stage) = match path.strip_prefix('/')?.split_once('/')? {
            ("boot", name) => (content.boot_file_named(name)?, EFI, Stage::Loading),
            ("artefacts", digest) => (content.artefact(digest.parse().ok()?)?, OCTETS, Stage::Root),
            _ => return None,
        };
        let offered = Arc::new(Offered::new(file, media_type, stage)?);
        *last = Some((path.to_owned(), Arc::clone(&offered)));
        Some(offered)
    }
}

// === impl Offered ===

impl Offered {
    /// None if its digest could not stand in a header, which every digest can.
    fn new(file: ContentFile, media_type: HeaderValue, stage: Stage) -> Option<Self> {
        let tag = format!("\"{}\"", file.sha256).try_into().ok()?;
        Some(Self { file, tag, media_type, stage, opened: OnceCell::new(), octets: OnceCell::new() })
    }

    /// All of the file, read once.
    pub(super) async fn octets(&self) -> io::Result<Bytes> {
        let read = async || file::read_at(self.open().await?, 0, self.file.size).await;
        self.octets.get_or_try_init(read).await.cloned()
    }

    /// The file, opened once.
    pub(super) async fn open(&self) -> io::Result<Arc<File>> {
        let open = async || file::open(&self.file.path, self.file.size).await.map(Arc::new);
        self.opened.get_or_try_init(open).await.map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use mesh::{LinkId, Mac, MachineId};
    use netboot_proto::Arch;
    use netboot_proto::dhcp6;

    use super::*;
    use crate::board::StatusBoard;
    use crate::content::{IgnitionRefusal, IgnitionRequest, Sha256};

    /// Has every artefact, and counts how often it is asked for one.
    #[derive(Default)]
    struct Asked(AtomicUsize);

    impl Content for Asked {
        fn boot_file(&self, _arch: Arch, _client: &dhcp6::Client) -> Option<ContentFile> {
            None
        }

        fn boot_file_named(&self, _name: &str) -> Option<ContentFile> {
            None
        }

        fn artefact(&self, sha256: Sha256) -> Option<ContentFile> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let name = "root".to_owned().try_into().ok()?;
            Some(ContentFile { name, path: "/dev/null".into(), sha256, size: 0 })
        }

        async fn ignition(&self, _request: IgnitionRequest) -> Result<Bytes, IgnitionRefusal> {
            unreachable!("nobody asks")
        }
    }

    #[tokio::test]
    async fn what_a_client_asks_for_again_is_looked_up_and_opened_once() {
        let link = LinkId { near: MachineId::from_mac(Mac([2, 0, 0, 0, 0, 1])), port: 0.try_into().unwrap() };
        let tally = Tally::new(StatusBoard::new(), link);
        let client = Client::new(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, 0, 0), tally);
        let content = Asked::default();
        let path = |digits: &str| format!("/artefacts/{}", digits.repeat(32));
        let first = client.offered(&path("ab"), &content).unwrap();
        let again = client.offered(&path("ab"), &content).unwrap();
        assert!(Arc::ptr_eq(&first.open().await.unwrap(), &again.open().await.unwrap()));
        assert!(first.octets().await.unwrap().is_empty());
        assert_eq!(content.0.load(Ordering::Relaxed), 1);
        let other = client.offered(&path("cd"), &content).unwrap();
        assert!(!Arc::ptr_eq(&first.open().await.unwrap(), &other.open().await.unwrap()));
        for nothing in ["", "/", "/artefacts/", "/artefacts/..", "/boot/node.efi", "/other/x", "artefacts/x"]
        {
            assert!(client.offered(nothing, &content).is_none(), "{nothing}");
        }
        assert_eq!(content.0.load(Ordering::Relaxed), 2);
    }
}
