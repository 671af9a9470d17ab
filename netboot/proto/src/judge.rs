//! Whether a link is what a mesh port is meant to have: one cable with one machine at its far end.
//!
//! Everything that speaks on the link is evidence. What is good:
//! - one station with one Ethernet address, whatever it calls itself: firmware, its successors and the node that comes
//!   of them have different DUIDs and the same port;
//! - a neighbouring node of this mesh: it serves its own end of the cable, so it advertises, and answers DHCPv6, with a
//!   /126 of its own. That /126 is out of the site's addresses and makes no addresses by itself; no router of another
//!   network is like that.
//!
//! Anything else is a [`LinkFault`], and the link is not served until it was not seen for the hold-down time. A lost
//! carrier ends it at once: what comes next is another cable. Since routers and servers may be silent for minutes, they
//! are asked every [`PROBE_INTERVAL`] by a router solicitation and an Information-request, which leave no trace.
//!
//! What cannot be seen without a packet socket: what others send to each other's unicast address. So the answer of
//! another DHCPv6 server to a client is not heard; that the client then speaks to that server is, because it does so by
//! multicast `[RFC 9915 § 18.2.2]`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;
use mesh::{FaultKind, LinkFault, LinkPrefix, Mac};

use crate::dhcp6::ServerId;
use crate::effect::Peer;
use crate::wire::dhcp6::{ALL_SERVERS, Kind, Message, SERVER_PORT};
use crate::wire::heard::{HeardAdvertisement, HeardAnswer, information_request, router_solicitation};
use crate::wire::icmp6::{ALL_ROUTERS, HOP_LIMIT, PrefixInformation, RouterSolicitation};
use crate::wire::walk::MAX_DUID;

use bytes::Bytes;

/// How long a fault must not have been seen before the link is served again, unless the caller wants another time:
/// longer than firmware takes to go through its ways of booting and come back to this one.
pub const DEFAULT_HOLD_DOWN: Duration = Duration::from_secs(180);
/// The other routers and servers of the link are asked so often whether they are there.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(20);
/// The first looks after the carrier came follow each other faster: the other end may not listen yet.
pub const INITIAL_PROBE_INTERVAL: Duration = Duration::from_secs(3);
/// How many those are.
pub const INITIAL_PROBES: u32 = 3;
/// Stations that take turns within this time are there at the same time.
pub const TURNS_WINDOW: Duration = Duration::from_secs(60);
/// A server that answered is foreign if no advertisement has shown by then that it is a node of the mesh: two
/// intervals of a node's advertisements.
pub const SERVER_PATIENCE: Duration = Duration::from_secs(9);

/// Stations take turns once there were so many turns and one of them is back: A, B, A, B. A machine that was replaced by
/// another, or whose firmware uses another Ethernet address than its system, does not do that within the window.
const TURNS: usize = 4;
const MAX_TURNS: usize = 16;
const MAX_NEIGHBOURS: usize = 8;
const MAX_PENDING: usize = 8;
const MAX_MACS: usize = 8;

/// What the judge of one link is told at its birth.
#[derive(Debug, Clone)]
pub struct Config {
    /// The link's addresses.
    pub prefix: LinkPrefix,
    /// What every node's block is cut from.
    pub site: Ipv6Net,
    /// The near port's Ethernet address.
    pub mac: Mac,
    /// The DUID of this machine's server, by which it asks others as well.
    pub server_id: ServerId,
    /// How long a fault must not have been seen before the link is served again.
    pub hold_down: Duration,
    /// A random number: transactions begin with it.
    pub seed: u32,
}

/// What was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What is wrong with the link, the fault that explains the others first.
    pub faults: Vec<LinkFault>,
    /// Whether machines are served on it.
    pub serves: bool,
    /// Whether this machine is advertised as a router on it.
    pub advertises: bool,
    /// Whether the operator wants it served whatever is wrong with it.
    pub forced: bool,
    /// Whether a node of this mesh advertises itself at the far end: a machine that runs, and does not boot here.
    pub neighbour: bool,
}

