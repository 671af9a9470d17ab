//! What was built: every artefact by its digest, and what it is of.

use std::{
    fs, io,
    io::Write as _,
    net::Ipv6Addr,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use crate::store::{Digest, Reference};

#[cfg(test)]
pub(crate) mod tests;

const FOLDER: &str = "images";
const FILE: &str = "catalog.json";

/// A file that machines boot, known by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Artefact {
    /// Of all its bytes.
    pub sha256: Digest,
    /// In bytes.
    pub size: u64,
    /// Where it is on this machine.
    pub path: PathBuf,
}

/// One set of images that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Catalog {
    /// Known by this, in the cache.
    pub id: String,
    /// Where machines look for whoever serves them: the images are for meshes that have it there.
    pub boot: Ipv6Addr,
    /// The root image, a squashfs.
    pub root: Artefact,
    /// The layer with the `meshboot` binary over it, a squashfs.
    pub layer: Artefact,
    /// What a node's firmware loads.
    pub node_uki: Artefact,
    /// What a seed's firmware loads.
    pub seed_uki: Artefact,
    /// Kubernetes' version, such as `v1.20.2`.
    pub kubernetes: String,
    /// Where it came from, as `--kubernetes` names it: `debian`, `dir:PATH` or a version; never `auto`.
    pub kubernetes_source: String,
    /// Programs of the same Kubernetes for whoever operates the mesh.
    pub kubectl: PathBuf,
    /// kubeadm of the same Kubernetes.
    pub kubeadm: PathBuf,
    /// Debian's release.
    pub suite: String,
    /// The kernel's version.
    pub kernel: String,
    /// The store that holds the images of the control plane.
    pub store: PathBuf,
    /// Images that are in the store.
    pub images: Vec<Reference>,
    /// Images that kubeadm names and that were not to be had here, such as CoreDNS from Debian.
    pub missing_images: Vec<Reference>,
}

/// Why a catalogue was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The file cannot be read or written.
    #[error("{doing} the catalogue {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is of another version of this program, or damaged.
    #[error("the catalogue {} cannot be understood: make the images again", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
}

// === impl Catalog ===

impl Catalog {
    /// Reads a catalogue's file.
    ///
    /// # Errors
    ///
    /// [`CatalogError`].
    pub fn read(path: &Path) -> Result<Self, CatalogError> {
        let text = fs::read(path).map_err(|source| CatalogError::Io {
            doing: "reading",
            path: path.to_owned(),
            source,
        })?;
        serde_json::from_slice(&text).map_err(|source| CatalogError::Parse { path: path.to_owned(), source })
    }

    /// Writes the catalogue's file into a folder: whole, or not at all.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Io`].
    pub fn write(&self, dir: &Path) -> Result<PathBuf, CatalogError> {
        let path = dir.join(FILE);
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|source| CatalogError::Io { doing: "writing", path: path.clone(), source })?;
        Ok(path)
    }

    /// Whether all its files are still there, with the sizes they had.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.artefacts()
            .iter()
            .all(|(_, artefact)| fs::metadata(&artefact.path).is_ok_and(|file| file.len() == artefact.size))
    }

    /// The folder that it is in, with what is told of it.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        self.node_uki.path.parent()
    }

    /// Its artefacts, by the names that people give them.
    #[must_use]
    pub fn artefacts(&self) -> [(&'static str, &Artefact); 4] {
        [
            ("root", &self.root),
            ("layer", &self.layer),
            ("node.efi", &self.node_uki),
            ("seed.efi", &self.seed_uki),
        ]
    }
}

/// All catalogues of a cache, newest first, with the time each was last used for building. Unreadable ones are left out.
///
/// # Errors
///
/// [`CatalogError::Io`]: the cache cannot be read.
pub fn list(cache: &Path) -> Result<Vec<(SystemTime, Catalog)>, CatalogError> {
    let dir = cache.join(FOLDER);
    let failed = |source| CatalogError::Io { doing: "looking for", path: dir.clone(), source };
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path().join(FILE);
        let Ok(modified) = fs::metadata(&path).and_then(|file| file.modified()) else {
            continue;
        };
        match Catalog::read(&path) {
            Ok(catalog) => found.push((modified, catalog)),
            Err(error) => tracing::debug!(%error, "left out"),
        }
    }
    found.sort_by(|a, b| (b.0, &b.1.id).cmp(&(a.0, &a.1.id)));
    Ok(found)
}

/// The folder of a catalogue in a cache.
pub(crate) const KIND: &str = FOLDER;
