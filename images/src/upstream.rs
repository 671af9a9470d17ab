//! A registry elsewhere, asked for what a mirror has not got yet; or neighbours that are nearer to it.
//!
//! It speaks as much of the pull half of the OCI distribution API as a mirror needs: manifests, blobs from any byte
//! on, and listings. What comes back is bounded, and a manifest is what its digest says; the bytes of a blob are proved by
//! who stores them. Clients of the mirror never appear there: it is asked with the site's own credentials.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Method, StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use crate::store::{Digest, MAX_MANIFEST, OCI_MANIFEST, RegistryName, Repository};

mod ask;
mod error;
mod incoming;
mod place;
mod tokens;
mod trail;

use ask::{Request, Source};
pub use error::UpstreamError;
pub(crate) use error::with_causes;
pub use incoming::Incoming;
use place::Place;
use tokens::Tokens;
pub use trail::Trail;

/// Blobs that are fetched from one registry at a time; it has other clients, and the uplink other uses.
const MAX_BLOBS: usize = 8;
/// Of neighbours more are wanted, for they wait for their turn themselves, and who waits here is not yet on the way.
const MAX_NEIGHBOUR_BLOBS: usize = 64;
/// How often a small request is made before its failure counts.
const ATTEMPTS: u32 = 3;
/// How long to wait after the first failure; twice as long after each further one.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// A registry that wants to be left alone for longer is not waited for: the client asks again.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// How long a small answer may take, with all attempts.
const SMALL_LIMIT: Duration = Duration::from_secs(60);
/// The registry whose name is not where it is, and whose repositories of one word have a folder of their own.
const DOCKER_IO: (&str, &str, &str) = ("docker.io", "https://registry-1.docker.io", "library");

/// Where a registry is, and what it is asked with.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// Whose images.
    pub registry: RegistryName,
    /// Where it is, if not at its name by HTTPS.
    pub endpoint: Option<Url>,
    /// Who asks; nobody in particular if there are none.
    pub credentials: Option<Credentials>,
}

/// A user of a registry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password, or a token in its place.
    pub password: String,
}

/// Mirrors on the way to a registry.
#[derive(Debug, Clone)]
pub struct Neighbours {
    /// What this mirror calls itself before them.
    pub name: String,
    /// Where they are, nearest first; the last one asks the registry itself.
    pub places: Vec<Url>,
}

/// A registry elsewhere. Clones share its tokens and its limits.
#[derive(Debug, Clone)]
pub struct Upstream {
    inner: Arc<Inner>,
    trail: Trail,
}

#[derive(Debug)]
struct Inner {
    registry: RegistryName,
    source: Source,
    client: Client,
    tokens: Tokens,
    blobs: Arc<Semaphore>,
}

/// A manifest as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// Its bytes.
    pub bytes: Bytes,
    /// Their kind, as the registry says.
    pub media_type: String,
    /// Their digest, which was computed here.
    pub digest: Digest,
}

// === impl Upstream ===

impl Upstream {
    /// The registry of a configuration.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Endpoint`]: its name is no host's.
    pub fn new(config: UpstreamConfig, client: Client) -> Result<Self, UpstreamError> {
        let UpstreamConfig { registry, endpoint, credentials } = config;
        let endpoint = match endpoint {
            Some(endpoint) => endpoint,
            None => {
                let text = match registry.as_str() {
                    name if name == DOCKER_IO.0 => DOCKER_IO.1.to_owned(),
                    name => format!("https://{name}"),
                };
                Url::parse(&text).map_err(|_| UpstreamError::Endpoint(text))?
            }
        };
        if endpoint.cannot_be_a_base() {
            return Err(UpstreamError::Endpoint(endpoint.into()));
        }
        Ok(Self::by(registry, Source::Registry(endpoint), client, credentials))
    }

    /// A registry's images, by way of neighbours.
    #[must_use]
    pub fn by_neighbours(registry: RegistryName, neighbours: &Neighbours, client: Client) -> Self {
        let Neighbours { name, places } = neighbours.clone();
        Self::by(registry, Source::Neighbours { name, places: Place::row(places) }, client, None)
    }

    fn by(registry: RegistryName, source: Source, client: Client, credentials: Option<Credentials>) -> Self {
        let tokens = Tokens::new(client.clone(), credentials);
        let limit = match &source {
            Source::Registry(_) => MAX_BLOBS,
            Source::Neighbours { .. } => MAX_NEIGHBOUR_BLOBS,
        };
        let blobs = Arc::new(Semaphore::new(limit));
        let inner = Arc::new(Inner { registry, source, client, tokens, blobs });
        Self { inner, trail: Trail::default() }
    }

