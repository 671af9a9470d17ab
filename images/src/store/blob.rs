//! Blobs, being written and being read.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use tempfile::{NamedTempFile, TempPath};

use super::{Digest, Store, StoreError, digest::Hasher, durable};

/// A stored blob, open for reading.
#[derive(Debug)]
pub struct Blob {
    /// Its bytes.
    pub file: File,
    /// How many they are.
    pub size: u64,
    /// The file's name, for those who have to name it to another program.
    pub path: PathBuf,
}

/// A blob being written. Nobody sees it before it is finished; dropped, it is gone.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    temp: NamedTempFile,
    hasher: Hasher,
    size: u64,
}

/// A blob whose bytes are complete and which does not yet count.
#[derive(Debug)]
pub struct Staged {
    store: Store,
    temp: TempPath,
    digest: Digest,
    size: u64,
}

// === impl BlobWriter ===

impl BlobWriter {
    pub(super) fn new(store: Store, dir: &Path) -> io::Result<Self> {
        let temp = tempfile::Builder::new().permissions(durable::file_mode()).tempfile_in(dir)?;
        Ok(Self { store, temp, hasher: Hasher::default(), size: 0 })
    }

    /// How many bytes were written.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds all that a reader gives.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`], whether reading or writing failed.
    pub fn copy_from(&mut self, mut reader: impl Read) -> Result<u64, StoreError> {
        let copied = io::copy(&mut reader, self);
        copied.map_err(|error| StoreError::io("copying a blob into", self.temp.path(), error))
    }

    /// Ends writing; the blob counts after [`Staged::commit`].
    #[must_use]
    pub fn stage(self) -> Staged {
        Staged {
            store: self.store,
            temp: self.temp.into_temp_path(),
            digest: self.hasher.finish(),
            size: self.size,
        }
    }

    /// Ends writing and makes the blob count, durably.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn finish(self) -> Result<(Digest, u64), StoreError> {
        let staged = self.stage();
        let stored = (staged.digest, staged.size);
        staged.commit()?;
        Ok(stored)
    }

    /// Ends writing; if the bytes are those expected, the blob counts.
    ///
    /// # Errors
    ///
    /// [`StoreError::Mismatch`] if they are not, or [`StoreError::Io`].
    pub fn finish_as(self, expected: &Digest) -> Result<u64, StoreError> {
        let staged = self.stage();
        if staged.digest != *expected {
            return Err(StoreError::Mismatch { expected: *expected, actual: staged.digest });
        }
        let size = staged.size;
        staged.commit()?;
        Ok(size)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.temp.write(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temp.flush()
    }
}

// === impl Staged ===

impl Staged {
    /// The sha256 of its bytes.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// How many bytes it has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Opens it for reading.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub fn open(&self) -> io::Result<File> {
        File::open(&self.temp)
    }

    /// Makes the blob count: on disk first, then under its name. A blob that a lower store has is not kept twice.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn commit(self) -> Result<(), StoreError> {
        let Self { store, temp, digest, size } = self;
        if store.lower_size(&digest) == Some(size) {
            return Ok(());
        }
        let path = store.upper_path(&digest)?;
        let failed = |source| StoreError::io("storing the blob", &path, source);
        File::open(&temp).and_then(|file| file.sync_all()).map_err(failed)?;
        // Replacing an equal blob heals one that the disk has damaged.
        temp.persist(&path).map_err(|error| failed(error.error))?;
        path.parent().map_or(Ok(()), durable::sync_dir).map_err(failed)
    }
}
