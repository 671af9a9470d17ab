//! Images out of the store, pushed to a registry: the client's half of what [`registry`](mod@crate::registry) takes.
//!
//! Blobs that are there already are not sent again, and the manifest goes last: an image has its name there when all of it
//! is there.

use std::fmt;

use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Client, Method, RequestBuilder, Response, StatusCode, Url};
use tokio_util::io::ReaderStream;

use crate::progress::Progress;
use crate::store::{
    Blob, Closure, ClosureError, Content, Digest, MAX_MANIFEST, Manifest, Reference, Store, StoreError,
    WholeError,
};
use crate::upstream::Credentials;

/// How much of a refusal is told.
const TOLD: usize = 200;

/// A registry that can be written to.
pub struct Pusher {
    place: Url,
    client: Client,
    credentials: Credentials,
}

/// Why an image was not pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The place is none.
    #[error("`{0}` is no place of a registry")]
    Place(String),
    /// There is no such image, or not all of it.
    #[error(transparent)]
    Image(#[from] WholeError),
    /// It is several images.
    #[error("{0} is an index of several images, and one is pushed at a time")]
    Index(Reference),
    /// The registry is not reached, or breaks off.
    #[error("{url} does not answer")]
    Transfer {
        /// What was asked.
        url: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// The registry refused.
    #[error("{url} was refused: {status} {said}")]
    Refused {
        /// What was asked.
        url: String,
        /// How.
        status: StatusCode,
        /// What it said.
        said: String,
    },
    /// The registry began an upload and did not say where it goes on.
    #[error("{0} does not say where the upload goes on")]
    Nowhere(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

// === impl Pusher ===

impl Pusher {
    /// The registry at a place, by this client and as this user.
    ///
    /// # Errors
    ///
    /// [`PushError::Place`].
    pub fn new(place: &str, client: Client, credentials: Credentials) -> Result<Self, PushError> {
        let bad = || PushError::Place(place.to_owned());
        let place = Url::parse(place).ok().filter(|url| !url.cannot_be_a_base()).ok_or_else(bad)?;
        Ok(Self { place, client, credentials })
    }

    /// Pushes an image of the store. It has the name there that it has here, but for the registry's.
    ///
    /// # Errors
    ///
    /// [`PushError`]; then no name there has changed.
    pub async fn push(
        &self,
        store: &Store,
        reference: &Reference,
        progress: &dyn Progress,
    ) -> Result<(), PushError> {
        let (target, Closure { present: blobs, .. }) = store.whole(reference)?;
        let bytes = store.read(&target.digest, MAX_MANIFEST)?.unwrap_or_default();
        // It was read as one to see that the image is whole.
        let content = Manifest::parse(&bytes).map(|manifest| manifest.content);
        if !matches!(content, Ok(Content::Image { .. })) {
            return Err(PushError::Index(reference.clone()));
        }
        let total: u64 = blobs.values().sum();
        let mut done = 0;
        for (digest, size) in blobs.iter().filter(|(digest, _)| **digest != target.digest) {
            self.blob(store, reference, digest).await?;
            done += size;
            progress.advance(done, Some(total));
        }
        let url = self.url(reference, &["manifests", reference.tag.as_str()]);
        let request = self.request(Method::PUT, &url).header(CONTENT_TYPE, &target.media_type).body(bytes);
        good(&url, request).await.map(drop)
    }

    async fn blob(&self, store: &Store, reference: &Reference, digest: &Digest) -> Result<(), PushError> {
        let url = self.url(reference, &["blobs", &digest.to_string()]);
        if sent(&url, self.request(Method::HEAD, &url)).await?.status() == StatusCode::OK {
            return Ok(());
        }
        // It was there a moment ago.
        let gone =
            || WholeError::Closure { reference: reference.clone(), source: ClosureError::Missing(*digest) };
        let Blob { file, size, .. } = store.blob(digest)?.ok_or_else(gone)?;
        let url = self.url(reference, &["blobs", "uploads", ""]);
        let begun = good(&url, self.request(Method::POST, &url)).await?;
        let place = begun.headers().get(LOCATION).and_then(|place| place.to_str().ok());
        let place = place.and_then(|place| url.join(place).ok());
        // The password goes to nobody else.
        let place = place.filter(|place| place.origin() == url.origin());
        let mut place = place.ok_or_else(|| PushError::Nowhere(url.to_string()))?;
        place.query_pairs_mut().append_pair("digest", &digest.to_string());
        let body = Body::wrap_stream(ReaderStream::new(tokio::fs::File::from_std(file)));
        let request = self.request(Method::PUT, &place).header(CONTENT_LENGTH, size).body(body);
        good(&place, request).await.map(drop)
    }

    fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        let Credentials { user, password } = &self.credentials;
        self.client.request(method, url.clone()).basic_auth(user, Some(password))
    }

    fn url(&self, reference: &Reference, path: &[&str]) -> Url {
        let mut url = self.place.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v2").extend(reference.repository.as_str().split('/')).extend(path);
        }
        url
    }
}

async fn sent(url: &Url, request: RequestBuilder) -> Result<Response, PushError> {
    let failed =
        |source: reqwest::Error| PushError::Transfer { url: url.to_string(), source: source.without_url() };
    request.send().await.map_err(failed)
}

/// An answer that is none of those hoped for is an error.
async fn good(url: &Url, request: RequestBuilder) -> Result<Response, PushError> {
    let response = sent(url, request).await?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let said = response.text().await.unwrap_or_default();
    Err(PushError::Refused { url: url.to_string(), status, said: said.chars().take(TOLD).collect() })
}

impl fmt::Debug for Pusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pusher").field("place", &self.place.as_str()).finish_non_exhaustive()
    }
}
