//! When something happened on a node, by this computer's clock.
//!
//! A node tells how old each of its events is by a clock that nobody sets: microseconds since its kernel was started. So
//! it does not matter how wrong its wall clock is, or whether somebody set it since (a fault may). What is left is that
//! nobody knows when exactly between question and answer the node looked at its clock: half the round trip, either way.
//!
//! Such a clock stands still while the machine is frozen. The journal tells when that was, and what was noted before is
//! put back by as much.

use mesh::{Event, EventPage};

use super::entry::{Boot, Entry, Source, What};
use super::journal::{self, Act};

/// A node's clock that may be off by more than this is told of.
pub const TOLERATED: u64 = 50_000;

/// One answer of a node, between two moments of this computer's clock, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When the question was sent.
    pub asked: u64,
    /// When the answer was there.
    pub answered: u64,
    /// The node's wall clock in between.
    pub now: u64,
    /// The time since its kernel was started.
    pub up: u64,
}

/// A time in which a machine stood still, in microseconds since 1970 by this computer's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frozen {
    /// From when.
    pub from: u64,
    /// Until when.
    pub to: u64,
}

/// How a node's clocks are translated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    best: Sample,
    frozen: Vec<Frozen>,
}

// === impl Sample ===

impl Sample {
    /// The sample that an answer is.
    #[must_use]
    pub const fn of(page: &EventPage, asked: u64, answered: u64) -> Self {
        Self { asked, answered, now: page.now, up: page.up }
    }

    const fn round_trip(&self) -> u64 {
        self.answered.saturating_sub(self.asked)
    }

    const fn middle(&self) -> u64 {
        self.asked + self.round_trip() / 2
    }
}

// === impl Clock ===

impl Clock {
    /// The clock of a node that answered: the quickest answer says most. None if there is no answer.
    #[must_use]
    pub fn new(samples: &[Sample], frozen: Vec<Frozen>) -> Option<Self> {
        let best = *samples.iter().min_by_key(|sample| sample.round_trip())?;
        Some(Self { best, frozen })
    }

    /// By how many microseconds a time of this clock may be wrong.
    #[must_use]
    pub const fn within(&self) -> u64 {
        self.best.round_trip() / 2
    }

    /// By how many microseconds the node's wall clock is ahead of this computer's.
    #[must_use]
    pub fn ahead(&self) -> i64 {
        let difference = i128::from(self.best.now) - i128::from(self.best.middle());
        i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX })
    }

    /// When the node's kernel had been up for so long.
    #[must_use]
    pub fn at(&self, up: u64) -> u64 {
        let age = i128::from(self.best.up) - i128::from(up);
        let mut at = i128::from(self.best.middle()) - age;
        // The last one first: what was before it may be put back before another one.
        for Frozen { from, to } in self.frozen.iter().rev() {
            if at < i128::from(*to) && i128::from(*to) < i128::from(self.best.middle()) {
                at -= i128::from(to.saturating_sub(*from));
            }
        }
        u64::try_from(at.max(0)).unwrap_or(u64::MAX)
    }

    /// What a node noted, as entries of this machine: the start of its kernel, then its events.
    #[must_use]
    pub fn entries(&self, machine: &str, page: &EventPage) -> Vec<Entry> {
        let entry = |up, detail| Entry {
            at: self.at(up),
            within: self.within(),
            machines: vec![machine.to_owned()],
            source: Source::Node,
            detail,
        };
        let boot = entry(0, What::Boot(Boot::Booted { boot_id: page.boot_id.clone() }));
        let events = page.events.iter().map(|Event { up, what, .. }| entry(*up, What::Node(what.clone())));
        std::iter::once(boot).chain(events).collect()
    }
}

/// When a machine stood still, by the journal.
#[must_use]
pub fn frozen(machine: &str, acts: &[journal::Entry]) -> Vec<Frozen> {
    let mut began: Option<(&str, u64)> = None;
    let mut times = Vec::new();
    for entry in acts {
        match &entry.act {
            Act::FaultInjected(fault)
                if fault.kind == "node freeze" && fault.machines.iter().any(|name| name == machine) =>
            {
                began.get_or_insert((&fault.id, entry.at));
            }
            Act::FaultUndone { id, .. } => {
                if let Some((_, from)) = began.take_if(|(frozen, _)| frozen == id) {
                    times.push(Frozen { from, to: entry.at });
                }
            }
            Act::Deployed { .. }
            | Act::FaultInjected(_)
            | Act::MachineAdded { .. }
            | Act::MachineStarted { .. }
            | Act::MachineStopped { .. }
            | Act::MachineDeleted { .. }
            | Act::Noted { .. } => {}
        }
    }
    times
}

#[cfg(test)]
mod tests;
