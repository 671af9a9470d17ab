//! Gives machines power, one after the other as their neighbours can serve them, and waits until each is Ready.
//!
//! A machine that was a node before is Ready when Kubernetes says so of another boot than before: it goes on calling a
//! machine Ready for most of a minute after its power was cut.
//!
//! Firmware that nobody answers keeps a processor busy for nothing, so a machine is started when the machine
//! before it serves. In software emulation, where processors are what lacks, that machine must have joined the cluster
//! too, and only as many boot at once as there are processors beside the seed's: what a machine does between joining and
//! Ready leaves room for the next one's firmware.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hardware::plan::DomainPlan;
use hardware::virsh::DomainState;
use hardware::{Accel, Libvirt, MachineNumber, Plan, host};
use mesh::NodeName;
use tokio::time::sleep;

use super::console_hint;
use crate::control_plane::{Board, MemberState};
use crate::deployment::{Deployment, Directory};
use crate::exit::{Code, Failure, OrFail as _};
use crate::fault;
use crate::progress::Reporter;
use crate::status::{MachineView, Observation, Observer};

/// Witnesses are asked this often: none of them calls by itself.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long libvirt may be silent, as while it is restarted: machines run on without it.
const LIBVIRT_LIMIT: Duration = Duration::from_mins(1);

/// Waits for machines of one deployment.
pub(crate) struct Waiter<'a> {
    plan: &'a Plan,
    directory: Directory,
    observer: Observer,
    libvirt: &'a Libvirt,
    reporter: &'a Reporter,
    limit: Duration,
    emulated: bool,
    /// The machines that are to become control planes, by the names of their nodes. None if they make an even number with
    /// the seed: one of those waits for another.
    control_planes: BTreeMap<MachineNumber, NodeName>,
}

/// What has happened so far.
#[derive(Debug, Default)]
struct Course {
    wanted: BTreeSet<MachineNumber>,
    /// The boots that Kubernetes knew of before.
    before: BTreeMap<MachineNumber, String>,
    started: BTreeMap<MachineNumber, Instant>,
    ready: BTreeSet<MachineNumber>,
    /// Whether that was all of them, and control planes are waited for.
    all_ready: bool,
    /// Since when libvirt has not answered.
    silent: Option<Instant>,
}

// === impl Waiter ===

impl<'a> Waiter<'a> {
    /// A waiter for machines of `plan`, which holds all of the deployment's.
    pub(crate) async fn new(
        deployment: &Deployment,
        plan: &'a Plan,
        directory: &Directory,
        limit: Duration,
        libvirt: &'a Libvirt,
        reporter: &'a Reporter,
    ) -> Result<Self, Failure> {
        let emulated = plan.domains().any(|domain| domain.accel == Accel::Tcg);
        let observer = Observer::new(deployment, directory).await?;
        let directory = directory.clone();
        let control_planes = deployment.machines.iter().filter(|machine| machine.node.control_plane);
        let mut control_planes: BTreeMap<_, _> =
            control_planes.map(|machine| (machine.number, machine.name.clone())).collect();
        if !control_planes.len().is_multiple_of(2) {
            control_planes.clear();
        }
        Ok(Self { plan, directory, observer, libvirt, reporter, limit, emulated, control_planes })
    }

    /// Gives the machines that are `wanted` power. Returns when each is Ready, with what the witnesses last said.
    pub(crate) async fn run(&self, wanted: BTreeSet<MachineNumber>) -> Result<Observation, Failure> {
        let begun = Instant::now();
        let mut course = Course { wanted, ..Course::default() };
        if course.wanted.contains(&MachineNumber::SEED) {
            self.reporter.stage("the seed");
        } else {
            self.reporter.stage("the machines");
            let boots = self.observer.observe().await.machines.into_iter();
            let boots = boots.filter_map(|machine| Some((MachineNumber(machine.number?), machine.boot?)));
            // Those that are not wanted stay as they are, and serve.
            course.before = boots.filter(|(number, _)| course.wanted.contains(number)).collect();
        }
        if course.wanted.contains(&MachineNumber::SEED) {
            self.start(MachineNumber::SEED, &mut course).await?;
        }
        loop {
            let observation = self.observer.observe().await;
            self.note_ready(&observation, &mut course);
            let becoming = self.becoming(&observation, &course);
            if course.ready == course.wanted {
                if becoming.is_empty() {
                    return Ok(observation);
                }
                if !std::mem::replace(&mut course.all_ready, true) {
                    self.reporter.stage("the control planes");
                }
            }
            self.start_next(&observation, &mut course).await?;
            self.check_power(&mut course).await?;
            let Some(left) = self.limit.checked_sub(begun.elapsed()) else {
                return Err(self.too_late(&observation, &course));
            };
            let waits = match course.ready == course.wanted {
                true => control_plane_line(&observation),
                false => waits_for(&observation, &course),
            };
            self.reporter.waiting(&waits, left);
            sleep(INTERVAL.min(left)).await;
        }
    }

