//! From what is written to what can be made. Every mistake is found, and each is told where it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use hardware::plan::MAX_PORTS;
use hardware::profile::MESH_PORTS;
use hardware::topology::MAX_MACHINES;
use ignition::member::{self, SpecError};
use ignition::{ControlPlaneSpec, ImageId, KubernetesVersion, NodeSpec, Taint};
use mesh::NodeName;

use super::given::Given;
use super::mistake::{Mistake, Place};
use super::plan::MeshPlan;
use super::written::{List, MachineWritten, Named, Role, Word, Written};
use crate::deployment::{Wanted, WantedMachine};
use crate::profile::ProfileName;
use crate::settings::{self, Raw, Settings, nearest};

mod cables;
mod control_planes;

/// What a machine without a name is called, with the next number behind it.
const USUAL_NAME: &str = "node";
/// What a seed without a name is called.
const SEED_NAME: &str = "seed";

/// Finds the plan that is written, or every mistake in it.
pub(super) fn check(written: &Written, settings: &Settings, raw: Raw) -> Result<MeshPlan, Vec<Mistake>> {
    let mut checker = Checker { written, settings, mistakes: Vec::new(), machines_are_known: true };
    let plan = checker.mesh(raw);
    plan.filter(|_| checker.mistakes.is_empty()).ok_or(checker.mistakes)
}

/// What is checked, and what was found.
struct Checker<'a> {
    written: &'a Written,
    settings: &'a Settings,
    mistakes: Vec<Mistake>,
    /// Whether every entry of the list of machines could be read.
    machines_are_known: bool,
}

/// One machine of the list, where several may be one entry.
struct Member<'a> {
    name: String,
    place: Place,
    is_seed: bool,
    /// What it is, if that was said or chosen; a worker else.
    role: Option<Role>,
    /// What is said of it: later ones stand over earlier ones.
    said: Vec<&'a MachineWritten>,
    ports: u8,
}

// === impl Checker ===

impl<'a> Checker<'a> {
    fn mesh(&mut self, raw: Raw) -> Option<MeshPlan> {
        let name = self.name();
        let mut members = self.members();
        self.check_names(&members);
        self.check_seeds(&members);
        self.add_named(&mut members);
        members.sort_by_key(|member| !member.is_seed);
        for member in &mut members {
            member.ports = self.ports(member);
        }
        let cables = self.cables(&members);
        self.choose_control_planes(&mut members, &cables);
        let defaults = self.defaults();
        let machines: Vec<Option<WantedMachine>> =
            members.iter().map(|member| self.machine(member, &defaults)).collect();
        let control_plane = self.control_plane();
        let machines = machines.into_iter().collect::<Option<_>>()?;
        Some(MeshPlan { name, wanted: Wanted { machines, cables }, control_plane, settings: raw })
    }

    fn note(&mut self, place: Place, problem: impl Display) {
        self.mistakes.push(Mistake::at(place, problem.to_string()));
    }

    /// A value that stands at a place, or a note of what is wrong with it.
    fn parsed<T, E: Display>(&mut self, place: Place, what: &str, parsed: Result<T, E>) -> Option<T> {
        let note = |problem: E| match place {
            Place::Line { .. } => self.note(place, format!("{what}: {problem}")),
            // The flag says what it is.
            Place::Flag(_) => self.note(place, problem),
        };
        parsed.map_err(note).ok()
    }

    fn name(&mut self) -> Option<ProfileName> {
        let (name, place) = self.written.name.pair()?;
        self.parsed(place, "name", name.parse())
    }

