//! A file that is read block by block.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use plain_http::file;

/// How much is read at once; there may be hundreds of readers.
const AHEAD: usize = 32 * 1024;

/// A file, and the piece of it that was read last.
#[derive(Debug)]
pub(super) struct FileReader {
    file: File,
    size: u64,
    piece: Vec<u8>,
    piece_at: u64,
}

// === impl FileReader ===

impl FileReader {
    /// Opens a file that must have `size` octets.
    pub(super) fn open(path: &Path, size: u64) -> io::Result<Self> {
        let file = file::checked(File::open(path)?, path, size)?;
        Ok(Self { file, size, piece: Vec::new(), piece_at: 0 })
    }

    /// The octets from `offset` on, `len` of them, from memory if they were read before.
    pub(super) fn read(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        if self.found(offset, len).is_none() {
            let ahead = self.size.saturating_sub(offset).min(AHEAD.max(len) as u64);
            // What is there is no longer what its name says, should it not be filled.
            self.piece.resize(usize::try_from(ahead).map_err(io::Error::other)?, 0);
            self.piece_at = offset;
            if let Err(error) = self.file.read_exact_at(&mut self.piece, offset) {
                self.piece.clear();
                return Err(error);
            }
        }
        let range = self.found(offset, len).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(self.piece.get(range).unwrap_or_default())
    }

    /// Where they are in the piece.
    fn found(&self, offset: u64, len: usize) -> Option<std::ops::Range<usize>> {
        let from = usize::try_from(offset.checked_sub(self.piece_at)?).ok()?;
        let to = from.checked_add(len)?;
        (to <= self.piece.len()).then_some(from..to)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const LEN: usize = 3 * AHEAD + 100;

    #[test]
    fn what_is_read_is_what_the_file_has_wherever_it_was() {
        let octets: Vec<u8> = (0..LEN).map(|at| (at / 251 + at % 251).to_le_bytes()[0]).collect();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&octets).unwrap();
        let mut reader = FileReader::open(file.path(), LEN as u64).unwrap();
        for (offset, len) in [(0, 10), (10, AHEAD), (AHEAD - 1, 2), (LEN - 5, 5), (LEN, 0), (0, LEN), (3, 1)]
        {
            let found = reader.read(offset as u64, len).unwrap();
            assert_eq!(found, &octets[offset..offset + len], "{len} at {offset}");
        }
    }

    #[test]
    fn a_file_of_another_size_is_refused_and_one_that_shrank_fails() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(LEN as u64).unwrap();
        let refused = FileReader::open(file.path(), 1).unwrap_err();
        assert!(refused.to_string().contains("should have 1"), "{refused}");
        let mut reader = FileReader::open(file.path(), LEN as u64).unwrap();
        file.as_file().set_len(10).unwrap();
        for _ in 0..2 {
            assert_eq!(reader.read(0, 100).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        assert_eq!(reader.read(0, LEN + 1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
