//! The router at the near end of a link: when it advertises itself `[RFC 4861 § 6.2]`.
//!
//! ```text
//!            carrier             MAX_INITIAL_RTR_ADVERTISEMENTS sent
//!  Silent ------------> Initial ------------------------------------> Steady
//!    ^                     |  no carrier                                 |
//!    +---------------------+---------------------------------------------+
//! ```
//!
//! From any state, [`Advertiser::handle_stop`] sends one last advertisement with a lifetime of zero, and so does
//! [`Advertiser::handle_withdrawal`], after which the next word of a carrier begins anew. Solicitations are
//! answered after a moment: to the station that asks if it has an address, else to all nodes, who are told no more
//! often than every [`MIN_DELAY_BETWEEN_RAS`].

use std::collections::VecDeque;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::{Duration, Instant};

use mesh::{LinkPrefix, Mac};
use rand_core::RngCore;

use crate::effect::{Effect, Event, Ignored, Occasion, Peer};
use crate::rate::Bucket;
use crate::services::Services;
use crate::timers::TimerTable;
use crate::wire::dhcp6::Lifetimes;
use crate::wire::icmp6::{
    ALL_NODES, HOP_LIMIT, PrefixInformation, RouterAdvertisement, RouterPreference, RouterSolicitation,
};

/// Of `[RFC 4861 § 10]`, as the others.
pub const MAX_INITIAL_RTR_ADVERTISEMENTS: u32 = 3;
/// No two advertisements to all nodes follow each other faster.
pub const MIN_DELAY_BETWEEN_RAS: Duration = Duration::from_secs(3);
/// No solicitation waits longer for its answer, unless that is one to all nodes.
pub const MAX_RA_DELAY_TIME: Duration = Duration::from_millis(500);
/// MaxRtrAdvInterval, at the least that the RFC allows: the routing daemon at the other end finds its neighbour by these
/// advertisements alone, and behind a bridge it sees no carrier come that would have it look.
pub const MAX_RTR_ADV_INTERVAL: Duration = Duration::from_secs(4);
/// MinRtrAdvInterval: three quarters of it at the most, and no less than [`MIN_DELAY_BETWEEN_RAS`].
pub const MIN_RTR_ADV_INTERVAL: Duration = Duration::from_secs(3);
/// AdvDefaultLifetime: long enough that a boot outlives a restart of the near end.
pub const ROUTER_LIFETIME: u16 = 1800;
/// AdvCurHopLimit.
pub const CUR_HOP_LIMIT: u8 = 64;

/// The least MTU of a link of IPv6 `[RFC 8200 § 5]`; no host believes in a smaller one.
const MIN_MTU: u32 = 1280;
/// So many stations are answered one by one at once, and then one more every so often; who comes besides is
/// answered together with all others.
const UNICAST_BURST: u32 = 10;
const UNICAST_EVERY: Duration = Duration::from_millis(500);

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
    /// Name servers and search domains.
    pub services: Services,
}

