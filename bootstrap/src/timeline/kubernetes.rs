//! What Kubernetes tells of nodes and pods: pure functions from its objects to entries.
//!
//! There are two ways to know. [`live`] watches, and compares each object with what it was before ([`node_changes`],
//! [`pod_changes`]): its times are those at which this computer heard of it, to the millisecond. [`past`] asks afterwards
//! what the API still knows, which is told to the second and forgotten in an hour. Both tell the same changes, so that
//! what both saw is one entry.
//!
//! Times that Kubernetes wrote are by the clock of the machine that wrote them, and are taken as they are.

use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, PodCondition, Taint};
use kube::ResourceExt as _;
use schemars::JsonSchema;
use serde::Serialize;

pub mod live;
pub mod past;

/// Something that became of a node or a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// A node is Ready, or is not any more. One that Kubernetes knows nothing of any more is not.
    Ready {
        /// Whether it is.
        ready: bool,
        /// Why it is not.
        reason: Option<String>,
    },
    /// A node was given a taint, or lost it.
    Taint {
        /// Its key.
        key: String,
        /// What it does.
        effect: String,
        /// Whether the node has it.
        present: bool,
    },
    /// A node was made, or removed.
    Node {
        /// Whether it is there.
        present: bool,
    },
    /// Something became of a pod.
    Pod {
        /// Its namespace and name: `default/web-0`.
        pod: String,
        /// What.
        fate: PodFate,
        /// Why, where that is known.
        reason: Option<String>,
    },
    /// An Event of Kubernetes' own that is none of these.
    Told {
        /// What it is about: `Pod default/web-0`.
        about: String,
        /// Its reason: `FailedScheduling`.
        reason: String,
        /// Its message.
        message: String,
        /// How often it was told.
        count: u32,
    },
}

/// What became of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PodFate {
    /// It was given to a machine.
    Scheduled,
    /// One of its containers was started.
    Started,
    /// It is Ready.
    Ready,
    /// It is not Ready any more.
    NotReady,
    /// It is to be evicted from its machine.
    Evicted,
    /// Its deletion was asked for.
    Deleting,
    /// It ended badly.
    Failed,
    /// It came to its end.
    Finished,
    /// It is gone.
    Gone,
}

/// What is told of one pod or node at one moment: its machine, and what became of it.
pub type Told = (Option<String>, Change);

// === impl PodFate ===

impl PodFate {
    /// What became of it, as a word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled here",
            Self::Started => "a container started",
            Self::Ready => "Ready",
            Self::NotReady => "not Ready",
            Self::Evicted => "evicted",
            Self::Deleting => "is being deleted",
            Self::Failed => "failed",
            Self::Finished => "finished",
            Self::Gone => "gone",
        }
    }
}

// === impl Change ===

impl Change {
    /// What happened, for people.
    #[must_use]
    pub fn text(&self) -> String {
        let why =
            |reason: &Option<String>| reason.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        match self {
            Self::Ready { ready: true, .. } => "node Ready".to_owned(),
            Self::Ready { ready: false, reason } => format!("node NotReady{}", why(reason)),
            Self::Taint { key, effect, present: true } => format!("node tainted {key}:{effect}"),
            Self::Taint { key, effect, present: false } => {
                format!("node not tainted {key}:{effect} any more")
            }
            Self::Node { present: true } => "node registered".to_owned(),
            Self::Node { present: false } => "node removed".to_owned(),
            Self::Pod { pod, fate, reason } => format!("pod {pod} {}{}", fate.word(), why(reason)),
            Self::Told { about, reason, message, count } => {
                let times = if *count > 1 { format!(" ({count} times)") } else { String::new() };
                format!("{about}: {reason}: {message}{times}")
            }
        }
    }

    /// Which of two that were told of one moment comes first: nodes before pods, and of a pod's fates the earlier one.
    #[must_use]
    pub const fn rank(&self) -> (u8, Option<PodFate>) {
        match self {
            Self::Ready { .. } | Self::Taint { .. } | Self::Node { .. } => (0, None),
            Self::Pod { fate, .. } => (1, Some(*fate)),
            Self::Told { .. } => (2, None),
        }
    }

    /// Whether two witnesses that tell these tell the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ready { ready: one, .. }, Self::Ready { ready: other, .. }) => one == other,
            (Self::Pod { pod, fate, .. }, Self::Pod { pod: other, fate: another, .. }) => {
                pod == other && fate == another
            }
            (
                Self::Ready { .. }
                | Self::Taint { .. }
                | Self::Node { .. }
                | Self::Pod { .. }
                | Self::Told { .. },
                _,
            ) => self == other,
        }
    }
}

