//! Runs an experiment on a mesh: does what its course says, and tells what happened.
//!
//! A signal ends an experiment, and what was done is put right all the same; a second one ends the program. Should it be
//! killed, its faults end by themselves after the time that the experiment may take at most.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::time::sleep;

use super::condition::{Condition, Witness};
use super::course::{Act, Course, Input};
use super::plan::{Asker, Experiment, Probe};
use super::probe::Running;
use super::report::Report;
use super::trace::Trace;
use super::witness::Witnesses;
use crate::cli::fault::Fault;
use crate::deployment::Deployment;
use crate::exit::{Code, Failure, OrFail as _};
use crate::fault;
use crate::fault::words::Wish;
use crate::progress::Reporter;
use crate::signals::Signals;
use crate::ssh::Ssh;
use crate::status::Observer;
use crate::timeline::journal::{Act as Noted, Entry, Journal};
use crate::timeline::kubernetes::live::{Recorder, Recording};
use crate::timeline::micros;
use crate::verbs::Context;

/// All nodes and pods of a small cluster are told of at once.
const RECORDER_LIMIT: Duration = Duration::from_secs(30);
/// What a node asked while it could not be reached comes when TCP tries again, a minute after at most.
const TELLING: Duration = Duration::from_mins(2);
/// Probes are looked at this often: each writes down by itself.
const LOOK: Duration = Duration::from_millis(500);
/// What makes a node a control plane; the first is what Kubernetes before 1.20 had.
const CONTROL_PLANES: [&str; 2] = ["node-role.kubernetes.io/master", "node-role.kubernetes.io/control-plane"];

/// Where an experiment is run.
pub(super) struct Stage<'a> {
    context: &'a Context,
    deployment: Deployment,
    witnesses: Witnesses,
    recorder: Recorder,
    reporter: &'a Reporter,
    probes: Vec<Probe>,
    running: BTreeMap<String, Running>,
    begun: Instant,
    /// How long a fault stands at most, should nobody undo it.
    longest: Duration,
}

// === impl Stage ===

impl<'a> Stage<'a> {
    /// The stage for an experiment, if the mesh has what it takes.
    pub(super) async fn open(
        context: &'a Context,
        experiment: &Experiment,
        reporter: &'a Reporter,
    ) -> Result<Self, Failure> {
        let directory = &context.directory;
        let deployment = directory.require()?;
        fault::tend(directory, reporter).await;
        fault::require_none(directory, "an experiment begins with a mesh in which nothing is broken")?;
        let observer = Observer::new(&deployment, directory).await?;
        let Some(client) = observer.kubernetes().cloned() else {
            let message = format!("there is no kubeconfig in {}", directory.text());
            return Err(Failure::new(Code::Unavailable, message).next("meshboot status"));
        };
        enough(experiment, &client).await?;
        let recorder = Recorder::start(&client);
        let ssh = Ssh::new(directory);
        let authority = directory.pki().join("ca.crt");
        let authority = std::fs::read(&authority)
            .with_context(|| format!("cannot read {}", authority.display()))
            .or_fail(Code::Io)?;
        let witnesses = Witnesses::new(&observer, client, ssh, &deployment.addresses, authority).await;
        let witnesses = witnesses.map_err(anyhow::Error::msg).or_fail(Code::Unavailable)?;
        if !recorder.ready(RECORDER_LIMIT).await {
            reporter.warn("the API server does not tell of its nodes and pods; the timeline will lack them");
        }
        Ok(Self {
            context,
            deployment,
            witnesses,
            recorder,
            reporter,
            probes: experiment.probes.clone(),
            running: BTreeMap::new(),
            begun: Instant::now(),
            longest: experiment.longest(),
        })
    }

