use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use mesh::{Mac, MachineId};
use serde_json::{Value, json};

use super::*;

/// A cluster that says whether bootstrap tokens may have any node's certificate, and keeps what is posted to it.
fn cluster(allowed: bool) -> (Cluster, Arc<Mutex<Vec<Value>>>) {
    let posted = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&posted);
    let router = Router::new().fallback(async move |request: Request| {
        let is_review = request.uri().path() == "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let body = to_bytes(request.into_body(), usize::MAX).await.unwrap();
        let mut body: Value = serde_json::from_slice(&body).unwrap();
        seen.lock().unwrap().push(body.clone());
        if is_review {
            body["status"] = json!({ "allowed": allowed, "reason": "by the binding `everybody`" });
        }
        Response::new(Body::from(body.to_string()))
    });
    (Cluster { client: Client::new(router, "default") }, posted)
}

async fn mint(cluster: &Cluster) -> Result<BootstrapToken> {
    let [node, relay] = ["node4", "node2"].map(|name| name.parse::<NodeName>().unwrap());
    let machine = MachineId::from_mac(Mac([2, 0, 0, 0, 0, 1]));
    let expires = "2026-01-02T03:04:05Z".parse()?;
    let token = new_token()?;
    cluster.mint(&token, &relay, &Grant { machine, node, expires, boot_before: None }).await?;
    Ok(token)
}

#[tokio::test]
async fn a_token_is_minted_after_it_was_asked_what_it_may_do() {
    let (cluster, posted) = cluster(false);
    let token = mint(&cluster).await.unwrap();
    let posted = posted.lock().unwrap();
    let [review, secret] = posted.as_slice() else { panic!("{posted:?}") };
    assert_eq!(review["spec"]["user"], format!("system:bootstrap:{}", token.id()));
    assert_eq!(review["spec"]["groups"], json!(["system:bootstrappers", GROUP, "system:authenticated"]));
    let right = json!({
        "group": "certificates.k8s.io", "resource": "certificatesigningrequests", "subresource": "nodeclient",
        "verb": "create",
    });
    assert_eq!(review["spec"]["resourceAttributes"], right);
    assert_eq!(secret["metadata"]["labels"][NODE_LABEL], "node4");
    assert_eq!(secret["stringData"]["token-secret"], token.expose_secret());
}

#[tokio::test]
async fn there_is_no_token_where_kubernetes_would_approve_all_that_it_asks_for() {
    let (cluster, posted) = cluster(true);
    let error = format!("{:#}", mint(&cluster).await.unwrap_err());
    assert!(error.contains("by the binding `everybody`") && error.contains(GROUP), "{error}");
    assert_eq!(posted.lock().unwrap().len(), 1, "only the question");
}
