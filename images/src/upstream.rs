//! A registry elsewhere, asked for what a mirror has not got yet.
//!
//! It speaks as much of the pull half of the OCI distribution API as a mirror needs: manifests, blobs from any byte
//! on, and listings. What comes back is bounded, and a manifest is what its digest says; the bytes of a blob are proved by
//! who stores them. Clients of the mirror never appear there: it is asked with the site's own credentials.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, RANGE, WWW_AUTHENTICATE,
};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::{debug, info};

use crate::client::content_range;
use crate::store::{
    DOCKER_LIST, DOCKER_MANIFEST, Digest, MAX_MANIFEST, OCI_INDEX, OCI_MANIFEST, RegistryName, Repository,
};

mod error;
mod tokens;

pub use error::UpstreamError;
use tokens::{Authorization, Tokens};

/// Blobs that are fetched from one registry at a time; it has other clients, and the uplink other uses.
const MAX_BLOBS: usize = 8;
/// How often a small request is made before its failure counts.
const ATTEMPTS: u32 = 3;
/// How long to wait after the first failure; twice as long after each further one.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// A registry that wants to be left alone for longer is not waited for: the client asks again.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// How long a small answer may take, with all attempts.
const SMALL_LIMIT: Duration = Duration::from_secs(60);
/// The media types of manifests; what else there is, is taken too.
const MANIFESTS: [&str; 5] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, "*/*"];
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

/// A registry elsewhere. Clones share its tokens and its limits.
#[derive(Debug, Clone)]
pub struct Upstream {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: RegistryName,
    endpoint: Url,
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

/// A blob that comes.
#[derive(Debug)]
pub struct Incoming {
    /// Where in the blob the answer begins: at the byte that was asked for, or at the first one.
    pub start: u64,
    /// The whole blob's length, if the registry says.
    pub size: Option<u64>,
    response: Response,
    failure: Option<UpstreamError>,
    _turn: OwnedSemaphorePermit,
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
        let tokens = Tokens::new(client.clone(), credentials);
        let blobs = Arc::new(Semaphore::new(MAX_BLOBS));
        Ok(Self { inner: Arc::new(Inner { registry, endpoint, client, tokens, blobs }) })
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
        let url = self.url(repository, &["manifests", tag])?;
        let (head, _) = self.small(Method::HEAD, &url, repository, 0).await?;
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
        let url = self.url(repository, &["manifests", reference])?;
        let (head, bytes) = self.small(Method::GET, &url, repository, MAX_MANIFEST).await?;
        let digest = Digest::of(&bytes);
        let expected = reference.parse().ok().filter(|expected| *expected != digest);
        if let Some(expected) = expected {
            return Err(UpstreamError::Mismatch { url: url.into(), expected, actual: digest });
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
        let url = self.url(repository, &["blobs", &digest.to_string()])?;
        let turn = Arc::clone(&self.inner.blobs).acquire_owned().await;
        let turn = turn.map_err(|_| UpstreamError::Closed)?;
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let build = || {
            let request = self.inner.client.get(url.clone());
            match &range {
                Some(range) => request.header(RANGE, range),
                None => request,
            }
        };
        let response = self.send(&build, repository).await?;
        match response.status() {
            StatusCode::OK => {
                let size = length(&response);
                Ok(Incoming { start: 0, size, response, failure: None, _turn: turn })
            }
            StatusCode::PARTIAL_CONTENT => {
                let part = content_range(&response).filter(|(start, _)| *start == from);
                let (start, size) = part.ok_or_else(|| UpstreamError::WrongPart { url: url.into(), from })?;
                Ok(Incoming { start, size, response, failure: None, _turn: turn })
            }
            _ => Err(UpstreamError::refused(&url, &response)),
        }
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
        let mut url = self.url(repository, path)?;
        url.query_pairs_mut().extend_pairs(query);
        self.small(Method::GET, &url, repository, MAX_MANIFEST).await
    }

