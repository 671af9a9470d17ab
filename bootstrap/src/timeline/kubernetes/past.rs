//! What the API still knows of the past: conditions' last transitions, taints' times, and Events.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};

use super::{Change, PodFate, name_of, ready_condition, reason_of_node, taint_change};
use crate::timeline::entry::Entry;

/// Most times are told to the second, and cut, not rounded.
pub const SECOND: u64 = 1_000_000;
const LIMIT: Duration = Duration::from_secs(10);
/// How much is asked for at once.
const PAGE: u32 = 500;
/// Pages that are asked for at most: what a mesh has in an hour, and no more of one that runs wild.
const MAX_PAGES: usize = 40;

/// What was read.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// All nodes.
    pub nodes: Vec<Node>,
    /// All pods.
    pub pods: Vec<Pod>,
    /// All Events.
    pub events: Vec<Event>,
}

// === impl Objects ===

impl Objects {
    /// Asks the API server.
    ///
    /// # Errors
    ///
    /// It does not answer, or not in time; the text says so.
    pub async fn read(client: &Client) -> Result<Self, String> {
        let all = async {
            Ok(Self {
                nodes: list(Api::all(client.clone())).await?,
                pods: list(Api::all(client.clone())).await?,
                events: list(Api::all(client.clone())).await?,
            })
        };
        match tokio::time::timeout(LIMIT, all).await {
            Ok(Ok(objects)) => Ok(objects),
            Ok(Err(error)) => Err(format!("the API server does not answer: {}", chain(error))),
            Err(_) => Err(format!("the API server is silent for {} s", LIMIT.as_secs())),
        }
    }

    /// All that they tell, in no order.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self.nodes.iter().flat_map(of_node).collect();
        entries.extend(self.pods.iter().flat_map(of_pod));
        let places = self.places();
        entries.extend(self.events.iter().filter_map(|event| of_event(event, &places)));
        entries
    }

    /// Which pod is, or was, on which machine.
    fn places(&self) -> BTreeMap<String, String> {
        let told = self.events.iter().filter(|event| event.reason.as_deref() == Some("Scheduled"));
        let told = told.filter_map(|event| Some((subject(event), assigned_to(event)?)));
        let known = self.pods.iter().filter_map(|pod| Some((name_of(pod), super::machine_of(pod)?)));
        told.chain(known).collect()
    }
}

async fn list<K>(api: Api<K>) -> Result<Vec<K>, kube::Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let mut all = Vec::new();
    let mut asked = ListParams::default().limit(PAGE);
    for _ in 0..MAX_PAGES {
        let page = api.list(&asked).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => asked = asked.continue_token(&token),
            None => return Ok(all),
        }
    }
    tracing::warn!("Kubernetes has more objects than are looked at");
    Ok(all)
}

fn chain(error: kube::Error) -> String {
    format!("{:#}", anyhow::Error::new(error))
}

fn of_node(node: &Node) -> Vec<Entry> {
    let name = node.name_any();
    let entry = |at: Timestamp, change| Entry::of_kubernetes(micros(at), SECOND, Some(name.clone()), change);
    let mut entries = Vec::new();
    if let Some(made) = &node.metadata.creation_timestamp {
        entries.push(entry(made.0, Change::Node { present: true }));
    }
    if let Some(condition) = ready_condition(node)
        && let Some(at) = &condition.last_transition_time
    {
        let ready = condition.status == "True";
        let reason = reason_of_node(condition).filter(|_| !ready);
        entries.push(entry(at.0, Change::Ready { ready, reason }));
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    for taint in taints.into_iter().flatten() {
        if let Some(at) = &taint.time_added {
            entries.push(entry(at.0, taint_change(taint, true)));
        }
    }
    entries
}

fn of_pod(pod: &Pod) -> Vec<Entry> {
    let (name, machine) = (name_of(pod), super::machine_of(pod));
    let entry = |at: Timestamp, fate, reason| {
        let change = Change::Pod { pod: name.clone(), fate, reason };
        Entry::of_kubernetes(micros(at), SECOND, machine.clone(), change)
    };
    let mut entries = Vec::new();
    for (kind, yes, no) in [
        ("PodScheduled", Some(PodFate::Scheduled), None),
        ("Ready", Some(PodFate::Ready), Some(PodFate::NotReady)),
    ] {
        let Some(condition) = super::condition(pod, kind) else { continue };
        let fate = if condition.status == "True" { yes } else { no };
        // A pod that was never Ready did not cease to be so.
        let made = pod.metadata.creation_timestamp.as_ref().map(|made| made.0);
        let at = condition.last_transition_time.as_ref().map(|at| at.0);
        if let (Some(fate), Some(at)) = (fate, at)
            && !(fate == PodFate::NotReady && is_never_started(pod, made, at))
        {
            entries.push(entry(at, fate, condition.reason.clone().filter(|_| fate == PodFate::NotReady)));
        }
    }
    if let Some(deleted) = &pod.metadata.deletion_timestamp {
        // The time at which it may be killed: asked for as much earlier as it is given.
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or_default().max(0);
        let asked = deleted.0.as_second().saturating_sub(grace);
        let asked = Timestamp::from_second(asked).unwrap_or(deleted.0);
        entries.push(entry(asked, PodFate::Deleting, super::disruption(pod)));
    }
    entries
}

fn is_never_started(pod: &Pod, made: Option<Timestamp>, at: Timestamp) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Pending") || made == Some(at)
}

