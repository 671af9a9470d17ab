//! The answers: bytes from the store, as they are stored.

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::json;
use std::{
    io::{Seek, SeekFrom},
    sync::Arc,
};
use tokio::{
    io::AsyncReadExt,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::io::ReaderStream;
use tracing::{debug, warn};

use crate::store::{
    Blob, Digest, MAX_MANIFEST, Manifest, OCI_INDEX, Reference, RegistryName, Repository, Store,
};

use super::{
    error::Refusal,
    range::{self, Wanted},
    request::{ManifestRef, Wish, page},
};

/// What is read from disk at once: few calls …
const LARGE: usize = 256 * 1024;
/// … for so many transfers at a time …
const LARGE_TRANSFERS: usize = 24;
/// … and small pieces for those beyond, so that hundreds of clients, slow ones too, fit into a node's memory.
const SMALL: usize = 32 * 1024;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

/// Hands out the large buffers.
#[derive(Debug, Clone)]
pub(super) struct Buffers(Arc<Semaphore>);

#[derive(Debug, Clone)]
struct Shelf {
    store: Store,
    registry: Option<RegistryName>,
    buffers: Buffers,
}

#[derive(Debug, Deserialize)]
struct Params {
    ns: Option<String>,
    n: Option<String>,
    last: Option<String>,
}

/// The registry as a service: for those who have sockets of their own.
pub fn router(store: Store, registry: Option<RegistryName>) -> Router {
    shared_router(store, registry, Buffers::default())
}

/// One of several services that share buffers.
pub(super) fn shared_router(store: Store, registry: Option<RegistryName>, buffers: Buffers) -> Router {
    Router::new()
        .route("/v2", any(base))
        .route("/v2/", any(base))
        .route("/v2/{*path}", any(answer))
        .fallback(|| async { Refusal::NoSuchPath })
        .with_state(Shelf { store, registry, buffers })
}

async fn base(method: Method) -> Response {
    if !matches!(method, Method::GET | Method::HEAD) {
        return Refusal::Unsupported.into_response();
    }
    let version = (API_VERSION, HeaderValue::from_static("registry/2.0"));
    ([version], Json(json!({}))).into_response()
}

async fn answer(
    State(shelf): State<Shelf>,
    method: Method,
    Path(path): Path<String>,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Response {
    if !matches!(method, Method::GET | Method::HEAD) {
        return Refusal::Unsupported.into_response();
    }
    let head = method == Method::HEAD;
    let registry = match shelf.registry(params.ns.as_deref()) {
        Ok(registry) => registry,
        Err(refusal) => return refusal.into_response(),
    };
    // Looking things up are a few short calls to the file system; only bodies are streamed.
    let namespace = params.ns.as_ref().and_then(|ns| HeaderValue::from_str(ns).ok());
    let buffers = shelf.buffers.clone();
    let work = tokio::task::spawn_blocking(move || shelf.look_up(&registry, &path, &params, &headers));
    let found = match work.await {
        Ok(Ok(found)) => found,
        Ok(Err(refusal)) => return refusal.into_response(),
        Err(error) => {
            warn!(%error, "a look-up died");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let mut response = found.into_response(head, &buffers);
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.extend(namespace.map(|namespace| (NAMESPACE, namespace)));
    response
}

/// What a look-up came to.
enum Found {
    Listing { body: serde_json::Value, media_type: HeaderValue, next: Option<String> },
    Manifest { bytes: Vec<u8>, media_type: HeaderValue, digest: Digest },
    Blob { blob: Blob, digest: Digest, wanted: Wanted },
}

// === impl Shelf ===

impl Shelf {
    /// Whose images are asked for. All of them are in the store: no name makes this registry ask elsewhere.
    fn registry(&self, ns: Option<&str>) -> Result<RegistryName, Refusal> {
        match ns {
            Some(ns) => ns.parse().map_err(|error| Refusal::NameInvalid(format!("{error}"))),
            None => self.registry.clone().ok_or_else(|| {
                Refusal::NameUnknown("whose image? This mirror needs `?ns=<registry>`".to_owned())
            }),
        }
    }

    fn look_up(
        &self,
        registry: &RegistryName,
        path: &str,
        params: &Params,
        headers: &HeaderMap,
    ) -> Result<Found, Refusal> {
        let json = HeaderValue::from_static("application/json");
        match Wish::parse(path)? {
            Wish::Base => Ok(Found::Listing { body: json!({}), media_type: json, next: None }),
            Wish::Catalog => {
                let all =
                    self.store.repositories(registry)?.iter().map(ToString::to_string).collect::<Vec<_>>();
                let (names, more) = page(&all, params.n.as_deref(), params.last.as_deref())?;
                let next = next_page("/v2/_catalog", params, names, more);
                Ok(Found::Listing { body: json!({ "repositories": names }), media_type: json, next })
            }
            Wish::Tags(repository) => {
                self.know(registry, &repository)?;
                let all = self
                    .store
                    .tags(registry, &repository)?
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>();
                let (names, more) = page(&all, params.n.as_deref(), params.last.as_deref())?;
                let next = next_page(&format!("/v2/{repository}/tags/list"), params, names, more);
                let body = json!({ "name": repository.as_str(), "tags": names });
                Ok(Found::Listing { body, media_type: json, next })
            }
            Wish::Manifest(repository, reference) => self.manifest(registry, &repository, &reference),
            Wish::Blob(repository, digest) => {
                self.know(registry, &repository)?;
                let blob = self
                    .store
                    .blob(&digest)?
                    .ok_or_else(|| Refusal::BlobUnknown(format!("{digest} is not in the store")))?;
                let wanted = wanted(headers, &digest, blob.size);
                if wanted == Wanted::Unsatisfiable {
                    return Err(Refusal::RangeInvalid { size: blob.size });
                }
                Ok(Found::Blob { blob, digest, wanted })
            }
            Wish::Referrers(repository, _) => {
                self.know(registry, &repository)?;
                let body = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
                Ok(Found::Listing { body, media_type: HeaderValue::from_static(OCI_INDEX), next: None })
            }
        }
    }

    fn know(&self, registry: &RegistryName, repository: &Repository) -> Result<(), Refusal> {
        if self.store.knows(registry, repository) {
            return Ok(());
        }
        Err(Refusal::NameUnknown(format!("nothing of {registry}/{repository} is in the store")))
    }

    fn manifest(
        &self,
        registry: &RegistryName,
        repository: &Repository,
        reference: &ManifestRef,
    ) -> Result<Found, Refusal> {
        let unknown = |what: String| Refusal::ManifestUnknown(format!("{what} is not in the store"));
        let digest = match reference {
            ManifestRef::Tag(tag) => {
                let (registry, repository) = (registry.clone(), repository.clone());
                let reference = Reference { registry, repository, tag: tag.clone() };
                let target = self.store.resolve(&reference)?;
                target.ok_or_else(|| unknown(reference.to_string()))?.digest
            }
            ManifestRef::Digest(digest) => {
                self.know(registry, repository)?;
                *digest
            }
        };
        // A blob larger than any manifest is none.
        let small = self.store.blob(&digest)?.is_some_and(|blob| blob.size <= MAX_MANIFEST);
        let bytes = if small { self.store.read(&digest, MAX_MANIFEST)? } else { None };
        let bytes = bytes.ok_or_else(|| unknown(format!("the manifest {digest}")))?;
        let manifest = Manifest::parse(&bytes).map_err(|error| {
            debug!(%digest, %error, "a blob that is no manifest was asked for as one");
            unknown(format!("the manifest {digest}"))
        })?;
        let media_type = HeaderValue::from_str(&manifest.media_type)
            .map_err(|_| unknown(format!("the manifest {digest}")))?;
        Ok(Found::Manifest { bytes, media_type, digest })
    }
}

// === impl Buffers ===

impl Default for Buffers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_TRANSFERS)))
    }
}

