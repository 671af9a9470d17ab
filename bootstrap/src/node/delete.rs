//! The end of a node: its pods leave, then Kubernetes, the ledger and this computer forget it.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hardware::Plan;
use hardware::libvirt::{Found, Kind};
use mesh::store::transact;
use mesh::{Change, NodeName};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::runtime::Handle;

use super::{Machines, cluster, cut_off, drain, duration};
use crate::cli::node::DeleteNode;
use crate::control_plane;
use crate::deployment::MachineRecord;
use crate::exit::{Code, Failure, OrFail as _};
use crate::fault;
use crate::join::Cluster;
use crate::progress::Reporter;
use crate::ssh::Ssh;
use crate::store::KubernetesStore;
use crate::timeline::journal::Act;
use crate::verbs::Context;

/// How long pods may take to leave, unless somebody says otherwise.
pub(super) const DRAIN_LIMIT: Duration = Duration::from_mins(5);

/// What was removed.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Removed {
    /// The machine's name.
    machine: String,
    /// What Kubernetes forgot.
    cluster: Vec<String>,
    /// What libvirt forgot.
    objects: Vec<String>,
    /// What was deleted.
    files: Vec<String>,
}

/// `node delete`.
pub(super) async fn run(context: &Context, options: &DeleteNode, reporter: &Reporter) -> Result<(), Failure> {
    let limit = duration(&options.drain_timeout, "--drain-timeout")?;
    let _lock = context.directory.lock()?;
    let mut machines = Machines::open(context, reporter).await?;
    let machine = machines.deployment.find(&options.name)?.clone();
    if machine.is_seed() {
        let message = "the seed has the cluster on its disk, and everybody boots through it";
        return Err(Failure::new(Code::Usage, message).next("./teardown removes all of the deployment"));
    }
    let behind = cut_off(&machines.deployment, machine.number);
    if !behind.is_empty() && !options.force {
        let message = format!("nothing but {} joins {} to the seed", machine.name, behind.join(", "));
        return Err(Failure::new(Code::Unavailable, message).next("delete those first, or say --force"));
    }
    let asked = cluster(machines.directory()).await;
    let cluster = match (asked, options.force) {
        (Ok(cluster), _) => Some(cluster),
        (Err(failure), true) => {
            reporter.warn(&format!("{}: its node and its addresses stay", failure.message()));
            None
        }
        (Err(failure), false) => {
            return Err(
                failure.next("wait until it answers, or say --force: then its node and its addresses stay")
            );
        }
    };
    // Before its pods leave for nowhere.
    let cluster = match cluster {
        Some(cluster) if control_plane::is_last(&cluster, &machine.name).await.or_fail(Code::TryAgain)? => {
            let failure = control_plane::last(&machine.name);
            if !options.force {
                return Err(failure);
            }
            reporter.warn(&failure.message());
            None
        }
        cluster => cluster,
    };
    let removed = machines.delete(&machine, cluster.as_ref(), limit, options.force).await?;
    reporter.finish();
    reporter.result(&removed, &removed.text());
    Ok(())
}

/// A control plane stops being one while it still runs: of two members of etcd the other alone could not remove it.
async fn retire(
    cluster: &Cluster,
    machine: &MachineRecord,
    force: bool,
    reporter: &Reporter,
) -> Result<(), Failure> {
    if !control_plane::is_control_plane(cluster, &machine.name).await.or_fail(Code::TryAgain)? {
        return Ok(());
    }
    reporter.stage(&format!("etcd of {}", machine.name));
    let waiting = |reason: &str, left| reporter.waiting(reason, left);
    match control_plane::leave(cluster, &machine.name, waiting).await {
        Err(failure) if force => {
            reporter.warn(&failure.message());
            Ok(())
        }
        left => left,
    }
}

/// Its node, its allocations, and the name that was reserved for it.
async fn forget(
    cluster: &Cluster,
    store: Arc<KubernetesStore>,
    machine: &MachineRecord,
    removed: &mut Removed,
) -> Result<(), Failure> {
    let name = &machine.name;
    // The node first: the machine is off, and nobody makes it again.
    if cluster.delete_node(name).await.or_fail(Code::TryAgain)? {
        removed.cluster.push(format!("Node {name}"));
    }
    if free(store, name).await? {
        removed.cluster.push(format!("Machine {name}"));
    }
    cluster.release(name).await.or_fail(Code::TryAgain)
}

