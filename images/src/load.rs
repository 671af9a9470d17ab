//! Image archives into the store: `docker save` and OCI layout, as tar, gzip or zstd.
//!
//! An archive is read once, from front to back. Its entries are blobs in waiting, known by their paths in the
//! archive and never by a path on disk; what the archive's own index does not reach is dropped. Names are set
//! last, when every blob they reach is stored and of the digest that the archive says.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::store::{
    Closure, ClosureError, Descriptor, Digest, ManifestError, ParseNameError, Reference, Store, StoreError,
};

mod archive;
mod docker;
mod layout;
#[cfg(test)]
mod tests;

use archive::{Archive, Sniffed};

/// The largest index or configuration in an archive.
const MAX_JSON: u64 = 4 * 1024 * 1024;

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its name.
    pub reference: Reference,
    /// Its manifest.
    pub target: Descriptor,
    /// Platforms that the image is also for and that the archive does not hold.
    pub absent: Vec<Descriptor>,
}

/// An image of the store, as people list it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Listed {
    /// Its name.
    pub reference: Reference,
    /// Its manifest.
    pub digest: Digest,
    /// The manifest's kind.
    pub media_type: String,
    /// All its blobs together, in bytes; `None` if one of them is missing.
    pub size: Option<u64>,
}

/// Why an archive was not loaded.
#[derive(Debug, thiserror::Error)]
#[error("loading {}", path.display())]
pub struct LoadError {
    /// The archive.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub source: LoadErrorKind,
}

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum LoadErrorKind {
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// It is neither tar, nor gzip, nor zstd.
    #[error("it is no tar archive, plain, gzip or zstd")]
    NoTar,
    /// It ends in the middle.
    #[error("it is truncated or damaged after {0} entries; fetch it again")]
    Truncated(usize, #[source] Option<io::Error>),
    /// A path that leads out of the archive.
    #[error("the entry `{0}` has a path that leads out of the archive")]
    Path(String),
    /// A device, or something else that no image archive holds.
    #[error("the entry `{path}` is a {kind}, which has no place in an image archive")]
    Kind {
        /// Which.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// Two entries of one name.
    #[error("the entry `{0}` is there twice")]
    Twice(String),
    /// More entries than any image has.
    #[error("it has more than {0} entries; it is no image archive")]
    TooMany(usize),
    /// No index that we know.
    #[error(
        "it is no image archive: it has neither `manifest.json` (docker save) nor `index.json` (OCI layout)"
    )]
    NoImage,
    /// What its index points to is not there.
    #[error("it is not whole: the entry `{0}` is missing")]
    Missing(String),
    /// An index, a manifest or a configuration that is no JSON of that kind.
    #[error("the entry `{path}` is not what it should be")]
    Json {
        /// Which.
        path: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest that is none.
    #[error("the entry `{path}`")]
    Manifest {
        /// Which.
        path: String,
        /// What is wrong with it.
        #[source]
        source: ManifestError,
    },
    /// An index or a configuration of an absurd size.
    #[error("the entry `{path}` has {size} bytes, more than any of its kind")]
    TooLarge {
        /// Which.
        path: String,
        /// How large.
        size: u64,
    },
    /// The bytes are others than their name says.
    #[error("the entry `{path}` is damaged: its digest is {actual}, expected {expected}")]
    Digest {
        /// Which.
        path: String,
        /// What its name or the configuration says.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// A configuration that speaks of other layers than the archive.
    #[error("the image {image} has {layers} layers, its configuration speaks of {diff_ids}")]
    LayerCount {
        /// Which, by its configuration's path.
        image: String,
        /// How many the index names.
        layers: usize,
        /// How many the configuration names.
        diff_ids: usize,
    },
    /// An image without a name.
    #[error("the image {0} in it has no name; save it under a name (`docker save NAME:TAG`)")]
    Unnamed(String),
    /// A name that is none.
    #[error("the name of an image in it")]
    Name(#[from] ParseNameError),
    /// The image is not whole.
    #[error("the image {image} is not whole")]
    Closure {
        /// Which.
        image: Reference,
        /// What is missing.
        #[source]
        source: Box<ClosureError>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Loads all images of an archive.
///
/// # Errors
///
/// [`LoadError`]; then no name of the store has changed.
pub fn load(path: &Path, store: &Store) -> Result<Vec<Loaded>, LoadError> {
    let load = || {
        let archive = Archive::read(open(path)?, |_, reader| {
            let mut blob = store.writer()?;
            blob.copy_from(reader)?;
            Ok(blob.stage())
        })?;
        let images = if archive.has(layout::INDEX) && archive.has(layout::MARK) {
            layout::take(archive)?
        } else if archive.has(docker::INDEX) {
            docker::take(archive, store)?
        } else {
            return Err(LoadErrorKind::NoImage);
        };
        name(images, store)
    };
    load().map_err(|source| LoadError { path: path.to_owned(), source })
}

/// The names under which the images of an archive would be loaded; nothing is stored.
///
/// # Errors
///
/// [`LoadError`].
pub fn names(path: &Path) -> Result<Vec<Reference>, LoadError> {
    let names = || {
        let archive = Archive::read(open(path)?, |path, reader| {
            let mut bytes = Vec::new();
            if matches!(path, layout::INDEX | docker::INDEX) {
                reader.take(MAX_JSON + 1).read_to_end(&mut bytes).map_err(LoadErrorKind::Read)?;
            }
            io::copy(reader, &mut io::sink()).map_err(LoadErrorKind::Read)?;
            Ok(Sniffed::new(bytes))
        })?;
        let named = if archive.has(layout::INDEX) && archive.has(layout::MARK) {
            layout::names(&archive)?
        } else if archive.has(docker::INDEX) {
            docker::names(&archive)?
        } else {
            return Err(LoadErrorKind::NoImage);
        };
        Ok(named.iter().flat_map(with_alias).collect())
    };
    names().map_err(|source| LoadError { path: path.to_owned(), source })
}

/// All images of the store.
///
/// # Errors
///
/// [`StoreError`].
pub fn list(store: &Store) -> Result<Vec<Listed>, StoreError> {
    let listed = |(reference, target): (Reference, Descriptor)| {
        let size = match store.closure(&target.digest) {
            Ok(Closure { present, .. }) => Some(present.values().sum()),
            Err(ClosureError::Store(error)) => return Err(error),
            Err(_) => None,
        };
        Ok(Listed { reference, digest: target.digest, media_type: target.media_type, size })
    };
    store.refs()?.into_iter().map(listed).collect()
}

fn open(path: &Path) -> Result<File, LoadErrorKind> {
    File::open(path).map_err(LoadErrorKind::Read)
}

/// Sets the names when all is there.
fn name(images: Vec<(Reference, Descriptor)>, store: &Store) -> Result<Vec<Loaded>, LoadErrorKind> {
    let mut loaded = BTreeMap::new();
    for (reference, target) in images {
        let closure = store.closure(&target.digest).map_err(|source| LoadErrorKind::Closure {
            image: reference.clone(),
            source: Box::new(source),
        })?;
        for reference in with_alias(&reference) {
            let (target, absent) = (target.clone(), closure.absent.clone());
            loaded.insert(reference.clone(), Loaded { reference, target, absent });
        }
    }
    for Loaded { reference, target, .. } in loaded.values() {
        store.set_ref(reference, target)?;
    }
    Ok(loaded.into_values().collect())
}

/// The archives of the Kubernetes releases say `kube-apiserver-amd64` where kubeadm asks for `kube-apiserver`.
fn with_alias(reference: &Reference) -> Vec<Reference> {
    let mut all = vec![reference.clone()];
    let plain = reference.repository.as_str().strip_suffix("-amd64");
    if reference.registry.as_str() == "registry.k8s.io"
        && let Some(Ok(repository)) = plain.map(str::parse)
    {
        all.push(Reference { repository, ..reference.clone() });
    }
    all
}
