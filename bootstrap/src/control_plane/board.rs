//! What the promoter last saw, for people: an annotation of the lease, read by `meshboot status` and by `deploy`.

use std::collections::BTreeMap;

use mesh::NodeName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decide::Observed;

/// The control planes, and those that are to become one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Board {
    /// The members of etcd by the names of their nodes.
    pub members: BTreeMap<String, MemberState>,
    /// What nodes wait for that are to be control planes and are not.
    pub waits: BTreeMap<NodeName, String>,
}

/// How a member of etcd is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MemberState {
    /// It answers, and its node is marked as a control plane.
    Well,
    /// It has no vote yet, or its node is not marked.
    Becoming,
    /// It does not answer.
    Silent,
}

// === impl Board ===

impl Board {
    /// What was seen, and what those wait for whose turn has not come.
    #[must_use]
    pub fn new(seen: &Observed, waits: BTreeMap<NodeName, String>) -> Self {
        let members = seen.members.iter().map(|voice| {
            let marked = seen.node_of(voice).is_some_and(|node| node.marked);
            let state = if voice.member.learner || !marked && voice.answers {
                MemberState::Becoming
            } else if voice.answers {
                MemberState::Well
            } else {
                MemberState::Silent
            };
            (seen.name_of(voice), state)
        });
        Self { members: members.collect(), waits }
    }

    /// How many control planes are well.
    #[must_use]
    pub fn well(&self) -> usize {
        self.members.values().filter(|state| **state == MemberState::Well).count()
    }

    /// How many there are to be.
    #[must_use]
    pub fn wanted(&self) -> usize {
        let more = self.waits.keys().filter(|name| !self.members.contains_key(name.as_str()));
        self.members.len() + more.count()
    }

    /// Whether all are well that are wanted.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.waits.is_empty() && self.well() == self.members.len()
    }

    /// Whether no other node has a member.
    #[must_use]
    pub fn is_only(&self, name: &str) -> bool {
        self.members.len() == 1 && self.members.contains_key(name)
    }

    /// Whether the others are a majority of themselves without this one's member.
    #[must_use]
    pub fn spares(&self, name: &str) -> bool {
        let others = || self.members.iter().filter(|(other, _)| *other != name);
        let well = others().filter(|(_, state)| **state == MemberState::Well).count();
        !self.members.contains_key(name) || well > others().count() / 2
    }

    /// One line, if there is anything to say: of one control plane alone there is not.
    #[must_use]
    pub fn line(&self) -> Option<String> {
        if self.wanted() < 2 {
            return None;
        }
        let silent = self.members.iter().filter(|(name, state)| {
            **state == MemberState::Silent && !self.waits.keys().any(|waits| waits.as_str() == name.as_str())
        });
        let silent = silent.map(|(name, _)| format!("; the etcd of {name} does not answer"));
        let waits = self.waits.iter().map(|(name, reason)| format!("; {name} waits: {reason}"));
        let rest: String = silent.chain(waits).collect();
        Some(format!("control plane: {} of {}{rest}", self.well(), self.wanted()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(members: &[(&str, MemberState)], waits: &[(&str, &str)]) -> Board {
        Board {
            members: members.iter().map(|(name, state)| ((*name).to_owned(), *state)).collect(),
            waits: waits.iter().map(|(name, why)| (name.parse().unwrap(), (*why).to_owned())).collect(),
        }
    }

    #[test]
    fn a_line_says_how_many_and_what_is_waited_for() {
        use MemberState::{Becoming, Silent, Well};
        assert_eq!(board(&[("seed", Well)], &[]).line(), None);
        let begun = board(
            &[("seed", Well), ("node1", Becoming)],
            &[("node1", "catches up"), ("node2", "comes next")],
        );
        let line = "control plane: 1 of 3; node1 waits: catches up; node2 waits: comes next";
        assert_eq!((begun.line().as_deref(), begun.is_whole()), (Some(line), false));
        let whole = board(&[("seed", Well), ("node1", Well), ("node2", Well)], &[]);
        assert_eq!((whole.line().as_deref(), whole.is_whole()), (Some("control plane: 3 of 3"), true));
        let one_off = board(&[("seed", Silent), ("node1", Well), ("node2", Well)], &[]);
        let line = "control plane: 2 of 3; the etcd of seed does not answer";
        assert_eq!((one_off.line().as_deref(), one_off.is_whole()), (Some(line), false));
        assert!(whole.spares("node1") && one_off.spares("seed") && !one_off.spares("node1"));
        let alone = board(&[("seed", Well)], &[]);
        assert!(one_off.spares("node9") && !alone.spares("seed"));
        assert!(alone.is_only("seed") && !alone.is_only("node9") && !whole.is_only("seed"));
    }
}