impl Buffers {
    /// The size of a transfer's buffers, and the permit for large ones.
    fn get(&self) -> (usize, Option<OwnedSemaphorePermit>) {
        match Arc::clone(&self.0).try_acquire_owned() {
            Ok(permit) => (LARGE, Some(permit)),
            Err(_) => (SMALL, None),
        }
    }
}

/// The part of a blob that a request is for. A resumed download names what it resumes by `If-Range`.
fn wanted(headers: &HeaderMap, digest: &Digest, size: u64) -> Wanted {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match (text(header::RANGE), text(header::IF_RANGE)) {
        (Some(_), Some(tag)) if tag != entity_tag(digest) => Wanted::Whole,
        (Some(range), _) => range::parse(range, size),
        (None, _) => Wanted::Whole,
    }
}

fn entity_tag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// The `Link` header's value, if more follows.
fn next_page(path: &str, params: &Params, names: &[String], more: bool) -> Option<String> {
    let last = names.last().filter(|_| more)?;
    let n = params.n.as_deref().unwrap_or("1000");
    let ns = params.ns.as_ref().map_or_else(String::new, |ns| format!("&ns={ns}"));
    Some(format!("<{path}?n={n}&last={last}{ns}>; rel=\"next\""))
}

// === impl Found ===

impl Found {
    /// A HEAD is answered as a GET is, without the body.
    fn into_response(self, head: bool, buffers: &Buffers) -> Response {
        match self {
            Self::Listing { body, media_type, next } => {
                let mut response = Json(body).into_response();
                response.headers_mut().insert(header::CONTENT_TYPE, media_type);
                let next = next.and_then(|next| HeaderValue::from_str(&next).ok());
                response.headers_mut().extend(next.map(|next| (header::LINK, next)));
                response
            }
            Self::Manifest { bytes, media_type, digest } => {
                let size = bytes.len() as u64;
                let body = if head { Body::empty() } else { Body::from(bytes) };
                respond(StatusCode::OK, body, size, media_type, &digest)
            }
            Self::Blob { blob, digest, wanted } => blob_response(blob, &digest, &wanted, head, buffers),
        }
    }
}

