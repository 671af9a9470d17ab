//! The disk that a seed boots from: a USB stick, or the file that a virtual machine takes for one.
//!
//! ```text
//! EFI system partition   EFI/BOOT/BOOTX64.EFI, the seed's unified kernel image
//! meshboot-root          the root image, a squashfs
//! meshboot-layer         the layer over it, a squashfs
//! meshboot-config        the seed's Ignition configuration, JSON padded with NUL
//! meshboot-artefacts     the store of artefacts and container images, a squashfs
//! meshboot-state         blank; the seed makes a file system in it when it first boots
//! ```
//!
//! Partitions are found by these labels, never by their numbers. One that holds an image is exactly as long as it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use gpt::{GptConfig, disk::LogicalBlockSize, mbr::ProtectiveMBR};

use crate::progress::Progress;

mod esp;
mod layout;
pub mod target;
#[cfg(test)]
mod tests;

pub use layout::{Layout, Partition, Purpose, TooLargeError};
use target::{CheckError, Target};

/// State that a seed may keep whose disk is a file, unless its size is said.
pub const DEFAULT_STATE: u64 = 12 << 30;
/// A seed with less has no room for etcd and a few images.
pub const MIN_STATE: u64 = 2 << 30;

/// How much is copied at once.
const CHUNK: usize = 1 << 20;

/// What goes onto the disk.
#[derive(Debug, Clone)]
pub struct SeedDisk {
    /// The seed's unified kernel image.
    pub uki: PathBuf,
    /// The root image.
    pub root: PathBuf,
    /// The layer over it.
    pub layer: PathBuf,
    /// The seed's Ignition configuration. It holds secrets: so does the disk.
    pub config: Vec<u8>,
    /// The image of the store.
    pub artefacts: PathBuf,
}

/// Why the disk was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteDiskError {
    /// The target will not do.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// Not everything fits.
    #[error(transparent)]
    TooLarge(#[from] TooLargeError),
    /// A file cannot be read or written.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The partition table cannot be written.
    #[error("partitioning {}", path.display())]
    Gpt {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        source: gpt::GptError,
    },
}

// === impl SeedDisk ===

impl SeedDisk {
    /// Where everything goes; `size` is the disk's, or `None` for one that is as large as it has to be for
    /// [`DEFAULT_STATE`].
    ///
    /// # Errors
    ///
    /// [`WriteDiskError`]: a part cannot be read, or not everything fits.
    pub fn layout(&self, size: Option<u64>) -> Result<Layout, WriteDiskError> {
        let length =
            |path: &Path| fs::metadata(path).map(|file| file.len()).map_err(io_error("reading", path));
        let sizes = [
            (Purpose::Esp, length(&self.uki)?),
            (Purpose::Root, length(&self.root)?),
            (Purpose::Layer, length(&self.layer)?),
            (Purpose::Config, self.config.len() as u64),
            (Purpose::Artefacts, length(&self.artefacts)?),
        ];
        Ok(match size {
            Some(size) => Layout::within(&sizes, size, MIN_STATE)?,
            None => Layout::around(&sizes, DEFAULT_STATE),
        })
    }

    /// Writes the disk into a file of this size, or of what [`SeedDisk::layout`] makes of none. It appears whole or not at all. Only what is not blank takes room on disk.
    ///
    /// # Errors
    ///
    /// [`WriteDiskError`].
    pub fn write_file(
        &self,
        path: &Path,
        size: Option<u64>,
        progress: &dyn Progress,
    ) -> Result<Layout, WriteDiskError> {
        let layout = self.layout(size)?;
        let failed = io_error("writing", path);
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        // Only its owner may read it: there are keys in the configuration.
        let temporary =
            tempfile::Builder::new().prefix(".meshboot-disk-").tempfile_in(dir).map_err(&failed)?;
        temporary.as_file().set_len(layout.size).map_err(&failed)?;
        self.fill(temporary.as_file(), path, &layout, LogicalBlockSize::Lb512, progress)?;
        temporary.persist(path).map_err(|error| failed(error.error))?;
        Ok(layout)
    }

