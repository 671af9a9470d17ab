//! Answers' heads, and the ways to send octets and pieces of files.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{BufMut, Bytes, BytesMut};
use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderMap};
use nix::libc;
use rustix::fs::sendfile;
use socket2::SockRef;
use tokio::io::{AsyncWrite, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;

use crate::file::{CHUNK, is_cached, read_at};

/// So much at most is handed to the kernel at once: between two of them others have their turn, and the progress is
/// counted.
const PIECE: u64 = 1 << 20;

/// The head of an answer, while it is written.
#[derive(Debug)]
pub struct Head(BytesMut);

/// A way to send octets and pieces of files over a connection.
pub trait Sender<S> {
    /// Sends octets; with `more`, others follow at once.
    fn send(stream: &mut S, octets: &[u8], more: bool) -> impl Future<Output = io::Result<()>> + Send;

    /// Sends as much of a file up to `to` as the connection takes now, and moves `from` behind it.
    fn send_piece(
        stream: &mut S,
        file: &Arc<File>,
        from: &mut u64,
        to: u64,
    ) -> impl Future<Output = io::Result<()>> + Send;
}

/// By `sendfile`.
#[derive(Debug)]
pub enum Kernel {}

/// By way of this process, over whatever is a connection.
#[derive(Debug)]
pub enum Copied {}

// === impl Head ===

impl Head {
    /// The status line and these fields.
    #[must_use]
    pub fn new(status: StatusCode, fields: &HeaderMap) -> Self {
        let mut head = Self(BytesMut::with_capacity(512));
        head.0.put_slice(b"HTTP/1.1 ");
        head.0.put_slice(status.as_str().as_bytes());
        head.0.put_u8(b' ');
        head.0.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        for (name, value) in fields {
            head.put(name.as_str(), value.as_bytes());
        }
        head
    }

    /// Adds a field, its name in the words' own case: some clients know it by no other.
    pub fn put(&mut self, name: &str, value: &[u8]) {
        self.0.put_slice(b"\r\n");
        let mut starts = true;
        for octet in name.bytes() {
            self.0.put_u8(if starts { octet.to_ascii_uppercase() } else { octet });
            starts = octet == b'-';
        }
        self.0.put_slice(b": ");
        self.0.put_slice(value);
    }

    /// All of it, with the time, and whether the connection stays.
    #[must_use]
    pub fn finish(mut self, keep: bool) -> Bytes {
        if !keep {
            self.put(CONNECTION.as_str(), b"close");
        }
        self.put("date", httpdate::fmt_http_date(SystemTime::now()).as_bytes());
        self.0.put_slice(b"\r\n\r\n");
        self.0.freeze()
    }
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

impl<S: AsyncWrite + Unpin + Send> Sender<S> for Copied {
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
