//! The router at the near end of a link: when it advertises itself `[RFC 4861 § 6.2]`.
//!
//! ```text
//!            carrier             MAX_INITIAL_RTR_ADVERTISEMENTS sent
//!  Silent ------------> Initial ------------------------------------> Steady
//!    ^                     |  no carrier                                 |
//!    +---------------------+---------------------------------------------+
//! ```
//!
//! From any state, [`Advertiser::handle_stop`] sends one last advertisement with a lifetime of zero.

use std::collections::VecDeque;
use std::net::SocketAddrV6;
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;
use mesh::{LinkPrefix, Mac};
use rand_core::RngCore;
use std::net::Ipv6Addr;

use crate::effect::{Effect, Event, Ignored, Occasion, Peer};
use crate::rate::Bucket;
use crate::timers::TimerTable;
use crate::wire::dhcp6::Lifetimes;
use crate::wire::icmp6::{
    ALL_NODES, HOP_LIMIT, PrefixInformation, RouterAdvertisement, RouterPreference, RouterSolicitation,
};

/// Of `[RFC 4861 § 10]`, as the others.
pub const MAX_INITIAL_RTR_ADVERTISEMENTS: u32 = 3;
/// The first advertisements follow each other at this distance: the RFC allows up to 16 s, and not less than
/// [`MIN_DELAY_BETWEEN_RAS`]. A port at the other end may take a second or two to listen after its carrier.
pub const INITIAL_INTERVAL: Duration = Duration::from_secs(3);
/// No two unsolicited advertisements follow each other faster.
pub const MIN_DELAY_BETWEEN_RAS: Duration = Duration::from_secs(3);
/// MaxRtrAdvInterval, at the least that the RFC allows: the routing daemon at the other end finds its neighbour by these
/// advertisements alone, and behind a bridge it sees no carrier come that would have it look.
pub const MAX_RTR_ADV_INTERVAL: Duration = Duration::from_secs(4);
/// MinRtrAdvInterval: three quarters of it at the most, and no less than [`MIN_DELAY_BETWEEN_RAS`].
pub const MIN_RTR_ADV_INTERVAL: Duration = Duration::from_secs(3);
/// AdvDefaultLifetime: long enough that a boot outlives a restart of the near end.
pub const ROUTER_LIFETIME: u16 = 1800;
/// AdvCurHopLimit.
pub const CUR_HOP_LIMIT: u8 = 64;

/// How many solicitations are answered at once, and then how often one more.
const SOLICITED_BURST: u32 = 10;
const SOLICITED_EVERY: Duration = Duration::from_millis(500);

/// What is advertised on a link.
#[derive(Debug, Clone)]
pub struct Config {
    /// The link's addresses.
    pub prefix: LinkPrefix,
    /// The near port's Ethernet address.
    pub mac: Mac,
    /// The link's MTU.
    pub mtu: u32,
    /// How long the prefix is good: as long as a lease.
    pub lifetimes: Lifetimes,
    /// DNS servers; none as a rule.
    pub dns: Vec<Ipv6Addr>,
}

/// The router at the near end of one link.
#[derive(Debug)]
pub struct Advertiser<R> {
    config: Config,
    rng: R,
    state: State,
    timers: TimerTable<Timer>,
    solicited: Bucket,
    last: Option<Instant>,
    effects: VecDeque<Effect>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No carrier: nobody listens.
    Silent,
    /// The carrier has just come.
    Initial { left: u32 },
    /// As long as it lasts.
    Steady,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Unsolicited,
}

// === impl Advertiser ===

impl<R: RngCore> Advertiser<R> {
    /// A silent router.
    pub fn new(config: Config, rng: R) -> Self {
        Self {
            config,
            rng,
            state: State::Silent,
            timers: TimerTable::default(),
            solicited: Bucket::new(SOLICITED_BURST, SOLICITED_EVERY),
            last: None,
            effects: VecDeque::new(),
        }
    }

    /// The carrier came or went.
    pub fn handle_carrier(&mut self, carrier: bool, now: Instant) {
        match (self.state, carrier) {
            (State::Silent, true) => {
                self.state = State::Initial { left: MAX_INITIAL_RTR_ADVERTISEMENTS };
                self.advertise_unsolicited(now);
            }
            (State::Initial { .. } | State::Steady, false) => {
                self.state = State::Silent;
                self.timers.stop(Timer::Unsolicited);
            }
            (State::Silent, false) | (State::Initial { .. } | State::Steady, true) => {}
        }
    }

    /// The port's MTU changed.
    pub fn handle_mtu(&mut self, mtu: u32) {
        self.config.mtu = mtu;
    }