    /// The machines of this course that are to be control planes and are not.
    fn becoming(&self, observation: &Observation, course: &Course) -> Vec<&NodeName> {
        let is_well = |name: &NodeName| {
            let board = observation.control_planes.as_ref();
            let state = board.and_then(|board| board.members.get(name.as_str()));
            state == Some(&MemberState::Well)
        };
        let wanted = self.control_planes.iter().filter(|(number, _)| course.wanted.contains(number));
        wanted.map(|(_, name)| name).filter(|name| !is_well(name)).collect()
    }

    async fn start(&self, number: MachineNumber, course: &mut Course) -> Result<(), Failure> {
        let domain = self.domain(number)?;
        if self.libvirt.virsh.state(&domain.name).await.or_fail(Code::Unavailable)? == DomainState::Running {
            course.before.remove(&number);
            course.started.insert(number, Instant::now());
            self.reporter.line(&format!("{} has power already", domain.machine_name));
            return Ok(());
        }
        let started = self.libvirt.virsh.start_domain(&domain.name).await.or_fail(Code::Unavailable);
        started.map_err(|failure| failure.next("look at the reason, then ./teardown"))?;
        fault::switched_on(&self.directory, &domain.machine_name, &domain.name, self.reporter).await;
        course.started.insert(number, Instant::now());
        self.reporter.line(&format!("{} has power ({})", domain.machine_name, console_hint(domain)));
        Ok(())
    }

    fn note_ready(&self, observation: &Observation, course: &mut Course) {
        let ready = observation.machines.iter().filter(|machine| machine.ready == Some(true));
        for machine in ready {
            let Some(number) = machine.number.map(MachineNumber) else { continue };
            let again =
                course.before.get(&number).is_some_and(|before| machine.boot.as_ref() == Some(before));
            let is_new = course.wanted.contains(&number) && !again && course.ready.insert(number);
            if !is_new {
                continue;
            }
            let seconds = course.started.get(&number).map_or(0, |started| started.elapsed().as_secs());
            let served = machine.served_by.as_ref().map(|by| format!(", served by {by}")).unwrap_or_default();
            self.reporter.line(&format!("{} is Ready after {seconds} s{served}", machine.name));
            if number == MachineNumber::SEED && course.wanted.len() > 1 {
                self.reporter.stage("the machines");
            }
        }
    }

    /// Starts every machine that a neighbour can serve, as far as processors go.
    async fn start_next(&self, observation: &Observation, course: &mut Course) -> Result<(), Failure> {
        // One processor is the seed's, which every machine that joins keeps busy.
        let at_once = if self.emulated { host::processors().saturating_sub(1).max(1) } else { usize::MAX };
        let known = |number: MachineNumber| {
            let joined = |machine: &MachineView| {
                machine.ready.is_some() && machine.boot.as_ref() != course.before.get(&number)
            };
            observation.machine(number).is_some_and(joined)
        };
        let serves = |number: MachineNumber| {
            let settled = !self.emulated || known(number);
            settled && observation.machine(number).is_some_and(|machine| machine.serves)
        };
        let cables = self.plan.cables.iter();
        let ends = cables.flat_map(|cable| [(cable.near, cable.far), (cable.far, cable.near)]);
        let served: BTreeSet<MachineNumber> =
            ends.filter(|(near, _)| serves(near.machine)).map(|(_, far)| far.machine).collect();
        let waiting: Vec<MachineNumber> = served
            .into_iter()
            .filter(|number| course.wanted.contains(number) && !course.started.contains_key(number))
            .collect();
        let booting = course.started.keys().filter(|number| !known(**number)).count();
        for number in waiting.into_iter().take(at_once.saturating_sub(booting)) {
            self.start(number, course).await?;
        }
        Ok(())
    }

