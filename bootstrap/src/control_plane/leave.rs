//! A control plane stops being one, as an operator wants before its machine goes.
//!
//! Only a promoter changes etcd's members: the wish is written to the Node, and so is what came of it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use mesh::NodeName;
use tokio::time::sleep;

use super::{LEAVE, TICKET};
use crate::exit::{Code, Failure, OrFail as _};
use crate::join::Cluster;

/// What the annotation says: the wish, and what came of it.
pub const ASKED: &str = "asked";
/// It is no member of etcd any more.
pub const DONE: &str = "done";
/// It stays one.
pub const REFUSED: &str = "refused: it is the last one";

/// Between two looks at the Node: a promoter looks as often.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long it may take: a promoter that died is waited for, and another one takes its place.
const LIMIT: Duration = Duration::from_mins(3);
/// The label by which every version knows a control plane.
pub(super) const LABEL: &str = "node-role.kubernetes.io/control-plane";

/// Whether a node is a control plane, or about to become one.
///
/// # Errors
///
/// The API server did not answer.
pub async fn is_control_plane(cluster: &Cluster, name: &NodeName) -> anyhow::Result<bool> {
    let Some(node) = node(cluster, name).await? else { return Ok(false) };
    let has = |map: &Option<std::collections::BTreeMap<String, String>>, key| {
        map.as_ref().is_some_and(|map| map.contains_key(key))
    };
    let told = has(&node.metadata.labels, LABEL) || has(&node.metadata.annotations, TICKET);
    let lease = cluster.promoters_lease().await?;
    Ok(told
        || lease.is_some_and(|lease| {
            lease.board.members.contains_key(name.as_str()) || lease.begun.as_ref() == Some(name)
        }))
}

/// Whether the cluster goes on without a node's disk: the other control planes are a majority of themselves.
///
/// # Errors
///
/// The API server did not answer.
pub async fn spares(cluster: &Cluster, name: &NodeName) -> anyhow::Result<bool> {
    let lease = cluster.promoters_lease().await?;
    Ok(lease.is_none_or(|lease| lease.board.spares(name.as_str())))
}

/// Whether there is no control plane but this node, as the promoter last saw it.
///
/// # Errors
///
/// The API server did not answer.
pub async fn is_last(cluster: &Cluster, name: &NodeName) -> anyhow::Result<bool> {
    let lease = cluster.promoters_lease().await?;
    Ok(lease.is_some_and(|lease| lease.board.is_only(name.as_str())))
}

/// Why the last control plane stays one.
#[must_use]
pub fn last(name: &NodeName) -> Failure {
    let message = format!("{name} is the last control plane: without it there is no cluster");
    Failure::new(Code::Unavailable, message).next("say --force, and the cluster is lost")
}

/// Has a node's member of etcd removed, and waits until it is; `waiting` is told what for.
///
/// # Errors
///
/// It is the last one, or nobody did it in time: then it stays what it is.
pub async fn leave(
    cluster: &Cluster,
    name: &NodeName,
    waiting: impl Fn(&str, Duration),
) -> Result<(), Failure> {
    let what = || format!("cannot ask for the end of the control plane {name}");
    cluster.annotate(name, LEAVE, Some(ASKED)).await.with_context(what).or_fail(Code::TryAgain)?;
    let begun = Instant::now();
    loop {
        let said = node(cluster, name).await.or_fail(Code::TryAgain)?.ok_or_else(|| {
            Failure::new(
                Code::TryAgain,
                format!("the node {name} went away while its member of etcd was to be removed"),
            )
        })?;
        let said = said.metadata.annotations.and_then(|mut all| all.remove(LEAVE));
        match said.as_deref() {
            Some(DONE) => return Ok(()),
            Some(REFUSED) => return Err(last(name)),
            Some(_) | None => {}
        }
        let lease = cluster.promoters_lease().await.or_fail(Code::TryAgain)?;
        let reason = lease.as_ref().and_then(|lease| lease.board.waits.get(name).cloned());
        let reason = reason.unwrap_or_else(|| match lease.and_then(|lease| lease.holder) {
            Some(holder) => format!("{holder} is to remove its member of etcd"),
            None => "no control plane has taken it upon itself yet".to_owned(),
        });
        let Some(left) = LIMIT.checked_sub(begun.elapsed()) else {
            // It must not leave when nobody waits for it any more.
            cluster.annotate(name, LEAVE, None).await.with_context(what).or_fail(Code::TryAgain)?;
            let message = format!("{name} is still a member of etcd after {} s: {reason}", LIMIT.as_secs());
            let next = "`meshboot status` shows the control planes; --force removes the machine all the same";
            return Err(Failure::new(Code::TryAgain, message).next(next));
        };
        waiting(&format!("{name} leaves the control planes: {reason}"), left);
        sleep(INTERVAL.min(left)).await;
    }
}

async fn node(cluster: &Cluster, name: &NodeName) -> anyhow::Result<Option<Node>> {
    let nodes: Api<Node> = Api::all(cluster.client().clone());
    nodes
        .get_opt(name.as_str())
        .await
        .map_err(|error| anyhow!(error).context(format!("cannot ask for the node {name}")))
}
