//! How an experiment goes: which step is next, what it waits for, and what is put right at its end.
//!
//! Pure: a machine of states that takes what happened and the time, and gives what is to be done. Whatever goes wrong, the
//! faults that were made are undone, and the taints and the objects that were made are removed, the last one first.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::condition::Condition;
use super::plan::{Deed, Step, Tainted};
use crate::cli::fault::Fault;
use crate::fault::asked::Span;

/// Between two looks at something that is waited for.
pub const INTERVAL: Duration = Duration::from_millis(500);

/// What is to be done next.
#[derive(Debug, Clone)]
pub enum Act {
    /// Make a fault; [`Input::Made`] tells its name.
    Make(Box<Fault>),
    /// Undo a fault.
    Undo(String),
    /// Give a node a taint.
    Taint(Tainted),
    /// Take it away again, if it was given.
    Untaint(Tainted),
    /// Make an object.
    Create(Box<Value>),
    /// Remove an object.
    Remove(Box<Value>),
    /// Find out whether something is so.
    Ask(Condition),
    /// Let time pass.
    Sleep(Duration),
    /// Begin a probe.
    Begin(String),
    /// It is over.
    End,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// It begins, or what was to be done is done.
    Done,
    /// A fault was made, and has this name.
    Made(String),
    /// It could not be done.
    Failed(String),
    /// It is not so, and why.
    NotYet(String),
    /// Somebody wants it to end.
    Interrupted,
}

/// An experiment under way.
#[derive(Debug, Clone)]
pub struct Course {
    steps: Vec<Step>,
    state: State,
    /// What is to be put right, in the order in which it was done.
    amends: Vec<Amends>,
    /// When steps that have a name were done.
    pub marks: BTreeMap<String, Duration>,
    /// What went wrong.
    pub failure: Option<String>,
    /// What could not be put right.
    pub left: Vec<String>,
}

/// Something to be put right.
#[derive(Debug, Clone, PartialEq)]
enum Amends {
    Fault { id: String, step: Option<String> },
    Taint { tainted: Tainted, step: Option<String> },
    Object(Box<Value>),
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// This step is next.
    At(usize),
    /// This step is being done.
    Doing {
        step: usize,
        since: Duration,
        phase: Phase,
    },
    /// What was done last is being put right.
    Amending,
    Ended,
}

/// Where within a step.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The only thing that it consists of is being done.
    Whole,
    /// This one of its objects is being made.
    Object(usize),
    /// It is found out whether it is so.
    Asking,
    /// It was not, and is asked again soon.
    Pausing,
}

// === impl Course ===

impl Course {
    /// An experiment that is about to begin.
    #[must_use]
    pub fn new(steps: Vec<Step>) -> Self {
        Self {
            steps,
            state: State::At(0),
            amends: Vec::new(),
            marks: BTreeMap::new(),
            failure: None,
            left: Vec::new(),
        }
    }

    /// What is being done, for those who watch; none while things are put right.
    #[must_use]
    pub fn step(&self) -> Option<&Step> {
        match self.state {
            State::At(step) | State::Doing { step, .. } => self.steps.get(step),
            State::Amending | State::Ended => None,
        }
    }

    /// Takes what happened, and gives what is to be done next. `now` is the time since the beginning.
    pub fn next(&mut self, input: Input, now: Duration) -> Act {
        match (self.state, input) {
            (State::Ended, _) => Act::End,
            (State::Amending, Input::Failed(reason)) => {
                self.left.push(reason);
                self.amend()
            }
            (State::Amending, Input::Done | Input::Made(_) | Input::NotYet(_) | Input::Interrupted) => {
                self.amend()
            }
            // What came of a fault that was just made must be put right as well.
            (State::Doing { step, .. }, Input::Made(id)) => {
                let name = self.steps.get(step).and_then(|step| step.name.clone());
                self.amends.push(Amends::Fault { id, step: name });
                self.done(step, now)
            }
            (State::At(_) | State::Doing { .. }, Input::Interrupted) => {
                self.fail("it was interrupted".to_owned())
            }
            (State::At(_) | State::Doing { .. }, Input::Failed(reason)) => self.fail(reason),
            (State::At(step), Input::Done | Input::Made(_) | Input::NotYet(_)) => self.begin(step, now),
            (State::Doing { step, since, .. }, Input::NotYet(reason)) => {
                self.not_yet(step, since, &reason, now)
            }
            (State::Doing { step, since, phase }, Input::Done) => self.go_on(step, since, phase, now),
        }
    }

