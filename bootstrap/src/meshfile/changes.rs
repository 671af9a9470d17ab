//! What a running mesh lacks of one that is wanted: a pure comparison, machine by machine and cable by cable.
//!
//! Machines are the same if they have the same name, cables if they join the same ports. What cannot be changed while
//! the mesh runs is a change, too, with the reason: all of them are told at once, before anything is done.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use hardware::{Cable, End};
use ignition::{ImageId, Taint};
use schemars::JsonSchema;
use serde::Serialize;

use super::plan::MeshPlan;
use super::show::size;
use crate::deployment::WantedMachine;

/// Settings that only say what new machines are given, and what this computer does: a running mesh has no difference of them.
const ONLY_NEW: [&str; 7] = [
    "kubernetes.server",
    "libvirt.cpus",
    "libvirt.disk",
    "libvirt.memory",
    "libvirt.seed-memory",
    "libvirt.timeout",
    "libvirt.topology",
];
/// Settings of another kind of deployment.
const ELSEWHERE: &str = "usb.";

/// One difference, and so one thing to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "change")]
pub enum Change {
    /// It cannot be had while the mesh runs.
    Impossible {
        /// What is different.
        what: String,
        /// Why it stays as it is.
        reason: String,
    },
    /// A machine goes: its node is drained, and it goes with its disk and its cables.
    RemoveMachine {
        /// Its name.
        name: String,
    },
    /// A cable goes.
    RemoveCable {
        /// One end.
        near: Socket,
        /// The other.
        far: Socket,
    },
    /// A machine comes.
    AddMachine {
        /// Its name.
        name: String,
        /// Its memory in MiB.
        memory_mib: u32,
        /// Whether it becomes one more control plane.
        control_plane: bool,
    },
    /// A cable comes.
    AddCable {
        /// One end.
        near: Socket,
        /// The other.
        far: Socket,
    },
    /// A machine was made, and nobody has seen it Ready since: it is given power and waited for.
    Finish {
        /// Its name.
        name: String,
    },
    /// A machine has other memory, processors or images: its power is cut and given again.
    Resize {
        /// Its name.
        name: String,
        /// What changes, in words.
        what: String,
    },
    /// A machine's kubelet starts otherwise: its power is cut and given again, and its node joins anew.
    Rejoin {
        /// Its name.
        name: String,
        /// What changes, in words.
        what: String,
    },
    /// A label of a node changes, at once.
    Label {
        /// The node's name.
        name: String,
        /// The label's key.
        key: String,
        /// Its value; none to remove it.
        value: Option<String>,
    },
    /// A taint of a node comes or goes, at once.
    Taint {
        /// The node's name.
        name: String,
        /// The taint, as kubectl has it.
        #[schemars(with = "String")]
        taint: Taint,
        /// Whether it is there afterwards.
        wanted: bool,
    },
}

/// A port of a machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(into = "String")]
pub struct Socket {
    /// The machine's name.
    pub machine: String,
    /// Its port.
    pub port: u8,
}

/// What has to be done so that `running` becomes `wanted`: first what cannot, then what goes, what comes, what changes.
#[must_use]
pub fn changes(running: &MeshPlan, wanted: &MeshPlan) -> Vec<Change> {
    let (before, after) = (machines(running), machines(wanted));
    let mut all = of_mesh(running, wanted);
    for (name, machine) in &before {
        match after.get(name) {
            Some(other) => all.extend(of_machine(machine, other, *name == seed(running))),
            None => all.push(Change::RemoveMachine { name: (*name).to_owned() }),
        }
    }
    let added = after.iter().filter(|(name, _)| !before.contains_key(*name));
    all.extend(added.map(|(_, machine)| Change::add(machine)));
    all.extend(of_cables(running, wanted, &after));
    all.sort();
    all
}

/// What has to be done where there is nothing yet.
#[must_use]
pub fn changes_from_nothing(wanted: &MeshPlan) -> Vec<Change> {
    let machines = wanted.wanted.machines.iter().map(Change::add);
    let cables = cables(wanted).into_values().map(|[near, far]| Change::AddCable { near, far });
    machines.chain(cables).collect()
}

