//! The answers: bytes from the store as they are stored, and those that are on their way to it as they come.

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    response::{IntoResponse, Response},
    routing::any,
};
use serde::Deserialize;
use serde_json::json;
use tracing::debug;

use crate::pull::{self, PullError, Puller};
use crate::store::{
    Content, Descriptor, Digest, Manifest, OCI_INDEX, Reference, RegistryName, Repository, Store, StoreError,
};
use crate::upstream::Trail;

use super::{
    error::Refusal,
    push::Push,
    range::{self, Wanted},
    request::{ManifestRef, Wish, page},
    respond::{FILTERS, Found, entity_tag},
    uploads::Uploads,
};

const JSON: &str = "application/json";

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

#[derive(Debug, Clone)]
pub(super) struct Shelf {
    pub(super) puller: Puller,
    pub(super) registry: Option<RegistryName>,
    /// None where nothing is taken.
    pub(super) uploads: Option<Uploads>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Params {
    ns: Option<String>,
    n: Option<String>,
    last: Option<String>,
    artifact_type: Option<String>,
    /// Of the blob that is pushed.
    pub(super) digest: Option<String>,
    /// Of a blob of another repository.
    pub(super) mount: Option<String>,
}

/// The registry as a service: for those who have sockets of their own.
pub fn router(puller: Puller, registry: Option<RegistryName>) -> Router {
    shelf_router(Shelf { puller, registry, uploads: None })
}

/// The registry of a shelf.
pub(super) fn shelf_router(shelf: Shelf) -> Router {
    Router::new()
        .route("/v2", any(base))
        .route("/v2/", any(base))
        .route("/v2/{*path}", any(answer))
        .fallback(|| async { Refusal::NoSuchPath })
        .with_state(shelf)
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
    body: Body,
) -> Response {
    let head = method == Method::HEAD;
    let asked = shelf.registry(params.ns.as_deref()).and_then(|registry| Ok((registry, Wish::parse(&path)?)));
    let (registry, wish) = match asked {
        Ok(asked) => asked,
        Err(refusal) => return refusal.into_response(),
    };
    if !matches!(method, Method::GET | Method::HEAD) || matches!(wish, Wish::Upload(..)) {
        let Some(uploads) = &shelf.uploads else { return Refusal::Unsupported.into_response() };
        let push = Push { shelf: &shelf, uploads, registry, params: &params, headers: &headers };
        let answered = push.answer(&method, wish, body).await;
        return answered.unwrap_or_else(IntoResponse::into_response);
    }
    let shelf = Shelf { puller: shelf.puller.on_behalf_of(Trail::of(&headers)), ..shelf };
    let namespace = params.ns.as_ref().and_then(|ns| HeaderValue::from_str(ns).ok());
    let found = match shelf.look_up(&registry, wish, &params, &headers).await {
        Ok(found) => found,
        Err(refusal) => return refusal.into_response(),
    };
    let mut response = found.into_response(head);
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.extend(namespace.map(|namespace| (NAMESPACE, namespace)));
    response
}

// === impl Shelf ===

impl Shelf {
    /// Whose images are asked for.
    fn registry(&self, ns: Option<&str>) -> Result<RegistryName, Refusal> {
        match ns {
            Some(ns) => ns.parse().map_err(|error| Refusal::NameInvalid(format!("{error}"))),
            None => self.registry.clone().ok_or_else(|| {
                Refusal::NameUnknown("whose image? This mirror needs `?ns=<registry>`".to_owned())
            }),
        }
    }

