//! How far the boot on each link has come.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use mesh::{LinkId, LinkStatus, Mac, MachineId, NodeName, Stage};
use tokio::sync::watch;

/// The state of every link, for whoever wants to watch it. Copies show the same board.
#[derive(Debug, Clone, Default)]
pub struct StatusBoard {
    links: Arc<watch::Sender<Vec<LinkStatus>>>,
}

// === impl StatusBoard ===

impl StatusBoard {
    /// An empty board.
    #[must_use]
    pub fn new() -> Self {
        Self { links: Arc::new(watch::Sender::new(Vec::new())) }
    }

    /// Every link, ordered by near end, now and whenever one changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Vec<LinkStatus>> {
        self.links.subscribe()
    }

    /// Sets a link's stage, which the caller knows better from some point on: joining, ready.
    pub fn set_stage(&self, link: LinkId, stage: Stage, reason: Option<String>) {
        self.update(link, |status| enter(status, stage) | replace(&mut status.reason, reason));
    }

    /// Says which machine is at the far end of a link.
    pub fn set_far(&self, link: LinkId, machine: Option<MachineId>, node: Option<NodeName>) {
        self.update(link, |status| {
            replace(&mut status.far_machine, machine) | replace(&mut status.far_node, node)
        });
    }

    /// A port appeared.
    pub(crate) fn add(&self, link: LinkId, port: &str, address: Ipv6Addr, far: Option<mesh::Far>) {
        let status = LinkStatus {
            link,
            port: port.to_owned(),
            address,
            stage: Stage::Dark,
            since: now(),
            reason: None,
            far_mac: far.map(|far| far.mac),
            far_machine: far.and_then(|far| far.machine),
            far_node: None,
            bytes: 0,
        };
        self.links.send_modify(|links| {
            links.retain(|known| known.link != link);
            let at = links.partition_point(|known| known.link < link);
            links.insert(at, status);
        });
    }

    /// A port is gone.
    pub(crate) fn remove(&self, link: LinkId) {
        self.links.send_if_modified(|links| {
            let before = links.len();
            links.retain(|known| known.link != link);
            links.len() != before
        });
    }

    /// A boot begins, or ends, here: what was counted so far belongs to another one.
    pub(crate) fn restart(&self, link: LinkId, stage: Stage) {
        self.update(link, |status| {
            let counted = status.bytes != 0;
            status.bytes = 0;
            counted | enter(status, stage) | replace(&mut status.reason, None)
        });
    }

    /// A boot has come this far at least.
    pub(crate) fn advance(&self, link: LinkId, stage: Stage) {
        self.update(link, |status| {
            status.stage < stage && enter(status, stage) | replace(&mut status.reason, None)
        });
    }

    /// Why a boot does not come further.
    pub(crate) fn explain(&self, link: LinkId, reason: Option<String>) {
        self.update(link, |status| replace(&mut status.reason, reason));
    }

    /// A station spoke. Another one than before may be another machine.
    pub(crate) fn heard(&self, link: LinkId, mac: Mac) {
        self.update(link, |status| {
            let other = replace(&mut status.far_mac, Some(mac));
            if other {
                status.far_machine = None;
                status.far_node = None;
            }
            other
        });
    }

    /// Octets were sent.
    pub(crate) fn count(&self, link: LinkId, octets: u64) {
        self.update(link, |status| {
            status.bytes = status.bytes.saturating_add(octets);
            octets > 0
        });
    }

    fn update(&self, link: LinkId, change: impl FnOnce(&mut LinkStatus) -> bool) {
        self.links.send_if_modified(|links| {
            links.iter_mut().find(|status| status.link == link).is_some_and(change)
        });
    }
}

fn enter(status: &mut LinkStatus, stage: Stage) -> bool {
    let changed = status.stage != stage;
    if changed {
        status.stage = stage;
        status.since = now();
    }
    changed
}

fn replace<T: PartialEq>(slot: &mut T, value: T) -> bool {
    let changed = *slot != value;
    *slot = value;
    changed
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
