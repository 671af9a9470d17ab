//! What an image is made of.
//!
//! A manifest is never written out again: its digest is that of the bytes as they came.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Digest;

/// The largest manifest: what the OCI distribution specification asks registries to take.
pub const MAX_MANIFEST: u64 = 4 * 1024 * 1024;

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index: one image, several platforms.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, not compressed.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer, gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer, zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Points to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of blob.
    pub media_type: String,
    /// Which.
    pub digest: Digest,
    /// How many bytes.
    pub size: u64,
    /// In an index: for which machines.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub platform: Option<Platform>,
    /// Remarks, such as the image's name in an OCI layout.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub annotations: BTreeMap<String, String>,
}

/// The machines that an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// Such as `v8`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub variant: Option<String>,
}

// === impl Platform ===

impl Platform {
    /// What a mesh's machines are.
    #[must_use]
    pub fn amd64() -> Self {
        Self { architecture: "amd64".to_owned(), os: "linux".to_owned(), variant: None }
    }
}

/// A manifest that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its media type: what it says itself, else what its shape says.
    pub media_type: String,
    /// What it points to.
    pub content: Content,
    /// What it says something of: a signature has an image here.
    pub subject: Option<Descriptor>,
    /// What it is, if it is no image.
    pub artifact_type: Option<String>,
    /// What else it says of itself.
    pub annotations: BTreeMap<String, String>,
}

/// What a manifest points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// An image for one platform.
    Image {
        /// The configuration.
        config: Descriptor,
        /// The layers, lowest first.
        layers: Vec<Descriptor>,
    },
    /// The same image for several platforms.
    Index {
        /// One for each.
        manifests: Vec<Descriptor>,
    },
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Too large.
    #[error("the manifest has {0} bytes; {MAX_MANIFEST} are the most a registry takes")]
    TooLarge(u64),
    /// No JSON, or not of a manifest's form.
    #[error("no image manifest")]
    Json(#[source] serde_json::Error),
    /// Neither an image nor an index, or both at once [CVE-2021-41190].
    #[error("no image manifest: it has to have either `config` and `layers` or `manifests`")]
    Shape,
    /// Of another version, or says to be what it is not.
    #[error("a manifest of an unknown kind: `{0}`")]
    Kind(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

// === impl Manifest ===

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    ///
    /// [`ManifestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(ManifestError::TooLarge(bytes.len() as u64));
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        if raw.schema_version != 2 {
            return Err(ManifestError::Kind(format!("schemaVersion {}", raw.schema_version)));
        }
        let (content, allowed) = match (raw.config, raw.layers, raw.manifests) {
            (Some(config), Some(layers), None) => {
                (Content::Image { config, layers }, [OCI_MANIFEST, DOCKER_MANIFEST])
            }
            (None, None, Some(manifests)) => (Content::Index { manifests }, [OCI_INDEX, DOCKER_LIST]),
            _ => return Err(ManifestError::Shape),
        };
        let media_type = raw.media_type.unwrap_or_else(|| allowed[0].to_owned());
        if !allowed.contains(&media_type.as_str()) {
            return Err(ManifestError::Kind(media_type));
        }
        let (subject, artifact_type) = (raw.subject, raw.artifact_type);
        Ok(Self {
            media_type,
            content,
            subject,
            artifact_type,
            annotations: raw.annotations.unwrap_or_default(),
        })
    }

    /// Everything that it points to.
    #[must_use]
    pub fn children(&self) -> Vec<&Descriptor> {
        match &self.content {
            Content::Image { config, layers } => std::iter::once(config).chain(layers).collect(),
            Content::Index { manifests } => manifests.iter().collect(),
        }
    }
}

impl Descriptor {
    /// A descriptor without platform and annotations.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.into(), digest, size, platform: None, annotations: BTreeMap::new() }
    }
}
