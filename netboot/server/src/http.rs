//! HTTP on one mesh port: boot files, artefacts, and the far end's configuration. Nothing else.
//!
//! Firmware is a narrow client: it wants a Content-Length, a bare media type and its connection kept after HEAD, and
//! follows no redirect. The rest is for clients that resume: one range, and an ETag that is the digest.

mod body;
mod connections;
mod detached;
mod direct;
mod offer;
mod query;
mod range;
mod tally;

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
    IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE, RETRY_AFTER,
};
use hyper::{Method, Request, Response, StatusCode};
use mesh::Stage;
use tokio::sync::OwnedSemaphorePermit;

use crate::content::{Content, IgnitionRefusal, IgnitionRequest, RefusalStatus};
use crate::port::LinkContext;

use body::Body;
use offer::{Client, Offered};
use range::Wanted;

pub(crate) use connections::{HEAD_TIMEOUT, serve};
pub use detached::DetachedHttp;

/// Files that one port sends at a time: each may have a piece or two of its file in memory. Others wait for their turn.
pub(crate) const MAX_FILES: usize = 64;
/// Ignition waits 10 s for an answer's head.
const IGNITION_TIMEOUT: Duration = Duration::from_secs(8);
/// After this many seconds a machine that was told to wait may ask again.
const RETRY_SECONDS: &str = "2";

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BYTES: HeaderValue = HeaderValue::from_static("bytes");

/// Answers a request; what the body of the request has is of no interest.
async fn respond<C: Content, B>(
    context: &Arc<LinkContext<C>>,
    client: &Client,
    request: &Request<B>,
) -> Response<Body> {
    let peer = client.peer;
    let path = request.uri().path();
    tracing::trace!(link = %context.link, %peer, method = %request.method(), path, "HTTP request");
    if let Some(reason) = context.gate.closed() {
        context.board.metrics().count_refusal(&context.device.name, "link-not-served");
        let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, &reason);
        put(&mut response, RETRY_AFTER, RETRY_SECONDS);
        return response;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served");
        put(&mut response, ALLOW, "GET, HEAD");
        return response;
    }
    if path == "/ignition" {
        return ignition(context, peer, request).await;
    }
    match client.offered(path, &*context.content) {
        Some(offered) => send_file(context, client, request, &offered).await,
        None => plain(StatusCode::NOT_FOUND, "nothing of that name is served here"),
    }
}