    /// The same for somebody whose request was passed on until it came here.
    #[must_use]
    pub fn on_behalf_of(self, trail: &Trail) -> Self {
        Self { trail: trail.clone(), ..self }
    }

    /// Whose images it has.
    #[must_use]
    pub fn registry(&self) -> &RegistryName {
        &self.inner.registry
    }

    /// The digest that a tag has there now; none if the registry does not say, and the manifest has to be fetched.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`].
    pub async fn resolve(&self, repository: &Repository, tag: &str) -> Result<Option<Digest>, UpstreamError> {
        let path = ["manifests", tag];
        let request = Request { method: Method::HEAD, repository, path: &path, query: &[], from: 0 };
        let (head, _) = self.small(&request, 0).await?;
        let digest = head.get("docker-content-digest").and_then(|value| value.to_str().ok());
        Ok(digest.and_then(|digest| digest.parse().ok()))
    }

    /// A manifest, by its tag or its digest.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`]; a manifest that is not the one of its digest is one.
    pub async fn manifest(
        &self,
        repository: &Repository,
        reference: &str,
    ) -> Result<RawManifest, UpstreamError> {
        let path = ["manifests", reference];
        let request = Request { method: Method::GET, repository, path: &path, query: &[], from: 0 };
        let (head, bytes) = self.small(&request, MAX_MANIFEST).await?;
        let digest = Digest::of(&bytes);
        let expected = reference.parse().ok().filter(|expected| *expected != digest);
        if let Some(expected) = expected {
            return Err(UpstreamError::Mismatch { url: self.name(&request), expected, actual: digest });
        }
        let media_type = head.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        // Parameters are the transfer's and not the manifest's.
        let media_type = media_type.and_then(|text| text.split(';').next()).unwrap_or(OCI_MANIFEST).trim();
        Ok(RawManifest { media_type: media_type.to_owned(), bytes, digest })
    }

    /// A blob, from a byte on if the registry can do that. Waits as long as too many others are being fetched.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`], of one attempt: who stores the blob knows how far it came.
    pub async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: u64,
    ) -> Result<Incoming, UpstreamError> {
        let turn = Arc::clone(&self.inner.blobs).acquire_owned().await;
        let turn = turn.map_err(|_| UpstreamError::Closed)?;
        let digest = digest.to_string();
        let path = ["blobs", digest.as_str()];
        let request = Request { method: Method::GET, repository, path: &path, query: &[], from };
        Incoming::new(self.send(&request).await?, from, turn)
    }

    /// The tags of a repository, or what refers to a manifest: a listing as the registry gives it.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`].
    pub async fn listing(
        &self,
        repository: &Repository,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<(HeaderMap, Bytes), UpstreamError> {
        let request = Request { method: Method::GET, repository, path, query, from: 0 };
        self.small(&request, MAX_MANIFEST).await
    }

    /// A request whose answer is kept in memory, again if it may go better.
    async fn small(&self, request: &Request<'_>, limit: u64) -> Result<(HeaderMap, Bytes), UpstreamError> {
        let attempts = async {
            let mut failures = 0;
            loop {
                let error = match self.small_once(request, limit).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                failures += 1;
                let wait = error.wait().map(|wait| wait.max(FIRST_WAIT * 2_u32.pow(failures - 1)));
                match wait.filter(|wait| failures < ATTEMPTS && *wait <= MAX_WAIT) {
                    Some(wait) => {
                        debug!(%error, ?wait, "a request failed and will be made again");
                        tokio::time::sleep(wait).await;
                    }
                    None => return Err(error),
                }
            }
        };
        let late = |_| UpstreamError::Late { url: self.name(request), limit: SMALL_LIMIT };
        timeout(SMALL_LIMIT, attempts).await.map_err(late)?
    }

    async fn small_once(
        &self,
        request: &Request<'_>,
        limit: u64,
    ) -> Result<(HeaderMap, Bytes), UpstreamError> {
        let response = self.send(request).await?;
        if response.status() != StatusCode::OK {
            return Err(UpstreamError::refused(&response));
        }
        let head = response.headers().clone();
        if request.method == Method::HEAD {
            return Ok((head, Bytes::new()));
        }
        let url = response.url().clone();
        let mut bytes = BytesMut::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            bytes.extend_from_slice(&chunk.map_err(|source| UpstreamError::transfer(&url, source))?);
            if bytes.len() as u64 > limit {
                return Err(UpstreamError::TooLarge { url: url.into(), limit });
            }
        }
        Ok((head, bytes.freeze()))
    }
}

// === impl Credentials ===

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}
