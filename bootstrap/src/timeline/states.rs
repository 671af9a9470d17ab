//! How things stood at each time: what a timeline's entries mean, machine by machine. [`super::svg`] draws it.

use std::collections::BTreeSet;

use ipnet::Ipv6Net;
use mesh::Happening;

use super::Timeline;
use super::entry::What;
use super::journal::{Act, Fault};
use super::kubernetes::{Change, PodFate};
use super::names::Names;

/// So long after a node was made it may have been not Ready for the first time, rather than again.
const YOUNG: u64 = 2_000_000;

/// A time in which something was so, in microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span<T> {
    /// From when.
    pub from: u64,
    /// Until when; none if it is still so.
    pub to: Option<u64>,
    /// What was so.
    pub what: T,
}

/// What a machine was like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Kubernetes called its node Ready.
    Ready,
    /// It did not.
    NotReady,
    /// The machine had no power.
    Off,
    /// It stood still.
    Frozen,
    /// A mesh port had no carrier.
    NoCarrier,
    /// A route was missing.
    NoRoute,
}

/// Something that happened in a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// A pod was given to the machine.
    Scheduled,
    /// A pod was Ready there.
    Ready,
    /// A pod was not Ready there any more.
    NotReady,
    /// A pod was evicted from it, deleted, or failed.
    Left,
    /// It took an anycast address.
    Took,
    /// It dropped one.
    Dropped,
}

/// One machine's history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lane {
    /// The machine.
    pub machine: String,
    /// What Kubernetes thought of its node.
    pub node: Vec<Span<State>>,
    /// When it was off, or frozen.
    pub power: Vec<Span<State>>,
    /// When a port had no carrier.
    pub cables: Vec<Span<State>>,
    /// When a route was missing.
    pub routes: Vec<Span<State>>,
    /// What happened to its pods and services.
    pub marks: Vec<(u64, Mark)>,
    /// When it was deleted, if it is not there any more.
    pub deleted: Option<u64>,
}

/// What the lanes of one timeline are.
#[must_use]
pub fn lanes(timeline: &Timeline) -> Vec<Lane> {
    timeline.machines.iter().map(|machine| lane(machine, timeline)).collect()
}

/// The faults, and until when each lasted.
#[must_use]
pub fn faults(timeline: &Timeline) -> Vec<Span<Fault>> {
    let mut faults: Vec<Span<Fault>> = Vec::new();
    for entry in &timeline.entries {
        match &entry.detail {
            What::Act(Act::FaultInjected(fault)) => {
                faults.push(Span { from: entry.at, to: None, what: fault.clone() });
            }
            What::Act(Act::FaultUndone { id, .. }) => {
                let open = faults.iter_mut().rev().find(|fault| fault.what.id == *id && fault.to.is_none());
                if let Some(open) = open {
                    open.to = Some(entry.at);
                }
            }
            What::Act(_) | What::Boot(_) | What::Node(_) | What::Kubernetes(_) => {}
        }
    }
    faults
}

fn lane(machine: &str, timeline: &Timeline) -> Lane {
    let mut lane = Lane { machine: machine.to_owned(), ..Lane::default() };
    let mut walk = Walk::default();
    // Kubernetes forgets that a node was Ready between two times when it was not.
    let stood = timeline.stood.as_ref();
    let mut stood = stood.and_then(|stood| Some((stood.at, *stood.ready.get(machine)?)));
    for entry in &timeline.entries {
        let at = entry.likely();
        if let Some((since, ready)) = stood.take_if(|(since, _)| *since <= at) {
            walk.node.begin(since, State::of_node(ready));
        }
        let is_its = entry.machines.iter().any(|name| name == machine);
        match &entry.detail {
            What::Act(act) => walk.act(machine, &timeline.names, is_its, at, act),
            What::Boot(_) if is_its => walk.power.end(at),
            What::Node(happening) if is_its => walk.happening(&mut lane, &timeline.names, at, happening),
            What::Kubernetes(change) if is_its => walk.change(&mut lane, at, change),
            What::Boot(_) | What::Node(_) | What::Kubernetes(_) => {}
        }
    }
    if let Some((since, ready)) = stood {
        walk.node.begin(since, State::of_node(ready));
    }
    lane.node = walk.node.spans;
    lane.power = walk.power.spans;
    lane.cables = walk.cables.track.spans;
    lane.routes = walk.routes.track.spans;
    lane.deleted = walk.deleted;
    lane
}

/// A row of spans of which the last one may go on.
#[derive(Debug, Default)]
struct Track {
    spans: Vec<Span<State>>,
}

/// A row that is one state as long as any of several things is so.
#[derive(Debug, Default)]
struct Any {
    open: BTreeSet<String>,
    track: Track,
}

/// How things stand while a machine's entries are walked through.
#[derive(Debug, Default)]
struct Walk {
    node: Track,
    power: Track,
    cables: Any,
    routes: Any,
    /// The anycast addresses that are its own.
    held: BTreeSet<Ipv6Net>,
    made: Option<u64>,
    /// The fault that holds the machine.
    holder: Option<String>,
    deleted: Option<u64>,
}

// === impl State ===

impl State {
    /// What Kubernetes calls a node.
    const fn of_node(ready: bool) -> Self {
        if ready { Self::Ready } else { Self::NotReady }
    }
}

// === impl Track ===

