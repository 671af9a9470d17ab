//! What a machine of the tests is called and has, all derived from its number.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use ignition::frr::{FIRST_PRIVATE_ASN, RoutingPlan};
use ipnet::Ipv6Net;
use mesh::AddressPlan;

/// The mesh ports of a node, as the ring cables them: to the next place and to the one before.
pub(crate) const PORTS: [&str; 2] = ["lan0", "lan1"];

/// A machine, by its number; no two of one test have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity(pub(crate) u16);

impl Identity {
    pub(crate) fn name(self) -> String {
        format!("node-{}", self.0)
    }

    pub(crate) fn vip(self) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, self.0 * 0x200)
    }

    pub(crate) fn block(self) -> Ipv6Net {
        Ipv6Net::new(self.vip(), 119).expect("119 is a prefix length")
    }

    /// What is within the mesh or nowhere.
    pub(crate) fn within(self) -> [Ipv6Net; 3] {
        let AddressPlan { machines, anycast, .. } = AddressPlan::default();
        [self.block(), machines, anycast]
    }

    /// The near end of the link of a port: `block::10 + 4i + 1`.
    pub(crate) fn near(self, port: usize) -> Ipv6Net {
        let offset = 0x11 + [0, 4][port];
        Ipv6Net::new(Ipv6Addr::from(u128::from(self.vip()) + offset), 126).expect("126 is a prefix length")
    }

    pub(crate) fn mac(self, port: usize) -> [u8; 6] {
        let [high, low] = self.0.to_be_bytes();
        [0x02, 0, 0, high, low, [0, 1][port]]
    }

    /// The address that the kernel gives a port from its MAC [RFC 4291 § 2.5.1].
    pub(crate) fn link_local(self, port: usize) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac(port);
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }

    pub(crate) fn links(self) -> BTreeMap<String, Ipv6Net> {
        PORTS.iter().enumerate().map(|(port, name)| ((*name).to_owned(), self.near(port).trunc())).collect()
    }

    pub(crate) fn plan(self) -> RoutingPlan {
        RoutingPlan {
            hostname: self.name(),
            router_id: 0x0a00_0000 + u32::from(self.0),
            asn: FIRST_PRIVATE_ASN + u32::from(self.0),
            block: self.block(),
            vip: self.vip(),
            ports: PORTS.iter().map(|port| (*port).to_owned()).collect(),
            anycast: "fd65:7b9c:569:680::/64".parse().expect("a prefix"),
            redistribute: Vec::new(),
            default_route: false,
        }
    }
}