    async fn look_up(
        &self,
        registry: &RegistryName,
        wish: Wish,
        params: &Params,
        headers: &HeaderMap,
    ) -> Result<Found, Refusal> {
        match wish {
            Wish::Upload(..) => Err(Refusal::Unsupported),
            Wish::Base => Ok(listed(&json!({}), JSON, None)),
            Wish::Catalog => self.catalog(registry, params).await,
            Wish::Tags(repository) => self.tags(registry, &repository, params).await,
            Wish::Manifest(repository, ManifestRef::Digest(digest)) => {
                let held = self.puller.manifest(registry, &repository, &digest).await;
                let refused = |error| self.refusal(registry, &repository, error, Refusal::ManifestUnknown);
                held.map(Found::Manifest).map_err(refused)
            }
            Wish::Manifest(repository, ManifestRef::Tag(tag)) => {
                let reference = Reference { registry: registry.clone(), repository: repository.clone(), tag };
                let held = self.puller.tagged(&reference).await;
                held.map(Found::Manifest).map_err(|error| refusal(error, Refusal::ManifestUnknown))
            }
            Wish::Blob(repository, digest) => self.blob(registry, &repository, digest, headers).await,
            Wish::Referrers(repository, digest) => {
                self.referrers(registry, &repository, digest, params).await
            }
        }
    }

    async fn catalog(&self, registry: &RegistryName, params: &Params) -> Result<Found, Refusal> {
        let registry = registry.clone();
        let all = self.ask_store(move |store| store.repositories(&registry)).await?;
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        let (names, more) = page(&all, params.n.as_deref(), params.last.as_deref())?;
        let next = next_page("/v2/_catalog", params, names, more);
        Ok(listed(&json!({ "repositories": names }), JSON, next))
    }

    /// What the registry says, and if it says nothing, what is here.
    async fn tags(
        &self,
        registry: &RegistryName,
        repository: &Repository,
        params: &Params,
    ) -> Result<Found, Refusal> {
        let query = [("n", params.n.as_deref()), ("last", params.last.as_deref())];
        let query: Vec<(&str, &str)> =
            query.iter().filter_map(|(name, value)| Some((*name, (*value)?))).collect();
        if let Some(found) = self.elsewhere(registry, repository, &["tags", "list"], &query).await {
            return Ok(found);
        }
        self.know(registry, repository)?;
        let names = (registry.clone(), repository.clone());
        let all = self.ask_store(move |store| store.tags(&names.0, &names.1)).await?;
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        let (names, more) = page(&all, params.n.as_deref(), params.last.as_deref())?;
        let next = next_page(&format!("/v2/{repository}/tags/list"), params, names, more);
        Ok(listed(&json!({ "name": repository.as_str(), "tags": names }), JSON, next))
    }

