//! One machine more, plugged into one that is there.

use hardware::plan::{MAX_PORTS, Object};
use hardware::topology::MAX_MACHINES;
use hardware::{Cable, End, MachineNumber, Plan};
use ignition::{ImageId, KubernetesVersion, NodeSpec, Taint};
use mesh::NodeName;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Machines, cluster, kubernetes, power};
use crate::cli::node::{AddNode, NodeSpecOptions, Role};
use crate::deploy::check;
use crate::deployment::{Deployment, MachineRecord, WantedMachine};
use crate::exit::{Code, Failure, OrFail as _};
use crate::image;
use crate::progress::Reporter;
use crate::settings::{self, LibvirtSettings};
use crate::store::crds::Which;
use crate::timeline::journal::Act;
use crate::verbs::Context;

/// A machine that was added and has power, and that nobody waited for.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Added {
    added: NodeName,
}

/// A name for a machine of metal that is to come.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Reserved {
    reserved: NodeName,
}

/// `node add`.
pub(super) async fn run(context: &Context, options: &AddNode, reporter: &Reporter) -> Result<(), Failure> {
    let limit = power::time_to_be_ready(options.timeout.as_deref())?;
    let _lock = context.directory.lock()?;
    let deployment = context.directory.require()?;
    if deployment.stick.is_some() {
        return reserve(context, &deployment, options, reporter).await;
    }
    if options.mac.is_some() || options.uuid.is_some() {
        let message = "--mac and --uuid are for machines of metal: a virtual one is given its own";
        return Err(Failure::new(Code::Usage, message));
    }
    let mut wanted = wanted(&deployment, &context.settings.libvirt, options)?;
    check_kubelet(context, &deployment, &mut wanted.node).await?;
    let near = ends(&deployment, &options.plug_into)?;
    if near.len() > usize::from(wanted.ports) {
        let message = format!("{} has {} ports, and {} cables", wanted.name, wanted.ports, near.len());
        return Err(Failure::new(Code::Usage, message).next("more ports with --ports"));
    }
    check::room_for_another(context, wanted.memory_mib)?;
    let mut machines = Machines::open(context, reporter).await?;
    bring(context, &deployment, &wanted.node, reporter).await?;
    reporter.stage("the machine");
    let plugs: Vec<(End, u8)> = near.into_iter().zip(0..).collect();
    let record = machines.add(&wanted, &plugs).await?;
    if options.no_wait {
        machines.give_power(&record).await?;
        let text = format!("{} boots; `meshboot why {}` tells how far it is", record.name, record.name);
        reporter.result(&Added { added: record.name }, &text);
        return Ok(());
    }
    let observation = machines.bring(std::slice::from_ref(&record), limit).await?;
    power::finish(&[record], &observation, reporter);
    Ok(())
}

/// On metal a machine is added by plugging it in; what can be said before is what it will be called, and what its node
/// is to be.
async fn reserve(
    context: &Context,
    deployment: &Deployment,
    options: &AddNode,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let which = match (options.uuid, options.mac) {
        (Some(uuid), _) => Which::Uuid(uuid),
        (None, Some(mac)) => Which::Mac(mac),
        (None, None) => {
            let message = "the machines of this deployment are real ones: a machine is added by plugging it into a running one";
            let next = "plug it in; to give it a name before: `meshboot node add NAME --mac MAC`";
            return Err(Failure::new(Code::Usage, message).next(next));
        }
    };
    let Some(name) = &options.name else {
        return Err(Failure::new(Code::Usage, "what is the machine to be called?")
            .next("`meshboot node add NAME --mac MAC`"));
    };
    let mut spec = spec(&options.wanted)?;
    check_kubelet(context, deployment, &mut spec).await?;
    bring(context, deployment, &spec, reporter).await?;
    let wanted = image::own::reservation(context, name, &spec)?;
    cluster(&context.directory).await?.reserve(which, &wanted).await.or_fail(Code::Unavailable)?;
    let text = format!("{name} is reserved: plug the machine into any running one and turn it on");
    reporter.result(&Reserved { reserved: name.clone() }, &text);
    Ok(())
}

/// Brings to the seed what the machine wants besides what all have.
async fn bring(
    context: &Context,
    deployment: &Deployment,
    node: &NodeSpec,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let kubelet = node.kubernetes_version.into_iter().collect();
    image::kubelets::bring(context, deployment, &kubelet, reporter).await?;
    let Some(id) = &node.image else { return Ok(()) };
    let mesh = kubernetes(deployment, &context.directory).await?;
    image::own::bring(context, deployment, &[id.clone()].into(), mesh, reporter).await
}

/// Refuses a kubelet that does not go with the mesh's Kubernetes, and forgets of one that it is of the mesh's own version.
async fn check_kubelet(
    context: &Context,
    deployment: &Deployment,
    node: &mut NodeSpec,
) -> Result<(), Failure> {
    let Some(kubelet) = node.kubernetes_version else { return Ok(()) };
    let mesh = kubernetes(deployment, &context.directory).await?;
    mesh.takes_kubelet(kubelet)
        .map_err(|error| Failure::new(Code::Usage, format!("--kubernetes-version: {error}")))?;
    node.kubernetes_version = node.own_kubelet(mesh);
    Ok(())
}

