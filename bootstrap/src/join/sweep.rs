//! Takes away the tokens that nobody needs any more.
//!
//! What is to be done is read off the tokens and the nodes themselves, so nothing has to be remembered: a gateway that
//! is started anew in the middle of a boot, or a relay that is gone for good, leaves no token behind. Only a seed does
//! it, so that no other machine has to have the right to delete Secrets.

use std::pin::pin;
use std::sync::Arc;

use anyhow::{Context, Error, Result, anyhow};
use futures::TryStreamExt as _;
use futures::stream::select;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::api::DeleteParams;
use kube::runtime::reflector::{self, ObjectRef, reflector};
use kube::runtime::watcher;
use kube::{Api, ResourceExt as _};
use mesh::NodeName;

use super::approve::WATCH;
use super::token::Grant;
use super::{Cluster, MACHINE_LABEL, NodeState};

/// A token of a machine's.
#[derive(Debug, Clone)]
struct Minted {
    /// The name of its Secret.
    name: String,
    grant: Grant,
    created: Timestamp,
}

/// Why a token is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Unneeded {
    #[error("its node is Ready")]
    Ready,
    #[error("its machine was given another one")]
    Replaced,
}

// === impl Cluster ===

impl Cluster {
    /// Takes away each machine's token once its node is Ready, or once the machine has another one, until something
    /// goes wrong; returns what. Call it again then. Only an administrator may.
    pub async fn sweep(&self) -> Error {
        let config = watcher::Config::default().timeout(WATCH);
        let (tokens, writer) = reflector::store::<Secret>();
        let secrets = reflector(writer, watcher(self.secrets(), config.clone().labels(MACHINE_LABEL)));
        let (nodes, writer) = reflector::store::<Node>();
        let looked = reflector(writer, watcher(Api::all(self.client.clone()), config));
        let mut events = pin!(select(secrets.map_ok(drop), looked.map_ok(drop)));
        loop {
            match events.try_next().await {
                Ok(Some(())) => {}
                Ok(None) => return anyhow!("the watch on tokens and nodes ended"),
                Err(error) => return Error::new(error).context("cannot watch tokens and nodes"),
            }
            let minted: Vec<Minted> = tokens.state().iter().filter_map(Minted::of).collect();
            let state =
                |name: &NodeName| nodes.get(&ObjectRef::new(name.as_str())).map(|node| NodeState::of(&node));
            for (token, reason) in unneeded(&minted, state) {
                if let Err(error) = self.take_away(token, reason).await {
                    return error;
                }
            }
        }
    }

    /// One that is gone already is no error.
    async fn take_away(&self, token: &Minted, reason: Unneeded) -> Result<()> {
        let Minted { name, grant, .. } = token;
        match self.secrets().delete(name, &DeleteParams::default()).await {
            Ok(_) => {
                tracing::info!(token = name, node = %grant.node, %reason, "token revoked");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot revoke the token in {name}")),
        }
    }
}

// === impl Minted ===

impl Minted {
    /// None if it is no token that a gateway minted: then it is somebody else's.
    fn of(secret: &Arc<Secret>) -> Option<Self> {
        let created = secret.metadata.creation_timestamp.as_ref()?.0;
        Some(Self { name: secret.name_any(), grant: Grant::of_secret(secret).ok()?, created })
    }
}

/// The tokens that nobody needs. Of two that a machine was given within one second, which is all that Kubernetes
/// tells of their age, neither replaces the other.
fn unneeded(tokens: &[Minted], node: impl Fn(&NodeName) -> Option<NodeState>) -> Vec<(&Minted, Unneeded)> {
    let reason = |token: &Minted| {
        let grant = &token.grant;
        if node(&grant.node).is_some_and(|node| node.is_ready_since(grant.boot_before.as_deref())) {
            return Some(Unneeded::Ready);
        }
        let newer = |other: &Minted| other.grant.machine == grant.machine && other.created > token.created;
        tokens.iter().any(newer).then_some(Unneeded::Replaced)
    };
    tokens.iter().filter_map(|token| Some((token, reason(token)?))).collect()
}

#[cfg(test)]
mod tests {
    use mesh::{Mac, MachineId};

    use super::*;

    fn token(name: &str, machine: u8, boot_before: Option<&str>, second: i64) -> Minted {
        let grant = Grant {
            machine: MachineId::from_mac(Mac([2, 0, 0, 0, 0, machine])),
            node: format!("node{machine}").parse().unwrap(),
            expires: Timestamp::from_second(10_000).unwrap(),
            boot_before: boot_before.map(str::to_owned),
        };
        Minted { name: name.to_owned(), grant, created: Timestamp::from_second(second).unwrap() }
    }

    fn ready(boot_id: &str) -> NodeState {
        NodeState { ready: true, boot_id: boot_id.to_owned(), reason: None }
    }

    fn names(tokens: &[Minted], node: impl Fn(&NodeName) -> Option<NodeState>) -> Vec<(&str, Unneeded)> {
        unneeded(tokens, node).into_iter().map(|(token, reason)| (token.name.as_str(), reason)).collect()
    }

    #[test]
    fn a_token_is_needed_until_its_node_is_ready_in_the_boot_that_it_is_for() {
        let tokens = [token("new", 1, None, 0), token("again", 2, Some("a"), 0)];
        assert_eq!(names(&tokens, |_| None), []);
        assert_eq!(names(&tokens, |_| Some(NodeState { ready: false, ..ready("b") })), []);
        assert_eq!(names(&tokens, |_| Some(ready("a"))), [("new", Unneeded::Ready)]);
        let both = [("new", Unneeded::Ready), ("again", Unneeded::Ready)];
        assert_eq!(names(&tokens, |_| Some(ready("b"))), both);
    }

    #[test]
    fn of_a_machines_tokens_the_newest_is_needed() {
        let tokens = [
            token("old", 1, None, 1),
            token("newest", 1, None, 2),
            token("its-twin", 1, None, 2),
            token("other", 2, None, 1),
        ];
        assert_eq!(names(&tokens, |_| None), [("old", Unneeded::Replaced)]);
    }
}
