//! Machines: hardware or virtual, known by SMBIOS UUID and Ethernet addresses.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{BlockNumber, Mac, PortIndex};

/// First of the private 32-bit autonomous system numbers `[RFC 6996 § 5]`.
const FIRST_PRIVATE_ASN: u32 = 4_200_000_000;
/// Last of them.
const LAST_PRIVATE_ASN: u32 = 4_294_967_294;

/// What a machine is known by: its SMBIOS UUID, or one made of its first Ethernet address where the firmware's
/// is absent or another board's as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MachineId(pub Uuid);

/// A node's name: one RFC 1123 label of at most 63 characters, as Kubernetes and DNS want it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

/// A text that cannot be a node's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be a node's name: 1 to 63 of a-z, 0-9 and `-`, first and last a letter or digit")]
pub struct NodeNameError(String);

/// What a machine does in its site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Boots from its own disk; first control plane, mirrors, way out.
    Seed,
    /// Boots through a neighbour, joins, and serves the next.
    Node,
}

/// A machine's number in the routing protocol: unique in the site, never zero, small enough that
/// [`asn`](Self::asn) is a private one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct RouterId(u32);

/// A number that cannot be a router id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be a router id: 1 to {max}", max = RouterId::MAX)]
pub struct RouterIdError(pub u32);

/// A mesh port of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its number in the machine's block; never changes.
    pub index: PortIndex,
    /// Its Ethernet address.
    pub mac: Mac,
    /// The name that the machine's kernel gave it when it last booted, as `enp1s0`.
    pub name: String,
}

/// A machine that the ledger knows, and what it was given for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// What it is known by.
    pub id: MachineId,
    /// Its node's name.
    pub name: NodeName,
    /// What it does.
    pub role: Role,
    /// Its block's number in the plan's machine prefix.
    pub block: BlockNumber,
    /// Its number in the routing protocol.
    pub router_id: RouterId,
    /// Its mesh ports, by number.
    pub ports: Vec<Port>,
}

// === impl MachineId ===

impl MachineId {
    /// The identity of a machine whose firmware has no UUID of its own: an RFC 9562 version 8 UUID that
    /// carries the Ethernet address.
    #[must_use]
    pub fn from_mac(mac: Mac) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        Self(Uuid::new_v8([b'm', b'e', b's', b'h', 0, 0, 0, 0, 0, 0, a, b, c, d, e, f]))
    }

    /// Whether the identity is one that [`from_mac`](Self::from_mac) makes. A firmware that claims such a
    /// one would take it from the machine that has the Ethernet address.
    #[must_use]
    pub fn is_from_mac(self) -> bool {
        let [.., a, b, c, d, e, f] = *self.0.as_bytes();
        self == Self::from_mac(Mac([a, b, c, d, e, f]))
    }

    /// Whether the UUID is one that boards are known to share: nil, all ones, or the sample value of AMI's
    /// firmware.
    #[must_use]
    pub fn is_shared(self) -> bool {
        self.0.is_nil() || self.0.is_max() || self.0.as_u128() == 0x0300_0200_0400_0500_0006_0007_0008_0009
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

// === impl NodeName ===

impl NodeName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeName {
    type Error = NodeNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let label = text.as_bytes();
        let allowed = |octet: &u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || *octet == b'-';
        let edges = [label.first(), label.last()];
        let good = label.len() <= 63
            && label.iter().all(allowed)
            && edges.iter().all(|edge| edge.is_some_and(|octet| *octet != b'-'));
        if good { Ok(Self(text)) } else { Err(NodeNameError(text)) }
    }
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl RouterId ===

impl RouterId {
    /// The largest.
    pub const MAX: u32 = LAST_PRIVATE_ASN - FIRST_PRIVATE_ASN;

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }

    /// In the dotted form in which routing daemons write it; it is no address.
    #[must_use]
    pub fn dotted(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.0)
    }

    /// The machine's private autonomous system number `[RFC 6996 § 5]`.
    #[must_use]
    pub fn asn(self) -> u32 {
        FIRST_PRIVATE_ASN + self.0
    }
}

impl TryFrom<u32> for RouterId {
    type Error = RouterIdError;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        if (1..=Self::MAX).contains(&number) { Ok(Self(number)) } else { Err(RouterIdError(number)) }
    }
}

impl From<RouterId> for u32 {
    fn from(id: RouterId) -> Self {
        id.0
    }
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.dotted(), f)
    }
}

// === impl Role ===

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Seed => "seed",
            Self::Node => "node",
        })
    }
}

// === impl Machine ===

impl Machine {
    /// The port with this Ethernet address.
    #[must_use]
    pub fn port(&self, mac: Mac) -> Option<&Port> {
        self.ports.iter().find(|port| port.mac == mac)
    }
}

#[cfg(test)]
mod tests;
