//! The HTTP server of one port, without the port.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;

use mesh::{LinkId, LinkPrefix, Mac};
use plain_http::Copied;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use super::connections::{Turn, converse};
use crate::board::StatusBoard;
use crate::content::Content;
use crate::gate::Gate;
use crate::http::MAX_FILES;
use crate::port::LinkContext;
use crate::socket::Device;
use crate::tls::Https;

/// Its number, which only the kernel's word of a neighbour is kept by.
const INDEX: u32 = 1;

/// The HTTP server of one port for whoever brings the connection himself: a test has no port, and wants to say who asks.
#[derive(Debug)]
pub struct DetachedHttp<C> {
    context: Arc<LinkContext<C>>,
    turn: Arc<Turn>,
}

// === impl DetachedHttp ===

impl<C: Content> DetachedHttp<C> {
    /// The server of a link.
    #[must_use]
    pub fn new(link: LinkId, prefix: LinkPrefix, mac: Mac, content: Arc<C>) -> Self {
        let context = LinkContext {
            link,
            prefix,
            device: Device { name: "detached".to_owned(), index: INDEX },
            mac,
            content,
            board: StatusBoard::new(),
            neighbours: Arc::default(),
            gate: Gate::default(),
            files: Arc::new(Semaphore::new(MAX_FILES)),
            https: Https::Off,
        };
        Self { context: Arc::new(context), turn: Arc::new(Turn::new()) }
    }

    /// The kernel says which station is behind an address.
    pub fn learn(&self, address: Ipv6Addr, mac: Mac) {
        self.context.neighbours.learn(INDEX, address, mac);
    }

    /// Serves the link no longer for a reason, or again.
    pub fn close(&self, reason: Option<String>) {
        self.context.gate.set(reason);
    }

    /// Answers the requests of one connection until it ends; one at a time.
    pub async fn converse(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send, peer: SocketAddrV6) {
        converse::<_, _, Copied>(&self.context, stream, peer, &self.turn).await;
    }

    /// Whether no request is being answered: on a connection that goes on it is the client's turn.
    #[must_use]
    pub fn waits_for_client(&self) -> bool {
        self.turn.clients_since().is_some()
    }
}
