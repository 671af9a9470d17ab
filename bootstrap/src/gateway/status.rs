//! The status page of one node: JSON on the node's VIP, read by `meshboot status` and by `deploy`, with the last boots of
//! its links for `meshboot why`, its events for `meshboot timeline`, and its counters for Prometheus. Machines that boot do
//! not get there: their requests are served by sockets of their port, which know none of this.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use images::pull::Puller;
use mesh::{EventPage, LinkStatus, Machine, Timeline};
use netboot_server::StatusBoard;
use prometheus_client::encoding::text::encode_eof;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;

use super::mirrors;
use super::settings::STATUS_PORT;
use crate::anycast::AnycastStatus;
use crate::store::journal::MeshStore;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What one node says of itself and of its links.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The machine.
    pub machine: Machine,
    /// The version of `meshboot`.
    pub version: String,
    /// Whether the API server answers it; if not, why it matters.
    pub api: ApiStatus,
    /// The anycast addresses of its services.
    pub anycasts: Vec<AnycastStatus>,
    /// Its links, by port.
    pub links: Vec<LinkStatus>,
    /// Every machine that the ledger knows, as far as this node has seen.
    pub machines: Vec<Machine>,
}

/// Whether new machines can be admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiStatus {
    /// Whether the API server answers and the ledger is kept there.
    pub available: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// Which events are asked for: `/events?after=17`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Asked {
    /// The number of the last one that is known already.
    #[serde(default)]
    after: u64,
}

/// Where the page's parts come from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The machine.
    pub machine: Machine,
    /// The API server.
    pub api: watch::Receiver<ApiStatus>,
    /// The anycast addresses.
    pub anycasts: watch::Receiver<Vec<AnycastStatus>>,
    /// The links.
    pub board: StatusBoard,
    /// The ledger.
    pub store: Arc<MeshStore>,
    /// What the mirrors have, if there are any.
    pub images: Option<Puller>,
}

/// Serves the page until `stop` changes.
///
/// # Errors
///
/// The port cannot be opened.
pub async fn serve(vip: Ipv6Addr, sources: Sources, mut stop: watch::Receiver<bool>) -> Result<()> {
    let listener = listen(SocketAddr::from((vip, STATUS_PORT)))?;
    let router = Router::new()
        .route("/status", get(page))
        .route("/timelines", get(timelines))
        .route("/events", get(events))
        .route("/metrics", get(metrics))
        .with_state(sources);
    let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
    axum::serve(listener, router).with_graceful_shutdown(stopped).await.context("the status page failed")
}

async fn page(State(sources): State<Sources>) -> Json<NodeStatus> {
    Json(NodeStatus {
        machine: sources.machine.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: sources.api.borrow().clone(),
        anycasts: sources.anycasts.borrow().clone(),
        links: sources.board.watch().borrow().clone(),
        machines: sources.store.cached().machines().cloned().collect(),
    })
}

async fn timelines(State(sources): State<Sources>) -> Json<Vec<Timeline>> {
    Json(sources.board.timelines())
}

async fn events(State(sources): State<Sources>, Query(asked): Query<Asked>) -> Json<EventPage> {
    Json(sources.board.events().page(asked.after))
}

async fn metrics(State(sources): State<Sources>) -> Response {
    let mut text = String::new();
    let written = sources.board.write_metrics(&mut text).and_then(|()| {
        sources.images.iter().try_for_each(|puller| mirrors::write_counters(puller, &mut text))?;
        encode_eof(&mut text)
    });
    match written.map(|()| text) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the counters cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The address may not be there yet: it comes with the network's configuration.
fn listen(address: SocketAddr) -> Result<tokio::net::TcpListener> {
    let what = || format!("cannot listen on {address}");
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).with_context(what)?;
    socket.set_reuse_address(true).with_context(what)?;
    socket.set_freebind_v6(true).with_context(what)?;
    socket.set_nonblocking(true).with_context(what)?;
    socket.bind(&address.into()).with_context(what)?;
    socket.listen(64).with_context(what)?;
    tokio::net::TcpListener::from_std(socket.into()).with_context(what)
}