/// The machine that the options ask for.
fn wanted(
    deployment: &Deployment,
    settings: &LibvirtSettings,
    options: &AddNode,
) -> Result<WantedMachine, Failure> {
    let number = MachineNumber(deployment.next_machine);
    if number.0 > MAX_MACHINES {
        let message =
            format!("this deployment has given {MAX_MACHINES} machines their numbers, and there are no more");
        return Err(Failure::new(Code::CannotCreate, message));
    }
    let wrong = |option: &'static str| {
        move |problem: String| Failure::new(Code::Usage, format!("{option}: {problem}"))
    };
    let mut wanted = WantedMachine::usual(settings, number);
    let taken = |name: &NodeName| deployment.machines.iter().any(|machine| machine.name == *name);
    match &options.name {
        Some(name) if taken(name) => {
            return Err(Failure::new(Code::CannotCreate, format!("there is a machine `{name}` already")));
        }
        Some(name) => wanted.name = name.clone(),
        None => {
            let usual = (number.0..=MAX_MACHINES).map(|number| MachineNumber(number).usual_name());
            let names = usual.filter_map(|name| name.parse().ok());
            let free = names.into_iter().find(|name| !taken(name));
            wanted.name = free.ok_or_else(|| Failure::new(Code::CannotCreate, "no usual name is free"))?;
        }
    }
    if options.wanted.role == Role::ControlPlane {
        wanted.memory_mib = wanted.memory_mib.max(settings.seed_memory_mib);
    }
    if let Some(text) = &options.memory {
        wanted.memory_mib = settings::memory_mib(text).map_err(wrong("--memory"))?;
    }
    if let Some(text) = &options.cpus {
        wanted.cpus = settings::cpus(text).map_err(wrong("--cpus"))?;
    }
    if let Some(text) = &options.disk_size {
        wanted.disk = settings::size(text).map_err(wrong("--disk-size"))?;
    }
    if let Some(ports) = options.ports {
        if !(1..=MAX_PORTS).contains(&ports) {
            return Err(wrong("--ports")(format!("a virtual machine has 1 to {MAX_PORTS}")));
        }
        wanted.ports = ports;
    }
    wanted.node = spec(&options.wanted)?;
    Ok(wanted)
}

/// What is wanted of a node, or every mistake in it.
pub(super) fn spec(options: &NodeSpecOptions) -> Result<NodeSpec, Failure> {
    let mut mistakes = Vec::new();
    let mut spec = NodeSpec { control_plane: options.role == Role::ControlPlane, ..NodeSpec::default() };
    if let Some(text) = &options.kubernetes_version {
        match text.parse::<KubernetesVersion>() {
            Ok(version) => spec.kubernetes_version = Some(version),
            Err(error) => mistakes.push(format!("--kubernetes-version: {error}")),
        }
    }
    if let Some(text) = &options.image {
        match text.parse::<ImageId>() {
            Ok(id) => spec.image = Some(id),
            Err(error) => mistakes.push(format!("--image: {error}")),
        }
    }
    for label in &options.label {
        match label.split_once('=') {
            Some((key, value)) => drop(spec.labels.insert(key.to_owned(), value.to_owned())),
            None => mistakes.push(format!("--label {label}: it is not KEY=VALUE")),
        }
    }
    for taint in &options.taint {
        match taint.parse::<Taint>() {
            Ok(taint) => spec.taints.push(taint),
            Err(error) => mistakes.push(format!("--taint: {error}")),
        }
    }
    for gate in &options.feature_gates {
        match gate.split_once('=').map(|(name, on)| (name, on.parse())) {
            Some((name, Ok(on))) => drop(spec.feature_gates.insert(name.to_owned(), on)),
            Some((_, Err(_))) | None => {
                mistakes.push(format!("--feature-gates {gate}: it is not GATE=true or GATE=false"));
            }
        }
    }
    for argument in &options.extra_config {
        match argument.strip_prefix("kubelet.").and_then(|rest| rest.split_once('=')) {
            Some((name, value)) => drop(spec.kubelet.insert(name.to_owned(), value.to_owned())),
            None => mistakes.push(format!(
                "--extra-config {argument}: it is not kubelet.KEY=VALUE, and a node has no other component of its own"
            )),
        }
    }
    mistakes.extend(spec.mistakes().iter().map(ToString::to_string));
    match mistakes.as_slice() {
        [] => Ok(spec),
        [only] => Err(Failure::new(Code::Usage, only.clone())),
        many => Err(Failure::new(Code::Usage, format!("{} mistakes:\n  {}", many.len(), many.join("\n  ")))),
    }
}

