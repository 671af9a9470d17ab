//! One connection without a socket and without waiting: the server is given its octets piece by piece, and their end
//! as soon as it waits for more.

use std::io;
use std::net::SocketAddrV6;
use std::pin::{Pin, pin};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use netboot_server::{Content, DetachedHttp};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};

/// No conversation takes so many looks at the server.
const MAX_POLLS: usize = 100_000;
/// A piece of a small file is read faster.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client's end of a connection.
#[derive(Debug, Default)]
struct Line {
    said: Vec<u8>,
    at: usize,
    piece: usize,
    /// No more will be said.
    over: bool,
    heard: Vec<u8>,
}

/// The server's view of it.
struct Cable(Arc<Mutex<Line>>);

/// Remembers that the server wants to be looked at.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    ringing: Condvar,
}

/// An HTTP answer, as octets say it.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    /// Names in lower case.
    headers: Vec<(String, &'a str)>,
    pub(crate) body: &'a [u8],
}

/// What the server says to what is said to it in pieces.
pub(crate) fn exchange<C: Content>(
    http: &DetachedHttp<C>,
    peer: SocketAddrV6,
    said: &[u8],
    piece: usize,
) -> Vec<u8> {
    let line = Arc::new(Mutex::new(Line { said: said.to_vec(), piece, ..Line::default() }));
    let _runtime = runtime().enter();
    let mut conversation = pin!(http.converse(Cable(Arc::clone(&line)), peer));
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    for _ in 0..MAX_POLLS {
        if conversation.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            return std::mem::take(&mut line.lock().unwrap().heard);
        }
        if bell.take() {
            continue;
        }
        if http.waits_for_client() {
            let mut line = line.lock().unwrap();
            assert!(!line.over, "a connection without an end");
            line.over = true;
        } else {
            // A piece of the file is being read.
            bell.wait();
        }
    }
    panic!("the server is busy without an end");
}

/// Reads files beside the server, and has its clocks, of which none is ever waited for.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        Builder::new_current_thread().enable_time().max_blocking_threads(1).build().expect("a runtime")
    })
}

// === impl Cable ===

impl AsyncRead for Cable {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let line = &mut *self.0.lock().unwrap();
        let rest = &line.said[line.at..];
        let piece = &rest[..rest.len().min(line.piece).min(buffer.remaining())];
        if piece.is_empty() && !line.over {
            return Poll::Pending;
        }
        buffer.put_slice(piece);
        line.at += piece.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Cable {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().heard.extend(octets);
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

// === impl Bell ===

impl Bell {
    fn take(&self) -> bool {
        std::mem::take(&mut *self.rung.lock().unwrap())
    }

    fn wait(&self) {
        let rung = self.rung.lock().unwrap();
        let (mut rung, slept) = self.ringing.wait_timeout_while(rung, PATIENCE, |rung| !*rung).unwrap();
        assert!(!slept.timed_out(), "the server neither answers nor waits for its client");
        *rung = false;
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rung.lock().unwrap() = true;
        self.ringing.notify_one();
    }
}

// === impl Answer ===

impl<'a> Answer<'a> {
    /// Reads the first answer, as long as its Content-Length says; none if there is none that is whole.
    pub(crate) fn read(heard: &'a [u8], is_head: bool) -> Option<Self> {
        let end = heard.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = str::from_utf8(&heard[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let line = lines.next()?;
        let line = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "))?;
        let status = line.split(' ').next()?.parse().ok()?;
        let headers: Vec<(String, &str)> = lines
            .map(|line| {
                let (name, value) = line.split_once(": ").unwrap_or((line, ""));
                (name.to_ascii_lowercase(), value)
            })
            .collect();
        let body = &heard[end + 4..];
        let mut answer = Self { status, headers, body };
        let length = answer.header("content-length").map_or(0, |text| text.parse().unwrap());
        let length = if is_head || status == 304 { 0 } else { length };
        answer.body = body.get(..length)?;
        Some(answer)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&'a str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| *value);
        let first = found.next();
        assert_eq!(found.next(), None, "{name} twice");
        first
    }
}
