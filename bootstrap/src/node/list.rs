//! What machines there are, how far they are, and where they answer.

use std::net::Ipv6Addr;

use hardware::MachineNumber;
use ignition::{ImageId, KubernetesVersion};
use schemars::JsonSchema;
use serde::Serialize;

use crate::deployment::{Deployment, MachineRecord};
use crate::exit::{Code, Failure};
use crate::progress::Reporter;
use crate::ssh::Host;
use crate::status::{MachineView, Observation, Observer, columns};
use crate::verbs::Context;

/// One machine as `node list` shows it.
#[derive(Debug, Serialize, JsonSchema)]
struct Row {
    /// Its node's name, or the name it will have.
    name: String,
    /// `seed`, `control-plane` or `node`.
    role: &'static str,
    /// `running`, `off`, or none if it is not of this computer's libvirt.
    power: Option<String>,
    /// Whether Kubernetes calls its node Ready; none if there is no node or no API.
    ready: Option<bool>,
    /// Its node's address.
    address: Option<Ipv6Addr>,
    /// Its processors; none, as with what follows, for a machine that the deployment did not make.
    cpus: Option<u16>,
    /// Its memory in MiB.
    memory_mib: Option<u32>,
    /// Its disk in octets.
    disk: Option<u64>,
    /// The images that it boots, where they are to be others than the mesh's.
    #[schemars(with = "Option<String>")]
    image: Option<ImageId>,
    /// The version of its kubelet, where that is to be another than the mesh's Kubernetes.
    #[schemars(with = "Option<String>")]
    kubelet: Option<KubernetesVersion>,
    /// Its ports, by number.
    ports: Vec<Plugged>,
}

/// A port and what is at the other end of its cable.
#[derive(Debug, Serialize, JsonSchema)]
struct Plugged {
    /// The port's number.
    port: u8,
    /// The machine at the other end; none if no cable is in the port.
    machine: Option<String>,
    /// The port at the other end.
    its_port: Option<u8>,
}

/// Every machine.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct List {
    /// The machines, the seed first.
    nodes: Vec<Row>,
}

/// Where a node is.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Address {
    name: String,
    address: Ipv6Addr,
}

/// `node list`.
pub(super) async fn list(context: &Context, reporter: &Reporter) -> Result<(), Failure> {
    let deployment = context.directory.require()?;
    let observation = Observer::new(&deployment, &context.directory).await?.observe().await;
    let nodes: Vec<Row> = observation.machines.iter().map(|view| row(&deployment, view)).collect();
    let dash = || "-".to_owned();
    let header = ["NAME", "ROLE", "POWER", "NODE", "ADDRESS", "CPUS", "MEMORY", "CABLES"].map(str::to_owned);
    let rows = nodes.iter().map(|row| {
        let ready = row.ready.map(|ready| if ready { "Ready" } else { "NotReady" });
        [
            row.name.clone(),
            row.role.to_owned(),
            row.power.clone().unwrap_or_else(dash),
            ready.map_or_else(dash, str::to_owned),
            row.address.map_or_else(dash, |address| address.to_string()),
            row.cpus.map_or_else(dash, |cpus| cpus.to_string()),
            row.memory_mib.map_or_else(dash, |memory| format!("{memory} MiB")),
            row.cables(),
        ]
    });
    let text = columns(&std::iter::once(header).chain(rows).collect::<Vec<_>>());
    reporter.result(&List { nodes }, &text);
    Ok(())
}

/// `node status`.
pub(super) async fn status(
    context: &Context,
    name: Option<&str>,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let deployment = context.directory.require()?;
    let mut observation = Observer::new(&deployment, &context.directory).await?.observe().await;
    if let Some(name) = name {
        find(&observation, name)?;
        observation.machines.retain(|machine| machine.name == name);
        observation.links.retain(|link| link.near.split(' ').next() == Some(name));
    }
    reporter.result(&observation, &observation.table());
    Ok(())
}

/// `node ip`.
pub(super) async fn ip(context: &Context, name: &str, reporter: &Reporter) -> Result<(), Failure> {
    let Host { name, address } = host(context, name).await?;
    reporter.result(&Address { name, address }, &address.to_string());
    Ok(())
}

/// Where a node is.
///
/// # Errors
///
/// There is no such machine, or nobody knows its address: it has none before it was admitted.
pub(super) async fn host(context: &Context, name: &str) -> Result<Host, Failure> {
    let deployment = context.directory.require()?;
    let observation = Observer::new(&deployment, &context.directory).await?.observe().await;
    let view = find(&observation, name)?;
    // The seed names the others; it is where it was told to be, whether or not it answers.
    let seed = || {
        let is_seed = view.number == Some(MachineNumber::SEED.0);
        is_seed.then(|| deployment.addresses.block(deployment.seed.block)).flatten()
    };
    let address = view.address.or_else(|| seed().map(mesh::Block::vip));
    let address = address.ok_or_else(|| {
        let reason =
            view.reason.clone().unwrap_or_else(|| "the seed's status page does not answer".to_owned());
        Failure::new(Code::TryAgain, format!("the address of {name} is not known: {reason}"))
            .next(format!("`meshboot why {name}` tells how far it is"))
    })?;
    Ok(Host { name: view.name.clone(), address })
}

fn find<'a>(observation: &'a Observation, name: &str) -> Result<&'a MachineView, Failure> {
    observation.machines.iter().find(|machine| machine.name == name).ok_or_else(|| {
        let known: Vec<&str> = observation.machines.iter().map(|machine| machine.name.as_str()).collect();
        Failure::new(Code::Usage, format!("there is no machine `{name}`: there are {}", known.join(", ")))
    })
}

fn row(deployment: &Deployment, view: &MachineView) -> Row {
    let record = view.number.and_then(|number| deployment.machine(MachineNumber(number)));
    let is_seed = view.number == Some(MachineNumber::SEED.0) || view.name == deployment.seed.name.as_str();
    Row {
        name: view.name.clone(),
        role: match record {
            _ if is_seed => "seed",
            Some(record) if record.node.control_plane => "control-plane",
            Some(_) | None => "node",
        },
        power: view.power.clone(),
        ready: view.ready,
        address: view.address,
        cpus: record.map(|record| record.size.cpus),
        memory_mib: record.map(|record| record.size.memory_mib),
        disk: record.map(|record| record.disk),
        image: record.and_then(|record| record.node.image.clone()),
        kubelet: record.and_then(|record| record.node.kubernetes_version),
        ports: record.map(|record| ports(deployment, record)).unwrap_or_default(),
    }
}

fn ports(deployment: &Deployment, record: &MachineRecord) -> Vec<Plugged> {
    let plugged = |port: u8| {
        let end = hardware::End { machine: record.number, port };
        let cable = deployment.cables.iter().find(|cable| cable.ends().contains(&end));
        let other = cable.and_then(|cable| cable.other_end(record.number));
        Plugged {
            port,
            machine: other.map(|other| deployment.name_of(other.machine)),
            its_port: other.map(|other| other.port),
        }
    };
    (0..record.ports).map(plugged).collect()
}

// === impl Row ===

impl Row {
    /// Port by port, those with a cable only: `0-node1:2`.
    fn cables(&self) -> String {
        let cabled = self.ports.iter().filter_map(|Plugged { port, machine, its_port }| {
            Some(format!("{port}-{}:{}", machine.as_ref()?, (*its_port)?))
        });
        cabled.collect::<Vec<_>>().join(" ")
    }
}
