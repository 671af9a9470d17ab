//! Blobs that come piece by piece, from far away: read while they are written, and finished by whoever comes next.
//!
//! ```text
//! partial/<hex>     the first bytes of a blob; locked by the process that adds to it
//! ```
//!
//! A process that is killed leaves what it had. The next one goes on behind it: the digest says in the end whether all of
//! it belongs together.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tracing::{debug, info};

use super::{Digest, Store, StoreError, digest::Hasher, durable};

/// What nobody went on with for so long is removed.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How much is hashed at once.
const CHUNK: usize = 256 * 1024;

/// The first bytes of a blob, and the right to add to them.
#[derive(Debug)]
pub struct Partial {
    store: Store,
    digest: Digest,
    path: PathBuf,
    /// Locked.
    file: Arc<File>,
    hasher: Hasher,
    size: u64,
}

// === impl Partial ===

impl Partial {
    /// Goes on with a blob, or begins it. What is there is read once.
    pub(super) fn open(store: &Store, digest: &Digest) -> Result<Self, StoreError> {
        let path = partial_path(store.upper().ok_or(StoreError::ReadOnly)?, digest);
        let failed = |source| StoreError::io("opening the unfinished blob", &path, source);
        let file = lock(&path).map_err(failed)?;
        let mut partial = Self {
            store: store.clone(),
            digest: *digest,
            path: path.clone(),
            file: Arc::new(file),
            hasher: Hasher::default(),
            size: 0,
        };
        partial.rehash().map_err(failed)?;
        Ok(partial)
    }

    /// How many bytes are there.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The file, to read what is there; it is the same one when the blob has its name.
    #[must_use]
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Adds bytes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`]; then none of them count.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let mut file = &*self.file;
        file.write_all(bytes).map_err(|source| {
            // What was written of them before the disk was full, say.
            let undone = file.set_len(self.size).and_then(|()| file.seek(SeekFrom::Start(self.size)));
            if let Err(error) = undone {
                debug!(path = %self.path.display(), %error, "an unfinished blob is longer than it should be");
            }
            StoreError::io("writing the unfinished blob", &self.path, source)
        })?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Whether it is the whole blob: by its digest.
    ///
    /// # Errors
    ///
    /// [`StoreError::Mismatch`].
    pub fn prove(&self) -> Result<(), StoreError> {
        let actual = self.hasher.clone().finish();
        if actual == self.digest {
            return Ok(());
        }
        Err(StoreError::Mismatch { expected: self.digest, actual })
    }

    /// Makes the blob count, on disk first and then under its name.
    ///
    /// # Errors
    ///
    /// [`StoreError::Mismatch`] if it is not the blob, else [`StoreError::Io`].
    pub fn commit(self) -> Result<(), StoreError> {
        self.prove()?;
        let place = self.store.upper_path(&self.digest)?;
        let store = || -> io::Result<()> {
            self.file.set_permissions(durable::file_mode())?;
            self.file.sync_all()?;
            fs::rename(&self.path, &place)?;
            [&place, &self.path].into_iter().filter_map(|path| path.parent()).try_for_each(durable::sync_dir)
        };
        store().map_err(|source| StoreError::io("storing the blob", &place, source))
    }

    /// Forgets all of it: it turned out to be wrong.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn discard(self) -> Result<(), StoreError> {
        // Whoever waits for the lock sees that the name is another file's.
        fs::remove_file(&self.path)
            .map_err(|source| StoreError::io("removing the unfinished blob", &self.path, source))
    }

    fn rehash(&mut self) -> io::Result<()> {
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(0))?;
        let mut buffer = vec![0; CHUNK];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    self.hasher.update(&buffer[..count]);
                    self.size += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Those who read it have the same file open, and nobody waits for them.
        if let Err(error) = self.file.unlock() {
            debug!(path = %self.path.display(), %error, "cannot unlock an unfinished blob");
        }
    }
}

/// Removes what nobody goes on with.
pub(super) fn sweep(dir: &Path) -> io::Result<()> {
    let oldest = SystemTime::now().checked_sub(KEPT);
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let Ok(file) = File::open(&path) else { continue };
        let age = file.metadata().and_then(|metadata| metadata.modified());
        if age.is_ok_and(|modified| Some(modified) > oldest) || file.try_lock().is_err() {
            continue;
        }
        match fs::remove_file(&path) {
            Ok(()) => info!(path = %path.display(), "removed a blob that nobody went on with"),
            Err(error) => debug!(path = %path.display(), %error, "cannot remove an unfinished blob"),
        }
    }
    Ok(())
}

pub(super) fn partial_path(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("partial").join(digest.hex())
}

/// Opens and locks the file of that name. Between the two, the one that had it may have given it another name.
fn lock(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::MetadataExt;
    loop {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::ResourceBusy.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let ours = file.metadata()?;
        let named = fs::metadata(path);
        if named.is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())) {
            return Ok(file);
        }
    }
}

impl Store {
    /// Goes on with a blob that was begun, by whomever, or begins it.
    ///
    /// # Errors
    ///
    /// [`StoreError::ReadOnly`], or [`StoreError::Io`] also if another process is at it.
    pub fn partial(&self, digest: &Digest) -> Result<Partial, StoreError> {
        Partial::open(self, digest)
    }
}
