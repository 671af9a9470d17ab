//! `meshboot status`: every machine, how far it is, who served it, and what it waits for.
//!
//! What is known is put together from four witnesses: libvirt (has it power?), the status pages of the seed and
//! of every node (their links), the ledger that the seed shows, and the Kubernetes API (is it Ready?). A witness
//! that is silent leaves gaps and never an error.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use futures::future::join_all;
use hardware::virsh::Virsh;
use hardware::{End, MachineNumber};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use mesh::{AddressPlan, Block, EventPage, LinkFault, LinkStatus, Mac, Machine, MachineId, Stage, Timeline};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::control_plane::Board;
use crate::control_plane::lease::Lease;
use crate::deployment::{Deployment, Directory, MachineRecord};
use crate::exit::{Code, Failure};
use crate::gateway::settings::STATUS_PORT;
use crate::gateway::status::NodeStatus;
use crate::progress::Reporter;

/// A page of a machine that is there comes at once.
const PAGE_LIMIT: Duration = Duration::from_secs(3);
const API_LIMIT: Duration = Duration::from_secs(5);

/// All that is known of one machine.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct MachineView {
    /// Its number; 0 is the seed. None for a machine that the deployment did not make.
    pub number: Option<u16>,
    /// Its node's name, or the name it will have.
    pub name: String,
    /// `running`, `off`, or none if it is not of this computer's libvirt.
    pub power: Option<String>,
    /// How far it is.
    pub stage: Option<Stage>,
    /// Since when, in seconds since 1970.
    pub since: Option<u64>,
    /// Whether Kubernetes calls its node Ready; none if there is no node or no API.
    pub ready: Option<bool>,
    /// The boot that Kubernetes speaks of, as the machine's kernel names it.
    pub boot: Option<String>,
    /// Its block.
    pub block: Option<Block>,
    /// Its node's address.
    pub address: Option<Ipv6Addr>,
    /// Who served it, and at which port: `node1 port 2`.
    pub served_by: Option<String>,
    /// The link it was served on, as its near end's address.
    pub link: Option<Ipv6Addr>,
    /// Whether its own gateway answers: whether it can serve the next machine.
    pub serves: bool,
    /// What it waits for.
    pub reason: Option<String>,
}

/// What every witness said.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Observation {
    /// Every machine, the seed first.
    pub machines: Vec<MachineView>,
    /// The links that are not as they should be, whether or not a machine is known there.
    pub links: Vec<FaultyLink>,
    /// The control planes, if Kubernetes told of them.
    pub control_planes: Option<Board>,
    /// Why Kubernetes said nothing, if it did not.
    pub api: Option<String>,
}

/// A link with which something is wrong.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct FaultyLink {
    /// Its near end, as `node1 port 2`.
    pub near: String,
    /// The near port's name in its kernel.
    pub port: String,
    /// What is wrong.
    pub faults: Vec<LinkFault>,
    /// Whether the operator has it served all the same.
    pub forced: bool,
}

/// Asks the witnesses of one deployment.
#[derive(Clone)]
pub struct Observer {
    deployment: Deployment,
    pages: reqwest::Client,
    kubernetes: Option<kube::Client>,
}

/// What the pages said: the machines, and everybody's links.
#[derive(Debug, Default)]
struct Pages {
    machines: Vec<Machine>,
    links: Vec<LinkStatus>,
    /// Those whose page answered, and why they cannot admit machines, if they cannot.
    answered: BTreeMap<MachineId, Option<String>>,
}

/// What Kubernetes said of a node.
#[derive(Debug, Clone)]
struct Readiness {
    ready: bool,
    reason: String,
    boot: Option<String>,
}

/// Shows the deployment in `directory`.
///
/// # Errors
///
/// There is none, or its files cannot be read.
pub async fn run(directory: &Directory, reporter: &Reporter) -> Result<(), Failure> {
    let deployment = directory.require()?;
    let observation = Observer::new(&deployment, directory).await?.observe().await;
    reporter.result(&observation, &observation.table());
    Ok(())
}

// === impl Observer ===

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").field("deployment", &self.deployment.id).finish_non_exhaustive()
    }
}

