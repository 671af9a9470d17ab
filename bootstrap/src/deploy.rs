//! `meshboot deploy`: a seed, and with libvirt the machines around it.
//!
//! Everything that can be refused is refused before anything is made. From then on `deployment.json` says what
//! there is, so whatever is interrupted can be torn down. What fails before the seed has power is removed at
//! once; later the machines are left as they are, to be looked at.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;

use anyhow::Context as _;
use hardware::accel::Probe;
use hardware::daemon::{self, Ensured};
use hardware::firmware::Firmware;
use hardware::plan::{DomainPlan, Layout, Object};
use hardware::{DeploymentId, Libvirt, MachineNumber, Plan, accel, host};
use ignition::KubernetesVersion;
use images::catalog::Catalog;
use images::registry::USER;
use mesh::plan::{MESH_REGISTRY, REGISTRY_PORT};
use schemars::JsonSchema;
use serde::Serialize;

use crate::deployment::{Deployment, Directory, Lock, seed_addresses};
use crate::exit::{Code, Failure, OrFail as _};
use crate::meshfile::MeshPlan;
use crate::progress::{Reporter, StageTime};
use crate::status::MachineView;
use crate::timeline::journal::{Act, Entry, Journal};
use crate::verbs::Context;
use crate::{deps, image, teardown};

pub mod check;
mod seed;
pub(crate) use seed::{REGISTRY_AUTHORITY, REGISTRY_PASSWORD};
pub mod usb;
pub(crate) mod wait;

/// What a deployment came to.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Summary {
    /// Every machine, the seed first.
    machines: Vec<MachineView>,
    /// How long each stage took.
    stages: Vec<StageTime>,
    /// How long all of it took.
    seconds: f64,
    /// What to do next.
    next: String,
}

/// Deploys a seed and machines on this computer.
///
/// # Errors
///
/// What failed, at which stage, and what to do next.
pub async fn libvirt(
    context: &Context,
    plan: MeshPlan,
    install_deps: bool,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let settings = &context.settings;
    reporter.stage("this computer");
    check::resources(context, &plan.wanted)?;
    let mut missing = deps::missing_for_libvirt(settings.libvirt.cpus).await;
    missing.extend(image::missing_tools(settings));
    deps::provide(&missing, install_deps, reporter).await?;
    let libvirt = Libvirt::default();
    let ensured = start_libvirt(&libvirt).await?;
    let mut site =
        Making { context, plan, libvirt: &libvirt, ensured, reporter, lock: None, recorded: false };
    match site.make().await {
        Ok((deployment, plan)) => site.start(deployment, &plan).await,
        Err(failure) => Err(site.undo(failure).await),
    }
}

pub(crate) async fn start_libvirt(libvirt: &Libvirt) -> Result<Ensured, Failure> {
    let started = daemon::ensure(&libvirt.virsh).await;
    started.or_fail(Code::Unavailable).map_err(|mut failure| {
        if failure.message().contains("let this user in") {
            failure.code = Code::NoPermission;
        }
        failure
    })
}

/// A deployment while it is made.
struct Making<'a> {
    context: &'a Context,
    plan: MeshPlan,
    libvirt: &'a Libvirt,
    ensured: Ensured,
    reporter: &'a Reporter,
    /// Nobody else changes the deployment until the machines are Ready.
    lock: Option<Lock>,
    /// Whether `deployment.json` is ours: before that nothing in the directory is.
    recorded: bool,
}

// === impl Making ===

