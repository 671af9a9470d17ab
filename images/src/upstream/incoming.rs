//! A blob that comes.

use bytes::Bytes;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Response, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use super::UpstreamError;
use crate::client::content_range;

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

// === impl Incoming ===

impl Incoming {
    /// The answer to a request for a blob from a byte on.
    pub(super) fn new(
        response: Response,
        from: u64,
        turn: OwnedSemaphorePermit,
    ) -> Result<Self, UpstreamError> {
        let (start, size) = match response.status() {
            StatusCode::OK => (0, length(&response)),
            StatusCode::PARTIAL_CONTENT => {
                let wrong = || UpstreamError::WrongPart { url: response.url().to_string(), from };
                content_range(&response).filter(|(start, _)| *start == from).ok_or_else(wrong)?
            }
            _ => return Err(UpstreamError::refused(&response)),
        };
        Ok(Self { start, size, response, failure: None, _turn: turn })
    }

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

    /// Who sends it.
    pub(crate) fn source(&self) -> String {
        let url = self.response.url();
        let host = url.host_str().unwrap_or_default();
        url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

/// What the registry says, and not what is left to come.
fn length(response: &Response) -> Option<u64> {
    let value = response.headers().get(CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}
