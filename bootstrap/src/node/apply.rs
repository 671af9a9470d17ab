//! A running mesh made to be what its file says: what differs is said first, and done in that order.
//!
//! What goes goes before what comes, for its ports and its memory may be wanted. A machine's power is cut only for what
//! it cannot have otherwise, one machine after the other.

use hardware::host::OVERHEAD_MIB;
use hardware::plan::Size;
use hardware::virsh::DomainState;
use hardware::{Cable, End};
use ignition::NodeSpec;
use schemars::JsonSchema;
use serde::Serialize;

use super::delete::DRAIN_LIMIT;
use super::power::OFF_LIMIT;
use super::{Machines, cluster, cut_off, drain, kubernetes};
use crate::deploy::check;
use crate::deployment::{Deployment, MachineRecord, WantedMachine};
use crate::exit::{Code, Failure, OrFail as _};
use crate::fault;
use crate::image;
use crate::meshfile::{Change, MeshPlan, Socket, changes};
use crate::progress::{self, Reporter};
use crate::settings::Raw;
use crate::verbs::{Context, tell};

/// A mesh that is as its file says.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Changed {
    /// How much differed.
    changed: usize,
}

/// How changes are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    /// They are only told.
    pub(crate) dry_run: bool,
    /// Nobody is asked whether machines may go.
    pub(crate) yes: bool,
}

/// Changes a running mesh.
pub(crate) async fn run(
    context: &Context,
    wanted: &MeshPlan,
    how: How,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let _lock = context.directory.lock()?;
    let deployment = context.directory.require()?;
    let path = context.directory.settings();
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let running = MeshPlan::of(&deployment, Raw::from_toml(&text, &path));
    let mut wanted = wanted.clone();
    if !wanted.wanted.kubelets().is_empty() {
        let mesh = kubernetes(&deployment, &context.directory).await?;
        check::kubelets(&wanted.wanted, mesh)?;
        wanted.wanted.settle(mesh);
    }
    let wanted = &wanted;
    let mut all = changes(&running, wanted);
    let gone: Vec<String> = all.iter().filter_map(Change::removed).map(str::to_owned).collect();
    let pending = deployment.machines.iter().filter(|machine| machine.pending);
    let pending: Vec<MachineRecord> =
        pending.filter(|machine| !gone.iter().any(|name| name == machine.name.as_str())).cloned().collect();
    all.extend(pending.iter().map(|machine| Change::Finish { name: machine.name.to_string() }));
    all.sort();
    tell(&all, how.dry_run, reporter);
    let impossible = all.iter().filter(|change| change.is_impossible()).count();
    if impossible > 0 {
        let message = format!("{impossible} of these changes cannot be had while the mesh runs");
        let next = "take them back in the file; or `meshboot teardown`, then deploy the file anew";
        return Err(Failure::new(Code::Config, message).next(next));
    }
    if how.dry_run || all.is_empty() {
        return Ok(());
    }
    fault::require_none(&context.directory, "a mesh is changed where nothing is broken")?;
    if !gone.is_empty() && !how.yes {
        let names = gone.join(", ");
        progress::confirm(&format!("{names}: gone for good, with all that is on their disks."), "the mesh")?;
    }
    let mut machines = Machines::open(context, reporter).await?;
    machines.check_room(wanted).await?;
    // First: among them may be the seed.
    if !pending.is_empty() {
        machines.bring(&pending, None).await?;
    }
    let new = &wanted.wanted.kubelets() - &running.wanted.kubelets();
    image::kubelets::bring(context, &deployment, &new, reporter).await?;
    let new = &wanted.wanted.images() - &running.wanted.images();
    if !new.is_empty() {
        let mesh = kubernetes(&deployment, &context.directory).await?;
        image::own::bring(context, &deployment, &new, mesh, reporter).await?;
    }
    machines.change(wanted, &all).await?;
    context.directory.write("settings.toml", context.raw.to_toml()).or_fail(Code::Io)?;
    reporter.finish();
    let text = format!("the mesh is as its file says; {} changes", all.len());
    reporter.result(&Changed { changed: all.len() }, &text);
    Ok(())
}

