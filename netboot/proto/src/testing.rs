//! What the tests of several modules need.

use std::time::Instant;

use mesh::{Block, LinkId, LinkPrefix, MachineId, PortIndex};

/// Some moment.
#[expect(clippy::disallowed_methods, reason = "an instant cannot be made in another way")]
pub(crate) fn epoch() -> Instant {
    Instant::now()
}

pub(crate) fn port() -> PortIndex {
    PortIndex::try_from(0).unwrap()
}

pub(crate) fn prefix() -> LinkPrefix {
    Block::new("2001:db8::/119".parse().unwrap()).unwrap().link(port())
}

pub(crate) fn link() -> LinkId {
    LinkId { near: MachineId::from_mac(mesh::Mac([2, 0, 0, 0, 0, 1])), port: port() }
}