    /// Goes through the experiment to its end, whichever that is.
    pub(super) async fn perform(
        mut self,
        experiment: &Experiment,
    ) -> Result<(Report, Option<Recording>), Failure> {
        let mut signals = Signals::new()?;
        let began = micros();
        self.begun = Instant::now();
        self.note(format!("experiment {} begins", experiment.name));
        let mut course = Course::new(experiment.steps.clone());
        let (mut input, mut interrupted, mut told) = (Input::Done, false, None);
        loop {
            let act = course.next(input, self.begun.elapsed());
            let step = course.step().map(ToString::to_string);
            if step != told {
                self.reporter.stage(step.as_deref().unwrap_or("putting right what was done"));
                told = step;
            }
            // Undoing is never left off.
            let stops =
                interrupted && course.step().is_some() && !matches!(act, Act::Undo(_) | Act::Untaint(_));
            input = if stops {
                Input::Interrupted
            } else {
                match act {
                    Act::End => break,
                    Act::Sleep(_) | Act::Ask(_) => tokio::select! {
                        input = self.act(&act) => input,
                        _ = signals.next() => {
                            interrupted = true;
                            Input::Interrupted
                        }
                    },
                    Act::Make(_)
                    | Act::Undo(_)
                    | Act::Taint(_)
                    | Act::Untaint(_)
                    | Act::Create(_)
                    | Act::Remove(_)
                    | Act::Begin(_) => {
                        let (input, signal) = self.wholly(&act, &mut signals, interrupted).await?;
                        interrupted |= signal;
                        input
                    }
                }
            };
        }
        let took = self.begun.elapsed();
        self.note(format!("experiment {} is over", experiment.name));
        let traces = self.all_told(experiment, &course, took).await;
        let report = Report::new(experiment, &course, &traces, (began, took));
        Ok((report, Some(self.recorder.finish().await)))
    }

    /// What came of the probes, when nodes that could not be reached have told what they asked meanwhile: for so long.
    async fn all_told(
        &self,
        experiment: &Experiment,
        course: &Course,
        took: Duration,
    ) -> BTreeMap<String, Trace> {
        let begun = Instant::now();
        loop {
            let traces = self.running.iter().map(|(name, running)| (name.clone(), running.trace())).collect();
            let left = TELLING.saturating_sub(begun.elapsed());
            // What failed anyway is not waited for.
            let is_over = left.is_zero() || course.failure.is_some();
            if is_over || Report::is_told(experiment, &course.marks, &traces, took) {
                return traces;
            }
            self.reporter.waiting("what nodes asked while they could not be reached", left);
            sleep(LOOK.min(left)).await;
        }
    }

    /// Does something that must not be done by half. Whether a signal came meanwhile; a second one is obeyed at once.
    async fn wholly(
        &mut self,
        act: &Act,
        signals: &mut Signals,
        before: bool,
    ) -> Result<(Input, bool), Failure> {
        let mut came = false;
        let mut doing = std::pin::pin!(self.act(act));
        loop {
            tokio::select! {
                input = &mut doing => return Ok((input, came)),
                _ = signals.next() => {
                    if before || came {
                        let message = "interrupted twice: what was done is not put right";
                        return Err(Failure::new(Code::TryAgain, message).next("meshboot fault clear --all"));
                    }
                    came = true;
                }
            }
        }
    }

    async fn act(&mut self, act: &Act) -> Input {
        let done = |done: Result<(), String>| match done {
            Ok(()) => Input::Done,
            Err(reason) => Input::Failed(reason),
        };
        match act {
            Act::Make(words) => self.make(words).await.unwrap_or_else(Input::Failed),
            Act::Undo(id) => done(self.undo(id).await),
            Act::Taint(tainted) => done(self.witnesses.taint(tainted).await),
            Act::Untaint(tainted) => done(self.witnesses.untaint(tainted).await),
            Act::Create(object) => done(self.witnesses.create(object).await),
            Act::Remove(object) => done(self.witnesses.remove(object).await),
            Act::Begin(probe) => done(self.begin(probe).await),
            Act::Sleep(time) => {
                sleep(*time).await;
                Input::Done
            }
            Act::Ask(condition) => {
                let witness = if let Condition::Calm { probe, .. } = condition {
                    self.calm(probe)
                } else {
                    self.witnesses.ask(condition).await
                };
                match condition.holds(&witness) {
                    Ok(()) => Input::Done,
                    Err(reason) => {
                        self.reporter.waiting(&reason, self.longest);
                        Input::NotYet(reason)
                    }
                }
            }
            Act::End => Input::Done,
        }
    }

