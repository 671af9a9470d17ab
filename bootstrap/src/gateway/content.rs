//! What the netboot servers serve: artefacts, and configurations by way of the [`Admitter`].

use std::sync::Arc;

use bytes::Bytes;
use netboot_server::{
    Arch, Content, ContentFile, FileName, IgnitionRefusal, IgnitionRequest, RefusalStatus, Sha256,
};

use super::admit::{Refusal, Request};
use super::admitter::{Admitter, AnswerError};
use super::artefacts::Artefacts;
use super::once::Once;
use super::settings::{Artefact, BootArtefacts};

/// What this node serves.
#[derive(Debug, Clone)]
pub struct NodeContent {
    boot: Arc<BootArtefacts>,
    artefacts: Artefacts,
    admitter: Admitter,
    /// A machine does not wait for as long as a loaded API server may take; what is made for it is there when it asks again,
    /// with the one token that was minted for it.
    answers: Once<Request, Result<Bytes, IgnitionRefusal>>,
}

// === impl NodeContent ===

impl NodeContent {
    /// Serves these boot artefacts, as far as they are here, and admits by `admitter`.
    #[must_use]
    pub fn new(boot: Arc<BootArtefacts>, artefacts: Artefacts, admitter: Admitter) -> Self {
        Self { boot, artefacts, admitter, answers: Once::default() }
    }

    fn file(&self, name: &str, artefact: &Artefact) -> Option<ContentFile> {
        let path = self.artefacts.find(&artefact.sha256)?;
        // The size is the artefact's: a partition of the stick is larger than what it holds.
        Some(ContentFile {
            name: FileName::try_from(name.to_owned()).ok()?,
            path,
            sha256: artefact.sha256.parse().ok()?,
            size: artefact.size,
        })
    }
}

impl Content for NodeContent {
    fn boot_file(&self, arch: Arch) -> Option<ContentFile> {
        let uki = self.boot.uki.get(&arch.to_string())?;
        self.file(boot_file_name(arch)?.as_str(), uki)
    }

    fn artefact(&self, sha256: Sha256) -> Option<ContentFile> {
        let digest = sha256.to_string();
        let (name, artefact) = self.boot.all().find(|(_, artefact)| artefact.sha256 == digest)?;
        self.file(name, artefact)
    }

    async fn ignition(&self, request: IgnitionRequest) -> Result<Bytes, IgnitionRefusal> {
        let link = request.link;
        let asked = Request {
            link,
            peer: *request.peer.ip(),
            far_mac: request.far_mac,
            uuid: request.uuid,
            ports: request.ports.into_iter().map(|(name, mac)| (mac, name)).collect(),
        };
        let (admitter, question) = (self.admitter.clone(), asked.clone());
        let work = async move {
            admitter.answer(asked).await.map(Bytes::from).map_err(|error| {
                let reason = format!("{error:#}");
                tracing::info!(%link, %reason, "no configuration");
                IgnitionRefusal { status: status(&error), reason }
            })
        };
        self.answers.ask(question, work).await.unwrap_or_else(|| {
            let reason = "making the configuration failed; the log of this gateway says why".to_owned();
            Err(IgnitionRefusal { status: RefusalStatus::NotReady, reason })
        })
    }
}

/// The name of an architecture's boot file in URLs.
pub(crate) fn boot_file_name(arch: Arch) -> Option<FileName> {
    FileName::try_from(format!("node-{arch}.efi")).ok()
}

fn status(error: &AnswerError) -> RefusalStatus {
    match error {
        AnswerError::NotReady(_) | AnswerError::Refused(Refusal::Alive { .. }) => RefusalStatus::NotReady,
        AnswerError::Refused(_) => RefusalStatus::Forbidden,
        AnswerError::Full(_) => RefusalStatus::Conflict,
    }
}
