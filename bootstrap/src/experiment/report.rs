//! What came of an experiment: measured, compared with what was expected, and told.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::course::Course;
use super::plan::{Bound, Deed, Expectation, Experiment, Measure, Probe, Step};
use super::trace::{Tally, Trace, millis};
use crate::status::columns;

/// The result of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Report {
    /// The experiment's name.
    pub experiment: String,
    /// What it is about.
    pub title: String,
    /// Whether it came to its end, all was as expected, and nothing is left of it.
    pub passed: bool,
    /// Why it did not come to its end.
    pub failure: Option<String>,
    /// What could not be put right.
    pub left: Vec<String>,
    /// When it began, in microseconds since 1970 by this computer's clock.
    pub began: u64,
    /// How long it took, in milliseconds.
    pub took: u64,
    /// The steps that have a name and were done.
    pub marks: Vec<Mark>,
    /// What came of the probes.
    pub probes: Vec<Tally>,
    /// What was expected.
    pub expectations: Vec<Verdict>,
}

/// A step that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Mark {
    /// Its name.
    pub name: String,
    /// What it was.
    pub text: String,
    /// When it was done, in milliseconds from the beginning on.
    pub at: u64,
}

/// Something that was expected.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Verdict {
    /// What.
    pub text: String,
    /// What was measured; none if it could not be.
    pub measured: Option<f64>,
    /// In what: `ms` or `%`.
    pub unit: &'static str,
    /// It should have been so much at least.
    pub at_least: Option<f64>,
    /// It should have been so much at most.
    pub at_most: Option<f64>,
    /// Whether it was.
    pub holds: bool,
}

/// What there is to judge by.
#[derive(Debug, Clone, Copy)]
struct Seen<'a> {
    probes: &'a [Probe],
    marks: &'a BTreeMap<String, Duration>,
    traces: &'a BTreeMap<String, Trace>,
    /// How long the experiment took.
    took: Duration,
}

/// From one step to another.
type Window = (String, String);

/// How long a busy node may take, besides, from one question to the next: an emulated one starts `curl` in seconds.
const LATENESS: Duration = Duration::from_secs(5);

// === impl Report ===

impl Report {
    /// The result, out of how it went and what the probes brought.
    #[must_use]
    pub fn new(
        experiment: &Experiment,
        course: &Course,
        traces: &BTreeMap<String, Trace>,
        (began, took): (u64, Duration),
    ) -> Self {
        let seen = Seen { probes: &experiment.probes, marks: &course.marks, traces, took };
        let judge = |expected| Verdict::new(expected, &seen);
        let expectations: Vec<Verdict> = experiment.expectations.iter().map(judge).collect();
        let mut marks: Vec<Mark> =
            experiment.steps.iter().filter_map(|step| Mark::new(step, &course.marks)).collect();
        marks.sort_by_key(|mark| mark.at);
        Self {
            experiment: experiment.name.clone(),
            title: experiment.title.clone(),
            passed: course.failure.is_none()
                && course.left.is_empty()
                && expectations.iter().all(|verdict| verdict.holds),
            failure: course.failure.clone(),
            left: course.left.clone(),
            began,
            took: millis(took),
            marks,
            probes: traces.iter().map(|(name, trace)| trace.tally(name)).collect(),
            expectations,
        }
    }

    /// Whether every probe that something is expected of told all that it was asked for up to now.
    #[must_use]
    pub(super) fn is_told(
        experiment: &Experiment,
        marks: &BTreeMap<String, Duration>,
        traces: &BTreeMap<String, Trace>,
        took: Duration,
    ) -> bool {
        let seen = Seen { probes: &experiment.probes, marks, traces, took };
        experiment.expectations.iter().all(|expected| match &expected.measure {
            Measure::Time { .. } => true,
            Measure::Gap { probe, window } | Measure::Answered { probe, window } => {
                // A step that was not done has no end that could be waited for.
                let is_over = window
                    .as_ref()
                    .is_none_or(|(from, to)| marks.contains_key(from) && marks.contains_key(to));
                !is_over || seen.of(probe, window.as_ref()).is_some()
            }
        })
    }

    /// Why it did not pass, in a few words; none if it did.
    #[must_use]
    pub fn shortcoming(&self) -> Option<String> {
        if let Some(failure) = &self.failure {
            return Some(failure.clone());
        }
        let broken: Vec<&str> =
            self.expectations.iter().filter(|verdict| !verdict.holds).map(|verdict| &*verdict.text).collect();
        if !broken.is_empty() {
            return Some(format!("not as expected: {}", broken.join("; ")));
        }
        (!self.left.is_empty()).then(|| format!("could not be put right: {}", self.left.join("; ")))
    }