impl Observer {
    /// An observer of a deployment.
    ///
    /// # Errors
    ///
    /// HTTP cannot be set up.
    pub async fn new(deployment: &Deployment, directory: &Directory) -> Result<Self, Failure> {
        use crate::exit::OrFail as _;
        // Machines are on this computer's own networks: never by a proxy.
        let pages = reqwest::Client::builder().no_proxy().timeout(PAGE_LIMIT).build();
        Ok(Self {
            deployment: deployment.clone(),
            pages: pages.or_fail(Code::Software)?,
            kubernetes: client(directory).await,
        })
    }

    /// The API server's client, if there is a kubeconfig.
    #[must_use]
    pub fn kubernetes(&self) -> Option<&kube::Client> {
        self.kubernetes.as_ref()
    }

    /// Asks everybody.
    pub async fn observe(&self) -> Observation {
        let (pages, nodes, powered) =
            tokio::join!(self.ask_pages(), self.ask_kubernetes(), self.ask_libvirt());
        let (nodes, control_planes, api) = match nodes {
            Ok((nodes, control_planes)) => (nodes, control_planes, None),
            Err(reason) => (BTreeMap::new(), None, Some(reason)),
        };
        // A stick's deployment has no machines of its own: all are strangers.
        let own = self.deployment.machines.iter();
        let mut machines: Vec<MachineView> =
            own.map(|record| self.view(record, &pages, &nodes, powered.as_deref())).collect();
        let strangers = pages.machines.iter().filter(|machine| self.number_of(machine).is_none());
        machines.extend(
            strangers.map(|machine| view_of(None, Some(machine), &pages, &nodes, &self.deployment.addresses)),
        );
        Observation { machines, links: pages.faulty(), control_planes, api }
    }

    /// What every node that answers says of itself, the seed first if it does. Whoever is first names the others: the
    /// seed, or where it is silent a machine that is where its ports say that it should be.
    pub async fn nodes(&self) -> Vec<NodeStatus> {
        let Some(seed) = self.deployment.addresses.block(self.deployment.seed.block) else {
            return Vec::new();
        };
        let first = match self.page(seed.vip()).await {
            Some(first) => Some(first),
            None => self.any_page().await,
        };
        let Some(first) = first else { return Vec::new() };
        let others = first.machines.iter().filter(|machine| machine.id != first.machine.id);
        let blocks = others.filter_map(|machine| self.deployment.addresses.block(machine.block));
        let pages = join_all(blocks.map(|block| self.page(block.vip()))).await;
        std::iter::once(first).chain(pages.into_iter().flatten()).collect()
    }

    /// Where the nodes are, by name: as the seed knows it, and if it is silent as Kubernetes does.
    pub async fn addresses(&self) -> BTreeMap<String, Ipv6Addr> {
        let plan = &self.deployment.addresses;
        let seed = plan.block(self.deployment.seed.block);
        let page = match seed {
            Some(block) => self.page(block.vip()).await,
            None => None,
        };
        if let Some(page) = page {
            let machines = page.machines.iter();
            let known = machines
                .filter_map(|machine| Some((machine.name.to_string(), plan.block(machine.block)?.vip())));
            return known.collect();
        }
        let Some(client) = self.kubernetes.clone() else { return BTreeMap::new() };
        let nodes: Api<Node> = Api::all(client);
        let list = timeout(API_LIMIT, nodes.list(&ListParams::default().match_any())).await;
        let Ok(Ok(list)) = list else { return BTreeMap::new() };
        list.items.iter().filter_map(address_of).collect()
    }

    /// The last boots on the links of one node; none if it does not answer.
    pub async fn timelines(&self, machine: &Machine) -> Vec<Timeline> {
        let Some(block) = self.deployment.addresses.block(machine.block) else { return Vec::new() };
        self.fetch(block.vip(), "timelines").await.unwrap_or_default()
    }

    /// What happened on the node of this address after its event of this number; none if it does not answer.
    pub async fn events(&self, vip: Ipv6Addr, after: u64) -> Option<EventPage> {
        self.fetch(vip, &format!("events?after={after}")).await
    }

