//! What a request's path asks for.
//!
//! Repositories' names hold slashes, and words such as `manifests`, so paths are read from their end.

use uuid::Uuid;

use crate::store::{Digest, Repository, Tag};

use super::error::Refusal;

/// The longest page of a listing.
const MAX_PAGE: usize = 1000;

/// A path below `/v2/`, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// Whether this is a registry.
    Base,
    /// The repositories.
    Catalog,
    /// A repository's tags.
    Tags(Repository),
    /// A manifest.
    Manifest(Repository, ManifestRef),
    /// A blob.
    Blob(Repository, Digest),
    /// What refers to a manifest: signatures and the like.
    Referrers(Repository, Digest),
    /// An upload: a new one, or one that was begun.
    Upload(Repository, Option<Uuid>),
}

/// A manifest by its tag or by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ManifestRef {
    Tag(Tag),
    Digest(Digest),
}

// === impl Wish ===

impl Wish {
    /// Reads what follows `/v2/`, percent-decoded.
    pub(super) fn parse(path: &str) -> Result<Self, Refusal> {
        match path {
            "" => return Ok(Self::Base),
            "_catalog" => return Ok(Self::Catalog),
            _ => {}
        }
        let (rest, last) = path.rsplit_once('/').ok_or(Refusal::NoSuchPath)?;
        let (name, kind) = rest.rsplit_once('/').ok_or(Refusal::NoSuchPath)?;
        match (kind, last) {
            ("tags", "list") => Ok(Self::Tags(repository(name)?)),
            ("manifests", reference) => Ok(Self::Manifest(repository(name)?, manifest_ref(reference)?)),
            ("blobs", "uploads") => Ok(Self::Upload(repository(name)?, None)),
            ("blobs", reference) => Ok(Self::Blob(repository(name)?, digest(reference)?)),
            ("referrers", reference) => Ok(Self::Referrers(repository(name)?, digest(reference)?)),
            ("uploads", id) => {
                let name = name.strip_suffix("/blobs").ok_or(Refusal::NoSuchPath)?;
                Ok(Self::Upload(repository(name)?, upload(id)?))
            }
            _ => Err(Refusal::NoSuchPath),
        }
    }
}

/// None for a new one.
fn upload(id: &str) -> Result<Option<Uuid>, Refusal> {
    let unknown = |_| Refusal::UploadUnknown(format!("there is no upload {id}"));
    if id.is_empty() { Ok(None) } else { id.parse().map(Some).map_err(unknown) }
}

fn repository(name: &str) -> Result<Repository, Refusal> {
    name.parse().map_err(|error| Refusal::NameInvalid(format!("{error}")))
}

fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|error| Refusal::DigestInvalid(format!("{error}")))
}

fn manifest_ref(text: &str) -> Result<ManifestRef, Refusal> {
    // No tag holds a colon and every digest does.
    if text.contains(':') {
        return Ok(ManifestRef::Digest(digest(text)?));
    }
    text.parse().map(ManifestRef::Tag).map_err(|error| Refusal::TagInvalid(format!("{error}")))
}

/// Cuts a sorted listing to what `n` and `last` ask for, and says whether more follow.
pub(super) fn page<'a>(
    all: &'a [String],
    n: Option<&str>,
    last: Option<&str>,
) -> Result<(&'a [String], bool), Refusal> {
    let limit = match n {
        Some(n) => n
            .parse::<usize>()
            .map_err(|_| Refusal::PaginationInvalid(format!("`{n}` is no number of entries")))?
            .min(MAX_PAGE),
        None => MAX_PAGE,
    };
    let start = last.map_or(0, |last| all.partition_point(|name| name.as_str() <= last));
    let rest = &all[start..];
    let count = limit.min(rest.len());
    Ok((&rest[..count], limit > 0 && count < rest.len()))
}
