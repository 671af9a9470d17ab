//! What happens to one node: the vocabulary of `meshboot timeline`.
//!
//! Every seed and relay remembers the last [`MAX_EVENTS`] in an [`EventRing`], and shows them as an [`EventPage`]. Times
//! are microseconds, and each event has two: by the wall clock, which an operator may set, and since the kernel was
//! started, which nobody can. A reader who knows the age of an event needs no clock but his own.
//!
//! That a neighbour is lost is seen where it matters: no route leads by its port any more ([`Happening::Neighbour`]).
//! Routing runs without BFD (tests/README.md says why), so a neighbour that falls silent without a lost carrier is
//! lost when its BGP session is, after its hold time of 3 s.

use std::collections::VecDeque;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use crate::{LinkId, NodeName, Stage};

/// How many events a node remembers.
pub const MAX_EVENTS: usize = 4096;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number: the first event of a run of the service has 1, the next one 2.
    pub seq: u64,
    /// When, since 1970, by the node's clock.
    pub at: u64,
    /// When, since the node's kernel was started.
    pub up: u64,
    /// What happened.
    #[serde(flatten)]
    pub what: Happening,
}

/// A moment by a node's two clocks, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since 1970.
    pub at: u64,
    /// Since the kernel was started.
    pub up: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Happening {
    /// The gateway service was started.
    Started {
        /// The version of `meshboot`.
        version: String,
    },
    /// The gateway service was asked to stop.
    Stopping,
    /// A mesh port has a carrier, or has none any more.
    Carrier {
        /// The port's name in its kernel.
        port: String,
        /// The link of which it is the near end.
        link: LinkId,
        /// Whether the cable carries.
        carries: bool,
    },
    /// A boot at the far end of a link came to another stage. What [`Happening::Carrier`] tells is not told again.
    Stage {
        /// The near port's name in its kernel.
        port: String,
        /// The link.
        link: LinkId,
        /// The stage.
        stage: Stage,
        /// The node at the far end, once it was given a name.
        far: Option<NodeName>,
    },
    /// Routes lead by the neighbour at a port, or none do any more.
    Neighbour {
        /// The port's name in its kernel.
        port: String,
        /// Whether any route leads there.
        routes: bool,
    },
    /// A route to another machine's block, or to an anycast address, has another number of next hops.
    Route {
        /// Where it leads.
        #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::net"))]
        to: Ipv6Net,
        /// How many next hops it has; 0 if nothing leads there any more.
        paths: u16,
        /// How many it had.
        before: u16,
    },
    /// The node took an anycast address, or dropped it.
    Anycast {
        /// Whose it is: `apiserver`, `mirror docker.io`.
        name: String,
        /// The address.
        address: Ipv6Addr,
        /// Whether the node holds it.
        held: bool,
        /// Why it does not.
        reason: Option<String>,
    },
    /// The API server answers the node, or does not any more: without it no machine is admitted.
    Api {
        /// Whether it answers.
        available: bool,
        /// Why not.
        reason: Option<String>,
    },
    /// Something of a later version of this program.
    #[serde(other)]
    Unknown,
}

/// What a node tells of its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventPage {
    /// The node's clock when it answered, since 1970.
    pub now: u64,
    /// The same moment, since its kernel was started.
    pub up: u64,
    /// The kernel's name for its run: another one means that the machine was started again.
    pub boot_id: String,
    /// When the service was started, since 1970: another one means that events before it are lost, and that numbers have
    /// begun again.
    pub started: u64,
    /// The number of the oldest event that is remembered.
    pub oldest: u64,
    /// The number that the next event will have.
    pub next: u64,
    /// The events that were asked for, in their order.
    pub events: Vec<Event>,
}

/// The last events of a run of the service.
#[derive(Debug, Clone)]
pub struct EventRing {
    events: VecDeque<Event>,
    capacity: usize,
    next: u64,
}

// === impl EventRing ===

impl Default for EventRing {
    fn default() -> Self {
        Self::new(MAX_EVENTS)
    }
}

impl EventRing {
    /// A ring that remembers so many.
    #[must_use]
    pub const fn new(capacity: usize) -> Self {
        Self { events: VecDeque::new(), capacity, next: 1 }
    }

    /// Remembers an event, for the oldest one if there is no room.
    pub fn push(&mut self, moment: Moment, what: Happening) {
        if self.events.len() >= self.capacity {
            self.events.pop_front();
        }
        self.events.push_back(Event { seq: self.next, at: moment.at, up: moment.up, what });
        self.next = self.next.saturating_add(1);
    }

    /// The events after this one. Whoever asks for a number that was never given means another run of the service, and
    /// gets all.
    #[must_use]
    pub fn after(&self, seq: u64) -> Vec<Event> {
        let known = if seq < self.next { seq } else { 0 };
        self.events.iter().filter(|event| event.seq > known).cloned().collect()
    }

    /// The number of the oldest event that is remembered; that of the next one if none is.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.events.front().map_or(self.next, |event| event.seq)
    }

    /// The number that the next event will have.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests;