/// Removes a machine and its links from the ledger; whether it was there. It is a change like all others: a Machine that is
/// only deleted may be what the newest change has just written, and whoever makes the next one writes it again.
async fn free(store: Arc<KubernetesStore>, name: &NodeName) -> Result<bool, Failure> {
    let machine = name.clone();
    let work = move || {
        transact(&*store, |ledger| {
            let id = ledger.machines().find(|one| one.name == machine).map(|one| one.id);
            Ok::<_, Infallible>((id.is_some(), id.map(Change::Remove)))
        })
    };
    let what = || format!("cannot remove the machine {name} from the ledger");
    let done = tokio::task::spawn_blocking(work).await.with_context(what).or_fail(Code::Software)?;
    done.with_context(what).or_fail(Code::TryAgain)
}

// === impl Machines ===

impl Machines<'_> {
    /// Ends a machine: its pods leave, and everybody forgets it. `force` is for pods that do not leave.
    pub(super) async fn delete(
        &mut self,
        machine: &MachineRecord,
        cluster: Option<&Cluster>,
        limit: Duration,
        force: bool,
    ) -> Result<Removed, Failure> {
        if let Some(cluster) = cluster {
            self.reporter.stage(&format!("pods of {}", machine.name));
            match drain::drain(cluster.client(), machine.name.as_str(), limit, self.reporter).await {
                Ok(()) => {}
                Err(failure) if force => self.reporter.warn(&failure.message()),
                Err(failure) => return Err(failure.next("look at the reason, or say --force")),
            }
        }
        if let Some(cluster) = cluster {
            retire(cluster, machine, force, self.reporter).await?;
        }
        self.reporter.stage(&format!("machine {}", machine.name));
        // So that nobody switches it on again.
        fault::forget_machine(self.directory(), &self.deployment, machine).await?;
        self.pull_plug(machine).await?;
        let mut removed = Removed { machine: machine.name.to_string(), ..Removed::default() };
        if let Some(cluster) = cluster {
            let kubeconfig = self.directory().kubeconfig();
            let store =
                KubernetesStore::new(kubeconfig, self.deployment.addresses.clone(), Handle::current());
            forget(cluster, Arc::new(store), machine, &mut removed).await?;
        }
        let rest = self.remove(machine).await?;
        removed.objects = rest.objects;
        removed.files = rest.files;
        self.note(Act::MachineDeleted { machine: machine.name.to_string() });
        Ok(removed)
    }

    /// Removes a machine that is off from this computer: its cables, the machine, its files, and last its record. Whatever
    /// is gone already is no mistake.
    pub(super) async fn remove(&mut self, machine: &MachineRecord) -> Result<Removed, Failure> {
        let mut removed = Removed { machine: machine.name.to_string(), ..Removed::default() };
        let spec = self.spec()?;
        let plan = Plan::of_machine(&spec, machine.number);
        let owner = self.directory().owner(self.deployment.id);
        let object = |kind, name: &str| Found { kind, name: name.to_owned(), owner: owner.clone() };

        // The other ends of its cables are loose ports again.
        let cables: Vec<_> = self.deployment.cables_of(machine.number).copied().collect();
        let mut loose = spec.clone();
        loose.cables.retain(|cable| cable.other_end(machine.number).is_none());
        for end in cables.iter().filter_map(|cable| cable.other_end(machine.number)) {
            let domain = self.deployment.id.domain(&self.deployment.name_of(end.machine));
            self.libvirt.plug(&domain, &loose.mesh_port(end)).await.or_fail(Code::Unavailable)?;
        }
        for domain in plan.domains() {
            self.libvirt.remove(&object(Kind::Domain, &domain.name)).await.or_fail(Code::Unavailable)?;
            removed.objects.push(format!("domain {}", domain.name));
        }
        for network in plan.networks() {
            self.libvirt.remove(&object(Kind::Network, &network.name)).await.or_fail(Code::Unavailable)?;
            removed.objects.push(format!("network {}", network.name));
        }
        for volume in plan.volumes() {
            match fs::remove_file(volume.path()) {
                Ok(()) => removed.files.push(volume.path().display().to_string()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let what = format!("cannot remove {}", volume.path().display());
                    return Err(anyhow::Error::new(error).context(what)).or_fail(Code::Io);
                }
            }
        }
        // Another machine of this name has another host key.
        Ssh::new(self.directory()).forget(machine.name.as_str()).or_fail(Code::Io)?;
        self.deployment.machines.retain(|other| other.number != machine.number);
        self.deployment.cables.retain(|cable| cable.other_end(machine.number).is_none());
        self.save()?;
        Ok(removed)
    }
}

// === impl Removed ===

impl Removed {
    fn text(&self) -> String {
        let parts =
            [("in the cluster", &self.cluster), ("in libvirt", &self.objects), ("files", &self.files)];
        let told = parts.into_iter().filter(|(_, names)| !names.is_empty());
        let lines = told.map(|(what, names)| format!("removed {what}: {}\n", names.join(", ")));
        format!("{}{} is gone; its name can be used again", lines.collect::<String>(), self.machine)
    }
}