    /// What the registry says, and if it says nothing, what is here.
    async fn referrers(
        &self,
        registry: &RegistryName,
        repository: &Repository,
        digest: Digest,
        params: &Params,
    ) -> Result<Found, Refusal> {
        let path = ["referrers", &digest.to_string()];
        let query: Vec<(&str, &str)> =
            params.artifact_type.iter().map(|kind| ("artifactType", kind.as_str())).collect();
        if let Some(found) = self.elsewhere(registry, repository, &path, &query).await {
            return Ok(found);
        }
        self.know(registry, repository)?;
        let names = (registry.clone(), repository.clone());
        let all = self.ask_store(move |store| store.parsed_manifests(&names.0, &names.1)).await?;
        let about = all.into_iter().filter(|(_, manifest)| {
            manifest.subject.as_ref().is_some_and(|subject| subject.digest == digest)
        });
        let listed_as = about.map(|(target, manifest)| referrer(&target, manifest));
        let wanted = params.artifact_type.as_deref();
        let found: Vec<_> =
            listed_as.filter(|one| wanted.is_none_or(|kind| one["artifactType"] == kind)).collect();
        let body = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found });
        let filter = wanted.map(|_| HeaderValue::from_static("artifactType"));
        let media_type = HeaderValue::from_static(OCI_INDEX);
        Ok(Found::Listing { body: body.to_string().into(), media_type, next: None, filter })
    }

    /// A listing as the registry gives it.
    async fn elsewhere(
        &self,
        registry: &RegistryName,
        repository: &Repository,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Option<Found> {
        match self.puller.listing(registry, repository, path, query).await {
            Ok(Some((head, body))) => {
                let media_type = head.get(header::CONTENT_TYPE).cloned();
                let media_type = media_type.unwrap_or_else(|| HeaderValue::from_static(JSON));
                // The registry names itself in it, if it names anybody.
                let next = head.get(header::LINK).and_then(|next| next.to_str().ok());
                let next = next.filter(|next| next.starts_with("</v2/")).map(ToOwned::to_owned);
                Some(Found::Listing { body, media_type, next, filter: head.get(FILTERS).cloned() })
            }
            Ok(None) => None,
            Err(error) => {
                debug!(registry = registry.as_str(), %repository, %error, "a listing comes from the store");
                None
            }
        }
    }

    async fn blob(
        &self,
        registry: &RegistryName,
        repository: &Repository,
        digest: Digest,
        headers: &HeaderMap,
    ) -> Result<Found, Refusal> {
        let unsatisfiable = |wanted: &Wanted, size| match wanted {
            Wanted::Unsatisfiable => Err(Refusal::RangeInvalid { size }),
            Wanted::Whole | Wanted::Part(_) => Ok(()),
        };
        let found = self.puller.blob(registry, repository, &digest).await;
        match found.map_err(|error| self.refusal(registry, repository, error, Refusal::BlobUnknown))? {
            pull::Found::Stored(blob) => {
                let wanted = wanted(headers, &digest, blob.size);
                unsatisfiable(&wanted, blob.size)?;
                Ok(Found::Blob { blob, digest, wanted })
            }
            pull::Found::Coming(flight, size) => {
                // Of what is not known to have an end, no part is cut out.
                let wanted = size.map_or(Wanted::Whole, |size| wanted(headers, &digest, size));
                unsatisfiable(&wanted, size.unwrap_or_default())?;
                Ok(Found::Coming { flight, size, digest, wanted })
            }
        }
    }

    fn know(&self, registry: &RegistryName, repository: &Repository) -> Result<(), Refusal> {
        if self.puller.store().knows(registry, repository) {
            return Ok(());
        }
        Err(Refusal::NameUnknown(format!("nothing of {registry}/{repository} is in the store")))
    }

    /// What is named by a digest is asked of a repository, which may be unknown as well.
    fn refusal(
        &self,
        registry: &RegistryName,
        repository: &Repository,
        error: PullError,
        unknown: impl FnOnce(String) -> Refusal,
    ) -> Refusal {
        match (&error, self.know(registry, repository)) {
            (PullError::Absent(_), Err(unknown)) => unknown,
            _ => refusal(error, unknown),
        }
    }

    /// A few short calls to the file system.
    async fn ask_store<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let store = self.puller.store().clone();
        Ok(pull::blocking(move || ask(&store)).await?)
    }
}

/// How a manifest is listed that says something of another one.
fn referrer(target: &Descriptor, manifest: Manifest) -> serde_json::Value {
    let kind = manifest.artifact_type.unwrap_or_else(|| match manifest.content {
        Content::Image { config, .. } => config.media_type,
        Content::Index { .. } => String::new(),
    });
    json!({ "mediaType": target.media_type, "digest": target.digest, "size": target.size, "artifactType": kind,
        "annotations": manifest.annotations })
}

fn refusal(error: PullError, unknown: impl FnOnce(String) -> Refusal) -> Refusal {
    if error.is_absence() { unknown(error.to_string()) } else { Refusal::Pull(error) }
}

fn listed(body: &serde_json::Value, media_type: &'static str, next: Option<String>) -> Found {
    let media_type = HeaderValue::from_static(media_type);
    Found::Listing { body: body.to_string().into(), media_type, next, filter: None }
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

/// The `Link` header's value, if more follows.
fn next_page(path: &str, params: &Params, names: &[String], more: bool) -> Option<String> {
    let last = names.last().filter(|_| more)?;
    let n = params.n.as_deref().unwrap_or("1000");
    let ns = params.ns.as_ref().map_or_else(String::new, |ns| format!("&ns={ns}"));
    Some(format!("<{path}?n={n}&last={last}{ns}>; rel=\"next\""))
}
