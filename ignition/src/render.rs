//! Who writes what: the whole of a machine's config out of its plan.

use std::time::Duration;

use mesh::{Block, BlockNumber, Mac, NodeName, Role};

use crate::member::SpecError;
use crate::tree::Tree;
use crate::{Config, KubernetesVersion, NodePlan, RoleDetail};
use crate::{SkewError, cluster, cni, containerd, gateway, kubeadm, kubelet, network, routing, system};

mod check;

/// How long a node tries to join before it restarts for a new token. A bootstrap token has to live this long.
pub const JOIN_LIMIT: Duration = Duration::from_secs(30 * 60);
/// The largest config that is made: it is held in memory, on both ends of a link.
const MAX_BYTES: usize = 1 << 20;

/// Why there is no config for a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The plan has no block of the machine's number.
    #[error("{machine} has block number {number:?}, which the address plan has no room for")]
    NoSuchBlock {
        /// The machine.
        machine: NodeName,
        /// Its block's number.
        number: BlockNumber,
    },
    /// The ledger says one role and the plan another.
    #[error("{machine} is a {role} in the ledger, and the plan to render is for another role")]
    OtherRole {
        /// The machine.
        machine: NodeName,
        /// Its role in the ledger.
        role: Role,
    },
    /// Kubernetes is older than anything that was tried.
    #[error("Kubernetes {0} is too old: {oldest} is the oldest that can be set up", oldest = KubernetesVersion::OLDEST)]
    KubernetesTooOld(KubernetesVersion),
    /// Two ports have one Ethernet address.
    #[error("{machine} has two ports with the Ethernet address {mac}")]
    SamePort {
        /// The machine.
        machine: NodeName,
        /// The address.
        mac: Mac,
    },
    /// The machine did not boot through one of its mesh ports.
    #[error("{machine} is said to boot through {mac}, which is none of its mesh ports")]
    ForeignBootPort {
        /// The machine.
        machine: NodeName,
        /// The port's Ethernet address.
        mac: Mac,
    },
    /// A port's name is not an interface name.
    #[error("{machine} has a port named `{name}`, which is not a name that a kernel gives")]
    PortName {
        /// The machine.
        machine: NodeName,
        /// The port's name.
        name: String,
    },
    /// The seed's PKI lacks a file.
    #[error("the seed's PKI has no {0}: `kubeadm init` would make a cluster that no node can join")]
    PkiIncomplete(&'static str),
    /// A file of the PKI would land elsewhere.
    #[error("`{0}` is not a path under /etc/kubernetes/pki")]
    PkiPath(String),
    /// A private key would be readable by others.
    #[error("`{path}` is a private key with mode {mode:o}: expected 600")]
    PkiMode {
        /// Where the key belongs.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// A line for `authorized_keys` is none.
    #[error("ssh key {number} is not one line of authorized_keys")]
    SshKey {
        /// Its place in the list, from 1.
        number: usize,
    },
    /// The CA's certificate is none.
    #[error("the CA's certificate is not a PEM certificate")]
    CaCertificate,
    /// The CA's hash is none.
    #[error("`{0}` is not a SHA-256 in lower-case hexadecimal")]
    CaHash(String),
    /// The CNI file is none.
    #[error("the CNI file is not a CNI configuration: {0}")]
    CniFile(&'static str),
    /// A mirror's registry is not a host's name.
    #[error("`{0}` is not a registry: expected a host's name, as docker.io, with a port if it has one")]
    Registry(String),
    /// What is wanted of the node cannot be had.
    #[error("what is wanted of {machine} cannot be had: {mistake}")]
    Spec {
        /// The machine.
        machine: NodeName,
        /// The first mistake.
        mistake: SpecError,
    },
    /// Its kubelet does not go with the site's Kubernetes.
    #[error("what is wanted of {machine} cannot be had: {mistake}")]
    Kubelet {
        /// The machine.
        machine: NodeName,
        /// Why not.
        mistake: SkewError,
    },
    /// The config has grown out of proportion.
    #[error(
        "the config has {bytes} octets, more than the {MAX_BYTES} that are served: make the CNI file smaller"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// What one machine is told at boot.
///
/// # Errors
///
/// If the plan contradicts itself, or holds a text that would be something else in the file it is meant for.
pub fn render(plan: &NodePlan) -> Result<Config, RenderError> {
    let tree = tree(plan)?;
    let config = Config::new(&tree);
    let bytes = config.to_json().len();
    if bytes > MAX_BYTES { Err(RenderError::TooLarge { bytes }) } else { Ok(config) }
}

/// The same as a tree: what tests look at.
///
/// # Errors
///
/// As [`render`].
pub fn tree(plan: &NodePlan) -> Result<Tree, RenderError> {
    check::check(plan)?;
    let (site, machine) = (&plan.site, &plan.machine);
    let block: Block = site
        .plan
        .block(machine.block)
        .ok_or_else(|| RenderError::NoSuchBlock { machine: machine.name.clone(), number: machine.block })?;
    let mut tree = Tree::default();
    system::write(&mut tree, plan, block);
    network::write(&mut tree, plan, block);
    routing::write(&mut tree, plan, block);
    containerd::write(&mut tree, site);
    cni::write(&mut tree, &site.cni, block);
    cluster::write(&mut tree, plan, block);
    gateway::write(&mut tree, plan);
    kubelet::write(&mut tree, plan);
    let config = match &plan.detail {
        RoleDetail::Seed { uplink, control_plane, .. } => {
            kubeadm::init_config(plan, block, uplink.as_ref(), control_plane)
        }
        RoleDetail::Node { token, .. } => kubeadm::join_config(plan, block, token),
    };
    tree.file(cluster::KUBEADM_CONFIG, crate::tree::PRIVATE, config);
    Ok(tree)
}

#[cfg(test)]
mod tests;
