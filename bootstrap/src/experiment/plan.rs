//! An experiment that can be run: every word of its file understood.

use std::time::Duration;

use ignition::Taint;
use serde_json::Value;

use super::condition::Condition;
use crate::cli::fault::Fault;

/// Whatever is done at once is done within this time, or fails.
const MOST_OF_A_DEED: Duration = Duration::from_mins(2);

/// An experiment.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// Its name.
    pub name: String,
    /// What it is about, on one line.
    pub title: String,
    /// What it shows, at length.
    pub about: String,
    /// What it takes.
    pub needs: Needs,
    /// What is asked all the time.
    pub probes: Vec<Probe>,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// What must have come of it.
    pub expectations: Vec<Expectation>,
}

/// What a mesh must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Machines, the seed among them.
    pub machines: usize,
    /// Control planes.
    pub control_planes: usize,
}

/// Something that is asked again and again while the steps are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Its name.
    pub name: String,
    /// What is asked; places of the mesh in it are filled in when the probe begins.
    pub url: String,
    /// From where.
    pub from: Asker,
    /// How often.
    pub every: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// Where a question comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Asker {
    /// This computer.
    #[default]
    Host,
    /// A node, by its shell.
    Node(String),
}

/// Something to do.
#[derive(Debug, Clone)]
pub struct Step {
    /// The moment that it is done is known by this name.
    pub name: Option<String>,
    /// What.
    pub deed: Deed,
    /// Where it stands in the file.
    pub line: u32,
}

/// What is done.
#[derive(Debug, Clone)]
pub enum Deed {
    /// A fault is made.
    Fault {
        /// As it is written.
        words: String,
        /// As it is understood.
        fault: Box<Fault>,
    },
    /// A node is given a taint.
    Taint(Tainted),
    /// The fault or the taint of an earlier step is undone.
    Undo {
        /// That step's name.
        step: String,
    },
    /// Objects of Kubernetes are made, and removed at the end.
    Create {
        /// The objects.
        objects: Vec<Value>,
    },
    /// Something is waited for.
    Wait {
        /// What.
        condition: Condition,
        /// For how long.
        within: Duration,
    },
    /// Time passes.
    Sleep {
        /// How much.
        time: Duration,
    },
    /// A probe begins.
    Begin {
        /// Its name.
        probe: String,
    },
}

/// A taint that a node is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tainted {
    /// The node.
    pub node: String,
    /// The taint.
    pub taint: Taint,
}

/// What must have come of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// What, in the words of the file; empty if it says itself.
    pub text: String,
    /// What is measured.
    pub measure: Measure,
    /// At least so much.
    pub at_least: Option<Bound>,
    /// At most so much.
    pub at_most: Option<Bound>,
}

/// What can be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measure {
    /// The time from one step to another.
    Time {
        /// The earlier one's name.
        from: String,
        /// The later one's.
        to: String,
    },
    /// The longest time for which a probe had no answer.
    Gap {
        /// The probe.
        probe: String,
        /// From which step to which other; none for all the time.
        window: Option<(String, String)>,
    },
    /// How many of a probe's questions had an answer.
    Answered {
        /// The probe.
        probe: String,
        /// From which step to which other; none for all the time.
        window: Option<(String, String)>,
    },
}

/// A bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// A time.
    Time(Duration),
    /// A share, in per cent.
    PerCent(f64),
}

// === impl Experiment ===

impl Experiment {
    /// How long it takes at most.
    #[must_use]
    pub fn longest(&self) -> Duration {
        let steps = self.steps.iter().map(|step| match &step.deed {
            Deed::Wait { within, .. } => *within,
            Deed::Sleep { time } => *time,
            Deed::Fault { .. }
            | Deed::Taint(_)
            | Deed::Undo { .. }
            | Deed::Create { .. }
            | Deed::Begin { .. } => MOST_OF_A_DEED,
        });
        steps.sum()
    }
}

// === impl Step ===

impl Step {
    /// What it waits for, if it does.
    #[must_use]
    pub fn condition(&self) -> Option<&Condition> {
        if let Deed::Wait { condition, .. } = &self.deed { Some(condition) } else { None }
    }

    /// The objects that it makes.
    #[must_use]
    pub fn objects(&self) -> &[Value] {
        if let Deed::Create { objects } = &self.deed { objects } else { &[] }
    }
}

// === impl Tainted ===

impl std::fmt::Display for Tainted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is given the taint {}", self.node, self.taint)
    }
}

// === impl Asker ===

impl std::fmt::Display for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host => f.write_str("this computer"),
            Self::Node(name) => f.write_str(name),
        }
    }
}