    async fn ask_pages(&self) -> Pages {
        let pages = self.nodes().await;
        let machines = pages.first().map(|seed| seed.machines.clone()).unwrap_or_default();
        let mut all = Pages { machines, ..Pages::default() };
        for page in pages {
            let reason = (!page.api.available).then(|| why_not_available(&page));
            all.answered.insert(page.machine.id, reason);
            all.links.extend(page.links);
        }
        all
    }

    /// The page of any machine of the record. Its block is not there, but the one that it prefers: that of the port that it
    /// first booted through.
    async fn any_page(&self) -> Option<NodeStatus> {
        let plan = &self.deployment.addresses;
        let nodes = self.deployment.machines.iter().filter(|machine| !machine.is_seed());
        let blocks = nodes
            .flat_map(|record| self.macs(record))
            .filter_map(|mac| plan.block(plan.preferred_number(mac)));
        let asked = blocks.map(|block| Box::pin(async move { self.page(block.vip()).await.ok_or(()) }));
        let asked: Vec<_> = asked.collect();
        if asked.is_empty() {
            return None;
        }
        futures::future::select_ok(asked).await.ok().map(|(page, _)| page)
    }

    /// What the node of this address says of itself; none if it does not answer.
    pub async fn page(&self, vip: Ipv6Addr) -> Option<NodeStatus> {
        self.fetch(vip, "status").await
    }

    async fn fetch<T: DeserializeOwned>(&self, vip: Ipv6Addr, what: &str) -> Option<T> {
        let url = format!("http://[{vip}]:{STATUS_PORT}/{what}");
        let answer = self.pages.get(url).send().await.ok()?.error_for_status().ok()?;
        answer.json().await.ok()
    }

    async fn ask_kubernetes(&self) -> Result<(BTreeMap<String, Readiness>, Option<Board>), String> {
        let client = self.kubernetes.clone().ok_or("there is no kubeconfig")?;
        let nodes: Api<Node> = Api::all(client.clone());
        let lease = Lease::read(&client);
        // From the API server's memory: what etcd adds to that is of the last second.
        let params = ListParams::default().match_any();
        match timeout(API_LIMIT, futures::future::join(nodes.list(&params), lease)).await {
            Ok((Ok(list), lease)) => {
                let board = lease.ok().flatten().map(|lease| lease.board);
                Ok((list.items.iter().filter_map(readiness).collect(), board))
            }
            Ok((Err(error), _)) => Err(format!("the API server does not answer: {error}")),
            Err(_) => Err(format!("the API server is silent for {} s", API_LIMIT.as_secs())),
        }
    }

    async fn ask_libvirt(&self) -> Option<Vec<String>> {
        self.deployment.libvirt.as_ref()?;
        Virsh::default().active_domains().await.ok().map(|names| names.into_iter().collect())
    }

    fn number_of(&self, machine: &Machine) -> Option<MachineNumber> {
        let records = self.deployment.machines.iter();
        records.into_iter().find(|record| self.is_machine(record, machine)).map(|record| record.number)
    }

    fn is_machine(&self, record: &MachineRecord, machine: &Machine) -> bool {
        let has = |mac: &Mac| machine.ports.iter().any(|port| port.mac == *mac);
        machine.id.0 == self.deployment.id.machine_uuid(record.number) || self.macs(record).iter().any(has)
    }

    fn macs(&self, record: &MachineRecord) -> Vec<Mac> {
        let ends = (0..record.ports).map(|port| End { machine: record.number, port });
        ends.map(|end| self.deployment.id.mac(end)).collect()
    }

    fn view(
        &self,
        record: &MachineRecord,
        pages: &Pages,
        nodes: &BTreeMap<String, Readiness>,
        powered: Option<&[String]>,
    ) -> MachineView {
        let machine = pages.machines.iter().find(|machine| self.is_machine(record, machine));
        let mut view = view_of(Some(record), machine, pages, nodes, &self.deployment.addresses);
        let domain = self.deployment.domain(record);
        let is_on = powered.map(|names| names.contains(&domain));
        view.power = is_on.map(|on| if on { "running" } else { "off" }.to_owned());
        if machine.is_none() {
            // It has not asked for its configuration; a neighbour may have heard its ports.
            let macs = self.macs(record);
            view.take_link(
                best_link(&pages.links, |link| link.far_mac.is_some_and(|mac| macs.contains(&mac))),
                pages,
            );
        }
        if view.ready != Some(true) && view.reason.is_none() {
            view.reason = self.why(record.number, &view, machine.is_some(), is_on);
        }
        view
    }

