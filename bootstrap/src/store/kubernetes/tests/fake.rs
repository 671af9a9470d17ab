//! As much of an API server as a ledger needs, in memory, and slow enough to be overtaken at every step.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use kube::Client;
use mesh::{Change, Ledger};
use serde_json::{Value, json};

/// Objects by path of their collection and name.
#[derive(Debug, Default)]
struct Held {
    version: u64,
    objects: BTreeMap<(String, String), Value>,
    /// What each writer tries to commit.
    attempts: BTreeMap<usize, Change>,
    /// The change that made each revision, from 1 on.
    committed: Vec<Change>,
}

/// The server; its clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct FakeApi {
    held: Arc<Mutex<Held>>,
}

type Answer = Result<Value, (StatusCode, &'static str)>;

impl FakeApi {
    /// A connection of one writer. A relay may not delete.
    pub(super) fn client(&self, writer: usize, relay: bool) -> Client {
        let this = self.clone();
        let router = Router::new().fallback(async move |request: Request| {
            // Another writer may come before the request arrives, and before its answer does.
            tokio::task::yield_now().await;
            let response = this.answer(writer, relay, request).await;
            tokio::task::yield_now().await;
            response
        });
        Client::new(router, "default")
    }

    pub(super) fn attempt(&self, writer: usize, change: &Change) {
        self.held().attempts.insert(writer, change.clone());
    }

    /// What the ledger is at each revision, by the order in which heads were taken.
    pub(super) fn model(&self) -> Vec<Ledger> {
        let mut ledgers = vec![Ledger::default()];
        for change in &self.held().committed {
            let mut next = ledgers[ledgers.len() - 1].clone();
            next.apply(change).expect("no commit breaks the ledger");
            ledgers.push(next);
        }
        ledgers
    }

    pub(super) fn committed(&self) -> Vec<Change> {
        self.held().committed.clone()
    }

    pub(super) fn delete(&self, collection: &str, name: &str) {
        let gone = self.held().objects.remove(&(collection.to_owned(), name.to_owned()));
        assert!(gone.is_some(), "there is no {name} in {collection}");
    }

    pub(super) fn names(&self, collection: &str) -> Vec<String> {
        let held = self.held();
        held.objects.keys().filter(|(of, _)| of == collection).map(|(_, name)| name.clone()).collect()
    }

    async fn answer(&self, writer: usize, relay: bool, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path = parts.uri.path();
        let (collection, name) = match path.rsplit_once('/').unwrap() {
            (_, "machines" | "links" | "configmaps") => (path, None),
            (collection, name) => (collection, Some(name)),
        };
        let collection = collection.rsplit_once('/').unwrap().1;
        let answer = match (parts.method, name) {
            (Method::GET, Some(name)) => self.get(collection, name),
            (Method::GET, None) => Ok(self.list(collection)),
            (Method::POST, None) => self.create(collection, body),
            (Method::PUT, Some(name)) => self.replace(writer, collection, name, body),
            (Method::DELETE, Some(_)) if relay => Err((StatusCode::FORBIDDEN, "Forbidden")),
            (Method::DELETE, Some(name)) => self.remove(collection, name, &body),
            (method, _) => panic!("{method} {path}"),
        };
        let (code, body) = match answer {
            Ok(body) => (StatusCode::OK, body),
            Err((code, reason)) => (
                code,
                json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "code": code.as_u16(), "reason": reason, "message": reason,
                }),
            ),
        };
        Response::builder().status(code).body(Body::from(body.to_string())).unwrap()
    }

    fn get(&self, collection: &str, name: &str) -> Answer {
        let key = (collection.to_owned(), name.to_owned());
        self.held().objects.get(&key).cloned().ok_or((StatusCode::NOT_FOUND, "NotFound"))
    }

    fn list(&self, collection: &str) -> Value {
        let held = self.held();
        let items: Vec<_> =
            held.objects.iter().filter(|((of, _), _)| of == collection).map(|(_, object)| object).collect();
        json!({ "kind": "List", "apiVersion": "v1", "metadata": {}, "items": items })
    }

    fn create(&self, collection: &str, mut object: Value) -> Answer {
        let mut held = self.held();
        let key = (collection.to_owned(), object["metadata"]["name"].as_str().unwrap().to_owned());
        if held.objects.contains_key(&key) {
            return Err((StatusCode::CONFLICT, "AlreadyExists"));
        }
        held.version += 1;
        object["metadata"]["resourceVersion"] = held.version.to_string().into();
        object["metadata"]["uid"] = format!("uid-{}", held.version).into();
        held.objects.insert(key, object.clone());
        Ok(object)
    }

    fn replace(&self, writer: usize, collection: &str, name: &str, mut object: Value) -> Answer {
        let mut held = self.held();
        let key = (collection.to_owned(), name.to_owned());
        let Some(known) = held.objects.get(&key) else { return Err((StatusCode::NOT_FOUND, "NotFound")) };
        let version = &object["metadata"]["resourceVersion"];
        assert!(version.is_string(), "an unconditional write");
        if *version != known["metadata"]["resourceVersion"] {
            return Err((StatusCode::CONFLICT, "Conflict"));
        }
        if collection == "configmaps"
            && let Some(change) = held.attempts.remove(&writer)
        {
            held.committed.push(change);
            assert_eq!(object["data"]["revision"], held.committed.len().to_string());
        }
        held.version += 1;
        object["metadata"]["resourceVersion"] = held.version.to_string().into();
        held.objects.insert(key, object.clone());
        Ok(object)
    }

    fn remove(&self, collection: &str, name: &str, options: &Value) -> Answer {
        let mut held = self.held();
        let key = (collection.to_owned(), name.to_owned());
        let Some(known) = held.objects.get(&key) else { return Err((StatusCode::NOT_FOUND, "NotFound")) };
        for field in ["resourceVersion", "uid"] {
            if options["preconditions"][field] != known["metadata"][field] {
                return Err((StatusCode::CONFLICT, "Conflict"));
            }
        }
        held.objects.remove(&key).ok_or((StatusCode::NOT_FOUND, "NotFound"))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap()
    }
}
