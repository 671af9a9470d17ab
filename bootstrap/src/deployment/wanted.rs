//! The machines and cables that are asked for, before this computer has been looked at.

use std::collections::BTreeSet;

use hardware::plan::Size;
use hardware::profile::MESH_PORTS;
use hardware::topology::cables;
use hardware::{Accel, Cable, MachineNumber};
use ignition::{ImageId, KubernetesVersion, NodeSpec, SkewError};
use mesh::NodeName;

use super::MachineRecord;
use crate::settings::LibvirtSettings;

/// What a deployment is to consist of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The machines by their numbers: the first is the seed.
    pub machines: Vec<WantedMachine>,
    /// The cables between them, each with its near end towards the seed.
    pub cables: Vec<Cable>,
}

/// A machine that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedMachine {
    /// Its node's name.
    pub name: NodeName,
    /// Its memory in MiB.
    pub memory_mib: u32,
    /// Its processors; none to go by how they are made.
    pub cpus: Option<u16>,
    /// Size of its disk in octets; the seed's is as large as its image.
    pub disk: u64,
    /// How many mesh ports it has.
    pub ports: u8,
    /// What is wanted of its node.
    pub node: NodeSpec,
}

// === impl Wanted ===

impl Wanted {
    /// The seed and so many machines in one of the usual shapes, all as the settings say.
    #[must_use]
    pub fn usual(settings: &LibvirtSettings, nodes: u16) -> Self {
        let machines = (0..=nodes).map(MachineNumber);
        Self {
            machines: machines.map(|number| WantedMachine::usual(settings, number)).collect(),
            cables: cables(settings.topology, nodes),
        }
    }

    /// How many control planes there are to be, the seed being one.
    #[must_use]
    pub fn control_planes(&self) -> usize {
        1 + self.machines.iter().filter(|machine| machine.node.control_plane).count()
    }

    /// The machines as they will be, where processors are made like this.
    #[must_use]
    pub fn records(&self, accel: Accel) -> Vec<MachineRecord> {
        (0..)
            .map(MachineNumber)
            .zip(&self.machines)
            .map(|(number, wanted)| wanted.record(number, accel))
            .collect()
    }

    /// Forgets of kubelets that they are of the mesh's own version: nothing follows from it.
    pub fn settle(&mut self, mesh: KubernetesVersion) {
        for machine in &mut self.machines {
            machine.node.kubernetes_version = machine.node.own_kubelet(mesh);
        }
    }

    /// The machines whose kubelets do not go with the mesh's Kubernetes.
    #[must_use]
    pub fn skewed(&self, mesh: KubernetesVersion) -> Vec<(&NodeName, SkewError)> {
        let skew = |machine: &WantedMachine| mesh.takes_kubelet(machine.node.kubernetes_version?).err();
        self.machines.iter().filter_map(|machine| Some((&machine.name, skew(machine)?))).collect()
    }

    /// The images that machines boot besides the mesh's.
    #[must_use]
    pub fn images(&self) -> BTreeSet<ImageId> {
        self.machines.iter().filter_map(|machine| machine.node.image.clone()).collect()
    }

    /// The kubelets that machines want besides the mesh's.
    #[must_use]
    pub fn kubelets(&self) -> BTreeSet<KubernetesVersion> {
        self.machines.iter().filter_map(|machine| machine.node.kubernetes_version).collect()
    }
}

// === impl WantedMachine ===

impl WantedMachine {
    /// A machine as the settings say, with its usual name.
    #[must_use]
    pub fn usual(settings: &LibvirtSettings, number: MachineNumber) -> Self {
        let is_seed = number == MachineNumber::SEED;
        Self {
            name: number.usual_name().parse().expect("these names are made of letters and digits"),
            memory_mib: if is_seed { settings.seed_memory_mib } else { settings.memory_mib },
            cpus: settings.cpus,
            disk: settings.disk,
            ports: MESH_PORTS,
            node: NodeSpec::default(),
        }
    }

    /// The machine as it will be under this number.
    #[must_use]
    pub fn record(&self, number: MachineNumber, accel: Accel) -> MachineRecord {
        // Processors that are emulated wait for each other for much of their time, and all of them for this computer's.
        // A control plane is many programs that have to answer in time, all the same.
        let is_control_plane = number == MachineNumber::SEED || self.node.control_plane;
        let one_is_enough = accel == Accel::Tcg && !is_control_plane;
        let fewest = if one_is_enough { 1 } else { Size::USUAL_CPUS };
        MachineRecord {
            number,
            name: self.name.clone(),
            size: Size { memory_mib: self.memory_mib, cpus: self.cpus.unwrap_or(fewest) },
            disk: self.disk,
            ports: self.ports,
            node: self.node.clone(),
            pending: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_are_the_meshs_or_go_with_it_or_are_named() {
        let settings = crate::settings::Settings::from_raw(crate::settings::Raw::default()).unwrap();
        let version = |text: &str| text.parse::<KubernetesVersion>().unwrap();
        let mut wanted = Wanted::usual(&settings.libvirt, 4);
        let kubelets = [None, Some("v1.34.2"), Some("v1.33.7"), Some("v1.35.0"), Some("v1.30.1")];
        for (machine, kubelet) in wanted.machines.iter_mut().zip(kubelets) {
            machine.node.kubernetes_version = kubelet.map(version);
        }
        let mesh = version("v1.34.2");
        let skewed: Vec<String> =
            wanted.skewed(mesh).into_iter().map(|(name, error)| format!("{name}: {error}")).collect();
        assert_eq!(skewed.len(), 2, "{skewed:?}");
        assert!(skewed[0].starts_with("node3: a kubelet v1.35.0 is newer"), "{skewed:?}");
        assert!(skewed[1].starts_with("node4: a kubelet v1.30.1 is too old"), "{skewed:?}");
        wanted.settle(mesh);
        assert_eq!(wanted.machines[1].node.kubernetes_version, None);
        let others = ["v1.30.1", "v1.33.7", "v1.35.0"].map(version);
        assert_eq!(wanted.kubelets(), others.into());
    }
}
