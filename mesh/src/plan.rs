//! The site's address plan: which addresses exist and what each is for.
//!
//! The defaults are kubermesh's. Every value is a setting; [`AddressPlan::check`] finds every mistake at once.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use crate::block::BLOCK_PREFIX_LEN;
use crate::{Block, BlockNumber, Mac};

/// Port of the Kubernetes API server.
pub const APISERVER_PORT: u16 = 6443;
/// Port on which etcd serves its clients.
pub const ETCD_PORT: u16 = 2379;
/// Port of the first mirror; each further one has the next.
pub const FIRST_MIRROR_PORT: u16 = 5000;
/// Port of the seed's registry that images are pushed to.
pub const REGISTRY_PORT: u16 = 5443;
/// The registry whose images are the mesh's own: they were pushed to the seed. `.internal` is nobody's in the public DNS.
pub const MESH_REGISTRY: &str = "mesh.internal";
/// A block number has at most as many bits as an Ethernet address.
const MAX_NUMBER_BITS: u8 = 48;

/// The addresses of one site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AddressPlan {
    /// The /64 of the anycast addresses.
    pub anycast: Ipv6Net,
    /// Kubernetes API servers answer here, on [`APISERVER_PORT`].
    pub apiserver: Ipv6Addr,
    /// etcd's members answer their clients here, on [`ETCD_PORT`].
    pub etcd: Ipv6Addr,
    /// Every seed and relay holds this address: "my neighbour".
    pub boot: Ipv6Addr,
    /// One registry mirror for each upstream registry.
    pub mirrors: Vec<Mirror>,
    /// The prefix that machines' blocks are cut from. It lies in another /64 than the anycast addresses:
    /// firmware believes each DHCPv6 address to be on a /64, so it would look for them on the link.
    pub machines: Ipv6Net,
    /// The prefix of Kubernetes' service addresses.
    pub services: Ipv6Net,
}

/// A registry mirror.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// The upstream registry, as image references name it: `docker.io`.
    pub registry: String,
    /// The mirror's anycast address.
    pub address: Ipv6Addr,
    /// The mirror's TCP port.
    pub port: u16,
}

/// A mistake in an address plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A prefix has bits set behind its length.
    #[error("{name} {net} has bits set behind its prefix length: write {}", net.trunc())]
    HostBits {
        /// The setting.
        name: &'static str,
        /// Its value.
        net: Ipv6Net,
    },
    /// A prefix is too short or too long for what it is for.
    #[error("{name} {net} must have a prefix length of {least} to {most}")]
    PrefixLength {
        /// The setting.
        name: &'static str,
        /// Its value.
        net: Ipv6Net,
        /// The shortest length that serves.
        least: u8,
        /// The longest.
        most: u8,
    },
    /// An anycast address is not one of the anycast prefix.
    #[error("{name} {address} is not in the anycast prefix {anycast}")]
    OutsideAnycast {
        /// The setting.
        name: String,
        /// Its value.
        address: Ipv6Addr,
        /// The anycast prefix.
        anycast: Ipv6Net,
    },
    /// Two settings have one address.
    #[error("{first} and {second} are both {address}: each needs an address of its own")]
    SameAddress {
        /// The setting that came first.
        first: String,
        /// The other.
        second: String,
        /// The address.
        address: Ipv6Addr,
    },
    /// Two mirrors have one port or one registry.
    #[error("two mirrors have the same {what}: {value}")]
    SameMirror {
        /// `port` or `registry`.
        what: &'static str,
        /// What they share.
        value: String,
    },
    /// Two prefixes overlap.
    #[error(
        "{first} {first_net} and {second} {second_net} overlap (the anycast prefix needs a /64 of its own)"
    )]
    Overlap {
        /// One setting.
        first: &'static str,
        /// Its value.
        first_net: Ipv6Net,
        /// The other setting.
        second: &'static str,
        /// Its value.
        second_net: Ipv6Net,
    },
    /// An address is not a unicast one.
    #[error("{name} {net} is not a prefix of unicast addresses that can be routed")]
    NotUnicast {
        /// The setting.
        name: &'static str,
        /// Its value.
        net: Ipv6Net,
    },
}

// === impl AddressPlan ===

impl Default for AddressPlan {
    fn default() -> Self {
        Self::in_prefixes(kubermesh_anycast(), net(0x2001_0db8 << 96, 71))
    }
}

impl AddressPlan {
    /// kubermesh's plan moved into other prefixes: interface identifiers and ports stay what they were.
    #[must_use]
    pub fn in_prefixes(anycast: Ipv6Net, machines: Ipv6Net) -> Self {
        let address =
            |identifier: u64| Ipv6Addr::from_bits(anycast.network().to_bits() | u128::from(identifier));
        let known = [
            ("docker.io", 0x98e8_1762_7b6e_83f6),
            ("quay.io", 0x98e8_1762_7abd_e0b7),
            ("gcr.io", 0x98e8_1762_7b6e_61d3),
        ];
        let derived = ["registry.k8s.io", "ghcr.io", "k8s.gcr.io", MESH_REGISTRY];
        let identifiers = known.into_iter().chain(derived.map(|name| (name, mirror_identifier(name))));
        let mirrors = identifiers
            .zip(FIRST_MIRROR_PORT..)
            .map(|((name, id), port)| Mirror { registry: name.to_owned(), address: address(id), port })
            .collect();
        // The /112 just above the anycast /64: in the same /63, so one route of the site covers both.
        let services = anycast.network().to_bits() | 1 << 64;
        Self {
            anycast,
            apiserver: address(0x98eb_c508_eb8c_1b80),
            etcd: address(0x98eb_c508_ea6b_b0b2),
            boot: address(0xb007),
            mirrors,
            machines,
            services: net(services, 112),
        }
    }

