//! What this computer has to give: memory, disk, processors, and who runs things on it.

use std::io;
use std::num::NonZeroUsize;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::{Group, getegid, geteuid};

/// What a machine's QEMU takes beside the machine's own memory, in MiB.
pub const OVERHEAD_MIB: u64 = 256;

/// Memory that can be had without swapping, in MiB.
///
/// # Errors
///
/// If the kernel does not tell.
pub fn available_memory_mib() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    memory_from(&text).ok_or_else(|| io::Error::other("/proc/meminfo names no MemAvailable"))
}

fn memory_from(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

/// Free octets for this user on the file system of `path` or of the nearest directory above that exists.
///
/// # Errors
///
/// If the file system does not tell.
pub fn free_disk(path: &Path) -> io::Result<u64> {
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or_else(|| Path::new("/"));
    let answer = statvfs(existing)?;
    Ok(answer.blocks_available().saturating_mul(answer.fragment_size()))
}

/// Processors that this process may use.
#[must_use]
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Whether libvirt can give one machine more of the processors than another: it refuses to start a machine with a
/// weight where there are no control groups for processors, as in many containers.
#[must_use]
pub fn shares_processors() -> bool {
    let own = Path::new("/sys/fs/cgroup");
    let lists_cpu = |text: String| text.split_whitespace().any(|controller| controller == "cpu");
    let unified = std::fs::read_to_string(own.join("cgroup.controllers")).is_ok_and(lists_cpu);
    let place = if unified { own.to_owned() } else { own.join("cpu") };
    place.is_dir()
        && statvfs(&place).is_ok_and(|mount| !mount.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY))
}

/// How many of the machines with so much memory each, in MiB, fit into `available_mib`, taken in their order.
#[must_use]
pub fn how_many_fit(available_mib: u64, sizes_mib: impl IntoIterator<Item = u32>) -> usize {
    let mut left = available_mib;
    let fits = |size: &u32| {
        let rest = left.checked_sub(u64::from(*size) + OVERHEAD_MIB);
        left = rest.unwrap_or_default();
        rest.is_some()
    };
    sizes_mib.into_iter().take_while(fits).count()
}

/// The user and group that QEMU runs as: the user of this process, and the group that may use `/dev/kvm`.
#[must_use]
pub fn run_as() -> (u32, u32) {
    let kvm = Group::from_name("kvm").ok().flatten();
    (geteuid().as_raw(), kvm.map_or_else(getegid, |group| group.gid).as_raw())
}

/// Whether this process is the administrator's.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_the_kernel_calls_available() {
        let text = "MemTotal:       24683520 kB\nMemFree: 1 kB\nMemAvailable:   20480000 kB\n";
        assert_eq!(memory_from(text), Some(20_000));
        assert_eq!(memory_from("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn machines_that_fit() {
        let sizes = |nodes| std::iter::once(3072).chain(std::iter::repeat_n(2048, nodes));
        assert_eq!(how_many_fit(20_000, sizes(20)), 8);
        assert_eq!(how_many_fit(20_000, sizes(4)), 5);
        assert_eq!(how_many_fit(3328, sizes(4)), 1);
        assert_eq!(how_many_fit(3327, sizes(4)), 0);
        assert_eq!(how_many_fit(10_000, [3072, 8192, 512]), 1, "in their order, and none is left out");
    }
}
