//! The DHCPv6 walk, the answers, and the server of one link, by a sequence of datagrams, commits and times.

use std::net::SocketAddrV6;
use std::time::{Duration, Instant};

use mesh::{Change, Far, Mac};
use netboot_proto::boot::IPXE;
use netboot_proto::dhcp6::{Config, DEFAULT_LIFETIMES, Server};
use netboot_proto::effect::{Answered, Effect, Event, Peer};
use netboot_proto::wire::dhcp6::{Association, AssociationKind, CLIENT_PORT, Kind, Message};
use netboot_proto::wire::walk::{self, code};
use netboot_proto::{Catalogue, HttpBoot};

use crate::Input;
use crate::place::{STATIONS, epoch, file_name, link, peer, prefix, server_id, services, time};
use crate::wire::{Heard, datagram};

const MAX_STEPS: usize = 300;
/// What the ledger is asked to write at once, and then once in so long.
const BURST: u32 = 8;
const EVERY: Duration = Duration::from_secs(5);
/// Answers to one commit's waiting clients.
const MAX_WAITING: usize = 4;

/// The server, and what is known of its ledger without it.
struct World {
    server: Server,
    now: Instant,
    /// The station at the far end, as it was written.
    written: Option<Mac>,
    /// What is to be written.
    open: Option<Change>,
    commits: Vec<Instant>,
    /// How firmware that boots by HTTP is to do it.
    http_boot: HttpBoot,
    /// Every message that could be read, with who said it, and how firmware was to boot then.
    asked: Vec<(Peer, Message, HttpBoot)>,
}

/// Drives a server.
pub(crate) fn run(octets: &[u8]) {
    let mut input = Input::new(octets);
    let mut world = World::new(input.octet());
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
}

// === impl World ===

impl World {
    fn new(kind: u8) -> Self {
        let written = (kind & 1 != 0).then_some(STATIONS[0]);
        let config = Config {
            link: link(),
            prefix: prefix(),
            server_id: server_id(),
            lifetimes: DEFAULT_LIFETIMES,
            services: services(kind & 2 != 0),
        };
        let far = written.map(|mac| Far { mac, machine: None });
        let catalogue = catalogue(kind >> 2);
        let http_boot = catalogue.http_boot;
        let server = Server::new(config, catalogue, far);
        let (commits, asked) = (Vec::new(), Vec::new());
        Self { server, now: epoch(), written, open: None, commits, http_boot, asked }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.octet() % 16 {
            0..=8 => {
                let (from, bytes) = (peer(input), datagram(input));
                // Nothing but the server may be made to panic by them, so they are walked here too.
                let walked = walk::walk(&bytes);
                if let Ok(message) = Message::parse(&bytes) {
                    assert!(walked.is_ok(), "a message that does not add up was read");
                    self.asked.push((from, message, self.http_boot));
                }
                self.server.handle_datagram(&from, &bytes, self.now);
                let sent = self.drain();
                assert!(sent <= 1, "{sent} answers to one datagram");
            }
            9 | 10 => {
                if let Some(change) = self.open.take() {
                    if let Change::Attach(link) = &change {
                        self.written = Some(link.far.mac);
                    }
                    self.server.handle_committed(&change);
                    let sent = self.drain();
                    assert!(sent <= MAX_WAITING, "{sent} answers had waited");
                }
            }
            11 => {
                if let Some(change) = self.open.take() {
                    self.server.handle_commit_failed(&change, "away".to_owned());
                    assert_eq!(self.drain(), 0, "an answer although nothing was written");
                }
            }
            12 => {
                let catalogue = catalogue(input.octet());
                self.http_boot = catalogue.http_boot;
                self.server.handle_catalogue(catalogue);
            }
            13 => {
                if let Some(at) = self.server.next_deadline() {
                    self.pass(at.saturating_duration_since(self.now));
                }
            }
            _ => self.pass(time(input)),
        }
        assert_eq!(self.server.far().map(|far| far.mac), self.written, "the ledger has another far end");
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.server.handle_timeout(self.now);
        assert_eq!(self.drain(), 0, "an answer that nobody waits for any more");
        assert!(self.server.next_deadline().is_none_or(|at| at > self.now), "a deadline that has passed");
    }

    /// Looks at everything that the server wants done, and counts its answers.
    fn drain(&mut self) -> usize {
        let (mut sent, mut told) = (0, None::<Answered>);
        while let Some(effect) = self.server.poll_effect() {
            match effect {
                Effect::Commit(change) => self.commit(change),
                Effect::Note(Event::Answered(answered)) => told = Some(answered),
                Effect::Note(_) => {}
                Effect::Send { to, bytes } => {
                    let told = told.take().expect("an answer is told of before it is sent");
                    assert_eq!(told.to, to);
                    self.judge(&told, to, &bytes);
                    sent += 1;
                }
            }
        }
        sent
    }

    fn commit(&mut self, change: Change) {
        assert!(self.open.is_none(), "one change at a time");
        let Change::Attach(attached) = &change else { panic!("a server attaches links alone") };
        let (from, message, _) = self.asked.last().expect("nobody asked");
        assert_eq!((attached.id, attached.prefix), (link(), prefix()));
        assert_eq!((Some(attached.far.mac), attached.far.machine), (from.mac, None));
        assert!(attached.far.mac.is_unicast(), "no station");
        assert!(may_be_answered(from, message), "{from:?} {message:?}");
        for (before, at) in self.commits.iter().rev().enumerate() {
            let gained = self.now.saturating_duration_since(*at).as_nanos() / EVERY.as_nanos();
            let allowed = u128::from(BURST) + gained;
            assert!(u128::try_from(before).unwrap() < allowed, "the ledger is flooded");
        }
        self.commits.push(self.now);
        self.open = Some(change);
    }

