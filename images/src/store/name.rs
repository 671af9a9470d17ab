//! Names of images: registry, repository, tag.
//!
//! The grammar is that of the OCI distribution specification (section "Pulling manifests"); no name that
//! parses holds `..`, an empty component or a leading `_`, so names can be paths below the store's `refs/`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Digest, digest::ParseDigestError};

/// The registry that a name without one means.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag that a name without one means.
pub const DEFAULT_TAG: &str = "latest";

/// The longest name, registry and repository together, that clients are sure to take.
const MAX_NAME: usize = 255;
/// The longest tag.
const MAX_TAG: usize = 128;

/// Registries known by several names: the first is the one that the store uses.
const ALIASES: [(&str, &[&str]); 2] =
    [("docker.io", &["index.docker.io", "registry-1.docker.io"]), ("registry.k8s.io", &["k8s.gcr.io"])];

/// A registry's host name, with a port if it has one: `docker.io`, `localhost:5000`, `[fd00::1]:5000`.
/// Aliases are resolved when it is parsed: `k8s.gcr.io` is `registry.k8s.io`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryName(Box<str>);

/// A repository's path below its registry: `library/busybox`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository(Box<str>);

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);

/// A tagged image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Where it comes from.
    pub registry: RegistryName,
    /// Its name there.
    pub repository: Repository,
    /// Which of them.
    pub tag: Tag,
}

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseNameError {
    /// No host name.
    #[error("`{0}` is no registry's host name")]
    Registry(String),
    /// No repository.
    #[error(
        "`{0}` is no repository: lower-case letters, digits and single separators (. _ __ -), joined by slashes"
    )]
    Repository(String),
    /// Too long.
    #[error("the name `{0}` is longer than 255 characters")]
    TooLong(String),
    /// No tag.
    #[error("`{0}` is no tag: up to 128 letters, digits and . _ -, not beginning with . or -")]
    Tag(String),
    /// A name by digest where a tag is needed.
    #[error("`{0}` names an image by its digest; a tag is needed here")]
    ByDigest(String),
    /// A bad digest.
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
}

// === impl RegistryName ===

impl RegistryName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it can be a name of the public DNS, and so nobody's own machine or address.
    #[must_use]
    pub fn is_public(&self) -> bool {
        let host = self.0.split(':').next().unwrap_or_default();
        let last = host.rsplit('.').next().unwrap_or_default();
        let own = ["local", "localhost", "internal", "lan", "home", "arpa"];
        host.contains('.') && !own.contains(&last) && !last.bytes().all(|byte| byte.is_ascii_digit())
    }
}

impl FromStr for RegistryName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        let bad = || ParseNameError::Registry(text.to_owned());
        if lower.len() > MAX_NAME {
            return Err(bad());
        }
        let (host, port) = match lower.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']').ok_or_else(bad)?;
                address.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
                (None, port)
            }
            None => match lower.split_once(':') {
                Some((host, _)) => (Some(host), &lower[host.len()..]),
                None => (Some(lower.as_str()), ""),
            },
        };
        if let Some(host) = host {
            let label = |label: &str| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            };
            if !host.split('.').all(label) {
                return Err(bad());
            }
        }
        if !port.is_empty() {
            let digits = port.strip_prefix(':').ok_or_else(bad)?;
            if !digits.bytes().all(|byte| byte.is_ascii_digit()) || digits.parse::<u16>().is_err() {
                return Err(bad());
            }
        }
        let name = ALIASES
            .iter()
            .find(|(_, aliases)| aliases.contains(&lower.as_str()))
            .map_or(lower.as_str(), |(name, _)| name);
        Ok(Self(name.into()))
    }
}

// === impl Repository ===

impl Repository {
    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Repository {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_NAME {
            return Err(ParseNameError::TooLong(text.to_owned()));
        }
        if text.split('/').all(is_component) {
            Ok(Self(text.into()))
        } else {
            Err(ParseNameError::Repository(text.to_owned()))
        }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    if !bytes.first().copied().is_some_and(word) || !bytes.last().copied().is_some_and(word) {
        return false;
    }
    bytes.split(|byte| word(*byte)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

// === impl Tag ===

impl Tag {
    /// The tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let other = |byte: u8| first(byte) || byte == b'.' || byte == b'-';
        let good = text.len() <= MAX_TAG
            && text.bytes().next().is_some_and(first)
            && text.bytes().skip(1).all(other);
        if good { Ok(Self(text.into())) } else { Err(ParseNameError::Tag(text.to_owned())) }
    }
}

// === impl Reference ===

impl Reference {
    /// The same repository, another tag.
    #[must_use]
    pub fn with_tag(&self, tag: Tag) -> Self {
        Self { tag, ..self.clone() }
    }
}

/// Parses a name as `docker pull` takes it: `busybox` is `docker.io/library/busybox:latest`.
impl FromStr for Reference {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((_, digest)) = text.split_once('@') {
            digest.parse::<Digest>()?;
            return Err(ParseNameError::ByDigest(text.to_owned()));
        }
        let (name, tag) = match text.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (text, DEFAULT_TAG),
        };
        let (registry, path) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
            _ => (DEFAULT_REGISTRY, name),
        };
        let registry: RegistryName = registry.parse()?;
        let repository: Repository = if registry.as_str() == DEFAULT_REGISTRY && !path.contains('/') {
            format!("library/{path}").parse()?
        } else {
            path.parse()?
        };
        if registry.as_str().len() + 1 + repository.as_str().len() > MAX_NAME {
            return Err(ParseNameError::TooLong(text.to_owned()));
        }
        Ok(Self { registry, repository, tag: tag.parse()? })
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