    fn begin(&mut self, step: usize, now: Duration) -> Act {
        let Some(Step { deed, name, .. }) = self.steps.get(step) else { return self.finish() };
        let (phase, act) = match deed {
            Deed::Fault { fault, .. } => (Phase::Whole, Act::Make(fault.clone())),
            Deed::Sleep { time } => (Phase::Whole, Act::Sleep(*time)),
            Deed::Begin { probe } => (Phase::Whole, Act::Begin(probe.clone())),
            Deed::Wait { condition, .. } => (Phase::Asking, Act::Ask(condition.clone())),
            Deed::Create { .. } => {
                self.state = State::Doing { step, since: now, phase: Phase::Object(0) };
                return self.create(step, now, 0, now);
            }
            // It is put right even if giving it fails: nobody knows how far that came.
            Deed::Taint(tainted) => {
                self.amends.push(Amends::Taint { tainted: tainted.clone(), step: name.clone() });
                (Phase::Whole, Act::Taint(tainted.clone()))
            }
            Deed::Undo { step: name } => {
                let is_it = |amends: &Amends| amends.step() == Some(name);
                match self.amends.iter().position(is_it) {
                    Some(at) => (Phase::Whole, self.amends.remove(at).act()),
                    None => {
                        let message = format!("`{name}` did nothing that stands");
                        self.state = State::At(step);
                        return self.fail(message);
                    }
                }
            }
        };
        self.state = State::Doing { step, since: now, phase };
        act
    }

    fn go_on(&mut self, step: usize, since: Duration, phase: Phase, now: Duration) -> Act {
        match phase {
            Phase::Whole | Phase::Asking => self.done(step, now),
            Phase::Object(object) => self.create(step, since, object + 1, now),
            Phase::Pausing => {
                let condition = self.steps.get(step).and_then(Step::condition).cloned();
                self.state = State::Doing { step, since, phase: Phase::Asking };
                condition.map_or_else(|| self.done(step, now), Act::Ask)
            }
        }
    }

    /// Makes an object of this step, or ends the step if that was the last. It is put right even if making it fails: nobody
    /// knows how far that came.
    fn create(&mut self, step: usize, since: Duration, object: usize, now: Duration) -> Act {
        let objects = self.steps.get(step).map(Step::objects).unwrap_or_default();
        let Some(found) = objects.get(object).cloned().map(Box::new) else { return self.done(step, now) };
        self.amends.push(Amends::Object(found.clone()));
        self.state = State::Doing { step, since, phase: Phase::Object(object) };
        Act::Create(found)
    }

    fn not_yet(&mut self, step: usize, since: Duration, reason: &str, now: Duration) -> Act {
        let Some(Step { deed: Deed::Wait { condition, within }, .. }) = self.steps.get(step) else {
            return self.done(step, now);
        };
        let left = within.saturating_sub(now.saturating_sub(since));
        if left.is_zero() {
            let message = format!("not within {}: {condition}: {reason}", Span(*within));
            return self.fail(message);
        }
        self.state = State::Doing { step, since, phase: Phase::Pausing };
        Act::Sleep(INTERVAL.min(left))
    }

    fn done(&mut self, step: usize, now: Duration) -> Act {
        if let Some(name) = self.steps.get(step).and_then(|step| step.name.clone()) {
            self.marks.insert(name, now);
        }
        self.begin(step + 1, now)
    }

    fn fail(&mut self, reason: String) -> Act {
        let line = self.step().map(|step| format!("line {}: ", step.line)).unwrap_or_default();
        self.failure = Some(format!("{line}{reason}"));
        self.finish()
    }

    fn finish(&mut self) -> Act {
        self.state = State::Amending;
        self.amend()
    }

    fn amend(&mut self) -> Act {
        match self.amends.pop() {
            Some(amends) => amends.act(),
            None => {
                self.state = State::Ended;
                Act::End
            }
        }
    }
}

// === impl Amends ===

impl Amends {
    /// The step that it puts right, where that can be done by another step.
    fn step(&self) -> Option<&String> {
        match self {
            Self::Fault { step, .. } | Self::Taint { step, .. } => step.as_ref(),
            Self::Object(_) => None,
        }
    }

    fn act(self) -> Act {
        match self {
            Self::Fault { id, .. } => Act::Undo(id),
            Self::Taint { tainted, .. } => Act::Untaint(tainted),
            Self::Object(object) => Act::Remove(object),
        }
    }
}