/// What the judge wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JudgeEffect {
    /// Send an ICMPv6 message.
    Solicit {
        /// To whom.
        to: SocketAddrV6,
        /// The message, with a checksum of zero.
        bytes: Bytes,
    },
    /// Send a datagram from the port of DHCPv6 clients.
    Ask {
        /// To whom.
        to: SocketAddrV6,
        /// The payload.
        bytes: Bytes,
    },
    /// The judgement is another than before.
    Judged(Judgement),
}

/// The judge of one link.
#[derive(Debug)]
pub struct Judge {
    config: Config,
    own: BTreeMap<Mac, String>,
    carrier: bool,
    forced: bool,
    turns: VecDeque<(Mac, Instant)>,
    /// The nodes of this mesh that advertise themselves here.
    neighbours: BTreeMap<Ipv6Addr, Instant>,
    /// Servers that answered and are not known to be nodes of this mesh yet, with the end of the patience with each.
    pending: BTreeMap<Ipv6Addr, (String, Instant)>,
    faults: BTreeMap<FaultKind, (LinkFault, Instant)>,
    probe_at: Option<Instant>,
    /// How many of the first looks are left.
    initial: u32,
    xid: u32,
    told: Judgement,
    effects: VecDeque<JudgeEffect>,
}

// === impl Judge ===

