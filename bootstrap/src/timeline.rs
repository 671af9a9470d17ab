//! `meshboot timeline`: what happened in a mesh, from every witness, in one order.
//!
//! The witnesses are the nodes, who remember what happened to their cables and routes (their page `/events`); Kubernetes
//! ([`kubernetes`]); and the [`journal`] of what was done on purpose. No daemon is needed: [`collect`] asks them
//! afterwards. Whoever wants Kubernetes' times to the millisecond runs a [`kubernetes::live::Recorder`] meanwhile and
//! hands its recording in.
//!
//! [`Timeline`] is pure, and so is what is made of it: [`text`] for people, a line of JSON for each entry, [`svg`] for
//! papers.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use jiff::tz::TimeZone;
use mesh::EventPage;
use schemars::JsonSchema;
use serde::Serialize;

use self::clock::Clock;
use self::entry::{Entry, What};
use self::names::Names;
use crate::cli::timeline::Timeline as Options;
use crate::deployment::Directory;
use crate::exit::{Code, Failure, OrFail as _};
use crate::progress::{self, Output, Reporter};

pub mod clock;
pub mod collect;
pub mod entry;
pub mod journal;
pub mod kubernetes;
pub mod names;
pub mod since;
pub mod states;
#[cfg(test)]
pub(crate) mod story;
pub mod svg;
pub mod text;

/// Two witnesses of the same may differ by so much: each tells to the second.
const SAME: u64 = 2_000_000;

/// What happened, in its order.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    /// The machines, in the order in which they are shown.
    pub machines: Vec<String>,
    /// What happened, earliest first.
    pub entries: Vec<Entry>,
    /// The nodes that told.
    pub witnesses: Vec<Witness>,
    /// Who was asked and said nothing, and why, where that is known.
    pub silent: Vec<String>,
    /// What addresses are called.
    pub names: Names,
    /// How nodes stood when somebody began to watch, if somebody did.
    pub stood: Option<Stood>,
}

/// How nodes stood at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stood {
    /// When, in microseconds since 1970.
    pub at: u64,
    /// Whether each was Ready.
    pub ready: BTreeMap<String, bool>,
}

/// A node that told what happened to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Witness {
    /// Its machine.
    pub machine: String,
    /// From when on it remembers, in microseconds since 1970: what was before is lost.
    pub since: u64,
    /// By how many microseconds its wall clock is ahead of this computer's. Its times do not depend on that.
    pub ahead: i64,
    /// By how many microseconds its times may be wrong.
    pub within: u64,
}

/// One entry, as programs get it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Line<'a> {
    /// When, for people: the moment of `at`, by RFC 3339.
    time: String,
    /// What happened, for people.
    text: String,
    #[serde(flatten)]
    entry: &'a Entry,
}

/// What follows the entries, for programs.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Summary<'a> {
    /// How many entries there were.
    entries: usize,
    /// The machines, in the order in which they are shown.
    machines: &'a [String],
    /// The nodes that told.
    witnesses: &'a [Witness],
    /// Who was asked and said nothing, and why, where that is known.
    silent: &'a [String],
    /// Where the picture is.
    svg: Option<&'a Path>,
}

/// Shows what happened to the deployment in `directory`.
///
/// # Errors
///
/// There is none, there is no such machine, or the picture cannot be written.
pub async fn run(directory: &Directory, options: &Options, reporter: &Reporter) -> Result<(), Failure> {
    let deployment = directory.require()?;
    let mut timeline = collect::collect(directory, &deployment, None).await?;
    if let Some(machine) = &options.machine {
        timeline.keep_machine(machine)?;
    }
    let from = options.since.unwrap_or_default();
    if let Some(path) = &options.svg {
        // What was before tells how things stood.
        let picture = svg::svg(&timeline, &svg::Options { from: options.since, ..svg::Options::default() });
        write(path, &picture)?;
        if path == Path::new("-") {
            return Ok(());
        }
    }
    timeline.keep_from(from);
    timeline.tell(options.svg.as_deref(), reporter);
    Ok(())
}

pub(crate) fn write(path: &Path, picture: &str) -> Result<(), Failure> {
    if path == Path::new("-") {
        progress::out(picture.trim_end());
        return Ok(());
    }
    let made = std::fs::File::create(path).and_then(|mut file| file.write_all(picture.as_bytes()));
    made.with_context(|| format!("cannot write the picture to {}", path.display()))
        .or_fail(Code::CannotCreate)
}

