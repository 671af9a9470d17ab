//! What a fault can be done to: the machines and cables of one deployment, by the names that people use.

use hardware::MachineNumber;
use mesh::Mac;

use super::asked::Ends;
use crate::deployment::Deployment;

/// A deployment, as faults see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scene {
    /// What stands in the names of all that is the deployment's on this computer.
    pub tag: String,
    /// The machines, the seed first.
    pub machines: Vec<Place>,
    /// The cables between them.
    pub cables: Vec<Line>,
    /// The TCP ports of every node's mirrors.
    pub mirror_ports: Vec<u16>,
    /// Whether its machines are real, and so out of this computer's reach but by the network.
    pub is_real: bool,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its number; none for one that the deployment did not make.
    pub number: Option<MachineNumber>,
    /// Its name.
    pub name: String,
    /// What it is in libvirt; none if it is real.
    pub domain: Option<String>,
}

/// A cable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What is at its ends.
    pub ends: Ends,
    /// Its near end.
    pub near: Socket,
    /// Its far end.
    pub far: Socket,
}

/// An end of a cable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// The machine in libvirt.
    pub domain: String,
    /// The port's tap interface on this computer.
    pub tap: String,
    /// The port's Ethernet address.
    pub mac: Mac,
}

// === impl Scene ===

impl Scene {
    /// The scene of a deployment of virtual machines.
    #[must_use]
    pub fn of(deployment: &Deployment) -> Self {
        let machines = deployment.machines.iter().map(|machine| Place {
            number: Some(machine.number),
            name: machine.name.to_string(),
            domain: Some(deployment.domain(machine)),
        });
        let name_and_domain = |number| {
            let machine = deployment.machine(number)?;
            Some((machine.name.to_string(), deployment.domain(machine)))
        };
        let cables = deployment.cables.iter().filter_map(|cable| {
            let [(near, near_domain), (far, far_domain)] =
                [name_and_domain(cable.near.machine)?, name_and_domain(cable.far.machine)?];
            let socket =
                |domain, end| Socket { domain, tap: deployment.id.tap(end), mac: deployment.id.mac(end) };
            Some(Line {
                ends: Ends { cable: cable.number, near, far },
                near: socket(near_domain, cable.near),
                far: socket(far_domain, cable.far),
            })
        });
        Self {
            tag: deployment.id.tag(),
            machines: machines.collect(),
            cables: cables.collect(),
            mirror_ports: mirror_ports(deployment),
            is_real: false,
        }
    }

    /// The scene of a stick's deployment: `names` are those of the machines that the seed knows.
    #[must_use]
    pub fn of_hardware(deployment: &Deployment, names: impl IntoIterator<Item = String>) -> Self {
        let machines = names.into_iter().map(|name| Place { number: None, name, domain: None });
        Self {
            tag: deployment.id.tag(),
            machines: machines.collect(),
            cables: Vec::new(),
            mirror_ports: mirror_ports(deployment),
            is_real: true,
        }
    }

    /// The machine of this name.
    #[must_use]
    pub fn machine(&self, name: &str) -> Option<&Place> {
        self.machines.iter().find(|machine| machine.name == name)
    }

    /// The cable of this number.
    #[must_use]
    pub fn cable(&self, number: u16) -> Option<&Line> {
        self.cables.iter().find(|cable| cable.ends.cable == number)
    }

    /// The cables between two machines.
    pub fn between<'a>(&'a self, one: &'a str, other: &'a str) -> impl Iterator<Item = &'a Line> {
        self.cables.iter().filter(move |cable| {
            let ends = [cable.ends.near.as_str(), cable.ends.far.as_str()];
            ends == [one, other] || ends == [other, one]
        })
    }

    /// The names of all machines, for those who mistook one.
    #[must_use]
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.machines.iter().map(|machine| machine.name.as_str()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

fn mirror_ports(deployment: &Deployment) -> Vec<u16> {
    deployment.addresses.mirrors.iter().map(|mirror| mirror.port).collect()
}
