//! `docker save`: `manifest.json` names, for each image, a configuration and layers by their paths.
//!
//! The archive has no manifest as registries have it, so one is made; it depends on nothing but the image.

use std::{collections::BTreeSet, io::Read};

use serde::Deserialize;

use crate::{
    oci::manifest_json,
    store::{
        Descriptor, Digest, OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST, Reference,
        Staged, Store,
    },
};

use super::{
    LoadErrorKind,
    archive::{Archive, Content, digest_in},
};

/// What says that it is one.
pub(super) const INDEX: &str = "manifest.json";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

/// The names in an archive.
pub(super) fn names<T: Content>(archive: &Archive<T>) -> Result<Vec<Reference>, LoadErrorKind> {
    let images: Vec<Image> = archive.json(INDEX)?;
    let named = images.iter().map(Image::references).collect::<Result<Vec<_>, _>>()?;
    Ok(named.into_iter().flatten().collect())
}

/// Stores the images of an archive.
pub(super) fn take(
    mut archive: Archive<Staged>,
    store: &Store,
) -> Result<Vec<(Reference, Descriptor)>, LoadErrorKind> {
    let images: Vec<Image> = archive.json(INDEX)?;
    let mut made = Vec::new();
    let mut wanted = BTreeSet::new();
    for image in &images {
        let references = image.references()?;
        let manifest = image.manifest(&archive, &mut wanted)?;
        made.push((references, manifest));
    }
    for path in wanted {
        if let Some(staged) = archive.remove(&path) {
            staged.commit()?;
        }
    }
    let mut named = Vec::new();
    for (references, manifest) in made {
        let target = Descriptor::new(OCI_MANIFEST, store.put(&manifest)?, manifest.len() as u64);
        named.extend(references.into_iter().map(|reference| (reference, target.clone())));
    }
    Ok(named)
}

// === impl Image ===

impl Image {
    fn references(&self) -> Result<Vec<Reference>, LoadErrorKind> {
        let tags = self.repo_tags.as_deref().unwrap_or_default();
        if tags.is_empty() {
            return Err(LoadErrorKind::Unnamed(self.config.clone()));
        }
        Ok(tags.iter().map(|tag| tag.parse()).collect::<Result<_, _>>()?)
    }

    /// Checks the image, notes what it needs of the archive, and makes its manifest.
    fn manifest(
        &self,
        archive: &Archive<Staged>,
        wanted: &mut BTreeSet<String>,
    ) -> Result<Vec<u8>, LoadErrorKind> {
        let (path, staged) = archive.get(&self.config)?;
        if let Some(expected) = digest_in(&self.config).filter(|expected| *expected != staged.digest()) {
            return Err(LoadErrorKind::Digest { path: path.to_owned(), expected, actual: staged.digest() });
        }
        let config = Descriptor::new(OCI_CONFIG, staged.digest(), staged.size());
        wanted.insert(path.to_owned());
        let parsed: Config = archive.json(&self.config)?;
        let diff_ids = parsed.rootfs.diff_ids.unwrap_or_default();
        let paths = self.layers.as_deref().unwrap_or_default();
        if diff_ids.len() != paths.len() {
            return Err(LoadErrorKind::LayerCount {
                image: self.config.clone(),
                layers: paths.len(),
                diff_ids: diff_ids.len(),
            });
        }
        let mut layers = Vec::new();
        for (path, diff_id) in paths.iter().zip(diff_ids) {
            let (path, staged) = archive.get(path)?;
            let media_type = layer_type(staged)?;
            // A compressed layer is checked by whoever unpacks it.
            if media_type == OCI_LAYER && staged.digest() != diff_id {
                let (path, expected, actual) = (path.to_owned(), diff_id, staged.digest());
                return Err(LoadErrorKind::Digest { path, expected, actual });
            }
            layers.push(Descriptor::new(media_type, staged.digest(), staged.size()));
            wanted.insert(path.to_owned());
        }
        Ok(manifest_json(&config, &layers).to_string().into_bytes())
    }
}

fn layer_type(staged: &Staged) -> Result<&'static str, LoadErrorKind> {
    let mut start = Vec::new();
    staged.open().and_then(|file| file.take(4).read_to_end(&mut start)).map_err(LoadErrorKind::Read)?;
    Ok(match start.as_slice() {
        [0x1f, 0x8b, ..] => OCI_LAYER_GZIP,
        [0x28, 0xb5, 0x2f, 0xfd] => OCI_LAYER_ZSTD,
        _ => OCI_LAYER,
    })
}
