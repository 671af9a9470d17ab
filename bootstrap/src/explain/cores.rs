//! The cores of a link, driven by packets that somebody recorded or made up.
//!
//! What is answered is what [`netboot_proto`] answers: here is only the order in which a port hands a packet to the judge,
//! the router and the DHCPv6 server, as `netboot_server` does it. Changes of the ledger are taken for made, and none is.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Instant;

use mesh::Change;
use netboot_proto::dhcp6::{Client, Server};
use netboot_proto::effect::{Effect, Event, Occasion, Peer};
use netboot_proto::judge::{Judge, JudgeEffect, Judgement};
use netboot_proto::ra::Advertiser;
use netboot_proto::tftp::{self, Limits, Opening, Output, Transfer};
use netboot_proto::wire::describe::{self, Description};
use netboot_proto::wire::dhcp6::{ALL_SERVERS, CLIENT_PORT, SERVER_PORT};
use netboot_proto::wire::frame::{Frame, Payload};
use netboot_proto::wire::icmp6::{ALL_NODES, ALL_ROUTERS, ROUTER_SOLICITATION};
use netboot_proto::wire::tftp::{ErrorCode, error};
use rand_core::RngCore;
use schemars::JsonSchema;
use serde::Serialize;

use super::scene::Scene;
use super::verdict::{Outcome, Sent, Verdict};

/// ACK of block 0: the client takes the options that it was offered.
const ACK_OF_OPTIONS: [u8; 4] = [0, 4, 0, 0];

/// What happens without being an answer to one packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Happening {
    /// The router advertises itself.
    Advertised {
        /// Why.
        occasion: &'static str,
        /// The advertisement.
        sent: Sent,
    },
    /// The link is judged anew.
    Judged {
        /// What is wrong with it.
        faults: Vec<String>,
        /// Whether it is served.
        serves: bool,
    },
}

/// The cores of one link.
#[derive(Debug)]
pub struct Cores {
    scene: Scene,
    judge: Judge,
    judgement: Judgement,
    advertiser: Advertiser<Middle>,
    server: Server,
    /// The server that there would be, were the link served: asked as long as it is not.
    imagined: Server,
    happenings: Vec<(Instant, Happening)>,
    periodic: usize,
}

/// Draws the middle always, so that the same packets are explained in the same words twice.
#[derive(Debug)]
struct Middle;

// === impl Cores ===

impl Cores {
    /// The cores of a link whose carrier comes now.
    #[must_use]
    pub fn new(scene: Scene, now: Instant) -> Self {
        let mut judge = Judge::new(scene.judge());
        judge.handle_own(scene.own.clone());
        judge.handle_forced(scene.forced);
        let server = || Server::new(scene.server(), scene.catalogue(&Client::default()), scene.far);
        let mut cores = Self {
            judgement: judge.judgement(),
            judge,
            advertiser: Advertiser::new(scene.router(), Middle),
            server: server(),
            imagined: server(),
            happenings: Vec::new(),
            periodic: 0,
            scene,
        };
        cores.advertise(now);
        cores.judge.handle_carrier(true, now);
        cores.pump(now);
        cores
    }

    /// A packet on the link: what it says and what becomes of it, or none if it is of no protocol that is served here.
    pub fn hear(&mut self, frame: &Frame<'_>, now: Instant) -> Option<(Description, Verdict)> {
        let is_ours = frame.mac == Some(self.scene.mac);
        let ours = || Verdict::new(Outcome::Ours, "this port sent it");
        Some(match frame.payload {
            Payload::Icmp6(bytes) => {
                let says = describe::icmp6(bytes)?;
                (says, if is_ours { ours() } else { self.hear_router(frame, bytes, now) })
            }
            Payload::Udp { from, to: SERVER_PORT, bytes } => (
                describe::dhcp6(bytes),
                if is_ours { ours() } else { self.hear_client(frame, from, bytes, now) },
            ),
            Payload::Udp { from, to: CLIENT_PORT, bytes } => (
                describe::dhcp6(bytes),
                if is_ours { ours() } else { self.hear_server(frame, from, bytes, now) },
            ),
            Payload::Udp { from, to: tftp::PORT, bytes } => (
                describe::tftp(bytes),
                if is_ours { ours() } else { self.hear_tftp(frame, from, bytes, now) },
            ),
            Payload::Udp { .. } | Payload::Other(_) => return None,
        })
    }

    /// Lets time pass, with all that falls due until then.
    pub fn pass(&mut self, until: Instant) {
        loop {
            let deadlines = [
                self.judge.next_deadline(),
                self.advertiser.next_deadline(),
                self.server.next_deadline(),
                self.imagined.next_deadline(),
            ];
            let Some(due) = deadlines.into_iter().flatten().min().filter(|due| *due <= until) else { return };
            self.judge.handle_timeout(due);
            self.advertiser.handle_timeout(due);
            self.server.handle_timeout(due);
            self.imagined.handle_timeout(due);
            self.pump(due);
        }
    }

