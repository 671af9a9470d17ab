//! From a file as it was written to an experiment that can be run, past every mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Parser;
use serde_json::Value;

use super::condition::{Condition, FieldPath, FieldValue, ObjectName, PodPlace};
use super::places::placeholders;
use super::plan::{Asker, Bound, Deed, Expectation, Experiment, Measure, Needs, Probe, Step, Tainted};
use super::written::{self, Written};
use crate::cli::fault::{Fault, LinkFault, NodeFault};
use crate::meshfile::{Given, Mistake, Mistakes, Place};
use crate::settings::duration;

/// How long is waited for something, unless it is said.
const WITHIN: Duration = Duration::from_mins(5);
const EVERY: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(1);
/// Servers have better things to do.
const MOST_OFTEN: Duration = Duration::from_millis(50);
/// Where whatever is not said to be anywhere lies.
const NAMESPACE: &str = "default";

/// The words of a fault, as the command line has them.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, disable_help_subcommand = true)]
struct Words {
    #[command(subcommand)]
    fault: Fault,
}

/// Every mistake of an experiment's file, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongFile(Mistakes);

/// Takes one thing after the other and keeps the mistakes.
struct Checker<'a> {
    with: &'a BTreeMap<String, String>,
    mistakes: Vec<Mistake>,
}

/// Reads an experiment. `set` are values for names of its `with`, instead of those that stand there.
///
/// # Errors
///
/// Every mistake, in the order of the file.
pub fn read(file: &str, text: &str, set: &BTreeMap<String, String>) -> Result<Experiment, WrongFile> {
    let (written, mut mistakes) = crate::meshfile::read::<Written>(text);
    let Some(written) = written else {
        if mistakes.is_empty() {
            mistakes.push(Mistake { place: None, problem: "it is empty".to_owned() });
        }
        return Err(WrongFile(Mistakes::new(file, mistakes)));
    };
    let with = values(&written, set, &mut mistakes);
    let mut checker = Checker { with: &with, mistakes };
    let experiment = checker.experiment(&written);
    let mistakes = checker.mistakes;
    if mistakes.is_empty() { Ok(experiment) } else { Err(WrongFile(Mistakes::new(file, mistakes))) }
}

/// What each name stands for.
fn values(
    written: &Written,
    set: &BTreeMap<String, String>,
    mistakes: &mut Vec<Mistake>,
) -> BTreeMap<String, String> {
    let none = BTreeMap::new();
    let with = written.with.get().unwrap_or(&none);
    for name in set.keys().filter(|name| !with.contains_key(*name)) {
        let known: Vec<&str> = with.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
        let problem = format!("--set {name}: this experiment has {known} to set");
        mistakes.push(Mistake { place: None, problem });
    }
    let given = with.iter().filter_map(|(name, value)| Some((name.clone(), value.get()?.clone())));
    given.chain(set.clone()).collect()
}

// === impl WrongFile ===

impl std::fmt::Display for WrongFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(mistakes) = self;
        match mistakes.all.as_slice() {
            [only] => f.write_str(&mistakes.line(only)),
            many => {
                write!(f, "the experiment has {} mistakes:", many.len())?;
                many.iter().try_for_each(|mistake| write!(f, "\n  {}", mistakes.line(mistake)))
            }
        }
    }
}

impl std::error::Error for WrongFile {}

// === impl Checker ===

