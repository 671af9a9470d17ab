//! The hands of [`decide`](super::decide): a control plane looks, takes the lease, and does the next step.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use ignition::kubeadm::etcd_peer;
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::api::{Api as Objects, ListParams, Patch, PatchParams};
use mesh::plan::APISERVER_PORT;
use mesh::{Block, NodeName};
use serde_json::{Value, json};

use super::candidate::Report;
use super::decide::{Decision, Node, Observed, Step, Voice, decide};
use super::etcd::{Etcd, EtcdError, Member, MemberId};
use super::lease::{Election, Lease};
use super::leave::{ASKED, DONE, LABEL, REFUSED};
use super::ticket::{self, Ticket};
use super::{Board, LEAVE, TICKET, labels, taints};
use crate::anycast::{Outcome, Probe};
use crate::gateway::api::Api;
use crate::gateway::settings::GatewaySettings;
use crate::join::{Cluster, NodeState};
use crate::pki;
use crate::store::journal::MeshStore;

/// Between two looks while there is nothing to do, and while there is.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(2));
/// How long an API server may take to say that it is ready.
const READY: Duration = Duration::from_secs(3);
/// How long a node whose promotion came to nothing is left alone.
const FORGIVEN: Duration = Duration::from_mins(5);

/// One who promotes, as long as it holds the lease.
#[derive(Debug)]
pub struct Promoter {
    me: NodeName,
    block: Block,
    settings: Arc<GatewaySettings>,
    store: Arc<MeshStore>,
    etcd: Option<Etcd>,
    election: Election,
    /// Whose promotion is under way, and since when this promoter has known of it.
    begun: Option<(NodeName, Instant)>,
    failed: BTreeMap<NodeName, Instant>,
    /// What last went wrong, if something did.
    trouble: Option<String>,
}

// === impl Promoter ===

impl Promoter {
    /// On this node.
    ///
    /// # Errors
    ///
    /// The plan has no block for it.
    pub fn new(settings: Arc<GatewaySettings>, store: Arc<MeshStore>) -> Result<Self> {
        Ok(Self {
            me: settings.machine.name.clone(),
            block: settings.block()?,
            settings,
            store,
            etcd: None,
            election: Election::default(),
            begun: None,
            failed: BTreeMap::new(),
            trouble: None,
        })
    }

