//! Requests that are plain, and those that are not.

use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::{Instant, Sleep};

/// The most octets that a request's head may have.
pub const MAX_HEAD: usize = 16 * 1024;
/// The most fields that it may have.
pub const MAX_HEADERS: usize = 64;

/// What comes next on a connection.
#[derive(Debug)]
pub enum Next {
    /// A plain request, and whether the connection is kept after it.
    Plain(Box<Request<()>>, bool),
    /// Something for the library: not plain, or broken. What was read of it is still in the buffer.
    Other,
    /// Nothing: the client is gone, or was too slow.
    End,
}

/// What the octets so far are.
enum Parsed {
    Plain { request: Box<Request<()>>, keep: bool, len: usize },
    Other,
    Partial,
}

/// Waits for the next request's head, for so long at most. A plain one, whose path is one of those that are `wanted`, is
/// taken out of the buffer. The connection has one clock for all its requests: it is set anew only when it rings too soon.
pub async fn next<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    wanted: impl Fn(&str) -> bool,
    patience: Duration,
    mut clock: Pin<&mut Sleep>,
) -> Next {
    let deadline = Instant::now() + patience;
    loop {
        match parse(buffer, &wanted) {
            Parsed::Plain { request, keep, len } => {
                drop(buffer.split_to(len));
                return Next::Plain(request, keep);
            }
            Parsed::Other => return Next::Other,
            Parsed::Partial if buffer.len() >= MAX_HEAD => return Next::Other,
            Parsed::Partial => {}
        }
        tokio::select! {
            biased;
            read = stream.read_buf(buffer) => match read {
                Ok(0) | Err(_) => return Next::End,
                Ok(_) => {}
            },
            () = &mut clock => {
                if clock.deadline() >= deadline {
                    return Next::End;
                }
                clock.as_mut().reset(deadline);
            }
        }
    }
}

/// Reads a head: plain is a GET or HEAD of HTTP/1.1 for a file, without a body and without wishes for the connection
/// other than to keep or to close it.
fn parse(octets: &[u8], wanted: impl Fn(&str) -> bool) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let len = match head.parse(octets) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(_) => return Parsed::Other,
    };
    match request(&head, wanted) {
        Some((request, keep)) => Parsed::Plain { request, keep, len },
        None => Parsed::Other,
    }
}

fn request(
    head: &httparse::Request<'_, '_>,
    wanted: impl Fn(&str) -> bool,
) -> Option<(Box<Request<()>>, bool)> {
    let method = match head.method? {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        _ => return None,
    };
    let path = head.path.filter(|path| wanted(path))?;
    let mut request = Request::builder().method(method).uri(path).body(()).ok()?;
    let mut keep = true;
    for header in head.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(header.value).ok()?;
        if [CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT, UPGRADE].contains(&name) {
            return None;
        }
        if name == CONNECTION {
            keep = match value.as_bytes() {
                value if value.eq_ignore_ascii_case(b"keep-alive") => keep,
                value if value.eq_ignore_ascii_case(b"close") => false,
                _ => return None,
            };
        }
        request.headers_mut().append(name, value);
    }
    (head.version == Some(1)).then(|| (Box::new(request), keep))
}

#[cfg(test)]
mod tests;
