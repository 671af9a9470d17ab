//! Asks all witnesses of a deployment at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use futures::future::join_all;
use hardware::{Cable, End};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use mesh::{EventPage, LinkId, MachineId};

use super::clock::{Clock, Sample, frozen};
use super::entry::Entry;
use super::journal::Journal;
use super::kubernetes::live::Recording;
use super::kubernetes::past::Objects;
use super::names::Names;
use super::text::natural;
use super::{Stood, Timeline, micros};
use crate::deployment::{Deployment, Directory};
use crate::exit::{Code, Failure, OrFail as _};
use crate::gateway::status::NodeStatus;
use crate::status::Observer;

/// A node's clock is asked for so often: the quickest answer says most.
const SAMPLES: usize = 4;

/// What one node told.
struct Told {
    machine: String,
    page: EventPage,
    samples: Vec<Sample>,
}

/// Puts together what happened in a deployment, as far as anybody knows. `recording` is what was watched meanwhile, if
/// something was.
///
/// # Errors
///
/// The deployment's files cannot be read, or HTTP cannot be set up. A witness that is silent is named and no error.
pub async fn collect(
    directory: &Directory,
    deployment: &Deployment,
    recording: Option<Recording>,
) -> Result<Timeline, Failure> {
    let observer = Observer::new(deployment, directory).await?;
    let kubernetes = async {
        match observer.kubernetes() {
            Some(client) => Objects::read(client).await,
            None => Err("there is no kubeconfig".to_owned()),
        }
    };
    let (mut pages, objects) = tokio::join!(observer.nodes(), kubernetes);
    let mut silent = Vec::new();
    let objects = objects.unwrap_or_else(|reason| {
        silent.push(format!("Kubernetes: {reason}"));
        Objects::default()
    });
    let journal = Journal::read(directory).or_fail(Code::Io)?;
    if journal.damaged > 0 {
        silent.push(format!("the journal has {} lines that cannot be read", journal.damaged));
    }
    let mut addresses = addresses(deployment, &pages, &objects.nodes);
    if pages.is_empty() {
        // The seed is silent, and others may be there whom Kubernetes knows.
        let asked = addresses.values().map(|vip| observer.page(*vip));
        pages = join_all(asked).await.into_iter().flatten().collect();
        addresses = self::addresses(deployment, &pages, &objects.nodes);
    }
    let mut names = Names::new(&deployment.addresses, &pages);
    addresses.iter().for_each(|(name, vip)| names.add(*vip, name));
    if !deployment.cables.is_empty() {
        names.cable(ports(deployment));
    }

    let asked = addresses.iter().map(async |(name, vip)| (name, ask(&observer, name, *vip).await));
    let mut entries: Vec<Entry> = Vec::new();
    let mut witnesses = Vec::new();
    for (name, told) in join_all(asked).await {
        let clock = told.as_ref().and_then(|told| Clock::new(&told.samples, frozen(name, &journal.entries)));
        match told.zip(clock) {
            Some((told, clock)) => {
                entries.extend(clock.entries(&told.machine, &told.page));
                witnesses.push(Timeline::witness(&told.machine, &clock, &told.page));
            }
            None => silent.push(format!("{name}: its events cannot be read, it does not answer")),
        }
    }
    entries.extend(journal.entries.into_iter().map(|entry| Entry::of_act(entry.at, entry.act)));
    entries.extend(objects.entries());
    let stood = recording
        .as_ref()
        .and_then(|recording| Some(Stood { at: recording.from?, ready: recording.ready.clone() }));
    entries.extend(recording.into_iter().flat_map(|recording| recording.entries));

    let timeline = Timeline::new(order(deployment, &addresses, &entries), entries, names);
    Ok(Timeline { witnesses, silent, stood, ..timeline })
}

/// The ports that cables are in, each as the near end of a link.
fn ports(deployment: &Deployment) -> BTreeSet<LinkId> {
    let ends = deployment.cables.iter().flat_map(Cable::ends);
    let link = |end: End| {
        let near = MachineId(deployment.id.machine_uuid(end.machine));
        Some(LinkId { near, port: end.port.try_into().ok()? })
    };
    ends.filter_map(link).collect()
}

/// Every machine's address, from whoever knows it: the ledger, as nodes show it, and Kubernetes.
fn addresses(deployment: &Deployment, pages: &[NodeStatus], nodes: &[Node]) -> BTreeMap<String, Ipv6Addr> {
    let known = nodes.iter().filter_map(|node| Some((node.name_any(), internal_address(node)?)));
    let machines = pages.iter().flat_map(|page| &page.machines).chain([&deployment.seed]);
    let ledger = machines.filter_map(|machine| {
        Some((machine.name.to_string(), deployment.addresses.block(machine.block)?.vip()))
    });
    known.chain(ledger).collect()
}

fn internal_address(node: &Node) -> Option<Ipv6Addr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
    internal.filter_map(|address| address.address.parse().ok()).next()
}

async fn ask(observer: &Observer, machine: &str, vip: Ipv6Addr) -> Option<Told> {
    let (page, sample) = ask_once(observer, vip, 0).await?;
    let mut samples = vec![sample];
    while samples.len() < SAMPLES {
        let Some((_, sample)) = ask_once(observer, vip, page.next.saturating_sub(1)).await else { break };
        samples.push(sample);
    }
    Some(Told { machine: machine.to_owned(), page, samples })
}

async fn ask_once(observer: &Observer, vip: Ipv6Addr, after: u64) -> Option<(EventPage, Sample)> {
    let asked = micros();
    let page = observer.events(vip, after).await?;
    let sample = Sample::of(&page, asked, micros());
    Some((page, sample))
}

/// The seed first, the others by their numbers, and last whoever is only told of.
fn order(deployment: &Deployment, addresses: &BTreeMap<String, Ipv6Addr>, entries: &[Entry]) -> Vec<String> {
    let told = entries.iter().flat_map(|entry| &entry.machines);
    let mut all: Vec<String> = addresses.keys().chain(told).cloned().collect();
    all.extend(deployment.machines.iter().map(|machine| machine.name.to_string()));
    let seed = deployment.seed.name.to_string();
    all.sort_by_cached_key(|name| (*name != seed, natural(name)));
    all.dedup();
    all
}
