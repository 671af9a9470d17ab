//! The connections of one port: who has a seat, and who gives it up for another.
//!
//! A port has one machine at its far end and more seats than that opens connections. If they are all taken, whoever has
//! kept the server waiting for a request the longest gives up his: a thousand connections that ask for nothing keep
//! nobody out. Who is being answered keeps his seat.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Display;
use std::io::Cursor;
use std::net::{SocketAddr, SocketAddrV6};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mesh::Stage;
use plain_http::{Copied, Kernel, MAX_HEAD, MAX_HEADERS, Next, Sender, next};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, join};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::direct;
use super::offer::Client;
use super::respond;
use super::tally::Tally;
use crate::content::Content;
use crate::port::LinkContext;
use crate::tls::{PortAcceptor, TlsError};

/// Connections of one port at a time; others wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;
/// So long at least a connection has its seat: its request may be on its way, or the end of its answer.
const GRACE: Duration = Duration::from_secs(2);
/// How long a request's head may take, and a connection may be idle.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// The kernel may have no more connections to give for a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections that have seats.
#[derive(Debug)]
struct House<C> {
    context: Arc<LinkContext<C>>,
    acceptor: Option<Arc<PortAcceptor>>,
    tasks: JoinSet<()>,
    seats: BTreeMap<Id, Seat>,
}

#[derive(Debug)]
struct Seat {
    turn: Arc<Turn>,
    handle: AbortHandle,
}

/// Whose turn it is on a connection: the client's, since some moment, or the server's.
#[derive(Debug)]
pub(super) struct Turn {
    clients_since: Mutex<Option<Instant>>,
}

/// The server's turn, as long as it is.
#[derive(Debug)]
pub(super) struct Busy(Arc<Turn>);

/// Serves the clients of one port for ever, by HTTP, or with an acceptor by HTTPS.
pub(crate) async fn serve<C: Content>(
    context: Arc<LinkContext<C>>,
    listener: TcpListener,
    acceptor: Option<PortAcceptor>,
) {
    let acceptor = acceptor.map(Arc::new);
    let mut house = House { context, acceptor, tasks: JoinSet::new(), seats: BTreeMap::new() };
    loop {
        house.make_room().await;
        match listener.accept().await {
            Ok((stream, SocketAddr::V6(peer))) => house.seat(stream, peer),
            Ok((_, SocketAddr::V4(_))) => {}
            Err(error) => {
                let LinkContext { link, device, .. } = &*house.context;
                tracing::warn!(%link, port = device.name, %error, "could not accept an HTTP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers the requests of one connection until it ends: plain ones for files first, sent by way of `K`, and all that
/// follow the first other one by the library.
pub(super) async fn converse<C: Content, S, K>(
    context: &Arc<LinkContext<C>>,
    mut stream: S,
    peer: SocketAddrV6,
    turn: &Arc<Turn>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    K: Sender<S>,
{
    let LinkContext { link, device, board, .. } = &**context;
    let client = Arc::new(Client::new(peer, Tally::new(board.clone(), *link)));
    let ended_badly = |error: &dyn Display| {
        tracing::debug!(%link, port = device.name, %peer, %error, "an HTTP connection ended badly");
    };
    let mut buffer = BytesMut::with_capacity(MAX_HEAD);
    let mut clock = pin!(tokio::time::sleep(HEAD_TIMEOUT));
    let goes_on = loop {
        match next(&mut stream, &mut buffer, direct::is_file, HEAD_TIMEOUT, clock.as_mut()).await {
            Next::Plain(request, keep) => {
                let busy = turn.begin();
                let response = respond(context, &client, &request).await.map(|body| body.during(busy));
                let answered = direct::answer::<S, K>(&mut stream, request.method(), response, keep).await;
                if let Err(error) = &answered {
                    ended_badly(error);
                }
                if answered.is_err() || !keep {
                    break false;
                }
            }
            Next::Other => break true,
            Next::End => break false,
        }
    };
    if !goes_on {
        // Who hears no end of a TLS connection cannot tell it from one that was cut `[RFC 5246 § 7.2.1]`.
        let _gone = tokio::time::timeout(GRACE, stream.shutdown()).await;
        return;
    }
    let service = service_fn(|request: Request<Incoming>| {
        let (context, client, busy) = (Arc::clone(context), Arc::clone(&client), turn.begin());
        async move {
            Ok::<_, Infallible>(respond(&context, &client, &request).await.map(|body| body.during(busy)))
        }
    });
    let (read, write) = tokio::io::split(stream);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // GRUB 2.06 knows a Content-Length by this name and by no other.
        .title_case_headers(true)
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(join(Cursor::new(buffer).chain(read), write)), service);
    if let Err(error) = connection.await {
        ended_badly(&error);
    }
}

fn refuse<C>(context: &LinkContext<C>, peer: SocketAddrV6, error: &TlsError) {
    let LinkContext { link, device, board, .. } = context;
    board.metrics().count_refusal(&device.name, error.name());
    if let TlsError::Handshake(error) = error {
        board.explain_in(
            Stage::Addressed,
            *link,
            format!("the far end broke off HTTPS: {}", error.message()),
        );
    }
    tracing::debug!(%link, port = device.name, %peer, %error, "no HTTPS");
}

// === impl House ===

impl<C: Content> House<C> {
    fn seat(&mut self, stream: TcpStream, peer: SocketAddrV6) {
        let turn = Arc::new(Turn::new());
        let (context, own, acceptor) = (Arc::clone(&self.context), Arc::clone(&turn), self.acceptor.clone());
        let handle = self.tasks.spawn(async move {
            match acceptor {
                None => converse::<_, _, Kernel>(&context, stream, peer, &own).await,
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => converse::<_, _, Copied>(&context, stream, peer, &own).await,
                    Err(error) => refuse(&context, peer, &error),
                },
            }
        });
        self.seats.insert(handle.id(), Seat { turn, handle });
    }

    /// Returns once there is a seat.
    async fn make_room(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.forget(&ended);
        }
        while self.seats.len() >= MAX_CONNECTIONS {
            let clients = self.seats.values().filter_map(|seat| Some((seat.turn.clients_since()?, seat)));
            let longest = clients.min_by_key(|(since, _)| *since);
            let left = longest.map_or(GRACE, |(since, _)| GRACE.saturating_sub(since.elapsed()));
            if let Some((_, seat)) = longest.filter(|_| left.is_zero()) {
                let LinkContext { link, device, board, .. } = &*self.context;
                board.metrics().count_refusal(&device.name, "http-idle");
                tracing::debug!(%link, port = device.name, "an idle HTTP connection makes room for another");
                seat.handle.abort();
            }
            let ended = if left.is_zero() {
                self.tasks.join_next_with_id().await
            } else {
                tokio::time::timeout(left, self.tasks.join_next_with_id()).await.ok().flatten()
            };
            ended.iter().for_each(|ended| self.forget(ended));
        }
    }

    fn forget(&mut self, ended: &Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        self.seats.remove(&id);
    }
}

// === impl Turn ===

impl Turn {
    /// The client's: it is to ask.
    pub(super) fn new() -> Self {
        Self { clients_since: Mutex::new(Some(Instant::now())) }
    }

    fn begin(self: &Arc<Self>) -> Busy {
        self.set(None);
        Busy(Arc::clone(self))
    }

    pub(super) fn clients_since(&self) -> Option<Instant> {
        *self.clients_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, clients_since: Option<Instant>) {
        *self.clients_since.lock().unwrap_or_else(PoisonError::into_inner) = clients_since;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(Some(Instant::now()));
    }
}
