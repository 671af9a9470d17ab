use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, yield_now};

use self::fake::FakeApi;
use super::super::decide::SIGNER;
use super::super::{GROUP, MACHINE_LABEL, NODE_LABEL};
use super::*;

mod fake;

/// A request of a bootstrap token for the certificate of a node.
fn asked(name: &str, token: &str, group: &str, node: &str) -> Value {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
    let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": { "name": name },
        "spec": {
            "signerName": SIGNER,
            "username": format!("system:bootstrap:{token}"),
            "groups": ["system:bootstrappers", group, "system:authenticated"],
            "usages": ["digital signature", "key encipherment", "client auth"],
            "request": STANDARD.encode(pem),
        },
    })
}

fn ours(name: &str, node: &str) -> Value {
    asked(name, "aaaaaa", GROUP, node)
}

/// An API with the token `aaaaaa` of node4, which ends in the year 2100.
fn api() -> FakeApi {
    let api = FakeApi::default();
    let encode = |text: &str| STANDARD.encode(text);
    api.add_secret(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "bootstrap.kubernetes.io/token",
        "metadata": {
            "name": "bootstrap-token-aaaaaa",
            "namespace": "kube-system",
            "labels": { MACHINE_LABEL: "6d657368-0000-8000-8000-020000000001", NODE_LABEL: "node4" },
        },
        "data": { "token-id": encode("aaaaaa"), "expiration": encode("2100-01-01T00:00:00Z") },
    }));
    api
}

/// The kind of a request's only condition, and its reason.
fn condition_of(api: &FakeApi, name: &str) -> Option<(String, String)> {
    let request = api.request(name);
    let conditions = request["status"]["conditions"].as_array()?;
    assert_eq!(conditions.len(), 1, "{conditions:?}");
    let text = |field: &str| conditions[0][field].as_str().unwrap().to_owned();
    assert_eq!(text("status"), "True");
    assert!(!text("message").is_empty() && !text("lastUpdateTime").is_empty());
    Some((text("type"), text("reason")))
}

fn approve(api: &FakeApi) -> JoinHandle<Error> {
    let cluster = api.cluster();
    tokio::spawn(async move { cluster.approve().await })
}

/// Lets everything that can run do so, until this holds.
async fn reach(what: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !what() {
        assert!(Instant::now() < limit, "it never came to it");
        yield_now().await;
    }
}

async fn settled(api: &FakeApi, name: &str) -> (String, String) {
    reach(|| condition_of(api, name).is_some()).await;
    condition_of(api, name).unwrap()
}

fn pair(kind: &str, reason: &str) -> (String, String) {
    (kind.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn requests_are_decided_on_whether_made_before_the_watch_or_after() {
    let api = api();
    api.put(ours("early-good", "node4"));
    api.put(ours("early-bad", "node5"));
    let task = approve(&api);
    assert_eq!(settled(&api, "early-good").await, pair("Approved", "TokenIsForThisNode"));
    assert_eq!(settled(&api, "early-bad").await, pair("Denied", "OtherName"));
    reach(|| api.is_watched()).await;
    api.put(ours("late-bad", "node5"));
    api.put(asked("late-gone", "zzzzzz", GROUP, "node4"));
    // The same kubelet once more, with another key.
    api.put(ours("late-good", "node4"));
    assert_eq!(settled(&api, "late-good").await, pair("Approved", "TokenIsForThisNode"));
    assert_eq!(settled(&api, "late-bad").await, pair("Denied", "OtherName"));
    assert_eq!(settled(&api, "late-gone").await, pair("Denied", "TokenGone"));
    assert_eq!(api.writes(), 5, "each is decided on once");
    task.abort();
}

#[tokio::test]
async fn what_others_decide_is_left_alone() {
    let api = api();
    let operators = "system:bootstrappers:kubeadm:default-node-token";
    api.put(asked("operators", "aaaaaa", operators, "node4"));
    let mut denied = ours("denied", "node4");
    denied["status"] =
        json!({ "conditions": [{ "type": "Denied", "status": "True", "reason": "AnOperator" }] });
    api.put(denied.clone());
    let mut renewal = ours("renewal", "node4");
    renewal["spec"]["username"] = "system:node:node4".into();
    renewal["spec"]["groups"] = json!(["system:nodes"]);
    api.put(renewal);
    let task = approve(&api);
    reach(|| api.is_watched()).await;
    api.put(ours("good", "node4"));
    settled(&api, "good").await;
    for name in ["operators", "renewal"] {
        assert_eq!(condition_of(&api, name), None, "{name}");
    }
    assert_eq!(api.request("denied")["status"], denied["status"]);
    assert_eq!(api.writes(), 1);
    task.abort();
}

#[tokio::test]
async fn a_decision_that_cannot_be_written_is_made_again() {
    let api = api();
    api.put(ours("good", "node4"));
    api.fail(&[500]);
    let error = format!("{:#}", approve(&api).await.unwrap());
    assert!(error.contains("good") && error.contains("Approved"), "{error}");
    assert_eq!(condition_of(&api, "good"), None);
    let task = approve(&api);
    assert_eq!(settled(&api, "good").await.0, "Approved");
    task.abort();
}

#[tokio::test]
async fn a_request_that_cannot_be_marked_does_not_keep_others_waiting() {
    for code in [404, 409, 422] {
        let api = api();
        api.put(ours("first", "node4"));
        api.put(ours("second", "node4"));
        api.fail(&[code]);
        let task = approve(&api);
        assert_eq!(settled(&api, "second").await.0, "Approved", "{code}");
        // Somebody changed it: that is news, and it is decided on.
        api.put(api.request("first"));
        assert_eq!(settled(&api, "first").await.0, "Approved", "{code}");
        task.abort();
    }
}

#[tokio::test]
async fn a_watch_that_breaks_is_begun_again() {
    let api = api();
    let task = approve(&api);
    reach(|| api.is_watched()).await;
    api.break_watches();
    reach(|| api.is_watched()).await;
    api.put(ours("good", "node4"));
    assert_eq!(settled(&api, "good").await.0, "Approved");
    task.abort();
}
