//! OCI image layout: `index.json` names manifests, and everything is at `blobs/sha256/<hex>`.

use serde::Deserialize;

use crate::save::{IMAGE_NAME, REF_NAME};
use crate::store::{Content, Descriptor, Digest, Manifest, Reference, Staged};

use super::{
    LoadErrorKind,
    archive::{self, Archive},
    docker,
};

/// What says that it is one, together with [`MARK`].
pub(super) const INDEX: &str = "index.json";
/// The layout's version.
pub(super) const MARK: &str = "oci-layout";
/// An index of indexes deeper than this is no image but an attack.
const MAX_DEPTH: usize = 4;

#[derive(Debug, Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// The names in an archive.
pub(super) fn names<T: archive::Content>(archive: &Archive<T>) -> Result<Vec<Reference>, LoadErrorKind> {
    Ok(targets(archive)?.into_iter().map(|(reference, _)| reference).collect())
}

/// Stores the images of an archive.
pub(super) fn take(mut archive: Archive<Staged>) -> Result<Vec<(Reference, Descriptor)>, LoadErrorKind> {
    let targets = targets(&archive)?;
    for (_, target) in &targets {
        commit(&mut archive, target, 0)?;
    }
    let plain = |target: Descriptor| Descriptor {
        platform: target.platform,
        ..Descriptor::new(target.media_type, target.digest, target.size)
    };
    Ok(targets.into_iter().map(|(reference, target)| (reference, plain(target))).collect())
}

/// The images by their names.
fn targets<T: archive::Content>(archive: &Archive<T>) -> Result<Vec<(Reference, Descriptor)>, LoadErrorKind> {
    let index: Index = archive.json(INDEX)?;
    let only = index.manifests.len() == 1;
    let mut targets = Vec::new();
    for manifest in index.manifests {
        let note = |key| manifest.annotations.get(key).map(String::as_str);
        let full = note(IMAGE_NAME).or_else(|| note(REF_NAME).filter(|name| name.contains('/')));
        if let Some(name) = full {
            targets.push((name.parse()?, manifest));
        } else if only && archive.has(docker::INDEX) {
            // docker writes both forms into one archive; the older one has the names.
            let names = docker::names(archive)?;
            targets.extend(names.into_iter().map(|reference| (reference, manifest.clone())));
        } else {
            targets.push((bare_name(&manifest)?, manifest));
        }
    }
    Ok(targets)
}

/// `name:tag` without a registry, as `skopeo copy … oci-archive:FILE:name:tag` writes it. A word alone may be a tag
/// as well as a name.
fn bare_name(manifest: &Descriptor) -> Result<Reference, LoadErrorKind> {
    match manifest.annotations.get(REF_NAME) {
        Some(name) if name.contains(':') => Ok(name.parse()?),
        _ => Err(LoadErrorKind::Unnamed(manifest.digest.to_string())),
    }
}

/// Commits a manifest and what it reaches, children first. What is not in the archive is left out here; whether the
/// image is whole enough is decided when it gets its name.
fn commit(archive: &mut Archive<Staged>, target: &Descriptor, depth: usize) -> Result<(), LoadErrorKind> {
    let path = blob_path(&target.digest);
    if depth > MAX_DEPTH || !archive.has(&path) {
        return Ok(());
    }
    let bytes = archive.small(&path)?;
    let manifest =
        Manifest::parse(&bytes).map_err(|source| LoadErrorKind::Manifest { path: path.clone(), source })?;
    match &manifest.content {
        Content::Image { config, layers } => {
            for child in std::iter::once(config).chain(layers) {
                commit_blob(archive, &child.digest)?;
            }
        }
        Content::Index { manifests } => {
            for child in manifests {
                commit(archive, child, depth + 1)?;
            }
        }
    }
    commit_blob(archive, &target.digest)
}

fn commit_blob(archive: &mut Archive<Staged>, digest: &Digest) -> Result<(), LoadErrorKind> {
    let path = blob_path(digest);
    let Some(staged) = archive.remove(&path) else { return Ok(()) };
    if staged.digest() != *digest {
        return Err(LoadErrorKind::Digest { path, expected: *digest, actual: staged.digest() });
    }
    Ok(staged.commit()?)
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