    /// How many bits a block number has in this plan.
    #[must_use]
    pub fn number_bits(&self) -> u8 {
        BLOCK_PREFIX_LEN.saturating_sub(self.machines.prefix_len()).min(MAX_NUMBER_BITS)
    }

    /// The largest block number.
    #[must_use]
    pub fn last_number(&self) -> BlockNumber {
        BlockNumber((1 << self.number_bits()) - 1)
    }

    /// The block number that a machine gets unless it is taken: the Ethernet address of the port it first
    /// booted from, as far as the plan has room for it. A lost ledger gives the same addresses again.
    #[must_use]
    pub fn preferred_number(&self, mac: Mac) -> BlockNumber {
        BlockNumber(mac.to_u48() & self.last_number().0)
    }

    /// The block of this number, or none if the plan has no such number.
    #[must_use]
    pub fn block(&self, number: BlockNumber) -> Option<Block> {
        if number > self.last_number() {
            return None;
        }
        let shift = 128 - u32::from(BLOCK_PREFIX_LEN);
        let address = self.machines.network().to_bits() | u128::from(number.0) << shift;
        Block::new(net(address, BLOCK_PREFIX_LEN))
    }

    /// The mirror of an upstream registry.
    #[must_use]
    pub fn mirror(&self, registry: &str) -> Option<&Mirror> {
        self.mirrors.iter().find(|mirror| mirror.registry == registry)
    }

    /// The mirror that one more registry gets: an address derived from its name, the next free port.
    #[must_use]
    pub fn further_mirror(&self, registry: &str) -> Mirror {
        let highest = self.mirrors.iter().map(|mirror| mirror.port).max();
        let bits = self.anycast.network().to_bits() | u128::from(mirror_identifier(registry));
        Mirror {
            registry: registry.to_owned(),
            address: Ipv6Addr::from_bits(bits),
            port: highest.map_or(FIRST_MIRROR_PORT, |port| port.saturating_add(1)),
        }
    }

    /// Every anycast address with the name of its setting.
    pub fn anycast_addresses(&self) -> impl Iterator<Item = (String, Ipv6Addr)> {
        let services = [("apiserver", self.apiserver), ("etcd", self.etcd), ("boot", self.boot)];
        let services = services.into_iter().map(|(name, address)| (name.to_owned(), address));
        services
            .chain(self.mirrors.iter().map(|mirror| (format!("mirror {}", mirror.registry), mirror.address)))
    }

    /// Every mistake in the plan; none if it can be used.
    #[must_use]
    pub fn check(&self) -> Vec<PlanError> {
        let mut errors = self.check_prefixes();
        let mut seen: Vec<(String, Ipv6Addr)> = Vec::new();
        for (name, address) in self.anycast_addresses() {
            if !self.anycast.contains(&address) {
                errors.push(PlanError::OutsideAnycast { name: name.clone(), address, anycast: self.anycast });
            }
            if let Some((first, _)) = seen.iter().find(|(_, other)| *other == address) {
                errors.push(PlanError::SameAddress { first: first.clone(), second: name.clone(), address });
            }
            seen.push((name, address));
        }
        for (at, mirror) in self.mirrors.iter().enumerate() {
            let before = self.mirrors.get(..at).unwrap_or_default();
            if before.iter().any(|other| other.port == mirror.port) {
                errors.push(PlanError::SameMirror { what: "port", value: mirror.port.to_string() });
            }
            if before.iter().any(|other| other.registry == mirror.registry) {
                errors.push(PlanError::SameMirror { what: "registry", value: mirror.registry.clone() });
            }
        }
        errors
    }

    fn check_prefixes(&self) -> Vec<PlanError> {
        let mut errors = Vec::new();
        // kube-apiserver takes at most 20 host bits of a service prefix.
        let prefixes = [
            ("anycast", self.anycast, 64, 64),
            ("machines", self.machines, 48, BLOCK_PREFIX_LEN - 1),
            ("services", self.services, 108, 120),
        ];
        for (name, net, least, most) in prefixes {
            if net.trunc() != net {
                errors.push(PlanError::HostBits { name, net });
            }
            if !(least..=most).contains(&net.prefix_len()) {
                errors.push(PlanError::PrefixLength { name, net, least, most });
            }
            let address = net.network();
            if address.is_multicast() || address.is_unspecified() || address.is_unicast_link_local() {
                errors.push(PlanError::NotUnicast { name, net });
            }
        }
        let pairs = [(prefixes[0], prefixes[1]), (prefixes[0], prefixes[2]), (prefixes[1], prefixes[2])];
        for ((first, first_net, ..), (second, second_net, ..)) in pairs {
            if whole_64(first_net, first).contains(&second_net) || second_net.contains(&first_net) {
                errors.push(PlanError::Overlap { first, first_net, second, second_net });
            }
        }
        errors
    }
}

/// The anycast prefix is compared as the /64 that firmware takes it for, the others as they are.
fn whole_64(net: Ipv6Net, name: &str) -> Ipv6Net {
    if name == "anycast" { self::net(net.network().to_bits(), 64) } else { net }
}

fn kubermesh_anycast() -> Ipv6Net {
    net(0xfd65_7b9c_0569_0680 << 64, 64)
}

fn net(bits: u128, prefix_len: u8) -> Ipv6Net {
    Ipv6Net::new(Ipv6Addr::from_bits(bits), prefix_len).expect("a constant below 129").trunc()
}

/// The interface identifier of a mirror that kubermesh did not have: FNV-1a, 64 bits, of the registry's name.
/// It only spreads; [`AddressPlan::check`] finds a clash.
fn mirror_identifier(registry: &str) -> u64 {
    registry
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, octet| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests;
