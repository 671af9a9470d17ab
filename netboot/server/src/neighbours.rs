//! Which Ethernet address is behind an IPv6 address on a link.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::{PoisonError, RwLock};

use mesh::Mac;

/// The kernel bounds its own table; this bounds ours if it does not say that an entry is gone.
const MAX_ENTRIES: usize = 4096;

/// The kernel's neighbour table, as far as it was heard of.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    table: RwLock<BTreeMap<(u32, Ipv6Addr), Mac>>,
}

// === impl Neighbours ===

impl Neighbours {
    /// The station behind an address: the kernel's word, or else the address itself if it was made of one.
    pub(crate) fn station(&self, interface: u32, address: Ipv6Addr) -> Option<Mac> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let known = table.get(&(interface, address)).copied();
        known.or_else(|| address.is_unicast_link_local().then(|| Mac::from_eui64(address)).flatten())
    }

    pub(crate) fn learn(&self, interface: u32, address: Ipv6Addr, mac: Mac) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= MAX_ENTRIES {
            table.clear();
        }
        table.insert((interface, address), mac);
    }

    pub(crate) fn forget(&self, interface: u32, address: Ipv6Addr) {
        self.table.write().unwrap_or_else(PoisonError::into_inner).remove(&(interface, address));
    }

    /// An interface is gone or its cable was pulled.
    pub(crate) fn forget_all(&self, interface: u32) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.retain(|(known, _), _| *known != interface);
    }
}
