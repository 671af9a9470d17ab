//! What a gateway would make of this machine's links, looked at and not touched.

use mesh::{Mac, PortIndex};

use crate::gateway::{GatewayConfig, OpenError};
use crate::links::{Interface, InterfaceKind, Links};

/// A link of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surveyed {
    /// Its name.
    pub name: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Whether a cable carries.
    pub carrier: bool,
    /// Whether there is a link-local address to advertise a router from.
    pub link_local: bool,
    /// Its MTU.
    pub mtu: u32,
    /// Which mesh port it is, or why it is none.
    pub port: Result<PortIndex, NotAPort>,
    /// Whether the operator wants it served whatever is wrong with it.
    pub forced: bool,
}

/// Why a link is no mesh port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAPort {
    /// It is no Ethernet port, or one of a bridge.
    #[error("it is no Ethernet port of its own: a bridge, a tunnel, or a part of one")]
    Kind,
    /// The caller said so.
    #[error("it is excluded: the way out, or a management port")]
    Excluded,
    /// The ledger has no number for it.
    #[error("the ledger has no port of this machine with its Ethernet address")]
    Unknown,
}

/// Looks at every link of this machine.
///
/// # Errors
///
/// They cannot be read.
pub async fn survey(config: &GatewayConfig) -> Result<Vec<Surveyed>, OpenError> {
    let links = Links::open().await.map_err(|error| OpenError::Links(error.into()))?;
    let surveyed = links.all().map(|interface| Surveyed {
        name: interface.name.clone(),
        mac: interface.mac,
        carrier: interface.carrier,
        link_local: interface.has_link_local(),
        mtu: interface.mtu,
        port: config.port_of(interface),
        forced: config.is_forced(&interface.name, interface.mac),
    });
    Ok(surveyed.collect())
}

// === impl GatewayConfig ===

impl GatewayConfig {
    /// The number of the mesh port that a link is.
    pub(crate) fn port_of(&self, interface: &Interface) -> Result<PortIndex, NotAPort> {
        match interface.kind {
            InterfaceKind::Hardware | InterfaceKind::Pair if self.excluded.contains(&interface.name) => {
                Err(NotAPort::Excluded)
            }
            InterfaceKind::Hardware | InterfaceKind::Pair => {
                self.ports.get(&interface.mac).copied().ok_or(NotAPort::Unknown)
            }
            InterfaceKind::Other => Err(NotAPort::Kind),
        }
    }

    /// Whether the operator wants a port served whatever is wrong with its link.
    #[must_use]
    pub fn is_forced(&self, name: &str, mac: Mac) -> bool {
        self.forced.iter().any(|port| port == name || port.parse() == Ok(mac))
    }
}
