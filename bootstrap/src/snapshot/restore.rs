//! Puts a mesh back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hardware::firmware::Firmware;
use hardware::libvirt::{Found, Kind};
use hardware::plan::{Layout, Object};
use hardware::{Libvirt, Plan};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::sleep;

use super::save::copy;
use super::{Place, Record, check_room, libvirt_of, require_no_faults, taken};
use crate::deployment::Deployment;
use crate::exit::{Code, Failure, OrFail as _};
use crate::progress::Reporter;
use crate::settings;
use crate::ssh::Ssh;
use crate::status::{MachineView, Observation, Observer};
use crate::timeline::journal::{Act, Entry, Journal};
use crate::verbs::Context;

/// Witnesses are asked this often: none of them calls by itself.
const INTERVAL: Duration = Duration::from_secs(1);

/// A mesh that was put back.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Restored {
    restored: String,
    /// How long that took, until all were Ready that ran.
    seconds: f64,
    /// Every machine, the seed first.
    machines: Vec<MachineView>,
}

/// `snapshot restore`.
pub(super) async fn run(
    context: &Context,
    name: &str,
    timeout: &str,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let limit = settings::duration(timeout)
        .map_err(|problem| Failure::new(Code::Usage, format!("--timeout: {problem}")))?;
    let directory = &context.directory;
    let _lock = directory.lock()?;
    require_no_faults(directory)?;
    let now = directory.require()?;
    let place = Place::of(directory, name);
    let Some(record) = place.load()? else { return Err(place.missing(directory)) };
    if record.deployment.id != now.id {
        let message =
            format!("the snapshot {name} is of another deployment than the one in {}", directory.text());
        return Err(Failure::new(Code::Data, message));
    }
    let libvirt = libvirt_of(&now, directory).await?;
    let layout = Layout(directory.path());
    let disks = record.deployment.machines.iter().map(|machine| taken(&place.disk(machine))).sum();
    let there = now.machines.iter().map(|machine| taken(&layout.disk(machine.name.as_str()))).sum();
    check_room(directory.path(), u64::saturating_sub(disks, there))?;

    let restoring = Restoring { context, libvirt: &libvirt, place: &place, record: &record, reporter };
    let deployment = restoring.put_back(&now, layout).await?;
    let text = format!("snapshot {name} restored");
    Journal::append(directory, Entry::now(Act::Noted { machines: Vec::new(), text })).or_fail(Code::Io)?;
    let observation = restoring.wait(&deployment, limit).await?;
    reporter.finish();
    let seconds = reporter.elapsed().as_secs_f64();
    let text = format!("{}\n{name} is back after {seconds:.0} s", observation.table());
    reporter.result(&Restored { restored: name.to_owned(), seconds, machines: observation.machines }, &text);
    Ok(())
}

struct Restoring<'a> {
    context: &'a Context,
    libvirt: &'a Libvirt,
    place: &'a Place,
    record: &'a Record,
    reporter: &'a Reporter,
}

// === impl Restoring ===