    /// What a machine waits for, where nobody said it. Once it is known, somebody serves it, and was not heard this time.
    fn why(
        &self,
        number: MachineNumber,
        view: &MachineView,
        known: bool,
        is_on: Option<bool>,
    ) -> Option<String> {
        let reason = match (is_on, number) {
            (Some(false), _) => "it is off".to_owned(),
            (_, MachineNumber::SEED) if !view.serves => "it boots: no status page yet".to_owned(),
            (_, MachineNumber::SEED) => "its control plane starts".to_owned(),
            _ if view.stage.is_none() => {
                let cables = self.deployment.cables.iter().filter(|cable| cable.far.machine == number);
                let near: Vec<String> =
                    cables.map(|cable| self.deployment.name_of(cable.near.machine)).collect();
                let near = near.join(" or ");
                if known {
                    format!("{near}, who serves it, does not answer")
                } else {
                    format!("waits for {near} to serve it")
                }
            }
            _ => return None,
        };
        Some(reason)
    }
}

/// A node's name, and the address that its kubelet gives.
fn address_of(node: &Node) -> Option<(String, Ipv6Addr)> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let own = addresses.iter().find(|address| address.type_ == "InternalIP")?;
    Some((node.metadata.name.clone()?, own.address.parse().ok()?))
}

fn view_of(
    record: Option<&MachineRecord>,
    machine: Option<&Machine>,
    pages: &Pages,
    nodes: &BTreeMap<String, Readiness>,
    plan: &AddressPlan,
) -> MachineView {
    let name = machine.map(|machine| machine.name.to_string());
    let name = name.or_else(|| record.map(|record| record.name.to_string())).unwrap_or_default();
    let node = nodes.get(&name);
    let mut view = MachineView {
        number: record.map(|record| record.number.0),
        power: None,
        stage: None,
        since: None,
        ready: node.map(|node| node.ready),
        boot: node.and_then(|node| node.boot.clone()),
        block: None,
        address: None,
        served_by: None,
        link: None,
        serves: false,
        reason: None,
        name,
    };
    if let Some(machine) = machine {
        view.take_link(best_link(&pages.links, |link| link.far_machine == Some(machine.id)), pages);
        view.block = plan.block(machine.block);
        view.address = view.block.map(Block::vip);
        view.serves = matches!(pages.answered.get(&machine.id), Some(None));
        if let Some(Some(reason)) = pages.answered.get(&machine.id) {
            view.reason = Some(reason.clone());
        }
    }
    if let Some(node) = node {
        if node.ready {
            view.stage = Some(Stage::Ready);
            view.reason = None;
        } else {
            view.reason = Some(node.reason.clone());
        }
    }
    view
}

/// Why a node cannot admit machines; a service that is not healthy on it may be the cause.
fn why_not_available(page: &NodeStatus) -> String {
    let own = page.api.reason.clone().unwrap_or_else(|| "the API server does not answer it".to_owned());
    let apiserver = page.anycasts.iter().find(|anycast| anycast.name == "apiserver" && !anycast.held);
    let service = apiserver.and_then(|anycast| anycast.reason.as_deref());
    match service {
        Some(reason) => format!("{own}; {reason}"),
        None => own,
    }
}

/// The link that a machine was served on: the one by which most was sent to it.
fn best_link(links: &[LinkStatus], is_its: impl Fn(&LinkStatus) -> bool) -> Option<&LinkStatus> {
    links.iter().filter(|link| is_its(link)).max_by_key(|link| (link.bytes, link.stage))
}

