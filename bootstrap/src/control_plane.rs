//! Control planes: how a node becomes one, and one more or one less at a time.
//!
//! A machine that is to be a control plane boots and joins as any node does, so that no neighbour on the way and no
//! Ignition config ever holds a key of the cluster's authority. Once its node is Ready, a control plane that has the keys
//! makes it another one. All that is remembered is in Kubernetes and in etcd, and each step is read off there again:
//! whoever does it may die at any moment, and another goes on.
//!
//! | step | who | what is written |
//! |---|---|---|
//! | begin | promoter | the node's name into the [`lease`], by which one at a time is promoted |
//! | enter | promoter | a learner into etcd, at the node's address: it has no vote and may die |
//! | ticket | promoter | a Secret that only this node may read ([`ticket`]), and the learner's number on its Node |
//! | become | [`candidate`] | the keys, kubeadm's certificates and static pods on the node's disk, and last a mark there; its etcd runs |
//! | report | candidate | the member's number on its Node: all that its vote depends on is on its disk |
//! | vote | promoter | the Secret is gone; the learner is a voting member, as soon as etcd says that it has caught up; then the node's other static pods start |
//! | mark | promoter | labels and taint of a control plane, once the node's own API server is ready |
//! | finish | promoter | the lease names nobody |
//!
//! The promoter is whichever control plane holds the lease; it lets go of it when its own etcd does not answer. What is
//! to be done next is decided without doing anything ([`decide`]). Clocks of machines are not compared: a lease is over
//! when it has not been renewed for as long as the observer has looked at it, and the limit of a promotion counts from
//! when the present promoter saw it.
//!
//! Two members of etcd bear no loss, and less than one does. So from an odd number the next is begun only when there are
//! candidates for two, and nothing is begun while a member is silent.
//!
//! **Who can get the keys.** A node that the operator wants as a control plane, by a reservation (which no node may
//! write), and that has no member in etcd. Whoever can become that node can thus get them: a neighbour that was broken
//! into, which mints tokens, while the machine is away and its member is silent. That is one more reason to have control
//! planes where nobody plugs anything in.
//!
//! **What a control plane has to be.** As the seed: its certificates are kubeadm's, valid for a year, and end while it is
//! off for longer.

use ignition::KubernetesVersion;

pub use self::board::{Board, MemberState};
pub use self::leave::{is_control_plane, is_last, last, leave, spares};

pub mod board;
pub mod candidate;
pub mod decide;
pub mod etcd;
pub mod lease;
pub mod leave;
pub mod promoter;
pub mod ticket;

/// On a Node, by the promoter: the number of the member that it is to become, for which there is a Secret.
pub const TICKET: &str = "meshboot.io/control-plane-ticket";
/// On a Node, by its own gateway: what is on its disk. See [`candidate::Report`].
pub const REPORT: &str = "meshboot.io/control-plane";
/// On a Node, by an operator: it is to stop being a control plane. Then what came of it.
pub const LEAVE: &str = "meshboot.io/control-plane-leaves";

/// The labels by which Kubernetes of some version knows a control plane: kubeadm's.
#[must_use]
pub fn labels(version: KubernetesVersion) -> Vec<&'static str> {
    let mut labels = vec!["node-role.kubernetes.io/control-plane"];
    if !version.at_least(24) {
        labels.push("node-role.kubernetes.io/master");
    }
    if version.at_least(21) {
        labels.push("node.kubernetes.io/exclude-from-external-load-balancers");
    }
    labels
}

/// The keys of the taints that keep pods away from a control plane, where nobody says otherwise: kubeadm's.
#[must_use]
pub fn taints(version: KubernetesVersion) -> Vec<&'static str> {
    let mut taints = Vec::new();
    if version.at_least(24) {
        taints.push("node-role.kubernetes.io/control-plane");
    }
    if !version.at_least(25) {
        taints.push("node-role.kubernetes.io/master");
    }
    taints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_taints_are_those_of_the_versions_kubeadm() {
        let at = |minor| KubernetesVersion::new(1, minor, 0);
        let short = |names: Vec<&'static str>| -> Vec<&str> {
            names.into_iter().map(|name| name.rsplit('/').next().unwrap()).collect()
        };
        assert_eq!(short(labels(at(20))), ["control-plane", "master"]);
        assert_eq!(short(labels(at(24))), ["control-plane", "exclude-from-external-load-balancers"]);
        assert_eq!(short(taints(at(20))), ["master"]);
        assert_eq!(short(taints(at(24))), ["control-plane", "master"]);
        assert_eq!(short(taints(at(25))), ["control-plane"]);
    }
}
