//! What speaks on a link besides its clients: router solicitations and advertisements, other DHCPv6 servers; by the
//! judge of the link and its advertiser together, joined as a port joins them, with time that passes.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use mesh::{LinkFault, Mac};
use netboot_proto::dhcp6::DEFAULT_LIFETIMES;
use netboot_proto::effect::{Effect, Event, Occasion};
use netboot_proto::judge::{
    self, INITIAL_PROBE_INTERVAL, INITIAL_PROBES, Judge, JudgeEffect, Judgement, PROBE_INTERVAL,
};
use netboot_proto::ra::{self, Advertiser, MIN_DELAY_BETWEEN_RAS, ROUTER_LIFETIME};
use netboot_proto::wire::dhcp6::Message;
use netboot_proto::wire::heard::HeardAdvertisement;
use netboot_proto::wire::icmp6::{ALL_NODES, ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION, RouterSolicitation};
use netboot_proto::wire::walk::{MAX_DUID, code};
use rand_core::RngCore;

use crate::Input;
use crate::place::{NEAR, STATIONS, epoch, peer, prefix, server_id, services, time};
use crate::wire::datagram;

const MAX_STEPS: usize = 300;
const HOLD_DOWN: Duration = Duration::from_secs(180);
/// Stations that are answered one by one at once, and then one in so long.
const UNICAST_BURST: u128 = 10;
const UNICAST_EVERY: Duration = Duration::from_millis(500);
const MAX_MACS: usize = 8;

/// Random numbers that are not: the same for the same octets.
struct Drawn(u64);

/// The judge and the advertiser, and what was seen of them.
struct World {
    judge: Judge,
    judgement: Judgement,
    advertiser: Advertiser<Drawn>,
    now: Instant,
    carrier: bool,
    /// When all nodes were told last, as far as it counts.
    told: Option<Instant>,
    /// When a station's solicitation was answered to it alone, and how much too late.
    solicited: Vec<(Instant, Duration)>,
    /// How late the clock is looked at.
    late: Duration,
    /// DHCPv6 clients that are being answered, of whom each may hear one advertisement.
    clients: usize,
    /// Looks for others since the carrier came.
    probes: Vec<Instant>,
    ended: bool,
}

/// Drives both.
pub(crate) fn run(octets: &[u8]) {
    let mut input = Input::new(octets);
    let mut world = World::new(input.octet());
    for _ in 0..MAX_STEPS {
        if input.is_empty() || world.ended {
            break;
        }
        world.step(&mut input);
        world.pump();
        world.hold();
    }
    world.settle();
}

// === impl World ===