    /// What a probe that goes on has to say. What is asked and not answered yet counts when its time is over.
    fn calm(&self, probe: &str) -> Witness {
        let calm = |running: &Running| Witness::Calm(running.trace().answered_for());
        let absent = || Witness::Silent(format!("the probe `{probe}` has not begun"));
        self.running.get(probe).map_or_else(absent, calm)
    }

    async fn make(&self, words: &Fault) -> Result<Input, String> {
        let failed = |failure: Failure| failure.message();
        match fault::wish(self.context, &self.deployment, words).await.map_err(failed)? {
            Wish::Make { asked, lasts, .. } => {
                // An end of its own, should this program never come to undo it.
                let lasts = (!asked.is_momentary()).then(|| lasts.unwrap_or(self.longest));
                let made = fault::make(self.context, &self.deployment, asked, lasts).await.map_err(failed)?;
                Ok(Input::Made(made.id.to_string()))
            }
            Wish::Heal(_) | Wish::Thaw(_) => Err("these words make no fault".to_owned()),
        }
    }

    async fn undo(&self, id: &str) -> Result<(), String> {
        let id = id.parse().map_err(|error: fault::record::FaultIdError| error.to_string())?;
        fault::end(&self.context.directory, id).await.map(drop).map_err(|failure| failure.message())
    }

    async fn begin(&mut self, name: &str) -> Result<(), String> {
        let probe = self.probes.iter().find(|probe| probe.name == name).cloned();
        let probe = probe.ok_or_else(|| format!("there is no probe `{name}`"))?;
        let url = self.witnesses.fill_in(&probe.url).await?;
        let running = match &probe.from {
            Asker::Host => Running::from_host(&probe, url, self.witnesses.client(probe.timeout)?, self.begun),
            Asker::Node(node) => {
                let host = self.witnesses.host(node)?;
                Running::from_node(&probe, &url, self.witnesses.ssh(), host, self.begun)
            }
        };
        // What happens before it asks would go unseen.
        if !running.begins().await {
            return Err(format!("the probe `{name}` did not ask once in a minute: who asks lets nobody in"));
        }
        self.running.insert(probe.name, running);
        Ok(())
    }

    fn note(&self, text: String) {
        let noted = Noted::Noted { machines: Vec::new(), text };
        if let Err(error) = Journal::append(&self.context.directory, Entry::now(noted)) {
            self.reporter.warn(&format!("{error:#}"));
        }
    }
}

/// Whether the mesh has what the experiment takes.
async fn enough(experiment: &Experiment, client: &kube::Client) -> Result<(), Failure> {
    let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(client.clone());
    let nodes = nodes.list(&kube::api::ListParams::default()).await.or_fail(Code::TryAgain)?.items;
    let is_control_plane = |node: &&k8s_openapi::api::core::v1::Node| {
        let labels = node.metadata.labels.as_ref();
        labels.is_some_and(|labels| CONTROL_PLANES.iter().any(|label| labels.contains_key(*label)))
    };
    let (machines, control_planes) = (nodes.len(), nodes.iter().filter(is_control_plane).count());
    let needs = experiment.needs;
    if machines >= needs.machines && control_planes >= needs.control_planes {
        return Ok(());
    }
    let message = format!(
        "{} takes {} nodes, {} of them control planes, and there are {machines} and {control_planes}",
        experiment.name, needs.machines, needs.control_planes
    );
    let others = needs.machines.saturating_sub(1);
    let next = match needs.control_planes {
        0 | 1 => format!("./deploy libvirt {others}"),
        // So that any one may be lost.
        many => format!("./deploy libvirt {others} --topology ring --control-planes {many}"),
    };
    Err(Failure::new(Code::Unavailable, message).next(next))
}
