//! Where blobs are written before they count.
//!
//! Each process that writes has a folder of its own below `tmp/` and holds a lock on it. The kernel drops the lock
//! when the process ends, however it ends: a folder that can be locked is what a killed process left behind.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
};

use tempfile::TempDir;
use tracing::{debug, info};

/// A process's own folder for unfinished files.
#[derive(Debug)]
pub(super) struct Session {
    dir: TempDir,
    /// Held, not used.
    _lock: File,
}

// === impl Session ===

impl Session {
    /// Makes a folder and locks it.
    pub(super) fn begin(tmp: &Path) -> io::Result<Self> {
        loop {
            let dir = tempfile::Builder::new().prefix("session-").tempdir_in(tmp)?;
            let lock = File::open(dir.path())?;
            lock.lock()?;
            // A sweep may have seen the folder before it was locked, and removed it.
            let same = fs::metadata(dir.path()).is_ok_and(|now| {
                lock.metadata().is_ok_and(|ours| (now.dev(), now.ino()) == (ours.dev(), ours.ino()))
            });
            if same {
                return Ok(Self { dir, _lock: lock });
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes what killed processes left. What cannot be removed is in nobody's way: it is never served.
pub(super) fn sweep(tmp: &Path) -> io::Result<()> {
    for entry in fs::read_dir(tmp)? {
        let path = entry?.path();
        let Ok(file) = File::open(&path) else { continue };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => continue,
            Err(TryLockError::Error(error)) => {
                debug!(path = %path.display(), %error, "cannot tell whether a folder is in use");
                continue;
            }
        }
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Ok(()) => info!(path = %path.display(), "removed the unfinished files of a killed process"),
            Err(error) => debug!(path = %path.display(), %error, "cannot remove unfinished files"),
        }
    }
    Ok(())
}
