//! What is done next to the cluster's control planes: pure, one step at a time, read off what is there.
//!
//! Every step may be done twice, and by two promoters at once, without harm: it names a node or a member by its number, and
//! what it would do again is done already. After each step all is looked at anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh::NodeName;

use super::etcd::{Member, MemberId};

/// How long one promotion may take: a machine in software emulation starts an API server in minutes.
pub const LIMIT: Duration = Duration::from_mins(15);

/// All that is decided on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The nodes that the operator wants as control planes; the seed is one anyway.
    pub wanted: BTreeSet<NodeName>,
    /// The nodes that Kubernetes and the ledger know.
    pub nodes: Vec<Node>,
    /// The members of etcd.
    pub members: Vec<Voice>,
    /// Whose promotion was begun.
    pub begun: Option<NodeName>,
}

/// A node, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Where its etcd is reached by the others, if it has one.
    pub peer: String,
    /// Whether Kubernetes calls it Ready.
    pub ready: bool,
    /// Whether it has the labels of a control plane.
    pub marked: bool,
    /// Whether an operator wants it to stop being one.
    pub leaves: bool,
    /// Whether it stopped being one for an operator: it is not made one again.
    pub left: bool,
    /// What its gateway says in this boot is on its disk.
    pub report: Option<Found>,
    /// The member that it was given a ticket for.
    pub ticket: Option<MemberId>,
    /// Whether its own API server is ready, if it was asked.
    pub serves: bool,
}

/// What is on a node's disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The member whose data and keys are there, as a whole.
    pub member: Option<MemberId>,
    /// Why it does not become one.
    pub trouble: Option<String>,
}

/// A member of etcd, and whether it was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voice {
    /// The member.
    pub member: Member,
    /// Whether it runs and has a leader.
    pub answers: bool,
}

/// What is done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// The lease names the node whose turn it is.
    Begin(NodeName),
    /// A learner is entered for it.
    Enter(NodeName),
    /// It is given what it becomes the member with.
    Ticket(NodeName, MemberId),
    /// The ticket is taken away, and the learner gets its vote: nobody becomes a member that has one, for its votes may not
    /// be forgotten.
    Vote(NodeName, MemberId),
    /// Its node is marked as a control plane.
    Mark(NodeName),
    /// It is one: the ticket is taken away, and the lease names nobody.
    Finish(NodeName),
    /// It came to nothing: its member is removed, and all as after [`Finish`](Self::Finish).
    Abandon(NodeName, Option<MemberId>),
    /// A member is removed.
    Remove(MemberId, Removal),
    /// The operator is told that the node is no control plane any more.
    Left(NodeName),
    /// The operator is told that it stays one: it is the last.
    Keep(NodeName),
}

/// Why a member is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// The operator wants it.
    Leaves(NodeName),
    /// The node is there, and its disk was wiped.
    Wiped(NodeName),
    /// There is no such node any more, and the member is silent.
    NoNode,
    /// A learner that nobody waits for.
    Forgotten,
}

/// The next step, and what those who are no control planes yet wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The step.
    pub step: Step,
    /// What each waits for.
    pub waits: BTreeMap<NodeName, String>,
}

/// Decides for the promoter on node `me`. `spent` is how long the promotion that was begun has taken, `failed` those that
/// came to nothing a short while ago.
#[must_use]
pub fn decide(seen: &Observed, me: &NodeName, spent: Duration, failed: &BTreeSet<NodeName>) -> Decision {
    // What is seen is whole if it holds the one who looks.
    let sound = seen.node(me).is_some_and(|node| seen.voice(node).is_some_and(|voice| !voice.member.learner));
    if !sound {
        let reason = format!("{me}, which should see to it, is not seen as a member of etcd itself");
        let waits = seen.wanted.iter().map(|name| (name.clone(), reason.clone())).collect();
        return Decision { step: Step::Rest, waits };
    }
    let mut waits = seen.waits(failed);
    let step = seen
        .leaving(&mut waits)
        .or_else(|| seen.under_way(spent, &mut waits))
        .or_else(|| seen.stale(&mut waits))
        .or_else(|| seen.late())
        .or_else(|| seen.begin(failed, &mut waits));
    Decision { step: step.unwrap_or(Step::Rest), waits }
}

// === impl Observed ===