/// What is different of the mesh as a whole.
fn of_mesh(running: &MeshPlan, wanted: &MeshPlan) -> Vec<Change> {
    let impossible = |what: String, reason: &str| Change::Impossible { what, reason: reason.to_owned() };
    let mut all = Vec::new();
    if running.name != wanted.name {
        let name =
            |plan: &MeshPlan| plan.name.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
        all.push(impossible(
            format!("name: {} -> {}", name(running), name(wanted)),
            "a mesh's addresses and its directory are made of its name",
        ));
    }
    if seed(running) != seed(wanted) {
        all.push(impossible(
            format!("seed: {} -> {}", seed(running), seed(wanted)),
            "the mesh's keys and ledger are the seed's",
        ));
    }
    let (before, after) = (running.settings.resolved(), wanted.settings.resolved());
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let value = |of: &BTreeMap<String, toml::Value>| of.get(key).map_or_else(|| "none".to_owned(), words);
        let (before, after) = (value(&before), value(&after));
        if before == after || ONLY_NEW.contains(&key.as_str()) || key.starts_with(ELSEWHERE) {
            continue;
        }
        let what = format!("settings.{key}: {before} -> {after}");
        all.push(impossible(what, "settings are given to the seed when it is made"));
    }
    let pairs = running.control_plane.components().into_iter().zip(wanted.control_plane.components());
    for ((component, before), (_, after)) in pairs {
        if before != after {
            all.push(impossible(
                format!("extraConfig.{component}"),
                "kubeadm gives the control plane its flags when it makes the cluster",
            ));
        }
    }
    all
}

/// A setting is the same as a text, as a number and as a truth value.
fn words(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(items) => format!("[{}]", items.iter().map(words).collect::<Vec<_>>().join(", ")),
        toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_)
        | toml::Value::Table(_) => value.to_string(),
    }
}

/// What is different of a machine that is in both.
fn of_machine(running: &WantedMachine, wanted: &WantedMachine, is_seed: bool) -> Vec<Change> {
    let name = running.name.to_string();
    let impossible = |what: String, reason: &str| Change::Impossible {
        what: format!("{name}: {what}"),
        reason: format!("{reason}; a machine of another name can have it"),
    };
    let mut all = Vec::new();
    if running.disk != wanted.disk {
        let what = format!("disk {} -> {}", size(running.disk), size(wanted.disk));
        all.push(impossible(what, "what is on a disk does not grow with it"));
    }
    if running.ports != wanted.ports {
        let what = format!("ports {} -> {}", running.ports, wanted.ports);
        all.push(impossible(what, "its ports are soldered to its board"));
    }
    let version = (running.node.kubernetes_version != wanted.node.kubernetes_version).then(|| {
        let named = |of: &WantedMachine| {
            of.node.kubernetes_version.map_or_else(|| "the mesh's".to_owned(), |version| version.to_string())
        };
        format!("kubernetesVersion {} -> {}", named(running), named(wanted))
    });
    let gates = (running.node.feature_gates != wanted.node.feature_gates).then_some("featureGates");
    let arguments = (running.node.kubelet != wanted.node.kubelet).then_some("kubelet");
    let rest = gates.into_iter().chain(arguments).map(str::to_owned);
    let what: Vec<String> = version.into_iter().chain(rest).collect();
    if running.node.control_plane != wanted.node.control_plane {
        let role = |of: &WantedMachine| if of.node.control_plane { "control-plane" } else { "worker" };
        let what = format!("role {} -> {}", role(running), role(wanted));
        all.push(impossible(what, "what a machine is to be is said before it joins"));
    }
    if (is_seed || running.node.control_plane) && !what.is_empty() {
        all.push(impossible(what.join(", "), "a control plane's kubelet has what it was made with"));
    } else if !what.is_empty() {
        all.push(Change::Rejoin { name: name.clone(), what: what.join(", ") });
    }
    all.extend(resized(running, wanted));
    all.extend(labelled(running, wanted));
    let taints = |of: &WantedMachine| of.node.taints.iter().cloned().collect::<BTreeSet<Taint>>();
    let (before, after) = (taints(running), taints(wanted));
    let change = |wanted: bool| {
        let name = name.clone();
        move |taint: &Taint| Change::Taint { name: name.clone(), taint: taint.clone(), wanted }
    };
    all.extend(before.difference(&after).map(change(false)));
    all.extend(after.difference(&before).map(change(true)));
    all
}

/// What a machine has when it has power the next time. Processors that go by how they are made are as they are.
fn resized(running: &WantedMachine, wanted: &WantedMachine) -> Option<Change> {
    let memory = (running.memory_mib != wanted.memory_mib).then(|| {
        let [before, after] = [running, wanted].map(|of| size(u64::from(of.memory_mib) << 20));
        format!("memory {before} -> {after}")
    });
    let cpus = match (running.cpus, wanted.cpus) {
        (Some(before), Some(after)) if before != after => Some(format!("cpus {before} -> {after}")),
        (Some(_) | None, Some(_) | None) => None,
    };
    let image = (running.node.image != wanted.node.image).then(|| {
        let named =
            |of: &WantedMachine| of.node.image.as_ref().map_or("the mesh's", ImageId::as_str).to_owned();
        format!("image {} -> {}", named(running), named(wanted))
    });
    let what: Vec<String> = memory.into_iter().chain(cpus).chain(image).collect();
    (!what.is_empty()).then(|| Change::Resize { name: running.name.to_string(), what: what.join(", ") })
}

