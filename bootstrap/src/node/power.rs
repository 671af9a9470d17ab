//! Power: on, off, and on with an empty disk.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hardware::plan::Object;
use hardware::virsh::DomainState;
use hardware::{MachineNumber, Plan};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::sleep;

use super::{Machines, cluster, duration};
use crate::cli::node::{StartNodes, StopNodes};
use crate::control_plane;
use crate::deploy::wait::Waiter;
use crate::deployment::MachineRecord;
use crate::exit::{Code, Failure, OrFail as _};
use crate::fault;
use crate::progress::Reporter;
use crate::ssh::Ssh;
use crate::status::Observation;
use crate::timeline::journal::Act;
use crate::verbs::Context;

/// How long a machine may take to shut down, unless somebody says otherwise.
pub(super) const OFF_LIMIT: Duration = Duration::from_mins(3);
/// libvirt is asked this often whether a machine is off.
const INTERVAL: Duration = Duration::from_secs(1);

/// Machines that have power, and that nobody waited for.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Started {
    started: Vec<String>,
}

/// Machines that are off.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Stopped {
    stopped: Vec<String>,
}

/// `node start`.
pub(super) async fn start(
    context: &Context,
    options: &StartNodes,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let limit = time_to_be_ready(options.timeout.as_deref())?;
    let _lock = context.directory.lock()?;
    let mut machines = Machines::open(context, reporter).await?;
    let chosen = machines.chosen(&options.names, options.all)?;
    let mut off = Vec::new();
    for machine in &chosen {
        match machines.state(machine).await? {
            DomainState::Off => off.push(machine.clone()),
            DomainState::Running => reporter.line(&format!("{} has power", machine.name)),
            DomainState::Missing => return Err(machines.missing(machine)),
            DomainState::Other(words) => {
                let message = format!("{} is {words}, and can be started when it is off", machine.name);
                let next = format!("`meshboot node stop --hard {}`", machine.name);
                return Err(Failure::new(Code::Unavailable, message).next(next));
            }
        }
    }
    if options.no_wait {
        for machine in &off {
            let domain = machines.deployment.domain(machine);
            machines.libvirt.virsh.start_domain(&domain).await.or_fail(Code::Unavailable)?;
            fault::switched_on(&context.directory, machine.name.as_str(), &domain, reporter).await;
            machines.note(Act::MachineStarted { machine: machine.name.to_string() });
        }
        let started: Vec<String> = chosen.iter().map(|machine| machine.name.to_string()).collect();
        let text = format!("{} has power", started.join(", "));
        reporter.result(&Started { started }, &text);
        return Ok(());
    }
    let observation = machines.bring(&off, limit).await?;
    finish(&chosen, &observation, reporter);
    Ok(())
}

/// `node stop`.
pub(super) async fn stop(context: &Context, options: &StopNodes, reporter: &Reporter) -> Result<(), Failure> {
    let limit = duration(&options.timeout, "--timeout")?;
    let _lock = context.directory.lock()?;
    let machines = Machines::open(context, reporter).await?;
    let mut chosen = machines.chosen(&options.names, options.all)?;
    // The seed last: the others say goodbye to its API server.
    chosen.reverse();
    reporter.stage("power off");
    for machine in &chosen {
        if options.hard {
            machines.pull_plug(machine).await?;
        } else {
            machines.press_button(machine).await?;
        }
    }
    machines.wait_until_off(&chosen, limit).await?;
    for machine in &chosen {
        machines.note(Act::MachineStopped { machine: machine.name.to_string(), hard: options.hard });
    }
    reporter.finish();
    let stopped: Vec<String> = chosen.iter().map(|machine| machine.name.to_string()).collect();
    let text = format!("{}: off", stopped.join(", "));
    reporter.result(&Stopped { stopped }, &text);
    Ok(())
}

/// `node reinstall`.
pub(super) async fn reinstall(
    context: &Context,
    name: &str,
    timeout: Option<&str>,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let limit = time_to_be_ready(timeout)?;
    let _lock = context.directory.lock()?;
    let mut machines = Machines::open(context, reporter).await?;
    let machine = machines.deployment.find(name)?.clone();
    if machine.is_seed() {
        let message = "the seed's disk has the cluster on it: there would be nothing left to join";
        return Err(Failure::new(Code::Usage, message).next("./teardown, then deploy again"));
    }
    if machine.node.control_plane {
        let cluster = cluster(machines.directory()).await?;
        if !control_plane::spares(&cluster, &machine.name).await.or_fail(Code::TryAgain)? {
            let message = format!(
                "{name} has a copy of the cluster on its disk, and too few others that answer have one"
            );
            let next = "`meshboot status` shows the control planes";
            return Err(Failure::new(Code::Unavailable, message).next(next));
        }
    }
    reporter.stage("an empty disk");
    machines.pull_plug(&machine).await?;
    machines.wipe(&machine).await?;
    machines.note(Act::Noted { machines: vec![name.to_owned()], text: "reinstalled".to_owned() });
    let observation = machines.bring(std::slice::from_ref(&machine), limit).await?;
    finish(&[machine], &observation, reporter);
    Ok(())
}

