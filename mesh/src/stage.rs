//! How far the boot at the far end of a link has come: the vocabulary of `meshboot status`.

use std::fmt;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use crate::{LinkFault, LinkId, Mac, MachineId, NodeName};

/// One step of a boot, in the order in which they happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// No cable, or no power at the other end.
    Dark,
    /// The cable carries; nobody has asked yet.
    Carrier,
    /// The far end was given the link's address.
    Addressed,
    /// The firmware loads the boot file.
    Loading,
    /// The initrd fetches the root image.
    Root,
    /// The far end asked for its configuration and waits for it.
    Asking,
    /// The configuration was handed out.
    Configured,
    /// The node has started to join.
    Joining,
    /// Kubernetes calls the node Ready.
    Ready,
}

/// What the near end knows of one of its links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The link.
    pub link: LinkId,
    /// The near port's name in its kernel.
    pub port: String,
    /// The near end's address on the link.
    pub address: Ipv6Addr,
    /// How far the far end has come.
    pub stage: Stage,
    /// When it came there, in seconds since 1970.
    pub since: u64,
    /// Why it has not come further, where that is known.
    pub reason: Option<String>,
    /// The Ethernet address at the far end, once it has spoken.
    pub far_mac: Option<Mac>,
    /// The machine at the far end, once it has said who it is.
    pub far_machine: Option<MachineId>,
    /// Its node's name, once it was given one.
    pub far_node: Option<NodeName>,
    /// Octets of boot files, images and configurations sent to it since the carrier came.
    pub bytes: u64,
    /// What is wrong with the link itself. As long as something is, it is not served, unless the operator wants it.
    #[serde(default)]
    pub faults: Vec<LinkFault>,
    /// Whether the operator wants it served whatever is wrong with it.
    #[serde(default)]
    pub forced: bool,
    /// Whether a node of this mesh is at the far end: it runs, by whatever cable it has booted.
    #[serde(default)]
    pub neighbour: bool,
}

impl LinkStatus {
    /// A link of whose far end nothing is known but how far it has come.
    #[must_use]
    pub fn new(link: LinkId, port: impl Into<String>, address: Ipv6Addr, stage: Stage, since: u64) -> Self {
        Self {
            link,
            port: port.into(),
            address,
            stage,
            since,
            reason: None,
            far_mac: None,
            far_machine: None,
            far_node: None,
            bytes: 0,
            faults: Vec::new(),
            forced: false,
            neighbour: false,
        }
    }
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 9] = [
        Self::Dark,
        Self::Carrier,
        Self::Addressed,
        Self::Loading,
        Self::Root,
        Self::Asking,
        Self::Configured,
        Self::Joining,
        Self::Ready,
    ];

    /// Its name, as it is shown everywhere.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dark => "dark",
            Self::Carrier => "carrier",
            Self::Addressed => "addressed",
            Self::Loading => "loading",
            Self::Root => "root",
            Self::Asking => "asking",
            Self::Configured => "configured",
            Self::Joining => "joining",
            Self::Ready => "ready",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
