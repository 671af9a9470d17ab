//! What addresses and links are called: routes and cables are told of by the machines that they lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use mesh::{AddressPlan, LinkId, Machine};

use crate::gateway::status::NodeStatus;
use crate::why::far_name;

/// The names of one mesh.
#[derive(Debug, Clone, Default)]
pub struct Names {
    destinations: BTreeMap<Ipv6Net, String>,
    far: BTreeMap<LinkId, String>,
    /// The ports that a cable is in, by the links whose near ends they are; none where nobody knows of cables.
    cabled: Option<BTreeSet<LinkId>>,
}

// === impl Names ===

impl Names {
    /// The names that a plan gives, and what nodes say of each other.
    #[must_use]
    pub fn new(plan: &AddressPlan, pages: &[NodeStatus]) -> Self {
        let machines: Vec<&Machine> = pages.iter().flat_map(|page| &page.machines).collect();
        let blocks = machines
            .iter()
            .filter_map(|machine| Some((plan.block(machine.block)?.net(), machine.name.to_string())));
        let anycasts = plan.anycast_addresses().map(|(name, address)| (Ipv6Net::from(address), name));
        let links = pages.iter().flat_map(|page| &page.links);
        Self {
            destinations: blocks.chain(anycasts).collect(),
            far: links.filter_map(|link| Some((link.link, far_name(link, &machines)?))).collect(),
            cabled: None,
        }
    }

    /// Cables are in these ports, and in no others.
    pub fn cable(&mut self, ports: BTreeSet<LinkId>) {
        self.cabled = Some(ports);
    }

    /// A machine has this address.
    pub fn add(&mut self, vip: Ipv6Addr, machine: &str) {
        if let Ok(net) = Ipv6Net::new(vip, mesh::block::BLOCK_PREFIX_LEN) {
            self.destinations.entry(net.trunc()).or_insert_with(|| machine.to_owned());
        }
    }

    /// Whether anybody is known where a route leads.
    #[must_use]
    pub fn knows(&self, to: Ipv6Net) -> bool {
        self.destinations.contains_key(&to)
    }

    /// Whether a cable may be in the port that is the near end of this link.
    #[must_use]
    pub fn may_have_cable(&self, link: LinkId) -> bool {
        self.cabled.as_ref().is_none_or(|cabled| cabled.contains(&link))
    }

    /// Where a route leads.
    #[must_use]
    pub fn destination(&self, to: Ipv6Net) -> String {
        self.destinations.get(&to).cloned().unwrap_or_else(|| to.to_string())
    }

    /// The machine at the far end of a link, as ` (to node3)`.
    #[must_use]
    pub fn towards(&self, link: LinkId) -> String {
        self.far.get(&link).map_or_else(String::new, |far| format!(" (to {far})"))
    }
}