    /// The result for people.
    #[must_use]
    pub fn text(&self) -> String {
        let seconds = |millis: u64| format!("{}.{:01} s", millis / 1000, millis % 1000 / 100);
        let outcome = if self.passed { "passed" } else { "failed" };
        let mut text = format!("{}: {outcome} after {}\n", self.experiment, seconds(self.took));
        if let Some(failure) = &self.failure {
            text.push_str(&format!("  {failure}\n"));
        }
        for left in &self.left {
            text.push_str(&format!("  could not be put right: {left}\n"));
        }
        let marks = self
            .marks
            .iter()
            .map(|mark| [format!("  +{}", seconds(mark.at)), mark.name.clone(), mark.text.clone()]);
        text.push_str(&columns(&marks.collect::<Vec<_>>()));
        let probes = self.probes.iter().map(|probe| {
            let median = probe.median.map_or_else(|| "-".to_owned(), |millis| format!("{millis} ms"));
            [
                format!("  {}", probe.probe),
                format!("{} of {} answered", probe.answered, probe.asked),
                format!("half within {median}"),
                format!("longest silence {}", seconds(probe.longest_gap)),
            ]
        });
        text.push_str(&columns(&probes.collect::<Vec<_>>()));
        text.push_str(&columns(&self.expectations.iter().map(Verdict::row).collect::<Vec<_>>()));
        text
    }
}

// === impl Mark ===

impl Mark {
    fn new(step: &Step, marks: &BTreeMap<String, Duration>) -> Option<Self> {
        let name = step.name.clone()?;
        let at = millis(*marks.get(&name)?);
        Some(Self { name, text: step.to_string(), at })
    }
}

// === impl Verdict ===

impl Verdict {
    fn new(expected: &Expectation, seen: &Seen<'_>) -> Self {
        let time = |time: Duration| time.as_secs_f64() * 1000.0;
        let measured = match &expected.measure {
            Measure::Time { from, to } => {
                let both = seen.marks.get(from).zip(seen.marks.get(to));
                both.and_then(|(from, to)| to.checked_sub(*from)).map(time)
            }
            Measure::Gap { probe, window } => {
                let trace = seen.of(probe, window.as_ref());
                trace.and_then(|trace| trace.longest_gap()).map(|(gap, _)| time(gap))
            }
            Measure::Answered { probe, window } => {
                seen.of(probe, window.as_ref()).and_then(|trace| trace.answered())
            }
        };
        let number = |bound: Bound| match bound {
            Bound::Time(bound) => time(bound),
            Bound::PerCent(share) => share,
        };
        let (at_least, at_most) = (expected.at_least.map(number), expected.at_most.map(number));
        let holds = measured.is_some_and(|measured| {
            at_least.is_none_or(|least| measured >= least) && at_most.is_none_or(|most| measured <= most)
        });
        let unit = if matches!(expected.measure, Measure::Answered { .. }) { "%" } else { "ms" };
        let text =
            if expected.text.is_empty() { expected.measure.to_string() } else { expected.text.clone() };
        Self { text, measured, unit, at_least, at_most, holds }
    }

    fn row(&self) -> [String; 4] {
        let number = |number: f64| match self.unit {
            "ms" => format!("{:.1} s", number / 1000.0),
            unit => format!("{number:.1} {unit}"),
        };
        let bounds = [("at least", self.at_least), ("at most", self.at_most)];
        let bounds =
            bounds.into_iter().filter_map(|(word, bound)| Some(format!("{word} {}", number(bound?))));
        let bounds: Vec<String> = bounds.collect();
        let verdict = if self.holds { "as expected" } else { "NOT as expected" };
        [
            format!("  {}", self.text),
            self.measured.map_or_else(|| "not measured".to_owned(), number),
            bounds.join(", "),
            verdict.to_owned(),
        ]
    }
}

// === impl Seen ===

impl Seen<'_> {
    /// What a probe brought, all the time or from one step to another; none where it asked nothing up to the end of that: it
    /// may have been lost, or not have told yet.
    fn of(&self, probe: &str, window: Option<&Window>) -> Option<Trace> {
        let trace = self.traces.get(probe)?;
        let all = (Duration::ZERO, self.took);
        let (from, to) = match window {
            None => all,
            Some((from, to)) => (*self.marks.get(from)?, *self.marks.get(to)?),
        };
        let asked = self.probes.iter().find(|one| one.name == probe)?;
        let slack = asked.every + asked.timeout + LATENESS;
        let last = trace.questions().last()?.at;
        (last + slack >= to).then(|| trace.between(from, to))
    }
}

impl std::fmt::Display for Measure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Time { from, to } => write!(f, "from {from} to {to}"),
            Self::Gap { probe, window: None } => write!(f, "longest silence of {probe}"),
            Self::Answered { probe, window: None } => write!(f, "answers of {probe}"),
            Self::Gap { probe, window: Some((from, to)) } => {
                write!(f, "longest silence of {probe} from {from} to {to}")
            }
            Self::Answered { probe, window: Some((from, to)) } => {
                write!(f, "answers of {probe} from {from} to {to}")
            }
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.deed {
            Deed::Fault { words, .. } => f.write_str(words),
            Deed::Taint(tainted) => write!(f, "{tainted}"),
            Deed::Undo { step } => write!(f, "{step} is undone"),
            Deed::Wait { condition, .. } => write!(f, "{condition}"),
            Deed::Sleep { time } => write!(f, "{} pass", crate::fault::asked::Span(*time)),
            Deed::Begin { probe } => write!(f, "{probe} is asked from here on"),
            Deed::Create { objects } => {
                let name = |object: &serde_json::Value| {
                    let text = |path| object.pointer(path).and_then(serde_json::Value::as_str).unwrap_or("?");
                    format!("{}/{}", text("/kind"), text("/metadata/name"))
                };
                let names: Vec<String> = objects.iter().map(name).collect();
                write!(f, "make {}", names.join(", "))
            }
        }
    }
}