impl Making<'_> {
    /// Everything up to the moment when the seed could be given power.
    async fn make(&mut self) -> Result<(Deployment, Plan), Failure> {
        let (settings, directory, reporter) =
            (&self.context.settings, &self.context.directory, self.reporter);
        check::no_deployment(directory, self.libvirt).await?;
        check::no_conflict(self.libvirt, directory, settings).await?;
        let firmware = Firmware::find().context("there is no OVMF").or_fail(Code::Unavailable)?;
        let probe = accel::probe(&firmware).await.or_fail(Code::Unavailable)?;
        self.say_accel(&probe);
        let control_planes = self.plan.wanted.control_planes();
        if let Some(few) = check::few_processors(control_planes, probe.accel, host::processors()) {
            reporter.warn(&few);
        }

        // Before others are made, for which they might have to make room.
        let own = image::own::provide(self.context, &self.plan.wanted.images(), reporter).await?;
        let catalog = image::obtain(self.context, reporter).await?;
        let kubernetes = catalog.kubernetes.parse::<KubernetesVersion>().or_fail(Code::Data)?;
        check::kubelets(&self.plan.wanted, kubernetes)?;
        own.check(settings.addresses.boot, kubernetes)?;
        self.plan.wanted.settle(kubernetes);
        let kubelets = self.plan.wanted.kubelets();
        let mut besides = image::kubelets::provide(self.context, &kubelets, reporter).await?;
        besides.extend(own.names()?);
        // That took minutes, in which nothing of ours kept libvirt from being stopped.
        let mut again = start_libvirt(self.libvirt).await?;
        again.take_over(&self.ensured);
        self.ensured = again;

        reporter.stage("keys and settings");
        directory.create().or_fail(Code::CannotCreate)?;
        self.lock = Some(directory.lock()?);
        let id = self.free_id().await?;
        let seed = self.plan.wanted.machines.first().context("a mesh has a seed").or_fail(Code::Software)?;
        let identity = seed::Identity::of_libvirt(id, settings, seed);
        let mut deployment =
            Deployment::new(id, identity.site.clone(), settings.addresses.clone(), identity.machine.clone());
        deployment.add(&self.plan.wanted, probe.accel);
        deployment.profile.clone_from(&self.plan.name);
        deployment.control_plane = self.plan.control_plane.clone();
        deployment.kubernetes = Some(kubernetes);
        deployment.libvirt = Some(self.ensured.clone());
        self.recorded = true;
        directory.save(&deployment).or_fail(Code::CannotCreate)?;
        directory.write("settings.toml", self.context.raw.to_toml()).or_fail(Code::Io)?;
        link_kubectl(directory, &catalog).or_fail(Code::Io)?;
        let uplink = seed::libvirt_uplink(id, &settings.libvirt);
        let mut reservations = deployment.reservations();
        own.enter(&mut reservations);
        let seed = seed::Seed {
            identity: &identity,
            uplink: Some(uplink),
            reservations,
            spec: deployment.machine(MachineNumber::SEED).map(|seed| seed.node.clone()).unwrap_or_default(),
            control_plane: self.plan.control_plane.clone(),
            catalog: &catalog,
            // A link of virtual machines is a network of its own with two ends.
            forced_links: BTreeSet::new(),
        };
        let ignition = seed.write(settings, directory).await?;

        reporter.stage("the seed's disk");
        let disk = Layout(directory.path()).disk(identity.machine.name.as_str());
        let target = image::Target::File(&disk, None);
        image::write_disk(self.context, &catalog, &besides, &ignition, &target, reporter).await?;

        let plan = Plan::new(&deployment.spec(directory, &settings.libvirt, firmware));
        self.make_objects(&plan).await?;
        Ok((deployment, plan))
    }

    /// Gives the machines power and waits until each is Ready.
    async fn start(&self, mut deployment: Deployment, plan: &Plan) -> Result<(), Failure> {
        let directory = &self.context.directory;
        let limit = self.context.settings.libvirt.timeout;
        let waiter = wait::Waiter::new(&deployment, plan, directory, limit, self.libvirt, self.reporter);
        let all = deployment.machines.iter().map(|machine| machine.number).collect();
        let machines = waiter.await?.run(all).await?;
        deployment.mark_complete();
        directory.save(&deployment).or_fail(Code::Io)?;
        let names = deployment.machines.iter().map(|machine| machine.name.to_string()).collect();
        Journal::append(directory, Entry::now(Act::Deployed { machines: names })).or_fail(Code::Io)?;
        let stages = self.reporter.finish();
        let next = format!("kubectl --kubeconfig {} get nodes", directory.kubeconfig().display());
        let seconds = self.reporter.elapsed().as_secs_f64();
        let (seed, _) = seed_addresses(&self.context.settings.libvirt);
        let mut text = summary_text(&machines, &stages, seconds, &next, directory);
        text.push_str(&format!(
            "  podman push IMAGE {seed}:{REGISTRY_PORT}/NAME  (user {USER}, {}/auth/registry*; it runs as {MESH_REGISTRY}/NAME)\n",
            directory.text()
        ));
        let observation = machines.machines;
        let summary = Summary { machines: observation, stages, seconds, next };
        self.reporter.result(&summary, &text);
        Ok(())
    }

    /// Removes what was made before the failure.
    async fn undo(&self, failure: Failure) -> Failure {
        let quiet = Reporter::silent();
        if !self.recorded {
            daemon::stop_if_unused(&self.libvirt.virsh, &self.ensured).await;
            return failure;
        }
        match teardown::remove(&self.context.directory, &quiet).await {
            Ok(_) => failure,
            Err(left) => {
                let message = format!("some of it is left ({})", left.message());
                failure.next(format!("{message}: ./teardown"))
            }
        }
    }

    async fn free_id(&self) -> Result<DeploymentId, Failure> {
        // Four hexadecimal digits stand in names: some tries are enough for any computer.
        for _ in 0..64 {
            let id = DeploymentId::random();
            if self.libvirt.is_free(id).await.or_fail(Code::Unavailable)? {
                return Ok(id);
            }
        }
        Err(Failure::new(Code::Unavailable, "there is no free name for another deployment on this computer"))
    }

    async fn make_objects(&self, plan: &Plan) -> Result<(), Failure> {
        self.reporter.stage("networks and machines");
        for object in &plan.objects {
            let made = self.libvirt.make(plan, object).await.or_fail(Code::Unavailable);
            made.map_err(|failure| match object {
                Object::Network(_) => failure.next(
                    "another network may use the same addresses: choose others with libvirt.host-v4, libvirt.host-v6 \
                     and [addresses] in the settings",
                ),
                Object::Volume(_) | Object::Domain(_) => failure,
            })?;
        }
        let (networks, domains) = (plan.networks().count(), plan.domains().count());
        self.reporter.line(&format!("{networks} networks, {domains} machines"));
        Ok(())
    }

    fn say_accel(&self, probe: &Probe) {
        match &probe.reason {
            None => self.reporter.line("processors: KVM"),
            Some(reason) => self.reporter.line(&format!("processors: {} ({reason})", probe.accel)),
        }
    }
}

