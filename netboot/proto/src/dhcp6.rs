//! The DHCPv6 server at the near end of a link `[RFC 9915]`, with one lease: the link's.
//!
//! Whoever asks on the link gets the far address, whatever its DUID and IAID: firmware, its successor and the
//! operating system are one machine at one cable, and call themselves differently. So there is no binding to
//! look up or to lose, and a Release by one of them takes nothing from the others.
//!
//! An answer that speaks of the address waits until the ledger knows the link and who is at its far end. If the
//! ledger cannot be written the client hears nothing, and its own retry tries again; a link that the ledger has
//! is served without asking it.

mod answer;
mod client;

use std::collections::VecDeque;
use std::net::SocketAddrV6;
use std::time::{Duration, Instant};

use mesh::{Change, Far, Link, LinkId, LinkPrefix, Mac, MachineId};

use crate::boot::Catalogue;
use crate::effect::{Answered, Effect, Event, Ignored, Peer, Refusal};
use crate::rate::Bucket;
use crate::services::Services;
use crate::timers::TimerTable;
use crate::wire::dhcp6::{CLIENT_PORT, Kind, Lifetimes, Message, ParseError};

pub use client::Client;

use answer::Composed;

/// The lifetimes of a lease unless the caller wants others.
pub const DEFAULT_LIFETIMES: Lifetimes = Lifetimes { preferred: 3600, valid: 7200 };
/// How long the ledger may take before the answers that wait for it are dropped.
pub const COMMIT_PATIENCE: Duration = Duration::from_secs(10);

/// Answers that wait for one commit; a client that sends more is repeating itself.
const MAX_WAITING: usize = 8;
/// So many different stations are written to the ledger at once, and then one every so often.
const STATIONS_BURST: u32 = 8;
const STATIONS_EVERY: Duration = Duration::from_secs(5);

/// The server's DUID. It must be the same after every restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerId(Vec<u8>);

/// What one link's server is told at its birth.
#[derive(Debug, Clone)]
pub struct Config {
    /// The link.
    pub link: LinkId,
    /// Its addresses.
    pub prefix: LinkPrefix,
    /// The server's DUID.
    pub server_id: ServerId,
    /// The lifetimes of the lease.
    pub lifetimes: Lifetimes,
    /// Name servers, search domains and clocks for those who ask.
    pub services: Services,
}

/// The server of one link.
#[derive(Debug)]
pub struct Server {
    config: Config,
    catalogue: Catalogue,
    ledger: LedgerView,
    stations: Bucket,
    timers: TimerTable<Timer>,
    effects: VecDeque<Effect>,
}

/// What the server knows of the ledger's entry for its link.
#[derive(Debug)]
enum LedgerView {
    /// The ledger has no such link, as far as is known.
    Absent,
    /// The ledger has it, with this far end.
    Known(Far),
    /// A change was handed out and has not come back.
    Committing {
        /// The change.
        change: Change,
        /// The far end that it writes.
        far: Far,
        /// What the ledger had before.
        before: Option<Far>,
        /// Since when.
        since: Instant,
        /// Answers that must not be sent before.
        waiting: VecDeque<Effect>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Patience,
}

// === impl ServerId ===

impl ServerId {
    /// A DUID-UUID `[RFC 6355]` of the serving machine: the same as long as the machine is.
    #[must_use]
    pub fn of_machine(machine: MachineId) -> Self {
        Self([&[0, 4], &machine.0.as_bytes()[..]].concat())
    }

    /// The octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

// === impl Server ===

impl Server {
    /// The server of a link that the ledger knows with this far end, or does not know yet.
    #[must_use]
    pub fn new(config: Config, catalogue: Catalogue, known: Option<Far>) -> Self {
        Self {
            config,
            catalogue,
            ledger: known.map_or(LedgerView::Absent, LedgerView::Known),
            stations: Bucket::new(STATIONS_BURST, STATIONS_EVERY),
            timers: TimerTable::default(),
            effects: VecDeque::new(),
        }
    }

    /// There are other boot files.
    pub fn handle_catalogue(&mut self, catalogue: Catalogue) {
        self.catalogue = catalogue;
    }

    /// A datagram came to port 547. Bad input becomes an event.
    pub fn handle_datagram(&mut self, from: &Peer, bytes: &[u8], now: Instant) {
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(ParseError::Walk(error)) => return self.ignore(from, Ignored::Walk(error)),
            Err(ParseError::NotAClients(kind)) => return self.ignore(from, Ignored::NotAClients(kind)),
            Err(ParseError::Relayed) => return self.ignore(from, Ignored::Relayed),
        };
        if let Err(reason) = self.judge(from, &message) {
            return self.ignore(from, reason);
        }
        let composed = match answer::compose(&self.config, &self.catalogue, &message) {
            Ok(composed) => composed,
            Err(reason) => return self.ignore(from, reason),
        };
        self.report_giving_back(from, &message);
        let needs_ledger = composed.speaks_of_address;
        let answer = effects_of(from, &message, composed);
        if needs_ledger { self.send_durably(from, answer, now) } else { self.effects.extend(answer) }
    }

    /// A change that [`poll_effect`](Self::poll_effect) gave out is durable.
    pub fn handle_committed(&mut self, committed: &Change) {
        if let LedgerView::Committing { change, far, waiting, .. } = &mut self.ledger
            && change == committed
        {
            self.effects.append(waiting);
            self.ledger = LedgerView::Known(*far);
            self.timers.stop(Timer::Patience);
        }
    }

