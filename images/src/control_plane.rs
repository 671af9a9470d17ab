//! The images that a mesh starts with, in the store: its control plane, and a small one to try it with. Assembled or
//! loaded once, and then only looked for.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    cache::{Cache, CacheError, Recipe},
    kubernetes::{
        ImageSource, KubernetesBinaries,
        kubeadm::{self, AskError},
    },
    load::{self, LoadError},
    oci::{
        Compression,
        busybox::{self, BusyboxError},
        control_plane::{self, ControlPlaneError, Programs},
    },
    progress::Progress,
    root::debian::Debian,
    store::{Reference, Store},
};

const KIND: &str = "control-plane";
const RECIPE: &str = "2";
const FILE: &str = "images.json";
/// Debian's BusyBox, in its root: what a mesh is tried with before anything else can be pulled.
const BUSYBOX: &str = "usr/bin/busybox";
/// Pressing harder takes longer than a machine of a mesh takes to fetch the rest.
const COMPRESSION: Compression = Compression::Zstd(3);

/// What is in the store, and what is not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Provided {
    pub made: Vec<Reference>,
    pub missing: Vec<Reference>,
}

/// Why there are no images of the control plane.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// kubeadm does not say which it wants.
    #[error("asking kubeadm for its images")]
    Ask(#[from] AskError),
    /// They cannot be assembled.
    #[error(transparent)]
    Assemble(#[from] ControlPlaneError),
    /// They cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// BusyBox's image cannot be assembled.
    #[error("the image {}", busybox::NAME)]
    Busybox(#[from] BusyboxError),
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A file of the cache cannot be read or written.
    #[error("making the images of the control plane: {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Sees to it that the store has the images of a Kubernetes.
pub(crate) async fn provide(
    cache: &Cache,
    kubernetes: &KubernetesBinaries,
    debian: &Debian,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Provided, ImagesError> {
    let key = key(kubernetes, debian)?;
    if let Some(provided) = cache.finished(KIND, &key).and_then(|dir| remembered(&dir, store)) {
        return Ok(provided);
    }
    progress.stage("making the images of the control plane");
    let wanted = kubeadm::images(&kubernetes.kubeadm, &kubernetes.version).await?;
    let provided = {
        let (source, subtree, store) = (kubernetes.images.clone(), debian.subtree.clone(), store.clone());
        tokio::task::spawn_blocking(move || fill(&wanted, source, subtree, &store))
            .await
            .map_err(|error| ImagesError::Io { path: cache.path(KIND), source: io::Error::other(error) })??
    };
    let dir = cache.begin(KIND)?;
    let path = dir.path().join(FILE);
    serde_json::to_vec_pretty(&provided)
        .map_err(io::Error::other)
        .and_then(|text| fs::write(&path, text))
        .map_err(|source| ImagesError::Io { path, source })?;
    cache.finish(dir, KIND, &key)?;
    Ok(provided)
}

fn fill(
    wanted: &[Reference],
    source: ImageSource,
    debian_root: PathBuf,
    store: &Store,
) -> Result<Provided, ImagesError> {
    let busybox = debian_root.join(BUSYBOX);
    let mut provided = control_plane_images(wanted, source, debian_root, store)?;
    let name = busybox::name()?;
    // Whoever brings an archive with it means that one.
    if !provided.made.contains(&name) {
        busybox::assemble(&busybox, &name, store, COMPRESSION)?;
        provided.made.push(name);
    }
    Ok(provided)
}

fn control_plane_images(
    wanted: &[Reference],
    source: ImageSource,
    debian_root: PathBuf,
    store: &Store,
) -> Result<Provided, ImagesError> {
    match source {
        ImageSource::Programs(dir) => {
            let assembled =
                control_plane::assemble(wanted, &Programs { dir, debian_root }, store, COMPRESSION)?;
            let made = assembled.made.into_iter().map(|(reference, _)| reference).collect();
            Ok(Provided { made, missing: assembled.missing })
        }
        ImageSource::Archives(archives) => {
            let mut made = Vec::new();
            for archive in archives {
                made.extend(load::load(&archive, store)?.into_iter().map(|loaded| loaded.reference));
            }
            let missing = wanted.iter().filter(|wanted| !made.contains(wanted)).cloned().collect();
            Ok(Provided { made, missing })
        }
    }
}

/// Of files that others may change, size and time count as well as their names.
fn key(kubernetes: &KubernetesBinaries, debian: &Debian) -> Result<String, ImagesError> {
    let mut recipe = Recipe::new(KIND)
        .with(RECIPE)
        .with(kubernetes.version.to_string())
        .with(&debian.key)
        .with(debian.subtree.as_os_str().as_encoded_bytes());
    let files = match &kubernetes.images {
        ImageSource::Programs(dir) => {
            vec![dir.join("kube-apiserver"), debian.archive.clone()]
        }
        ImageSource::Archives(archives) => archives.clone(),
    };
    for path in files {
        let failed = |source| ImagesError::Io { path: path.clone(), source };
        let metadata = fs::metadata(&path).map_err(failed)?;
        let modified = metadata
            .modified()
            .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).map_err(io::Error::other))
            .map_err(failed)?;
        recipe = recipe
            .with(path.as_os_str().as_encoded_bytes())
            .with(metadata.len().to_be_bytes())
            .with(modified.as_nanos().to_be_bytes());
    }
    Ok(recipe.key())
}

/// What an earlier run has made, if the store still has all of it.
fn remembered(dir: &Path, store: &Store) -> Option<Provided> {
    let provided: Provided = serde_json::from_slice(&fs::read(dir.join(FILE)).ok()?).ok()?;
    let whole = |reference: &Reference| {
        let target = store.resolve(reference).ok().flatten()?;
        store.closure(&target.digest).ok()
    };
    provided.made.iter().all(|reference| whole(reference).is_some()).then_some(provided)
}
