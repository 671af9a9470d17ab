//! `meshboot state`: where a live system keeps what must outlast a power cut.
//!
//! A node boots from an image in memory. What it must find again lies on a disk: the partition
//! `meshboot-state` of the seed's stick, a file system with that label, or a disk that is blank. A disk that
//! holds anything else is never touched. Without a disk the state lives in memory and a boot starts afresh.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MsFlags, mount};

use self::disk::{Disk, Found, choose};

mod disk;

/// The label of the file system and the name of the partition.
const LABEL: &str = "meshboot-state";
/// Where the state's file system is mounted.
const MOUNT_POINT: &str = "/run/meshboot/state";
/// Where the choice is noted for `status`.
const NOTE: &str = "/run/meshboot/state.json";
/// How long the kernel may take to find its disks.
const SETTLE_SECONDS: u32 = 20;

/// A folder of the state: its name there, where programs look for it, and its mode.
const FOLDERS: [(&str, &str, u32); 5] = [
    ("containerd", "/var/lib/containerd", 0o711),
    ("etcd", "/var/lib/etcd", 0o700),
    ("kubelet", "/var/lib/kubelet", 0o750),
    ("kubernetes", "/etc/kubernetes", 0o755),
    ("meshboot", "/var/lib/meshboot", 0o700),
];

/// Mounts the state of the site and binds its folders to where programs look for them. Twice is harmless.
///
/// # Errors
///
/// What was attempted on which disk. Nothing is formatted unless it was blank from its first to its last octet
/// probed.
pub fn run(site: &str) -> Result<()> {
    ensure!(
        !site.is_empty() && site.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-'),
        "`{site}` is no site id: letters, digits and `-` only"
    );
    if is_mounted(Path::new(MOUNT_POINT))? {
        tracing::info!(at = MOUNT_POINT, "the state is mounted already");
    } else {
        mount_state()?;
    }
    let site = Path::new(MOUNT_POINT).join(site);
    create_folder(&site, 0o700)?;
    for (name, target, mode) in FOLDERS {
        let source = site.join(name);
        let target = Path::new(target);
        create_folder(&source, mode)?;
        fs::create_dir_all(target).with_context(|| format!("cannot create {}", target.display()))?;
        if !is_mounted(target)? {
            bind(&source, target)?;
        }
    }
    Ok(())
}

fn mount_state() -> Result<()> {
    fs::create_dir_all(MOUNT_POINT).with_context(|| format!("cannot create {MOUNT_POINT}"))?;
    let mut disks = disk::probe_all().context("cannot list the disks")?;
    // What is the state's by name is right whatever else may come; only for a blank disk all must be there to choose from.
    if !choose(&disks).is_certain() {
        // A timeout is no error: a disk that is late is as good as none, and the note says so.
        let timeout = format!("--timeout={SETTLE_SECONDS}");
        let _ = Command::new("udevadm").args(["settle", &timeout]).status();
        disks = disk::probe_all().context("cannot list the disks")?;
    }
    let note = match choose(&disks) {
        Found::Labelled(disk) => {
            mount_ext4(disk)?;
            format!("{{\"disk\":\"{}\",\"formatted\":false}}", disk.path.display())
        }
        Found::Blank(disk) => {
            format(disk)?;
            mount_ext4(disk)?;
            format!("{{\"disk\":\"{}\",\"formatted\":true}}", disk.path.display())
        }
        Found::Nothing { reason } => {
            tracing::warn!(%reason, "no disk for the state: it is kept in memory and lost at power-off");
            mount(Some("tmpfs"), MOUNT_POINT, Some("tmpfs"), MsFlags::empty(), Some("mode=0755,size=60%"))
                .with_context(|| format!("cannot mount a tmpfs at {MOUNT_POINT}"))?;
            "{\"disk\":null,\"formatted\":false}".to_owned()
        }
    };
    fs::write(NOTE, note).with_context(|| format!("cannot write {NOTE}"))
}

fn format(disk: &Disk) -> Result<()> {
    tracing::info!(disk = %disk.path.display(), size = disk.size, "formatting a blank disk for the state");
    // Lazy tables: a terabyte is ready in a second, also on a slow machine.
    let options = ["-q", "-F", "-L", LABEL, "-E", "lazy_itable_init=1,lazy_journal_init=1"];
    run_tool(Command::new("mkfs.ext4").args(options).arg(&disk.path))
}

fn mount_ext4(disk: &Disk) -> Result<()> {
    // 0: clean, 1: mended, 2: mended, wants a reboot (only for a mounted root). From 4 on: not mended.
    let check = Command::new("e2fsck").args(["-p"]).arg(&disk.path).output();
    let check = check.context("cannot start e2fsck")?;
    let code = check.status.code().unwrap_or(i32::MAX);
    ensure!(
        code < 4,
        "the file system on {} cannot be mended by `e2fsck -p` (exit {code}): run `e2fsck {}` by hand, or wipe the disk \
         to start afresh: {}",
        disk.path.display(),
        disk.path.display(),
        String::from_utf8_lossy(&check.stdout).trim()
    );
    let flags = MsFlags::MS_NOATIME;
    mount(Some(&disk.path), MOUNT_POINT, Some("ext4"), flags, None::<&str>)
        .with_context(|| format!("cannot mount {} at {MOUNT_POINT}", disk.path.display()))?;
    tracing::info!(disk = %disk.path.display(), at = MOUNT_POINT, "the state is mounted");
    Ok(())
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("cannot bind {} to {}", source.display(), target.display()))?;
    // kubelet wants its folder's mounts to be seen by containers.
    mount(None::<&str>, target, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>)
        .with_context(|| format!("cannot share the mounts below {}", target.display()))
}

fn create_folder(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let made = fs::DirBuilder::new().mode(mode).create(path);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot create {}", path.display()));
        }
        Ok(()) | Err(_) => {}
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}

/// Whether something is mounted there.
pub(crate) fn is_mounted(path: &Path) -> Result<bool> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(points.map(PathBuf::from).any(|point| point == path))
}

fn run_tool(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
