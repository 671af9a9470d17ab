//! What a deployment is made of: a pure list of libvirt objects and files, in the order of their making.
//!
//! Networks first (the cables), then files of the machines, then the machines. [`Plan::reversed`] is the order
//! of their removal.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use mesh::Mac;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::accel::Accel;
use crate::firmware::Firmware;
use crate::nvram::NetworkPort;
use crate::owned::{DeploymentId, Owner};
use crate::topology::{Cable, End, MachineNumber};

/// Slot on PCI bus 0 of mesh port 0; the others follow. Fixed slots give the ports fixed names in the guest
/// (`enp0s16`, …) and fixed paths in the firmware.
const FIRST_PORT_SLOT: u8 = 0x10;
/// Slot of the seed's way out.
const UPLINK_SLOT: u8 = 0x18;
/// How many mesh ports a virtual machine may have.
pub const MAX_PORTS: u8 = UPLINK_SLOT - FIRST_PORT_SLOT;

/// Four times the usual. Booting machines take all they can get, and a control plane that starves loses its leases,
/// starts again, and starves the more.
const FIRST_SHARES: u32 = 4096;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Whose all of it will be.
    pub owner: Owner,
    /// The machines, the seed first.
    pub machines: Vec<MachineSpec>,
    /// The cables between them.
    pub cables: Vec<Cable>,
    /// How processors are made.
    pub accel: Accel,
    /// The firmware of every machine.
    pub firmware: Firmware,
    /// The user and group that QEMU runs as: the one whose files it reads.
    pub run_as: (u32, u32),
    /// The network between this computer and the seed.
    pub uplink: Uplink,
}

/// A machine that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSpec {
    /// Which: its addresses are made of it.
    pub number: MachineNumber,
    /// What it is called.
    pub name: String,
    /// What it is given.
    pub size: Size,
    /// Size of its disk in octets, which takes up no room until it is written; the seed's is as large as its image.
    pub disk: u64,
    /// How many mesh ports it has, [`MAX_PORTS`] at most.
    pub ports: u8,
    /// Whether it is given processors before the others, as far as this computer can do that.
    pub comes_first: bool,
}

/// What a machine is given of this computer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Processors.
    pub cpus: u16,
}

impl Size {
    /// The processors that a control plane should have at least, by kubeadm's word.
    pub const USUAL_CPUS: u16 = 2;
}

/// The network between this computer and the seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// This computer's IPv4 address and the network's prefix length.
    pub host_v4: Ipv4Net,
    /// This computer's IPv6 address and the network's prefix length.
    pub host_v6: Ipv6Net,
    /// The seed's IPv4 address.
    pub seed_v4: Ipv4Addr,
    /// The seed's IPv6 address.
    pub seed_v6: Ipv6Addr,
    /// What this computer reaches by way of the seed.
    pub routes: Vec<Ipv6Net>,
}

/// The objects of one deployment.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whose they are.
    pub owner: Owner,
    /// In the order of their making.
    pub objects: Vec<Object>,
    /// The cables, for those who want to show them.
    pub cables: Vec<Cable>,
}

/// One object.
#[derive(Debug, Clone)]
pub enum Object {
    /// A libvirt network: one bridge of this computer.
    Network(NetworkPlan),
    /// A file that a machine needs.
    Volume(VolumePlan),
    /// A machine.
    Domain(DomainPlan),
}

/// A network to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Its name in libvirt.
    pub name: String,
    /// Its bridge.
    pub bridge: String,
    /// What it is, for people.
    pub title: String,
    /// Addresses of this computer on it; none for a cable.
    pub addresses: Vec<IpNet>,
    /// Prefixes that this computer reaches through it, and through whom.
    pub routes: Vec<(Ipv6Net, Ipv6Addr)>,
}

/// A file to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum VolumePlan {
    /// An empty disk.
    Disk {
        /// Where.
        path: PathBuf,
        /// Its size in octets.
        size: u64,
    },
    /// The variables of a machine's firmware.
    Nvram {
        /// Where.
        path: PathBuf,
        /// What it is a copy of.
        template: PathBuf,
        /// The ports that its boot entries name; none to leave them to the firmware.
        ports: Vec<NetworkPort>,
    },
    /// What a machine writes on its serial console.
    Console {
        /// Where.
        path: PathBuf,
    },
}