/// How long machines may take to be Ready, where the command line says that. It is read before anything is done.
pub(super) fn time_to_be_ready(timeout: Option<&str>) -> Result<Option<Duration>, Failure> {
    timeout.map(|text| duration(text, "--timeout")).transpose()
}

/// Says what the machines came to.
pub(super) fn finish(machines: &[MachineRecord], observation: &Observation, reporter: &Reporter) {
    reporter.finish();
    let is_one = |number: Option<u16>| machines.iter().any(|machine| Some(machine.number.0) == number);
    let mut shown = observation.clone();
    shown.machines.retain(|machine| is_one(machine.number));
    reporter.result(&shown, &shown.table());
}

// === impl Machines ===

impl Machines<'_> {
    pub(super) async fn state(&self, machine: &MachineRecord) -> Result<DomainState, Failure> {
        self.libvirt.virsh.state(&self.deployment.domain(machine)).await.or_fail(Code::Unavailable)
    }

    fn missing(&self, machine: &MachineRecord) -> Failure {
        let message =
            format!("libvirt has no {}: its making was interrupted", self.deployment.domain(machine));
        Failure::new(Code::Data, message).next(format!("`meshboot node delete {}`", machine.name))
    }

    /// Gives machines power, as their neighbours can serve them, and waits until each is Ready.
    pub(super) async fn bring(
        &mut self,
        machines: &[MachineRecord],
        limit: Option<Duration>,
    ) -> Result<Observation, Failure> {
        let limit = limit.unwrap_or(self.context.settings.libvirt.timeout);
        let plan = self.plan()?;
        let waiter =
            Waiter::new(&self.deployment, &plan, self.directory(), limit, &self.libvirt, self.reporter);
        let numbers: BTreeSet<MachineNumber> = machines.iter().map(|machine| machine.number).collect();
        let observation = waiter.await?.run(numbers).await?;
        for machine in machines {
            self.note(Act::MachineStarted { machine: machine.name.to_string() });
        }
        let is_one = |number| machines.iter().any(|machine| machine.number == number);
        for machine in self.deployment.machines.iter_mut().filter(|machine| is_one(machine.number)) {
            machine.pending = false;
        }
        // With the last of them a deployment that ran out of time has come to its end.
        self.deployment.complete |= self.deployment.machines.iter().all(|machine| !machine.pending);
        self.save()?;
        Ok(observation)
    }

    pub(super) async fn press_button(&self, machine: &MachineRecord) -> Result<(), Failure> {
        match self.state(machine).await? {
            DomainState::Running => {
                let domain = self.deployment.domain(machine);
                self.libvirt.virsh.shutdown_domain(&domain).await.or_fail(Code::Unavailable)?;
                self.reporter.line(&format!("{} is told to shut down", machine.name));
                Ok(())
            }
            DomainState::Off | DomainState::Missing => Ok(()),
            DomainState::Other(words) => {
                let message = format!("{} is {words}, and hears no button", machine.name);
                let next = format!("`meshboot node stop --hard {}`", machine.name);
                Err(Failure::new(Code::Unavailable, message).next(next))
            }
        }
    }

    pub(super) async fn pull_plug(&self, machine: &MachineRecord) -> Result<(), Failure> {
        match self.state(machine).await? {
            DomainState::Off | DomainState::Missing => Ok(()),
            DomainState::Running | DomainState::Other(_) => {
                self.reporter.line(&format!("the plug of {} is pulled", machine.name));
                let domain = self.deployment.domain(machine);
                self.libvirt.power_off(&domain).await.or_fail(Code::Unavailable)
            }
        }
    }

    pub(super) async fn wait_until_off(
        &self,
        machines: &[MachineRecord],
        limit: Duration,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let mut on = Vec::new();
            for machine in machines {
                if !matches!(self.state(machine).await?, DomainState::Off | DomainState::Missing) {
                    on.push(machine.name.as_str());
                }
            }
            if on.is_empty() {
                return Ok(());
            }
            let names = on.join(", ");
            let Some(left) = limit.checked_sub(begun.elapsed()) else {
                let message = format!("{names}: still on after {} s", limit.as_secs());
                let next = format!("`meshboot node logs --console {}`, or pull the plug with --hard", on[0]);
                return Err(Failure::new(Code::TryAgain, message).next(next));
            };
            self.reporter.waiting(&format!("{names} shuts down"), left);
            sleep(INTERVAL.min(left)).await;
        }
    }

    /// Makes a machine that is off as blank as it was made: an empty disk, and firmware that was never started.
    pub(super) async fn wipe(&self, machine: &MachineRecord) -> Result<(), Failure> {
        let spec = self.spec()?;
        let plan = Plan::of_machine(&spec, machine.number);
        for volume in plan.volumes() {
            let object = Object::Volume(volume.clone());
            self.libvirt.make(&plan, &object).await.or_fail(Code::Io)?;
        }
        // Its host key was on the disk.
        Ssh::new(self.directory()).forget(machine.name.as_str()).or_fail(Code::Io)
    }
}