    /// Writes the disk onto a device, or into a file that is there already: all that was on it is lost.
    ///
    /// # Errors
    ///
    /// [`WriteDiskError`]; a mounted or too small device is refused before anything is written.
    pub fn write_device(&self, path: &Path, progress: &dyn Progress) -> Result<Layout, WriteDiskError> {
        let target = Target::inspect(path)?;
        target.check()?;
        let layout = self.layout(Some(target.size))?;
        let failed = io_error("writing", path);
        let is_device = fs::metadata(path).map_err(&failed)?.file_type().is_block_device();
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if is_device {
            // The kernel refuses, too, if anything uses it.
            options.custom_flags(target::O_EXCL);
        }
        let file = options.open(path).map_err(&failed)?;
        let block = target.block_size;
        self.fill(&file, path, &layout, block, progress)?;
        Ok(layout)
    }

    fn fill(
        &self,
        file: &File,
        path: &Path,
        layout: &Layout,
        block: LogicalBlockSize,
        progress: &dyn Progress,
    ) -> Result<(), WriteDiskError> {
        progress.stage("writing the seed's disk");
        let failed = io_error("writing", path);
        let total = layout.used();
        let mut done = 0;
        let copy = |source: &Path, part: &Partition, done: u64| {
            let mut input = File::open(source).map_err(io_error("reading", source))?;
            let report = |copied| progress.advance(done + copied, Some(total));
            write_at(file, part.start, &mut input, report).map_err(&failed)
        };
        partition(file, layout, block)
            .map_err(|source| WriteDiskError::Gpt { path: path.to_owned(), source })?;
        for part in &layout.partitions {
            match part.purpose {
                Purpose::Esp => {
                    esp::write(file, part.start, part.size, &self.uki).map_err(&failed)?;
                }
                Purpose::Config => {
                    let mut bytes = self.config.clone();
                    bytes.resize(usize::try_from(part.size).unwrap_or(bytes.len()), 0);
                    write_at(file, part.start, &mut &bytes[..], |_| ()).map_err(&failed)?;
                }
                Purpose::State => {
                    // Whatever lies here from before is not this seed's.
                    let zeros = vec![0; CHUNK];
                    write_at(file, part.start, &mut &zeros[..], |_| ()).map_err(&failed)?;
                }
                Purpose::Root => copy(&self.root, part, done)?,
                Purpose::Layer => copy(&self.layer, part, done)?,
                Purpose::Artefacts => copy(&self.artefacts, part, done)?,
            }
            done += part.content;
            progress.advance(done, Some(total));
        }
        progress.stage("waiting for the disk to have written everything");
        file.sync_all().map_err(&failed)
    }
}

/// Writes the tables: the protective one of old, and GPT's at both ends.
fn partition(file: &File, layout: &Layout, block: LogicalBlockSize) -> Result<(), gpt::GptError> {
    let bytes = u64::from(block);
    let sectors = u32::try_from(layout.size / bytes - 1).unwrap_or(u32::MAX);
    let mut device = file.try_clone()?;
    ProtectiveMBR::with_lb_size(sectors).overwrite_lba0(&mut device).map_err(io::Error::other)?;
    let mut table =
        GptConfig::new().writable(true).logical_block_size(block).create_from_device(device, None)?;
    for (number, part) in (1..).zip(&layout.partitions) {
        table.add_partition_at(
            part.purpose.label(),
            number,
            part.start / bytes,
            part.size / bytes,
            part.purpose.kind(),
            0,
        )?;
    }
    table.write().map(drop)
}

fn write_at(
    mut file: &File,
    offset: u64,
    input: &mut dyn Read,
    mut report: impl FnMut(u64),
) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    let mut buffer = vec![0; CHUNK];
    let mut copied = 0;
    loop {
        let count = input.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..count])?;
        copied += count as u64;
        report(copied);
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> WriteDiskError {
    move |source| WriteDiskError::Io { doing, path: path.to_owned(), source }
}
