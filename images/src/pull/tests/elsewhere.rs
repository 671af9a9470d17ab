//! A registry elsewhere that does what the worst of them do.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use bytes::Bytes;
use futures::channel::mpsc;
use futures::{StreamExt, stream};
use serde_json::json;
use tokio::net::TcpListener;

use crate::store::{Digest, OCI_MANIFEST};
use crate::upstream::{Credentials, UpstreamConfig};

/// What it does with the next request for a blob or a manifest.
pub(super) enum Fault {
    /// Says how long the answer is, and breaks off after so many bytes.
    Break(usize),
    /// Answers with a status, and how long to leave it alone.
    Status(u16, Option<u32>),
    /// Sends other bytes, as many as the right ones.
    Lie,
    /// Says that the answer is shorter than it is, and sends no more.
    Short(usize),
    /// Knows no ranges.
    Whole,
    /// Sends what the test sends.
    Drip(mpsc::UnboundedReceiver<Bytes>),
    /// Never ends.
    Endless,
}

/// What it wants to see of who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Open,
    Basic,
    Token,
    /// Tokens that are good for one request.
    TokenOnce,
}

#[derive(Default)]
struct Shelves {
    objects: HashMap<String, (String, Bytes)>,
    faults: VecDeque<Fault>,
    asked: Vec<(Method, String, Option<String>)>,
    tokens: Vec<String>,
}

#[derive(Clone)]
pub(super) struct Elsewhere {
    shelves: Arc<Mutex<Shelves>>,
    door: Door,
    pub(super) address: SocketAddr,
}

impl Elsewhere {
    pub(super) async fn open(door: Door) -> Self {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let elsewhere = Self { shelves: Arc::default(), door, address };
        let router = Router::new().fallback(answer).with_state(elsewhere.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        elsewhere
    }

    pub(super) fn config(&self, credentials: Option<(&str, &str)>) -> UpstreamConfig {
        let credentials = credentials
            .map(|(user, password)| Credentials { user: user.to_owned(), password: password.to_owned() });
        let endpoint = Some(format!("http://{}", self.address).parse().unwrap());
        UpstreamConfig { registry: "registry.example".parse().unwrap(), endpoint, credentials }
    }

    pub(super) fn blob(&self, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.object(&format!("a/b/blobs/{digest}"), "application/octet-stream", bytes);
        digest
    }

    pub(super) fn manifest(&self, tag: &str, text: &str) -> Digest {
        self.manifest_as(tag, OCI_MANIFEST, text)
    }

    pub(super) fn manifest_as(&self, tag: &str, media_type: &str, text: &str) -> Digest {
        let bytes = Bytes::from(text.to_owned());
        let digest = Digest::of(&bytes);
        for name in [tag.to_owned(), digest.to_string()] {
            self.object(&format!("a/b/manifests/{name}"), media_type, bytes.clone());
        }
        digest
    }

    pub(super) fn object(&self, path: &str, media_type: &str, bytes: Bytes) {
        let path = format!("/v2/{path}");
        self.shelves.lock().unwrap().objects.insert(path, (media_type.to_owned(), bytes));
    }

    pub(super) fn forget(&self, path: &str) {
        self.shelves.lock().unwrap().objects.remove(&format!("/v2/{path}"));
    }

    pub(super) fn fault(&self, fault: Fault) {
        self.shelves.lock().unwrap().faults.push_back(fault);
    }

    /// What was asked for since this was called last: method, path, range.
    pub(super) fn asked(&self) -> Vec<(Method, String, Option<String>)> {
        std::mem::take(&mut self.shelves.lock().unwrap().asked)
    }

    /// How many tokens were given.
    pub(super) fn tokens(&self) -> usize {
        self.shelves.lock().unwrap().tokens.len()
    }

    fn is_let_in(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let mut shelves = self.shelves.lock().unwrap();
        match self.door {
            Door::Open => true,
            // user:secret
            Door::Basic => shown == Some("Basic dXNlcjpzZWNyZXQ="),
            Door::Token => shelves.tokens.iter().any(|token| shown == Some(token)),
            Door::TokenOnce => {
                let at = shelves.tokens.iter().position(|token| shown == Some(token));
                at.is_some_and(|at| !std::mem::take(&mut shelves.tokens[at]).is_empty())
            }
        }
    }

    fn challenge(&self) -> Response {
        let challenge = match self.door {
            Door::Basic => "Basic realm=\"here\"".to_owned(),
            Door::Open | Door::Token | Door::TokenOnce => format!(
                "Bearer realm=\"http://{}/token\",service=\"it\",scope=\"repository:a/b:pull\"",
                self.address
            ),
        };
        let mut response = StatusCode::UNAUTHORIZED.into_response();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_str(&challenge).unwrap());
        response
    }