impl Observed {
    /// The node of a name.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == *name)
    }

    /// The member of a node.
    #[must_use]
    pub fn voice(&self, node: &Node) -> Option<&Voice> {
        self.members.iter().find(|voice| voice.member.is_at(&node.peer))
    }

    /// The node of a member.
    #[must_use]
    pub fn node_of(&self, voice: &Voice) -> Option<&Node> {
        self.nodes.iter().find(|node| voice.member.is_at(&node.peer))
    }

    /// The members that have a vote.
    pub fn voters(&self) -> impl Iterator<Item = &Voice> {
        self.members.iter().filter(|voice| !voice.member.learner)
    }

    /// What a member is called: before it has started it has no name of its own.
    #[must_use]
    pub fn name_of(&self, voice: &Voice) -> String {
        let node = self.node_of(voice).map(|node| node.name.to_string());
        node.unwrap_or_else(|| match voice.member.name.as_str() {
            "" => format!("member {}", voice.member.id),
            name => name.to_owned(),
        })
    }

    /// The first member that has a vote and is silent.
    fn silent(&self) -> Option<String> {
        self.voters().find(|voice| !voice.answers).map(|voice| self.name_of(voice))
    }

    /// Whether the others are a majority without this member.
    fn spares(&self, id: MemberId) -> bool {
        let others = self.voters().filter(|voice| voice.member.id != id);
        let (all, heard) =
            others.fold((0, 0), |(all, heard), voice| (all + 1, heard + usize::from(voice.answers)));
        heard > all / 2
    }

    /// What those wait for whose turn has not come.
    fn waits(&self, failed: &BTreeSet<NodeName>) -> BTreeMap<NodeName, String> {
        let reason = |name: &NodeName| {
            let Some(node) = self.node(name) else { return Some("it has not joined yet".to_owned()) };
            let voice = self.voice(node);
            if voice.is_some_and(|voice| !voice.member.learner) && node.marked && node.report.is_some() {
                return None;
            }
            Some(if node.leaves || node.left {
                "it was told to leave".to_owned()
            } else if !node.ready {
                "its node is not Ready".to_owned()
            } else if node.report.is_none() {
                "its gateway has not said yet what is on its disk".to_owned()
            } else if voice.is_some() {
                "its API server is not ready".to_owned()
            } else if let Some(other) = self.begun.as_ref().filter(|begun| *begun != name) {
                format!("{other} comes first")
            } else if failed.contains(name) {
                "it was given up, and is tried again in a while".to_owned()
            } else {
                "its turn comes".to_owned()
            })
        };
        self.wanted.iter().filter_map(|name| Some((name.clone(), reason(name)?))).collect()
    }

    fn leaving(&self, waits: &mut BTreeMap<NodeName, String>) -> Option<Step> {
        for node in self.nodes.iter().filter(|node| node.leaves) {
            let voice = self.voice(node);
            let id = voice.map(|voice| voice.member.id);
            let last = voice.is_some_and(|voice| !voice.member.learner) && self.voters().count() == 1;
            let step = match id {
                _ if last => Step::Keep(node.name.clone()),
                Some(id) if !self.spares(id) => {
                    waits.insert(
                        node.name.clone(),
                        "too few members of etcd answer to do without its own".to_owned(),
                    );
                    continue;
                }
                _ if self.begun.as_ref() == Some(&node.name) => Step::Abandon(node.name.clone(), id),
                Some(id) => Step::Remove(id, Removal::Leaves(node.name.clone())),
                None => Step::Left(node.name.clone()),
            };
            return Some(step);
        }
        None
    }

    /// The promotion that was begun, if there is one: nothing else is done meanwhile.
    fn under_way(&self, spent: Duration, waits: &mut BTreeMap<NodeName, String>) -> Option<Step> {
        let name = self.begun.clone()?;
        let node = self.node(&name);
        let voice = node.and_then(|node| self.voice(node));
        let id = voice.map(|voice| voice.member.id);
        let Some(node) = node.filter(|_| self.wanted.contains(&name)) else {
            // The node went away, or the wish. Of a node that is gone the learner is found by nobody's name: see `stale`.
            let learner = voice.filter(|voice| voice.member.learner).map(|voice| voice.member.id);
            return Some(Step::Abandon(name, learner));
        };
        let late = spent >= LIMIT;
        let done = id.is_some() && node.report.as_ref().is_some_and(|report| report.member == id);
        let trouble = node.report.as_ref().and_then(|report| report.trouble.clone());
        let (step, reason) = match (voice, id) {
            (Some(voice), Some(id)) if voice.member.learner => match self.silent() {
                _ if late => (Some(Step::Abandon(name.clone(), Some(id))), "it took too long".to_owned()),
                _ if !done && node.ticket != Some(id) => {
                    (Some(Step::Ticket(name.clone(), id)), "it gets its keys".to_owned())
                }
                _ if !done => {
                    (None, trouble.unwrap_or_else(|| "it makes its certificates and static pods".to_owned()))
                }
                Some(silent) => (None, format!("the etcd of {silent} does not answer")),
                None if !voice.answers => (None, "its etcd starts".to_owned()),
                None => (Some(Step::Vote(name.clone(), id)), "its etcd catches up".to_owned()),
            },
            (Some(voice), Some(id)) => {
                if node.marked && done && node.serves {
                    (Some(Step::Finish(name.clone())), String::new())
                } else if done && node.serves {
                    (Some(Step::Mark(name.clone())), "its node is marked".to_owned())
                } else if !late {
                    (None, "its API server is not ready yet".to_owned())
                } else if voice.answers || !self.spares(id) {
                    // It is a member that does its part. It is marked as soon as its API server is ready.
                    (Some(Step::Finish(name.clone())), "its API server does not become ready".to_owned())
                } else {
                    (Some(Step::Abandon(name.clone(), Some(id))), "its etcd fell silent".to_owned())
                }
            }
            _ if late => (Some(Step::Abandon(name.clone(), None)), "it took too long".to_owned()),
            _ => match self.silent() {
                Some(silent) => (None, format!("the etcd of {silent} does not answer")),
                None => (Some(Step::Enter(name.clone())), "its etcd is entered".to_owned()),
            },
        };
        if !reason.is_empty() {
            waits.insert(name, reason);
        }
        Some(step.unwrap_or(Step::Rest))
    }

    /// Members that are none any more.
    fn stale(&self, waits: &mut BTreeMap<NodeName, String>) -> Option<Step> {
        for voice in &self.members {
            let node = self.node_of(voice);
            let wiped = |node: &&Node| {
                node.ready
                    && node.report.as_ref().is_some_and(|report| report.member != Some(voice.member.id))
            };
            let why = match node {
                _ if voice.member.learner => Removal::Forgotten,
                _ if voice.answers => continue,
                None => Removal::NoNode,
                // The seed says nothing of its disk: it never joins anew.
                Some(_) => match node.filter(wiped) {
                    Some(node) => Removal::Wiped(node.name.clone()),
                    None => continue,
                },
            };
            if voice.member.learner || self.spares(voice.member.id) {
                return Some(Step::Remove(voice.member.id, why));
            }
            if let Some(node) = node {
                let reason =
                    "too few members of etcd answer to remove the one that its disk had before".to_owned();
                waits.insert(node.name.clone(), reason);
            }
        }
        None
    }

    /// A member whose API server took longer than it was waited for.
    fn late(&self) -> Option<Step> {
        let is_late = |node: &&Node| {
            let id = self.voice(node).filter(|voice| !voice.member.learner).map(|voice| voice.member.id);
            let done = id.is_some() && node.report.as_ref().is_some_and(|report| report.member == id);
            self.wanted.contains(&node.name) && done && node.serves && !node.marked
        };
        self.nodes.iter().find(is_late).map(|node| Step::Mark(node.name.clone()))
    }

    fn begin(&self, failed: &BTreeSet<NodeName>, waits: &mut BTreeMap<NodeName, String>) -> Option<Step> {
        let is_candidate = |node: &&Node| {
            let free =
                self.voice(node).is_none() && !node.leaves && !node.left && !failed.contains(&node.name);
            self.wanted.contains(&node.name) && node.ready && node.report.is_some() && free
        };
        let candidates: Vec<&Node> = self.nodes.iter().filter(is_candidate).collect();
        let needed = if self.voters().count().is_multiple_of(2) { 1 } else { 2 };
        let reason = match self.silent() {
            Some(silent) => format!("the etcd of {silent} does not answer"),
            None if candidates.len() < needed => {
                "another one is needed beside it: one member of etcd more bears no loss more, two do"
                    .to_owned()
            }
            None => {
                return candidates.into_iter().map(|node| Step::Begin(node.name.clone())).min_by_key(order);
            }
        };
        waits.extend(candidates.iter().map(|node| (node.name.clone(), reason.clone())));
        None
    }
}

/// By name, `node2` before `node10`.
fn order(step: &Step) -> Option<(usize, NodeName)> {
    let Step::Begin(name) = step else { return None };
    Some((name.as_str().len(), name.clone()))
}

#[cfg(test)]
mod tests;
