//! `meshboot node`: the machines of a deployment, one by one.
//!
//! Power verbs are honest: what is stopped has no power, and what is started is the machine that it was, with its name, its
//! block and its addresses. Nothing is drained or joined anew for that. Only `delete` ends a node.
//!
//! One command at a time changes a deployment ([`Directory::lock`]). A machine is in the record before anything of it is
//! made, and leaves it after all of it is gone: whatever is interrupted in between, `node delete` finds it again.

use std::time::Duration;

use anyhow::Context as _;
use hardware::firmware::Firmware;
use hardware::{Libvirt, MachineNumber, Plan, Spec};
use ignition::KubernetesVersion;

use crate::cli::node::Node;
use crate::deploy::start_libvirt;
use crate::deployment::{Deployment, Directory, MachineRecord};
use crate::exit::{Code, Failure, OrFail as _};
use crate::fault;
use crate::join::Cluster;
use crate::progress::Reporter;
use crate::settings;
use crate::timeline::journal::{Act, Entry, Journal};
use crate::verbs::Context;

mod add;
pub(crate) mod apply;
mod change;
mod delete;
mod drain;
mod list;
mod power;
mod reach;

pub(crate) use add::{Added, Reserved};
pub(crate) use apply::Changed;
pub(crate) use delete::Removed;
pub(crate) use list::{Address, List};
pub(crate) use power::{Started, Stopped};
pub(crate) use reach::{AllSaid, Saved};

/// Does what the verb says.
///
/// # Errors
///
/// What failed, and what to do next.
pub async fn run(context: &Context, verb: &Node, reporter: &Reporter) -> Result<(), Failure> {
    fault::tend(&context.directory, reporter).await;
    match verb {
        Node::List => list::list(context, reporter).await,
        Node::Status { name } => list::status(context, name.as_deref(), reporter).await,
        Node::Ip { name } => list::ip(context, name, reporter).await,
        Node::Add(options) => add::run(context, options, reporter).await,
        Node::Start(options) => power::start(context, options, reporter).await,
        Node::Stop(options) => power::stop(context, options, reporter).await,
        Node::Reinstall { name, timeout } => {
            power::reinstall(context, name, timeout.as_deref(), reporter).await
        }
        Node::Delete(options) => delete::run(context, options, reporter).await,
        Node::Ssh { name, command } => reach::ssh(context, name, command).await,
        Node::Cp { from, to } => reach::copy(context, from, to).await,
        Node::Console { name } => reach::console(context, name).await,
        Node::Logs(options) => reach::logs(context, options, reporter).await,
    }
}

/// The virtual machines of a deployment, and the libvirt that they are in.
struct Machines<'a> {
    context: &'a Context,
    deployment: Deployment,
    libvirt: Libvirt,
    reporter: &'a Reporter,
}

// === impl Machines ===

impl<'a> Machines<'a> {
    /// Of the deployment that the command line names.
    async fn open(context: &'a Context, reporter: &'a Reporter) -> Result<Self, Failure> {
        let deployment = context.directory.require()?;
        if let Some(stick) = &deployment.stick {
            let message = format!(
                "the machines of {} are real ones: their power and their cables are in your hands",
                context.directory.text()
            );
            let next = format!(
                "press the button, or plug the cable; the seed boots from {}, the others through their neighbours",
                stick.display()
            );
            return Err(Failure::new(Code::Unavailable, message).next(next));
        }
        let libvirt = Libvirt::default();
        start_libvirt(&libvirt).await?;
        Ok(Self { context, deployment, libvirt, reporter })
    }

    fn directory(&self) -> &Directory {
        &self.context.directory
    }

    fn spec(&self) -> Result<Spec, Failure> {
        let firmware = Firmware::find().context("there is no OVMF").or_fail(Code::Unavailable)?;
        Ok(self.deployment.spec(self.directory(), &self.context.settings.libvirt, firmware))
    }

    fn save(&self) -> Result<(), Failure> {
        self.directory().save(&self.deployment).or_fail(Code::Io)
    }

    fn note(&self, act: Act) {
        // What was done is done; that it is not in the timeline is no reason to call it failed.
        if let Err(error) = Journal::append(self.directory(), Entry::now(act)) {
            self.reporter.warn(&format!("{error:#}"));
        }
    }

    /// The machines that are named, or all, those nearest to the seed first.
    fn chosen(&self, names: &[String], all: bool) -> Result<Vec<MachineRecord>, Failure> {
        if all {
            return Ok(self.deployment.machines.clone());
        }
        let (found, missing): (Vec<_>, Vec<_>) =
            names.iter().map(|name| self.deployment.find(name)).partition(Result::is_ok);
        if let Some(failure) = missing.into_iter().find_map(Result::err) {
            return Err(failure);
        }
        let mut found: Vec<MachineRecord> = found.into_iter().filter_map(Result::ok).cloned().collect();
        found.sort_by_key(|machine| machine.number);
        found.dedup_by_key(|machine| machine.number);
        Ok(found)
    }

    /// The plan of the whole deployment.
    fn plan(&self) -> Result<Plan, Failure> {
        Ok(Plan::new(&self.spec()?))
    }
}

/// The cluster's API server, asked as its administrator.
async fn cluster(directory: &Directory) -> Result<Cluster, Failure> {
    let cluster = Cluster::open(&directory.kubeconfig()).await.or_fail(Code::Unavailable)?;
    let answered = cluster.ping().await.or_fail(Code::TryAgain);
    answered.map_err(|failure| failure.next("`meshboot status` says what the seed waits for"))?;
    Ok(cluster)
}

/// The mesh's Kubernetes: what was written down when it was made, or what its API server says.
async fn kubernetes(deployment: &Deployment, directory: &Directory) -> Result<KubernetesVersion, Failure> {
    match deployment.kubernetes {
        Some(version) => Ok(version),
        None => cluster(directory).await?.version().await.or_fail(Code::TryAgain),
    }
}

/// A time that an option gives.
fn duration(text: &str, option: &str) -> Result<Duration, Failure> {
    settings::duration(text).map_err(|problem| Failure::new(Code::Usage, format!("{option}: {problem}")))
}

/// The machines that nothing but `without` joins to the seed, by name.
fn cut_off(deployment: &Deployment, without: MachineNumber) -> Vec<String> {
    let left: Vec<_> =
        deployment.cables.iter().filter(|cable| cable.other_end(without).is_none()).copied().collect();
    let reached = hardware::topology::reached(&left);
    let machines = deployment.machines.iter().filter(|machine| machine.number != without);
    let lost = machines.filter(|machine| !machine.is_seed() && !reached.contains(&machine.number));
    lost.map(|machine| machine.name.to_string()).collect()
}

#[cfg(test)]
mod tests;
