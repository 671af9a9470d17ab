//! What is given to the store while it serves: images that are pushed. Calls block.
//!
//! An image has a name when all of it is there, and stays from then on. What was given for an image that got no name may
//! go as anything else that can be had again.

use std::collections::BTreeSet;
use std::io::{self, Write as _};

use bytes::Bytes;

use super::room::{Claim, Room};
use super::{Held, Inner, PullError, Puller};
use crate::store::{
    BlobWriter, ClosureError, Descriptor, Digest, Manifest, ManifestError, Reference, RegistryName,
    Repository, Store, StoreError, Tag,
};

/// Why something was not taken.
#[derive(Debug, thiserror::Error)]
pub enum GivenError {
    /// It is no manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It is another kind of manifest than the request says.
    #[error("the request says `{said}`, and the manifest is `{is}`")]
    Kind {
        /// What the request says.
        said: String,
        /// What it is.
        is: String,
    },
    /// The bytes are not those that were spoken of.
    #[error("the bytes are {actual}, and not {expected}")]
    Digest {
        /// What was said.
        expected: Digest,
        /// What they are.
        actual: Digest,
    },
    /// What it is made of is not all there: that has to come first.
    #[error("push what it is made of first")]
    Incomplete(#[source] ClosureError),
    /// There is no place for it.
    #[error(transparent)]
    Room(PullError),
    /// The bytes cannot be written.
    #[error("writing what comes")]
    Write(#[source] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A blob that is given, as far as it came. Dropped, it is gone.
#[derive(Debug)]
pub struct Given {
    store: Store,
    writer: BlobWriter,
    /// None if there is no limit.
    claim: Option<Claim>,
}

// === impl Given ===

impl Given {
    /// How much of it is there.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.writer.size()
    }

    /// Adds bytes.
    ///
    /// # Errors
    ///
    /// [`GivenError::Room`] or [`GivenError::Write`]; then it cannot be gone on with.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), GivenError> {
        if let Some(claim) = &mut self.claim {
            claim.grow(self.writer.size() + bytes.len() as u64).map_err(GivenError::Room)?;
        }
        self.writer.write_all(bytes).map_err(GivenError::Write)
    }

    /// Stores it, if it is what was spoken of.
    ///
    /// # Errors
    ///
    /// [`GivenError::Digest`] or [`GivenError::Store`].
    pub fn finish(self, digest: &Digest) -> Result<u64, GivenError> {
        let staged = self.writer.stage();
        let (actual, size) = (staged.digest(), staged.size());
        if actual != *digest {
            return Err(GivenError::Digest { expected: *digest, actual });
        }
        // One that is there already may be a part of an image, and stays what it is.
        if !self.store.contains(digest) {
            staged.commit()?;
            if let Some(claim) = self.claim {
                claim.keep(*digest, size);
            }
        }
        Ok(size)
    }
}

// === impl Puller ===

impl Puller {
    /// Begins a blob.
    ///
    /// # Errors
    ///
    /// [`GivenError::Store`].
    pub fn begin_given(&self) -> Result<Given, GivenError> {
        let claim = self.inner.room.as_ref().map(|room| room.claim(0)).transpose();
        let (claim, writer) = (claim.map_err(GivenError::Room)?, self.inner.store.writer()?);
        Ok(Given { store: self.inner.store.clone(), writer, claim })
    }

    /// Takes a manifest, of which all that it is made of is here, and gives it its tag if it has one.
    ///
    /// # Errors
    ///
    /// [`GivenError`]; then nothing has changed.
    pub fn take_manifest(
        &self,
        registry: &RegistryName,
        repository: &Repository,
        tag: Option<&Tag>,
        said: Option<&str>,
        bytes: &Bytes,
    ) -> Result<Held, GivenError> {
        let Inner { store, room, .. } = &*self.inner;
        let manifest = Manifest::parse(bytes)?;
        let media_type = manifest.media_type;
        if let Some(said) = said.filter(|said| **said != media_type) {
            return Err(GivenError::Kind { said: said.to_owned(), is: media_type });
        }
        let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
        let target = Descriptor::new(media_type.clone(), digest, size);
        let is_whole = || store.closure_of(bytes).map_err(GivenError::Incomplete);
        is_whole()?;
        if !store.contains(&digest) {
            let mut manifest = self.begin_given()?;
            manifest.append(bytes)?;
            manifest.finish(&digest)?;
        }
        renamed(room.as_ref(), || {
            // Something of it may have given way to another blob meanwhile.
            is_whole()?;
            store.set_manifest(registry, repository, &target)?;
            let mut released = BTreeSet::from([digest]);
            if let Some(tag) = tag {
                let reference = Reference {
                    registry: registry.clone(),
                    repository: repository.clone(),
                    tag: tag.clone(),
                };
                if let Some(before) = store.resolve(&reference)? {
                    store.reach(&before.digest, &mut released)?;
                }
                store.set_ref(&reference, &target)?;
            }
            Ok(released)
        })?;
        Ok(Held { bytes: bytes.clone(), media_type, digest })
    }

    /// Forgets a tag, and says whether it was there.
    ///
    /// # Errors
    ///
    /// [`GivenError::Store`].
    pub fn forget_tag(&self, reference: &Reference) -> Result<bool, GivenError> {
        let Inner { store, room, .. } = &*self.inner;
        let mut was = false;
        renamed(room.as_ref(), || {
            let mut released = BTreeSet::new();
            if let Some(before) = store.resolve(reference)? {
                store.reach(&before.digest, &mut released)?;
            }
            was = store.remove_ref(reference)?;
            Ok(released)
        })?;
        Ok(was)
    }

    /// Forgets a manifest and all its tags, and says whether it was there.
    ///
    /// # Errors
    ///
    /// [`GivenError::Store`].
    pub fn forget_manifest(
        &self,
        registry: &RegistryName,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, GivenError> {
        let Inner { store, room, .. } = &*self.inner;
        let mut was = false;
        renamed(room.as_ref(), || {
            let mut released = BTreeSet::new();
            store.reach(digest, &mut released)?;
            for tag in store.tags(registry, repository)? {
                let (registry, repository) = (registry.clone(), repository.clone());
                let reference = Reference { registry, repository, tag };
                if store.resolve(&reference)?.is_some_and(|target| target.digest == *digest) {
                    was |= store.remove_ref(&reference)?;
                }
            }
            was |= store.remove_manifest(registry, repository, digest)?;
            Ok(released)
        })?;
        Ok(was)
    }
}

/// Changes names. Where there is a limit, nothing of an image goes while it gets one.
fn renamed(
    room: Option<&Room>,
    change: impl FnOnce() -> Result<BTreeSet<Digest>, GivenError>,
) -> Result<(), GivenError> {
    match room {
        Some(room) => room.rename(change),
        None => change().map(drop),
    }
}
