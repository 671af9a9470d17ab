//! One connection: plain requests are answered here, and blobs that are stored go out by `sendfile`. Whatever is not
//! plain, and all that follows it, is the HTTP library's.

use std::error::Error;
use std::fs::File;
use std::io::{self, Cursor};
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody as _, to_bytes};
use axum::http::{Method, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use hyper_util::service::TowerToHyperService;
use plain_http::file::{CHUNK, read_at};
use plain_http::{Head, Kernel, MAX_HEAD, Next, Sender, next};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, join};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{HEADER_TIMEOUT, MAX_BUFFERED};

/// What is no longer than this goes out together with the answer's head.
const SMALL: u64 = 16 * 1024;

/// Why a connection broke.
pub(super) type Failure = Box<dyn Error + Send + Sync>;

/// What an answer consists of, if it is a part of a file: its body is the same, for those who cannot send it so.
#[derive(Debug, Clone)]
pub(super) struct FilePart {
    pub(super) file: Arc<File>,
    pub(super) from: u64,
    pub(super) to: u64,
}

// === impl FilePart ===

impl FilePart {
    /// The same as what comes piece by piece.
    pub(super) fn into_body(self) -> Body {
        Body::from_stream(stream::try_unfold(self, async |mut part| {
            let len = (part.to - part.from).min(CHUNK as u64);
            if len == 0 {
                return Ok::<_, io::Error>(None);
            }
            let octets = read_at(Arc::clone(&part.file), part.from, len).await?;
            part.from += len;
            Ok(Some((octets, part)))
        }))
    }
}

/// Answers the requests of a connection until it ends, or until `stop`, between two of them.
pub(super) async fn converse(
    mut stream: TcpStream,
    router: Router,
    watcher: Watcher,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let service = TowerToHyperService::new(router.clone());
    let mut buffer = BytesMut::with_capacity(MAX_HEAD);
    let mut clock = pin!(tokio::time::sleep(HEADER_TIMEOUT));
    loop {
        let is_path = |path: &str| path.starts_with('/');
        let next = tokio::select! {
            next = next(&mut stream, &mut buffer, is_path, HEADER_TIMEOUT, clock.as_mut()) => next,
            () = stop.cancelled() => Next::End,
        };
        match next {
            Next::Plain(request, keep) => {
                let head_only = request.method() == Method::HEAD;
                let Ok(response) = service.call(request.map(|()| Body::empty())).await;
                send(&mut stream, response, head_only, keep).await?;
                if !keep {
                    return Ok(stream.shutdown().await?);
                }
            }
            Next::Other => break,
            Next::End => return Ok(()),
        }
    }
    let (read, write) = stream.into_split();
    converse_by_library(join(Cursor::new(buffer).chain(read), write), router, watcher).await
}

/// The same, all of it by the library.
pub(super) async fn converse_by_library(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    router: Router,
    watcher: Watcher,
) -> Result<(), Failure> {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_BUFFERED);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    Ok(watcher.watch(connection).await?)
}

async fn send(stream: &mut TcpStream, response: Response, head_only: bool, keep: bool) -> io::Result<()> {
    let (parts, body) = response.into_parts();
    let mut head = Head::new(parts.status, &parts.headers);
    let said = parts.headers.get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
    let len: Option<u64> = said.or_else(|| body.size_hint().exact());
    match (said, len) {
        (Some(_), _) => {}
        // Of what is not sent nobody knows how long it is.
        (None, Some(0)) if head_only => {}
        (None, Some(len)) => head.put("content-length", len.to_string().as_bytes()),
        (None, None) => head.put("transfer-encoding", b"chunked"),
    }
    let head = head.finish(keep);
    if head_only {
        return Kernel::send(stream, &head, false).await;
    }
    match (parts.extensions.get::<FilePart>(), len) {
        (Some(FilePart { file, from, to }), _) => send_file(stream, &head, file, *from, *to).await,
        (None, Some(len)) if len <= SMALL => {
            let octets = to_bytes(body, usize::MAX).await.map_err(io::Error::other)?;
            if octets.len() as u64 != len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Kernel::send(stream, &[head, octets].concat(), false).await
        }
        (None, len) => {
            Kernel::send(stream, &head, false).await?;
            send_body(stream, body, len).await
        }
    }
}

async fn send_file(
    stream: &mut TcpStream,
    head: &Bytes,
    file: &Arc<File>,
    mut from: u64,
    to: u64,
) -> io::Result<()> {
    if to - from <= SMALL {
        let octets = read_at(Arc::clone(file), from, to - from).await?;
        return Kernel::send(stream, &[head, &octets[..]].concat(), false).await;
    }
    Kernel::send(stream, head, true).await?;
    while from < to {
        Kernel::send_piece(stream, file, &mut from, to).await?;
    }
    Ok(())
}

/// What comes piece by piece, in chunks if nobody knows how long it is. If it breaks off, so does the connection: nobody
/// takes it for the whole.
async fn send_body(stream: &mut TcpStream, body: Body, len: Option<u64>) -> io::Result<()> {
    let mut pieces = body.into_data_stream();
    let mut left = len;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(io::Error::other)?;
        if let Some(left) = &mut left {
            *left = left.checked_sub(piece.len() as u64).ok_or(io::ErrorKind::InvalidData)?;
            Kernel::send(stream, &piece, false).await?;
        } else if !piece.is_empty() {
            Kernel::send(stream, format!("{:x}\r\n", piece.len()).as_bytes(), true).await?;
            Kernel::send(stream, &piece, true).await?;
            Kernel::send(stream, b"\r\n", false).await?;
        }
    }
    match left {
        Some(0) => Ok(()),
        Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        None => Kernel::send(stream, b"0\r\n\r\n", false).await,
    }
}

#[cfg(test)]
mod tests;