    /// A request whose answer is kept in memory, again if it may go better.
    async fn small(
        &self,
        method: Method,
        url: &Url,
        repository: &Repository,
        limit: u64,
    ) -> Result<(HeaderMap, Bytes), UpstreamError> {
        let attempts = async {
            let mut failures = 0;
            loop {
                let error = match self.small_once(&method, url, repository, limit).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                failures += 1;
                let wait = error.wait().map(|wait| wait.max(FIRST_WAIT * 2_u32.pow(failures - 1)));
                match wait.filter(|wait| failures < ATTEMPTS && *wait <= MAX_WAIT) {
                    Some(wait) => {
                        debug!(%url, %error, ?wait, "a request failed and will be made again");
                        tokio::time::sleep(wait).await;
                    }
                    None => return Err(error),
                }
            }
        };
        let late = |_| UpstreamError::Late { url: url.to_string(), limit: SMALL_LIMIT };
        timeout(SMALL_LIMIT, attempts).await.map_err(late)?
    }

    async fn small_once(
        &self,
        method: &Method,
        url: &Url,
        repository: &Repository,
        limit: u64,
    ) -> Result<(HeaderMap, Bytes), UpstreamError> {
        let build = || {
            let mut request = self.inner.client.request(method.clone(), url.clone());
            for kind in MANIFESTS {
                request = request.header(ACCEPT, kind);
            }
            request
        };
        let response = self.send(&build, repository).await?;
        if response.status() != StatusCode::OK {
            return Err(UpstreamError::refused(url, &response));
        }
        let head = response.headers().clone();
        if method == Method::HEAD {
            return Ok((head, Bytes::new()));
        }
        let mut bytes = BytesMut::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            bytes.extend_from_slice(&chunk.map_err(|source| UpstreamError::transfer(url, source))?);
            if bytes.len() as u64 > limit {
                return Err(UpstreamError::TooLarge { url: url.to_string(), limit });
            }
        }
        Ok((head, bytes.freeze()))
    }

    /// Sends a request, with the authorization that is known for the repository, or else with what the registry then
    /// asks for.
    async fn send(
        &self,
        build: &(dyn Fn() -> RequestBuilder + Sync),
        repository: &Repository,
    ) -> Result<Response, UpstreamError> {
        let scope = format!("repository:{}:pull", self.path(repository));
        let known = self.inner.tokens.known(&scope);
        let response = self.attempt(build, known.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let url = response.url().clone();
        let challenges: Vec<String> = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| Some(value.to_str().ok()?.to_owned()))
            .collect();
        info!(registry = self.registry().as_str(), scope, "a registry wants to know who asks");
        let fresh = self.inner.tokens.obtain(&url, &challenges, &scope).await?;
        self.attempt(build, Some(&fresh)).await
    }

    async fn attempt(
        &self,
        build: &(dyn Fn() -> RequestBuilder + Sync),
        authorization: Option<&Authorization>,
    ) -> Result<Response, UpstreamError> {
        let mut request = build();
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization.header());
        }
        request.send().await.map_err(|source| UpstreamError::transfer(&self.inner.endpoint, source))
    }

    fn url(&self, repository: &Repository, rest: &[&str]) -> Result<Url, UpstreamError> {
        let mut url = self.inner.endpoint.clone();
        let bad = || UpstreamError::Endpoint(self.inner.endpoint.to_string());
        url.path_segments_mut()
            .map_err(|()| bad())?
            .pop_if_empty()
            .push("v2")
            .extend(self.path(repository).split('/'))
            .extend(rest);
        Ok(url)
    }

    /// The repository's path there.
    fn path(&self, repository: &Repository) -> String {
        let (registry, _, folder) = DOCKER_IO;
        let path = repository.as_str();
        if self.registry().as_str() == registry && !path.contains('/') {
            return format!("{folder}/{path}");
        }
        path.to_owned()
    }
}

// === impl Incoming ===

impl Incoming {
    /// The next bytes; none at the end of what the registry sends.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Transfer`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let url = self.response.url().clone();
        self.response.chunk().await.map_err(|source| UpstreamError::transfer(&url, source))
    }

    /// What went wrong is to be told the next time.
    pub(crate) fn put_back(&mut self, failure: UpstreamError) {
        self.failure = Some(failure);
    }
}

// === impl Credentials ===

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What the registry says, and not what is left to come.
fn length(response: &Response) -> Option<u64> {
    let value = response.headers().get(CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}
