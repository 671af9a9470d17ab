//! Which faults can stand at the same time.

use std::collections::BTreeSet;

use super::asked::{Asked, DiskTrouble, Service};

/// Something that a fault has for itself while it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// Whether the ports of a cable have a carrier.
    Carrier(u16),
    /// Whether frames pass through a cable at all.
    Frames(u16),
    /// How fast and how surely they do.
    Quality(u16),
    /// Whether a machine runs.
    Power(String),
    /// A service of a node.
    Service(String, Service),
    /// A node's clock.
    Clock(String),
    /// How fast a machine's disk is.
    Pace(String),
    /// What can be written on a node's disk.
    Writing(String),
}

/// What a fault has for itself.
///
/// A cable that is degraded can be cut: mended, it is degraded as before. That one is cut twice is a mistake: the first
/// that is undone would mend it for both.
#[must_use]
pub fn holds(asked: &Asked) -> BTreeSet<Hold> {
    let cables = asked.cables().into_iter().map(|cable| cable.cable);
    match asked {
        Asked::LinkCut { silent: false, .. }
        | Asked::LinkFlap { .. }
        | Asked::Partition { silent: false, .. } => cables.map(Hold::Carrier).collect(),
        Asked::LinkCut { silent: true, .. } | Asked::Partition { silent: true, .. } => {
            cables.map(Hold::Frames).collect()
        }
        Asked::LinkDegrade { .. } => cables.map(Hold::Quality).collect(),
        Asked::NodeKill { machine } | Asked::NodeFreeze { machine } | Asked::NodeReboot { machine } => {
            [Hold::Power(machine.clone())].into()
        }
        // What was done to the old disk could not be undone on the new one.
        Asked::NodeWipe { machine } => {
            let name = || machine.clone();
            [
                Hold::Power(name()),
                Hold::Writing(name()),
                Hold::Clock(name()),
                Hold::Service(name(), Service::Apiserver),
                Hold::Service(name(), Service::Etcd),
            ]
            .into()
        }
        Asked::Service { service, machine } => [Hold::Service(machine.clone(), *service)].into(),
        Asked::Clock { machine, .. } => [Hold::Clock(machine.clone())].into(),
        Asked::Disk { machine, trouble: DiskTrouble::Slow(_) } => [Hold::Pace(machine.clone())].into(),
        Asked::Disk { machine, trouble: DiskTrouble::Full | DiskTrouble::Readonly } => {
            [Hold::Writing(machine.clone())].into()
        }
    }
}

/// Why `asked` cannot be made while `standing` stands; none if it can.
#[must_use]
pub fn conflict(asked: &Asked, standing: &Asked) -> Option<String> {
    if !holds(asked).is_disjoint(&holds(standing)) {
        return Some(standing.to_string());
    }
    let down = match standing {
        Asked::NodeKill { machine } | Asked::NodeFreeze { machine } => machine,
        Asked::LinkCut { .. }
        | Asked::LinkDegrade { .. }
        | Asked::LinkFlap { .. }
        | Asked::NodeReboot { .. }
        | Asked::NodeWipe { .. }
        | Asked::Partition { .. }
        | Asked::Service { .. }
        | Asked::Clock { .. }
        | Asked::Disk { .. } => return None,
    };
    let must_answer = asked.is_inside() && asked.machines().contains(down);
    must_answer.then(|| format!("{standing}: {down} itself would have to do it"))
}