/// The ports that the words name, or one of whoever has fewest cables.
fn ends(deployment: &Deployment, words: &[String]) -> Result<Vec<End>, Failure> {
    if words.is_empty() {
        return usual_end(deployment).map(|end| vec![end]);
    }
    let mut ends: Vec<End> = Vec::new();
    for word in words {
        let (name, port) =
            word.split_once(':').map_or((word.as_str(), None), |(name, port)| (name, Some(port)));
        let machine = deployment.find(name)?;
        let taken = |end: &End| {
            ends.contains(end) || deployment.cables.iter().any(|cable| cable.ends().contains(end))
        };
        let mut all = (0..machine.ports).map(|port| End { machine: machine.number, port });
        let end = match port {
            None => all.find(|end| !taken(end)).ok_or_else(|| {
                let message = format!("every port of {name} has a cable");
                Failure::new(Code::Usage, message).next("plug it into another machine")
            })?,
            Some(text) => {
                let end = text.parse::<u8>().ok().and_then(|port| all.find(|end| end.port == port));
                let end = end.ok_or_else(|| {
                    let last = machine.ports.saturating_sub(1);
                    Failure::new(
                        Code::Usage,
                        format!("{name} has no port `{text}`: its ports are 0 to {last}"),
                    )
                })?;
                if taken(&end) {
                    let message =
                        format!("port {} of {name} has a cable{}", end.port, leads(deployment, end));
                    return Err(
                        Failure::new(Code::Usage, message).next("`meshboot node list` shows free ones")
                    );
                }
                end
            }
        };
        ends.push(end);
    }
    Ok(ends)
}

/// Where the cable in a port leads, for people.
fn leads(deployment: &Deployment, end: End) -> String {
    let cable = deployment.cables.iter().find(|cable| cable.ends().contains(&end));
    let other = cable.and_then(|cable| cable.ends().into_iter().find(|other| *other != end));
    other.map(|other| format!(" to {}", deployment.name_of(other.machine))).unwrap_or_default()
}

/// A port of whoever has fewest cables: the mesh grows in breadth. The seed is asked last, everything passes through it.
fn usual_end(deployment: &Deployment) -> Result<End, Failure> {
    let free =
        deployment.machines.iter().filter_map(|machine| Some((machine, deployment.free_port(machine)?)));
    let (_, end) = free
        .min_by_key(|(machine, _)| {
            (machine.is_seed(), deployment.cables_of(machine.number).count(), machine.number)
        })
        .ok_or_else(|| Failure::new(Code::CannotCreate, "no machine has a port without a cable"))?;
    Ok(end)
}

// === impl Machines ===

impl Machines<'_> {
    /// Enters a machine in the record, reserves its name, and makes it and its cables; it has no power yet. What fails
    /// leaves nothing behind.
    ///
    /// Each of its cables is a port of another machine and one of its own.
    pub(super) async fn add(
        &mut self,
        wanted: &WantedMachine,
        plugs: &[(End, u8)],
    ) -> Result<MachineRecord, Failure> {
        let Some(accel) = self.deployment.accel else {
            return Err(Failure::new(
                Code::Data,
                "the deployment's record does not say how processors are made",
            ));
        };
        let cluster = cluster(self.directory()).await?;
        let record = wanted.record(MachineNumber(self.deployment.next_machine), accel);
        let reservation = image::own::reservation(self.context, &record.name, &record.node)?;
        self.deployment.next_machine = self.deployment.next_machine.saturating_add(1);
        for (near, port) in plugs {
            let far = End { machine: record.number, port: *port };
            let number = self.deployment.next_cable;
            self.deployment.next_cable = number.saturating_add(1);
            self.deployment.cables.push(Cable { number, near: *near, far });
        }
        self.deployment.machines.push(record.clone());
        self.save()?;

        let which = Which::Uuid(self.deployment.id.machine_uuid(record.number));
        let made = match cluster.reserve(which, &reservation).await.or_fail(Code::Unavailable) {
            Ok(()) => self.make(&record, plugs).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = made {
            // The first mistake is the one to be told.
            let name = record.name.to_string();
            return Err(match self.remove(&record).await {
                Ok(_) => failure,
                Err(left) => {
                    let message = format!("some of it is left ({})", left.message());
                    failure.next(format!("{message}: `meshboot node delete {name}`"))
                }
            });
        }
        self.note(Act::MachineAdded { machine: record.name.to_string() });
        Ok(record)
    }

    async fn make(&self, record: &MachineRecord, plugs: &[(End, u8)]) -> Result<(), Failure> {
        let spec = self.spec()?;
        let plan = Plan::of_machine(&spec, record.number);
        for object in &plan.objects {
            self.libvirt.make(&plan, object).await.or_fail(Code::Unavailable)?;
            if let Object::Network(network) = object {
                self.reporter.line(&network.title);
            }
        }
        // The far ends have their cables from the beginning; the machines at the near ends are there already.
        for (end, _) in plugs {
            let domain = self.deployment.id.domain(&self.deployment.name_of(end.machine));
            self.libvirt.plug(&domain, &spec.mesh_port(*end)).await.or_fail(Code::Unavailable)?;
        }
        Ok(())
    }

    /// Gives a machine power and does not wait.
    async fn give_power(&self, machine: &MachineRecord) -> Result<(), Failure> {
        let domain = self.deployment.domain(machine);
        self.libvirt.virsh.start_domain(&domain).await.or_fail(Code::Unavailable)?;
        self.note(Act::MachineStarted { machine: machine.name.to_string() });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
