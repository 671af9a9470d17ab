//! What the cores of a link are told and what they want done.

use std::net::{Ipv6Addr, SocketAddrV6};

use bytes::Bytes;
use mesh::{Change, Mac};

use crate::boot::Decision;
use crate::wire::walk::WalkError;

/// Whom a datagram came from, as far as the socket can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its source address; the answer goes there.
    pub address: SocketAddrV6,
    /// The Ethernet address behind it, where the neighbour table or the address itself says.
    pub mac: Option<Mac>,
    /// Where it was sent to.
    pub destination: Ipv6Addr,
    /// The hop limit that it arrived with.
    pub hop_limit: Option<u8>,
}

/// What a core wants done, in the order in which it wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make the change durable and report how that went. What depends on it waits.
    Commit(Change),
    /// Send a datagram.
    Send {
        /// To whom. A link-local address without a scope is one of the core's link.
        to: SocketAddrV6,
        /// The payload.
        bytes: Bytes,
    },
    /// Something that a log, a counter or the status wants to know.
    Note(Event),
}

/// What a core has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A packet was dropped, and nothing else happened.
    Ignored {
        /// Who sent it.
        from: SocketAddrV6,
        /// Why it was dropped.
        reason: Ignored,
    },
    /// A router advertisement goes out.
    Advertised(Occasion),
    /// A DHCPv6 client is answered.
    Answered(Answered),
    /// A DHCPv6 client is not answered although it asked well.
    Refused {
        /// Its Ethernet address, where it is known.
        mac: Option<Mac>,
        /// Why.
        reason: Refusal,
    },
    /// A client says that it does not use the link's address any more. The lease stays: it is the link's.
    Released {
        /// The client.
        from: SocketAddrV6,
    },
    /// A client says that somebody else on the link uses its address.
    Declined {
        /// The client.
        from: SocketAddrV6,
    },
}

/// Why a router advertisement goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// One of the first after the carrier came.
    Initial,
    /// Its time had come.
    Periodic,
    /// Somebody solicited it.
    Solicited,
    /// A DHCPv6 client is about to be answered; firmware looks for the router once, at that moment.
    Client,
    /// The last one: the router stops.
    Final,
}

/// A DHCPv6 answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// To whom.
    pub to: SocketAddrV6,
    /// Its Ethernet address, where it is known.
    pub mac: Option<Mac>,
    /// What it had sent, in the RFC's words.
    pub asked: &'static str,
    /// Whether the answer gives the link's address.
    pub leased: bool,
    /// What it was told to boot.
    pub boot: Decision,
}

/// Why a well-formed DHCPv6 request is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The ledger did not take the change.
    #[error("the ledger could not be written: {0}")]
    Ledger(String),
    /// The ledger has not answered yet.
    #[error("the ledger has not answered for {seconds} s")]
    LedgerSlow {
        /// How long it has been waited for.
        seconds: u64,
    },
    /// Another station's request is being written.
    #[error("another station, {0}, is being written to the ledger")]
    Busy(Mac),
    /// Nobody knows the client's Ethernet address yet.
    #[error("its Ethernet address is not known yet")]
    UnknownStation,
    /// The address that it asks from is no station's.
    #[error("{0} is no station's Ethernet address")]
    NotAStation(Mac),
    /// Too many different stations in a short time.
    #[error("too many different stations asked on this link: is there a switch?")]
    TooManyStations,
}

/// Why a packet was dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// Its hop limit shows that it crossed a router, or it has none.
    #[error("its hop limit is not 255")]
    HopLimit,
    /// It is no well-formed neighbour discovery message of the expected kind.
    #[error("it is malformed")]
    Malformed,
    /// Its options do not add up.
    #[error("its options are malformed: {0}")]
    Walk(#[from] WalkError),
    /// A server's or relay's message, which no client sends, or one of no known type.
    #[error("message type {0} is not a client's")]
    NotAClients(u8),
    /// It came by way of a relay agent, and there is none on a cable with two ends.
    #[error("it was relayed, and only who is on the cable is answered")]
    Relayed,
    /// It was sent to a unicast address, which no client was told to do.
    #[error("it was sent to a unicast address")]
    Unicast,
    /// Nobody can be answered there.
    #[error("its source is no unicast address")]
    Source,
    /// It does not say which client sent it.
    #[error("it has no client identifier")]
    NoClientId,
    /// It names a server although its kind must not.
    #[error("it names a server although it may not")]
    ServerId,
    /// It is for another server.
    #[error("it is for another server")]
    OtherServer,
    /// It carries an identity association although its kind must not.
    #[error("it asks for an address although it may not")]
    Association,
    /// It carries nothing that could be judged.
    #[error("it names nothing to judge")]
    NothingToJudge,
    /// The router does not advertise itself: no cable carries, or it has stopped.
    #[error("no router is advertised on this port now")]
    NotAdvertising,
}
