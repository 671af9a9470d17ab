//! As much of an API server as the approval of certificates needs: requests that are listed and watched, and tokens.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use futures::StreamExt as _;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use kube::Client;
use serde_json::{Value, json};

use super::super::Cluster;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets/";

#[derive(Debug, Default)]
struct Held {
    version: u64,
    requests: BTreeMap<String, Value>,
    secrets: BTreeMap<String, Value>,
    watches: Vec<UnboundedSender<Value>>,
    /// Every change, the version `n` at place `n - 1`.
    changes: Vec<Value>,
    /// The codes that the next writes of a decision are answered with.
    failures: Vec<u16>,
    writes: usize,
}

/// The server; its clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct FakeApi {
    held: Arc<Mutex<Held>>,
}

// === impl FakeApi ===

impl FakeApi {
    pub(super) fn cluster(&self) -> Cluster {
        let this = self.clone();
        let router = Router::new().fallback(async move |request: Request| this.answer(request).await);
        Cluster { client: Client::new(router, "default") }
    }

    /// A request for a certificate comes in, or is changed by somebody else.
    pub(super) fn put(&self, mut request: Value) {
        let mut held = self.held();
        held.version += 1;
        request["metadata"]["resourceVersion"] = held.version.to_string().into();
        let name = request["metadata"]["name"].as_str().unwrap().to_owned();
        let known = held.requests.insert(name, request.clone()).is_some();
        held.tell(if known { "MODIFIED" } else { "ADDED" }, &request);
    }

    pub(super) fn request(&self, name: &str) -> Value {
        self.held().requests[name].clone()
    }

    pub(super) fn add_secret(&self, secret: Value) {
        let name = secret["metadata"]["name"].as_str().unwrap().to_owned();
        self.held().secrets.insert(name, secret);
    }

    /// The next writes of a decision fail with these codes, the last one first.
    pub(super) fn fail(&self, codes: &[u16]) {
        self.held().failures = codes.to_vec();
    }

    /// How many decisions were to be written.
    pub(super) fn writes(&self) -> usize {
        self.held().writes
    }

    pub(super) fn break_watches(&self) {
        self.held().watches.clear();
    }

    pub(super) fn is_watched(&self) -> bool {
        self.held().watches.iter().any(|watch| !watch.is_closed())
    }

    async fn answer(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let path = parts.uri.path();
        let query = parts.uri.query().unwrap_or_default();
        let written = path.strip_prefix(REQUESTS).and_then(|rest| rest.strip_prefix('/')?.rsplit_once('/'));
        match (&parts.method, written, path.strip_prefix(SECRETS)) {
            (&Method::GET, None, Some(name)) => whole(self.held().secrets.get(name).cloned().ok_or(404)),
            (&Method::PUT, Some((name, subresource)), None) => {
                let body = serde_json::from_slice(&body).unwrap();
                whole(self.decide(name, subresource, &body))
            }
            (&Method::GET, None, None) if path == REQUESTS && query.contains("watch=true") => {
                self.watch(query)
            }
            (&Method::GET, None, None) if path == REQUESTS => whole(Ok(self.list())),
            (method, ..) => panic!("{method} {path}?{query}"),
        }
    }

    fn list(&self) -> Value {
        let held = self.held();
        let items: Vec<_> = held.requests.values().collect();
        let metadata = json!({ "resourceVersion": held.version.to_string() });
        json!({
            "kind": "CertificateSigningRequestList", "apiVersion": "certificates.k8s.io/v1",
            "metadata": metadata, "items": items,
        })
    }

    /// Changes since the version that the client knows.
    fn watch(&self, query: &str) -> Response {
        let (sender, events) = unbounded();
        let known = query.split('&').find_map(|word| word.strip_prefix("resourceVersion=")).unwrap();
        let mut held = self.held();
        for change in held.changes.iter().skip(known.parse().unwrap()) {
            sender.unbounded_send(change.clone()).unwrap();
        }
        held.watches.push(sender);
        let lines = events.map(|event: Value| Ok::<_, Infallible>(Bytes::from(format!("{event}\n"))));
        Response::new(Body::from_stream(lines))
    }

    fn decide(&self, name: &str, subresource: &str, body: &Value) -> Result<Value, u16> {
        let mut held = self.held();
        held.writes += 1;
        if let Some(code) = held.failures.pop() {
            return Err(code);
        }
        let known = held.requests.get(name).cloned().ok_or(404_u16)?;
        if body["metadata"]["resourceVersion"] != known["metadata"]["resourceVersion"] {
            return Err(409);
        }
        // As the API server does: of such a write only the conditions are taken, or only the certificate and a failure.
        let mut next = known;
        held.version += 1;
        match subresource {
            "approval" => next["status"]["conditions"] = body["status"]["conditions"].clone(),
            "status" => next["status"] = body["status"].clone(),
            other => panic!("a write of {other}"),
        }
        next["metadata"]["resourceVersion"] = held.version.to_string().into();
        held.tell("MODIFIED", &next);
        held.requests.insert(name.to_owned(), next.clone());
        Ok(next)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap()
    }
}

// === impl Held ===

impl Held {
    fn tell(&mut self, kind: &str, object: &Value) {
        let change = json!({ "type": kind, "object": object });
        self.watches.retain(|watch| watch.unbounded_send(change.clone()).is_ok());
        self.changes.push(change);
    }
}

fn whole(answer: Result<Value, u16>) -> Response {
    let (code, body) = match answer {
        Ok(body) => (200, body),
        Err(code) => {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure",
                "code": code, "reason": if code == 404 { "NotFound" } else { "" }, "message": format!("code {code}"),
            });
            (code, status)
        }
    };
    let code = StatusCode::from_u16(code).unwrap();
    Response::builder().status(code).body(Body::from(body.to_string())).unwrap()
}