/// What an Event tells, if it is worth an entry.
fn of_event(event: &Event, places: &BTreeMap<String, String>) -> Option<Entry> {
    let (at, within) = time_of(event)?;
    let kind = event.involved_object.kind.as_deref().unwrap_or_default();
    let reason = event.reason.clone().unwrap_or_default();
    let message = event.message.clone().unwrap_or_default();
    let host = event.source.as_ref().and_then(|source| source.host.clone()).filter(|host| !host.is_empty());
    let (machine, change) = match kind {
        "Node" => {
            let ready = |ready| Change::Ready { ready, reason: None };
            let change = match reason.as_str() {
                "NodeReady" => ready(true),
                "NodeNotReady" => ready(false),
                _ => told(event, reason, message)?,
            };
            (event.involved_object.name.clone(), change)
        }
        "Pod" => {
            let pod = subject(event);
            let machine = host.or_else(|| places.get(&pod).cloned());
            let fate = |fate, reason| Change::Pod { pod: pod.clone(), fate, reason };
            let change = match reason.as_str() {
                "Scheduled" => fate(PodFate::Scheduled, None),
                "Started" => fate(PodFate::Started, None),
                "Killing" => fate(PodFate::Deleting, Some(message)),
                "TaintManagerEviction" if message.starts_with("Cancelling") => told(event, reason, message)?,
                "TaintManagerEviction" | "Evicted" => fate(PodFate::Evicted, Some(message)),
                _ => told(event, reason, message)?,
            };
            (machine, change)
        }
        _ => (host, told(event, reason, message)?),
    };
    Some(Entry::of_kubernetes(at, within, machine, change))
}

/// Of other Events only those that Kubernetes warns by.
fn told(event: &Event, reason: String, message: String) -> Option<Change> {
    let is_of_note = event.type_.as_deref() == Some("Warning") || reason == "TaintManagerEviction";
    let kind = event.involved_object.kind.as_deref().unwrap_or("?");
    let count = event.count.and_then(|count| u32::try_from(count).ok()).unwrap_or(1);
    is_of_note.then(|| Change::Told { about: format!("{kind} {}", subject(event)), reason, message, count })
}

/// Namespace and name of what an Event is about, or its name alone.
fn subject(event: &Event) -> String {
    let object = &event.involved_object;
    let name = object.name.as_deref().unwrap_or("?");
    match object.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

/// `Successfully assigned default/web-0 to node3`.
fn assigned_to(event: &Event) -> Option<String> {
    let (_, node) = event.message.as_deref()?.rsplit_once(" to ")?;
    Some(node.trim().to_owned()).filter(|node| !node.is_empty() && !node.contains(' '))
}

/// When an Event was told last, and how exactly that is known.
fn time_of(event: &Event) -> Option<(u64, u64)> {
    let exact = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let exact = exact.or(event.event_time.as_ref()).map(|time| (micros(time.0), 0));
    let coarse = event.last_timestamp.as_ref().or(event.first_timestamp.as_ref());
    let coarse = coarse.or(event.metadata.creation_timestamp.as_ref());
    exact.or_else(|| coarse.map(|time| (micros(time.0), SECOND)))
}

fn micros(at: Timestamp) -> u64 {
    u64::try_from(at.as_microsecond()).unwrap_or_default()
}
