//! What is known of a machine when its config is rendered.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use mesh::{AddressPlan, LinkPrefix, Mac, Machine};
use serde::{Deserialize, Serialize};

use crate::{BootstrapToken, ControlPlaneSpec, KubernetesVersion, NodeSpec, Secret};

/// Everything that one machine's config is made of.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// What all machines of the site share.
    pub site: SitePlan,
    /// The machine, as the ledger has it.
    pub machine: Machine,
    /// What the operator wants of its node.
    pub spec: NodeSpec,
    /// What only a seed or only a node has.
    pub detail: RoleDetail,
    /// The settings of the machine's own meshboot gateway. They pass through as they are, into a file that only
    /// root reads.
    pub gateway_settings: Secret<serde_json::Value>,
}

/// What all machines of a site share. No part of it is a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SitePlan {
    /// The site's name: a machine's disk holds the state of each site apart.
    pub id: SiteId,
    /// Its addresses.
    pub plan: AddressPlan,
    /// Its Kubernetes.
    pub kubernetes: KubernetesVersion,
    /// Where that Kubernetes comes from.
    pub kubernetes_source: KubernetesSource,
    /// How pods get their addresses.
    pub cni: Cni,
    /// Who may log in as root: lines of `authorized_keys`.
    pub ssh_keys: Vec<String>,
    /// The certificate of the cluster's CA.
    pub ca_cert_pem: String,
    /// SHA-256 of the DER of that CA's SubjectPublicKeyInfo, in lower-case hexadecimal: what nodes pin.
    pub ca_spki_sha256: String,
    /// Name servers for machines and pods; none if the site has none.
    pub nameservers: Vec<IpAddr>,
}

/// The name of a site: hexadecimal digits and dashes, as of a UUID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SiteId(String);

/// A text that is not the name of a site.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot name a site: 8 to 36 of 0-9, a-f and `-`, first and last a digit or letter")]
pub struct SiteIdError(String);

/// Where a site's Kubernetes comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KubernetesSource {
    /// Built from Debian's source package, which has no CoreDNS.
    Debian,
    /// Upstream's release, fetched or from a folder.
    Upstream,
}

/// How pods get their addresses and reach each other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cni {
    /// The reference plugins: addresses out of the node's block, routed like any other, no overlay.
    #[default]
    Routed,
    /// Nothing: nodes become Ready when the user brings a network of his own.
    None,
    /// This CNI configuration, on every node.
    File(String),
}

/// What only a seed or only a node has.
#[derive(Debug, Clone)]
pub enum RoleDetail {
    /// The seed: first control plane and way out.
    Seed {
        /// Its port to the world outside the mesh, if it has one.
        uplink: Option<Uplink>,
        /// The cluster's keys and certificates.
        pki: Vec<PkiFile>,
        /// What is wanted of the control plane.
        control_plane: ControlPlaneSpec,
    },
    /// A machine that boots through a neighbour and joins.
    Node {
        /// What it joins with: minted for this machine and this boot.
        token: BootstrapToken,
        /// The link that it boots through.
        boot: Option<BootLink>,
    },
}

/// The seed's port to the world outside the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its own addresses, each with the prefix that is on the link.
    #[serde(default)]
    pub addresses: Vec<IpNet>,
    /// Routers to the rest of the world.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// Whether to take addresses and routers that the outer network offers, by DHCP and router advertisements.
    #[serde(default)]
    pub automatic: bool,
}

/// The link that a node boots through, seen from its far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootLink {
    /// The Ethernet address of the node's port.
    pub mac: Mac,
    /// The link's prefix, out of the neighbour's block.
    pub prefix: LinkPrefix,
}

/// One file of the cluster's PKI.
#[derive(Debug, Clone)]
pub struct PkiFile {
    /// Where it belongs under `/etc/kubernetes/pki`: `ca.crt`, `etcd/ca.key`.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// What is in it.
    pub contents: Secret<String>,
}

// === impl SiteId ===

impl SiteId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SiteId {
    type Error = SiteIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let allowed = |octet: u8| matches!(octet, b'0'..=b'9' | b'a'..=b'f' | b'-');
        let good = (8..=36).contains(&text.len())
            && text.bytes().all(allowed)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if good { Ok(Self(text)) } else { Err(SiteIdError(text)) }
    }
}

impl FromStr for SiteId {
    type Err = SiteIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl From<SiteId> for String {
    fn from(id: SiteId) -> Self {
        id.0
    }
}

impl fmt::Display for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