fn blob_response(blob: Blob, digest: &Digest, wanted: &Wanted, head: bool, buffers: &Buffers) -> Response {
    let Blob { mut file, size, .. } = blob;
    let media_type = HeaderValue::from_static("application/octet-stream");
    // `Range` means something with GET only [RFC 9110 § 14.2].
    let part = match wanted {
        Wanted::Part(part) if !head => Some(part.clone()),
        Wanted::Part(_) | Wanted::Whole | Wanted::Unsatisfiable => None,
    };
    let (start, length) =
        part.as_ref().map_or((0, size), |part| (*part.start(), part.end() - part.start() + 1));
    let body = if head {
        Body::empty()
    } else {
        if let Err(error) = file.seek(SeekFrom::Start(start)) {
            warn!(%digest, %error, "cannot read a blob");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        let (chunk, permit) = buffers.get();
        let mut file = tokio::fs::File::from_std(file);
        file.set_max_buf_size(chunk);
        let chunks = ReaderStream::with_capacity(file.take(length), chunk);
        // The permit goes with the last chunk, or with the client.
        Body::from_stream(chunks.inspect(move |_| _ = &permit))
    };
    let status = if part.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut response = respond(status, body, length, media_type, digest);
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(part) = part {
        let value = format!("bytes {}-{}/{size}", part.start(), part.end());
        headers.extend(HeaderValue::from_str(&value).map(|value| (header::CONTENT_RANGE, value)));
    }
    response
}

fn respond(
    status: StatusCode,
    body: Body,
    length: u64,
    media_type: HeaderValue,
    digest: &Digest,
) -> Response {
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, media_type);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let ascii = |text: String| HeaderValue::from_str(&text).ok();
    headers.extend(ascii(digest.to_string()).map(|value| (CONTENT_DIGEST, value)));
    headers.extend(ascii(entity_tag(digest)).map(|value| (header::ETAG, value)));
    response
}