impl World {
    fn new(kind: u8) -> Self {
        let site = if kind & 1 == 0 { "2001:db8::/71" } else { "2001:db8::/32" };
        let mut judge = Judge::new(judge::Config {
            prefix: prefix(),
            site: site.parse().unwrap(),
            mac: NEAR,
            server_id: server_id(),
            hold_down: HOLD_DOWN,
            seed: u32::MAX - 1,
        });
        judge.handle_own(BTreeMap::from([
            (NEAR, "near0".to_owned()),
            (Mac([2, 0, 0, 0, 1, 1]), "near1".into()),
        ]));
        let config = ra::Config {
            prefix: prefix(),
            mac: NEAR,
            mtu: 1500,
            lifetimes: DEFAULT_LIFETIMES,
            services: services(kind & 2 != 0),
        };
        Self {
            judgement: judge.judgement(),
            judge,
            advertiser: Advertiser::new(config, Drawn(kind.into())),
            now: epoch(),
            carrier: false,
            told: None,
            solicited: Vec::new(),
            late: Duration::ZERO,
            clients: 0,
            probes: Vec::new(),
            ended: false,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.octet() % 16 {
            0..=2 => {
                let from = peer(input);
                let bytes = neighbour_discovery(input);
                self.judge.handle_icmp6(&from, &bytes, self.now);
                self.pump();
                if self.judgement.advertises && bytes.first() == Some(&ROUTER_SOLICITATION) {
                    self.advertiser.handle_datagram(&from, &bytes, self.now);
                }
            }
            3..=5 => {
                let (from, bytes) = (peer(input), datagram(input));
                self.judge.handle_client(&from, &bytes, self.now);
                self.pump();
                if self.judgement.serves {
                    self.clients += 1;
                    self.advertiser.handle_client(from.address, self.now);
                }
            }
            6 | 7 => {
                let (from, mut bytes) = (peer(input), datagram(input));
                if let Some(kind) = bytes.first_mut().filter(|kind| !matches!(**kind, 2 | 7)) {
                    *kind = 7;
                }
                self.judge.handle_server(&from, &bytes, self.now);
            }
            8 => {
                self.carrier = input.octet().is_multiple_of(2);
                if !self.carrier {
                    // Who comes next has heard nothing.
                    (self.told, self.probes) = (None, Vec::new());
                }
                self.advertise();
                self.judge.handle_carrier(self.carrier, self.now);
            }
            9 => self.judge.handle_forced(input.octet().is_multiple_of(2)),
            10 => self.advertiser.handle_mtu(u32::from(input.short()) * 16),
            11 if input.octet() == 0 => {
                self.ended = true;
                self.advertiser.handle_stop(self.now);
            }
            11..=13 => self.pass_to_deadline(),
            _ => self.pass(time(input)),
        }
    }

    fn pass_to_deadline(&mut self) {
        let deadlines = [self.judge.next_deadline(), self.advertiser.next_deadline()];
        if let Some(at) = deadlines.into_iter().flatten().min() {
            self.pass(at.saturating_duration_since(self.now));
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let due = self.advertiser.next_deadline();
        self.late = due.map_or(Duration::ZERO, |due| self.now.saturating_duration_since(due));
        self.judge.handle_timeout(self.now);
        self.pump();
        self.advertiser.handle_timeout(self.now);
        self.pump();
        let deadlines = [self.judge.next_deadline(), self.advertiser.next_deadline()];
        let passed = deadlines.into_iter().flatten().any(|at| at <= self.now);
        assert!(!passed, "a deadline that has passed");
    }

    /// As a port does it.
    fn pump(&mut self) {
        while let Some(effect) = self.judge.poll_effect() {
            match effect {
                JudgeEffect::Solicit { bytes, .. } => {
                    let source = NEAR.link_local();
                    let read = RouterSolicitation::parse(source, &bytes).expect("a solicitation");
                    assert_eq!(read.source_mac, Some(NEAR));
                    self.probe();
                }
                JudgeEffect::Ask { bytes, .. } => {
                    let read = Message::parse(&bytes).expect("an Information-request");
                    assert!(read.associations.is_empty() && read.wants(code::DNS_SERVERS), "{read:?}");
                }
                JudgeEffect::Judged(judgement) => {
                    assert_ne!(judgement, self.judgement, "no news");
                    self.judgement = judgement;
                    self.advertise();
                }
            }
        }
        let mut occasion = None;
        while let Some(effect) = self.advertiser.poll_effect() {
            match effect {
                Effect::Note(Event::Advertised(what)) => occasion = Some(what),
                Effect::Note(_) => {}
                Effect::Commit(change) => panic!("an advertiser writes {change:?}"),
                Effect::Send { to, bytes } => {
                    self.heard(*to.ip(), &bytes, occasion.take().expect("it is told of before"));
                }
            }
        }
        self.clients = 0;
    }

    fn advertise(&mut self) {
        if self.judgement.advertises {
            self.advertiser.handle_carrier(self.carrier, self.now);
        } else {
            self.advertiser.handle_withdrawal(self.now);
        }
    }

    /// A look for others goes out: three fast ones, then one in so long.
    fn probe(&mut self) {
        assert!(self.carrier, "nobody can be asked");
        let fast = self.probes.len() < usize::try_from(INITIAL_PROBES).unwrap();
        let least = if fast { INITIAL_PROBE_INTERVAL } else { PROBE_INTERVAL };
        if let Some(last) = self.probes.last() {
            assert!(self.now - *last >= least, "asked again after {:?}", self.now - *last);
        }
        self.probes.push(self.now);
    }

    /// An advertisement goes out: as it should be, and none too many.
    fn heard(&mut self, to: Ipv6Addr, bytes: &[u8], occasion: Occasion) {
        let heard = HeardAdvertisement::parse(NEAR.link_local(), bytes).expect("an advertisement");
        let lifetime = if occasion == Occasion::Final { 0 } else { ROUTER_LIFETIME };
        assert_eq!((heard.router_lifetime, heard.source_mac), (lifetime, Some(NEAR)));
        let [own] = heard.prefixes.as_slice() else { panic!("{heard:?}") };
        assert_eq!((own.net, own.on_link, own.autonomous), (prefix().net(), true, false));
        assert!(bytes.len() <= 1232, "{} octets", bytes.len());
        if occasion == Occasion::Final {
            assert_eq!(to, ALL_NODES);
            self.told = Some(self.now);
            return;
        }
        assert!(self.judgement.advertises, "a router that is to be none");
        if to == ALL_NODES {
            if let Some(told) = self.told {
                assert!(self.now - told >= MIN_DELAY_BETWEEN_RAS, "told again after {:?}", self.now - told);
            }
            self.told = Some(self.now);
        } else {
            assert!(to.is_unicast_link_local(), "{to} is not on the link");
            match occasion {
                Occasion::Client => {
                    self.clients = self.clients.checked_sub(1).expect("more than clients were answered");
                }
                Occasion::Initial | Occasion::Periodic | Occasion::Solicited | Occasion::Final => {
                    self.count_solicited();
                }
            }
        }
    }

    fn count_solicited(&mut self) {
        for (before, (at, late)) in self.solicited.iter().rev().enumerate() {
            // Each was allowed when it was asked for.
            let since = self.now.saturating_duration_since(*at) + *late + ra::MAX_RA_DELAY_TIME;
            let allowed = UNICAST_BURST + since.as_nanos() / UNICAST_EVERY.as_nanos();
            assert!(u128::try_from(before).unwrap() < allowed, "too many answers to solicitations");
        }
        self.solicited.push((self.now, self.late));
    }

    /// What holds at every moment.
    fn hold(&self) {
        let Judgement { faults, serves, advertises, forced, .. } = self.judge.judgement();
        assert_eq!(serves, faults.is_empty() || forced);
        assert!(advertises || !serves, "machines would be served without a router");
        assert!(self.carrier || faults.is_empty(), "a fault of no link");
        assert!(faults.is_sorted_by(|one, other| one.kind() < other.kind()), "{faults:?}");
        for fault in &faults {
            match fault {
                LinkFault::TwoMachines { macs } => {
                    assert!((2..=MAX_MACS).contains(&macs.len()) && macs.is_sorted(), "{macs:?}");
                }
                LinkFault::SecondDhcpServer { duid, .. } => {
                    assert!(duid.len() <= 2 * MAX_DUID && !duid.is_empty(), "{duid}");
                }
                LinkFault::ForeignPrefix { net, .. } => assert_ne!(net.network(), Ipv6Addr::LOCALHOST),
                LinkFault::Looped { .. } | LinkFault::SecondRouter { .. } => {}
            }
        }
        let is_router = self.carrier && advertises && !self.ended;
        assert_eq!(self.advertiser.next_deadline().is_some(), is_router, "{:?}", self.judgement);
    }

    /// Once nobody speaks any more, nothing is wrong with the link, and its router is there.
    fn settle(&mut self) {
        self.judge.handle_forced(false);
        self.pump();
        let end = self.now + HOLD_DOWN + judge::SERVER_PATIENCE;
        for _ in 0..1000 {
            if self.now > end {
                break;
            }
            self.pass_to_deadline();
            if self.judge.next_deadline().is_none() && self.advertiser.next_deadline().is_none() {
                break;
            }
        }
        assert!(self.judgement.faults.is_empty(), "{:?} for ever", self.judgement);
        self.hold();
    }
}

// === impl Drawn ===

impl RngCore for Drawn {
    fn next_u32(&mut self) -> u32 {
        u32::try_from(self.next_u64() >> 32).unwrap()
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0
    }

    fn fill_bytes(&mut self, octets: &mut [u8]) {
        octets.fill(0);
    }
}

/// A message of neighbour discovery: any octets, or one whose options add up.
fn neighbour_discovery(input: &mut Input<'_>) -> Vec<u8> {
    let kind = input.octet();
    if kind.is_multiple_of(8) {
        return input.blob().to_vec();
    }
    let mut message = if kind.is_multiple_of(2) {
        vec![ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0]
    } else {
        let [high, low] = input.array();
        vec![ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0xc0, high & 1, low, 0, 0, 0, 0, 0, 0, 0, 0]
    };
    for _ in 0..kind >> 4 {
        match input.octet() % 4 {
            0 => {
                message.extend([1, 1]);
                message.extend(input.pick(&STATIONS).0);
            }
            1 | 2 => {
                let len = input.pick(&[126, 126, 64, 128, 129]);
                message.extend([3, 4, len, input.pick(&[0x80, 0xc0, 0])]);
                message.extend([0, 0, 0, input.octet(), 0, 0, 0, 0, 0, 0, 0, 0]);
                let [five, last] = input.array();
                message.extend([0x20, 1, 0x0d, 0xb8, five & 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, last]);
            }
            _ => {
                let body = input.blob();
                let body = &body[..body.len().min(2000)];
                let units = (body.len() + 2).div_ceil(8);
                message.extend([input.octet(), u8::try_from(units).unwrap()]);
                message.extend(body);
                message.extend(std::iter::repeat_n(0, units * 8 - 2 - body.len()));
            }
        }
    }
    message
}
