//! `meshboot kubelet`: a node gets a kubelet of its own, of another version than the mesh's.
//!
//! It comes as an image by this node's own mirror, or else by those that the mirror would ask, and is kept on the node's
//! disk under a name that has its digest. One that is there and sound needs nobody. It is laid over the kubelet of the
//! nodes' image by a mount, which ends with the boot.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use ignition::KubernetesVersion;
use images::kubernetes::kubeadm::kubelet_version;
use images::kubernetes::kubelet::PROGRAM;
use images::store::{Digest, Platform, Store};
use images::unpack;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tokio::time::{sleep, timeout};

use crate::cli::kubelet::KubeletOptions;
use crate::gateway::mirrors;
use crate::gateway::settings::GatewaySettings;
use crate::image::kubelet_name;
use crate::state::is_mounted;

/// Between two tries: routes come, and mirrors answer, within seconds.
const PAUSE: Duration = Duration::from_secs(3);
/// The part of the image that has come, in the folder of kubelets.
const STORE: &str = "store";

/// The kubelets of a node's disk.
struct Shelf<'a> {
    folder: &'a Path,
    version: KubernetesVersion,
    limit: Duration,
}

/// Gets the kubelet and lays it over the image's. Twice is harmless.
///
/// # Errors
///
/// It does not come in time, and why; or it is another one, or cannot be laid over.
pub fn run(settings: &Path, options: &KubeletOptions) -> Result<()> {
    let settings = GatewaySettings::read(settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let shelf = Shelf { folder: &options.folder, version: options.version, limit: options.limit };
    let kubelet = runtime.context("cannot start the async runtime")?.block_on(shelf.get(&settings))?;
    lay_over(&kubelet, &options.program)?;
    tracing::info!(version = %options.version, program = %options.program.display(), "this node's kubelet is its own");
    Ok(())
}

// === impl Shelf ===

impl Shelf<'_> {
    async fn get(&self, settings: &GatewaySettings) -> Result<PathBuf> {
        let what = || format!("cannot use {}", self.folder.display());
        fs::create_dir_all(self.folder).with_context(what)?;
        let kept = match self.kept().with_context(what)? {
            Some(kept) => kept,
            None => self.fetch(settings).await?,
        };
        self.clear(&kept).with_context(what)?;
        Ok(kept)
    }

    /// The one that is on the disk, if its bytes are those of its name.
    fn kept(&self) -> io::Result<Option<PathBuf>> {
        for entry in fs::read_dir(self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let digest = name.strip_prefix(&format!("{}-", self.version)).map(Digest::from_hex);
            let Some(Ok(expected)) = digest else { continue };
            let reason = match Digest::of_file(&entry.path()) {
                Ok((actual, _)) if actual == expected => {
                    tracing::info!(version = %self.version, "the kubelet is on this disk");
                    return Ok(Some(entry.path()));
                }
                Ok((actual, _)) => format!("it is {actual}, and was {expected}"),
                Err(error) => error.to_string(),
            };
            tracing::warn!(version = %self.version, reason, "the kubelet on this disk is damaged");
        }
        Ok(None)
    }

    /// Tries until it is there, and says why it is not whenever that is another reason.
    async fn fetch(&self, settings: &GatewaySettings) -> Result<PathBuf> {
        let end = Instant::now() + self.limit;
        let mut told = String::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let tried = timeout(left, self.attempt(settings)).await;
            let tried = tried.unwrap_or_else(|_| Err(anyhow!("it has not come as a whole")));
            let error = match tried {
                Ok(kubelet) => return Ok(kubelet),
                Err(error) => error,
            };
            if Instant::now() + PAUSE >= end {
                return Err(error.context(format!("no kubelet {} within {:?}", self.version, self.limit)));
            }
            let reason = format!("{error:#}");
            if reason != told {
                tracing::warn!(version = %self.version, reason, "the kubelet does not come yet");
                told = reason;
            }
            sleep(PAUSE).await;
        }
    }

    async fn attempt(&self, settings: &GatewaySettings) -> Result<PathBuf> {
        let name = kubelet_name(self.version)?;
        // What has come of it stays for the next try.
        let store = Store::open(self.folder.join(STORE))?;
        let puller = mirrors::of_this_node(settings, store.clone())?;
        let target = puller.whole(&name, &Platform::amd64(), &()).await;
        let target = target.with_context(|| format!("cannot pull {name}"))?;
        let what = || format!("cannot unpack {name} into {}", self.folder.display());
        let temporary = tempfile::NamedTempFile::new_in(self.folder).with_context(what)?;
        let unpacked = tokio::task::spawn_blocking(move || unpack(&store, &target.digest, temporary)).await;
        // Nobody may write to a program that is run.
        let (path, digest) = unpacked.context("unpacking was interrupted")?.with_context(what)?;
        let said = kubelet_version(&path).await.with_context(|| format!("{name} is no kubelet"))?;
        ensure!(said.to_string() == self.version.to_string(), "{name} is the kubelet {said}");
        let kept = self.folder.join(format!("{}-{}", self.version, digest.hex()));
        path.persist(&kept).with_context(what)?;
        File::open(self.folder).and_then(|folder| folder.sync_all()).with_context(what)?;
        Ok(kept)
    }

    /// Removes what is of another version or was on the way.
    fn clear(&self, kept: &Path) -> io::Result<()> {
        for entry in fs::read_dir(self.folder)? {
            let entry = entry?;
            if entry.path() == kept {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Writes the program of an image into a file, and makes that durable.
fn unpack(
    store: &Store,
    image: &Digest,
    file: tempfile::NamedTempFile,
) -> Result<(tempfile::TempPath, Digest)> {
    let mut out = io::BufWriter::new(file);
    unpack::file(store, image, PROGRAM, &mut out)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.as_file().set_permissions(Permissions::from_mode(0o755))?;
    file.as_file().sync_all()?;
    let (digest, _) = Digest::of_file(file.path())?;
    Ok((file.into_temp_path(), digest))
}

/// Mounts a file over another one, unless it is there already.
fn lay_over(own: &Path, program: &Path) -> Result<()> {
    let what = || format!("cannot lay {} over {}", own.display(), program.display());
    let id = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    if id(own).with_context(what)? == id(program).with_context(what)? {
        return Ok(());
    }
    // One of an earlier start in this boot; whoever runs it goes on with it.
    while is_mounted(program)? {
        umount2(program, MntFlags::MNT_DETACH).with_context(what)?;
    }
    mount(Some(own), program, None::<&str>, MsFlags::MS_BIND, None::<&str>).with_context(what)
}
