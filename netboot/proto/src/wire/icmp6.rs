//! Router solicitations and advertisements `[RFC 4861 § 4.1, § 4.2]`.
//!
//! No crate encodes the options that are wanted here. The kernel fills in the checksum.

use std::net::Ipv6Addr;

use bytes::{BufMut, Bytes, BytesMut};
use ipnet::Ipv6Net;
use mesh::Mac;

use crate::services::DomainName;

/// Type of a router solicitation.
pub const ROUTER_SOLICITATION: u8 = 133;
/// Type of a router advertisement.
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// Every node on the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Every router on the link.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// The hop limit of all of neighbour discovery: who says otherwise is not on the link.
pub const HOP_LIMIT: u8 = 255;

const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const PREFIX_INFORMATION: u8 = 3;
const MTU: u8 = 5;
const RDNSS: u8 = 25;
const DNSSL: u8 = 31;
/// Options are counted in these.
const UNIT: usize = 8;
const SOLICITATION_HEADER: usize = 8;

/// A router solicitation that passed the checks of `[RFC 4861 § 6.1.1]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouterSolicitation {
    /// The sender's Ethernet address, where it says one.
    pub source_mac: Option<Mac>,
}

/// How much a router wants to be used `[RFC 4191 § 2.1]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouterPreference {
    /// Only if there is no other.
    Low,
    /// As any other.
    Medium,
    /// Before others.
    High,
}

/// A router advertisement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterAdvertisement {
    /// The hop limit that hosts shall use.
    pub cur_hop_limit: u8,
    /// M: addresses come from DHCPv6.
    pub managed: bool,
    /// O: other things come from DHCPv6.
    pub other: bool,
    /// How much the router wants to be used.
    pub preference: RouterPreference,
    /// For how many seconds it is a default router; 0 says that it is none.
    pub router_lifetime: u16,
    /// The near port's Ethernet address.
    pub source_mac: Option<Mac>,
    /// The link's MTU.
    pub mtu: Option<u32>,
    /// What is on the link.
    pub prefix: Option<PrefixInformation>,
    /// Recursive DNS servers `[RFC 8106 § 5.1]`.
    pub dns: Vec<Ipv6Addr>,
    /// Domains to look for short names in `[RFC 8106 § 5.2]`.
    pub search: Vec<DomainName>,
    /// Seconds for which both are good.
    pub dns_lifetime: u32,
}

/// A prefix on the link `[RFC 4861 § 4.6.2]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixInformation {
    /// The prefix.
    pub net: Ipv6Net,
    /// L: its addresses are on the link.
    pub on_link: bool,
    /// A: hosts may make themselves addresses in it.
    pub autonomous: bool,
    /// Seconds for which that is true.
    pub valid: u32,
    /// Seconds for which addresses in it are preferred.
    pub preferred: u32,
}

// === impl RouterSolicitation ===

impl RouterSolicitation {
    /// Reads a solicitation from `source`.
    ///
    /// Returns none if it breaks a rule of `[RFC 4861 § 6.1.1]` (the hop limit and the checksum were judged
    /// elsewhere).
    #[must_use]
    pub fn parse(source: Ipv6Addr, bytes: &[u8]) -> Option<Self> {
        let (header, mut options) = bytes.split_first_chunk::<SOLICITATION_HEADER>()?;
        let [kind, code, ..] = *header;
        if kind != ROUTER_SOLICITATION || code != 0 {
            return None;
        }
        let mut source_mac = None;
        while let Some((&[kind, units], rest)) = options.split_first_chunk::<2>() {
            let len = usize::from(units) * 8;
            let body = rest.get(..len.checked_sub(2)?)?;
            if kind == SOURCE_LINK_LAYER_ADDRESS {
                // A host without an address cannot be reached at its Ethernet address.
                if source.is_unspecified() {
                    return None;
                }
                source_mac = body.first_chunk::<6>().copied().map(Mac);
            }
            options = options.get(len..)?;
        }
        options.is_empty().then_some(Self { source_mac })
    }
}

// === impl RouterAdvertisement ===

impl RouterAdvertisement {
    /// The datagram, with a checksum of zero.
    #[must_use]
    pub fn emit(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        let flags = u8::from(self.managed) << 7 | u8::from(self.other) << 6 | self.preference_bits();
        out.put_slice(&[ROUTER_ADVERTISEMENT, 0, 0, 0, self.cur_hop_limit, flags]);
        out.put_u16(self.router_lifetime);
        // Reachable time and retransmission timer: the host's own.
        out.put_u64(0);
        if let Some(Mac(octets)) = self.source_mac {
            out.put_slice(&[SOURCE_LINK_LAYER_ADDRESS, 1]);
            out.put_slice(&octets);
        }
        if let Some(mtu) = self.mtu {
            out.put_slice(&[MTU, 1, 0, 0]);
            out.put_u32(mtu);
        }
        if let Some(prefix) = &self.prefix {
            let flags = u8::from(prefix.on_link) << 7 | u8::from(prefix.autonomous) << 6;
            out.put_slice(&[PREFIX_INFORMATION, 4, prefix.net.prefix_len(), flags]);
            out.put_u32(prefix.valid);
            out.put_u32(prefix.preferred);
            out.put_u32(0);
            out.put_slice(&prefix.net.network().octets());
        }
        if !self.dns.is_empty() {
            let servers: Vec<u8> = self.dns.iter().flat_map(Ipv6Addr::octets).collect();
            self.put_names(&mut out, RDNSS, &servers);
        }
        if !self.search.is_empty() {
            let names: Vec<u8> = self.search.iter().flat_map(DomainName::as_wire).copied().collect();
            self.put_names(&mut out, DNSSL, &names);
        }
        out.freeze()
    }

    /// An option of RFC 8106: its lifetime, and what it lists, filled up with zeros. One that is too long for its
    /// length field is left out.
    fn put_names(&self, out: &mut BytesMut, kind: u8, listed: &[u8]) {
        let Ok(units) = u8::try_from(1 + listed.len().div_ceil(UNIT)) else { return };
        out.put_slice(&[kind, units, 0, 0]);
        out.put_u32(self.dns_lifetime);
        out.put_slice(listed);
        out.put_bytes(0, listed.len().next_multiple_of(UNIT) - listed.len());
    }

    /// A router that is none must say medium `[RFC 4191 § 2.2]`.
    fn preference_bits(&self) -> u8 {
        match self.preference {
            _ if self.router_lifetime == 0 => 0,
            RouterPreference::Low => 0b11 << 3,
            RouterPreference::Medium => 0,
            RouterPreference::High => 0b01 << 3,
        }
    }
}

#[cfg(test)]
mod tests;
