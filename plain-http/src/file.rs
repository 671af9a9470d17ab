//! Files read in large pieces: what the page cache has at once, the rest off the threads that drive sockets.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{ReadWriteFlags, preadv2};

/// How much is read at once: it bounds what a client that stops reading keeps in memory.
pub const CHUNK: usize = 64 * 1024;

/// Opens a file that must have `size` octets.
///
/// # Errors
///
/// It cannot be opened, or has another size.
pub async fn open(path: &Path, size: u64) -> io::Result<File> {
    if let Some(file) = open_cached(path) {
        return checked(file, path, size);
    }
    let path = path.to_owned();
    blocking(move || checked(File::open(&path)?, &path, size)).await
}

/// Opens a file if the kernel has all of its path in memory, and so need not wait for a disk.
fn open_cached(path: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED).ok().map(File::from)
}

/// A file, if it has `size` octets.
///
/// # Errors
///
/// It has another size.
pub fn checked(file: File, path: &Path, size: u64) -> io::Result<File> {
    let found = file.metadata()?.len();
    if found == size {
        return Ok(file);
    }
    let text = format!("{} has {found} octets and should have {size}", path.display());
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}

/// Reads `len` octets at `offset`, all of them.
///
/// # Errors
///
/// The file cannot be read so far.
pub async fn read_at(file: Arc<File>, offset: u64, len: u64) -> io::Result<Bytes> {
    let mut octets = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    let have = read_cached(&file, &mut octets, offset);
    if have == octets.len() {
        return Ok(Bytes::from(octets));
    }
    blocking(move || {
        let (_, rest) = octets.split_at_mut(have);
        file.read_exact_at(rest, offset + have as u64)?;
        Ok(Bytes::from(octets))
    })
    .await
}

/// Reads as much as is in memory, and gives how much that is. Many machines boot from the same few files, and to hand
/// each piece to another thread and back costs more than to copy it.
fn read_cached(file: &File, octets: &mut [u8], offset: u64) -> usize {
    let mut slices = [IoSliceMut::new(octets)];
    // Nothing is there, or the file system cannot tell: whatever it is, the read that may wait finds out.
    preadv2(file, &mut slices, offset, ReadWriteFlags::NOWAIT).unwrap_or(0)
}

/// Whether the page cache has a part of the file, as far as its ends tell: what lies between was read with them, and
/// seldom goes without them.
#[must_use]
pub fn is_cached(file: &File, from: u64, to: u64) -> bool {
    let has = |at| read_cached(file, &mut [0], at) == 1;
    from >= to || has(from) && has(to - 1)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests;