    fn token(&self) -> Response {
        let mut shelves = self.shelves.lock().unwrap();
        let token = format!("t{}", shelves.tokens.len());
        shelves.tokens.push(format!("Bearer {token}"));
        Json(json!({ "token": token, "expires_in": 300 })).into_response()
    }
}

async fn answer(State(elsewhere): State<Elsewhere>, request: Request) -> Response {
    let (path, headers) = (request.uri().path().to_owned(), request.headers());
    if path == "/token" {
        return elsewhere.token();
    }
    if !elsewhere.is_let_in(headers) {
        return elsewhere.challenge();
    }
    let range = headers.get(header::RANGE).map(|value| value.to_str().unwrap().to_owned());
    let (found, fault) = {
        let mut shelves = elsewhere.shelves.lock().unwrap();
        shelves.asked.push((request.method().clone(), path.clone(), range.clone()));
        (shelves.objects.get(&path).cloned(), shelves.faults.pop_front())
    };
    let Some((media_type, bytes)) = found else { return StatusCode::NOT_FOUND.into_response() };
    let from: usize = match (&range, &fault) {
        (Some(range), fault) if !matches!(fault, Some(Fault::Whole)) => {
            range.strip_prefix("bytes=").unwrap().trim_end_matches('-').parse().unwrap()
        }
        _ => 0,
    };
    if from >= bytes.len() && from > 0 {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    let rest = bytes.slice(from..);
    let mut len = Some(rest.len());
    // What was sent before is on its way by then.
    let broken = || {
        stream::once(async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Err(io::Error::other("broken off"))
        })
    };
    let body = match fault {
        None | Some(Fault::Whole) => Body::from(rest),
        Some(Fault::Break(at)) => {
            let part: Bytes = rest.slice(..at.min(rest.len()));
            Body::from_stream(stream::once(async { Ok(part) }).chain(broken()))
        }
        Some(Fault::Status(status, again_in)) => {
            let mut response = StatusCode::from_u16(status).unwrap().into_response();
            response
                .headers_mut()
                .extend(again_in.map(|wait| (header::RETRY_AFTER, HeaderValue::from(wait))));
            return response;
        }
        Some(Fault::Lie) => Body::from(vec![b'!'; rest.len()]),
        Some(Fault::Short(short)) => {
            len = Some(short);
            Body::from(rest.slice(..short))
        }
        Some(Fault::Drip(drops)) => Body::from_stream(drops.map(Ok::<_, io::Error>)),
        Some(Fault::Endless) => {
            len = None;
            Body::from_stream(stream::repeat(Bytes::from(vec![b' '; 1 << 16])).map(Ok::<_, io::Error>))
        }
    };
    let mut response = body.into_response();
    *response.status_mut() = if from > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let head = response.headers_mut();
    head.insert(header::CONTENT_TYPE, HeaderValue::from_str(&media_type).unwrap());
    head.extend(len.map(|len| (header::CONTENT_LENGTH, HeaderValue::from(len))));
    if path.contains("/manifests/") {
        let digest = HeaderValue::from_str(&Digest::of(&bytes).to_string()).unwrap();
        head.insert("docker-content-digest", digest);
    }
    if from > 0 {
        let part = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
        head.insert(header::CONTENT_RANGE, HeaderValue::from_str(&part).unwrap());
    }
    response
}
