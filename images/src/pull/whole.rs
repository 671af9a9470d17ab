//! Whole images, fetched because somebody wants to have them here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{Found, Held, PullError, Puller, blocking};
use crate::progress::Progress;
use crate::store::{ClosureError, Content, Descriptor, Digest, Manifest, ManifestError, Platform, Reference};

/// Blobs of an image at a time.
const AT_ONCE: usize = 4;
/// An index of indexes with more images than this is no image but an attack.
const MAX_MANIFESTS: usize = 64;

/// Why an image is not here.
#[derive(Debug, thiserror::Error)]
pub enum WholeError {
    /// A part of it does not come.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// Its manifest is none.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It is not for this kind of machine.
    #[error("it is for none of the machines it is wanted for: {wanted}; it is for {there}")]
    Platform {
        /// What it should be for.
        wanted: String,
        /// What it is for.
        there: String,
    },
    /// It came, and is not whole.
    #[error("it came, and is not whole")]
    Closure(#[from] ClosureError),
}

impl Puller {
    /// Fetches all of an image that one kind of machine needs, and keeps it as what was given here: it stays, and is not
    /// looked up any more.
    ///
    /// # Errors
    ///
    /// [`WholeError`]; what came stays until something else needs the place.
    pub async fn whole(
        &self,
        reference: &Reference,
        platform: &Platform,
        progress: &dyn Progress,
    ) -> Result<Descriptor, WholeError> {
        let top = self.newest(reference).await?;
        let target = Descriptor::new(top.media_type.clone(), top.digest, top.bytes.len() as u64);
        let mut blobs = BTreeMap::new();
        let mut open = VecDeque::from([top]);
        let mut seen = 0;
        while let Some(Held { bytes, .. }) = open.pop_front() {
            match Manifest::parse(&bytes)?.content {
                Content::Image { config, layers } => {
                    blobs.extend(layers.iter().chain([&config]).map(|blob| (blob.digest, blob.size)));
                }
                Content::Index { manifests } => {
                    for wanted in fitting(&manifests, platform)?.iter().take(MAX_MANIFESTS - seen) {
                        seen += 1;
                        let Reference { registry, repository, .. } = reference;
                        open.push_back(self.manifest(registry, repository, &wanted.digest).await?);
                    }
                }
            }
        }
        self.fetch_all(reference, &blobs, progress).await?;
        let (store, name, kept) = (self.store().clone(), reference.clone(), target.clone());
        blocking(move || {
            store.closure(&kept.digest)?;
            Ok::<_, ClosureError>(store.set_ref(&name, &kept)?)
        })
        .await?;
        Ok(target)
    }

    /// What a name is now where it comes from, whatever has that name here.
    async fn newest(&self, reference: &Reference) -> Result<Held, PullError> {
        let Reference { registry, repository, tag } = reference;
        let upstream = self.whom_to_ask(registry, || reference.to_string())?;
        let manifest = upstream.manifest(repository, tag.as_str()).await?;
        self.keep(registry, repository, manifest).await
    }

    async fn fetch_all(
        &self,
        reference: &Reference,
        blobs: &BTreeMap<Digest, u64>,
        progress: &dyn Progress,
    ) -> Result<(), PullError> {
        let total: u64 = blobs.values().sum();
        let there: Mutex<BTreeMap<Digest, u64>> = Mutex::default();
        let tell = |digest: Digest, written: u64| {
            let mut there = there.lock().unwrap_or_else(PoisonError::into_inner);
            there.insert(digest, written);
            progress.advance(there.values().sum(), Some(total));
        };
        let tell = &tell;
        let fetch = |(digest, size): (&Digest, &u64)| {
            let (digest, size) = (*digest, *size);
            async move {
                match self.blob(&reference.registry, &reference.repository, &digest).await? {
                    Found::Stored(_) => tell(digest, size),
                    Found::Coming(flight, _) => flight.whole(|written| tell(digest, written)).await?,
                }
                Ok::<_, PullError>(())
            }
        };
        stream::iter(blobs.iter().map(fetch)).buffer_unordered(AT_ONCE).try_collect::<()>().await
    }
}

/// Those of an index that are for a kind of machine; those that do not say what they are for may be.
fn fitting<'a>(manifests: &'a [Descriptor], wanted: &Platform) -> Result<Vec<&'a Descriptor>, WholeError> {
    let fits =
        |platform: &Platform| (&platform.os, &platform.architecture) == (&wanted.os, &wanted.architecture);
    let fitting: Vec<&Descriptor> =
        manifests.iter().filter(|one| one.platform.as_ref().is_none_or(fits)).collect();
    if fitting.is_empty() {
        let name = |platform: &Platform| format!("{}/{}", platform.os, platform.architecture);
        let there: Vec<String> = manifests.iter().filter_map(|one| one.platform.as_ref()).map(name).collect();
        return Err(WholeError::Platform { wanted: name(wanted), there: there.join(", ") });
    }
    Ok(fitting)
}