// === impl Machines ===

impl Machines<'_> {
    /// Memory and disk for the machines that come, and for those that grow, before anything goes. What goes and what
    /// grows gives back what it has.
    async fn check_room(&self, wanted: &MeshPlan) -> Result<(), Failure> {
        let (mut sizes, mut freed) = (Vec::new(), 0);
        for machine in &wanted.wanted.machines {
            let known = self.deployment.find(machine.name.as_str()).ok();
            if known.is_none_or(|known| known.size.memory_mib != machine.memory_mib) {
                sizes.push(machine.memory_mib);
            }
        }
        for known in &self.deployment.machines {
            let stays = wanted
                .wanted
                .machines
                .iter()
                .any(|machine| machine.name == known.name && machine.memory_mib == known.size.memory_mib);
            if !stays && self.state(known).await? == DomainState::Running {
                freed += u64::from(known.size.memory_mib) + OVERHEAD_MIB;
            }
        }
        check::room_for_more(self.context, &sizes, freed)
    }

    async fn change(&mut self, wanted: &MeshPlan, all: &[Change]) -> Result<(), Failure> {
        let cluster = cluster(self.directory()).await?;
        let mut going: Vec<MachineRecord> = Vec::new();
        for name in all.iter().filter_map(Change::removed) {
            going.push(self.deployment.find(name)?.clone());
        }
        // No pod moves from one that goes to another that goes.
        for machine in &going {
            drain::cordon(cluster.client(), machine.name.as_str()).await?;
        }
        while !going.is_empty() {
            let machine = going.swap_remove(outermost(&self.deployment, &going));
            self.delete(&machine, Some(&cluster), DRAIN_LIMIT, false).await?;
        }
        for change in all {
            if let Change::RemoveCable { near, far } = change {
                let ends = [self.end(near)?, self.end(far)?];
                let is_it = |cable: &&Cable| ends.iter().all(|end| cable.ends().contains(end));
                if let Some(cable) = self.deployment.cables.iter().find(is_it).copied() {
                    self.take_away(&cable).await?;
                }
            }
        }
        self.add_all(wanted).await?;
        for machine in &wanted.wanted.machines {
            self.adjust(machine).await?;
        }
        Ok(())
    }

    /// Machines from the seed outwards, each plugged into those that are there already, and every other cable.
    async fn add_all(&mut self, plan: &MeshPlan) -> Result<(), Failure> {
        let mut added = Vec::new();
        for cable in &plan.wanted.cables {
            let Some(machine) = named(plan, cable.far) else { continue };
            if self.deployment.find(machine.name.as_str()).is_ok() {
                continue;
            }
            self.reporter.stage(&format!("machine {}", machine.name));
            let plugs = self.plugs(plan, machine);
            added.push(self.add(machine, &plugs).await?);
        }
        for cable in &plan.wanted.cables {
            let (near, far) = (self.end_of(plan, cable.near)?, self.end_of(plan, cable.far)?);
            let is_there = |known: &Cable| known.ends().contains(&near) && known.ends().contains(&far);
            if !self.deployment.cables.iter().any(is_there) {
                self.lay(near, far).await?;
            }
        }
        if !added.is_empty() {
            self.bring(&added, None).await?;
        }
        Ok(())
    }

    /// The cables of a new machine to those that are there: each one's end there, and the machine's own port.
    fn plugs(&self, plan: &MeshPlan, machine: &WantedMachine) -> Vec<(End, u8)> {
        let is_own = |end: End| named(plan, end).is_some_and(|other| other.name == machine.name);
        let cables =
            plan.wanted.cables.iter().filter_map(|cable| match (is_own(cable.near), is_own(cable.far)) {
                (true, _) => Some((cable.far, cable.near.port)),
                (_, true) => Some((cable.near, cable.far.port)),
                (false, false) => None,
            });
        cables.filter_map(|(there, port)| Some((self.end_of(plan, there).ok()?, port))).collect()
    }

    /// What a machine that stays is given, and what its node is to be.
    async fn adjust(&mut self, wanted: &WantedMachine) -> Result<(), Failure> {
        let machine = self.deployment.find(wanted.name.as_str())?.clone();
        let size = Size { memory_mib: wanted.memory_mib, cpus: wanted.cpus.unwrap_or(machine.size.cpus) };
        if machine.node == wanted.node && size == machine.size {
            return Ok(());
        }
        let kubelet =
            |node: &NodeSpec| (node.kubernetes_version, node.feature_gates.clone(), node.kubelet.clone());
        let restarts =
            kubelet(&machine.node) != kubelet(&wanted.node) || machine.node.image != wanted.node.image;
        if machine.node != wanted.node {
            self.reporter.stage(&format!("node {}", machine.name));
            self.want(&machine, &wanted.node).await?;
        }
        if size != machine.size {
            self.resize(machine.number, size).await?;
        }
        if size != machine.size || restarts {
            self.power_cycle(&machine).await?;
        }
        // Last: what came to nothing on the way differs from the file still, and the next `deploy` does all of it again.
        for record in self.deployment.machines.iter_mut().filter(|record| record.number == machine.number) {
            record.node = wanted.node.clone();
        }
        self.save()
    }

    async fn power_cycle(&mut self, machine: &MachineRecord) -> Result<(), Failure> {
        self.reporter.stage(&format!("power of {}", machine.name));
        let all = std::slice::from_ref(machine);
        self.press_button(machine).await?;
        if self.wait_until_off(all, OFF_LIMIT).await.is_err() {
            self.pull_plug(machine).await?;
        }
        self.bring(all, None).await.map(drop)
    }

    fn end(&self, socket: &Socket) -> Result<End, Failure> {
        Ok(End { machine: self.deployment.find(&socket.machine)?.number, port: socket.port })
    }

    /// An end of the plan as the deployment numbers it.
    fn end_of(&self, plan: &MeshPlan, end: End) -> Result<End, Failure> {
        let name = named(plan, end).map(|machine| machine.name.to_string()).unwrap_or_default();
        Ok(End { machine: self.deployment.find(&name)?.number, port: end.port })
    }
}