impl Checker<'_> {
    fn experiment(&mut self, written: &Written) -> Experiment {
        let name = self.text(&written.name).unwrap_or_else(|| {
            if written.name.is_absent() {
                self.nowhere("it has no `name`");
            }
            String::new()
        });
        let title = self.text(&written.title).unwrap_or_default();
        let about = self.text(&written.about).unwrap_or_default();
        let needs = written.needs.get();
        let number = |given: Option<&Given<u16>>| given.and_then(Given::get).copied().map_or(0, usize::from);
        let needs = Needs {
            machines: number(needs.map(|needs| &needs.machines)),
            control_planes: number(needs.map(|needs| &needs.control_planes)),
        };
        let probes: Vec<Probe> =
            items(&written.probes).filter_map(|(probe, place)| self.probe(probe, place)).collect();
        let mut seen = BTreeSet::new();
        for probe in &probes {
            if !seen.insert(&probe.name) {
                self.nowhere(&format!("there are two probes `{}`", probe.name));
            }
        }
        let mut steps: Vec<Step> = Vec::new();
        for (step, place) in items(&written.steps) {
            let step = self.step(step, place, &steps, &probes);
            steps.extend(step);
        }
        if items(&written.steps).next().is_none() {
            self.nowhere("it has no `steps`");
        }
        let expectations = items(&written.expect)
            .filter_map(|(expected, place)| self.expectation(expected, place, &steps, &probes))
            .collect();
        Experiment { name, title, about, needs, probes, steps, expectations }
    }

    fn probe(&mut self, written: &written::Probe, place: Place) -> Option<Probe> {
        let every = self.duration(&written.every).unwrap_or(EVERY);
        if every < MOST_OFTEN {
            self.note(place, format!("every: {} ms is the shortest", MOST_OFTEN.as_millis()));
        }
        let timeout = self.duration(&written.timeout).unwrap_or(TIMEOUT);
        let from = self.from(&written.from);
        let url = self.url(&written.http);
        let name = self.text(&written.name);
        match (name, url) {
            (Some(name), Some(url)) => Some(Probe { name, url, from, every, timeout }),
            _ => {
                if written.name.is_absent() || written.http.is_absent() {
                    self.note(place, "a probe has a `name`, and a URL in `http`");
                }
                None
            }
        }
    }

    fn step(
        &mut self,
        written: &written::Step,
        place: Place,
        before: &[Step],
        probes: &[Probe],
    ) -> Option<Step> {
        let name = self.text(&written.name);
        if let Some(name) = &name
            && before.iter().any(|step| step.name.as_ref() == Some(name))
        {
            self.note(place, format!("another step is named `{name}`"));
        }
        let given = [
            ("fault", !written.fault.is_absent()),
            ("taint", !written.taint.is_absent()),
            ("undo", !written.undo.is_absent()),
            ("create", !written.create.is_absent()),
            ("wait", !written.wait.is_absent()),
            ("sleep", !written.sleep.is_absent()),
            ("probe", !written.probe.is_absent()),
        ];
        let given: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        if given.len() != 1 {
            let found = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
            self.note(
                place,
                format!(
                    "a step is one of fault, taint, undo, create, wait, sleep and probe, and this is {found}"
                ),
            );
            return None;
        }
        if !written.within.is_absent() && written.wait.is_absent() {
            self.note(place, "`within` belongs to `wait`");
        }
        let deed = self.deed(written, before, probes)?;
        let Place::Line { line, .. } = place else { return None };
        Some(Step { name, deed, line })
    }

    fn deed(&mut self, written: &written::Step, before: &[Step], probes: &[Probe]) -> Option<Deed> {
        if let Some((_, place)) = written.fault.pair() {
            let words = self.text(&written.fault)?;
            return match fault(&words) {
                Ok(fault) => Some(Deed::Fault { words, fault: Box::new(fault) }),
                Err(problem) => self.at(place, problem),
            };
        }
        if let Some((_, place)) = written.taint.pair() {
            let words = self.text(&written.taint)?;
            return match tainted(&words) {
                Ok(tainted) => Some(Deed::Taint(tainted)),
                Err(problem) => self.at(place, problem),
            };
        }
        if let Some((_, place)) = written.undo.pair() {
            let step = self.text(&written.undo)?;
            let can_be_undone = |other: &Step| {
                other.name.as_ref() == Some(&step)
                    && matches!(other.deed, Deed::Fault { .. } | Deed::Taint(_))
            };
            if before.iter().any(can_be_undone) {
                return Some(Deed::Undo { step });
            }
            return self.at(place, format!("no step before this one is a fault or a taint named `{step}`"));
        }
        if let Some((value, place)) = written.create.pair() {
            let objects = match self.filled_in(value, place) {
                Value::Array(objects) => objects,
                object @ (Value::Object(_)
                | Value::String(_)
                | Value::Number(_)
                | Value::Bool(_)
                | Value::Null) => vec![object],
            };
            for object in &objects {
                let has = |path: &str| object.pointer(path).is_some_and(Value::is_string);
                if !has("/apiVersion") || !has("/kind") || !has("/metadata/name") {
                    return self.at(place, "an object has an apiVersion, a kind and a metadata.name");
                }
            }
            return Some(Deed::Create { objects });
        }
        if let Some((condition, place)) = written.wait.pair() {
            let within = self.duration(&written.within).unwrap_or(WITHIN);
            return Some(Deed::Wait { condition: self.condition(condition, place, before)?, within });
        }
        if let Some((_, place)) = written.probe.pair() {
            let probe = self.text(&written.probe)?;
            if probes.iter().any(|other| other.name == probe) {
                return Some(Deed::Begin { probe });
            }
            return self.at(place, format!("there is no probe `{probe}`"));
        }
        Some(Deed::Sleep { time: self.duration(&written.sleep)? })
    }

    fn condition(
        &mut self,
        written: &written::Condition,
        place: Place,
        before: &[Step],
    ) -> Option<Condition> {
        let namespace = self.text(&written.namespace).unwrap_or_else(|| NAMESPACE.to_owned());
        let kinds = [
            ("node", !written.node.is_absent()),
            ("pods", !written.pods.is_absent()),
            ("object", !written.object.is_absent()),
            ("api", !written.api.is_absent()),
            ("http", !written.http.is_absent()),
            ("route-to", !written.route_to.is_absent()),
            ("probe", !written.probe.is_absent()),
        ];
        let kinds: Vec<&str> = kinds.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        let [kind] = kinds.as_slice() else {
            let found = if kinds.is_empty() { "none".to_owned() } else { kinds.join(" and ") };
            return self.at(
                place,
                format!("what is waited for is one of node, pods, object, api, http, route-to and probe, and this is {found}"),
            );
        };
        self.others_are_absent(written, kind, place);
        match *kind {
            "node" => {
                let ready = self.word(&written.is, place, "is", &[("Ready", true), ("NotReady", false)]);
                Some(Condition::Node { name: self.text(&written.node)?, ready: ready? })
            }
            "pods" => {
                let place = match (self.text(&written.on), self.text(&written.not_on)) {
                    (None, None) => PodPlace::Anywhere,
                    (Some(node), None) => PodPlace::On(node),
                    (None, Some(node)) => PodPlace::Elsewhere(node),
                    (Some(_), Some(_)) => return self.at(place, "`on` and `not-on` are two things"),
                };
                let running = written.running.get().copied().map_or(1, usize::from);
                Some(Condition::Pods { labels: self.text(&written.pods)?, namespace, running, place })
            }
            "object" => {
                let name = self.text(&written.object)?;
                let Some((kind, name)) = name.split_once('/') else {
                    return self.at(place, format!("`{name}` is no object, as deployment/web is one"));
                };
                let object = ObjectName { kind: kind.to_owned(), name: name.to_owned(), namespace };
                let path = self.text(&written.field).map(|path| FieldPath::new(&path));
                let path = match path {
                    Some(Ok(path)) => Some(path),
                    Some(Err(error)) => self.at(place, error.to_string()),
                    None => self.at(place, "`object` wants a `field`"),
                };
                let value = match (self.text(&written.equals), self.text(&written.contains)) {
                    (Some(text), None) => Some(FieldValue::Is(text)),
                    (None, Some(part)) => Some(FieldValue::Contains(part)),
                    (Some(_), Some(_)) => self.at(place, "`equals` and `contains` are two things"),
                    (None, None) => self.at(place, "`object` wants what the field `equals` or `contains`"),
                };
                Some(Condition::Field { object, path: path?, value: value? })
            }
            "api" => {
                let answers = self.word(&written.api, place, "api", &[("answers", true), ("silent", false)]);
                Some(Condition::Api { answers: answers? })
            }
            "http" => Some(Condition::Http {
                url: self.url(&written.http)?,
                from: self.from(&written.from),
                answers: written.answers.get().copied().unwrap_or(true),
            }),
            "probe" => {
                if written.answered_for.is_absent() {
                    return self.at(place, "`probe` wants the time that it is `answered-for`");
                }
                let (probe, time) = (self.text(&written.probe)?, self.duration(&written.answered_for)?);
                let begins =
                    |step: &Step| matches!(&step.deed, Deed::Begin { probe: begun } if *begun == probe);
                if !before.iter().any(begins) {
                    return self.at(place, format!("no step before this one begins the probe `{probe}`"));
                }
                Some(Condition::Calm { probe, time })
            }
            _ => {
                let Some(node) = self.text(&written.on) else {
                    return self.at(place, "`route-to` wants the node that it is `on`");
                };
                let present = written.present.get().copied().unwrap_or(true);
                Some(Condition::Route { node, to: self.text(&written.route_to)?, present })
            }
        }
    }

    /// Fields that belong to something else that is waited for.
    fn others_are_absent(&mut self, written: &written::Condition, kind: &str, place: Place) {
        let fields: [(&str, bool, &[&str]); 13] = [
            ("is", !written.is.is_absent(), &["node"]),
            ("running", !written.running.is_absent(), &["pods"]),
            ("on", !written.on.is_absent(), &["pods", "route-to"]),
            ("not-on", !written.not_on.is_absent(), &["pods"]),
            ("namespace", !written.namespace.is_absent(), &["pods", "object"]),
            ("field", !written.field.is_absent(), &["object"]),
            ("equals", !written.equals.is_absent(), &["object"]),
            ("contains", !written.contains.is_absent(), &["object"]),
            ("from", !written.from.is_absent(), &["http"]),
            ("answers", !written.answers.is_absent(), &["http"]),
            ("present", !written.present.is_absent(), &["route-to"]),
            ("route-to", !written.route_to.is_absent(), &["route-to"]),
            ("answered-for", !written.answered_for.is_absent(), &["probe"]),
        ];
        for (field, _, kinds) in fields.iter().filter(|(_, given, kinds)| *given && !kinds.contains(&kind)) {
            self.note(place, format!("`{field}` belongs to {}, not to {kind}", kinds.join(" and ")));
        }
    }

    fn expectation(
        &mut self,
        written: &written::Expectation,
        place: Place,
        steps: &[Step],
        probes: &[Probe],
    ) -> Option<Expectation> {
        let text = self.text(&written.text).unwrap_or_default();
        let (at_least, at_most) = (self.bound(&written.at_least), self.bound(&written.at_most));
        if written.at_least.is_absent() && written.at_most.is_absent() {
            self.note(place, "it expects nothing: say `at-most` or `at-least`");
        }
        let bounds = [at_least, at_most];
        let is = |wanted: fn(&Bound) -> bool| bounds.iter().flatten().all(wanted);
        let is_time = is(|bound| matches!(bound, Bound::Time(_)));
        let is_share = is(|bound| matches!(bound, Bound::PerCent(_)));
        let window = self.text(&written.from).zip(self.text(&written.to));
        let half = written.from.is_absent() != written.to.is_absent();
        if let Some((from, to)) = &window {
            self.in_order(from, to, steps, place);
        }
        let measure = match (window, self.text(&written.probe)) {
            (Some((from, to)), None) if is_time => Measure::Time { from, to },
            (window, Some(probe)) if (is_time || is_share) && !half => {
                if !probes.iter().any(|other| other.name == probe) {
                    self.note(place, format!("there is no probe `{probe}`"));
                }
                if is_time { Measure::Gap { probe, window } } else { Measure::Answered { probe, window } }
            }
            _ => {
                let problem = "it measures the time `from` one step `to` another, or the longest silence (a time) or the \
                               answers (per cent) of a `probe`, all the time or from one step to another";
                return self.at(place, problem);
            }
        };
        Some(Expectation { text, measure, at_least, at_most })
    }

    fn in_order(&mut self, from: &str, to: &str, steps: &[Step], place: Place) {
        let at = |name: &str| steps.iter().position(|step| step.name.as_deref() == Some(name));
        for name in [from, to].into_iter().filter(|name| at(name).is_none()) {
            self.note(place, format!("no step is named `{name}`"));
        }
        if at(from).zip(at(to)).is_some_and(|(from, to)| from >= to) {
            self.note(place, format!("`{to}` does not come after `{from}`"));
        }
    }

    fn bound(&mut self, given: &Given<String>) -> Option<Bound> {
        let (_, place) = given.pair()?;
        let text = self.text(given)?;
        let Some(number) = text.strip_suffix('%') else {
            return match duration(&text) {
                Ok(time) => Some(Bound::Time(time)),
                Err(problem) => self.at(place, format!("{problem}; or a share, as 95%")),
            };
        };
        let number: Option<f64> = number.parse().ok();
        match number.filter(|number| (0.0..=100.0).contains(number)) {
            Some(number) => Some(Bound::PerCent(number)),
            None => self.at(place, format!("`{text}` is no share: 0% to 100%")),
        }
    }

    fn from(&mut self, given: &Given<String>) -> Asker {
        match self.text(given).as_deref() {
            None | Some("host") => Asker::Host,
            Some(node) => Asker::Node(node.to_owned()),
        }
    }

    fn url(&mut self, given: &Given<String>) -> Option<String> {
        let (_, place) = given.pair()?;
        let url = self.text(given)?;
        if url.starts_with("http://") || url.starts_with("https://") {
            return Some(url);
        }
        self.at(place, format!("`{url}` is no http(s) URL"))
    }

    fn duration(&mut self, given: &Given<String>) -> Option<Duration> {
        let (_, place) = given.pair()?;
        let text = self.text(given)?;
        match duration(&text) {
            Ok(time) => Some(time),
            Err(problem) => self.at(place, problem),
        }
    }

    fn word<T: Copy>(
        &mut self,
        given: &Given<String>,
        place: Place,
        field: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let text = self.text(given);
        let found = words.iter().find(|(word, _)| Some(*word) == text.as_deref());
        if let Some((_, value)) = found {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let place = given.pair().map_or(place, |(_, place)| place);
        self.at(place, format!("`{field}` is {}", known.join(" or ")))
    }

    /// A text with what its names stand for.
    fn text(&mut self, given: &Given<String>) -> Option<String> {
        let (text, place) = given.pair()?;
        Some(self.fill_in(text, place))
    }

    fn fill_in(&mut self, text: &str, place: Place) -> String {
        let fill =
            |text: String, (name, value): (&String, &String)| text.replace(&format!("${{{name}}}"), value);
        let filled = self.with.iter().fold(text.to_owned(), fill);
        // Places of the mesh are looked up when they are needed.
        let unknown: Vec<String> =
            placeholders(&filled).filter(|name| !name.contains(':')).map(str::to_owned).collect();
        for name in unknown {
            self.note(place, format!("nothing says what `${{{name}}}` stands for: say it in `with`"));
        }
        filled
    }

    fn filled_in(&mut self, value: &Value, place: Place) -> Value {
        match value {
            Value::String(text) => Value::String(self.fill_in(text, place)),
            Value::Array(items) => items.iter().map(|item| self.filled_in(item, place)).collect(),
            Value::Object(fields) => Value::Object(
                fields
                    .iter()
                    .map(|(key, value)| (self.fill_in(key, place), self.filled_in(value, place)))
                    .collect(),
            ),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    fn note(&mut self, place: Place, problem: impl Into<String>) {
        self.mistakes.push(Mistake { place: Some(place), problem: problem.into() });
    }

    /// Notes a mistake; there is no value then.
    fn at<T>(&mut self, place: Place, problem: impl Into<String>) -> Option<T> {
        self.note(place, problem);
        None
    }

    fn nowhere(&mut self, problem: &str) {
        self.mistakes.push(Mistake { place: None, problem: problem.to_owned() });
    }
}

/// The parts of a list that can be read, with their places.
fn items<T>(list: &Given<Vec<Given<T>>>) -> impl Iterator<Item = (&T, Place)> {
    list.get().into_iter().flatten().filter_map(Given::pair)
}

/// A node and its taint.
fn tainted(words: &str) -> Result<Tainted, String> {
    let (node, taint) = words.trim().split_once(' ').ok_or_else(|| {
        format!("`{words}` is no taint of a node, as `node1 dedicated=db:NoSchedule` is one")
    })?;
    let taint = taint.trim().parse().map_err(|error| format!("`{words}`: {error}"))?;
    Ok(Tainted { node: node.to_owned(), taint })
}

/// The words of a fault; those that make none are refused.
fn fault(words: &str) -> Result<Fault, String> {
    let parsed = Words::try_parse_from(words.split_whitespace());
    let fault = parsed.map_err(|error| {
        let text = error.render().to_string();
        let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        format!("`{words}`: {first}")
    })?;
    match fault.fault {
        Fault::Link(LinkFault::Heal { .. }) | Fault::Node(NodeFault::Thaw { .. }) => {
            Err(format!("`{words}` makes no fault: a step undoes one with `undo`"))
        }
        Fault::List | Fault::Clear { .. } | Fault::Keep => Err(format!("`{words}` makes no fault")),
        made @ (Fault::Link(_)
        | Fault::Node(_)
        | Fault::Partition { .. }
        | Fault::Service { .. }
        | Fault::Clock { .. }
        | Fault::Disk { .. }) => Ok(made),
    }
}