/// A machine to make.
#[derive(Debug, Clone)]
pub struct DomainPlan {
    /// Which.
    pub machine: MachineNumber,
    /// What it is called.
    pub machine_name: String,
    /// Its name in libvirt.
    pub name: String,
    /// What it is, for people.
    pub title: String,
    /// Its SMBIOS UUID.
    pub uuid: Uuid,
    /// What it is given.
    pub size: Size,
    /// Its weight where processors are short, as libvirt has it; none for that of everything else.
    pub cpu_shares: Option<u32>,
    /// How its processors are made.
    pub accel: Accel,
    /// Its firmware's code.
    pub firmware: PathBuf,
    /// Its firmware's variables.
    pub nvram: PathBuf,
    /// Its disk.
    pub disk: PathBuf,
    /// Whether it boots from its disk.
    pub boots_from_disk: bool,
    /// The log of its serial console.
    pub console: PathBuf,
    /// Its ports.
    pub ports: Vec<PortPlan>,
    /// The user and group that its QEMU runs as.
    pub run_as: (u32, u32),
}

/// A port of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortPlan {
    /// The network it is on.
    pub network: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its tap interface on this computer.
    pub tap: String,
    /// Its slot on PCI bus 0.
    pub slot: u8,
    /// Whether a cable is plugged in.
    pub plugged: bool,
}

/// Where the files of a deployment are, below its directory.
#[derive(Debug, Clone, Copy)]
pub struct Layout<'a>(pub &'a Path);

// === impl Layout ===

impl Layout<'_> {
    /// The directory of disks and firmware variables.
    #[must_use]
    pub fn disks(self) -> PathBuf {
        self.0.join("disks")
    }

    /// The directory of consoles' logs.
    #[must_use]
    pub fn consoles(self) -> PathBuf {
        self.0.join("console")
    }

    /// A machine's disk.
    #[must_use]
    pub fn disk(self, machine: &str) -> PathBuf {
        self.disks().join(format!("{machine}.img"))
    }

    /// A machine's firmware variables.
    #[must_use]
    pub fn nvram(self, machine: &str) -> PathBuf {
        self.disks().join(format!("{machine}.nvram.fd"))
    }

    /// What a machine wrote on its serial console.
    #[must_use]
    pub fn console(self, machine: &str) -> PathBuf {
        self.consoles().join(format!("{machine}.log"))
    }
}

// === impl Plan ===

impl Plan {
    /// The objects that `spec` asks for.
    #[must_use]
    pub fn new(spec: &Spec) -> Self {
        let mut objects = vec![Object::Network(spec.uplink_network()), Object::Network(spec.loose_network())];
        objects.extend(spec.cables.iter().map(|cable| Object::Network(spec.cable_network(cable))));
        objects.extend(spec.machines.iter().flat_map(|machine| spec.machine(machine)));
        Self { owner: spec.owner.clone(), objects, cables: spec.cables.clone() }
    }

    /// Of the objects that `spec` asks for those of one machine and of the cables at its ports: what it takes to add it to
    /// the others.
    #[must_use]
    pub fn of_machine(spec: &Spec, number: MachineNumber) -> Self {
        let cables = spec.cables.iter().filter(|cable| cable.other_end(number).is_some());
        let cables: Vec<Cable> = cables.copied().collect();
        let networks = cables.iter().map(|cable| Object::Network(spec.cable_network(cable)));
        let machines = spec.machines.iter().filter(|machine| machine.number == number);
        let machines = machines.flat_map(|machine| spec.machine(machine));
        Self { owner: spec.owner.clone(), objects: networks.chain(machines).collect(), cables }
    }

    /// The order of removal.
    pub fn reversed(&self) -> impl Iterator<Item = &Object> {
        self.objects.iter().rev()
    }

    /// Its networks.
    pub fn networks(&self) -> impl Iterator<Item = &NetworkPlan> {
        self.objects.iter().filter_map(|object| match object {
            Object::Network(network) => Some(network),
            Object::Volume(_) | Object::Domain(_) => None,
        })
    }

    /// Its files.
    pub fn volumes(&self) -> impl Iterator<Item = &VolumePlan> {
        self.objects.iter().filter_map(|object| match object {
            Object::Volume(volume) => Some(volume),
            Object::Network(_) | Object::Domain(_) => None,
        })
    }

    /// Its machines.
    pub fn domains(&self) -> impl Iterator<Item = &DomainPlan> {
        self.objects.iter().filter_map(|object| match object {
            Object::Domain(domain) => Some(domain),
            Object::Network(_) | Object::Volume(_) => None,
        })
    }
}

// === impl VolumePlan ===

impl VolumePlan {
    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Disk { path, .. } | Self::Nvram { path, .. } | Self::Console { path } => path,
        }
    }
}

// === impl Spec ===

impl Spec {
    fn id(&self) -> DeploymentId {
        self.owner.deployment
    }

