//! One request: to whom it goes, what it says, and who is asked next if the first one does not know.

use reqwest::header::{ACCEPT, AUTHORIZATION, RANGE, VIA, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::time::timeout;
use tracing::info;

use super::place::Place;
use super::tokens::Authorization;
use super::{DOCKER_IO, Upstream, UpstreamError};
use crate::store::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Repository};

/// The media types of manifests; what else there is, is taken too.
const MANIFESTS: [&str; 5] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, "*/*"];

/// Who is asked.
#[derive(Debug)]
pub(super) enum Source {
    Registry(Url),
    Neighbours { name: String, places: Vec<Place> },
}

/// What is asked.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) repository: &'a Repository,
    pub(super) path: &'a [&'a str],
    pub(super) query: &'a [(&'a str, &'a str)],
    /// The first byte that is wanted, if it is not that of all.
    pub(super) from: u64,
}

impl Upstream {
    /// Sends a request to the registry, or to the nearest neighbour that knows an answer.
    pub(super) async fn send(&self, request: &Request<'_>) -> Result<Response, UpstreamError> {
        let places = match &self.inner.source {
            Source::Registry(endpoint) => return self.ask(endpoint, request).await,
            Source::Neighbours { places, .. } => places,
        };
        let mut reasons = Vec::new();
        for place in places {
            if let Some(reason) = place.rests() {
                reasons.push(reason);
                continue;
            }
            let error = match timeout(place.patience, self.attempt(&place.url, request, None)).await {
                Ok(Ok(response)) if !response.status().is_server_error() => return Ok(response),
                Ok(Ok(response)) => UpstreamError::refused(&response),
                Ok(Err(error)) => error,
                Err(_) => UpstreamError::Late { url: place.url.to_string(), limit: place.patience },
            };
            let reason = place.fail(&error);
            info!(registry = self.registry().as_str(), reason, "a neighbour is not asked for a while");
            reasons.push(reason);
        }
        let registry = self.registry().to_string();
        Err(UpstreamError::Neighbours { registry, reasons: reasons.join("; ") })
    }

    /// Sends a request to the registry, with the authorization that is known for the repository, or else with what is then
    /// asked for.
    async fn ask(&self, endpoint: &Url, request: &Request<'_>) -> Result<Response, UpstreamError> {
        let scope = format!("repository:{}:pull", self.path(request.repository));
        let known = self.inner.tokens.known(&scope);
        let response = self.attempt(endpoint, request, known.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenges: Vec<String> = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| Some(value.to_str().ok()?.to_owned()))
            .collect();
        info!(registry = self.registry().as_str(), scope, "a registry wants to know who asks");
        let fresh = self.inner.tokens.obtain(response.url(), &challenges, &scope).await?;
        self.attempt(endpoint, request, Some(&fresh)).await
    }

    async fn attempt(
        &self,
        endpoint: &Url,
        request: &Request<'_>,
        authorization: Option<&Authorization>,
    ) -> Result<Response, UpstreamError> {
        let url = self.url(endpoint, request)?;
        let mut asked = self.inner.client.request(request.method.clone(), url);
        if request.path.first() != Some(&"blobs") {
            // In one line: tinyproxy passes on one line of a name.
            asked = asked.header(ACCEPT, MANIFESTS.join(", "));
        }
        if request.from > 0 {
            asked = asked.header(RANGE, format!("bytes={}-", request.from));
        }
        if let Some(authorization) = authorization {
            asked = asked.header(AUTHORIZATION, authorization.header());
        }
        if let Source::Neighbours { name, .. } = &self.inner.source
            && let Some(via) = self.trail.passed_on_by(name)
        {
            asked = asked.header(VIA, via);
        }
        asked.send().await.map_err(|source| UpstreamError::transfer(endpoint, source))
    }

    fn url(&self, endpoint: &Url, request: &Request<'_>) -> Result<Url, UpstreamError> {
        let mut url = endpoint.clone();
        let bad = || UpstreamError::Endpoint(endpoint.to_string());
        url.path_segments_mut()
            .map_err(|()| bad())?
            .pop_if_empty()
            .push("v2")
            .extend(self.path(request.repository).split('/'))
            .extend(request.path);
        let namespace = match &self.inner.source {
            Source::Registry(_) => None,
            Source::Neighbours { .. } => Some(("ns", self.registry().as_str())),
        };
        if !request.query.is_empty() || namespace.is_some() {
            url.query_pairs_mut().extend_pairs(request.query).extend_pairs(namespace);
        }
        Ok(url)
    }

    /// What an error calls it.
    pub(super) fn name(&self, request: &Request<'_>) -> String {
        format!("{}/{}/{}", self.registry(), request.repository, request.path.join("/"))
    }

    /// The repository's path there.
    fn path(&self, repository: &Repository) -> String {
        let (registry, _, folder) = DOCKER_IO;
        let path = repository.as_str();
        let there = matches!(self.inner.source, Source::Registry(_));
        if there && self.registry().as_str() == registry && !path.contains('/') {
            return format!("{folder}/{path}");
        }
        path.to_owned()
    }
}