    /// What happened since this was last asked.
    pub fn take_happenings(&mut self) -> Vec<(Instant, Happening)> {
        std::mem::take(&mut self.happenings)
    }

    /// How many advertisements went out because their time had come; they are not told one by one.
    #[must_use]
    pub fn periodic(&self) -> usize {
        self.periodic
    }

    fn hear_router(&mut self, frame: &Frame<'_>, bytes: &[u8], now: Instant) -> Verdict {
        if !self.reaches(frame, &[ALL_NODES, ALL_ROUTERS]) {
            return Verdict::not_for_us(frame);
        }
        let peer = peer(frame, 0);
        self.judge.handle_icmp6(&peer, bytes, now);
        self.pump(now);
        if bytes.first() != Some(&ROUTER_SOLICITATION) {
            return self.evidence();
        }
        if let Some(fault) = self.judgement.faults.first().filter(|_| !self.judgement.advertises) {
            return Verdict::new(Outcome::NotServed, not_served(fault));
        }
        self.advertiser.handle_datagram(&peer, bytes, now);
        let mut verdict = Verdict::new(Outcome::Answered, "");
        while let Some(effect) = self.advertiser.poll_effect() {
            if let Effect::Note(Event::Ignored { reason, .. }) = effect {
                return Verdict::new(Outcome::Ignored, reason);
            }
        }
        let wait = self.advertiser.next_deadline().unwrap_or(now).saturating_duration_since(now);
        verdict.reasons = vec![format!(
            "a solicitation is answered by an advertisement after a moment, here {} ms",
            wait.as_millis()
        )];
        verdict
    }

    fn hear_client(&mut self, frame: &Frame<'_>, from: u16, bytes: &[u8], now: Instant) -> Verdict {
        if !self.reaches(frame, &[ALL_SERVERS]) {
            return Verdict::not_for_us(frame);
        }
        let peer = peer(frame, from);
        self.judge.handle_client(&peer, bytes, now);
        self.pump(now);
        let fault = self.judgement.faults.first().filter(|_| !self.judgement.serves);
        let catalogue = self.scene.catalogue(&Client::of(&peer, bytes));
        let Some(fault) = fault else {
            self.server.handle_catalogue(catalogue);
            self.server.handle_datagram(&peer, bytes, now);
            let verdict = drain(&mut self.server);
            if verdict.outcome == Outcome::Answered {
                for answer in &verdict.answers {
                    self.advertiser.handle_client(SocketAddrV6::new(answer.to, CLIENT_PORT, 0, 0), now);
                }
                self.pump(now);
            }
            return verdict;
        };
        let fault = not_served(fault);
        self.imagined.handle_catalogue(catalogue);
        self.imagined.handle_datagram(&peer, bytes, now);
        drain(&mut self.imagined).instead(Outcome::NotServed, fault)
    }

    fn hear_server(&mut self, frame: &Frame<'_>, from: u16, bytes: &[u8], now: Instant) -> Verdict {
        if !self.reaches(frame, &[]) {
            return Verdict::not_for_us(frame);
        }
        self.judge.handle_server(&peer(frame, from), bytes, now);
        self.pump(now);
        self.evidence()
    }

    fn hear_tftp(&mut self, frame: &Frame<'_>, from: u16, bytes: &[u8], now: Instant) -> Verdict {
        if frame.destination.is_multicast() {
            return Verdict::new(Outcome::Ignored, "a request to everybody is nobody's");
        }
        let verdict = self.open(peer(frame, from), bytes, now);
        let fault = self.judgement.faults.first().filter(|_| !self.judgement.serves);
        if !self.reaches(frame, &[]) {
            let other = format!("it is sent to {}, which is not this machine", frame.destination);
            verdict.instead(Outcome::NotForUs, other)
        } else if let Some(fault) = fault {
            verdict.instead(Outcome::NotServed, not_served(fault))
        } else {
            verdict
        }
    }

    fn open(&self, peer: Peer, bytes: &[u8], now: Instant) -> Verdict {
        let to = *peer.address.ip();
        let refusal = |bytes: &[u8], reason: &str| {
            let mut verdict = Verdict::new(Outcome::Refused, reason);
            verdict.answers.push(Sent { to, says: describe::tftp(bytes) });
            verdict
        };
        let request = match tftp::open(bytes) {
            Opening::Serve(request) => request,
            Opening::Refuse { bytes, reason } => return refusal(&bytes, reason),
            Opening::Ignore => return Verdict::new(Outcome::Ignored, "an ERROR is never answered"),
        };
        let others = self.scene.others.values().flat_map(BTreeMap::values);
        let mut files = self.scene.files.values().chain(others);
        let found = files.find(|(name, _)| name.as_str() == request.path);
        let Some((_, size)) = found else {
            let reason = "no such boot file";
            return refusal(&error(ErrorCode::FileNotFound, reason), reason);
        };
        let limits = Limits::for_mtu(self.scene.mtu);
        let mut transfer = Transfer::new(peer.address, &request, *size, &limits, now);
        let mut verdict = Verdict::new(Outcome::Answered, format!("a boot file of {size} octets"));
        while let Some(output) = transfer.poll_effect() {
            match output {
                Output::Send { bytes, .. } => {
                    verdict.answers.push(Sent { to, says: describe::tftp(&bytes) });
                    transfer.handle_datagram(peer.address, &ACK_OF_OPTIONS, now);
                }
                Output::Data(burst) => verdict.reasons.push(format!(
                    "it is sent in blocks of {} octets, {} of them at a time",
                    burst.block, burst.blocks
                )),
                Output::Finished(_) => {}
            }
        }
        verdict
    }

