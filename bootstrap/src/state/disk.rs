//! Which disk may hold the state.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::LABEL;

/// Smaller disks cannot hold a node's images.
const MIN_SIZE: u64 = 2 << 30;
/// How much of a disk's beginning and end is read to call it blank: partition tables, boot sectors and the
/// superblocks of RAID and every file system lie there.
const PROBED: u64 = 4 << 20;
const SECTOR: u64 = 512;

/// What was learned of a block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disk {
    /// Its device file.
    pub(super) path: PathBuf,
    /// Its size in octets.
    pub(super) size: u64,
    /// Whether it is a partition.
    pub(super) partition: bool,
    /// Whether it can be unplugged as a stick can.
    pub(super) removable: bool,
    /// The label of its file system.
    pub(super) label: Option<String>,
    /// The name of the partition in its table.
    pub(super) part_label: Option<String>,
    /// Whether its file system is ext4.
    pub(super) ext4: bool,
    /// Whether nothing was found on it.
    pub(super) blank: bool,
}

/// Which disk it shall be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// One that holds state already.
    Labelled(&'a Disk),
    /// One that may be formatted.
    Blank(&'a Disk),
    /// None.
    Nothing {
        /// Why not.
        reason: String,
    },
}

// === impl Found ===

impl Found<'_> {
    /// Whether no disk that is found later would be chosen instead, but for the stick's own.
    pub(super) fn is_certain(&self) -> bool {
        match self {
            Self::Labelled(_) => true,
            Self::Blank(disk) => disk.partition,
            Self::Nothing { .. } => false,
        }
    }
}

/// Prefers state that exists, then the stick's own partition, then the largest blank disk. Whole disks only
/// are formatted unasked, and never one that can be unplugged.
pub(super) fn choose(disks: &[Disk]) -> Found<'_> {
    let named = |disk: &&Disk| disk.part_label.as_deref() == Some(LABEL);
    let labelled = |disk: &&Disk| disk.ext4 && disk.label.as_deref() == Some(LABEL);
    if let Some(disk) = disks.iter().find(|disk| named(disk) && labelled(disk)) {
        return Found::Labelled(disk);
    }
    if let Some(disk) = disks.iter().find(|disk| named(disk) && disk.blank) {
        return Found::Blank(disk);
    }
    if let Some(disk) = disks.iter().find(labelled) {
        return Found::Labelled(disk);
    }
    let usable = |disk: &&Disk| disk.blank && !disk.partition && !disk.removable && disk.size >= MIN_SIZE;
    match disks.iter().filter(usable).max_by_key(|disk| (disk.size, std::cmp::Reverse(&disk.path))) {
        Some(disk) => Found::Blank(disk),
        None => {
            let seen: Vec<_> = disks.iter().map(|disk| disk.path.display().to_string()).collect();
            Found::Nothing {
                reason: format!(
                    "none of [{}] is labelled {LABEL} or blank and large enough",
                    seen.join(", ")
                ),
            }
        }
    }
}

/// Every disk and partition that could be written to.
pub(super) fn probe_all() -> io::Result<Vec<Disk>> {
    let mut disks = Vec::new();
    for entry in fs::read_dir("/sys/class/block")? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let sys = Path::new("/sys/class/block").join(&*name);
        let physical = !["loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd"]
            .iter()
            .any(|kind| name.starts_with(kind));
        if physical && let Some(disk) = probe(&sys, &name) {
            disks.push(disk);
        }
    }
    disks.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(disks)
}

/// A device that cannot be read is passed over: it is no place for state.
fn probe(sys: &Path, name: &str) -> Option<Disk> {
    let number = |file: &str| fs::read_to_string(sys.join(file)).ok()?.trim().parse::<u64>().ok();
    let size = number("size")? * SECTOR;
    if number("ro") != Some(0) || size == 0 {
        return None;
    }
    let path = Path::new("/dev").join(name);
    let partition = sys.join("partition").exists();
    let whole = if partition { sys.canonicalize().ok()?.parent()?.to_owned() } else { sys.to_owned() };
    let removable = fs::read_to_string(whole.join("removable")).is_ok_and(|flag| flag.trim() != "0");
    let has_partitions =
        fs::read_dir(sys).ok()?.flatten().any(|entry| entry.path().join("partition").exists());
    let tags = Command::new("blkid").args(["-p", "-o", "export"]).arg(&path).output().ok()?;
    let tags = String::from_utf8_lossy(&tags.stdout).into_owned();
    let tag = |key: &str| {
        tags.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
    };
    // blkid reports the entry in the table above as well: that alone does not make a partition used.
    let used = ["TYPE", "PTTYPE", "USAGE"].iter().any(|key| tag(key).is_some());
    Some(Disk {
        blank: !used && !has_partitions && reads_blank(&path, size).unwrap_or(false),
        ext4: tag("TYPE").as_deref() == Some("ext4"),
        label: tag("LABEL"),
        part_label: tag("PART_ENTRY_NAME"),
        size,
        partition,
        removable,
        path,
    })
}

fn reads_blank(path: &Path, size: u64) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; usize::try_from(PROBED.min(size)).unwrap_or(usize::MAX)];
    for start in [0, size.saturating_sub(PROBED)] {
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut buffer)?;
        if buffer.iter().any(|octet| *octet != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
