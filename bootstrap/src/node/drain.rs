//! A node's pods leave it: as `kubectl drain`, by the Eviction API, which heeds disruption budgets.
//!
//! What would come back at once is left where it is: pods of DaemonSets, and those that the kubelet runs from files.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::http::{Request, StatusCode};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::exit::{Code, Failure, OrFail as _};
use crate::progress::Reporter;

/// Disruption budgets are asked again, and pods looked at, this often.
const INTERVAL: Duration = Duration::from_secs(2);
/// The kubelet's own pods: the API server only mirrors them.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// First minor version that evicts by policy/v1; those before know v1beta1 only.
const POLICY_V1: u32 = 22;

/// Lets no new pods onto a node, and waits until those that are there have left. A node that Kubernetes does not know has
/// none.
pub(super) async fn drain(
    client: &Client,
    node: &str,
    limit: Duration,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let nodes: Api<Node> = Api::all(client.clone());
    cordon(client, node).await?;
    let api = policy(client).await?;
    let begun = Instant::now();
    let mut asked = BTreeSet::new();
    loop {
        let found = nodes.get_opt(node).await.context("cannot ask for the node").or_fail(Code::TryAgain)?;
        let Some(found) = found else { return Ok(()) };
        // Nobody there stops a pod and says so; it goes with the node.
        let is_dead = !is_ready(&found);
        let pods = pods_of(client, node).await?;
        let staying: Vec<&Pod> = pods.iter().filter(|pod| must_leave(pod)).collect();
        let mut reasons = Vec::new();
        for pod in &staying {
            let key = (pod.namespace().unwrap_or_default(), pod.name_any(), pod.uid());
            if asked.contains(&key) || pod.metadata.deletion_timestamp.is_some() {
                continue;
            }
            match evict(client, api, pod).await? {
                None => drop(asked.insert(key)),
                Some(reason) => reasons.push(format!("{}: {reason}", pod.name_any())),
            }
        }
        if staying.is_empty() || (is_dead && reasons.is_empty()) {
            return Ok(());
        }
        let names: Vec<String> = staying.iter().map(|pod| pod.name_any()).collect();
        let waits = if reasons.is_empty() { names.join(", ") } else { reasons.join("; ") };
        let Some(left) = limit.checked_sub(begun.elapsed()) else {
            let message = format!("pods do not leave {node} within {} s: {waits}", limit.as_secs());
            return Err(Failure::new(Code::TryAgain, message));
        };
        reporter.waiting(&format!("leaving {node}: {waits}"), left);
        sleep(INTERVAL.min(left)).await;
    }
}

/// Lets no new pods onto a node, if Kubernetes knows it.
pub(super) async fn cordon(client: &Client, node: &str) -> Result<(), Failure> {
    let nodes: Api<Node> = Api::all(client.clone());
    let cordon = json!({ "spec": { "unschedulable": true } });
    match nodes.patch(node, &PatchParams::default(), &Patch::Merge(cordon)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == StatusCode::NOT_FOUND.as_u16() => Ok(()),
        Err(error) => {
            Err(error).with_context(|| format!("cannot keep pods away from {node}")).or_fail(Code::TryAgain)
        }
    }
}

async fn pods_of(client: &Client, node: &str) -> Result<Vec<Pod>, Failure> {
    let here = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let listed = Api::<Pod>::all(client.clone()).list(&here).await;
    let listed = listed.with_context(|| format!("cannot ask for the pods of {node}"));
    Ok(listed.or_fail(Code::TryAgain)?.items)
}

fn must_leave(pod: &Pod) -> bool {
    let of_daemon_set = pod.owner_references().iter().any(|owner| owner.kind == "DaemonSet");
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let is_over = matches!(phase, Some("Succeeded" | "Failed"));
    !of_daemon_set && !is_over && !pod.annotations().contains_key(MIRROR)
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    ready.is_some_and(|ready| ready.status == "True")
}

/// The version of the Eviction API that the server knows.
async fn policy(client: &Client) -> Result<&'static str, Failure> {
    let version = client.apiserver_version().await.context("cannot ask the API server for its version");
    let minor = version.or_fail(Code::TryAgain)?.minor;
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    let is_new = digits.parse::<u32>().is_ok_and(|minor| minor >= POLICY_V1);
    Ok(if is_new { "policy/v1" } else { "policy/v1beta1" })
}

/// Asks a pod to leave; why it may not now, if a disruption budget forbids it.
async fn evict(client: &Client, api: &str, pod: &Pod) -> Result<Option<String>, Failure> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let what = || format!("cannot evict the pod {namespace}/{name}");
    let eviction = json!({
        "apiVersion": api,
        "kind": "Eviction",
        "metadata": { "name": name, "namespace": namespace },
    });
    let request = Request::post(format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction"))
        .header("content-type", "application/json")
        .body(eviction.to_string().into_bytes());
    let request = request.with_context(what).or_fail(Code::Software)?;
    match client.request::<Value>(request).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == StatusCode::NOT_FOUND.as_u16() => Ok(None),
        Err(kube::Error::Api(status)) if status.code == StatusCode::TOO_MANY_REQUESTS.as_u16() => {
            Ok(Some(status.message))
        }
        Err(error) => Err(error).with_context(what).or_fail(Code::TryAgain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_would_come_back_at_once_stays() {
        let owned = |kind: &str| {
            let owner = json!({ "apiVersion": "apps/v1", "kind": kind, "name": "x", "uid": "1" });
            pod(
                json!({ "metadata": { "name": "a", "ownerReferences": [owner] }, "status": { "phase": "Running" } }),
            )
        };
        assert!(must_leave(&owned("ReplicaSet")));
        assert!(!must_leave(&owned("DaemonSet")));
        assert!(must_leave(&pod(json!({ "metadata": { "name": "bare" } }))));
        assert!(!must_leave(&pod(
            json!({ "metadata": { "name": "done" }, "status": { "phase": "Succeeded" } })
        )));
        let of_a_file = json!({ "metadata": { "name": "etcd", "annotations": { MIRROR: "1" } } });
        assert!(!must_leave(&pod(of_a_file)));
    }
}