impl Restoring<'_> {
    /// Ends what is there, and makes what was.
    async fn put_back(&self, now: &Deployment, layout: Layout<'_>) -> Result<Deployment, Failure> {
        let directory = &self.context.directory;
        self.reporter.stage("power off");
        for machine in &now.machines {
            self.libvirt.power_off(&now.domain(machine)).await.or_fail(Code::Unavailable)?;
        }
        self.reporter.stage("machines and cables");
        let mut deployment = self.record.deployment.clone();
        // Numbers that were given since are not given again.
        deployment.next_machine = deployment.next_machine.max(now.next_machine);
        deployment.next_cable = deployment.next_cable.max(now.next_cable);
        self.change_objects(now, &deployment).await?;
        directory.save(&deployment).or_fail(Code::Io)?;

        self.reporter.stage("disks");
        for machine in &deployment.machines {
            let name = machine.name.as_str();
            copy(&self.place.disk(machine), &layout.disk(name)).await?;
            copy(&self.place.nvram(machine), &layout.nvram(name)).await?;
        }
        // Host keys are on the disks: whoever was installed anew since has its old one again.
        let ssh = Ssh::new(directory);
        for machine in &deployment.machines {
            ssh.forget(machine.name.as_str()).or_fail(Code::Io)?;
        }
        self.reporter.stage("memory");
        let powered = self.record.powered.iter().filter_map(|powered| {
            let machine = deployment.machine(powered.machine)?;
            Some((machine, powered.running))
        });
        let powered: Vec<_> = powered.collect();
        for (machine, _) in &powered {
            self.reporter.line(machine.name.as_str());
            self.libvirt.virsh.restore_domain(&self.place.memory(machine)).await.or_fail(Code::Io)?;
        }
        for (machine, running) in &powered {
            if *running {
                let domain = deployment.domain(machine);
                self.libvirt.virsh.resume_domain(&domain).await.or_fail(Code::Unavailable)?;
            }
        }
        Ok(deployment)
    }

    /// Machines and cables that came since go, those that went come back. All machines are off.
    async fn change_objects(&self, now: &Deployment, then: &Deployment) -> Result<(), Failure> {
        let directory = &self.context.directory;
        let firmware = Firmware::find().context("there is no OVMF").or_fail(Code::Unavailable)?;
        let plan = |deployment: &Deployment| {
            Plan::new(&deployment.spec(directory, &self.context.settings.libvirt, firmware.clone()))
        };
        let (present, wanted) = (plan(now), plan(then));
        let names =
            |plan: &Plan| -> BTreeSet<(Kind, String)> { plan.objects.iter().filter_map(name_of).collect() };
        let (there, needed) = (names(&present), names(&wanted));
        let owner = directory.owner(now.id);
        for (kind, name) in there.difference(&needed) {
            let found = Found { kind: *kind, name: name.clone(), owner: owner.clone() };
            self.libvirt.remove(&found).await.or_fail(Code::Unavailable)?;
        }
        for object in &wanted.objects {
            let Some(named) = name_of(object) else {
                continue;
            };
            // A network that is there is the same cable; a domain's description may have another cable in a port.
            if named.0 == Kind::Domain || !there.contains(&named) {
                self.libvirt.make(&wanted, object).await.or_fail(Code::Unavailable)?;
            }
        }
        Ok(())
    }

    /// Waits until every machine is Ready that ran.
    async fn wait(&self, deployment: &Deployment, limit: Duration) -> Result<Observation, Failure> {
        let begun = Instant::now();
        self.reporter.stage("the mesh");
        let observer = Observer::new(deployment, &self.context.directory).await?;
        let ran: BTreeSet<u16> = self
            .record
            .powered
            .iter()
            .filter(|powered| powered.running)
            .map(|powered| powered.machine.0)
            .collect();
        loop {
            let observation = observer.observe().await;
            let is_late = |machine: &&MachineView| {
                machine.number.is_some_and(|number| ran.contains(&number)) && machine.ready != Some(true)
            };
            let late: Vec<String> = observation
                .machines
                .iter()
                .filter(is_late)
                .map(|machine| {
                    let reason = machine.reason.clone().unwrap_or_else(|| machine.stage_word());
                    format!("{}: {reason}", machine.name)
                })
                .collect();
            if late.is_empty() {
                return Ok(observation);
            }
            let Some(left) = limit.checked_sub(begun.elapsed()) else {
                let message = format!("not Ready within {} s: {}", limit.as_secs(), late.join("; "));
                return Err(
                    Failure::new(Code::TryAgain, message).next("`meshboot status` shows whether they come")
                );
            };
            self.reporter.waiting(&late.join("; "), left);
            sleep(INTERVAL.min(left)).await;
        }
    }
}

fn name_of(object: &Object) -> Option<(Kind, String)> {
    match object {
        Object::Network(network) => Some((Kind::Network, network.name.clone())),
        Object::Domain(domain) => Some((Kind::Domain, domain.name.clone())),
        Object::Volume(_) => None,
    }
}
