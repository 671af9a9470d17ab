//! The push half of the OCI distribution API: blobs piece by piece, then the manifest that names them.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use super::answer::{Params, Shelf};
use super::error::Refusal;
use super::request::{ManifestRef, Wish};
use super::respond::CONTENT_DIGEST;
use super::uploads::Uploads;
use crate::pull::{GivenError, blocking};
use crate::store::{Digest, MAX_MANIFEST, Manifest, Reference, RegistryName, Repository};

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// What a client gives, and where to.
pub(super) struct Push<'a> {
    pub(super) shelf: &'a Shelf,
    pub(super) uploads: &'a Uploads,
    pub(super) registry: RegistryName,
    pub(super) params: &'a Params,
    pub(super) headers: &'a HeaderMap,
}

// === impl Push ===

impl Push<'_> {
    /// Answers whatever changes the store, and what is asked of uploads.
    pub(super) async fn answer(self, method: &Method, wish: Wish, body: Body) -> Result<Response, Refusal> {
        match (method, wish) {
            (&Method::POST, Wish::Upload(repository, None)) => self.begin(&repository, body).await,
            (&Method::GET, Wish::Upload(repository, Some(id))) => {
                let size = self.uploads.size(&repository, id).await?;
                Ok(progress(StatusCode::NO_CONTENT, &repository, id, size))
            }
            (&Method::PATCH, Wish::Upload(repository, Some(id))) => {
                let from = content_range(self.headers)?;
                let size = self.uploads.append(&repository, id, from, body).await?;
                Ok(progress(StatusCode::ACCEPTED, &repository, id, size))
            }
            (&Method::PUT, Wish::Upload(repository, Some(id))) => {
                let from = content_range(self.headers)?;
                self.uploads.append(&repository, id, from, body).await?;
                self.finish(&repository, id).await
            }
            (&Method::DELETE, Wish::Upload(repository, Some(id))) => {
                self.uploads.cancel(&repository, id)?;
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            (&Method::PUT, Wish::Manifest(repository, name)) => self.manifest(repository, name, body).await,
            (&Method::DELETE, Wish::Manifest(repository, name)) => self.forget(repository, name).await,
            _ => Err(Refusal::Unsupported),
        }
    }

    /// Begins an upload, or ends it at once: with a blob that is here, or with all of its bytes.
    async fn begin(&self, repository: &Repository, body: Body) -> Result<Response, Refusal> {
        if let Some(digest) = self.params.mount.as_deref().and_then(|text| text.parse::<Digest>().ok()) {
            let store = self.shelf.puller.store().clone();
            if blocking(move || store.contains(&digest)).await {
                return self.has(repository, &digest).await;
            }
        }
        let id = self.uploads.begin(repository).await?;
        if self.params.digest.is_none() {
            return Ok(progress(StatusCode::ACCEPTED, repository, id, 0));
        }
        self.uploads.append(repository, id, None, body).await?;
        self.finish(repository, id).await
    }

    async fn finish(&self, repository: &Repository, id: Uuid) -> Result<Response, Refusal> {
        let digest = self.params.digest.as_deref();
        let digest = digest.ok_or_else(|| Refusal::DigestInvalid("which digest has it?".to_owned()))?;
        let digest = digest.parse().map_err(|error| Refusal::DigestInvalid(format!("{error}")))?;
        self.uploads.finish(repository, id, digest).await?;
        self.has(repository, &digest).await
    }

    /// A repository has a blob from now on: docker asks for it before it sends the manifest.
    async fn has(&self, repository: &Repository, digest: &Digest) -> Result<Response, Refusal> {
        let store = self.shelf.puller.store().clone();
        let (registry, begun) = (self.registry.clone(), repository.clone());
        blocking(move || store.begin_repository(&registry, &begun)).await?;
        Ok(created(&format!("/v2/{repository}/blobs/{digest}"), digest))
    }

    async fn manifest(
        &self,
        repository: Repository,
        name: ManifestRef,
        body: Body,
    ) -> Result<Response, Refusal> {
        let limit = usize::try_from(MAX_MANIFEST).unwrap_or(usize::MAX);
        let bytes = to_bytes(body, limit).await.map_err(|error| Refusal::ManifestBody(error.to_string()))?;
        let subject = Manifest::parse(&bytes).ok().and_then(|manifest| manifest.subject);
        let tag = match name {
            ManifestRef::Tag(tag) => Some(tag),
            ManifestRef::Digest(expected) => {
                let actual = Digest::of(&bytes);
                if actual != expected {
                    return Err(GivenError::Digest { expected, actual }.into());
                }
                None
            }
        };
        let said = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let said = said.map(|text| text.split(';').next().unwrap_or_default().trim().to_owned());
        let (puller, registry) = (self.shelf.puller.clone(), self.registry.clone());
        let (name, kept) = (tag.clone(), repository.clone());
        let held =
            blocking(move || puller.take_manifest(&registry, &kept, name.as_ref(), said.as_deref(), &bytes));
        let digest = held.await?.digest;
        let (registry, tag) = (self.registry.as_str(), tag.map(|tag| tag.to_string()));
        tracing::info!(registry, %repository, tag, %digest, "an image was pushed");
        let mut response = created(&format!("/v2/{repository}/manifests/{digest}"), &digest);
        let subject = subject.and_then(|subject| HeaderValue::from_str(&subject.digest.to_string()).ok());
        response.headers_mut().extend(subject.map(|subject| (SUBJECT, subject)));
        Ok(response)
    }

    async fn forget(&self, repository: Repository, name: ManifestRef) -> Result<Response, Refusal> {
        let (puller, registry) = (self.shelf.puller.clone(), self.registry.clone());
        let what = format!("{registry}/{repository} has nothing of this name");
        let was = match name {
            ManifestRef::Tag(tag) => {
                let reference = Reference { registry, repository, tag };
                blocking(move || puller.forget_tag(&reference)).await?
            }
            ManifestRef::Digest(digest) => {
                blocking(move || puller.forget_manifest(&registry, &repository, &digest)).await?
            }
        };
        if was { Ok(StatusCode::ACCEPTED.into_response()) } else { Err(Refusal::ManifestUnknown(what)) }
    }
}

fn created(location: &str, digest: &Digest) -> Response {
    let mut response = StatusCode::CREATED.into_response();
    let fields = [(header::LOCATION, location.to_owned()), (CONTENT_DIGEST, digest.to_string())];
    put(response.headers_mut(), fields);
    response
}

/// How far an upload is.
fn progress(status: StatusCode, repository: &Repository, id: Uuid, size: u64) -> Response {
    let mut response = status.into_response();
    let fields = [
        (header::LOCATION, format!("/v2/{repository}/blobs/uploads/{id}")),
        // Of nothing too it names a first octet: the specification has no other form.
        (header::RANGE, format!("0-{}", size.saturating_sub(1))),
        (UPLOAD_ID, id.to_string()),
    ];
    put(response.headers_mut(), fields);
    response
}

fn put(headers: &mut HeaderMap, fields: impl IntoIterator<Item = (HeaderName, String)>) {
    let ascii = |(name, text): (HeaderName, String)| Some((name, HeaderValue::from_str(&text).ok()?));
    headers.extend(fields.into_iter().filter_map(ascii));
}

/// Where a piece begins, if the client says it: `Content-Range: <from>-<to>`, without the `bytes` of RFC 9110.
fn content_range(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let from = text.trim_start_matches("bytes ").split('-').next().and_then(|from| from.parse().ok());
    from.map(Some).ok_or_else(|| Refusal::UploadBroken(format!("`{text}` is no Content-Range")))
}
