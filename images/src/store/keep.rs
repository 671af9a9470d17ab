//! What the writable store holds, and since when nobody wanted it.

use std::{
    fs::{self, File, FileTimes},
    path::Path,
    time::SystemTime,
};

use super::{Digest, Store, StoreError, blob_path, partial::partial_path, refs};

impl Store {
    /// All blobs of the store that is written to, and what is there of unfinished ones: how large they are, and when they
    /// were used last as far as [`Store::touch`] was told.
    ///
    /// # Errors
    ///
    /// [`StoreError::ReadOnly`] or [`StoreError::Io`].
    pub fn blobs(&self) -> Result<Vec<(Digest, u64, SystemTime)>, StoreError> {
        let upper = self.upper().ok_or(StoreError::ReadOnly)?;
        let mut all = Vec::new();
        for dir in [upper.join("blobs/sha256"), upper.join("partial")] {
            let failed = |error| StoreError::io("listing", &dir, error);
            for entry in fs::read_dir(&dir).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let digest = entry.file_name().to_str().and_then(|name| Digest::from_hex(name).ok());
                // One that has just been removed is none.
                let Ok(metadata) = entry.metadata() else { continue };
                if let Some(digest) = digest.filter(|_| metadata.is_file()) {
                    all.push((digest, metadata.len(), metadata.modified().map_err(failed)?));
                }
            }
        }
        Ok(all)
    }

    /// The size of a blob in the store that is written to; none if it is not there.
    #[must_use]
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        let metadata = fs::metadata(self.upper_path(digest).ok()?).ok()?;
        metadata.is_file().then_some(metadata.len())
    }

    /// How much there is of an unfinished blob; nothing of one that is not begun.
    #[must_use]
    pub fn begun(&self, digest: &Digest) -> u64 {
        let path = self.upper().map(|dir| partial_path(dir, digest));
        path.and_then(|path| fs::metadata(path).ok()).map_or(0, |metadata| metadata.len())
    }

    /// How many bytes the file system has that is written to, whoever has them.
    ///
    /// # Errors
    ///
    /// [`StoreError::ReadOnly`] or [`StoreError::Io`].
    pub fn capacity(&self) -> Result<u64, StoreError> {
        let upper = self.upper().ok_or(StoreError::ReadOnly)?;
        let stat = rustix::fs::statvfs(upper);
        let stat = stat.map_err(|error| StoreError::io("measuring the disk of", upper, error.into()))?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    /// Remembers when a blob was used.
    ///
    /// # Errors
    ///
    /// [`StoreError::ReadOnly`] or [`StoreError::Io`].
    pub fn touch(&self, digest: &Digest, used: SystemTime) -> Result<(), StoreError> {
        let path = self.upper_path(digest)?;
        let touch = |path: &Path| File::open(path)?.set_times(FileTimes::new().set_modified(used));
        touch(&path).map_err(|error| StoreError::io("remembering the use of", &path, error))
    }

    /// Removes a blob from the writable store, also an unfinished one. Who reads it reads on.
    ///
    /// # Errors
    ///
    /// [`StoreError::ReadOnly`] or [`StoreError::Io`].
    pub fn remove_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        let upper = self.upper().ok_or(StoreError::ReadOnly)?;
        [blob_path(upper, digest), partial_path(upper, digest)].iter().try_for_each(|path| {
            match fs::remove_file(path) {
                Err(error) if !refs::is_absent(&error) => {
                    Err(StoreError::io("removing the blob", path, error))
                }
                Ok(()) | Err(_) => Ok(()),
            }
        })
    }
}
