//! Manifests: by their digests, which are what they are, and by tags, which are what somebody says.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tracing::{debug, info, warn};

use super::{FROM_UPSTREAM, ORIGIN, PullError, Puller, Revalidate, blocking};
use crate::store::{
    Descriptor, Digest, MAX_MANIFEST, Manifest, Reference, RegistryName, Repository, Store, StoreError,
};
use crate::upstream::{RawManifest, Upstream};

/// The tags that are remembered as looked up.
const MAX_SEEN: usize = 10_000;

/// A manifest that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its bytes.
    pub bytes: Bytes,
    /// Their kind.
    pub media_type: String,
    /// Their digest.
    pub digest: Digest,
}

impl Puller {
    /// The manifest of a digest.
    ///
    /// # Errors
    ///
    /// [`PullError`].
    pub async fn manifest(
        &self,
        registry: &RegistryName,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Held, PullError> {
        if let Some(held) = self.held(registry, repository, digest).await? {
            return Ok(held);
        }
        let name = format!("{registry}/{repository}@{digest}");
        let upstream = self.whom_to_ask(registry, || name.clone())?;
        let turn = self.turn(&name);
        let _turn = turn.lock().await;
        if let Some(held) = self.held(registry, repository, digest).await? {
            return Ok(held);
        }
        let manifest = upstream.manifest(repository, &digest.to_string()).await?;
        self.keep(registry, repository, manifest).await
    }

    /// The manifest of a tag.
    ///
    /// # Errors
    ///
    /// [`PullError`].
    pub async fn tagged(&self, reference: &Reference) -> Result<Held, PullError> {
        let asked = Instant::now();
        if let Some(held) = self.current(reference, asked).await? {
            return Ok(held);
        }
        let upstream = self.whom_to_ask(&reference.registry, || reference.to_string())?;
        let turn = self.turn(&reference.to_string());
        let _turn = turn.lock().await;
        // Somebody else may have looked it up meanwhile.
        if let Some(held) = self.current(reference, asked).await? {
            return Ok(held);
        }
        let stored = match self.target(reference).await? {
            Some(target) => self.held(&reference.registry, &reference.repository, &target.digest).await?,
            None => None,
        };
        let held = match (self.look_up(&upstream, reference, stored.as_ref()).await, stored) {
            (Ok(held), _) => held,
            (Err(PullError::Upstream(error)), Some(held)) => {
                warn!(%reference, %error, "a tag could not be looked up; it is served as it was seen last");
                held
            }
            (Err(error), _) => return Err(error),
        };
        // Nor does everybody wait for a registry that is away.
        self.note(reference);
        Ok(held)
    }

    /// What is here of a tag, if it need not be looked up.
    async fn current(&self, reference: &Reference, asked: Instant) -> Result<Option<Held>, PullError> {
        let Some(target) = self.target(reference).await? else { return Ok(None) };
        let ours = target.annotations.get(ORIGIN).is_none_or(|origin| origin != FROM_UPSTREAM);
        let seen = self.seen().get(reference).copied();
        let good = ours
            || match self.inner.revalidate {
                Revalidate::Never => true,
                Revalidate::After(time) => seen.is_some_and(|seen| seen.elapsed() < time || seen >= asked),
                Revalidate::Always => seen.is_some_and(|seen| seen >= asked),
            };
        if !good {
            return Ok(None);
        }
        self.held(&reference.registry, &reference.repository, &target.digest).await
    }

    /// What a tag points to here, however long ago it was looked up.
    async fn target(&self, reference: &Reference) -> Result<Option<Descriptor>, PullError> {
        let (store, name) = (self.inner.store.clone(), reference.clone());
        Ok(blocking(move || store.resolve(&name)).await?)
    }

    async fn look_up(
        &self,
        upstream: &Upstream,
        reference: &Reference,
        stored: Option<&Held>,
    ) -> Result<Held, PullError> {
        let Reference { registry, repository, tag } = reference;
        if let Some(stored) = stored {
            let now = upstream.resolve(repository, tag.as_str()).await?;
            if now == Some(stored.digest) {
                debug!(%reference, digest = %stored.digest, "a tag is what it was");
                return Ok(stored.clone());
            }
        }
        let manifest = upstream.manifest(repository, tag.as_str()).await?;
        let held = self.keep(registry, repository, manifest).await?;
        let mut target = Descriptor::new(held.media_type.clone(), held.digest, held.bytes.len() as u64);
        target.annotations.insert(ORIGIN.to_owned(), FROM_UPSTREAM.to_owned());
        info!(%reference, digest = %held.digest, "a tag was looked up");
        let (store, name) = (self.inner.store.clone(), reference.clone());
        if let Err(error) = blocking(move || store.set_ref(&name, &target)).await {
            warn!(%reference, error = &error as &dyn std::error::Error, "a tag is served and not stored");
        }
        Ok(held)
    }

    /// Stores a manifest and remembers whose it is.
    pub(super) async fn keep(
        &self,
        registry: &RegistryName,
        repository: &Repository,
        manifest: RawManifest,
    ) -> Result<Held, PullError> {
        let RawManifest { bytes, media_type, digest } = manifest;
        let size = bytes.len() as u64;
        let target = Descriptor::new(media_type.clone(), digest, size);
        let (inner, registry, repository) = (Arc::clone(&self.inner), registry.clone(), repository.clone());
        let kept = bytes.clone();
        let stored = blocking(move || {
            let claim = inner.room.as_ref().map(|room| room.claim(size)).transpose()?;
            inner.store.put(&kept)?;
            if let Some(claim) = claim {
                claim.keep(digest, size);
            }
            Ok(inner.store.set_manifest(&registry, &repository, &target)?)
        });
        match stored.await {
            Ok(()) => {}
            Err(error) if PullError::is_for_room(&error) => {
                warn!(%digest, %error, "a manifest is served and not stored");
            }
            Err(error) => return Err(error),
        }
        Ok(Held { bytes, media_type, digest })
    }

    /// A manifest of a repository that is here.
    async fn held(
        &self,
        registry: &RegistryName,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Held>, PullError> {
        let (store, registry, repository) = (self.inner.store.clone(), registry.clone(), repository.clone());
        let digest = *digest;
        Ok(blocking(move || held(&store, &registry, &repository, digest)).await?)
    }

    fn note(&self, reference: &Reference) {
        let mut seen = self.seen();
        if seen.len() >= MAX_SEEN {
            // All are looked up once more.
            seen.clear();
        }
        seen.insert(reference.clone(), Instant::now());
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<Reference, Instant>> {
        self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose turn it is to fetch something.
    fn turn(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.inner.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody has or waits for are not remembered.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(name.to_owned()).or_default())
    }
}

/// A manifest of a repository that a store has. The one of a tag that was given here is known by no more than its tag, and
/// then it says itself of which kind it is.
fn held(
    store: &Store,
    registry: &RegistryName,
    repository: &Repository,
    digest: Digest,
) -> Result<Option<Held>, StoreError> {
    let known = store.manifest(registry, repository, &digest)?;
    if known.is_none() && !store.knows(registry, repository) {
        return Ok(None);
    }
    // A blob larger than any manifest is none.
    if store.blob(&digest)?.is_none_or(|blob| blob.size > MAX_MANIFEST) {
        return Ok(None);
    }
    let Some(bytes) = store.read(&digest, MAX_MANIFEST)? else { return Ok(None) };
    let media_type = match known {
        Some(known) => known.media_type,
        None => match Manifest::parse(&bytes) {
            Ok(manifest) => manifest.media_type,
            Err(error) => {
                debug!(%digest, %error, "a blob that is no manifest was asked for as one");
                return Ok(None);
            }
        },
    };
    Ok(Some(Held { bytes: bytes.into(), media_type, digest }))
}
