//! The machines of a deployment, one by one, and the cables between them.

use std::collections::BTreeMap;

use hardware::plan::{MachineSpec, Size};
use hardware::{Accel, Cable, End, MachineNumber};
use ignition::NodeSpec;
use mesh::NodeName;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Deployment, Wanted};
use crate::exit::{Code, Failure};
use crate::gateway::settings::Reservation;

/// A virtual machine of a deployment, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRecord {
    /// Its number; 0 is the seed.
    pub number: MachineNumber,
    /// Its node's name.
    pub name: NodeName,
    /// What it is given of this computer.
    pub size: Size,
    /// Size of its disk in octets; the seed's is as large as its image.
    pub disk: u64,
    /// How many mesh ports it has.
    pub ports: u8,
    /// What is wanted of its node.
    #[serde(default)]
    pub node: NodeSpec,
    /// Whether it was made and nobody has seen it Ready since.
    #[serde(default)]
    pub pending: bool,
}

// === impl MachineRecord ===

impl MachineRecord {
    /// Whether it is the seed.
    #[must_use]
    pub fn is_seed(&self) -> bool {
        self.number == MachineNumber::SEED
    }

    /// Whether it is the seed, or is to be one more control plane.
    #[must_use]
    pub fn is_control_plane(&self) -> bool {
        self.is_seed() || self.node.control_plane
    }

    /// What the mesh has to know of it before it boots, besides the files of images that are its own.
    #[must_use]
    pub fn reservation(&self) -> Reservation {
        Reservation { name: self.name.clone(), spec: self.node.clone(), boot: None }
    }

    /// What the driver has to know of it. Where processors are `scarce`, those that the others depend on come first.
    #[must_use]
    pub fn spec(&self, scarce: bool) -> MachineSpec {
        MachineSpec {
            number: self.number,
            name: self.name.to_string(),
            size: self.size,
            disk: self.disk,
            ports: self.ports,
            comes_first: scarce && self.is_control_plane(),
        }
    }
}

// === impl Deployment ===

impl Deployment {
    /// Enters the machines and cables that are asked for in a deployment that has none.
    pub fn add(&mut self, wanted: &Wanted, accel: Accel) {
        self.accel = Some(accel);
        self.machines = wanted.records(accel);
        self.cables.clone_from(&wanted.cables);
        let after = |last: Option<u16>| last.unwrap_or_default().saturating_add(1);
        self.next_machine = after(self.machines.iter().map(|machine| machine.number.0).max());
        self.next_cable = after(self.cables.iter().map(|cable| cable.number).max());
    }

    /// The names that the machines besides the seed will have, and what is wanted of their nodes, by their SMBIOS UUIDs.
    #[must_use]
    pub fn reservations(&self) -> BTreeMap<Uuid, Reservation> {
        let nodes = self.machines.iter().filter(|machine| !machine.is_seed());
        nodes.map(|machine| (self.id.machine_uuid(machine.number), machine.reservation())).collect()
    }

    /// The machine that somebody names.
    ///
    /// # Errors
    ///
    /// There is none of that name; those that there are are named.
    pub fn find(&self, name: &str) -> Result<&MachineRecord, Failure> {
        self.machines.iter().find(|machine| machine.name.as_str() == name).ok_or_else(|| {
            let known: Vec<&str> = self.machines.iter().map(|machine| machine.name.as_str()).collect();
            let known = if known.is_empty() { "no virtual machine".to_owned() } else { known.join(", ") };
            Failure::new(Code::Usage, format!("there is no machine `{name}`: this deployment has {known}"))
        })
    }

    /// The machine of a number.
    #[must_use]
    pub fn machine(&self, number: MachineNumber) -> Option<&MachineRecord> {
        self.machines.iter().find(|machine| machine.number == number)
    }

    /// The name of a machine that is or was there.
    #[must_use]
    pub fn name_of(&self, number: MachineNumber) -> String {
        self.machine(number).map_or_else(|| number.usual_name(), |machine| machine.name.to_string())
    }

    /// A machine's domain in libvirt.
    #[must_use]
    pub fn domain(&self, machine: &MachineRecord) -> String {
        self.id.domain(machine.name.as_str())
    }

    /// The cables of a machine.
    pub fn cables_of(&self, machine: MachineNumber) -> impl Iterator<Item = &Cable> {
        self.cables.iter().filter(move |cable| cable.other_end(machine).is_some())
    }

    /// The cables between two machines; two ports of one machine have none.
    pub fn cables_between(&self, one: MachineNumber, other: MachineNumber) -> impl Iterator<Item = &Cable> {
        self.cables_of(one).filter(move |cable| cable.other_end(one).is_some_and(|end| end.machine == other))
    }

    /// The lowest of a machine's ports that has no cable.
    #[must_use]
    pub fn free_port(&self, machine: &MachineRecord) -> Option<End> {
        let ends = (0..machine.ports).map(|port| End { machine: machine.number, port });
        ends.into_iter().find(|end| self.cables.iter().all(|cable| !cable.ends().contains(end)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use hardware::profile::MESH_PORTS;
    use hardware::topology::{Shape, cables};

    use super::*;

    /// Machines with their usual names.
    pub(crate) fn records(nodes: u16) -> Vec<MachineRecord> {
        let record = |number: MachineNumber| MachineRecord {
            number,
            name: number.usual_name().parse().unwrap(),
            size: Size { memory_mib: 2048, cpus: 1 },
            disk: 10 << 30,
            ports: MESH_PORTS,
            node: NodeSpec::default(),
            pending: false,
        };
        (0..=nodes).map(MachineNumber).map(record).collect()
    }

    /// The seed and so many machines in a grid.
    pub(crate) fn sample(nodes: u16) -> Deployment {
        let id = hardware::DeploymentId::random();
        let seed = mesh::Machine {
            id: mesh::MachineId(id.0),
            name: "seed".parse().unwrap(),
            role: mesh::Role::Seed,
            block: mesh::BlockNumber(1),
            router_id: 1.try_into().unwrap(),
            ports: Vec::new(),
        };
        let site = "5eed0000-0000-4000-8000-000000000001".parse().unwrap();
        let mut deployment = Deployment::new(id, site, mesh::AddressPlan::default(), seed);
        deployment.machines = records(nodes);
        deployment.cables = cables(Shape::Grid, nodes);
        deployment.next_machine = nodes + 1;
        deployment
    }

    #[test]
    fn a_machine_that_is_not_there_is_told_with_those_that_are() {
        let deployment = sample(4);
        assert_eq!(deployment.find("node3").unwrap().number, MachineNumber(3));
        let said = deployment.find("node7").unwrap_err().message();
        assert!(said.contains("`node7`") && said.contains("seed, node1, node2, node3, node4"), "{said}");
    }

    #[test]
    fn cables_and_ports_are_found_from_either_end() {
        let deployment = sample(4);
        let (one, four) = (MachineNumber(1), MachineNumber(4));
        assert_eq!(deployment.cables_of(one).count(), 3);
        assert_eq!(deployment.cables_between(four, MachineNumber(2)).count(), 1);
        assert_eq!(deployment.cables_between(four, one).count(), 0);
        let free = |name: &str| deployment.free_port(deployment.find(name).unwrap()).map(|end| end.port);
        assert_eq!((free("node1"), free("seed"), free("node4")), (Some(3), Some(1), Some(2)));
    }
}