// === impl Timeline ===

impl Timeline {
    /// Puts entries in their order, each told once.
    #[must_use]
    pub fn new(machines: Vec<String>, entries: Vec<Entry>, names: Names) -> Self {
        Self { machines, entries: merge(entries), names, ..Self::default() }
    }

    /// Takes what a node told.
    #[must_use]
    pub fn witness(machine: &str, clock: &Clock, page: &EventPage) -> Witness {
        // The service's start is its first event, as long as it is remembered.
        let since = page.events.first().map_or(page.up, |event| event.up);
        Witness {
            machine: machine.to_owned(),
            since: clock.at(since),
            ahead: clock.ahead(),
            within: clock.within(),
        }
    }

    /// Leaves out what does not concern this machine.
    ///
    /// # Errors
    ///
    /// Nobody knows such a machine.
    pub fn keep_machine(&mut self, machine: &str) -> Result<(), Failure> {
        if !self.machines.iter().any(|name| name == machine) {
            let failure = Failure::new(Code::Data, format!("no machine `{machine}` is known"));
            return Err(failure.next(format!("known: {}", self.machines.join(", "))));
        }
        self.machines.retain(|name| name == machine);
        self.entries.retain(|entry| entry.concerns(machine) || entry.is_turn());
        self.witnesses.retain(|witness| witness.machine == machine);
        Ok(())
    }

    /// Leaves out what was before this time.
    pub fn keep_from(&mut self, from: u64) {
        self.entries.retain(|entry| entry.latest() >= from);
    }

    fn tell(&self, svg: Option<&Path>, reporter: &Reporter) {
        if reporter.output() == Output::Json {
            for entry in &self.entries {
                let (time, text) = (text::rfc3339(entry.at), entry.text(&self.names));
                reporter.result(&Line { time, text, entry }, "");
            }
        }
        let summary = Summary {
            entries: self.entries.len(),
            machines: &self.machines,
            witnesses: &self.witnesses,
            silent: &self.silent,
            svg,
        };
        reporter.result(&summary, &text::text(self, &TimeZone::system()));
    }
}

/// All entries in their order, and what two witnesses told of the same thing once: from whom knew the time better.
///
/// A time that is known to the second comes after all others in it: it is more often an effect than a cause.
#[must_use]
pub fn merge(mut entries: Vec<Entry>) -> Vec<Entry> {
    let rank =
        |entry: &Entry| if let What::Kubernetes(change) = &entry.detail { Some(change.rank()) } else { None };
    let key = |entry: &Entry| (entry.latest(), entry.source, rank(entry));
    entries.sort_by(|one, other| {
        key(one).cmp(&key(other)).then_with(|| format!("{one:?}").cmp(&format!("{other:?}")))
    });
    let told: Vec<bool> = (0..entries.len()).map(|at| is_told_better(&entries, at)).collect();
    let mut told = told.into_iter();
    entries.retain(|_| !told.next().unwrap_or(false));
    entries
}

fn is_told_better(entries: &[Entry], at: usize) -> bool {
    let Some(entry) = entries.get(at) else { return false };
    let What::Kubernetes(change) = &entry.detail else { return false };
    // They are in the order of their ends, and none is longer than `SAME`.
    let far = SAME.saturating_mul(2);
    let before = entries.iter().enumerate().take(at).rev();
    let before = before.take_while(|(_, other)| other.latest().saturating_add(far) >= entry.latest());
    let after = entries.iter().enumerate().skip(at + 1);
    let after = after.take_while(|(_, other)| other.latest() <= entry.latest().saturating_add(far));
    before.chain(after).any(|(index, other)| {
        let What::Kubernetes(another) = &other.detail else { return false };
        let same_place =
            entry.machines == other.machines || entry.machines.is_empty() || other.machines.is_empty();
        // Of two that know as much the first one stays.
        same_place
            && other.at.abs_diff(entry.at) <= SAME
            && change.is_same(another)
            && (other.within, index) < (entry.within, at)
    })
}

/// This computer's clock, in microseconds since 1970.
#[must_use]
pub(crate) fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
