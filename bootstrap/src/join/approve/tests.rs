use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh::{AddressPlan, Block, BlockNumber};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, yield_now};

use self::fake::FakeApi;
use super::super::certify::BOOT_SIGNER;
use super::super::decide::SIGNER;
use super::super::{GROUP, MACHINE_LABEL, NODE_LABEL};
use super::*;
use crate::pki::Authority;
use crate::pki::boot::{self, BootSigner};

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
    tokio::spawn(async move { cluster.approve(Some(&certifier())).await })
}

/// What firmware trusts.
static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| boot::authority(SystemTime::now()).unwrap());

/// Who certifies boot servers, where the ledger has node4 alone.
fn certifier() -> Certifier {
    let signer = BootSigner::new(&AUTHORITY).unwrap();
    Certifier::new(signer, |node| (node.as_str() == "node4").then(block))
}

fn block() -> Block {
    AddressPlan::default().block(BlockNumber(4)).unwrap()
}

/// A request of a node for its certificate as a boot server.
fn served_by(name: &str, node: &str) -> Value {
    let request = boot::request(&node.parse().unwrap()).unwrap().request_pem;
    let mut object = ours(name, node);
    object["spec"] = json!({
        "signerName": BOOT_SIGNER,
        "username": format!("system:node:{node}"),
        "groups": ["system:nodes", "system:authenticated"],
        "usages": ["digital signature", "key encipherment", "server auth"],
        "request": STANDARD.encode(request),
    });
    object
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
    assert!(error.contains("good") && error.contains("approval"), "{error}");
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

#[tokio::test]
async fn boot_servers_of_the_mesh_are_certified_and_nobody_else() {
    let api = api();
    api.put(served_by("good", "node4"));
    // A seed that lost its power between the two steps.
    let mut half = served_by("half", "node4");
    half["status"] =
        json!({ "conditions": [{ "type": "Approved", "status": "True", "reason": "NodeOfTheMesh" }] });
    api.put(half);
    api.put(served_by("unknown", "node5"));
    let mut token = served_by("token", "node4");
    token["spec"]["username"] = "system:bootstrap:aaaaaa".into();
    token["spec"]["groups"] = json!(["system:bootstrappers", GROUP]);
    api.put(token);
    let mut other = served_by("other", "node4");
    other["spec"]["request"] = STANDARD.encode("-----BEGIN CERTIFICATE REQUEST-----").into();
    api.put(other);
    // What an operator approves is not signed for that.
    let mut word = served_by("word", "node5");
    word["status"] =
        json!({ "conditions": [{ "type": "Approved", "status": "True", "reason": "AnOperator" }] });
    api.put(word);
    let task = approve(&api);
    let certificate = |name: &str| {
        let text = api.request(name)["status"]["certificate"].as_str().map(str::to_owned)?;
        String::from_utf8(STANDARD.decode(text).unwrap()).ok()
    };
    for name in ["good", "half"] {
        reach(|| certificate(name).is_some()).await;
        assert!(
            boot::renewed_at(&certificate(name).unwrap(), &AUTHORITY.certificate_pem, block()).is_some(),
            "{name}"
        );
    }
    assert_eq!(settled(&api, "good").await, pair("Approved", "NodeOfTheMesh"));
    assert_eq!(settled(&api, "unknown").await, pair("Denied", "UnknownNode"));
    assert_eq!(settled(&api, "token").await, pair("Denied", "NotANode"));
    assert_eq!(settled(&api, "other").await, pair("Denied", "Malformed"));
    reach(|| api.request("word")["status"]["conditions"][1]["type"] == "Failed").await;
    for name in ["unknown", "token", "other", "word"] {
        assert_eq!(certificate(name), None, "{name}");
    }
    assert_eq!(api.writes(), 7, "each step is taken once");
    task.abort();
}
