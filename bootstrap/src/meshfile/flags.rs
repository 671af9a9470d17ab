//! The command line as a mesh: its flags make what a file would say, and are checked as that is.

use super::given::Given;
use super::mistake::{Mistake, Place};
use super::written::{Defaults, MachineWritten, Named, Role, Word, Written};
use super::{Draft, yaml};
use crate::cli::mesh::Specs;

/// What the command line is called in messages.
const COMMAND_LINE: &str = "the command line";

/// A field that both one machine and all of them have.
struct Field<T> {
    of_all: fn(&mut Defaults) -> &mut Given<T>,
    of_one: fn(&mut MachineWritten) -> &mut Given<T>,
}

macro_rules! field {
    ($name:ident) => {
        Field { of_all: |defaults| &mut defaults.$name, of_one: |machine| &mut machine.$name }
    };
}

// === impl Draft ===

impl Draft {
    /// A seed and so many machines.
    #[must_use]
    pub fn of_machines(count: u16) -> Self {
        let place = Place::Flag(COMMAND_LINE);
        let seed = MachineWritten { role: Given::Value(Role::Seed, place), ..MachineWritten::default() };
        let nodes = MachineWritten { count: Given::Value(count, place), ..MachineWritten::default() };
        let machines = [seed, nodes].map(|machine| Given::Value(machine, place));
        let written = Written { machines: Given::Value(machines.into(), place), ..Written::default() };
        Self { file: COMMAND_LINE.to_owned(), written, mistakes: Vec::new(), is_readable: true }
    }

    /// Of a file the machines and cables alone, for a mesh of other settings.
    #[must_use]
    pub fn machines_alone(mut self) -> Self {
        let all = self.written;
        self.written = Written {
            api_version: all.api_version,
            kind: all.kind,
            machines: all.machines,
            cables: all.cables,
            topology: all.topology,
            control_planes: all.control_planes,
            defaults: all.defaults,
            ..Written::default()
        };
        self
    }

    /// The same, with what the command line says of machines over it.
    #[must_use]
    pub fn with_specs(mut self, specs: &Specs) -> Self {
        let word = |text: &str| Ok(Word(text.to_owned()));
        self.each("--memory", &specs.memory, &field!(memory), word);
        self.each("--cpus", &specs.cpus, &field!(cpus), word);
        self.each("--disk-size", &specs.disk_size, &field!(disk), word);
        self.each("--ports", &specs.ports, &field!(ports), |text| {
            text.parse().map_err(|_| format!("`{text}` is no number of ports"))
        });
        self.each("--image", &specs.image, &field!(image), |text| Ok(text.to_owned()));
        self.each("--kubernetes-version", &specs.kubernetes_version, &field!(kubernetes_version), |text| {
            Ok(text.to_owned())
        });
        if let Some(number) = specs.control_planes {
            self.written.control_planes = Given::Value(number, Place::Flag("--control-planes"));
        }
        for text in &specs.role {
            self.cast(text);
        }
        for text in &specs.label {
            self.labelled(text);
        }
        for text in &specs.taint {
            self.tainted(text);
        }
        for text in &specs.feature_gates {
            self.gated(text);
        }
        for text in &specs.extra_config {
            self.configured(text);
        }
        self
    }

    /// A field with one value: of all machines, or of one.
    fn each<T>(
        &mut self,
        flag: &'static str,
        texts: &[String],
        field: &Field<T>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) {
        for text in texts {
            let (name, rest) = named(text);
            match parse(rest) {
                Ok(value) => {
                    let place = self.field(name, field);
                    let before = std::mem::replace(place, Given::Value(value, Place::Flag(flag)));
                    if before.pair().is_some_and(|(_, place)| place == Place::Flag(flag)) {
                        self.note(flag, format!("{} is given twice", name.unwrap_or("it")));
                    }
                }
                Err(problem) => self.note(flag, problem),
            }
        }
    }

