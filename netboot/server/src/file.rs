//! Files read in large pieces, off the threads that drive sockets.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

/// How much is read at once: it bounds what a client that stops reading keeps in memory.
pub(crate) const CHUNK: usize = 64 * 1024;
/// The same for a reader that takes little at a time, and of which there may be hundreds.
const AHEAD: usize = 32 * 1024;

/// A file, and the piece of it that was read last.
#[derive(Debug)]
pub(crate) struct FileReader {
    file: Arc<File>,
    size: u64,
    chunk: Bytes,
    chunk_at: u64,
}

// === impl FileReader ===

impl FileReader {
    /// Opens a file that must have `size` octets.
    pub(crate) async fn open(path: &Path, size: u64) -> io::Result<Self> {
        let path = path.to_owned();
        let file = blocking(move || {
            let file = File::open(&path)?;
            let found = file.metadata()?.len();
            if found == size {
                Ok(file)
            } else {
                let text = format!("{} has {found} octets and should have {size}", path.display());
                Err(io::Error::new(io::ErrorKind::InvalidData, text))
            }
        });
        Ok(Self { file: Arc::new(file.await?), size, chunk: Bytes::new(), chunk_at: 0 })
    }

    /// The octets from `offset` on, `len` of them, from memory if they were read before.
    pub(crate) async fn read(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        if self.cached(offset, len).is_none() {
            let ahead = self.size.saturating_sub(offset).min(AHEAD.max(len) as u64);
            self.chunk = read_at(Arc::clone(&self.file), offset, ahead).await?;
            self.chunk_at = offset;
        }
        let found = self.cached(offset, len).ok_or(io::ErrorKind::UnexpectedEof)?;
        // The end of a piece is its last use, unless the client lost it; hundreds of clients may be waited for.
        if found.as_ptr_range().end == self.chunk.as_ptr_range().end {
            self.chunk = Bytes::new();
        }
        Ok(found)
    }

    /// The file itself, for a reader that goes through it once.
    pub(crate) fn into_file(self) -> Arc<File> {
        self.file
    }

    fn cached(&self, offset: u64, len: usize) -> Option<Bytes> {
        let from = usize::try_from(offset.checked_sub(self.chunk_at)?).ok()?;
        let to = from.checked_add(len)?;
        (to <= self.chunk.len()).then(|| self.chunk.slice(from..to))
    }
}

/// Reads `len` octets at `offset`, all of them.
pub(crate) async fn read_at(file: Arc<File>, offset: u64, len: u64) -> io::Result<Bytes> {
    blocking(move || {
        let mut octets = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        file.read_exact_at(&mut octets, offset)?;
        Ok(Bytes::from(octets))
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