fn labelled(running: &WantedMachine, wanted: &WantedMachine) -> Vec<Change> {
    let (before, after) = (&running.node.labels, &wanted.node.labels);
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let different = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
    let change = |key: &String| Change::Label {
        name: running.name.to_string(),
        key: key.clone(),
        value: after.get(key).cloned(),
    };
    different.map(change).collect()
}

/// The cables of a machine that goes go with it.
fn of_cables(running: &MeshPlan, wanted: &MeshPlan, kept: &BTreeMap<&str, &WantedMachine>) -> Vec<Change> {
    let (before, after) = (cables(running), cables(wanted));
    let stays = |socket: &Socket| kept.contains_key(socket.machine.as_str());
    let gone = before.iter().filter(|(pair, _)| !after.contains_key(*pair));
    let gone = gone.filter(|(_, [near, far])| stays(near) && stays(far));
    let come = after.iter().filter(|(pair, _)| !before.contains_key(*pair));
    let gone = gone.map(|(_, [near, far])| Change::RemoveCable { near: near.clone(), far: far.clone() });
    gone.chain(come.map(|(_, [near, far])| Change::AddCable { near: near.clone(), far: far.clone() }))
        .collect()
}

fn seed(plan: &MeshPlan) -> &str {
    plan.wanted.machines.first().map_or("", |seed| seed.name.as_str())
}

fn machines(plan: &MeshPlan) -> BTreeMap<&str, &WantedMachine> {
    plan.wanted.machines.iter().map(|machine| (machine.name.as_str(), machine)).collect()
}

/// Each cable's ends as they lie, by its ends in order: which end is the near one is no difference.
fn cables(plan: &MeshPlan) -> BTreeMap<BTreeSet<Socket>, [Socket; 2]> {
    let socket = |end: End| {
        let machine = plan.wanted.machines.get(usize::from(end.machine.0));
        let machine = machine.map_or_else(|| end.machine.usual_name(), |machine| machine.name.to_string());
        Socket { machine, port: end.port }
    };
    let ends = |cable: &Cable| cable.ends().map(socket);
    plan.wanted.cables.iter().map(|cable| (ends(cable).into_iter().collect(), ends(cable))).collect()
}

// === impl Change ===

impl Change {
    fn add(machine: &WantedMachine) -> Self {
        Self::AddMachine {
            name: machine.name.to_string(),
            memory_mib: machine.memory_mib,
            control_plane: machine.node.control_plane,
        }
    }

    /// Whether it cannot be had.
    #[must_use]
    pub fn is_impossible(&self) -> bool {
        matches!(self, Self::Impossible { .. })
    }

    /// The machine that goes by it.
    #[must_use]
    pub fn removed(&self) -> Option<&str> {
        if let Self::RemoveMachine { name } = self { Some(name) } else { None }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Impossible { what, reason } => write!(f, "! {what}: {reason}"),
            Self::RemoveMachine { name } => {
                write!(f, "- machine {name}, drained first, with its disk and cables")
            }
            Self::RemoveCable { near, far } => write!(f, "- cable {near} - {far}"),
            Self::AddMachine { name, memory_mib, control_plane } => {
                let role = if *control_plane { ", one more control plane" } else { "" };
                write!(f, "+ machine {name} of {}{role}", size(u64::from(*memory_mib) << 20))
            }
            Self::AddCable { near, far } => write!(f, "+ cable {near} - {far}"),
            Self::Finish { name } => {
                write!(f, "~ {name}: it never was Ready; it is given power, and waited for")
            }
            Self::Resize { name, what } => write!(f, "~ {name}: {what}; its power is cut and given again"),
            Self::Rejoin { name, what } => {
                write!(f, "~ {name}: {what}; its power is cut and given again, and it joins anew")
            }
            Self::Label { name, key, value: Some(value) } => {
                write!(f, "~ {name}: label {key}={value}, at once")
            }
            Self::Label { name, key, value: None } => write!(f, "~ {name}: no label {key}, at once"),
            Self::Taint { name, taint, wanted: true } => write!(f, "~ {name}: taint {taint}, at once"),
            Self::Taint { name, taint, wanted: false } => write!(f, "~ {name}: no taint {taint}, at once"),
        }
    }
}

// === impl Socket ===

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.machine, self.port)
    }
}

impl From<Socket> for String {
    fn from(socket: Socket) -> Self {
        socket.to_string()
    }
}