    /// A change that [`poll_effect`](Self::poll_effect) gave out may not be durable.
    pub fn handle_commit_failed(&mut self, failed: &Change, reason: String) {
        if let LedgerView::Committing { change, far, before, .. } = &self.ledger
            && change == failed
        {
            let refused = Event::Refused { mac: Some(far.mac), reason: Refusal::Ledger(reason) };
            self.effects.push_back(Effect::Note(refused));
            self.ledger = before.map_or(LedgerView::Absent, LedgerView::Known);
            self.timers.stop(Timer::Patience);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(Timer::Patience) = self.timers.expire(now) {
            if let LedgerView::Committing { far, since, waiting, .. } = &mut self.ledger {
                // The client has given these up and sends new ones; the change itself is still on its way.
                waiting.clear();
                let seconds = now.saturating_duration_since(*since).as_secs();
                let reason = Refusal::LedgerSlow { seconds };
                self.effects.push_back(Effect::Note(Event::Refused { mac: Some(far.mac), reason }));
                self.timers.set(Timer::Patience, now + COMMIT_PATIENCE);
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

    /// The far end as the ledger has it.
    #[must_use]
    pub fn far(&self) -> Option<Far> {
        match &self.ledger {
            LedgerView::Absent => None,
            LedgerView::Known(far) => Some(*far),
            LedgerView::Committing { before, .. } => *before,
        }
    }

    /// Message validation `[RFC 9915 § 16]`.
    fn judge(&self, from: &Peer, message: &Message) -> Result<(), Ignored> {
        use Kind::{Confirm, Decline, InformationRequest, Rebind, Release, Renew, Request, Solicit};
        // No client was ever told of a unicast address, so what comes to one may come from behind the cable.
        if !from.destination.is_multicast() {
            return Err(Ignored::Unicast);
        }
        let source = from.address.ip();
        if source.is_unspecified() || source.is_multicast() || source.is_loopback() {
            return Err(Ignored::Source);
        }
        match message.kind {
            Solicit | Confirm | Rebind if message.server_id.is_some() => return Err(Ignored::ServerId),
            InformationRequest if !message.associations.is_empty() => return Err(Ignored::Association),
            Solicit | Confirm | Rebind | InformationRequest | Request | Renew | Decline | Release => {}
        }
        if message.client_id.is_none() && message.kind != InformationRequest {
            return Err(Ignored::NoClientId);
        }
        match &message.server_id {
            Some(id) if id != self.config.server_id.as_bytes() => Err(Ignored::OtherServer),
            None if matches!(message.kind, Request | Renew | Decline | Release) => Err(Ignored::OtherServer),
            Some(_) | None => Ok(()),
        }
    }

    /// Sends an answer now if the ledger has the link as it is, else behind the change that makes it so.
    fn send_durably(&mut self, from: &Peer, answer: [Effect; 2], now: Instant) {
        let Some(mac) = from.mac else { return self.refuse(None, Refusal::UnknownStation) };
        if !mac.is_unicast() {
            return self.refuse(Some(mac), Refusal::NotAStation(mac));
        }
        let before = match &mut self.ledger {
            LedgerView::Known(far) if far.mac == mac => return self.effects.extend(answer),
            LedgerView::Known(far) => Some(*far),
            LedgerView::Absent => None,
            LedgerView::Committing { far, .. } if far.mac != mac => {
                let busy = Refusal::Busy(far.mac);
                return self.refuse(Some(mac), busy);
            }
            LedgerView::Committing { waiting, .. } => {
                if waiting.len() + answer.len() > MAX_WAITING {
                    waiting.drain(..answer.len());
                }
                return waiting.extend(answer);
            }
        };
        if !self.stations.take(now) {
            return self.refuse(Some(mac), Refusal::TooManyStations);
        }
        let far = Far { mac, machine: None };
        let change = Change::Attach(Link { id: self.config.link, prefix: self.config.prefix, far });
        self.effects.push_back(Effect::Commit(change.clone()));
        let waiting = VecDeque::from(answer);
        self.ledger = LedgerView::Committing { change, far, before, since: now, waiting };
        self.timers.set(Timer::Patience, now + COMMIT_PATIENCE);
    }

    fn report_giving_back(&mut self, from: &Peer, message: &Message) {
        let event = match message.kind {
            Kind::Release => Event::Released { from: from.address },
            Kind::Decline => Event::Declined { from: from.address },
            Kind::Solicit
            | Kind::Request
            | Kind::Confirm
            | Kind::Renew
            | Kind::Rebind
            | Kind::InformationRequest => return,
        };
        self.effects.push_back(Effect::Note(event));
    }

    fn refuse(&mut self, mac: Option<Mac>, reason: Refusal) {
        self.effects.push_back(Effect::Note(Event::Refused { mac, reason }));
    }

    fn ignore(&mut self, from: &Peer, reason: Ignored) {
        self.effects.push_back(Effect::Note(Event::Ignored { from: from.address, reason }));
    }
}

fn effects_of(from: &Peer, message: &Message, composed: Composed) -> [Effect; 2] {
    let Composed { answer, boot, speaks_of_address } = composed;
    // Clients listen there, wherever they speak from [RFC 9915 § 7.2].
    let to = SocketAddrV6::new(*from.address.ip(), CLIENT_PORT, 0, from.address.scope_id());
    let answered =
        Answered { to, mac: from.mac, asked: message.kind.name(), leased: speaks_of_address, boot };
    let note = Effect::Note(Event::Answered(answered));
    [note, Effect::Send { to, bytes: answer.emit() }]
}

#[cfg(test)]
mod tests;
