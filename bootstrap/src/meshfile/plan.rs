//! A mesh that can be made: what is written, checked, with every default filled in.

use std::collections::BTreeMap;

use hardware::topology::from_seed;
use hardware::{Cable, End, MachineNumber};
use ignition::ControlPlaneSpec;

use super::show;
use crate::deployment::{Deployment, MachineRecord, Wanted, WantedMachine};
use crate::profile::ProfileName;
use crate::settings::Raw;

/// A mesh that can be made.
#[derive(Debug, Clone)]
pub struct MeshPlan {
    /// What tells it from others on this computer; none for the one whose files are in `cluster`.
    pub name: Option<ProfileName>,
    /// Its machines by their numbers, and the cables between them.
    pub wanted: Wanted,
    /// What is wanted of its control plane.
    pub control_plane: ControlPlaneSpec,
    /// Its settings, as they were given.
    pub settings: Raw,
}

// === impl MeshPlan ===

impl MeshPlan {
    /// What a deployment amounts to, whatever numbers its machines and cables have come to.
    #[must_use]
    pub fn of(deployment: &Deployment, settings: Raw) -> Self {
        Self {
            name: deployment.profile.clone(),
            wanted: numbered_anew(deployment),
            control_plane: deployment.control_plane.clone(),
            settings,
        }
    }

    /// The file that says all of it.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        show::file(self)
    }
}

/// Two plans are one if they make the same mesh: where a setting was given makes no difference.
impl PartialEq for MeshPlan {
    fn eq(&self, other: &Self) -> bool {
        let same = (&self.name, &self.wanted, &self.control_plane)
            == (&other.name, &other.wanted, &other.control_plane);
        same && self.settings.resolved() == other.settings.resolved()
    }
}

/// Machines by their places in the record, and cables from the seed outwards.
fn numbered_anew(deployment: &Deployment) -> Wanted {
    let places = deployment.machines.iter().map(|machine| machine.number).zip((0..).map(MachineNumber));
    let places: BTreeMap<MachineNumber, MachineNumber> = places.collect();
    let end = |end: End| Some(End { machine: *places.get(&end.machine)?, ..end });
    let laid = deployment
        .cables
        .iter()
        .filter_map(|cable| Some(Cable { near: end(cable.near)?, far: end(cable.far)?, ..*cable }));
    let cables = (1..).zip(from_seed(&laid.collect::<Vec<_>>()));
    Wanted {
        machines: deployment.machines.iter().map(wanted).collect(),
        cables: cables.map(|(number, cable)| Cable { number, ..cable }).collect(),
    }
}

fn wanted(machine: &MachineRecord) -> WantedMachine {
    WantedMachine {
        name: machine.name.clone(),
        memory_mib: machine.size.memory_mib,
        cpus: Some(machine.size.cpus),
        disk: machine.disk,
        ports: machine.ports,
        node: machine.node.clone(),
    }
}