/// Of those that go one that cuts nobody off, so that each leaves while it can still be reached. There is none where a
/// machine that stays is behind them: it gets its new cable when they are gone.
fn outermost(deployment: &Deployment, going: &[MachineRecord]) -> usize {
    going.iter().position(|machine| cut_off(deployment, machine.number).is_empty()).unwrap_or_default()
}

/// The machine at an end of one of the plan's cables.
fn named(plan: &MeshPlan, end: End) -> Option<&WantedMachine> {
    plan.wanted.machines.get(usize::from(end.machine.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::sample;

    #[test]
    fn nobody_is_cut_off_by_one_that_goes_before_it() {
        let mut deployment = sample(12);
        let mut going: Vec<MachineRecord> =
            deployment.machines.iter().filter(|machine| machine.number.0 > 1).cloned().collect();
        while !going.is_empty() {
            let machine = going.swap_remove(outermost(&deployment, &going));
            assert!(cut_off(&deployment, machine.number).is_empty(), "{} goes too early", machine.name);
            deployment.cables.retain(|cable| cable.other_end(machine.number).is_none());
            deployment.machines.retain(|other| other.number != machine.number);
        }
        // Whoever stays behind one that goes does not keep it.
        let between = [sample(4).find("node1").unwrap().clone()];
        assert_eq!(outermost(&sample(4), &between), 0);
    }
}