    /// Every machine, in the order of the file.
    fn members(&mut self) -> Vec<Member<'a>> {
        let written = self.written;
        let Some((list, place)) = written.machines.pair() else {
            if written.machines.is_absent() {
                let problem = "there are no machines: `machines` lists them, the seed among them".to_owned();
                self.mistakes.push(Mistake { place: None, problem });
            }
            self.machines_are_known = false;
            return Vec::new();
        };
        self.machines_are_known = list.iter().all(|machine| machine.get().is_some());
        let entries: Vec<(&MachineWritten, Place)> = list.iter().filter_map(Given::pair).collect();
        let taken = taken_names(&entries);
        let mut usual =
            (1_u32..).map(|number| format!("{USUAL_NAME}{number}")).filter(|name| !taken.contains(name));
        let mut members = Vec::new();
        for (entry, place) in entries {
            let role = entry.role.get().copied();
            let is_seed = role == Some(Role::Seed);
            let count = self.count(entry, is_seed);
            let names: Vec<String> = match (entry.name.get(), count) {
                (Some(name), None) => vec![name.clone()],
                (Some(name), Some(count)) => (1..=count).map(|number| format!("{name}{number}")).collect(),
                (None, _) if is_seed => vec![SEED_NAME.to_owned()],
                (None, count) => usual.by_ref().take(usize::from(count.unwrap_or(1))).collect(),
            };
            let place = entry.name.pair().map_or(place, |(_, place)| place);
            let member = |name| Member { name, place, is_seed, role, said: vec![entry], ports: MESH_PORTS };
            members.extend(names.into_iter().map(member));
        }
        let most = usize::from(MAX_MACHINES) + 1;
        if members.len() > most {
            let problem =
                format!("these are {} machines, and there may be {most}, the seed among them", members.len());
            self.note(place, problem);
            members.truncate(most);
        }
        members
    }

    fn count(&mut self, entry: &MachineWritten, is_seed: bool) -> Option<u16> {
        let (count, place) = entry.count.pair()?;
        if is_seed {
            self.note(place, "count: a mesh has one seed");
            return None;
        }
        if !(1..=MAX_MACHINES).contains(count) {
            self.note(place, format!("count: {count} is not 1 to {MAX_MACHINES}"));
            return None;
        }
        Some(*count)
    }

    fn check_names(&mut self, members: &[Member<'_>]) {
        let mut places: BTreeMap<&str, Place> = BTreeMap::new();
        for member in members {
            if let Err(problem) = member.name.parse::<NodeName>() {
                self.note(member.place, problem);
            }
            match places.get(member.name.as_str()).copied() {
                Some(first) => {
                    let problem = format!("another machine is called `{}`: {first}", member.name);
                    self.note(member.place, problem);
                }
                None => drop(places.insert(&member.name, member.place)),
            }
        }
    }

    fn check_seeds(&mut self, members: &[Member<'_>]) {
        let mut seeds = members.iter().filter(|member| member.is_seed);
        let Some(first) = seeds.next() else {
            if self.machines_are_known
                && let Some((_, place)) = self.written.machines.pair()
            {
                self.note(place, "no machine is the seed: one of them has `role: seed`");
            }
            return;
        };
        for other in seeds {
            let problem = format!("`{}` is another seed than `{}`: {}", other.name, first.name, first.place);
            self.note(other.place, problem);
        }
    }

    /// What the command line says of single machines.
    fn add_named(&mut self, members: &mut [Member<'a>]) {
        let written = self.written;
        for (name, said) in &written.named {
            match members.iter_mut().find(|member| member.name == *name) {
                Some(member) => {
                    match said.role.pair() {
                        Some((Role::Seed, place)) => self.note(place, "a mesh has one seed"),
                        Some((_, place)) if member.is_seed => {
                            self.note(place, format!("`{name}` is the seed, and a control plane by that"));
                        }
                        Some((role, _)) => member.role = Some(*role),
                        None => {}
                    }
                    member.said.push(said);
                }
                None => {
                    let place = said.place().unwrap_or(Place::Flag("the command line"));
                    let problem = unknown(name, members);
                    self.note(place, problem);
                }
            }
        }
    }

    fn ports(&mut self, member: &Member<'_>) -> u8 {
        let default = self.written.defaults.get().filter(|_| !member.is_seed).map(|defaults| &defaults.ports);
        let said = default.into_iter().chain(member.said.iter().map(|said| &said.ports));
        let Some((ports, place)) = said.filter_map(Given::pair).next_back() else { return MESH_PORTS };
        if (1..=MAX_PORTS).contains(ports) {
            return *ports;
        }
        let problem = format!("ports: a machine has 1 to {MAX_PORTS} of them, not {ports}");
        self.note(place, problem);
        MAX_PORTS
    }

    fn machine(&mut self, member: &Member<'a>, defaults: &NodeSpec) -> Option<WantedMachine> {
        let libvirt = &self.settings.libvirt;
        let usual_memory = match member.role {
            Some(Role::Seed) => libvirt.seed_memory_mib,
            Some(Role::ControlPlane) => libvirt.seed_memory_mib.max(libvirt.memory_mib),
            Some(Role::Worker) | None => libvirt.memory_mib,
        };
        let (usual_cpus, usual_disk) = (libvirt.cpus, libvirt.disk);
        let memory = self.last(member, "memory", |said| &said.memory, settings::memory_mib);
        let cpus = self.last(member, "cpus", |said| &said.cpus, settings::cpus);
        let disk = self.last(member, "disk", |said| &said.disk, settings::size);
        let said_disk = member.said.iter().find_map(|said| said.disk.pair());
        if let Some((_, place)) = said_disk.filter(|_| member.is_seed) {
            self.note(place, "disk: the seed's is as large as its image");
        }
        Some(WantedMachine {
            name: member.name.parse().ok()?,
            memory_mib: memory.unwrap_or(usual_memory),
            cpus: cpus.unwrap_or(usual_cpus),
            disk: disk.unwrap_or(usual_disk),
            ports: member.ports,
            node: self.node(member, defaults),
        })
    }

    /// What was said last of several, parsed.
    fn last<T>(
        &mut self,
        member: &Member<'a>,
        what: &str,
        field: impl Fn(&'a MachineWritten) -> &'a Given<Word>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let said = member.said.iter().copied().map(field);
        let (Word(word), place) = said.filter_map(Given::pair).next_back()?;
        self.parsed(place, what, parse(word))
    }

    /// What holds for every node besides the seed's.
    fn defaults(&mut self) -> NodeSpec {
        let mut node = NodeSpec::default();
        if let Some(all) = self.written.defaults.get() {
            self.want_images(&mut node, &all.image, false);
            self.want_version(&mut node, &all.kubernetes_version);
            self.want(&mut node, &all.labels, &all.taints, &all.feature_gates, &all.kubelet);
        }
        node
    }

    /// What is wanted of its node: what holds for all of them, and over it what is said of it alone.
    fn node(&mut self, member: &Member<'_>, defaults: &NodeSpec) -> NodeSpec {
        let mut node = if member.is_seed { NodeSpec::default() } else { defaults.clone() };
        node.control_plane = member.role == Some(Role::ControlPlane);
        for one in &member.said {
            self.want_images(&mut node, &one.image, member.is_seed);
            self.want_version(&mut node, &one.kubernetes_version);
            self.want(&mut node, &one.labels, &one.taints, &one.feature_gates, &one.kubelet);
        }
        node
    }

    /// Whether there are such images is seen when they are needed.
    fn want_images(&mut self, node: &mut NodeSpec, image: &Given<String>, is_seed: bool) {
        let Some((text, place)) = image.pair() else { return };
        let id = match is_seed {
            true => Err("the seed's images are the mesh's: they are said in settings.image".to_owned()),
            false => text.parse::<ImageId>().map_err(|error| error.to_string()),
        };
        if let Some(id) = self.parsed(place, "image", id) {
            node.image = Some(id);
        }
    }

    /// A kubelet's version, as far as the mesh's is known: where its Kubernetes comes from need not name it.
    fn want_version(&mut self, node: &mut NodeSpec, version: &Given<String>) {
        const WHAT: &str = "kubernetesVersion";
        let Some((text, place)) = version.pair() else { return };
        let Some(version) = self.parsed(place, WHAT, text.parse::<KubernetesVersion>()) else { return };
        let taken = match self.settings.image.kubernetes_version() {
            Some(mesh) => mesh.takes_kubelet(version),
            None => Ok(()),
        };
        if self.parsed(place, WHAT, taken).is_some() {
            node.kubernetes_version = Some(version);
        }
    }

    fn want(
        &mut self,
        node: &mut NodeSpec,
        labels: &Given<Named<String>>,
        taints: &Given<List<String>>,
        gates: &Given<Named<bool>>,
        arguments: &Given<Named<Word>>,
    ) {
        for (key, value, place) in pairs(labels) {
            let good = member::label_key(key).and_then(|()| member::label_value(value));
            if self.parsed(place, "labels", good).is_some() {
                node.labels.insert(key.to_owned(), value.clone());
            }
        }
        for (text, place) in items(taints) {
            if let Some(taint) = self.parsed(place, "taints", text.parse::<Taint>()) {
                // Kubernetes tells taints apart by key and effect.
                node.taints.retain(|other| (&other.key, other.effect) != (&taint.key, taint.effect));
                node.taints.push(taint);
            }
        }
        for (gate, on, place) in pairs(gates) {
            if self.parsed(place, "featureGates", member::feature_gate(gate)).is_some() {
                node.feature_gates.insert(gate.to_owned(), *on);
            }
        }
        for (name, Word(value), place) in pairs(arguments) {
            if self.parsed(place, "kubelet", member::kubelet_argument(name, value)).is_some() {
                node.kubelet.insert(name.to_owned(), value.clone());
            }
        }
    }

    fn control_plane(&mut self) -> ControlPlaneSpec {
        let mut spec = ControlPlaneSpec::default();
        let Some(written) = self.written.extra_config.get() else { return spec };
        let all = [
            (&written.apiserver, &mut spec.apiserver, "apiserver"),
            (&written.controller_manager, &mut spec.controller_manager, "controllerManager"),
            (&written.scheduler, &mut spec.scheduler, "scheduler"),
            (&written.etcd, &mut spec.etcd, "etcd"),
        ];
        for (arguments, place, component) in all {
            for (name, Word(value), _) in pairs(arguments) {
                place.insert(name.to_owned(), value.clone());
            }
            for (name, Word(value), place) in pairs(arguments) {
                let good: Result<(), SpecError> = ControlPlaneSpec::argument(component, name, value);
                self.parsed(place, &format!("extraConfig.{component}"), good);
            }
        }
        spec
    }
}

// === impl MachineWritten ===

impl MachineWritten {
    /// Where the first of it was said.
    fn place(&self) -> Option<Place> {
        fn of<T>(given: &Given<T>) -> Option<Place> {
            given.pair().map(|(_, place)| place)
        }
        let first = [of(&self.memory), of(&self.cpus), of(&self.disk), of(&self.ports), of(&self.labels)];
        let second = [of(&self.taints), of(&self.feature_gates), of(&self.kubelet), of(&self.role)];
        first
            .into_iter()
            .chain(second)
            .chain([of(&self.kubernetes_version), of(&self.image)])
            .flatten()
            .next()
    }
}

/// The names that entries take for themselves.
fn taken_names(entries: &[(&MachineWritten, Place)]) -> BTreeSet<String> {
    let names = entries.iter().flat_map(|(entry, _)| {
        let name = entry.name.get().cloned().unwrap_or_default();
        let count = entry.count.get().copied().unwrap_or_default().min(MAX_MACHINES);
        let numbered: Vec<String> = (1..=count).map(|number| format!("{name}{number}")).collect();
        numbered.into_iter().chain([name])
    });
    names.collect()
}

/// A name that no machine has.
fn unknown(name: &str, members: &[Member<'_>]) -> String {
    let known = || members.iter().map(|member| member.name.as_str());
    let near = nearest(name, known());
    let all = || format!(": there are {}", known().take(12).collect::<Vec<_>>().join(", "));
    let hint = if near.is_empty() && !members.is_empty() { all() } else { near };
    format!("there is no machine `{name}`{hint}")
}

/// The values of a mapping that could be read, each at its place.
fn pairs<T>(given: &Given<Named<T>>) -> Vec<(&str, &T, Place)> {
    let pairs = given.get().into_iter().flatten();
    pairs.filter_map(|(key, value)| value.pair().map(|(value, place)| (key.as_str(), value, place))).collect()
}

/// The items of a list that could be read, each at its place.
fn items<T>(given: &Given<List<T>>) -> Vec<(&T, Place)> {
    given.get().into_iter().flatten().filter_map(Given::pair).collect()
}