/// The router at the near end of one link.
#[derive(Debug)]
pub struct Advertiser<R> {
    config: Config,
    rng: R,
    state: State,
    timers: TimerTable<Timer>,
    /// Whether a solicitation is what the next advertisement to all nodes answers.
    solicited: bool,
    unicasts: Bucket,
    last_multicast: Option<Instant>,
    last_unicast: Option<(Ipv6Addr, Instant)>,
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
    /// The last word is said until the caller says otherwise.
    Withdrawn,
    /// The last word is said.
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The next advertisement to all nodes.
    Multicast,
    /// The answer to one station's solicitation.
    Unicast(SocketAddrV6),
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
            solicited: false,
            unicasts: Bucket::new(UNICAST_BURST, UNICAST_EVERY),
            last_multicast: None,
            last_unicast: None,
            effects: VecDeque::new(),
        }
    }

    /// The carrier came or went.
    pub fn handle_carrier(&mut self, carrier: bool, now: Instant) {
        match (self.state, carrier) {
            (State::Silent | State::Withdrawn, true) => {
                self.state = State::Initial { left: MAX_INITIAL_RTR_ADVERTISEMENTS };
                // One may have gone out to a client whose datagram was faster than the word of the carrier.
                let allowed = self.last_multicast.map_or(now, |last| last + MIN_DELAY_BETWEEN_RAS);
                self.timers.set(Timer::Multicast, allowed.max(now));
                self.handle_timeout(now);
            }
            (State::Initial { .. } | State::Steady | State::Withdrawn, false) => {
                self.state = State::Silent;
                self.timers.clear();
                // Who comes next has heard none of these.
                (self.last_multicast, self.last_unicast, self.solicited) = (None, None, false);
            }
            (State::Silent, false) | (State::Initial { .. } | State::Steady, true) | (State::Stopped, _) => {}
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
        // As long as the router advertises itself its next word to all nodes has its time.
        let Some(next) = self.timers.get(Timer::Multicast) else {
            return self.ignore(from, Ignored::NotAdvertising);
        };
        let delay = self.drawn(MAX_RA_DELAY_TIME);
        if next <= now + delay {
            self.solicited = true;
        } else if self.may_have_its_own(source, from.address, now) {
            let timer = Timer::Unicast(from.address);
            let at = self.timers.get(timer).map_or(now + delay, |earlier| earlier.min(now + delay));
            self.timers.set(timer, at);
        } else {
            let at = if recent(self.last_multicast, now) {
                self.last_multicast.unwrap_or(now) + MIN_DELAY_BETWEEN_RAS + delay
            } else {
                now + delay
            };
            self.timers.set(Timer::Multicast, at.min(next));
            self.solicited = true;
        }
    }

    /// A DHCPv6 client is about to be answered. EDK2 looks for the router once, when it sets its address, so it
    /// hears one first: to all nodes if that may be, else to the client alone, for whom the limit of all nodes' does
    /// not hold `[RFC 4861 § 6.2.6]`.
    pub fn handle_client(&mut self, client: SocketAddrV6, now: Instant) {
        if matches!(self.state, State::Stopped | State::Withdrawn) {
            return;
        }
        let address = *client.ip();
        let told = self.last_unicast.filter(|(to, _)| *to == address).map(|(_, at)| at);
        if !recent(self.last_multicast, now) {
            self.multicast(Occasion::Client, now);
        } else if address.is_unicast_link_local() && !recent(told, now) {
            self.unicast(client, Occasion::Client, now);
        }
    }

    /// The router stops for good: hosts shall not wait for its lifetime to end `[RFC 4861 § 6.2.5]`.
    pub fn handle_stop(&mut self, now: Instant) {
        self.end(State::Stopped, now);
    }

    /// The router is to be none on this link, in the same words, until [`handle_carrier`](Self::handle_carrier) is
    /// called again.
    pub fn handle_withdrawal(&mut self, now: Instant) {
        if self.state != State::Stopped {
            self.end(State::Withdrawn, now);
        }
    }

    fn end(&mut self, state: State, now: Instant) {
        if matches!(self.state, State::Initial { .. } | State::Steady) {
            self.multicast(Occasion::Final, now);
        }
        self.state = state;
        self.timers.clear();
        self.solicited = false;
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.expire(now) {
            match timer {
                Timer::Unicast(to) => self.unicast(to, Occasion::Solicited, now),
                Timer::Multicast => {
                    let occasion = match self.state {
                        _ if self.solicited => Occasion::Solicited,
                        State::Initial { .. } => Occasion::Initial,
                        State::Steady | State::Silent | State::Withdrawn | State::Stopped => {
                            Occasion::Periodic
                        }
                    };
                    self.multicast(occasion, now);
                }
            }
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

    /// Whether a station is answered for itself. An advertisement's source is link-local, and the kernel sees to that
    /// only for destinations that are `[RFC 4861 § 6.1.2]`.
    fn may_have_its_own(&mut self, source: Ipv6Addr, from: SocketAddrV6, now: Instant) -> bool {
        let waits = self.timers.get(Timer::Unicast(from)).is_some();
        source.is_unicast_link_local() && (waits || self.unicasts.take(now))
    }

    /// Sends to all nodes, and draws when to do so next: every such advertisement counts, whatever its occasion
    /// `[RFC 4861 § 6.2.4]`.
    fn multicast(&mut self, occasion: Occasion, now: Instant) {
        if let State::Initial { left } = self.state {
            let left = left.saturating_sub(1);
            self.state = if left == 0 { State::Steady } else { State::Initial { left } };
        }
        if self.state != State::Silent {
            // Between the two bounds, so that routers do not fall into step; stations that wait hear this one.
            let interval = MIN_RTR_ADV_INTERVAL + self.drawn(MAX_RTR_ADV_INTERVAL - MIN_RTR_ADV_INTERVAL);
            self.timers.clear();
            self.timers.set(Timer::Multicast, now + interval);
        }
        self.solicited = false;
        self.last_multicast = Some(now);
        self.send(SocketAddrV6::new(ALL_NODES, 0, 0, 0), occasion);
    }

    fn unicast(&mut self, to: SocketAddrV6, occasion: Occasion, now: Instant) {
        self.last_unicast = Some((*to.ip(), now));
        // A datagram of ICMPv6 has no port.
        self.send(SocketAddrV6::new(*to.ip(), 0, 0, to.scope_id()), occasion);
    }

    /// Evenly spread from nothing to `most`.
    fn drawn(&mut self, most: Duration) -> Duration {
        let millis = u128::from(self.rng.next_u32()) * most.as_millis() / u128::from(u32::MAX);
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)).min(most)
    }

    fn send(&mut self, to: SocketAddrV6, occasion: Occasion) {
        let bytes = self.advertisement(occasion).emit();
        self.effects.push_back(Effect::Note(Event::Advertised(occasion)));
        self.effects.push_back(Effect::Send { to, bytes });
    }

    fn advertisement(&self, occasion: Occasion) -> RouterAdvertisement {
        let Config { prefix, mac, mtu, lifetimes: Lifetimes { preferred, valid }, services } = &self.config;
        let (preferred, valid) = ((*preferred).min(*valid), *valid);
        RouterAdvertisement {
            cur_hop_limit: CUR_HOP_LIMIT,
            managed: true,
            other: true,
            preference: RouterPreference::Medium,
            router_lifetime: if occasion == Occasion::Final { 0 } else { ROUTER_LIFETIME },
            source_mac: Some(*mac),
            mtu: Some(*mtu).filter(|mtu| *mtu >= MIN_MTU),
            // Autonomous on a prefix that is no /64 makes old iPXE give itself the near end's address.
            prefix: Some(PrefixInformation {
                net: prefix.net(),
                on_link: true,
                autonomous: false,
                valid,
                preferred,
            }),
            dns: services.dns().to_vec(),
            search: services.search().to_vec(),
            dns_lifetime: preferred,
        }
    }

    fn ignore(&mut self, from: &Peer, reason: Ignored) {
        self.effects.push_back(Effect::Note(Event::Ignored { from: from.address, reason }));
    }
}

/// Whether something happened so shortly ago that all nodes may not be told again.
fn recent(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| now.saturating_duration_since(at) < MIN_DELAY_BETWEEN_RAS)
}

#[cfg(test)]
mod tests;
