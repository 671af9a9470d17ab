//! Answers to plain requests: they go out by `sendfile`, or what a connection has in its place.

use std::io;

use bytes::Bytes;
use hyper::header::CONTENT_LENGTH;
use hyper::{Method, Response, StatusCode};
use plain_http::file::read_at;
use plain_http::{Head, Sender};

use super::body::{Body, Octets};

/// What is no longer than this goes out together with the answer's head.
pub(super) const SMALL: u64 = 16 * 1024;

/// Whether a path is that of a file.
pub(super) fn is_file(path: &str) -> bool {
    path.starts_with("/boot/") || path.starts_with("/artefacts/")
}

/// Answers a plain request of this method.
pub(super) async fn answer<S, K: Sender<S>>(
    stream: &mut S,
    method: &Method,
    response: Response<Body>,
    keep: bool,
) -> io::Result<()> {
    let head = head(&response, keep);
    // Others may have what is held once all is sent, or the connection is lost.
    let Body { octets, held: _held } = response.into_body();
    match octets {
        _ if method == Method::HEAD => K::send(stream, &head, false).await,
        Octets::Whole(octets, tally) => {
            let octets = octets.unwrap_or_default();
            let len = octets.len() as u64;
            K::send(stream, &[head, octets].concat(), false).await?;
            if let Some(tally) = tally {
                tally.count(len);
            }
            Ok(())
        }
        Octets::File { file, from, to, tally, .. } if to - from <= SMALL => {
            let octets = read_at(file, from, to - from).await?;
            K::send(stream, &[head, octets].concat(), false).await?;
            tally.count(to - from);
            Ok(())
        }
        Octets::File { file, mut from, to, tally, .. } => {
            K::send(stream, &head, true).await?;
            while from < to {
                let before = from;
                K::send_piece(stream, &file, &mut from, to).await?;
                tally.count(from - before);
            }
            tally.tell();
            Ok(())
        }
    }
}

fn head(response: &Response<Body>, keep: bool) -> Bytes {
    let status = response.status();
    let mut head = Head::new(status, response.headers());
    // As the library does: known, unless the status says that there is none.
    let has_length = response.headers().contains_key(CONTENT_LENGTH) || status == StatusCode::NOT_MODIFIED;
    if let (false, Octets::Whole(octets, _)) = (has_length, &response.body().octets) {
        let len = octets.as_ref().map_or(0, Bytes::len);
        head.put(CONTENT_LENGTH.as_str(), len.to_string().as_bytes());
    }
    head.finish(keep)
}

#[cfg(test)]
mod tests;
