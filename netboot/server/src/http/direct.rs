//! The plain case: a file, all of it or a part, from the kernel's memory to the wire.
//!
//! Almost everything that goes over a mesh port is a few large files, again and again. A request that plainly wants one
//! is answered here, by `sendfile`, and its octets are never copied to this process. Whatever is not plain, from the
//! first request on that is not, goes with its connection to the HTTP library, which knows all of the protocol.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{BufMut, Bytes, BytesMut};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode};
use nix::libc;
use rustix::fs::sendfile;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::body::{Body, Octets};
use super::connections::{HEAD_TIMEOUT, MAX_HEAD, MAX_HEADERS};
use crate::file::{CHUNK, is_cached, read_at};

/// So much at most is handed to the kernel at once: between two of them others have their turn, and the progress is
/// counted.
const PIECE: u64 = 1 << 20;
/// What is no longer than this goes out together with the answer's head.
pub(super) const SMALL: u64 = 16 * 1024;

/// What comes next on a connection.
pub(super) enum Next {
    /// A plain request, and whether the connection is kept after it.
    Plain(Box<Request<()>>, bool),
    /// Something for the library: not plain, or broken. What was read of it is still in the buffer.
    Other,
    /// Nothing: the client is gone, or was too slow.
    End,
}

/// A way to send octets and pieces of files over a connection.
pub(super) trait Sender<S> {
    /// Sends octets; with `more`, others follow at once.
    async fn send(stream: &mut S, octets: &[u8], more: bool) -> io::Result<()>;

    /// Sends as much of a file up to `to` as the connection takes now, and moves `from` behind it.
    async fn send_piece(stream: &mut S, file: &Arc<File>, from: &mut u64, to: u64) -> io::Result<()>;
}

/// By `sendfile`.
pub(super) enum Kernel {}

/// By way of this process, over whatever is a connection.
pub(super) enum Copied {}

/// What the octets so far are.
enum Head {
    Plain { request: Box<Request<()>>, keep: bool, len: usize },
    Other,
    Partial,
}

/// Waits for the next request's head, at most [`HEAD_TIMEOUT`]. A plain one is taken out of the buffer. The connection has
/// one clock for all its requests: it is set anew only when it rings too soon.
pub(super) async fn next<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    mut clock: Pin<&mut Sleep>,
) -> Next {
    let deadline = Instant::now() + HEAD_TIMEOUT;
    loop {
        match parse(buffer) {
            Head::Plain { request, keep, len } => {
                drop(buffer.split_to(len));
                return Next::Plain(request, keep);
            }
            Head::Other => return Next::Other,
            Head::Partial if buffer.len() >= MAX_HEAD => return Next::Other,
            Head::Partial => {}
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
fn parse(octets: &[u8]) -> Head {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let len = match head.parse(octets) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Head::Partial,
        Err(_) => return Head::Other,
    };
    match request(&head) {
        Some((request, keep)) => Head::Plain { request, keep, len },
        None => Head::Other,
    }
}

fn request(head: &httparse::Request<'_, '_>) -> Option<(Box<Request<()>>, bool)> {
    let method = match head.method? {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        _ => return None,
    };
    let path = head.path.filter(|path| path.starts_with("/boot/") || path.starts_with("/artefacts/"))?;
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
    let mut head = BytesMut::with_capacity(512);
    head.put_slice(b"HTTP/1.1 ");
    head.put_slice(status.as_str().as_bytes());
    head.put_u8(b' ');
    head.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    for (name, value) in response.headers() {
        put(&mut head, name.as_str(), value.as_bytes());
    }
    // As the library does: known, unless the status says that there is none.
    let has_length = response.headers().contains_key(CONTENT_LENGTH) || status == StatusCode::NOT_MODIFIED;
    if let (false, Octets::Whole(octets, _)) = (has_length, &response.body().octets) {
        let len = octets.as_ref().map_or(0, Bytes::len);
        put(&mut head, CONTENT_LENGTH.as_str(), len.to_string().as_bytes());
    }
    if !keep {
        put(&mut head, CONNECTION.as_str(), b"close");
    }
    put(&mut head, "date", httpdate::fmt_http_date(SystemTime::now()).as_bytes());
    head.put_slice(b"\r\n\r\n");
    head.freeze()
}

/// Adds a line, its name in the words' own case: some clients know it by no other.
fn put(head: &mut BytesMut, name: &str, value: &[u8]) {
    head.put_slice(b"\r\n");
    let mut starts = true;
    for octet in name.bytes() {
        head.put_u8(if starts { octet.to_ascii_uppercase() } else { octet });
        starts = octet == b'-';
    }
    head.put_slice(b": ");
    head.put_slice(value);
}

// === impl Kernel ===

impl Sender<TcpStream> for Kernel {
    async fn send(stream: &mut TcpStream, mut octets: &[u8], more: bool) -> io::Result<()> {
        // The kernel waits for what follows before it sends a packet that is not full.
        let flags = if more { libc::MSG_MORE | libc::MSG_NOSIGNAL } else { libc::MSG_NOSIGNAL };
        while !octets.is_empty() {
            let send = || SockRef::from(&*stream).send_with_flags(octets, flags);
            let sent = stream.async_io(Interest::WRITABLE, send).await?;
            octets = octets.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    async fn send_piece(stream: &mut TcpStream, file: &Arc<File>, from: &mut u64, to: u64) -> io::Result<()> {
        // What must be fetched from a disk is fetched where waiting harms nobody.
        let ahead = (*from + CHUNK as u64).min(to);
        if !is_cached(file, *from, ahead) {
            drop(read_at(Arc::clone(file), *from, ahead - *from).await?);
        }
        let piece = (*from + PIECE).min(to);
        let end = if is_cached(file, ahead, piece) { piece } else { ahead };
        let count = usize::try_from(end - *from).map_err(io::Error::other)?;
        let sent = stream.async_io(Interest::WRITABLE, || {
            let mut at = *from;
            Ok(sendfile(stream.as_fd(), file, Some(&mut at), count)?)
        });
        match sent.await? {
            // The file is shorter than it was.
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            sent => {
                *from += sent as u64;
                Ok(())
            }
        }
    }
}

// === impl Copied ===

impl<S: AsyncWrite + Unpin> Sender<S> for Copied {
    async fn send(stream: &mut S, octets: &[u8], _more: bool) -> io::Result<()> {
        stream.write_all(octets).await?;
        stream.flush().await
    }

    async fn send_piece(stream: &mut S, file: &Arc<File>, from: &mut u64, to: u64) -> io::Result<()> {
        let len = (to - *from).min(CHUNK as u64);
        stream.write_all(&read_at(Arc::clone(file), *from, len).await?).await?;
        stream.flush().await?;
        *from += len;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
