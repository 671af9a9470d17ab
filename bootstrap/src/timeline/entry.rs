//! One line of a timeline, whoever saw it.

use mesh::Happening;
use schemars::JsonSchema;
use serde::Serialize;

use super::journal::{Act, Fault};
use super::kubernetes::Change;
use super::names::Names;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Entry {
    /// When, in microseconds since 1970 by this computer's clock.
    pub at: u64,
    /// By how many microseconds that may be wrong. What Kubernetes tells is cut: it may be so much later, and no earlier.
    pub within: u64,
    /// The machines that it happened to; none if it concerns all of them.
    pub machines: Vec<String>,
    /// Who saw it.
    pub source: Source,
    /// What happened, in its witness's own words.
    pub detail: What,
}

/// Who saw something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The deployment's journal: it was done on purpose.
    Journal,
    /// The machine itself.
    Node,
    /// Kubernetes.
    Kubernetes,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum What {
    /// Somebody did something.
    Act(Act),
    /// A machine's kernel was started.
    Boot(Boot),
    /// A node noted something.
    Node(Happening),
    /// Kubernetes told something.
    Kubernetes(Change),
}

/// A machine's kernel was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Boot {
    /// That is all there is to tell.
    Booted {
        /// The kernel's name for this run of it.
        boot_id: String,
    },
}

/// What became of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteFate {
    /// Nothing leads there any more.
    Gone,
    /// Something leads there, and nothing did.
    Back,
    /// There are other ways than before.
    Otherwise(u16),
}

// === impl Entry ===

impl Entry {
    /// Something that was done on purpose, as the journal has it.
    #[must_use]
    pub fn of_act(at: u64, act: Act) -> Self {
        let machines = match &act {
            Act::FaultInjected(fault) => fault.machines.clone(),
            Act::MachineAdded { machine }
            | Act::MachineStarted { machine }
            | Act::MachineStopped { machine, .. }
            | Act::MachineDeleted { machine } => vec![machine.clone()],
            Act::Noted { machines, .. } => machines.clone(),
            Act::Deployed { .. } | Act::FaultUndone { .. } => Vec::new(),
        };
        Self { at, within: 0, machines, source: Source::Journal, detail: What::Act(act) }
    }

    /// Something that Kubernetes told of a machine.
    #[must_use]
    pub fn of_kubernetes(at: u64, within: u64, machine: Option<String>, change: Change) -> Self {
        let machines = machine.into_iter().collect();
        Self { at, within, machines, source: Source::Kubernetes, detail: What::Kubernetes(change) }
    }

    /// When it happened at the latest, as far as times were cut.
    #[must_use]
    pub const fn latest(&self) -> u64 {
        self.at.saturating_add(self.cut())
    }

    /// When it happened most likely.
    #[must_use]
    pub const fn likely(&self) -> u64 {
        self.at.saturating_add(self.cut() / 2)
    }

    const fn cut(&self) -> u64 {
        match self.source {
            Source::Kubernetes => self.within,
            Source::Journal | Source::Node => 0,
        }
    }

    /// Whether it is something that was broken, or mended: what others' delays are counted from.
    #[must_use]
    pub fn is_turn(&self) -> bool {
        matches!(self.detail, What::Act(Act::FaultInjected(_) | Act::FaultUndone { .. }))
    }

    /// Whether it concerns this machine.
    #[must_use]
    pub fn concerns(&self, machine: &str) -> bool {
        self.machines.is_empty() || self.machines.iter().any(|name| name == machine)
    }

    /// Where a route leads and what became of it, if it is about one.
    #[must_use]
    pub fn route(&self, names: &Names) -> Option<(String, RouteFate)> {
        let What::Node(Happening::Route { to, paths, before }) = &self.detail else { return None };
        let fate = match (paths, before) {
            (0, _) => RouteFate::Gone,
            (_, 0) => RouteFate::Back,
            (paths, _) => RouteFate::Otherwise(*paths),
        };
        Some((names.destination(*to), fate))
    }

    /// What happened, for people.
    #[must_use]
    pub fn text(&self, names: &Names) -> String {
        if let Some((to, fate)) = self.route(names) {
            return fate.text(&[to]);
        }
        match &self.detail {
            What::Act(act) => text_of_act(act),
            What::Boot(_) => "its kernel was started".to_owned(),
            What::Node(happening) => text_of_happening(happening, names),
            What::Kubernetes(change) => change.text(),
        }
    }
}

// === impl RouteFate ===

impl RouteFate {
    /// What became of the routes to these, for people.
    #[must_use]
    pub fn text(self, to: &[String]) -> String {
        let plural = if to.len() == 1 { "" } else { "s" };
        let to = to.join(", ");
        match self {
            Self::Gone => format!("no route{plural} to {to} any more"),
            Self::Back => format!("route{plural} to {to}"),
            Self::Otherwise(1) => format!("one way left to {to}"),
            Self::Otherwise(paths) => format!("{paths} ways to {to}"),
        }
    }
}

fn text_of_act(act: &Act) -> String {
    match act {
        Act::Deployed { machines } => format!("deployed: {}", machines.join(", ")),
        Act::FaultInjected(Fault { id, text, .. }) => format!("FAULT {id}: {text}"),
        Act::FaultUndone { id, why } => format!("UNDONE {id}: {why}"),
        Act::MachineAdded { machine } => format!("{machine} added"),
        Act::MachineStarted { machine } => format!("{machine} switched on"),
        Act::MachineStopped { machine, hard: false } => format!("{machine} switched off"),
        Act::MachineStopped { machine, hard: true } => format!("{machine}: plug pulled"),
        Act::MachineDeleted { machine } => format!("{machine} deleted"),
        Act::Noted { text, .. } => text.clone(),
    }
}

fn text_of_happening(happening: &Happening, names: &Names) -> String {
    let why = |reason: &Option<String>| reason.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    match happening {
        Happening::Started { version } => format!("gateway started (meshboot {version})"),
        Happening::Stopping => "gateway stops".to_owned(),
        Happening::Carrier { port, link, carries } => {
            let carrier = if *carries { "carrier" } else { "no carrier" };
            format!("{port}: {carrier}{}", names.towards(*link))
        }
        Happening::Stage { port, link, stage, far } => {
            let far = far.as_ref().map_or_else(|| names.towards(*link), |far| format!(" (to {far})"));
            format!("{port}: the boot there is {stage}{far}")
        }
        Happening::Neighbour { port, routes: true } => format!("{port}: routes lead by its neighbour"),
        Happening::Neighbour { port, routes: false } => format!("{port}: no route leads by its neighbour"),
        Happening::Route { .. } => "a route changed".to_owned(),
        Happening::Anycast { name, held: true, .. } => format!("takes the address of {name}"),
        Happening::Anycast { name, held: false, reason, .. } => {
            format!("drops the address of {name}{}", why(reason))
        }
        Happening::Api { available: true, .. } => "the API server answers it".to_owned(),
        Happening::Api { available: false, reason } => {
            format!("the API server does not answer it{}", why(reason))
        }
        Happening::Unknown => "something that this meshboot does not know".to_owned(),
    }
}
