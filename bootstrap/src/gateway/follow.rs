//! Follows a machine from its configuration to its node being Ready.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh::{LinkId, MachineId, NodeName, Stage};
use netboot_server::StatusBoard;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::join::{Cluster, NodeState, TOKEN_LIFETIME};

/// Time between two looks at a node.
const INTERVAL: Duration = Duration::from_secs(2);

/// One machine on its way.
#[derive(Debug, Clone)]
pub struct Journey {
    /// The machine.
    pub machine: MachineId,
    /// Its node.
    pub node: NodeName,
    /// The link that it booted through.
    pub link: LinkId,
    /// What Kubernetes said of the node before.
    pub before: Option<NodeState>,
}

/// The machines on their way.
#[derive(Debug, Clone)]
pub struct Follower {
    board: StatusBoard,
    under_way: Arc<Mutex<HashMap<MachineId, AbortHandle>>>,
}

// === impl Follower ===

impl Follower {
    /// Nobody is on the way yet.
    #[must_use]
    pub fn new(board: StatusBoard) -> Self {
        Self { board, under_way: Arc::default() }
    }

    /// Follows one machine. If it was followed before, it has started afresh.
    pub fn follow(&self, cluster: Cluster, journey: Journey) {
        let (this, machine) = (self.clone(), journey.machine);
        let task = tokio::spawn(async move { this.watch(&cluster, &journey).await });
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, task| !task.is_finished());
        if let Some(before) = under_way.insert(machine, task.abort_handle()) {
            before.abort();
        }
    }

    async fn watch(&self, cluster: &Cluster, journey: &Journey) {
        let deadline = Instant::now() + TOKEN_LIFETIME;
        self.board.set_far(journey.link, Some(journey.machine), Some(journey.node.clone()));
        self.board.set_stage(journey.link, Stage::Configured, None);
        let mut stage = Stage::Configured;
        loop {
            let seen = cluster.node(&journey.node).await;
            let (now, reason) = judge(journey.before.as_ref(), seen.as_ref().ok().and_then(Option::as_ref));
            let reason = seen.as_ref().err().map(|error| format!("{error:#}")).or(reason);
            if now > stage {
                tracing::info!(node = %journey.node, link = %journey.link, stage = %now, "machine came further");
                stage = now;
            }
            self.board.set_stage(journey.link, stage, reason.clone());
            if stage == Stage::Ready {
                return;
            }
            if Instant::now() >= deadline {
                let minutes = TOKEN_LIFETIME.as_secs() / 60;
                let reason = reason.unwrap_or_else(|| "it was never heard of".to_owned());
                let reason =
                    format!("not Ready after {minutes} minutes, its token has ended: {reason}; restart it");
                tracing::warn!(node = %journey.node, link = %journey.link, %reason, "machine did not join");
                self.board.set_stage(journey.link, stage, Some(reason));
                return;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

/// How far a machine has come by what Kubernetes says of its node, before this boot and now.
fn judge(before: Option<&NodeState>, now: Option<&NodeState>) -> (Stage, Option<String>) {
    match now {
        None => (Stage::Configured, Some("its node is not known to Kubernetes yet".to_owned())),
        Some(now) if now.is_ready_since(before.map(|before| &*before.boot_id)) => (Stage::Ready, None),
        Some(now) if before.is_some_and(|before| before.boot_id == now.boot_id) => (
            Stage::Configured,
            Some("its kubelet has not been heard of since it was started anew".to_owned()),
        ),
        Some(now) => (Stage::Joining, now.reason.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ready: bool, boot_id: &str) -> NodeState {
        NodeState { ready, boot_id: boot_id.into(), reason: (!ready).then(|| "CNI".into()) }
    }

    #[test]
    fn a_new_node_goes_from_configured_to_ready() {
        assert_eq!(judge(None, None).0, Stage::Configured);
        assert_eq!(judge(None, Some(&node(false, "a"))), (Stage::Joining, Some("CNI".into())));
        assert_eq!(judge(None, Some(&node(true, "a"))), (Stage::Ready, None));
    }

    #[test]
    fn what_kubernetes_remembers_of_the_boot_before_is_not_believed() {
        let before = node(true, "a");
        assert_eq!(judge(Some(&before), Some(&before)).0, Stage::Configured);
        assert_eq!(judge(Some(&before), Some(&node(false, "b"))).0, Stage::Joining);
        assert_eq!(judge(Some(&before), Some(&node(true, "b"))).0, Stage::Ready);
    }
}
