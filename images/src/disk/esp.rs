//! The EFI system partition: FAT32 with one file, written in place with neither root nor a loop device.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
};

use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};

/// Shown by firmware and file managers; and a number that is no serial number: the same content gives the same bytes.
const LABEL: [u8; 11] = *b"MESHBOOT   ";
const VOLUME: u32 = 0x6d65_7368;
const CLUSTER: u32 = 4096;

/// Where firmware looks on a disk that it was told nothing of.
const FOLDERS: [&str; 2] = ["EFI", "EFI/BOOT"];
const FILE: &str = "EFI/BOOT/BOOTX64.EFI";

/// A part of a file, as if it were a file.
#[derive(Debug)]
struct Slice<'a> {
    file: &'a File,
    start: u64,
    size: u64,
    position: u64,
}

/// Makes the file system at `start` and puts a unified kernel image into it.
pub(super) fn write(file: &File, start: u64, size: u64, uki: &Path) -> io::Result<()> {
    let mut slice = Slice { file, start, size, position: 0 };
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(CLUSTER)
        .volume_id(VOLUME)
        .volume_label(LABEL);
    fatfs::format_volume(&mut slice, options)?;
    slice.position = 0;
    let volume = FileSystem::new(slice, FsOptions::new())?;
    {
        let root = volume.root_dir();
        for folder in FOLDERS {
            root.create_dir(folder)?;
        }
        let mut out = root.create_file(FILE)?;
        let mut input = BufReader::with_capacity(1 << 20, File::open(uki)?);
        io::copy(&mut input, &mut out)?;
        out.flush()?;
    }
    volume.unmount()
}

// === impl Slice ===

impl Slice<'_> {
    /// How much of a buffer lies within the part.
    fn within(&self, length: usize) -> usize {
        usize::try_from(self.size.saturating_sub(self.position)).map_or(length, |left| left.min(length))
    }

    fn seek_file(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.start + self.position)).map(drop)
    }
}

impl Read for Slice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.seek_file()?;
        let length = self.within(buffer.len());
        let count = self.file.read(&mut buffer[..length])?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Slice<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.seek_file()?;
        let length = self.within(buffer.len());
        let count = self.file.write(&buffer[..length])?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Slice<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