    /// What a packet that asks nothing of this machine is to the judge.
    fn evidence(&self) -> Verdict {
        let Judgement { faults, serves, .. } = &self.judgement;
        let mut reasons: Vec<String> = faults.iter().map(ToString::to_string).collect();
        reasons.insert(
            0,
            match (faults.is_empty(), serves) {
                (true, _) => "nothing is wrong with the link so far".to_owned(),
                (false, true) => "the link is served because the operator wants it (force-link)".to_owned(),
                (false, false) => "the link is not served".to_owned(),
            },
        );
        Verdict { outcome: Outcome::Heard, reasons, boot: None, answers: Vec::new() }
    }

    /// Whether a packet comes to this machine's ears.
    fn reaches(&self, frame: &Frame<'_>, groups: &[Ipv6Addr]) -> bool {
        groups.contains(&frame.destination) || self.scene.addresses().contains(&frame.destination)
    }

    /// Does what judge and router want done, as far as that is done without a cable.
    fn pump(&mut self, now: Instant) {
        while let Some(effect) = self.judge.poll_effect() {
            match effect {
                // Nobody hears what is asked here; what was answered at the time was recorded.
                JudgeEffect::Solicit { .. } | JudgeEffect::Ask { .. } => {}
                JudgeEffect::Judged(judgement) => {
                    let faults = judgement.faults.iter().map(ToString::to_string).collect();
                    let judged = Happening::Judged { faults, serves: judgement.serves };
                    self.happenings.push((now, judged));
                    self.judgement = judgement;
                    self.advertise(now);
                }
            }
        }
        let mut occasion = Occasion::Periodic;
        while let Some(effect) = self.advertiser.poll_effect() {
            match effect {
                Effect::Note(Event::Advertised(why)) => occasion = why,
                Effect::Send { .. } if occasion == Occasion::Periodic => self.periodic += 1,
                Effect::Send { to, bytes } => {
                    let Some(says) = describe::icmp6(&bytes) else { continue };
                    let sent = Sent { to: *to.ip(), says };
                    let advertised = Happening::Advertised { occasion: because(occasion), sent };
                    self.happenings.push((now, advertised));
                }
                Effect::Note(_) | Effect::Commit(_) => {}
            }
        }
    }

    fn advertise(&mut self, now: Instant) {
        if self.judgement.advertises {
            self.advertiser.handle_carrier(true, now);
        } else {
            self.advertiser.handle_withdrawal(now);
        }
    }
}

/// What the server made of a datagram.
fn drain(server: &mut Server) -> Verdict {
    let mut verdict =
        Verdict { outcome: Outcome::Heard, reasons: Vec::new(), boot: None, answers: Vec::new() };
    while let Some(effect) = server.poll_effect() {
        match effect {
            Effect::Commit(change) => {
                if let Change::Attach(link) = &change {
                    let far = link.far.mac;
                    verdict.reasons.push(format!("the ledger is told first that {far} is at the far end"));
                }
                server.handle_committed(&change);
            }
            Effect::Send { to, bytes } => {
                verdict.answers.push(Sent { to: *to.ip(), says: describe::dhcp6(&bytes) });
            }
            Effect::Note(event) => verdict.note(event),
        }
    }
    verdict
}

fn peer(frame: &Frame<'_>, port: u16) -> Peer {
    let by_address = || frame.source.is_unicast_link_local().then(|| mesh::Mac::from_eui64(frame.source));
    Peer {
        address: SocketAddrV6::new(frame.source, port, 0, 0),
        mac: frame.mac.or_else(|| by_address().flatten()),
        destination: frame.destination,
        hop_limit: Some(frame.hop_limit),
    }
}

fn not_served(fault: &mesh::LinkFault) -> String {
    format!("this link is not served: {fault}")
}

fn because(occasion: Occasion) -> &'static str {
    match occasion {
        Occasion::Initial => "one of the first after the carrier came",
        Occasion::Periodic => "its time had come",
        Occasion::Solicited => "somebody solicited it",
        Occasion::Client => "a DHCPv6 client is about to be answered",
        Occasion::Final => "the last one: the router stops",
    }
}

// === impl Middle ===

impl RngCore for Middle {
    fn next_u32(&mut self) -> u32 {
        u32::MAX / 2
    }

    fn next_u64(&mut self) -> u64 {
        u64::MAX / 2
    }

    fn fill_bytes(&mut self, octets: &mut [u8]) {
        octets.fill(0x7f);
    }
}