    /// Looks again and again, once this node has an administrator's credentials, until nobody looks for the API server any
    /// more.
    pub async fn run(mut self, api: Api) {
        while let Some(cluster) = api.administrator().await {
            let pause = match self.pass(&cluster).await {
                Ok(is_busy) => {
                    self.trouble = None;
                    if is_busy { INTERVALS.1 } else { INTERVALS.0 }
                }
                Err(error) => {
                    self.etcd = None;
                    self.tell(format!("{error:#}"));
                    INTERVALS.0
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// What goes wrong again and again is told once.
    fn tell(&mut self, trouble: String) {
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!(reason = trouble, "control planes are not looked after here");
        }
        self.trouble = Some(trouble);
    }

    /// One look and one step, if the lease is ours or free. Whether there is more to do soon.
    async fn pass(&mut self, cluster: &Cluster) -> Result<bool> {
        let lease = cluster.promoters_lease().await?;
        if !self.election.may_hold(lease.as_ref(), &self.me, Instant::now()) {
            self.begun = None;
            return Ok(false);
        }
        let lease = lease.unwrap_or_default();
        let etcd = match self.etcd.take() {
            Some(etcd) => etcd,
            None => Etcd::open()?,
        };
        let seen = self.observe(cluster, &etcd, lease.begun.clone()).await?;
        // Whoever is not heard by etcd himself leaves it to another.
        let heard = seen.node(&self.me).and_then(|node| seen.voice(node)).is_some_and(|voice| voice.answers);
        ensure!(heard, "this node's own etcd does not answer");
        self.etcd = Some(etcd.clone());

        self.failed.retain(|_, since| since.elapsed() < FORGIVEN);
        let failed: BTreeSet<NodeName> = self.failed.keys().cloned().collect();
        let spent = self.spent(lease.begun.as_ref());
        let Decision { step, waits } = decide(&seen, &self.me, spent, &failed);
        let mut next = Lease { board: Board::new(&seen, waits), ..lease };
        if let Step::Begin(node) = &step {
            next.begun = Some(node.clone());
        }
        let Some(held) = cluster.hold_promoters_lease(&next, &self.me).await? else {
            return Ok(true);
        };
        let busy = step != Step::Rest || held.begun.is_some();
        if step != Step::Rest {
            self.take(cluster, &etcd, &seen, held, step).await?;
        }
        Ok(busy)
    }

    fn spent(&mut self, begun: Option<&NodeName>) -> Duration {
        let same = self.begun.as_ref().filter(|(name, _)| Some(name) == begun);
        let since = same.map_or_else(Instant::now, |(_, since)| *since);
        self.begun = begun.map(|name| (name.clone(), since));
        since.elapsed()
    }

    async fn take(
        &mut self,
        cluster: &Cluster,
        etcd: &Etcd,
        seen: &Observed,
        held: Lease,
        step: Step,
    ) -> Result<()> {
        let own = self.block.vip();
        match step {
            Step::Rest => {}
            Step::Begin(node) => tracing::info!(%node, "a node is to become a control plane"),
            Step::Enter(node) => {
                let peer = seen.node(&node).map(|node| node.peer.clone()).unwrap_or_default();
                let (learner, _) = etcd.add_learner(own, &peer).await?;
                tracing::info!(%node, member = %learner.id, "a learner is entered into etcd");
            }
            Step::Ticket(node, id) => {
                let members = members(seen, &etcd.members(own).await?, id, &node)?;
                let keys = ticket::keys(Path::new(pki::FOLDER))?;
                cluster.give_ticket(&node, &Ticket { member: id, members, keys }).await?;
                tracing::info!(%node, member = %id, "a node is given what it becomes a control plane with");
            }
            Step::Vote(node, id) => {
                cluster.take_ticket(&node).await?;
                self.vote(etcd, &node, id).await?;
            }
            Step::Mark(node) => {
                self.mark(cluster, &node).await?;
                tracing::info!(%node, "a node is a control plane");
            }
            Step::Finish(node) => self.forget(cluster, held, &node).await?,
            Step::Abandon(node, id) => {
                if let Some(id) = id {
                    etcd.remove(own, id).await?;
                }
                tracing::warn!(%node, "a node did not become a control plane");
                self.failed.insert(node.clone(), Instant::now());
                self.forget(cluster, held, &node).await?;
            }
            Step::Remove(id, why) => {
                etcd.remove(own, id).await?;
                tracing::warn!(member = %id, ?why, "a member of etcd is removed");
            }
            Step::Left(node) => {
                cluster.take_ticket(&node).await?;
                unmark(cluster, &node).await?;
                cluster.annotate(&node, LEAVE, Some(DONE)).await?;
                tracing::info!(%node, "a node is no control plane any more");
            }
            Step::Keep(node) => cluster.annotate(&node, LEAVE, Some(REFUSED)).await?,
        }
        Ok(())
    }

    async fn vote(&self, etcd: &Etcd, node: &NodeName, id: MemberId) -> Result<()> {
        match etcd.promote(self.block.vip(), id).await {
            Ok(()) => tracing::info!(%node, member = %id, "a member of etcd has a vote"),
            Err(EtcdError::Refused { message, .. }) => {
                tracing::debug!(%node, member = %id, reason = message, "a learner gets no vote yet");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn forget(&mut self, cluster: &Cluster, held: Lease, node: &NodeName) -> Result<()> {
        cluster.take_ticket(node).await?;
        self.begun = None;
        // If somebody else has the lease by now he finds all of it done.
        cluster.hold_promoters_lease(&Lease { begun: None, ..held }, &self.me).await.map(drop)
    }

    async fn mark(&self, cluster: &Cluster, name: &NodeName) -> Result<()> {
        let version = self.settings.site.kubernetes;
        let labels: BTreeMap<&str, &str> = labels(version).into_iter().map(|label| (label, "")).collect();
        // Whoever wanted taints of his own wanted no others.
        let own = self.spec_taints(cluster, name).await?;
        let taint = |key| json!({ "key": key, "effect": "NoSchedule" });
        let taints: Vec<Value> =
            if own { Vec::new() } else { taints(version).into_iter().map(taint).collect() };
        let mut patch = json!({ "metadata": { "labels": labels } });
        if !taints.is_empty() {
            patch["spec"] = json!({ "taints": taints });
        }
        let nodes: Objects<NodeObject> = Objects::all(cluster.client().clone());
        // Strategic: taints are merged by their keys.
        let patched = nodes.patch(name.as_str(), &PatchParams::default(), &Patch::Strategic(&patch)).await;
        patched.map(drop).with_context(|| format!("cannot mark {name} as a control plane"))
    }

    async fn spec_taints(&self, cluster: &Cluster, name: &NodeName) -> Result<bool> {
        let later = cluster.reservations_by_name().await?;
        let first = || self.settings.reservations.values().find(|wanted| wanted.name == *name);
        let taints =
            later.get(name).map(|spec| &spec.taints).or_else(|| first().map(|wanted| &wanted.spec.taints));
        Ok(taints.is_some_and(|taints| !taints.is_empty()))
    }

    /// The nodes that are to be control planes: what the operator said last is in Kubernetes. What he said first he could not
    /// take back there, so that counts for machines that are there.
    async fn wanted(&self, cluster: &Cluster, nodes: &[Node]) -> Result<BTreeSet<NodeName>> {
        let later = cluster.reservations_by_name().await?;
        let is_there = |name: &NodeName| nodes.iter().any(|node| node.name == *name);
        let first = self.settings.reservations.values().filter(|wanted| wanted.spec.control_plane);
        let first =
            first.map(|wanted| &wanted.name).filter(|name| !later.contains_key(*name) && is_there(name));
        let later = later.iter().filter(|(_, spec)| spec.control_plane).map(|(name, _)| name);
        Ok(first.chain(later).cloned().collect())
    }

    async fn observe(&self, cluster: &Cluster, etcd: &Etcd, begun: Option<NodeName>) -> Result<Observed> {
        let members = etcd.members(self.block.vip()).await?;
        let members = join_all(members.into_iter().map(|member| async move {
            let answered = match member.peers.first().and_then(|peer| address(peer)) {
                Some(at) => etcd.answers(at).await,
                None => None,
            };
            Voice { answers: answered == Some(member.id), member }
        }));
        let objects: Objects<NodeObject> = Objects::all(cluster.client().clone());
        let params = ListParams::default();
        let (members, listed) = tokio::join!(members, objects.list(&params));
        let listed = listed.context("cannot list the nodes")?;
        let mut seen = Observed { members, begun, ..Observed::default() };
        let ledger = self.store.cached();
        for object in &listed.items {
            let machine = object.metadata.name.as_deref().and_then(|name| ledger.machine_named(name));
            let Some((machine, block)) =
                machine.and_then(|machine| Some((machine, self.settings.site.plan.block(machine.block)?)))
            else {
                continue;
            };
            let mut node = node(object, machine.name.clone(), block);
            let is_becoming = !node.marked || seen.begun.as_ref() == Some(&node.name);
            if is_becoming && seen.voice(&node).is_some_and(|voice| !voice.member.learner) {
                node.serves = self.serves(block).await?;
            }
            seen.nodes.push(node);
        }
        seen.wanted = self.wanted(cluster, &seen.nodes).await?;
        Ok(seen)
    }

    async fn serves(&self, block: Block) -> Result<bool> {
        let url = format!("https://[{}]:{APISERVER_PORT}/readyz", block.vip());
        let probe = Probe::https(url, &self.settings.site.ca_cert_pem)?;
        Ok(probe.ask(READY).await == Outcome::Good)
    }
}

/// A node as it is decided on, but for its API server.
fn node(object: &NodeObject, name: NodeName, block: Block) -> Node {
    let annotation = |key: &str| object.metadata.annotations.as_ref()?.get(key).map(String::as_str);
    let leaves = annotation(LEAVE);
    Node {
        name,
        peer: etcd_peer(block),
        ready: NodeState::of(object).ready,
        marked: object.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(LABEL)),
        leaves: leaves == Some(ASKED),
        left: leaves == Some(DONE),
        report: Report::of(object),
        ticket: annotation(TICKET).and_then(|id| id.parse().ok()),
        serves: false,
    }
}

/// All members as a new one is told of them. Each but the new one has brought its name.
fn members(seen: &Observed, members: &[Member], id: MemberId, node: &NodeName) -> Result<Vec<String>> {
    ensure!(members.iter().any(|member| member.id == id), "etcd does not know the member {id} any more");
    let one = |member: &Member| {
        let name = if member.id == id { node.as_str() } else { member.name.as_str() };
        let peer = member.peers.first().filter(|_| !name.is_empty());
        let who = || seen.name_of(&Voice { member: member.clone(), answers: false });
        Ok(format!("{name}={}", peer.with_context(|| format!("{} has never run", who()))?))
    };
    members.iter().map(one).collect()
}

/// The address in a member's URL.
fn address(url: &str) -> Option<Ipv6Addr> {
    url.split_once("//")?.1.parse::<SocketAddrV6>().ok().map(|address| *address.ip())
}

async fn unmark(cluster: &Cluster, name: &NodeName) -> Result<()> {
    let nodes: Objects<NodeObject> = Objects::all(cluster.client().clone());
    let labels: BTreeMap<&str, Value> =
        labels(ignition::KubernetesVersion::OLDEST).into_iter().map(|label| (label, Value::Null)).collect();
    let patch = json!({ "metadata": { "labels": labels } });
    let patched = nodes.patch(name.as_str(), &PatchParams::default(), &Patch::Merge(&patch)).await;
    patched.map(drop).with_context(|| format!("cannot take the marks of a control plane from {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str, peer: &str) -> Member {
        Member {
            id: MemberId(id),
            name: name.to_owned(),
            peers: vec![peer.to_owned()],
            learner: name.is_empty(),
        }
    }

    #[test]
    fn a_new_member_is_told_of_all_others_by_their_own_names() {
        let (seed, new) = (member(1, "seed", "https://[::1]:2380"), member(2, "", "https://[::2]:2380"));
        let node = "node1".parse().unwrap();
        let told = |all: &[Member], id| members(&Observed::default(), all, MemberId(id), &node);
        let all = [seed.clone(), new.clone()];
        assert_eq!(told(&all, 2).unwrap(), ["seed=https://[::1]:2380", "node1=https://[::2]:2380"]);
        let error = told(&[seed.clone(), new, member(3, "", "https://[::3]:2380")], 2).unwrap_err();
        assert!(error.to_string().contains("member 3 has never run"), "{error}");
        assert!(told(&[seed], 2).is_err());
    }

    #[test]
    fn a_members_address_is_in_its_url() {
        assert_eq!(address("https://[2001:db8::7]:2380"), Some("2001:db8::7".parse().unwrap()));
        for url in ["", "https://", "https://192.0.2.1:2380", "https://name:2380"] {
            assert_eq!(address(url), None, "{url}");
        }
    }

    #[test]
    fn a_node_is_read_as_kubernetes_has_it() {
        let block = mesh::AddressPlan::default().block(mesh::BlockNumber(1)).unwrap();
        let read = |metadata: Value| {
            let object: NodeObject = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
            node(&object, "node1".parse().unwrap(), block)
        };
        let plain = read(json!({ "name": "node1" }));
        assert_eq!(plain.peer, format!("https://[{}]:2380", block.vip()));
        assert!(
            !plain.marked && !plain.leaves && !plain.left && plain.ticket.is_none() && plain.report.is_none()
        );
        let marked = read(json!({ "labels": { LABEL: "" }, "annotations": { LEAVE: ASKED, TICKET: "2a" } }));
        assert!(marked.marked && marked.leaves && marked.ticket == Some(MemberId(42)));
        assert!(read(json!({ "annotations": { LEAVE: DONE } })).left);
    }
}