    /// A role is one machine's.
    fn cast(&mut self, text: &str) {
        const FLAG: &str = "--role";
        let role = match text.split_once(':') {
            Some((name, "control-plane")) => Some((name, Role::ControlPlane)),
            Some((name, "worker")) => Some((name, Role::Worker)),
            Some(_) | None => None,
        };
        let Some((name, role)) = role else {
            self.note(FLAG, format!("`{text}` is no machine's role: NAME:control-plane or NAME:worker"));
            return;
        };
        let place = &mut self.written.named.entry(name.to_owned()).or_default().role;
        if !std::mem::replace(place, Given::Value(role, Place::Flag(FLAG))).is_absent() {
            self.note(FLAG, format!("{name} is given twice"));
        }
    }

    fn labelled(&mut self, text: &str) {
        const FLAG: &str = "--label";
        let (name, rest) = named(text);
        match rest.split_once('=') {
            Some((key, value)) => put(self.field(name, &field!(labels)), FLAG, key, value.to_owned()),
            None => self.note(FLAG, format!("`{text}` is no label: KEY=VALUE")),
        }
    }

    /// Before the effect stands what a label has.
    fn tainted(&mut self, text: &str) {
        const FLAG: &str = "--taint";
        let (what, effect) = text.rsplit_once(':').unwrap_or((text, ""));
        let (name, what) = named(what);
        let taint = Given::Value(format!("{what}:{effect}"), Place::Flag(FLAG));
        self.field(name, &field!(taints)).or_default(Place::Flag(FLAG)).push(taint);
    }

    fn gated(&mut self, text: &str) {
        const FLAG: &str = "--feature-gates";
        let (name, rest) = named(text);
        for pair in rest.split(',') {
            match pair.split_once('=').map(|(gate, on)| (gate, yaml::plain(on))) {
                Some((gate, yaml::Scalar::Bool(on))) => {
                    put(self.field(name, &field!(feature_gates)), FLAG, gate, on)
                }
                Some(_) | None => {
                    self.note(FLAG, format!("`{pair}` is no feature gate: GATE=true or GATE=false"))
                }
            }
        }
    }

    fn configured(&mut self, text: &str) {
        const FLAG: &str = "--extra-config";
        let (name, rest) = named(text);
        let parts = rest.split_once('=').and_then(|(key, value)| Some((key.split_once('.')?, value)));
        let Some(((component, key), value)) = parts else {
            self.note(FLAG, format!("`{text}` is not COMPONENT.KEY=VALUE, as kubelet.max-pods=30 is"));
            return;
        };
        let value = Word(value.to_owned());
        if component == "kubelet" {
            put(self.field(name, &field!(kubelet)), FLAG, key, value);
            return;
        }
        if let Some(name) = name {
            self.note(
                FLAG,
                format!("{component}.{key} is not {name}'s: all control planes have one configuration"),
            );
            return;
        }
        let components = self.written.extra_config.or_default(Place::Flag(FLAG));
        let place = match component {
            "apiserver" => &mut components.apiserver,
            "controller-manager" => &mut components.controller_manager,
            "scheduler" => &mut components.scheduler,
            "etcd" => &mut components.etcd,
            other => {
                let known = "kubelet, apiserver, controller-manager, scheduler and etcd";
                self.note(FLAG, format!("there is no component `{other}`: there are {known}"));
                return;
            }
        };
        put(place, FLAG, key, value);
    }

    /// The field of one machine, or of all.
    fn field<T>(&mut self, name: Option<&str>, field: &Field<T>) -> &mut Given<T> {
        match name {
            None => (field.of_all)(self.written.defaults.or_default(Place::Flag(COMMAND_LINE))),
            Some(name) => (field.of_one)(self.written.named.entry(name.to_owned()).or_default()),
        }
    }

    fn note(&mut self, flag: &'static str, problem: String) {
        self.mistakes.push(Mistake::at(Place::Flag(flag), problem));
    }
}

/// `NAME:REST` or `REST`. A colon behind `=` belongs to a value.
fn named(text: &str) -> (Option<&str>, &str) {
    match text.split_once(':') {
        Some((name, rest)) if !name.contains('=') => (Some(name), rest),
        Some(_) | None => (None, text),
    }
}

fn put<T>(place: &mut Given<Named<T>>, flag: &'static str, key: &str, value: T) {
    let place_of_flag = Place::Flag(flag);
    place.or_default(place_of_flag).insert(key.to_owned(), Given::Value(value, place_of_flag));
}
