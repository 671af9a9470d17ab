//! Names on disk, each a descriptor as JSON: `refs/<registry>/<repository>/_tags/<tag>`, and for manifests that came from
//! elsewhere, which are of the kind that their registry said, `.../_manifests/<hex>`.
//!
//! No component of a repository's name begins with `_`, so neither folder is ever one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tracing::debug;

use super::{Descriptor, Digest, Reference, RegistryName, Repository, StoreError, Tag};

const TAGS: &str = "_tags";
const MANIFESTS: &str = "_manifests";

/// The folder of a repository's tags.
pub(super) fn tags_dir(dir: &Path, registry: &RegistryName, repository: &Repository) -> PathBuf {
    dir.join("refs").join(registry.as_str()).join(repository.as_str()).join(TAGS)
}

/// The file of a tag.
pub(super) fn tag_path(dir: &Path, reference: &Reference) -> PathBuf {
    tags_dir(dir, &reference.registry, &reference.repository).join(reference.tag.as_str())
}

/// The file of a manifest.
pub(super) fn manifest_path(
    dir: &Path,
    registry: &RegistryName,
    repository: &Repository,
    digest: &Digest,
) -> PathBuf {
    manifests_dir(dir, registry, repository).join(digest.hex())
}

/// The folder of the manifests that came from elsewhere.
pub(super) fn manifests_dir(dir: &Path, registry: &RegistryName, repository: &Repository) -> PathBuf {
    dir.join("refs").join(registry.as_str()).join(repository.as_str()).join(MANIFESTS)
}

/// Reads what a name points to, if there is such a name.
pub(super) fn read(path: PathBuf) -> Result<Option<Descriptor>, StoreError> {
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(StoreError::io("reading the name", &path, error)),
    };
    match serde_json::from_slice(&bytes) {
        Ok(descriptor) => Ok(Some(descriptor)),
        Err(error) => Err(StoreError::Damaged { path, reason: error.to_string() }),
    }
}

/// A repository's tags.
pub(super) fn tags(
    dir: &Path,
    registry: &RegistryName,
    repository: &Repository,
) -> Result<Vec<Tag>, StoreError> {
    Ok(names(&tags_dir(dir, registry, repository))?.iter().filter_map(|name| name.parse().ok()).collect())
}

/// The digests of the manifests that came from elsewhere.
pub(super) fn manifests(
    dir: &Path,
    registry: &RegistryName,
    repository: &Repository,
) -> Result<Vec<Digest>, StoreError> {
    let names = names(&manifests_dir(dir, registry, repository))?;
    Ok(names.iter().filter_map(|name| Digest::from_hex(name).ok()).collect())
}

/// All registries.
pub(super) fn registries(dir: &Path) -> Result<Vec<RegistryName>, StoreError> {
    Ok(names(&dir.join("refs"))?.iter().filter_map(|name| name.parse().ok()).collect())
}

/// A registry's repositories that have a tag.
pub(super) fn repositories(dir: &Path, registry: &RegistryName) -> Result<Vec<Repository>, StoreError> {
    let top = dir.join("refs").join(registry.as_str());
    let mut found = Vec::new();
    let mut open = vec![String::new()];
    while let Some(parent) = open.pop() {
        for name in names(&top.join(&parent))? {
            let path = if parent.is_empty() { name.clone() } else { format!("{parent}/{name}") };
            if name == MANIFESTS {
                continue;
            }
            if name != TAGS {
                // Whatever is no name was not written by us; nothing below it can be asked for.
                match path.parse::<Repository>() {
                    Ok(_) => open.push(path),
                    Err(error) => debug!(%error, "skipping a file among the tags"),
                }
            } else if let Ok(repository) = parent.parse() {
                found.push(repository);
            }
        }
    }
    Ok(found)
}

/// The names in a folder; none if it is not there.
fn names(dir: &Path) -> Result<Vec<String>, StoreError> {
    let failed = |error| StoreError::io("listing", dir, error);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    Ok(names)
}

/// Whether an error says that there is no such file.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
    )
}
