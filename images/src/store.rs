//! Verified blobs on disk, by the sha256 of their bytes, and the names that point to them.
//!
//! Boot artefacts and container images are one idea and lie in one store:
//!
//! ```text
//! blobs/sha256/<hex>                             a blob
//! refs/<registry>/<repository>/_tags/<tag>       an image's name: the descriptor of its manifest
//! refs/<registry>/<repository>/_manifests/<hex>  a manifest that came from elsewhere, and its kind
//! partial/<hex>                                  what comes from far away; served while it comes, never as a whole
//! tmp/session-*/                                 what is being written; never served
//! ```
//!
//! A blob gets its name only when all its bytes are on disk and hashed: a process killed at any instant leaves
//! no wrong blob behind. A read-only store (the artefacts on a seed's disk) can lie below a writable one.
//!
//! Calls block; a caller on an async runtime decides on which thread. Nothing holds a blob in memory.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

mod blob;
mod closure;
mod digest;
mod durable;
mod keep;
mod manifest;
mod name;
mod names;
mod partial;
mod refs;
mod session;
#[cfg(test)]
pub(crate) mod tests;

pub use blob::{Blob, BlobWriter, Staged};
pub use closure::{Closure, ClosureError, WholeError};
pub use digest::{Digest, Hasher, ParseDigestError};
pub use manifest::{
    Content, DOCKER_LIST, DOCKER_MANIFEST, Descriptor, MAX_MANIFEST, Manifest, ManifestError, OCI_CONFIG,
    OCI_INDEX, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST, Platform,
};
pub use name::{DEFAULT_REGISTRY, DEFAULT_TAG, ParseNameError, Reference, RegistryName, Repository, Tag};
pub use partial::Partial;

/// A store, and those below it. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Where is written.
    upper: Option<PathBuf>,
    /// Read-only, nearest first.
    lower: Vec<PathBuf>,
    /// Begun when something is written first.
    session: Mutex<Option<Arc<session::Session>>>,
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("{action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// How it failed.
        #[source]
        source: io::Error,
    },
    /// There is no store.
    #[error("{} is no store: it has no folder blobs/sha256", .0.display())]
    NoStore(PathBuf),
    /// It can only be read.
    #[error("the store can only be read")]
    ReadOnly,
    /// The bytes are not those that were asked for.
    #[error("expected {expected}, got {actual}: the bytes are wrong or not all there")]
    Mismatch {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A file of the store does not hold what its name says.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// What [`Store::verify`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The bytes are those of the name.
    Sound,
    /// There is no such blob.
    Absent,
    /// They were not; the blob was removed from the writable store.
    Removed,
    /// They are not, and the store can only be read.
    Damaged,
}

// === impl Store ===

