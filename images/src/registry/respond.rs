//! From what was found to what is sent.

use std::{ops::RangeInclusive, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;

use crate::pull::{Flight, Held};
use crate::store::{Blob, Digest, OCI_MANIFEST};

use super::{connection::FilePart, range::Wanted};

pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(super) const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

/// What a look-up came to.
pub(super) enum Found {
    /// With a filter, its name: only what fits the request's is in the listing.
    Listing {
        body: Bytes,
        media_type: HeaderValue,
        next: Option<String>,
        filter: Option<HeaderValue>,
    },
    Manifest(Held),
    Blob {
        blob: Blob,
        digest: Digest,
        wanted: Wanted,
    },
    Coming {
        flight: Arc<Flight>,
        size: Option<u64>,
        digest: Digest,
        wanted: Wanted,
    },
}

// === impl Found ===

impl Found {
    /// A HEAD is answered as a GET is, without the body.
    pub(super) fn into_response(self, head: bool) -> Response {
        match self {
            Self::Listing { body, media_type, next, filter } => {
                let mut response = ([(header::CONTENT_TYPE, media_type)], body).into_response();
                let next = next.and_then(|next| HeaderValue::from_str(&next).ok());
                response.headers_mut().extend(next.map(|next| (header::LINK, next)));
                response.headers_mut().extend(filter.map(|filter| (FILTERS, filter)));
                response
            }
            Self::Manifest(Held { bytes, media_type, digest }) => {
                let size = bytes.len() as u64;
                let body = if head { Body::empty() } else { Body::from(bytes) };
                // It came in a header, or was read from what is served.
                let media_type = HeaderValue::from_str(&media_type)
                    .unwrap_or_else(|_| HeaderValue::from_static(OCI_MANIFEST));
                respond(StatusCode::OK, body, Some(size), media_type, &digest)
            }
            Self::Coming { flight, size, digest, wanted } => coming(&flight, size, &digest, &wanted, head),
            Self::Blob { blob, digest, wanted } => blob_response(blob, &digest, &wanted, head),
        }
    }
}

fn blob_response(blob: Blob, digest: &Digest, wanted: &Wanted, head: bool) -> Response {
    let Blob { file, size, .. } = blob;
    let part = part(wanted, head);
    let (from, to) = part.as_ref().map_or((0, size), |part| (*part.start(), part.end() + 1));
    let sent = FilePart { file: Arc::new(file), from, to };
    let body = if head { Body::empty() } else { sent.clone().into_body() };
    let mut response = partial(body, part, Some(size), digest);
    response.extensions_mut().insert(sent);
    response
}

/// A blob that is on its way.
fn coming(flight: &Flight, size: Option<u64>, digest: &Digest, wanted: &Wanted, head: bool) -> Response {
    let part = part(wanted, head);
    let (from, to) = part.as_ref().map_or((0, size), |part| (*part.start(), Some(part.end() + 1)));
    let body = if head { Body::empty() } else { Body::from_stream(flight.read(from, to)) };
    partial(body, part, size, digest)
}

/// `Range` means something with GET only [RFC 9110 § 14.2].
fn part(wanted: &Wanted, head: bool) -> Option<RangeInclusive<u64>> {
    match wanted {
        Wanted::Part(part) if !head => Some(part.clone()),
        Wanted::Part(_) | Wanted::Whole | Wanted::Unsatisfiable => None,
    }
}

/// A blob of `size` bytes, or a part of it.
fn partial(body: Body, part: Option<RangeInclusive<u64>>, size: Option<u64>, digest: &Digest) -> Response {
    let media_type = HeaderValue::from_static("application/octet-stream");
    let status = if part.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let length = part.as_ref().map(|part| part.end() - part.start() + 1).or(size);
    let mut response = respond(status, body, length, media_type, digest);
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let (Some(part), Some(size)) = (part, size) {
        let value = format!("bytes {}-{}/{size}", part.start(), part.end());
        headers.extend(HeaderValue::from_str(&value).map(|value| (header::CONTENT_RANGE, value)));
    }
    response
}

fn respond(
    status: StatusCode,
    body: Body,
    length: Option<u64>,
    media_type: HeaderValue,
    digest: &Digest,
) -> Response {
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, media_type);
    headers.extend(length.map(|length| (header::CONTENT_LENGTH, HeaderValue::from(length))));
    let ascii = |text: String| HeaderValue::from_str(&text).ok();
    headers.extend(ascii(digest.to_string()).map(|value| (CONTENT_DIGEST, value)));
    headers.extend(ascii(entity_tag(digest)).map(|value| (header::ETAG, value)));
    response
}

/// What a blob is known by to who resumes it.
pub(super) fn entity_tag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}
