//! Debian's packages, installed into an archive by `mmdebstrap`; and of that archive the part that images of the control
//! plane are assembled from.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use tokio::process::Command;

use super::RootImageError;
use crate::{
    cache::{Cache, Recipe},
    command::Runner,
    mirror::Mirror,
};

/// What every machine runs, and what its image is made with; Debian's essential packages come by themselves.
const PACKAGES: [&str; 39] = [
    "busybox-static",
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "curl",
    "dbus",
    "dracut",
    "e2fsprogs",
    "ebtables",
    "etcd-server",
    "ethtool",
    "frr",
    "ignition",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kmod",
    "less",
    "libpam-systemd",
    "linux-image-amd64",
    "mount",
    "nftables",
    "openssh-server",
    "procps",
    "runc",
    "socat",
    "systemd",
    "systemd-boot-efi",
    "systemd-sysv",
    "tcpdump",
    "udev",
    "util-linux",
    "vim-tiny",
    "xz-utils",
    "zstd",
    "dosfstools",
    "ipset",
    "iputils-tracepath",
];

/// Nobody reads a manual on a node.
const DPKG_OPTIONS: [&str; 7] = [
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "force-unsafe-io",
];

const KIND: &str = "debian";
const RECIPE: &str = "1";
const ARCHIVE: &str = "debian.tar";
const SUBTREE: &str = "root";

/// What the images of the control plane take their programs and libraries from.
const SUBTREE_FOLDERS: [&str; 11] = [
    "bin",
    "sbin",
    "lib",
    "lib64",
    "usr/bin",
    "usr/sbin",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib64",
    "usr/share/doc",
    "etc/alternatives",
    "etc/ssl",
];

/// Debian, installed.
#[derive(Debug, Clone)]
pub(crate) struct Debian {
    /// A tar archive of the whole root.
    pub archive: PathBuf,
    /// The part of it that images are assembled from, unpacked.
    pub subtree: PathBuf,
    /// Known by this.
    pub key: String,
}

/// Installs Debian, or takes what was installed before unless it is to be `refresh`ed.
pub(crate) async fn install(
    cache: &Cache,
    suite: &str,
    mirror: &Mirror,
    extra_packages: &[String],
    refresh: bool,
    runner: &Runner<'_>,
) -> Result<Debian, RootImageError> {
    let mut recipe = Recipe::new("debian").with(RECIPE).with(suite);
    for ingredient in
        PACKAGES.into_iter().chain(DPKG_OPTIONS).chain(extra_packages.iter().map(String::as_str))
    {
        recipe = recipe.with(ingredient);
    }
    let key = recipe.key();
    let dir = match cache.finished(KIND, &key).filter(|_| !refresh) {
        Some(dir) => dir,
        None => {
            let made = cache.begin(KIND)?;
            runner.progress().stage(&format!("installing Debian {suite} (some minutes)"));
            let archive = made.path().join(ARCHIVE);
            runner.run(&mut mmdebstrap(made.path(), suite, mirror, extra_packages)).await?;
            let subtree = made.path().join(SUBTREE);
            let unpack = {
                let (archive, subtree) = (archive.clone(), subtree.clone());
                move || unpack_subtree(&archive, &subtree)
            };
            tokio::task::spawn_blocking(unpack)
                .await
                .map_err(io::Error::other)
                .and_then(|result| result)
                .map_err(|source| RootImageError::Io { path: subtree, source })?;
            cache.finish(made, KIND, &key)?
        }
    };
    Ok(Debian { archive: dir.join(ARCHIVE), subtree: dir.join(SUBTREE), key })
}

fn mmdebstrap(dir: &Path, suite: &str, mirror: &Mirror, extra_packages: &[String]) -> Command {
    let packages: Vec<_> = PACKAGES.into_iter().chain(extra_packages.iter().map(String::as_str)).collect();
    let mut command = tool(dir);
    command
        .args(["--variant=minbase", "--format=tar", "--architectures=amd64"])
        .args(["--aptopt=Acquire::Languages \"none\"", "--aptopt=APT::Install-Recommends \"false\""])
        .args(DPKG_OPTIONS.map(|option| format!("--dpkgopt={option}")))
        .arg(format!("--include={}", packages.join(",")))
        .args(device_files())
        .args([suite, ARCHIVE])
        // Ours is made later; the kernel's package would make another.
        .env("INITRD", "No");
    for source in mirror.sources(suite).lines() {
        command.arg(source);
    }
    command
}

/// Root unpacks the archive with its device files, and works with those. Others cannot make any: their archive has none.
fn device_files() -> &'static [&'static str] {
    if rustix::process::geteuid().is_root() { &[] } else { &["--skip=output/dev"] }
}

/// `mmdebstrap`, working in a folder; names of files are relative to it, whatever its own name.
pub(crate) fn tool(dir: &Path) -> Command {
    let mut command = Command::new("mmdebstrap");
    command.current_dir(dir).env("LC_ALL", "C.UTF-8").env("SOURCE_DATE_EPOCH", "0");
    if rustix::process::geteuid().is_root() {
        // Then what is left of it, should it be killed, goes with the folder. In a user namespace it could not get there.
        command.env("TMPDIR", dir);
    }
    command
}

/// Unpacks programs and libraries, as whoever we are: owners do not count.
fn unpack_subtree(archive: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    let mut archive = tar::Archive::new(io::BufReader::with_capacity(1 << 20, File::open(archive)?));
    archive.set_preserve_mtime(false);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let path = path.strip_prefix("./").unwrap_or(&path);
        let wanted = SUBTREE_FOLDERS.iter().any(|folder| path.starts_with(folder));
        let kind = entry.header().entry_type();
        if wanted && (kind.is_file() || kind.is_symlink() || kind.is_hard_link() || kind.is_dir()) {
            entry.unpack_in(to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::files::{Content, Entry, archive};

    #[test]
    fn only_what_images_need_is_unpacked() {
        let dir = tempfile::tempdir().unwrap();
        let file = |path: &str| Entry { path: path.to_owned(), mode: 0o755, content: Content::Text("x") };
        let entries = [
            file("usr/bin/etcd"),
            file("usr/lib/modules/6.12/modules.dep"),
            file("usr/lib/x86_64-linux-gnu/libc.so.6"),
            file("etc/shadow"),
            Entry { path: "lib64".to_owned(), mode: 0o777, content: Content::Link("usr/lib64") },
        ];
        let tar = dir.path().join("debian.tar");
        archive(&entries, &tar).unwrap();
        let to = dir.path().join("root");
        unpack_subtree(&tar, &to).unwrap();
        assert!(to.join("usr/bin/etcd").is_file() && to.join("usr/lib/x86_64-linux-gnu/libc.so.6").is_file());
        assert_eq!(fs::read_link(to.join("lib64")).unwrap(), Path::new("usr/lib64"));
        assert!(!to.join("etc/shadow").exists() && !to.join("usr/lib/modules").exists());
    }

    #[test]
    fn packages_are_named_once() {
        let mut packages = PACKAGES.to_vec();
        packages.sort_unstable();
        packages.dedup();
        assert_eq!(packages.len(), PACKAGES.len());
    }
}