/// What became of a node that was one thing and is another.
#[must_use]
pub fn node_changes(old: Option<&Node>, new: Option<&Node>) -> Vec<Told> {
    let Some(name) = new.or(old).map(|node| node.name_any()) else { return Vec::new() };
    let mut told = Vec::new();
    if old.is_some() != new.is_some() {
        told.push(Change::Node { present: new.is_some() });
    }
    if let Some(new) = new {
        let is_ready =
            |node: &Node| ready_condition(node).is_some_and(|condition| condition.status == "True");
        let was = old.is_some_and(is_ready);
        if was != is_ready(new) {
            let reason = ready_condition(new).and_then(reason_of_node);
            told.push(Change::Ready { ready: !was, reason: reason.filter(|_| was) });
        }
        let taints = |node: Option<&Node>| -> Vec<Taint> {
            node.and_then(|node| node.spec.as_ref()?.taints.clone()).unwrap_or_default()
        };
        let (had, has) = (taints(old), taints(Some(new)));
        let is_in = |taints: &[Taint], taint: &Taint| {
            taints.iter().any(|other| other.key == taint.key && other.effect == taint.effect)
        };
        told.extend(had.iter().filter(|taint| !is_in(&has, taint)).map(|taint| taint_change(taint, false)));
        told.extend(has.iter().filter(|taint| !is_in(&had, taint)).map(|taint| taint_change(taint, true)));
    }
    told.into_iter().map(|change| (Some(name.clone()), change)).collect()
}

/// What became of a pod that was one thing and is another.
#[must_use]
pub fn pod_changes(old: Option<&Pod>, new: Option<&Pod>) -> Vec<Told> {
    let Some(pod) = new.or(old) else { return Vec::new() };
    let machine = machine_of(pod);
    let mut fates = Vec::new();
    let Some(new) = new else {
        fates.push((PodFate::Gone, None));
        return told_of(pod, machine, fates);
    };
    if machine_of(new).is_some() && old.and_then(machine_of).is_none() {
        fates.push((PodFate::Scheduled, None));
    }
    let is_ready = |pod: &Pod| ready_of_pod(pod).is_some_and(|condition| condition.status == "True");
    match (old.is_some_and(is_ready), is_ready(new)) {
        (false, true) => fates.push((PodFate::Ready, None)),
        (true, false) => {
            fates.push((PodFate::NotReady, ready_of_pod(new).and_then(|condition| condition.reason.clone())));
        }
        (true, true) | (false, false) => {}
    }
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
    let reason = new.status.as_ref().and_then(|status| status.reason.clone());
    match (old.map(phase).unwrap_or_default(), phase(new).as_str()) {
        (before, "Failed") if before != "Failed" => fates.push((PodFate::Failed, reason)),
        (before, "Succeeded") if before != "Succeeded" => fates.push((PodFate::Finished, reason)),
        _ => {}
    }
    let is_deleted = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
    if is_deleted(new) && !old.is_some_and(is_deleted) {
        fates.push((PodFate::Deleting, disruption(new)));
    }
    told_of(new, machine, fates)
}

fn told_of(pod: &Pod, machine: Option<String>, fates: Vec<(PodFate, Option<String>)>) -> Vec<Told> {
    let name = name_of(pod);
    let told = |(fate, reason)| (machine.clone(), Change::Pod { pod: name.clone(), fate, reason });
    fates.into_iter().map(told).collect()
}

/// A pod's namespace and name.
#[must_use]
pub fn name_of(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

fn machine_of(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.node_name.clone().filter(|name| !name.is_empty())
}

fn ready_condition(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == "Ready")
}

fn ready_of_pod(pod: &Pod) -> Option<&PodCondition> {
    condition(pod, "Ready")
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

/// Who has a pod deleted, where Kubernetes says so (from 1.26 on).
fn disruption(pod: &Pod) -> Option<String> {
    condition(pod, "DisruptionTarget")?.reason.clone()
}

fn reason_of_node(condition: &NodeCondition) -> Option<String> {
    condition.message.clone().or_else(|| condition.reason.clone()).filter(|text| !text.is_empty())
}

fn taint_change(taint: &Taint, present: bool) -> Change {
    Change::Taint { key: taint.key.clone(), effect: taint.effect.clone(), present }
}

#[cfg(test)]
mod tests;
