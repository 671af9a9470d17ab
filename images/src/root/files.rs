//! The files of the root image and of the initrd that are ours, and the archive that carries them there.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// A file of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its path, without the slash at the beginning.
    pub path: String,
    /// Its permissions.
    pub mode: u32,
    /// What is in it.
    pub content: Content,
}

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// These bytes.
    Text(&'static str),
    /// What is in another file.
    File(PathBuf),
    /// It is a link.
    Link(&'static str),
}

/// Where the script lies that [finishes](super::finish) a root from within it.
pub(crate) const PREPARE: &str = "tmp/meshboot-prepare";

macro_rules! files {
    ($($path:literal $mode:literal $source:literal)*) => {
        &[$(($path, $mode, include_str!(concat!("../", $source)))),*]
    };
}

const ROOT: &[(&str, u32, &str)] = files! {
    "etc/hosts" 0o644 "rootfs/hosts"
    "etc/selinux/config" 0o644 "rootfs/selinux-config"
    "etc/ssh/sshd_config.d/10-meshboot.conf" 0o644 "rootfs/sshd.conf"
    "tmp/meshboot-prepare" 0o755 "rootfs/prepare"
    "usr/lib/modules-load.d/meshboot.conf" 0o644 "rootfs/modules-load.conf"
    "usr/lib/sysctl.d/90-meshboot.conf" 0o644 "rootfs/sysctl.conf"
    "usr/lib/systemd/journald.conf.d/meshboot.conf" 0o644 "rootfs/journald.conf"
    "usr/lib/systemd/system-preset/50-meshboot.preset" 0o644 "rootfs/system.preset"
    "usr/lib/systemd/system/kubelet.service" 0o644 "rootfs/kubelet.service"
    "usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf" 0o644 "rootfs/kubelet-kubeadm.conf"
    "usr/lib/systemd/system/sshd-keygen.service.d/meshboot.conf" 0o644 "rootfs/sshd-keygen.conf"
};

const INITRD: &[(&str, u32, &str)] = files! {
    "common.sh" 0o644 "initrd/common.sh"
    "emergency.service" 0o644 "initrd/emergency.service"
    "failure" 0o755 "initrd/failure"
    "handover" 0o755 "initrd/handover"
    "identify" 0o755 "initrd/identify"
    "ignition-fetch.conf" 0o644 "initrd/ignition-fetch.conf"
    "is-live-image" 0o755 "initrd/is-live-image"
    "manager.conf" 0o644 "initrd/manager.conf"
    "meshboot-handover.service" 0o644 "initrd/meshboot-handover.service"
    "meshboot-identify.service" 0o644 "initrd/meshboot-identify.service"
    "meshboot-root.service" 0o644 "initrd/meshboot-root.service"
    "module-setup.sh" 0o755 "initrd/module-setup.sh"
    "networkd.conf" 0o644 "initrd/networkd.conf"
    "ports.network" 0o644 "initrd/ports.network"
    "root" 0o755 "initrd/root"
    "setfiles" 0o755 "initrd/setfiles"
};

/// Where dracut looks for modules.
const INITRD_DIR: &str = "usr/lib/dracut/modules.d/90meshboot";

/// All files that are ours and the same in each image.
pub(crate) fn own() -> Vec<Entry> {
    let text = |path: String, mode, text| Entry { path, mode, content: Content::Text(text) };
    let link =
        |path: &str, target| Entry { path: path.to_owned(), mode: 0o777, content: Content::Link(target) };
    ROOT.iter()
        .map(|(path, mode, content)| text((*path).to_owned(), *mode, *content))
        .chain(
            INITRD.iter().map(|(name, mode, content)| text(format!("{INITRD_DIR}/{name}"), *mode, *content)),
        )
        .chain([
            text("etc/selinux/default/contexts/files/file_contexts".to_owned(), 0o644, ""),
            // It looks for a kind of socket that only some virtual machines have.
            link("etc/systemd/system-generators/systemd-ssh-generator", "/dev/null"),
        ])
        .collect()
}

/// Writes files into a tar archive, below directories that belong to root.
pub(crate) fn archive(entries: &[Entry], to: &Path) -> io::Result<()> {
    let mut tar = tar::Builder::new(io::BufWriter::new(File::create(to)?));
    let mut directories = BTreeSet::new();
    for entry in entries {
        let mut ancestors: Vec<_> = Path::new(&entry.path).ancestors().skip(1).collect();
        ancestors.pop();
        for directory in ancestors.into_iter().rev() {
            // Debian's own; an entry here would change its permissions.
            if directory != Path::new("tmp") && directories.insert(directory.to_owned()) {
                let mut header = header(tar::EntryType::Directory, 0o755, 0);
                tar.append_data(&mut header, directory, io::empty())?;
            }
        }
        match &entry.content {
            Content::Text(text) => {
                let mut header = header(tar::EntryType::Regular, entry.mode, text.len() as u64);
                tar.append_data(&mut header, &entry.path, text.as_bytes())?;
            }
            Content::File(path) => {
                let file = File::open(path)?;
                let mut header = header(tar::EntryType::Regular, entry.mode, file.metadata()?.len());
                tar.append_data(&mut header, &entry.path, file)?;
            }
            Content::Link(target) => {
                let mut header = header(tar::EntryType::Symlink, entry.mode, 0);
                tar.append_link(&mut header, &entry.path, target)?;
            }
        }
    }
    tar.into_inner()?.flush()
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folders_is_in_the_image() {
        for (folder, listed) in [("src/rootfs", ROOT.len()), ("src/initrd", INITRD.len())] {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            assert_eq!(dir.read_dir().unwrap().count(), listed, "{folder}");
        }
        assert!(own().iter().any(|entry| entry.path == PREPARE && entry.mode == 0o755));
    }

    #[test]
    fn scripts_can_be_run_and_nothing_else() {
        for (name, mode, text) in ROOT.iter().chain(INITRD) {
            assert_eq!(*mode == 0o755, text.starts_with("#!"), "{name}");
            assert!(text.ends_with('\n'), "{name}");
        }
    }

    #[test]
    fn an_archive_has_its_directories_once_and_first() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("files.tar");
        archive(&own(), &to).unwrap();
        let mut tar = tar::Archive::new(File::open(&to).unwrap());
        let mut seen = BTreeSet::new();
        for entry in tar.entries().unwrap() {
            let entry = entry.unwrap();
            let path = entry.path().unwrap().into_owned();
            let parent = path.parent().unwrap().to_owned();
            assert!(
                parent == Path::new("") || parent == Path::new("tmp") || seen.contains(&parent),
                "{path:?}"
            );
            assert!(seen.insert(path.clone()), "{path:?} twice");
            assert_eq!((entry.header().uid().unwrap(), entry.header().mtime().unwrap()), (0, 0));
        }
    }
}