fn readiness(node: &Node) -> Option<(String, Readiness)> {
    let name = node.metadata.name.clone()?;
    let status = node.status.as_ref();
    let boot = status.and_then(|status| status.node_info.as_ref()).map(|info| info.boot_id.clone());
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let condition = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    let readiness = condition.map_or_else(
        || Readiness {
            ready: false,
            reason: "its kubelet has not reported yet".to_owned(),
            boot: boot.clone(),
        },
        |condition| Readiness {
            boot: boot.clone(),
            ready: condition.status == "True",
            reason: condition.message.clone().or_else(|| condition.reason.clone()).unwrap_or_default(),
        },
    );
    Some((name, readiness))
}

/// A client for the cluster, if its kubeconfig is there and can be read.
pub async fn client(directory: &Directory) -> Option<kube::Client> {
    let text = std::fs::read_to_string(directory.kubeconfig()).ok()?;
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&text).ok()?;
    let options = kube::config::KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.ok()?;
    config.proxy_url = None;
    config.connect_timeout = Some(API_LIMIT);
    kube::Client::try_from(config).ok()
}

// === impl Pages ===

impl Pages {
    /// A link's near end, as people say it.
    fn near(&self, link: &LinkStatus) -> String {
        let near = self.machines.iter().find(|machine| machine.id == link.link.near);
        let near = near.map_or_else(|| link.link.near.to_string(), |machine| machine.name.to_string());
        format!("{near} port {}", link.link.port)
    }

    fn faulty(&self) -> Vec<FaultyLink> {
        let faulty = self.links.iter().filter(|link| !link.faults.is_empty());
        let views = faulty.map(|link| FaultyLink {
            near: self.near(link),
            port: link.port.clone(),
            faults: link.faults.clone(),
            forced: link.forced,
        });
        views.collect()
    }
}

// === impl MachineView ===

impl MachineView {
    fn take_link(&mut self, link: Option<&LinkStatus>, pages: &Pages) {
        let Some(link) = link else { return };
        self.served_by = Some(pages.near(link));
        self.link = Some(link.address);
        self.stage = Some(link.stage);
        self.since = Some(link.since);
        self.reason.clone_from(&link.reason);
    }

    /// Its stage as a word.
    #[must_use]
    pub fn stage_word(&self) -> String {
        match (self.stage, self.serves) {
            (Some(stage), _) => stage.to_string(),
            (None, true) => "serving".to_owned(),
            (None, false) => "-".to_owned(),
        }
    }
}

// === impl Observation ===

impl Observation {
    /// Whether every machine is Ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.machines.is_empty() && self.machines.iter().all(|machine| machine.ready == Some(true))
    }

    /// The machine of this number.
    #[must_use]
    pub fn machine(&self, number: MachineNumber) -> Option<&MachineView> {
        self.machines.iter().find(|machine| machine.number == Some(number.0))
    }

    /// Everything as a table.
    #[must_use]
    pub fn table(&self) -> String {
        let dash = || "-".to_owned();
        let header = ["MACHINE", "POWER", "STAGE", "NODE", "BLOCK", "SERVED BY", "REASON"].map(str::to_owned);
        let rows = self.machines.iter().map(|machine| {
            let node = match machine.ready {
                Some(true) => "Ready",
                Some(false) => "NotReady",
                None => "-",
            };
            [
                machine.name.clone(),
                machine.power.clone().unwrap_or_else(dash),
                machine.stage_word(),
                node.to_owned(),
                machine.block.map_or_else(dash, |block| block.to_string()),
                machine.served_by.clone().unwrap_or_else(dash),
                machine.reason.clone().unwrap_or_default(),
            ]
        });
        let mut text = columns(&std::iter::once(header).chain(rows).collect::<Vec<_>>());
        for FaultyLink { near, port, faults, forced } in &self.links {
            let served = if *forced { "served by force" } else { "not served" };
            for fault in faults {
                text.push_str(&format!("{near} ({port}) is {served}: {fault}\n"));
            }
        }
        if let Some(line) = self.control_planes.as_ref().and_then(Board::line) {
            text.push_str(&line);
            text.push('\n');
        }
        if let Some(reason) = &self.api {
            text.push_str(reason);
            text.push('\n');
        }
        text
    }
}

/// Rows of cells, each column as wide as its widest cell.
pub(crate) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests;