impl Track {
    fn begin(&mut self, at: u64, what: State) {
        if self.open().is_some_and(|open| open.what == what) {
            return;
        }
        self.end(at);
        self.spans.push(Span { from: at, to: None, what });
    }

    fn end(&mut self, at: u64) {
        if let Some(open) = self.open() {
            open.to = Some(at);
        }
    }

    fn open(&mut self) -> Option<&mut Span<State>> {
        self.spans.last_mut().filter(|span| span.to.is_none())
    }
}

// === impl Any ===

impl Any {
    fn set(&mut self, at: u64, what: State, key: String, is_so: bool) {
        if is_so {
            self.open.insert(key);
            self.track.begin(at, what);
        } else if self.open.remove(&key) && self.open.is_empty() {
            self.track.end(at);
        }
    }

    fn clear(&mut self, at: u64) {
        self.open.clear();
        self.track.end(at);
    }
}

// === impl Walk ===

impl Walk {
    fn act(&mut self, machine: &str, names: &Names, is_its: bool, at: u64, act: &Act) {
        match act {
            Act::FaultInjected(fault) if is_its => match fault.kind.as_str() {
                "node kill" | "node reboot" | "node wipe" => self.lose(at, State::Off, &fault.id),
                "node freeze" => self.lose(at, State::Frozen, &fault.id),
                _ => {}
            },
            Act::FaultUndone { id, .. } if self.holder.as_ref() == Some(id) => self.power.end(at),
            Act::MachineStopped { machine: stopped, .. } if stopped == machine => {
                self.power.begin(at, State::Off);
            }
            Act::MachineStarted { machine: started } if started == machine => self.power.end(at),
            Act::MachineDeleted { machine: deleted } => {
                if deleted == machine {
                    self.power.begin(at, State::Off);
                    self.deleted = Some(at);
                }
                // Nobody is missed any more who is not known.
                let is_known = |to: &str| to.parse().is_ok_and(|to| names.knows(to));
                let strangers: Vec<String> =
                    self.routes.open.iter().filter(|to| !is_known(to)).cloned().collect();
                for to in strangers {
                    self.routes.set(at, State::NoRoute, to, false);
                }
            }
            // Names can be used again.
            Act::MachineAdded { machine: added } if added == machine => self.deleted = None,
            Act::Deployed { .. }
            | Act::FaultInjected(_)
            | Act::FaultUndone { .. }
            | Act::MachineAdded { .. }
            | Act::MachineStarted { .. }
            | Act::MachineStopped { .. }
            | Act::Noted { .. } => {}
        }
    }

    fn lose(&mut self, at: u64, what: State, fault: &str) {
        self.holder = Some(fault.to_owned());
        self.power.begin(at, what);
        if what == State::Off {
            // What it knew of its cables and routes is gone with it.
            self.cables.clear(at);
            self.routes.clear(at);
        }
    }

    fn happening(&mut self, lane: &mut Lane, names: &Names, at: u64, happening: &Happening) {
        match happening {
            Happening::Started { .. } => {
                // It looks at everything anew.
                self.held.clear();
                self.cables.clear(at);
                self.routes.clear(at);
            }
            Happening::Carrier { port, link, carries } => {
                // A port whose cable was taken away misses nothing, nor does it miss who was at its other end.
                let is_missing = !carries && names.may_have_cable(*link);
                self.cables.set(at, State::NoCarrier, port.clone(), is_missing);
            }
            Happening::Route { to, paths, .. } => {
                let is_missing = *paths == 0 && !self.held.contains(to);
                self.routes.set(at, State::NoRoute, to.to_string(), is_missing);
            }
            Happening::Anycast { address, held, .. } => {
                let to = Ipv6Net::from(*address);
                if *held {
                    // What leads to itself leads by no neighbour.
                    self.routes.set(at, State::NoRoute, to.to_string(), false);
                    self.held.insert(to);
                } else {
                    self.held.remove(&to);
                }
                lane.marks.push((at, if *held { Mark::Took } else { Mark::Dropped }));
            }
            Happening::Stopping
            | Happening::Stage { .. }
            | Happening::Neighbour { .. }
            | Happening::Api { .. }
            | Happening::Unknown => {}
        }
    }

    fn change(&mut self, lane: &mut Lane, at: u64, change: &Change) {
        match change {
            Change::Node { present: true } => {
                self.made = Some(at);
                self.node.begin(at, State::NotReady);
            }
            Change::Node { present: false } => self.node.end(at),
            Change::Ready { ready, .. } => {
                let is_young = self.made.is_some_and(|made| at.saturating_sub(made) <= YOUNG);
                if self.node.spans.is_empty() && !ready && !is_young {
                    // It ceased to be Ready, so it was.
                    self.node.begin(0, State::Ready);
                }
                self.node.begin(at, State::of_node(*ready));
            }
            Change::Pod { fate, .. } => {
                let mark = match fate {
                    PodFate::Scheduled => Some(Mark::Scheduled),
                    PodFate::Ready => Some(Mark::Ready),
                    PodFate::NotReady => Some(Mark::NotReady),
                    PodFate::Evicted | PodFate::Deleting | PodFate::Failed => Some(Mark::Left),
                    PodFate::Started | PodFate::Finished | PodFate::Gone => None,
                };
                lane.marks.extend(mark.map(|mark| (at, mark)));
            }
            Change::Taint { .. } | Change::Told { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests;