impl Store {
    /// Opens a store for writing, makes it if it is not there, and removes what killed processes left in it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let dir = dir.into();
        for sub in ["blobs/sha256", "refs", "partial", "tmp"] {
            let path = dir.join(sub);
            durable::create_dirs(&path).map_err(|error| StoreError::io("making", &path, error))?;
        }
        let tmp = dir.join("tmp");
        session::sweep(&tmp).map_err(|error| StoreError::io("sweeping", &tmp, error))?;
        let partial = dir.join("partial");
        partial::sweep(&partial).map_err(|error| StoreError::io("sweeping", &partial, error))?;
        Ok(Self::new(Some(dir), Vec::new()))
    }

    /// Opens a store for reading.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoStore`].
    pub fn open_read_only(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Ok(Self::new(None, vec![checked(dir.into())?]))
    }

    /// Lays this store over another one, which is only read. Call it before the store is shared or written to.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoStore`].
    pub fn over(self, lower: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let mut all = self.inner.lower.clone();
        all.push(checked(lower.into())?);
        Ok(Self::new(self.inner.upper.clone(), all))
    }

    fn new(upper: Option<PathBuf>, lower: Vec<PathBuf>) -> Self {
        Self { inner: Arc::new(Inner { upper, lower, session: Mutex::new(None) }) }
    }

    /// Opens a blob, if it is there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if it is there and cannot be opened.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        for path in self.dirs().map(|dir| blob_path(dir, digest)) {
            let opened = File::open(&path).and_then(|file| Ok((file.metadata()?, file)));
            match opened {
                Ok((metadata, file)) if metadata.is_file() => {
                    return Ok(Some(Blob { file, size: metadata.len(), path }));
                }
                Ok(_) => {}
                Err(error) if refs::is_absent(&error) => {}
                Err(error) => return Err(StoreError::io("opening the blob", &path, error)),
            }
        }
        Ok(None)
    }

    /// Whether a blob is there.
    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        self.dirs().any(|dir| blob_path(dir, digest).is_file())
    }

    /// Reads a whole blob of at most `limit` bytes: manifests and configurations.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if it is larger, else [`StoreError::Io`].
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(Blob { file, size, path }) = self.blob(digest)? else { return Ok(None) };
        if size > limit {
            return Err(StoreError::Damaged {
                path,
                reason: format!("{size} bytes, expected at most {limit}"),
            });
        }
        let mut bytes = Vec::new();
        file.take(limit)
            .read_to_end(&mut bytes)
            .map_err(|error| StoreError::io("reading the blob", &path, error))?;
        Ok(Some(bytes))
    }

    /// Begins a new blob.
    ///
    /// # Errors
    ///
    /// [`StoreError::ReadOnly`] or [`StoreError::Io`].
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        let session = self.session()?;
        BlobWriter::new(self.clone(), session.path())
            .map_err(|error| StoreError::io("writing in", session.path(), error))
    }

    /// Stores bytes.
    ///
    /// # Errors
    ///
    /// [`StoreError::ReadOnly`] or [`StoreError::Io`].
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        Ok(self.put_reader(bytes)?.0)
    }

    /// Stores a file's bytes.
    ///
    /// # Errors
    ///
    /// [`StoreError::ReadOnly`] or [`StoreError::Io`].
    pub fn put_file(&self, path: &Path) -> Result<(Digest, u64), StoreError> {
        let file = File::open(path).map_err(|error| StoreError::io("opening", path, error))?;
        self.put_reader(file)
    }

    /// Stores all that a reader gives.
    ///
    /// # Errors
    ///
    /// [`StoreError::ReadOnly`] or [`StoreError::Io`].
    pub fn put_reader(&self, reader: impl Read) -> Result<(Digest, u64), StoreError> {
        let mut writer = self.writer()?;
        writer.copy_from(reader)?;
        writer.finish()
    }

    /// Hashes a blob again. A wrong one is removed where that can be done, so that it is fetched anew.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn verify(&self, digest: &Digest) -> Result<Verdict, StoreError> {
        let Some(Blob { file, path, .. }) = self.blob(digest)? else { return Ok(Verdict::Absent) };
        let (actual, _) =
            Digest::of_reader(file).map_err(|error| StoreError::io("reading the blob", &path, error))?;
        if actual == *digest {
            return Ok(Verdict::Sound);
        }
        if !self.upper().is_some_and(|upper| path.starts_with(upper)) {
            return Ok(Verdict::Damaged);
        }
        fs::remove_file(&path)
            .and_then(|()| path.parent().map_or(Ok(()), durable::sync_dir))
            .map_err(|error| StoreError::io("removing the damaged blob", &path, error))?;
        Ok(Verdict::Removed)
    }

    fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.inner.upper.iter().chain(&self.inner.lower).map(PathBuf::as_path)
    }

    fn upper(&self) -> Option<&Path> {
        self.inner.upper.as_deref()
    }

    fn upper_path(&self, digest: &Digest) -> Result<PathBuf, StoreError> {
        Ok(blob_path(self.upper().ok_or(StoreError::ReadOnly)?, digest))
    }

    /// The size of a blob in a lower store.
    fn lower_size(&self, digest: &Digest) -> Option<u64> {
        self.inner
            .lower
            .iter()
            .find_map(|dir| fs::metadata(blob_path(dir, digest)).ok().filter(fs::Metadata::is_file))
            .map(|metadata| metadata.len())
    }

    fn session(&self) -> Result<Arc<session::Session>, StoreError> {
        let tmp = self.upper().ok_or(StoreError::ReadOnly)?.join("tmp");
        let mut session = self.inner.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = &*session {
            return Ok(Arc::clone(session));
        }
        let begun = session::Session::begin(&tmp).map_err(|error| StoreError::io("locking", &tmp, error))?;
        Ok(Arc::clone(session.insert(Arc::new(begun))))
    }
}

impl StoreError {
    fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}

fn blob_path(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("blobs/sha256").join(digest.hex())
}

fn checked(dir: PathBuf) -> Result<PathBuf, StoreError> {
    if dir.join("blobs/sha256").is_dir() { Ok(dir) } else { Err(StoreError::NoStore(dir)) }
}