/// A file, or what the client still wants of it.
async fn send_file<C: Content, B>(
    context: &LinkContext<C>,
    client: &Client,
    request: &Request<B>,
    offered: &Offered,
) -> Response<Body> {
    let Offered { file, tag, media_type, .. } = offered;
    let header = |name: HeaderName| request.headers().get(name)?.to_str().ok();
    if header(IF_MATCH).is_some_and(|tags| !range::names(tags, tag)) {
        return plain(StatusCode::PRECONDITION_FAILED, "the file is another now");
    }
    if header(IF_NONE_MATCH).is_some_and(|tags| range::names(tags, tag)) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        put(&mut response, ETAG, tag.clone());
        return response;
    }
    // A range of another file than the client began with is of no use to it.
    let resumes = header(IF_RANGE).is_none_or(|known| known == tag);
    let (status, from, to) = match range::wanted(header(RANGE).filter(|_| resumes), file.size) {
        Wanted::All => (StatusCode::OK, 0, file.size),
        Wanted::Part { from, to } => (StatusCode::PARTIAL_CONTENT, from, to),
        Wanted::Impossible => {
            let mut response = plain(StatusCode::RANGE_NOT_SATISFIABLE, "the file has no such part");
            put(&mut response, CONTENT_RANGE, format!("bytes */{}", file.size));
            return response;
        }
    };
    let turn = match *request.method() {
        Method::HEAD => None,
        // None as well if the semaphore were closed, which it never is.
        _ => Arc::clone(&context.files).acquire_owned().await.ok(),
    };
    let body = match send(client, offered, from, to, turn).await {
        Ok(body) => body,
        Err(error) => {
            let LinkContext { link, device, .. } = context;
            tracing::error!(%link, port = device.name, file = %file.name, %error, "a file cannot be served");
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read here");
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    put(&mut response, CONTENT_TYPE, media_type.clone());
    put(&mut response, CONTENT_LENGTH, to - from);
    put(&mut response, ACCEPT_RANGES, BYTES);
    put(&mut response, ETAG, tag.clone());
    if status == StatusCode::PARTIAL_CONTENT {
        put(&mut response, CONTENT_RANGE, format!("bytes {from}-{}/{}", to - 1, file.size));
    }
    response
}

/// A part of a file for whose turn it is, or nothing; in either case the file is there.
async fn send(
    client: &Client,
    offered: &Offered,
    from: u64,
    to: u64,
    turn: Option<OwnedSemaphorePermit>,
) -> io::Result<Body> {
    let Some(turn) = turn else { return offered.open().await.map(|_| Body::empty()) };
    if offered.file.size > direct::SMALL {
        let file = offered.open().await?;
        client.tally.begin(offered.stage);
        return Ok(Body::file(file, from, to, turn, Arc::clone(&client.tally)));
    }
    let octets = offered.octets().await?;
    let range = usize::try_from(from).ok().zip(usize::try_from(to).ok());
    let (from, to) = range.ok_or(io::ErrorKind::UnexpectedEof)?;
    client.tally.begin(offered.stage);
    Ok(Body::counted(octets.slice(from..to), turn, Arc::clone(&client.tally)))
}

/// The configuration of the far end, for the far end alone.
async fn ignition<C: Content, B>(
    context: &Arc<LinkContext<C>>,
    peer: SocketAddrV6,
    request: &Request<B>,
) -> Response<Body> {
    let LinkContext { link, device, board, .. } = &**context;
    let (port, address) = (&device.name, *peer.ip());
    if request.method() != Method::GET {
        let mut response =
            plain(StatusCode::METHOD_NOT_ALLOWED, "a configuration is made for whoever GETs it");
        put(&mut response, ALLOW, "GET");
        return response;
    }
    // Whoever is behind the far end has a link, and a neighbour, of its own.
    if address != context.prefix.far() && !address.is_unicast_link_local() {
        tracing::warn!(%link, port, %peer, "a configuration was asked for from behind the far end");
        return plain(StatusCode::FORBIDDEN, "only this link's far end is configured here");
    }
    let question = match query::parse(request.uri().query().unwrap_or_default()) {
        Ok(question) => question,
        Err(error) => return plain(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let Some(far_mac) = far_station(context, address, &question) else {
        let reason = "the neighbour's Ethernet address is not known yet".to_owned();
        return refuse(context, &IgnitionRefusal { status: RefusalStatus::NotReady, reason });
    };
    board.heard(*link, far_mac);
    board.set_stage(*link, Stage::Asking, None);
    let asked = IgnitionRequest {
        link: *link,
        near_port: port.clone(),
        peer,
        far_mac,
        uuid: question.uuid,
        ports: question.ports,
        image: question.image,
    };
    let begun = Instant::now();
    match tokio::time::timeout(IGNITION_TIMEOUT, context.content.ignition(asked)).await {
        Ok(Ok(configuration)) => {
            board.metrics().observe_configuration(port, begun.elapsed());
            let octets = u64::try_from(configuration.len()).unwrap_or(u64::MAX);
            board.set_stage(*link, Stage::Configured, None);
            board.count(*link, octets);
            tracing::info!(%link, port, mac = %far_mac, octets, "a machine has its configuration");
            let mut response = Response::new(Body::whole(configuration));
            put(&mut response, CONTENT_TYPE, JSON);
            response
        }
        Ok(Err(refusal)) => refuse(context, &refusal),
        Err(_) => {
            let reason = format!("the configuration was not ready within {} s", IGNITION_TIMEOUT.as_secs());
            refuse(context, &IgnitionRefusal { status: RefusalStatus::NotReady, reason })
        }
    }
}

/// Which station asks: by the kernel's word, by the address itself, or because it has only one port.
fn far_station<C>(
    context: &LinkContext<C>,
    address: Ipv6Addr,
    question: &query::Question,
) -> Option<mesh::Mac> {
    let known = context.neighbours.station(context.device.index, address);
    let only = || match question.ports.as_slice() {
        [(_, mac)] => Some(*mac),
        _ => None,
    };
    // Blocks and names are made of it, and a group is nobody.
    known.filter(|mac| mac.is_unicast()).or_else(only).filter(|mac| mac.is_unicast())
}

fn refuse<C>(context: &LinkContext<C>, refusal: &IgnitionRefusal) -> Response<Body> {
    let LinkContext { link, device, board, .. } = context;
    let IgnitionRefusal { status, reason } = refusal;
    board.set_stage(*link, Stage::Asking, Some(reason.clone()));
    board.metrics().count_refusal(
        &device.name,
        match status {
            RefusalStatus::NotReady => "configuration-not-ready",
            RefusalStatus::Forbidden => "configuration-forbidden",
            RefusalStatus::Conflict => "configuration-conflict",
        },
    );
    tracing::info!(%link, port = device.name, status = status.code(), reason, "a configuration is refused");
    let code = StatusCode::from_u16(status.code()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let mut response = plain(code, reason);
    if *status == RefusalStatus::NotReady {
        put(&mut response, RETRY_AFTER, RETRY_SECONDS);
    }
    response
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::whole(format!("{text}\n").into()));
    *response.status_mut() = status;
    put(&mut response, CONTENT_TYPE, TEXT);
    response
}

fn put(response: &mut Response<Body>, name: HeaderName, value: impl TryInto<HeaderValue>) {
    if let Ok(value) = value.try_into() {
        response.headers_mut().insert(name, value);
    }
}