    fn judge(&self, told: &Answered, to: SocketAddrV6, bytes: &[u8]) {
        let heard = Heard::read(bytes);
        let fits = |(from, message, _): &&(Peer, Message, HttpBoot)| {
            message.xid == heard.xid
                && from.address.ip() == to.ip()
                && message.client_id.as_deref() == heard.option(code::CLIENTID)
                && message.kind.name() == told.asked
                && from.mac == told.mac
                && may_be_answered(from, message)
        };
        let found = self.asked.iter().rev().filter(fits);
        assert!(
            found.clone().any(|(_, message, _)| is_right(message, &heard, told)),
            "{heard:?} answers none of {:?}",
            found.collect::<Vec<_>>()
        );
        assert_eq!(to.port(), CLIENT_PORT);
        assert_eq!(heard.option(code::SERVERID), Some(server_id().as_bytes()));
        assert!(heard.options.is_sorted_by_key(|(code, _)| *code), "EDK2 and iPXE want them in order");
        self.judge_addresses(&heard, told);
        if let Some(url) = heard.option(code::BOOTFILE_URL) {
            let near = prefix().near();
            let by_http = format!("http://[{near}]/boot/node.efi");
            let by_https = format!("https://[{near}]/boot/node.efi");
            let mut urls = vec![format!("tftp://[{near}]/node.efi")];
            // Firmware is told of one of them alone; iPXE, whose class is no secret, of the first in any case.
            let is_ipxe = |message: &Message| message.user_classes.iter().any(|class| class == IPXE);
            // What is answered once the ledger is written was made when it was asked for.
            for (_, message, then) in found.clone() {
                for http_boot in [self.http_boot, *then] {
                    if http_boot == HttpBoot::Secure {
                        urls.push(by_https.clone());
                    }
                    if http_boot == HttpBoot::Plain || is_ipxe(message) {
                        urls.push(by_http.clone());
                    }
                }
            }
            assert!(urls.iter().any(|known| known.as_bytes() == url), "{}", url.escape_ascii());
        }
    }

    /// No address but the far one is given, and that once, to a station that the ledger has.
    fn judge_addresses(&self, heard: &Heard, told: &Answered) {
        let far = prefix().far();
        let mut given = 0;
        for (address, preferred, valid) in heard.addresses() {
            if address == far {
                assert_eq!((preferred, valid), (DEFAULT_LIFETIMES.preferred, DEFAULT_LIFETIMES.valid));
                given += 1;
            } else {
                assert_eq!((preferred, valid), (0, 0), "{address} is given");
            }
        }
        assert!(given <= 1, "the far address is given {given} times");
        let confirmed = told.asked == Kind::Confirm.name() && heard.status() == Some(0);
        assert_eq!(told.leased, given == 1 || confirmed);
        if told.leased {
            assert!(
                told.mac.is_some() && told.mac == self.written,
                "the address is spoken before it is written"
            );
        }
    }
}

/// Whether an answer is of the kind that the question calls for, and says nothing that was not asked for.
fn is_right(message: &Message, heard: &Heard, told: &Answered) -> bool {
    let kind = if message.kind == Kind::Solicit && !message.rapid_commit { 2 } else { 7 };
    let boots = heard.option(code::BOOTFILE_URL).is_some();
    let asked = heard.options.iter().all(|(code, _)| match *code {
        code::CLIENTID | code::SERVERID | code::STATUS_CODE => true,
        code::IA_NA => has(message, AssociationKind::Addresses),
        code::IA_TA => has(message, AssociationKind::Temporary),
        code::IA_PD => has(message, AssociationKind::Prefixes),
        code::PREFERENCE => kind == 2,
        code::RAPID_COMMIT => message.kind == Kind::Solicit && message.rapid_commit,
        code::VENDOR_CLASS | code::CLIENT_ARCH_TYPE => boots,
        code::INFORMATION_REFRESH_TIME => message.kind == Kind::InformationRequest && message.wants(*code),
        12 | 60 => false,
        code => message.wants(code),
    });
    let confirmed = message.kind != Kind::Confirm
        || heard.status().is_some_and(|status| {
            let mut addresses = message.associations.iter().flat_map(|one: &Association| &one.addresses);
            addresses.all(|address| *address == prefix().far()) == (status == 0)
        });
    heard.kind == kind && asked && confirmed && told.asked == message.kind.name()
}

fn has(message: &Message, kind: AssociationKind) -> bool {
    message.associations.iter().any(|association| association.kind == kind)
}

/// Message validation, said once more `[RFC 9915 § 16]`.
fn may_be_answered(from: &Peer, message: &Message) -> bool {
    let source = from.address.ip();
    let unicast = !(source.is_unspecified() || source.is_multicast() || source.is_loopback());
    let ours = message.server_id.as_deref() == Some(server_id().as_bytes());
    let named = match message.kind {
        Kind::Solicit | Kind::Confirm | Kind::Rebind => message.server_id.is_none(),
        Kind::Request | Kind::Renew | Kind::Decline | Kind::Release => ours,
        Kind::InformationRequest => (ours || message.server_id.is_none()) && message.associations.is_empty(),
    };
    let identified = message.client_id.is_some() || message.kind == Kind::InformationRequest;
    from.destination.is_multicast() && unicast && named && identified
}

fn catalogue(files: u8) -> Catalogue {
    let file = |there: bool| there.then(file_name);
    let http_boot = match files & 12 {
        4 => HttpBoot::Secure,
        8 => HttpBoot::Uncertified,
        _ => HttpBoot::Plain,
    };
    Catalogue { x64: file(files & 1 != 0), arm64: file(files & 2 != 0), http_boot }
}