    fn layout(&self) -> Layout<'_> {
        Layout(Path::new(&self.owner.directory))
    }

    fn name_of(&self, number: MachineNumber) -> String {
        let machine = self.machines.iter().find(|machine| machine.number == number);
        machine.map_or_else(|| number.usual_name(), |machine| machine.name.clone())
    }

    fn network_of(&self, cable: &Cable) -> String {
        self.id().network(cable.number, &self.name_of(cable.near.machine), &self.name_of(cable.far.machine))
    }

    fn uplink_network(&self) -> NetworkPlan {
        NetworkPlan {
            name: self.id().uplink_network(),
            bridge: self.id().uplink_bridge(),
            title: "meshboot: this computer and the seed".to_owned(),
            addresses: vec![IpNet::V4(self.uplink.host_v4), IpNet::V6(self.uplink.host_v6)],
            routes: self.uplink.routes.iter().map(|prefix| (*prefix, self.uplink.seed_v6)).collect(),
        }
    }

    fn loose_network(&self) -> NetworkPlan {
        NetworkPlan {
            name: self.id().loose_network(),
            bridge: self.id().loose_bridge(),
            title: "meshboot: ports without a cable".to_owned(),
            addresses: Vec::new(),
            routes: Vec::new(),
        }
    }

    fn cable_network(&self, cable: &Cable) -> NetworkPlan {
        NetworkPlan {
            name: self.network_of(cable),
            bridge: self.id().cable_bridge(cable),
            title: format!(
                "meshboot: cable {} from {} port {} to {} port {}",
                cable.number,
                self.name_of(cable.near.machine),
                cable.near.port,
                self.name_of(cable.far.machine),
                cable.far.port
            ),
            addresses: Vec::new(),
            routes: Vec::new(),
        }
    }

    /// The files of a machine, and the machine.
    fn machine(&self, machine: &MachineSpec) -> Vec<Object> {
        let domain = self.domain(machine);
        let mut objects: Vec<Object> =
            self.volumes(&domain, machine.disk).into_iter().map(Object::Volume).collect();
        objects.push(Object::Domain(domain));
        objects
    }

    fn domain(&self, spec: &MachineSpec) -> DomainPlan {
        let machine = spec.number;
        let is_seed = machine == MachineNumber::SEED;
        let mut ports: Vec<PortPlan> =
            (0..spec.ports).map(|port| self.mesh_port(End { machine, port })).collect();
        if is_seed {
            ports.push(PortPlan {
                network: self.id().uplink_network(),
                mac: self.id().uplink_mac(),
                tap: self.id().uplink_tap(),
                slot: UPLINK_SLOT,
                plugged: true,
            });
        }
        DomainPlan {
            machine,
            machine_name: spec.name.clone(),
            name: self.id().domain(&spec.name),
            title: format!("meshboot: {}", spec.name),
            uuid: self.id().machine_uuid(machine),
            size: spec.size,
            cpu_shares: spec.comes_first.then_some(FIRST_SHARES),
            accel: self.accel,
            firmware: self.firmware.code.clone(),
            nvram: self.layout().nvram(&spec.name),
            disk: self.layout().disk(&spec.name),
            boots_from_disk: is_seed,
            console: self.layout().console(&spec.name),
            ports,
            run_as: self.run_as,
        }
    }

    /// A mesh port of a machine, with the cable that is plugged into it.
    #[must_use]
    pub fn mesh_port(&self, end: End) -> PortPlan {
        let cable = self.cables.iter().find(|cable| cable.ends().contains(&end));
        PortPlan {
            network: cable.map_or_else(|| self.id().loose_network(), |cable| self.network_of(cable)),
            mac: self.id().mac(end),
            tap: self.id().tap(end),
            slot: FIRST_PORT_SLOT + end.port,
            plugged: cable.is_some(),
        }
    }

    /// The files of a machine. The seed's disk is not among them: it is the image of a USB stick.
    fn volumes(&self, domain: &DomainPlan, disk: u64) -> Vec<VolumePlan> {
        let boots_from_network = !domain.boots_from_disk;
        let cabled = domain.ports.iter().filter(|port| port.plugged && boots_from_network);
        let nvram = VolumePlan::Nvram {
            path: domain.nvram.clone(),
            template: self.firmware.variables.clone(),
            ports: cabled.map(|port| NetworkPort { slot: port.slot, mac: port.mac }).collect(),
        };
        let console = VolumePlan::Console { path: domain.console.clone() };
        let disk = VolumePlan::Disk { path: domain.disk.clone(), size: disk };
        [Some(console), Some(nvram), boots_from_network.then_some(disk)].into_iter().flatten().collect()
    }
}

#[cfg(test)]
pub(crate) mod tests;
