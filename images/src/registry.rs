//! The OCI distribution API: the pull half for what the store holds and what it can fetch, and for those who may, the push
//! half.
//!
//! A listener stands for one upstream registry (`http://[docker.io's mirror]:5000`); a client that names another one by
//! `?ns=`, as containerd does for mirrors, gets that one's images. Blobs stream from disk in chunks; what a client costs
//! does not grow with what it pulls.
//!
//! *Architecture invariant:* nobody is served the whole of what the store has not verified, and nobody writes without a
//! password.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::pull::Puller;
use crate::store::RegistryName;

mod answer;
mod connection;
mod error;
mod guard;
mod probe;
mod push;
mod range;
mod request;
mod respond;
#[cfg(test)]
mod tests;
mod uploads;

use answer::Shelf;
use connection::Failure;
use uploads::Uploads;

pub use answer::router;
pub use guard::{Guard, Identity, USER};
pub use probe::{ProbeError, probe};

/// Connections of all mirrors together; a node pulling an image opens a handful. Others wait for their turn.
const MAX_CONNECTIONS: usize = 256;
/// Connections of a listener with a guard.
const MAX_GUARDED: usize = 64;
/// What waits for a client besides the chunk in hand: else slow clients would have half a megabyte each.
const MAX_BUFFERED: usize = 64 * 1024;
/// How long a client may take to send a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client that takes no bytes, or is gone, keeps its connection.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long running transfers may go on after the shutdown was asked for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Waiting connections.
const BACKLOG: i32 = 1024;
/// After a failed accept (out of descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One address of the registry.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Where it listens. The address need not exist yet: an anycast address is put on `lo` only while the service
    /// behind it answers. Such a checker needs another way in: listen on `[::]`, or on `[::1]` as well.
    pub address: SocketAddr,
    /// Whose images it serves to clients that do not say by `?ns=`; with `None`, they have to.
    pub registry: Option<RegistryName>,
    /// By whom and how it is written to: by TLS, as all of this listener. None if it only serves.
    pub guard: Option<Guard>,
}

/// A registry whose sockets are open.
#[derive(Debug)]
pub struct Bound {
    sockets: Vec<(TcpListener, Option<RegistryName>, Option<Guard>)>,
}

/// Why the registry cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for images")]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// Opens all sockets and serves until `shutdown` ends.
///
/// # Errors
///
/// [`BindError`]; once the sockets are open nothing ends it but `shutdown`.
pub async fn serve(
    listeners: Vec<Listener>,
    puller: Puller,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), BindError> {
    bind(listeners)?.serve(puller, shutdown).await;
    Ok(())
}

/// Opens all sockets, or none. Has to be called within a tokio runtime.
///
/// # Errors
///
/// [`BindError`].
pub fn bind(listeners: Vec<Listener>) -> Result<Bound, BindError> {
    let mut sockets = Vec::new();
    for Listener { address, registry, guard } in listeners {
        let socket = listen(address, guard.is_some()).map_err(|source| BindError { address, source })?;
        sockets.push((socket, registry, guard));
    }
    Ok(Bound { sockets })
}

/// With `both`, `[::]` is for IPv4 as well: skopeo and docker know no addresses of IPv6.
fn listen(address: SocketAddr, both: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    match address.ip() {
        IpAddr::V4(_) => socket.set_freebind_v4(true)?,
        IpAddr::V6(_) => {
            socket.set_only_v6(!both)?;
            socket.set_freebind_v6(true)?;
        }
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

// === impl Bound ===

impl Bound {
    /// Where it listens: for those who let the kernel choose the port.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|(socket, ..)| socket.local_addr().ok()).collect()
    }

    /// Serves until `shutdown` ends, then lets running transfers go on for a few seconds.
    pub async fn serve(self, puller: Puller, shutdown: impl Future<Output = ()> + Send) {
        let stop = CancellationToken::new();
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut loops = JoinSet::new();
        for (socket, registry, guard) in self.sockets {
            let uploads = guard.as_ref().map(|_| Uploads::new(puller.clone()));
            let shelf = Shelf { puller: puller.clone(), registry, uploads };
            let mut router = answer::shelf_router(shelf);
            if let Some(guard) = &guard {
                router = router.layer(axum::middleware::from_fn_with_state(guard.clone(), guard::admit));
            }
            // Strangers who only knock at the one door keep nobody out of the others.
            let permits = match &guard {
                Some(_) => Arc::new(Semaphore::new(MAX_GUARDED)),
                None => Arc::clone(&permits),
            };
            let door = Door { router, guard, permits, stop: stop.clone() };
            loops.spawn(accept(socket, door));
        }
        shutdown.await;
        stop.cancel();
        while loops.join_next().await.is_some() {}
    }
}

/// What a connection of one listener comes to.
#[derive(Clone)]
struct Door {
    router: axum::Router,
    guard: Option<Guard>,
    permits: Arc<Semaphore>,
    stop: CancellationToken,
}

async fn accept(socket: TcpListener, door: Door) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let next = async { (Arc::clone(&door.permits).acquire_owned().await, socket.accept().await) };
        let (permit, accepted) = tokio::select! {
            () = door.stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            next = next => next,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = limit_patience(&stream) {
            debug!(%peer, %error, "cannot set a connection's time limits");
        }
        let (door, watcher) = (door.clone(), graceful.watcher());
        connections.spawn(async move {
            if let Err(error) = door.converse(stream, watcher).await {
                debug!(%peer, error = &*error, "a connection broke");
            }
            drop(permit);
        });
    }
    drop(socket);
    if timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        warn!(connections = connections.len(), "breaking transfers off");
    }
    connections.shutdown().await;
}

// === impl Door ===

impl Door {
    /// Answers the requests of one connection until it ends.
    async fn converse(self, stream: TcpStream, watcher: Watcher) -> Result<(), Failure> {
        let Some(guard) = self.guard else {
            return connection::converse(stream, self.router, watcher, self.stop).await;
        };
        let config = guard.identity.at(stream.local_addr()?.ip().to_canonical())?;
        let accepted = timeout(HEADER_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await??;
        connection::converse_by_library(accepted, self.router, watcher).await
    }
}

/// The kernel ends connections whose other end is gone, or takes no bytes.
fn limit_patience(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(STALL_TIMEOUT))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(STALL_TIMEOUT))?;
    socket.set_tcp_nodelay(true)
}
