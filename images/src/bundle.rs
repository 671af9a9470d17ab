//! What a machine boots, as one object of a registry: so it is pushed to a running mesh, and has a name in a store.
//!
//! It is an artefact in the sense of the OCI image specification: the configuration says what it is, and its files are layers
//! as they are, so that each is known by the digest that the kernel's command line has.

use std::io;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::catalog::Catalog;
use crate::store::{
    Content, Descriptor, Digest, MAX_MANIFEST, Manifest, ManifestError, OCI_MANIFEST, Reference, Store,
    StoreError, WholeError,
};

const KIND: &str = "application/vnd.meshboot.images.v1";
const CONFIG: &str = "application/vnd.meshboot.images.config.v1+json";
const FILE: &str = "application/vnd.meshboot.images.file.v1";
/// What a file is to people.
const TITLE: &str = "org.opencontainers.image.title";

/// The files that belong together, and what they are of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    /// The catalogue's [name](Catalog::id).
    pub id: String,
    /// Where machines that boot it look for whoever serves them.
    pub boot: Ipv6Addr,
    /// Kubernetes' version.
    pub kubernetes: String,
    /// What a node's firmware loads.
    pub node_uki: Part,
    /// The root image.
    pub root: Part,
    /// The layer over it.
    pub layer: Part,
}

/// One of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Of all its bytes.
    pub sha256: Digest,
    /// In bytes.
    pub size: u64,
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file of the catalogue changed since it was made.
    #[error("the {what} of the images {id} is another than when it was made: make them again")]
    Changed {
        /// Which file.
        what: &'static str,
        /// Of which catalogue.
        id: String,
    },
    /// It is not there, or not all of it.
    #[error(transparent)]
    Whole(#[from] WholeError),
    /// The object of that name is something else.
    #[error("{0} is not what a machine boots")]
    Other(Reference),
    /// Its manifest is none.
    #[error("{reference}")]
    Manifest {
        /// Which.
        reference: Reference,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work was interrupted.
    #[error("storing what machines boot")]
    Interrupted(#[source] io::Error),
}

// === impl Bundle ===

impl Bundle {
    /// What a catalogue has for nodes.
    #[must_use]
    pub fn of(catalog: &Catalog) -> Self {
        let part =
            |artefact: &crate::catalog::Artefact| Part { sha256: artefact.sha256, size: artefact.size };
        Self {
            id: catalog.id.clone(),
            boot: catalog.boot,
            kubernetes: catalog.kubernetes.clone(),
            node_uki: part(&catalog.node_uki),
            root: part(&catalog.root),
            layer: part(&catalog.layer),
        }
    }

    /// Stores what a catalogue has for nodes, under a name.
    ///
    /// # Errors
    ///
    /// [`BundleError`]; then the name is not there.
    pub fn put(catalog: &Catalog, store: &Store, reference: &Reference) -> Result<Self, BundleError> {
        let bundle = Self::of(catalog);
        let files = [("UKI", &catalog.node_uki), ("root image", &catalog.root), ("layer", &catalog.layer)];
        let mut layers = Vec::new();
        for (what, artefact) in files {
            if !store.contains(&artefact.sha256) {
                let (digest, _) = store.put_file(&artefact.path)?;
                if digest != artefact.sha256 {
                    return Err(BundleError::Changed { what, id: catalog.id.clone() });
                }
            }
            let mut layer = Descriptor::new(FILE, artefact.sha256, artefact.size);
            layer.annotations.insert(TITLE.to_owned(), what.to_owned());
            layers.push(layer);
        }
        let config = json!(bundle).to_string().into_bytes();
        let config = Descriptor::new(CONFIG, store.put(&config)?, config.len() as u64);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": KIND,
            "config": config,
            "layers": layers,
        });
        let manifest = manifest.to_string().into_bytes();
        let target = Descriptor::new(OCI_MANIFEST, store.put(&manifest)?, manifest.len() as u64);
        store.set_ref(reference, &target)?;
        Ok(bundle)
    }

    /// Reads what is stored under a name, and whole.
    ///
    /// # Errors
    ///
    /// [`BundleError`].
    pub fn read(store: &Store, reference: &Reference) -> Result<Self, BundleError> {
        let (target, _) = store.whole(reference)?;
        let bytes = store.read(&target.digest, MAX_MANIFEST)?.unwrap_or_default();
        let wrong = |source| BundleError::Manifest { reference: reference.clone(), source };
        let other = || BundleError::Other(reference.clone());
        let manifest = Manifest::parse(&bytes).map_err(wrong)?;
        let Content::Image { config, .. } = manifest.content else { return Err(other()) };
        if manifest.artifact_type.as_deref() != Some(KIND) {
            return Err(other());
        }
        let config = store.read(&config.digest, MAX_MANIFEST)?.unwrap_or_default();
        serde_json::from_slice(&config).map_err(|_| other())
    }
}

#[cfg(test)]
mod tests;
