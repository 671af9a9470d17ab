//! A machine's block: the /119 that holds its own address, its links and its pods.
//!
//! ```text
//! ::000/123  host          ::000/128 host VIP: the node's IP, on `lo`
//! ::010/126  link 0        +0 subnet-router anycast, unused [RFC 4291 § 2.6.1]
//!   …        link i at ::10 + 4i   +1 near end   +2 far end   +3 spare
//! ::0fc/126  link 59
//! ::100/120  pods
//! ```

use std::fmt;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

/// Prefix length of a machine's block.
pub const BLOCK_PREFIX_LEN: u8 = 119;
/// Prefix length of a link.
pub const LINK_PREFIX_LEN: u8 = 126;
/// Prefix length of a node's pods.
pub const PODS_PREFIX_LEN: u8 = 120;
/// How many links fit between the host addresses and the pods of a block.
pub const MAX_PORTS: u8 = 60;

const FIRST_LINK: u128 = 0x10;
const FIRST_POD: u128 = 0x100;

/// The number of a block inside the plan's machine prefix: at most 48 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlockNumber(pub u64);

/// A machine's /119.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Ipv6Net", into = "Ipv6Net")]
pub struct Block(Ipv6Net);

/// A prefix that is no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no block: a block is a /{BLOCK_PREFIX_LEN} with no bit set behind it")]
pub struct BlockError(pub Ipv6Net);

/// The number of a mesh port of a machine, from 0; always below [`MAX_PORTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "u8", into = "u8")]
pub struct PortIndex(u8);

/// A port number that has no /126 in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("port {0} has no link in a block: ports are numbered 0 to {max}", max = MAX_PORTS - 1)]
pub struct PortIndexError(pub u8);

/// The /126 of a link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Ipv6Net", into = "Ipv6Net")]
pub struct LinkPrefix(Ipv6Net);

/// A prefix that is no link's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no link's prefix: a link has a /{LINK_PREFIX_LEN} with no bit set behind it")]
pub struct LinkPrefixError(pub Ipv6Net);

// === impl Block ===

impl Block {
    /// The block that `net` is.
    ///
    /// Returns none unless `net` is a /119 with no bit set behind its prefix.
    #[must_use]
    pub fn new(net: Ipv6Net) -> Option<Self> {
        (net.prefix_len() == BLOCK_PREFIX_LEN && net.trunc() == net).then_some(Self(net))
    }

    /// The block as a prefix.
    #[must_use]
    pub fn net(self) -> Ipv6Net {
        self.0
    }

    /// The host VIP: the node's IP, a /128 on `lo`.
    #[must_use]
    pub fn vip(self) -> Ipv6Addr {
        self.0.network()
    }

    /// The /126 of the link at `port`.
    #[must_use]
    pub fn link(self, port: PortIndex) -> LinkPrefix {
        LinkPrefix(self.part(FIRST_LINK + 4 * u128::from(port.0), LINK_PREFIX_LEN))
    }

    /// The /120 that the node's pods get their addresses from.
    #[must_use]
    pub fn pods(self) -> Ipv6Net {
        self.part(FIRST_POD, PODS_PREFIX_LEN)
    }

    fn part(self, offset: u128, prefix_len: u8) -> Ipv6Net {
        let address = Ipv6Addr::from_bits(self.0.network().to_bits() | offset);
        Ipv6Net::new(address, prefix_len).expect("a constant below 129")
    }
}

impl TryFrom<Ipv6Net> for Block {
    type Error = BlockError;

    fn try_from(net: Ipv6Net) -> Result<Self, Self::Error> {
        Self::new(net).ok_or(BlockError(net))
    }
}

impl From<Block> for Ipv6Net {
    fn from(block: Block) -> Self {
        block.0
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

// === impl PortIndex ===

impl PortIndex {
    /// The number itself.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }

    /// Every port number, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..MAX_PORTS).map(Self)
    }
}

impl TryFrom<u8> for PortIndex {
    type Error = PortIndexError;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        if number < MAX_PORTS { Ok(Self(number)) } else { Err(PortIndexError(number)) }
    }
}

impl From<PortIndex> for u8 {
    fn from(port: PortIndex) -> Self {
        port.0
    }
}

impl fmt::Display for PortIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

// === impl LinkPrefix ===

impl LinkPrefix {
    /// The link's prefix that `net` is.
    ///
    /// Returns none unless `net` is a /126 with no bit set behind its prefix.
    #[must_use]
    pub fn new(net: Ipv6Net) -> Option<Self> {
        (net.prefix_len() == LINK_PREFIX_LEN && net.trunc() == net).then_some(Self(net))
    }

    /// The /126.
    #[must_use]
    pub fn net(self) -> Ipv6Net {
        self.0
    }

    /// The address of the end that serves.
    #[must_use]
    pub fn near(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.0.network().to_bits() + 1)
    }

    /// The address of the end that is served: whoever asks on the link gets this one.
    #[must_use]
    pub fn far(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.0.network().to_bits() + 2)
    }
}

impl TryFrom<Ipv6Net> for LinkPrefix {
    type Error = LinkPrefixError;

    fn try_from(net: Ipv6Net) -> Result<Self, Self::Error> {
        Self::new(net).ok_or(LinkPrefixError(net))
    }
}

impl From<LinkPrefix> for Ipv6Net {
    fn from(prefix: LinkPrefix) -> Self {
        prefix.0
    }
}

impl fmt::Display for LinkPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for LinkPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests;
