//! What the netboot servers serve: artefacts, the mesh's and those that single machines boot by the [`Choice`], and
//! configurations by way of the [`Admitter`].

use std::sync::Arc;

use bytes::Bytes;
use netboot_server::{
    Arch, Client, Content, ContentFile, FileName, IgnitionRefusal, IgnitionRequest, RefusalStatus, Sha256,
};

use super::admit::{Refusal, Request};
use super::admitter::{Admitter, AnswerError};
use super::artefacts::Artefacts;
use super::choice::Choice;
use super::once::Once;
use super::settings::{Artefact, BootArtefacts};

/// What this node serves.
#[derive(Debug, Clone)]
pub struct NodeContent {
    boot: Arc<BootArtefacts>,
    artefacts: Artefacts,
    choice: Choice,
    admitter: Admitter,
    /// A machine does not wait for as long as a loaded API server may take; what is made for it is there when it asks again,
    /// with the one token that was minted for it.
    answers: Once<Request, Result<Bytes, IgnitionRefusal>>,
}

/// How many digits of a digest stand in the name of a boot file.
const OWN_DIGITS: usize = 16;

// === impl NodeContent ===

impl NodeContent {
    /// Serves these boot artefacts and those of the choice, as far as they are here, and admits by `admitter`.
    #[must_use]
    pub fn new(boot: Arc<BootArtefacts>, artefacts: Artefacts, choice: Choice, admitter: Admitter) -> Self {
        Self { boot, artefacts, choice, admitter, answers: Once::default() }
    }

    /// A file that one machine boots. What is not here comes now: nobody has it before it is asked for.
    fn own_file(&self, name: &str, artefact: &Artefact) -> Option<ContentFile> {
        let file = self.file(name, artefact);
        if file.is_none() {
            self.artefacts.want(name, artefact);
        }
        file
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
    fn boot_file(&self, arch: Arch, client: &Client) -> Option<ContentFile> {
        let Some(own) = self.choice.of(client) else {
            let uki = self.boot.uki.get(&arch.to_string())?;
            return self.file(boot_file_name(arch)?.as_str(), uki);
        };
        let uki = own.uki.get(&arch.to_string())?;
        // It will want these next.
        for (name, artefact) in [("root", &own.root), ("layer", &own.layer)] {
            self.own_file(name, artefact);
        }
        self.own_file(own_boot_file_name(arch, uki)?.as_str(), uki)
    }

    fn boot_file_named(&self, name: &str) -> Option<ContentFile> {
        let of = |boot: &BootArtefacts, name_of: fn(Arch, &Artefact) -> Option<FileName>| {
            let ukis =
                Arch::ALL.into_iter().filter_map(|arch| Some((arch, boot.uki.get(&arch.to_string())?)));
            let mut named =
                ukis.filter(|(arch, uki)| name_of(*arch, uki).is_some_and(|it| it.as_str() == name));
            named.next().map(|(_, uki)| uki.clone())
        };
        if let Some(uki) = of(&self.boot, |arch, _| boot_file_name(arch)) {
            return self.file(name, &uki);
        }
        let uki = self.choice.all().iter().find_map(|own| of(own, own_boot_file_name))?;
        self.own_file(name, &uki)
    }

    fn artefact(&self, sha256: Sha256) -> Option<ContentFile> {
        let digest = sha256.to_string();
        if let Some((name, artefact)) = self.boot.all().find(|(_, artefact)| artefact.sha256 == digest) {
            return self.file(name, artefact);
        }
        let all = self.choice.all();
        let mut known = all.iter().flat_map(BootArtefacts::all);
        let (name, artefact) = known.find(|(_, artefact)| artefact.sha256 == digest)?;
        self.own_file(name, artefact)
    }

    async fn ignition(&self, request: IgnitionRequest) -> Result<Bytes, IgnitionRefusal> {
        let link = request.link;
        let asked = Request {
            link,
            peer: *request.peer.ip(),
            far_mac: request.far_mac,
            uuid: request.uuid,
            ports: request.ports.into_iter().map(|(name, mac)| (mac, name)).collect(),
            image: request.image,
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

/// The same of a boot file that is not everybody's: each has its own, whatever was served by that name before.
pub(crate) fn own_boot_file_name(arch: Arch, uki: &Artefact) -> Option<FileName> {
    FileName::try_from(format!("node-{arch}-{}.efi", uki.sha256.get(..OWN_DIGITS)?)).ok()
}

fn status(error: &AnswerError) -> RefusalStatus {
    match error {
        AnswerError::NotReady(_) | AnswerError::Refused(Refusal::Alive { .. }) => RefusalStatus::NotReady,
        AnswerError::Refused(Refusal::OtherImages { .. }) | AnswerError::Full(_) => RefusalStatus::Conflict,
        AnswerError::Refused(_) => RefusalStatus::Forbidden,
    }
}