    /// A machine that lost its power, or that its emulator gave up, never becomes Ready.
    async fn check_power(&self, course: &mut Course) -> Result<(), Failure> {
        let running = match self.libvirt.virsh.running_domains().await {
            Ok(running) => running,
            Err(error) => {
                let since = *course.silent.get_or_insert_with(Instant::now);
                if since.elapsed() < LIBVIRT_LIMIT {
                    tracing::warn!(%error, "libvirt does not answer");
                    return Ok(());
                }
                let next = "start libvirt; `meshboot status` shows whether the machines still come";
                return Err(error).or_fail(Code::Unavailable).map_err(|failure| failure.next(next));
            }
        };
        course.silent = None;
        for number in course.started.keys() {
            let domain = self.domain(*number)?;
            if running.contains(&domain.name) {
                continue;
            }
            let state = self.libvirt.virsh.state(&domain.name).await.or_fail(Code::Unavailable)?;
            if state != DomainState::Running {
                let message = format!("{} stopped running while it booted: it is {state}", domain.name);
                let next = format!("{}, and /var/log/libvirt/qemu/{}.log", console_hint(domain), domain.name);
                return Err(Failure::new(Code::Unavailable, message).next(next));
            }
        }
        Ok(())
    }

    fn too_late(&self, observation: &Observation, course: &Course) -> Failure {
        if course.ready == course.wanted {
            let (minutes, line) = (self.limit.as_secs() / 60, control_plane_line(observation));
            let message = format!("not every control plane was one within {minutes} minutes: {line}");
            let next = "`meshboot status` shows whether they still become it; ./teardown removes them";
            return Failure::new(Code::TryAgain, message).next(next);
        }
        let is_wanted = |machine: &&MachineView| {
            machine.number.is_some_and(|number| course.wanted.contains(&MachineNumber(number)))
        };
        let late = observation.machines.iter().filter(is_wanted).filter(|machine| !is_ready(machine, course));
        let late: Vec<String> = late.map(describe).collect();
        let minutes = self.limit.as_secs() / 60;
        let message = format!("not every machine was Ready within {minutes} minutes: {}", late.join("; "));
        let first = course.started.keys().find(|number| !course.ready.contains(number));
        let console =
            first.and_then(|number| self.domain(*number).ok()).map(console_hint).unwrap_or_default();
        let next =
            format!("{console}; `meshboot status` shows whether they still come; ./teardown removes them");
        Failure::new(Code::TryAgain, message).next(next)
    }

    fn domain(&self, number: MachineNumber) -> Result<&DomainPlan, Failure> {
        let found = self.plan.domains().find(|domain| domain.machine == number);
        found.ok_or_else(|| Failure::new(Code::Software, format!("the plan has no {}", number.usual_name())))
    }
}

fn control_plane_line(observation: &Observation) -> String {
    let line = observation.control_planes.as_ref().and_then(Board::line);
    line.unwrap_or_else(|| "no control plane has said yet what it sees".to_owned())
}

fn is_ready(machine: &MachineView, course: &Course) -> bool {
    machine.number.is_some_and(|number| course.ready.contains(&MachineNumber(number)))
}

fn describe(machine: &MachineView) -> String {
    let reason = machine.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{} is at `{}`{reason}", machine.name, machine.stage_word())
}

/// One line for those that have power and are not Ready.
fn waits_for(observation: &Observation, course: &Course) -> String {
    let booting = observation.machines.iter().filter(|machine| {
        machine.number.is_some_and(|number| course.started.contains_key(&MachineNumber(number)))
            && !is_ready(machine, course)
    });
    let booting: Vec<String> = booting.map(describe).collect();
    if booting.is_empty() {
        "waiting for the next machine's neighbour".to_owned()
    } else {
        booting.join("; ")
    }
}
