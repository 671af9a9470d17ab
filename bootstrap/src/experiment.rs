//! `meshboot experiment`: what becomes of a mesh in which something is broken, as a file that can be run again.
//!
//! A file ([`written`]) is checked as a whole ([`check`](mod@check)) and becomes an [`plan::Experiment`]: steps, probes that go on
//! beside them, and what is expected. [`course`] is the machine that goes through the steps: it takes what happened and
//! gives what is to be done, and puts right what was done, whatever went wrong. [`condition`] decides whether what is waited
//! for is so, [`trace`] what came of a probe, [`report`] whether all was as expected. Only `stage`, `witness` and
//! `probe` speak with anybody.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use schemars::JsonSchema;
use serde::Serialize;

use self::plan::Experiment;
use self::report::Report;
use self::shipped::{SHIPPED, Shipped};
use self::stage::Stage;
use crate::answers::Good;
use crate::cli::experiment::{Experiment as Verb, RunExperiment};
use crate::exit::{Code, Failure, OrFail as _};
use crate::meshfile;
use crate::progress::{self, Reporter};
use crate::status::columns;
use crate::timeline::{collect, svg};
use crate::verbs::Context;

pub mod check;
pub mod condition;
pub mod course;
pub mod places;
pub mod plan;
mod probe;
pub mod report;
pub mod shipped;
mod stage;
pub mod trace;
mod witness;
pub mod written;

/// What is drawn before the beginning, in microseconds: how things stood.
const BEFORE: u64 = 2_000_000;

/// One line of the list.
#[derive(Debug, Serialize, JsonSchema)]
struct Row {
    /// Its name.
    name: &'static str,
    /// What it is about.
    title: String,
    /// How many machines it takes, the seed among them.
    machines: usize,
    /// How many control planes it takes.
    control_planes: usize,
}

/// The experiments that come with the program.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct List {
    experiments: Vec<Row>,
}

/// The JSON Schema of an experiment's file.
#[must_use]
pub fn schema() -> String {
    meshfile::schema_of::<written::Written>("experiment")
}

/// Does what the verb says.
///
/// # Errors
///
/// What is wrong with the file, what the mesh lacks, or what was not as expected.
pub async fn run(context: &Context, verb: &Verb, reporter: &Reporter) -> Result<(), Failure> {
    match verb {
        Verb::Run(options) => perform(context, options, reporter).await,
        Verb::Check { file, set } => check(file, set, reporter),
        Verb::List => list(reporter),
        Verb::Show { name } => show(name),
    }
}

async fn perform(context: &Context, options: &RunExperiment, reporter: &Reporter) -> Result<(), Failure> {
    let experiment = open(&options.file, &options.set)?;
    let stage = Stage::open(context, &experiment, reporter).await?;
    let (report, recording) = stage.perform(&experiment).await?;
    if let Some(path) = &options.svg {
        let deployment = context.directory.require()?;
        let timeline = collect::collect(&context.directory, &deployment, recording).await?;
        let ended = report.began.saturating_add(report.took.saturating_mul(1000));
        // How nodes stood before somebody watched is guessed from what Kubernetes has not forgotten.
        let watched = timeline.stood.as_ref().map_or(0, |stood| stood.at.min(report.began));
        let window = svg::Options {
            from: Some(report.began.saturating_sub(BEFORE).max(watched)),
            to: Some(ended.saturating_add(BEFORE)),
            ..svg::Options::default()
        };
        crate::timeline::write(path, &svg::svg(&timeline, &window))?;
    }
    reporter.finish();
    tell(&report, options, reporter)
}

fn tell(report: &Report, options: &RunExperiment, reporter: &Reporter) -> Result<(), Failure> {
    // A picture on standard output is all that is there.
    if options.svg.as_deref() != Some(Path::new("-")) {
        reporter.result(report, &report.text());
    }
    let Some(shortcoming) = report.shortcoming() else { return Ok(()) };
    let failure = Failure::new(Code::Data, format!("{}: {shortcoming}", report.experiment));
    Err(failure.next("`meshboot timeline --since -30m` tells what happened in the mesh"))
}

/// Reads a file, or one of those that come with the program.
fn open(name: &str, set: &[(String, String)]) -> Result<Experiment, Failure> {
    let set: BTreeMap<String, String> = set.iter().cloned().collect();
    let path = Path::new(name);
    let text = match Shipped::find(name) {
        Some(shipped) if !path.exists() => shipped.text.to_owned(),
        Some(_) | None => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the experiment {name}"))
            .or_fail(Code::Data)
            .map_err(|failure| {
                failure.next("`meshboot experiment list` shows those that come with the program")
            })?,
    };
    check::read(name, &text, &set).or_fail(Code::Data)
}

fn check(name: &str, set: &[(String, String)], reporter: &Reporter) -> Result<(), Failure> {
    let Experiment { steps, probes, expectations, .. } = open(name, set)?;
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let text = format!(
        "{name} is good: {}, {}, {}",
        count(steps.len(), "step"),
        count(probes.len(), "probe"),
        count(expectations.len(), "expectation")
    );
    reporter.result(&Good::ANSWER, &text);
    Ok(())
}

fn list(reporter: &Reporter) -> Result<(), Failure> {
    let mut experiments = Vec::new();
    for shipped in SHIPPED {
        let experiment = check::read(shipped.name, shipped.text, &BTreeMap::new()).or_fail(Code::Software)?;
        experiments.push(Row {
            name: shipped.name,
            title: experiment.title,
            machines: experiment.needs.machines,
            control_planes: experiment.needs.control_planes,
        });
    }
    let header = ["NAME", "MACHINES", "CONTROL PLANES", "WHAT"].map(str::to_owned);
    let lines = experiments.iter().map(|row| {
        [row.name.to_owned(), row.machines.to_string(), row.control_planes.to_string(), row.title.clone()]
    });
    let text = columns(&std::iter::once(header).chain(lines).collect::<Vec<_>>());
    reporter.result(&List { experiments }, &text);
    Ok(())
}

fn show(name: &str) -> Result<(), Failure> {
    let Some(shipped) = Shipped::find(name) else {
        let message = format!("no experiment `{name}` comes with the program");
        return Err(Failure::new(Code::Usage, message).next("meshboot experiment list"));
    };
    progress::out(shipped.text.trim_end());
    Ok(())
}

#[cfg(test)]
mod tests;