/// `cluster/bin/kubectl`: the one that fits the cluster.
fn link_kubectl(directory: &Directory, catalog: &Catalog) -> anyhow::Result<()> {
    let bin = directory.path().join("bin");
    let what = || format!("cannot link kubectl into {}", bin.display());
    std::fs::create_dir_all(&bin).with_context(what)?;
    symlink(&catalog.kubectl, bin.join("kubectl")).with_context(what)
}

fn summary_text(
    observation: &crate::status::Observation,
    stages: &[StageTime],
    seconds: f64,
    next: &str,
    directory: &Directory,
) -> String {
    let mut text = observation.table();
    let times = stages.iter().map(|stage| format!("{} {:.0} s", stage.stage, stage.seconds));
    let times: Vec<String> = times.collect();
    text.push_str(&format!("\n{} in {seconds:.0} s: {}\n\n", "all Ready", times.join(", ")));
    text.push_str(&format!("  {next}\n"));
    text.push_str(&format!(
        "  (or {}/bin/kubectl, which is of the cluster's own version)\n",
        directory.text()
    ));
    text.push_str("  meshboot status\n  ./teardown\n");
    text
}

/// The log that says most about a machine.
fn console_hint(domain: &DomainPlan) -> String {
    format!("its console: {}", domain.console.display())
}
