//! What the writable store holds, and since when nobody wanted it.

use std::{
    fs::{self, File, FileTimes},
    path::Path,
    time::SystemTime,
};

use super::{Digest, Store, StoreError, blob_path, refs};

impl Store {
    /// All blobs of the store that is written to: how large they are, and when they were used last as far as
    /// [`Store::touch`] was told.
    ///
    /// # Errors
    ///
    /// [`StoreError::ReadOnly`] or [`StoreError::Io`].
    pub fn blobs(&self) -> Result<Vec<(Digest, u64, SystemTime)>, StoreError> {
        let dir = self.upper().ok_or(StoreError::ReadOnly)?.join("blobs/sha256");
        let failed = |error| StoreError::io("listing", &dir, error);
        let mut all = Vec::new();
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let digest = entry.file_name().to_str().and_then(|name| Digest::from_hex(name).ok());
            // One that has just been removed is none.
            let Ok(metadata) = entry.metadata() else { continue };
            if let Some(digest) = digest.filter(|_| metadata.is_file()) {
                all.push((digest, metadata.len(), metadata.modified().map_err(failed)?));
            }
        }
        Ok(all)
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

    /// Removes a blob from the writable store. Who reads it reads on.
    ///
    /// # Errors
    ///
    /// [`StoreError::ReadOnly`] or [`StoreError::Io`].
    pub fn remove_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = blob_path(self.upper().ok_or(StoreError::ReadOnly)?, digest);
        match fs::remove_file(&path) {
            Err(error) if !refs::is_absent(&error) => Err(StoreError::io("removing the blob", &path, error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