    /// An ICMPv6 message came. Bad input becomes an event.
    pub fn handle_datagram(&mut self, from: &Peer, bytes: &[u8], now: Instant) {
        let source = *from.address.ip();
        if from.hop_limit != Some(HOP_LIMIT) {
            return self.ignore(from, Ignored::HopLimit);
        }
        if RouterSolicitation::parse(source, bytes).is_none() {
            return self.ignore(from, Ignored::Malformed);
        }
        if !self.solicited.take(now) {
            return self.ignore(from, Ignored::Rate);
        }
        // Deviation: [RFC 4861 § 6.2.6] delays the answer by up to 0.5 s and keeps MIN_DELAY_BETWEEN_RAS between
        // two multicasts, for the sake of a shared segment. A cable has one listener, and firmware that hears
        // nothing for 4 s boots later; the bucket bounds what one listener can cause.
        let to = if source.is_unspecified() { all_nodes() } else { from.address };
        self.send(to, Occasion::Solicited, now);
    }

    /// A DHCPv6 client is about to be answered. EDK2 looks for the on-link prefix once, when it sets its
    /// address, so it hears one first unless one has just gone out.
    pub fn handle_client(&mut self, now: Instant) {
        let fresh = self.last.is_some_and(|last| now.saturating_duration_since(last) < MIN_DELAY_BETWEEN_RAS);
        if !fresh {
            self.send(all_nodes(), Occasion::Client, now);
        }
    }

    /// The router stops: hosts shall not wait for its lifetime to end `[RFC 4861 § 6.2.5]`.
    pub fn handle_stop(&mut self, now: Instant) {
        if self.state != State::Silent {
            self.send(all_nodes(), Occasion::Final, now);
        }
        self.state = State::Silent;
        self.timers.stop(Timer::Unsolicited);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(Timer::Unsolicited) = self.timers.expire(now) {
            self.advertise_unsolicited(now);
        }
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    fn advertise_unsolicited(&mut self, now: Instant) {
        let (occasion, next) = match self.state {
            State::Silent => return,
            State::Initial { left } => {
                let left = left.saturating_sub(1);
                self.state = if left == 0 { State::Steady } else { State::Initial { left } };
                (Occasion::Initial, if left == 0 { self.interval() } else { INITIAL_INTERVAL })
            }
            State::Steady => (Occasion::Periodic, self.interval()),
        };
        self.timers.set(Timer::Unsolicited, now + next);
        self.send(all_nodes(), occasion, now);
    }

    /// Evenly spread between the two bounds, so that routers do not fall into step.
    fn interval(&mut self) -> Duration {
        let spread = (MAX_RTR_ADV_INTERVAL - MIN_RTR_ADV_INTERVAL).as_millis();
        let drawn = u128::from(self.rng.next_u32()) * spread / u128::from(u32::MAX);
        MIN_RTR_ADV_INTERVAL + Duration::from_millis(u64::try_from(drawn).unwrap_or(u64::MAX))
    }

    fn send(&mut self, to: SocketAddrV6, occasion: Occasion, now: Instant) {
        self.last = Some(now);
        let bytes = self.advertisement(occasion).emit();
        self.effects.push_back(Effect::Note(Event::Advertised(occasion)));
        self.effects.push_back(Effect::Send { to, bytes });
    }

    fn advertisement(&self, occasion: Occasion) -> RouterAdvertisement {
        let net: Ipv6Net = self.config.prefix.net();
        let Lifetimes { preferred, valid } = self.config.lifetimes;
        let dns = (!self.config.dns.is_empty()).then(|| (self.config.dns.clone(), preferred));
        RouterAdvertisement {
            cur_hop_limit: CUR_HOP_LIMIT,
            managed: true,
            other: true,
            preference: RouterPreference::Medium,
            router_lifetime: if occasion == Occasion::Final { 0 } else { ROUTER_LIFETIME },
            source_mac: Some(self.config.mac),
            mtu: Some(self.config.mtu),
            // Autonomous on a prefix that is no /64 makes old iPXE give itself the near end's address.
            prefix: Some(PrefixInformation { net, on_link: true, autonomous: false, valid, preferred }),
            dns,
        }
    }

    fn ignore(&mut self, from: &Peer, reason: Ignored) {
        self.effects.push_back(Effect::Note(Event::Ignored { from: from.address, reason }));
    }
}

fn all_nodes() -> SocketAddrV6 {
    SocketAddrV6::new(ALL_NODES, 0, 0, 0)
}

#[cfg(test)]
mod tests;
