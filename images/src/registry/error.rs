//! Refusals in the form of the OCI distribution specification, section "Error Codes".

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use std::error::Error;
use tracing::{debug, error, warn};

use crate::{
    pull::{GivenError, PullError},
    store::{ClosureError, StoreError},
    upstream::{UpstreamError, with_causes},
};

/// Why a request got no image.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("there is nothing at this path")]
    NoSuchPath,
    #[error("{0}")]
    NameInvalid(String),
    #[error("{0}")]
    NameUnknown(String),
    #[error("{0}")]
    TagInvalid(String),
    #[error("{0}")]
    DigestInvalid(String),
    #[error("{0}")]
    ManifestUnknown(String),
    #[error("{0}")]
    BlobUnknown(String),
    #[error("{0}")]
    PaginationInvalid(String),
    #[error("this is not done here: images are pushed to the seed's registry, and not to a mirror")]
    Unsupported,
    #[error("{}", if *.presented { "the user or the password is another" } else { "user and password, please" })]
    Unauthorized { presented: bool },
    #[error("{0}")]
    UploadUnknown(String),
    #[error("the piece begins at {from}, and {there} bytes are there")]
    UploadRange { from: u64, there: u64 },
    #[error("the piece broke off: {0}")]
    UploadBroken(String),
    #[error("there are {0} uploads already; end one, or wait for an hour")]
    TooManyUploads(usize),
    #[error("the manifest did not come, or is larger than any: {0}")]
    ManifestBody(String),
    #[error("{}", with_causes(.0))]
    Given(#[from] GivenError),
    #[error("the blob has {size} bytes")]
    RangeInvalid { size: u64 },
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("{}", with_causes(.0))]
    Pull(PullError),
}

// === impl Refusal ===

impl Refusal {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoSuchPath => (StatusCode::NOT_FOUND, "UNSUPPORTED"),
            Self::NameInvalid(_) => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            Self::NameUnknown(_) => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            Self::TagInvalid(_) => (StatusCode::BAD_REQUEST, "TAG_INVALID"),
            Self::DigestInvalid(_) => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            Self::ManifestUnknown(_) => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            Self::BlobUnknown(_) => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            Self::PaginationInvalid(_) => (StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID"),
            Self::Unsupported => (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
            Self::Unauthorized { .. } => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            Self::UploadUnknown(_) => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
            Self::UploadRange { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID"),
            Self::UploadBroken(_) => (StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
            Self::TooManyUploads(_) => (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
            Self::ManifestBody(_) => (StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID"),
            Self::Given(error) => match error {
                GivenError::Manifest(_) | GivenError::Kind { .. } => {
                    (StatusCode::BAD_REQUEST, "MANIFEST_INVALID")
                }
                GivenError::Digest { .. } => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
                GivenError::Incomplete(ClosureError::Missing(_) | ClosureError::Empty(_)) => {
                    (StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN")
                }
                GivenError::Incomplete(_) => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
                GivenError::Room(_) | GivenError::Write(_) => (StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN"),
                GivenError::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
            },
            Self::RangeInvalid { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID"),
            Self::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
            // Not 404: who asked has other neighbours, that may know it.
            Self::Pull(PullError::Circle { .. }) => (StatusCode::LOOP_DETECTED, "UNAVAILABLE"),
            Self::Pull(error) => match error.upstream() {
                Some(UpstreamError::Denied { .. } | UpstreamError::Challenge { .. }) => {
                    (StatusCode::FORBIDDEN, "DENIED")
                }
                Some(UpstreamError::TooMany { .. }) => (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
                // Nobody's fault here: containerd goes to the next mirror.
                Some(_) => (StatusCode::BAD_GATEWAY, "UNAVAILABLE"),
                None => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
            },
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        if let Self::Store(error) | Self::Given(GivenError::Store(error)) = &self {
            error!(error = error as &dyn Error, "cannot serve an image");
        } else if let Self::Given(error) = &self {
            warn!(error = error as &dyn Error, "an image was not taken");
        } else if let Self::Pull(error) = &self {
            warn!(error = error as &dyn Error, "cannot get an image");
        } else {
            debug!(code, reason = %self, "refused an image");
        }
        let body = Json(json!({ "errors": [{ "code": code, "message": self.to_string(), "detail": null }] }));
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        if let Self::RangeInvalid { size } = self {
            headers.insert(
                header::CONTENT_RANGE,
                HeaderValue::from_str(&format!("bytes */{size}")).expect("digits and ASCII"),
            );
        }
        if let Self::Pull(error) = &self
            && let Some(UpstreamError::TooMany { again_in: Some(wait), .. }) = error.upstream()
        {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs()));
        }
        if matches!(self, Self::Unauthorized { .. }) {
            let realm = HeaderValue::from_static("Basic realm=\"meshboot\", charset=\"UTF-8\"");
            headers.insert(header::WWW_AUTHENTICATE, realm);
        }
        if let Self::UploadRange { there, .. } = &self {
            let range = HeaderValue::from_str(&format!("0-{}", there.saturating_sub(1)));
            headers.extend(range.map(|range| (header::RANGE, range)));
        }
        if matches!(self, Self::Unsupported) {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}