impl Judge {
    /// The judge of a link without a carrier.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let xid = config.seed;
        Self {
            config,
            own: BTreeMap::new(),
            carrier: false,
            forced: false,
            turns: VecDeque::new(),
            neighbours: BTreeMap::new(),
            pending: BTreeMap::new(),
            faults: BTreeMap::new(),
            probe_at: None,
            initial: 0,
            xid,
            told: Judgement {
                faults: Vec::new(),
                serves: true,
                advertises: true,
                forced: false,
                neighbour: false,
            },
            effects: VecDeque::new(),
        }
    }

    /// The Ethernet addresses of all of this machine's ports, with the ports' names.
    pub fn handle_own(&mut self, own: BTreeMap<Mac, String>) {
        self.own = own;
    }

    /// The operator wants the link served whatever is wrong with it, or no longer does.
    pub fn handle_forced(&mut self, forced: bool) {
        self.forced = forced;
        self.tell();
    }

    /// The carrier came or went. Without one nothing is known of the link.
    pub fn handle_carrier(&mut self, carrier: bool, now: Instant) {
        if carrier == self.carrier {
            return;
        }
        self.carrier = carrier;
        self.turns.clear();
        self.neighbours.clear();
        self.pending.clear();
        self.faults.clear();
        self.probe_at = carrier.then_some(now);
        self.initial = INITIAL_PROBES;
        self.tell();
        self.handle_timeout(now);
    }

    /// An ICMPv6 message came: a router solicitation or advertisement.
    pub fn handle_icmp6(&mut self, from: &Peer, bytes: &[u8], now: Instant) {
        let source = *from.address.ip();
        if from.hop_limit != Some(HOP_LIMIT) {
            return;
        }
        if let Some(advertisement) = HeardAdvertisement::parse(source, bytes) {
            let mac = advertisement.source_mac.or(from.mac);
            if self.hear(mac, now) {
                self.judge_advertisement(source, &advertisement, now);
            }
        } else if let Some(solicitation) = RouterSolicitation::parse(source, bytes) {
            self.hear(solicitation.source_mac.or(from.mac), now);
        }
        self.tell();
    }

    /// A datagram came to the port of DHCPv6 servers.
    pub fn handle_client(&mut self, from: &Peer, bytes: &[u8], now: Instant) {
        let Ok(message) = Message::parse(bytes) else { return };
        if self.hear(from.mac, now) {
            let ours = self.config.server_id.as_bytes();
            let other = message.server_id.as_deref().filter(|id| *id != ours);
            // A Request follows an Advertise, which somebody on this link sent just now. A Renew or Release may be for
            // the server of another cable, from which the machine was moved here.
            if let Some(other) = other.filter(|_| message.kind == Kind::Request) {
                self.find(LinkFault::SecondDhcpServer { server: None, duid: hex(other) }, now);
            }
        }
        self.tell();
    }

    /// A datagram came to the port of DHCPv6 clients: somebody answers what was asked.
    pub fn handle_server(&mut self, from: &Peer, bytes: &[u8], now: Instant) {
        let Some(answer) = HeardAnswer::parse(bytes) else { return };
        let server = *from.address.ip();
        if answer.server_id == self.config.server_id.as_bytes() {
            let port = from.mac.and_then(|mac| self.own.get(&mac)).cloned();
            self.find(LinkFault::Looped { port: port.unwrap_or_else(|| self.own_name()) }, now);
        } else if self.hear(from.mac, now)
            && !self.is_neighbour(server, now)
            && self.pending.len() < MAX_PENDING
        {
            let due = now + SERVER_PATIENCE;
            self.pending.entry(server).or_insert_with(|| (hex(&answer.server_id), due));
        }
        self.tell();
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<Ipv6Addr> =
            self.pending.iter().filter(|(_, (_, at))| *at <= now).map(|(ip, _)| *ip).collect();
        for server in due {
            if let Some((duid, _)) = self.pending.remove(&server) {
                self.find(LinkFault::SecondDhcpServer { server: Some(server), duid }, now);
            }
        }
        self.forget_neighbours(now);
        let hold_down = self.config.hold_down;
        self.faults.retain(|_, (_, seen)| now.saturating_duration_since(*seen) < hold_down);
        if self.probe_at.is_some_and(|at| at <= now) {
            self.initial = self.initial.saturating_sub(1);
            let next = if self.initial > 0 { INITIAL_PROBE_INTERVAL } else { PROBE_INTERVAL };
            self.probe_at = Some(now + next);
            self.probe();
        }
        self.tell();
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let ends = self.faults.values().map(|(_, seen)| *seen + self.config.hold_down);
        let due = self.pending.values().map(|(_, at)| *at);
        let silent = self.neighbours.values().map(|heard| *heard + TURNS_WINDOW);
        ends.chain(silent).chain(due).chain(self.probe_at).min()
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<JudgeEffect> {
        self.effects.pop_front()
    }

    /// What was judged so far.
    #[must_use]
    pub fn judgement(&self) -> Judgement {
        let faults: Vec<LinkFault> = self.faults.values().map(|(fault, _)| fault.clone()).collect();
        let good = faults.is_empty() || self.forced;
        // A node of the mesh finds its neighbour by these advertisements, and a third machine is not harmed by them. In
        // a foreign network, other machines would take this one for their router.
        let only_crowded = faults.iter().all(|fault| fault.kind() == FaultKind::TwoMachines);
        let advertises = good || (only_crowded && !self.neighbours.is_empty());
        let neighbour = !self.neighbours.is_empty();
        Judgement { faults, serves: good, advertises, forced: self.forced, neighbour }
    }

    /// A station spoke; whether it is another machine's.
    fn hear(&mut self, mac: Option<Mac>, now: Instant) -> bool {
        let Some(mac) = mac else { return true };
        if mac == self.config.mac || self.own.contains_key(&mac) {
            let port = self.own.get(&mac).cloned().unwrap_or_else(|| self.own_name());
            self.find(LinkFault::Looped { port }, now);
            return false;
        }
        if !mac.is_unicast() || mac == self.host_end() {
            return true;
        }
        self.turns.retain(|(_, at)| now.saturating_duration_since(*at) < TURNS_WINDOW);
        match self.turns.back_mut() {
            // As long as it is its turn.
            Some((last, at)) if *last == mac => *at = now,
            _ => {
                if self.turns.len() == MAX_TURNS {
                    self.turns.pop_front();
                }
                self.turns.push_back((mac, now));
                self.judge_turns(now);
            }
        }
        true
    }

    /// The other end of this port where it is a virtual machine's: libvirt gives the host's interface the port's own address with
    /// FE in front. A host that was not told otherwise looks there for a router when it is made, which is while the machine
    /// runs if that is put back from a snapshot, or moved. It is nobody's machine.
    fn host_end(&self) -> Mac {
        let [_, rest @ ..] = self.config.mac.0;
        let [a, b, c, d, e] = rest;
        Mac([0xfe, a, b, c, d, e])
    }

    fn judge_turns(&mut self, now: Instant) {
        let macs: BTreeSet<Mac> = self.turns.iter().map(|(mac, _)| *mac).collect();
        // No two turns on end are one station's: somebody was away in between and came back.
        if self.turns.len() >= TURNS && macs.len() < self.turns.len() {
            let macs = macs.into_iter().take(MAX_MACS).collect();
            self.find(LinkFault::TwoMachines { macs }, now);
        }
    }

    fn judge_advertisement(&mut self, router: Ipv6Addr, heard: &HeardAdvertisement, now: Instant) {
        let valid = || heard.prefixes.iter().filter(|prefix| prefix.valid > 0);
        let foreign = valid().find(|prefix| !self.is_of_a_node(prefix));
        if let Some(prefix) = foreign {
            self.find(LinkFault::ForeignPrefix { router, net: prefix.net }, now);
        }
        if foreign.is_none() && valid().next().is_some() {
            if self.neighbours.len() < MAX_NEIGHBOURS || self.neighbours.contains_key(&router) {
                self.neighbours.insert(router, now);
            }
            self.pending.remove(&router);
        } else if heard.router_lifetime > 0 && (foreign.is_some() || !self.is_neighbour(router, now)) {
            self.find(LinkFault::SecondRouter { router }, now);
        }
    }

    /// Whether a node of this mesh would advertise it at its own end of the cable.
    fn is_of_a_node(&self, prefix: &PrefixInformation) -> bool {
        let ours = self.config.prefix.net();
        prefix.net.prefix_len() == ours.prefix_len()
            && self.config.site.contains(&prefix.net)
            && prefix.net != ours
            && !prefix.autonomous
    }

    fn is_neighbour(&mut self, router: Ipv6Addr, now: Instant) -> bool {
        self.forget_neighbours(now);
        self.neighbours.contains_key(&router)
    }

    /// A node advertises itself every few seconds, as long as it runs.
    fn forget_neighbours(&mut self, now: Instant) {
        self.neighbours.retain(|_, heard| now.saturating_duration_since(*heard) < TURNS_WINDOW);
    }

    /// A fault was seen. Its particulars stay those that it was first seen with, but for the machines, of which there
    /// may be more.
    fn find(&mut self, fault: LinkFault, now: Instant) {
        if !self.carrier {
            return;
        }
        match self.faults.entry(fault.kind()) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert((fault, now));
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let (known, seen) = entry.get_mut();
                *seen = now;
                if let (LinkFault::TwoMachines { macs: known }, LinkFault::TwoMachines { macs }) =
                    (known, fault)
                    && macs.len() > known.len()
                {
                    *known = macs;
                }
            }
        }
    }

    fn probe(&mut self) {
        let to = SocketAddrV6::new(ALL_ROUTERS, 0, 0, 0);
        let bytes = router_solicitation(self.config.mac);
        self.effects.push_back(JudgeEffect::Solicit { to, bytes });
        self.xid = self.xid.wrapping_add(1);
        let [_, xid @ ..] = self.xid.to_be_bytes();
        let bytes = information_request(xid, self.config.server_id.as_bytes());
        let to = SocketAddrV6::new(ALL_SERVERS, SERVER_PORT, 0, 0);
        self.effects.push_back(JudgeEffect::Ask { to, bytes });
    }

    fn own_name(&self) -> String {
        self.own.get(&self.config.mac).cloned().unwrap_or_else(|| self.config.mac.to_string())
    }

    fn tell(&mut self) {
        let judgement = self.judgement();
        if judgement != self.told {
            self.told = judgement.clone();
            self.effects.push_back(JudgeEffect::Judged(judgement));
        }
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().take(MAX_DUID).map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests;
