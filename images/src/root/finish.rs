//! From Debian's packages to what boots: adds the files that are ours and Kubernetes' programs, makes the initrd inside
//! the new root, leaves out what a node does not run, and packs the image.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    MAX_IMAGE, RootImageError,
    debian::{self, Debian},
    files::{self, Content, Entry, PREPARE},
};
use crate::{
    cache::{Cache, Recipe},
    command::Runner,
    squashfs::{self, Press},
};

const KIND: &str = "root";
const RECIPE: &str = "1";
const IMAGE: &str = "root.squashfs";
const OS_RELEASE: &str = "os-release";
/// What `rootfs/prepare` leaves in `/boot`.
const BOOT_FILES: [&str; 4] = ["initrd", "kernel-version", "linux.efi.stub", "vmlinuz"];

/// What a root image is made of, besides Debian.
#[derive(Debug, Clone)]
pub(crate) struct Programs<'a> {
    pub kubeadm: &'a Path,
    pub kubelet: &'a Path,
    pub kubectl: &'a Path,
}

/// A root image, and what boots it.
#[derive(Debug, Clone)]
pub(crate) struct RootImage {
    pub image: PathBuf,
    pub linux: PathBuf,
    pub initrd: PathBuf,
    pub stub: PathBuf,
    pub uname: String,
    pub os_release: String,
    pub key: String,
}

/// Makes a root image, or takes the one that was made of the same.
pub(crate) async fn finish(
    cache: &Cache,
    suite: &str,
    debian: &Debian,
    programs: &Programs<'_>,
    runner: &Runner<'_>,
) -> Result<RootImage, RootImageError> {
    let entries = entries(programs);
    let key = key(debian, &entries)?;
    let dir = match cache.finished(KIND, &key) {
        Some(dir) => dir,
        None => {
            let made = cache.begin(KIND)?;
            make(made.path(), suite, debian, &entries, runner).await?;
            cache.finish(made, KIND, &key)?
        }
    };
    let text = |name: &str| {
        let path = dir.join(name);
        fs::read_to_string(&path).map_err(|source| RootImageError::Io { path, source })
    };
    Ok(RootImage {
        image: dir.join(IMAGE),
        linux: dir.join("vmlinuz"),
        initrd: dir.join("initrd"),
        stub: dir.join("linux.efi.stub"),
        uname: text("kernel-version")?.trim().to_owned(),
        os_release: text(OS_RELEASE)?,
        key,
    })
}

fn entries(programs: &Programs<'_>) -> Vec<Entry> {
    let program = |name: &str, path: &Path| Entry {
        path: format!("usr/bin/{name}"),
        mode: 0o755,
        content: Content::File(path.to_owned()),
    };
    let mut entries = files::own();
    entries.extend([
        program("kubeadm", programs.kubeadm),
        program("kubelet", programs.kubelet),
        program("kubectl", programs.kubectl),
    ]);
    entries
}

fn key(debian: &Debian, entries: &[Entry]) -> Result<String, RootImageError> {
    let mut recipe = Recipe::new("root").with(RECIPE).with(&debian.key);
    recipe = recipe.with(identity(&debian.archive)?);
    for entry in entries {
        recipe = recipe.with(&entry.path).with(entry.mode.to_be_bytes());
        recipe = match &entry.content {
            Content::Text(text) | Content::Link(text) => recipe.with(text),
            Content::File(path) => recipe.with(identity(path)?),
        };
    }
    Ok(recipe.key())
}

/// What tells a file from another without reading it: archives and programs are large.
fn identity(path: &Path) -> Result<String, RootImageError> {
    let failed = |source| RootImageError::Io { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(failed)?;
    let modified = metadata
        .modified()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).map_err(io::Error::other))
        .map_err(failed)?;
    Ok(format!("{} {} {}", path.display(), modified.as_nanos(), metadata.len()))
}

async fn make(
    dir: &Path,
    suite: &str,
    debian: &Debian,
    entries: &[Entry],
    runner: &Runner<'_>,
) -> Result<(), RootImageError> {
    let failed = |path: PathBuf| move |source| RootImageError::Io { path, source };
    runner.progress().stage("making the initrd and the root");
    // mmdebstrap's hooks split their words: names within this folder have nothing to split.
    let input = dir.join("debian.tar");
    fs::hard_link(&debian.archive, &input).map_err(failed(input.clone()))?;
    let added = dir.join("added.tar");
    files::archive(entries, &added).map_err(failed(added.clone()))?;
    runner.run(&mut customize(dir, suite)).await?;

    runner.progress().stage("packing the root image");
    let archive = dir.join("root.tar");
    let image = dir.join(IMAGE);
    squashfs::from_tar(&archive, &image, Press::Hard, runner).await?;
    let size = fs::metadata(&image).map_err(failed(image.clone()))?.len();
    if size > MAX_IMAGE {
        return Err(RootImageError::TooLarge { size });
    }
    for leftover in [input, added, archive] {
        fs::remove_file(&leftover).map_err(failed(leftover))?;
    }
    Ok(())
}

/// mmdebstrap once more, now with nothing to install: it gives a root to work in without anybody being root.
fn customize(dir: &Path, suite: &str) -> tokio::process::Command {
    let mut command = debian::tool(dir);
    command
        .args(["--variant=custom", "--format=tar", "--architectures=amd64"])
        .arg("--skip=check/empty,setup,update,cleanup")
        .arg("--setup-hook=tar-in debian.tar /")
        // What is not in the archive is borrowed from this machine, into this folder.
        .arg("--setup-hook=mkdir -p \"$1/dev\"")
        .arg("--customize-hook=tar-in added.tar /")
        .arg(format!("--customize-hook=chroot \"$1\" /{PREPARE}"));
    for name in BOOT_FILES {
        command.arg(format!("--customize-hook=download /boot/{name} {name}"));
    }
    command
        .arg(format!("--customize-hook=download /usr/lib/os-release {OS_RELEASE}"))
        .arg("--customize-hook=rm -rf \"$1\"/boot/* \"$1\"/tmp/* \"$1\"/run/*")
        .args([suite, "root.tar"])
        // It insists on a source, and asks none.
        .arg(format!("deb {} {suite} main", crate::mirror::ARCHIVE));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_program_is_another_image() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let debian = Debian {
            archive: file("debian.tar", "archive"),
            subtree: dir.path().to_owned(),
            key: "debian".to_owned(),
        };
        let (one, other) = (file("one", "1.20"), file("other", "1.34"));
        let key_of = |kubelet: &Path| {
            key(&debian, &entries(&Programs { kubeadm: &one, kubelet, kubectl: &one })).unwrap()
        };
        assert_eq!(key_of(&one), key_of(&one));
        assert_ne!(key_of(&one), key_of(&other));
    }
}
