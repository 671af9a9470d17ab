//! Blobs, piece by piece.
//!
//! What the kernel has in memory is copied where it is asked for; only what has to come from the disk is waited for on
//! another thread. Each way there and back would take as long as the copy itself.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{Stream, stream};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::pull::blocking;

/// What is read at once: few calls …
const LARGE: usize = 256 * 1024;
/// … as long as there are so few of such pieces …
const LARGE_PIECES: usize = 48;
/// … and small ones beyond, so that hundreds of clients, slow ones too, fit into a node's memory.
const SMALL: usize = 32 * 1024;

/// The memory for pieces. Copies share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Pieces(Arc<Mutex<Shelf>>);

#[derive(Debug, Default)]
struct Shelf {
    /// Large ones that nobody has.
    free: Vec<Vec<u8>>,
    /// Large ones that somebody has.
    lent: usize,
}

/// A piece that a client is sent. Its memory goes back when the last of it is sent, or the client is gone.
#[derive(Debug)]
struct Piece {
    memory: Vec<u8>,
    len: usize,
    from: Pieces,
}

/// How far a blob has been read.
struct Reading {
    file: Arc<File>,
    at: u64,
    end: u64,
    pieces: Pieces,
}

// === impl Pieces ===

impl Pieces {
    /// The bytes of a file from one up to another.
    pub(super) fn of(
        &self,
        file: Arc<File>,
        at: u64,
        end: u64,
    ) -> impl Stream<Item = io::Result<Bytes>> + use<> {
        let reading = Reading { file, at, end, pieces: self.clone() };
        stream::try_unfold(reading, async |mut reading| {
            let piece = reading.next().await?;
            Ok(piece.map(|piece| (Bytes::from_owner(piece), reading)))
        })
    }

    /// Memory for a piece, a large one if it is needed and there is one.
    fn take(&self, wanted: u64) -> Piece {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = if wanted > SMALL as u64 && shelf.lent < LARGE_PIECES {
            shelf.lent += 1;
            shelf.free.pop().unwrap_or_else(|| vec![0; LARGE])
        } else {
            vec![0; SMALL]
        };
        let len = usize::try_from(wanted).unwrap_or(usize::MAX).min(memory.len());
        Piece { memory, len, from: self.clone() }
    }
}

// === impl Piece ===

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.memory.get(..self.len).unwrap_or_default()
    }
}

impl Piece {
    /// Reads as much as there is room for, or as the kernel has in memory; whether anything came.
    fn fill_at_once(&mut self, file: &File, at: u64) -> io::Result<bool> {
        let room = self.memory.get_mut(..self.len).unwrap_or_default();
        match preadv2(file, &mut [IoSliceMut::new(room)], at, ReadWriteFlags::NOWAIT) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => {
                self.len = len;
                Ok(true)
            }
            // Some file systems cannot tell.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn fill(&mut self, file: &File, at: u64) -> io::Result<()> {
        file.read_exact_at(self.memory.get_mut(..self.len).unwrap_or_default(), at)
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        if memory.len() == LARGE {
            let mut shelf = self.from.0.lock().unwrap_or_else(PoisonError::into_inner);
            shelf.lent -= 1;
            shelf.free.push(memory);
        }
    }
}

// === impl Reading ===

impl Reading {
    async fn next(&mut self) -> io::Result<Option<Piece>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let mut piece = self.pieces.take(self.end - self.at);
        if !piece.fill_at_once(&self.file, self.at)? {
            let (file, at) = (Arc::clone(&self.file), self.at);
            let (read, filled) = blocking(move || {
                let filled = piece.fill(&file, at);
                (piece, filled)
            })
            .await;
            filled?;
            piece = read;
        }
        self.at += piece.len as u64;
        Ok(Some(piece))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use futures::TryStreamExt as _;

    use super::*;

    fn file(bytes: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Arc::new(file)
    }

    #[tokio::test]
    async fn pieces_are_the_file_and_their_memory_is_used_again() {
        let bytes: Vec<u8> = (0..LARGE * 3 + 5).map(|at| (at / 7 % 251).to_le_bytes()[0]).collect();
        let pieces = Pieces::default();
        for (from, to) in [(0, bytes.len()), (1, 2), (LARGE - 1, 2 * LARGE + 1), (7, 7)] {
            let read = pieces.of(file(&bytes), from as u64, to as u64);
            let read: Vec<Bytes> = read.try_collect().await.unwrap();
            assert_eq!(read.concat(), bytes[from..to]);
        }
        let shelf = pieces.0.lock().unwrap();
        assert_eq!(shelf.lent, 0);
        assert!(!shelf.free.is_empty() && shelf.free.len() <= 4);
    }

    #[tokio::test]
    async fn hundreds_of_slow_clients_have_little_memory_each() {
        let pieces = Pieces::default();
        let many: Vec<Piece> = (0..500).map(|_| pieces.take(1 << 30)).collect();
        let all: usize = many.iter().map(|piece| piece.memory.len()).sum();
        assert!(all <= LARGE_PIECES * LARGE + 500 * SMALL);
        drop(many);
        assert_eq!(pieces.0.lock().unwrap().lent, 0);
    }

    #[tokio::test]
    async fn a_file_that_has_become_shorter_is_an_error() {
        let read = Pieces::default().of(file(b"12345"), 0, 6);
        assert!(read.try_collect::<Vec<Bytes>>().await.is_err());
    }
}
