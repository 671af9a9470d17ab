//! All blobs of an image, and copying images from one store to another.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Blob, Content, Descriptor, Digest, MAX_MANIFEST, Manifest, ManifestError, Reference, Store, StoreError,
};

/// An index of indexes deeper than this is no image but an attack.
const MAX_DEPTH: usize = 4;

/// All blobs of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closure {
    /// Those that are there, manifests included, and their sizes.
    pub present: BTreeMap<Digest, u64>,
    /// Of an index: the platforms' manifests that are not there, or not whole.
    pub absent: Vec<Descriptor>,
}

/// Why an image cannot be given away under its name.
#[derive(Debug, thiserror::Error)]
pub enum WholeError {
    /// There is no such image.
    #[error("the image {0} is not in the store")]
    Unknown(Reference),
    /// It is not whole.
    #[error("the image {reference} is not whole")]
    Closure {
        /// Which.
        reference: Reference,
        /// What is missing.
        #[source]
        source: ClosureError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an image is not whole.
#[derive(Debug, thiserror::Error)]
pub enum ClosureError {
    /// A blob is not there.
    #[error("the blob {0} is missing")]
    Missing(Digest),
    /// A blob has not the size that its manifest says.
    #[error("the blob {digest} has {actual} bytes, its manifest says {expected}")]
    Size {
        /// Which.
        digest: Digest,
        /// What the manifest says.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// A manifest that is none.
    #[error("the blob {digest}")]
    Manifest {
        /// Which.
        digest: Digest,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// An index in an index in an index …
    #[error("the index {0} is nested too deeply")]
    Depth(Digest),
    /// None of an index's platforms is there.
    #[error("the index {0} names no image that is there")]
    Empty(Digest),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

// === impl WholeError ===

impl WholeError {
    /// Whether the store has nothing of that name.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

impl Store {
    /// The manifest of the image with this name, and all its blobs.
    ///
    /// # Errors
    ///
    /// [`WholeError`].
    pub fn whole(&self, reference: &Reference) -> Result<(Descriptor, Closure), WholeError> {
        let target = self.resolve(reference)?.ok_or_else(|| WholeError::Unknown(reference.clone()))?;
        let whole = |source| WholeError::Closure { reference: reference.clone(), source };
        let closure = self.closure(&target.digest).map_err(whole)?;
        Ok((target, closure))
    }

    /// All blobs of the image with this manifest; fails unless at least one platform is whole.
    ///
    /// # Errors
    ///
    /// [`ClosureError`].
    pub fn closure(&self, manifest: &Digest) -> Result<Closure, ClosureError> {
        let mut closure = Closure::default();
        self.gather_closure(manifest, 0, &mut BTreeSet::new(), &mut closure)?;
        Ok(closure)
    }

    /// The same of a manifest that need not be stored itself.
    ///
    /// # Errors
    ///
    /// [`ClosureError`].
    pub fn closure_of(&self, bytes: &[u8]) -> Result<Closure, ClosureError> {
        let (mut closure, digest) = (Closure::default(), Digest::of(bytes));
        self.gather_children(&digest, bytes, 0, &mut BTreeSet::from([digest]), &mut closure)?;
        Ok(closure)
    }

    // Each manifest is looked at once, however often hostile indexes name it.

    fn gather_closure(
        &self,
        manifest: &Digest,
        depth: usize,
        seen: &mut BTreeSet<Digest>,
        closure: &mut Closure,
    ) -> Result<(), ClosureError> {
        if !seen.insert(*manifest) {
            let known = closure.present.contains_key(manifest);
            return if known { Ok(()) } else { Err(ClosureError::Missing(*manifest)) };
        }
        let bytes = self.read(manifest, MAX_MANIFEST)?.ok_or(ClosureError::Missing(*manifest))?;
        self.gather_children(manifest, &bytes, depth, seen, closure)
    }

    fn gather_children(
        &self,
        manifest: &Digest,
        bytes: &[u8],
        depth: usize,
        seen: &mut BTreeSet<Digest>,
        closure: &mut Closure,
    ) -> Result<(), ClosureError> {
        let parsed =
            Manifest::parse(bytes).map_err(|source| ClosureError::Manifest { digest: *manifest, source })?;
        match &parsed.content {
            Content::Image { .. } => {
                let mut found = BTreeMap::new();
                for child in parsed.children() {
                    let blob = self.blob(&child.digest)?.ok_or(ClosureError::Missing(child.digest))?;
                    if blob.size != child.size {
                        let Descriptor { digest, size: expected, .. } = *child;
                        return Err(ClosureError::Size { digest, expected, actual: blob.size });
                    }
                    found.insert(child.digest, blob.size);
                }
                closure.present.append(&mut found);
            }
            Content::Index { manifests } => {
                if depth == MAX_DEPTH {
                    return Err(ClosureError::Depth(*manifest));
                }
                let mut any = false;
                for child in manifests {
                    match self.gather_closure(&child.digest, depth + 1, seen, closure) {
                        Ok(()) => any = true,
                        Err(ClosureError::Missing(_) | ClosureError::Empty(_)) => {
                            closure.absent.push(child.clone());
                        }
                        Err(error) => return Err(error),
                    }
                }
                if !any {
                    return Err(ClosureError::Empty(*manifest));
                }
            }
        }
        closure.present.insert(*manifest, bytes.len() as u64);
        Ok(())
    }

    /// Adds all that the image with this manifest is made of, whether it is there or not.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn reach(&self, manifest: &Digest, all: &mut BTreeSet<Digest>) -> Result<(), StoreError> {
        let mut left = vec![*manifest];
        while let Some(digest) = left.pop() {
            if !all.insert(digest) {
                continue;
            }
            let Some(bytes) = self.read(&digest, MAX_MANIFEST)? else { continue };
            let Ok(manifest) = Manifest::parse(&bytes) else { continue };
            let children = manifest.children().into_iter().map(|child| child.digest);
            match &manifest.content {
                Content::Image { .. } => all.extend(children),
                Content::Index { .. } => left.extend(children),
            }
        }
        Ok(())
    }

    /// Copies an image by its name into another store: its blobs first, its name last.
    ///
    /// # Errors
    ///
    /// [`ClosureError`].
    pub fn copy_image(
        &self,
        reference: &Reference,
        target: &Descriptor,
        to: &Self,
    ) -> Result<(), ClosureError> {
        for digest in self.closure(&target.digest)?.present.keys() {
            self.copy_blob(digest, to)?;
        }
        Ok(to.set_ref(reference, target)?)
    }

    /// Copies a blob into another store, unless it is there, and verifies it on the way.
    ///
    /// # Errors
    ///
    /// [`ClosureError::Missing`] or the stores' errors.
    pub fn copy_blob(&self, digest: &Digest, to: &Self) -> Result<u64, ClosureError> {
        let Blob { file, size, .. } = self.blob(digest)?.ok_or(ClosureError::Missing(*digest))?;
        if !to.contains(digest) {
            let mut writer = to.writer()?;
            writer.copy_from(file)?;
            writer.finish_as(digest)?;
        }
        Ok(size)
    }
}
