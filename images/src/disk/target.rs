//! The device that a seed's disk is written to: what it is, and whether that would do harm.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Seek, SeekFrom},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use gpt::disk::LogicalBlockSize;

/// For a block device: nobody else may use it.
pub(crate) const O_EXCL: i32 = 0o200;

/// A device or a file, as it is.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its path.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it is a device; if not it is a file.
    pub is_device: bool,
    /// Who made it and how it is called, if it says so.
    pub model: Option<String>,
    /// Whether it is made to be taken out; people who write a stick mean one that is.
    pub removable: bool,
    /// Where it, or a partition of it, is mounted; and what else of the system uses it.
    pub uses: Vec<String>,
    /// The unit of its partition table.
    pub(crate) block_size: LogicalBlockSize,
}

/// Why a target is refused.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It cannot be looked at.
    #[error("looking at {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Something like a folder or a terminal.
    #[error("{} is neither a file nor a disk", path.display())]
    Kind {
        /// Which.
        path: PathBuf,
    },
    /// A part of a disk.
    #[error("{} is a partition: name the whole disk", path.display())]
    Partition {
        /// Which.
        path: PathBuf,
    },
    /// All on it would be lost, under somebody's feet.
    #[error("{} is in use: {}", path.display(), uses.join(", "))]
    InUse {
        /// Which.
        path: PathBuf,
        /// By what.
        uses: Vec<String>,
    },
}

// === impl Target ===

impl Target {
    /// Looks at a device or a file, and changes nothing.
    ///
    /// # Errors
    ///
    /// [`CheckError`].
    pub fn inspect(path: &Path) -> Result<Self, CheckError> {
        let failed = |source| CheckError::Io { path: path.to_owned(), source };
        let metadata = fs::metadata(path).map_err(failed)?;
        let kind = metadata.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(CheckError::Kind { path: path.to_owned() });
        }
        // The metadata of a device say nothing of its size.
        let mut file = File::open(path).map_err(failed)?;
        let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut target = Self {
            path: path.to_owned(),
            size,
            is_device: kind.is_block_device(),
            model: None,
            removable: false,
            uses: Vec::new(),
            block_size: LogicalBlockSize::Lb512,
        };
        if target.is_device {
            let number = metadata.rdev();
            let device = format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
            let sys = PathBuf::from("/sys/dev/block").join(&device);
            if sys.join("partition").exists() {
                return Err(CheckError::Partition { path: path.to_owned() });
            }
            let attribute =
                |name: &str| fs::read_to_string(sys.join(name)).ok().map(|text| text.trim().to_owned());
            target.model = attribute("device/model").filter(|model| !model.is_empty());
            target.removable = attribute("removable").is_some_and(|text| text == "1");
            if attribute("queue/logical_block_size").is_some_and(|text| text == "4096") {
                target.block_size = LogicalBlockSize::Lb4096;
            }
            let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(failed)?;
            target.uses = uses(&device, &sys, &mounts);
        }
        Ok(target)
    }

    /// Refuses a target that is in use.
    ///
    /// # Errors
    ///
    /// [`CheckError::InUse`].
    pub fn check(&self) -> Result<(), CheckError> {
        if self.uses.is_empty() {
            return Ok(());
        }
        Err(CheckError::InUse { path: self.path.clone(), uses: self.uses.clone() })
    }
}

/// What uses a disk: mounts of it and of its partitions, and devices that are made of them.
fn uses(device: &str, sys: &Path, mounts: &str) -> Vec<String> {
    let mut devices = BTreeSet::from([device.to_owned()]);
    let mut folders = vec![sys.to_owned()];
    for entry in fs::read_dir(sys).into_iter().flatten().flatten() {
        if entry.path().join("partition").exists() {
            if let Ok(number) = fs::read_to_string(entry.path().join("dev")) {
                devices.insert(number.trim().to_owned());
            }
            folders.push(entry.path());
        }
    }
    let mut uses = Vec::new();
    for line in mounts.lines() {
        // [proc(5)]: id, parent, device, root, mount point.
        let fields: Vec<_> = line.split(' ').collect();
        if let [_, _, number, _, mount_point, ..] = fields.as_slice()
            && devices.contains(*number)
        {
            uses.push(format!("mounted on {}", mount_point.replace("\\040", " ")));
        }
    }
    for folder in folders {
        for holder in fs::read_dir(folder.join("holders")).into_iter().flatten().flatten() {
            uses.push(format!("part of {}", holder.file_name().to_string_lossy()));
        }
    }
    uses
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        22 1 254:0 / / rw - ext4 /dev/vda rw\n\
        80 22 8:17 / /media/a\\040stick rw - vfat /dev/sdb1 rw\n";

    fn disk(partitions: &[(&str, &str)]) -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        for (name, number) in partitions {
            let dir = sys.path().join(name);
            fs::create_dir_all(dir.join("holders")).unwrap();
            fs::write(dir.join("partition"), "1\n").unwrap();
            fs::write(dir.join("dev"), format!("{number}\n")).unwrap();
        }
        sys
    }

    #[test]
    fn a_mounted_partition_is_a_use_of_its_disk() {
        let sys = disk(&[("sdb1", "8:17"), ("sdb2", "8:18")]);
        assert_eq!(uses("8:16", sys.path(), MOUNTS), ["mounted on /media/a stick"]);
        assert_eq!(uses("254:0", sys.path(), "22 1 254:0 / / rw - ext4 x rw\n"), ["mounted on /"]);
        assert_eq!(uses("8:32", disk(&[]).path(), MOUNTS), [""; 0]);
    }

    #[test]
    fn so_is_a_device_that_is_made_of_it() {
        let sys = disk(&[("sdb1", "8:17")]);
        fs::write(sys.path().join("sdb1/holders/dm-0"), "").unwrap();
        assert_eq!(uses("8:16", sys.path(), ""), ["part of dm-0"]);
    }

    #[test]
    fn folders_and_terminals_are_no_disks() {
        for path in ["/", "/dev/null"] {
            assert!(matches!(Target::inspect(Path::new(path)), Err(CheckError::Kind { .. })), "{path}");
        }
        assert!(matches!(Target::inspect(Path::new("/no/such")), Err(CheckError::Io { .. })));
    }
}
