//! What a server says.

use std::net::Ipv6Addr;

use bytes::Bytes;
use dhcproto::v6::{DhcpOption, IAAddr, IANA, IAPD, IATA, OptionCode, Status, StatusCode, UnknownOption};
use dhcproto::{Encodable, Encoder};

use super::AssociationKind;
use crate::services::DomainName;
use crate::wire::walk::code;

/// The longest answer: it passes every link of IPv6 in one piece `[RFC 8200 § 5]`, behind the headers of IPv6 and
/// UDP. EDK2 has room for 1472 octets.
pub const MAX_ANSWER: usize = 1280 - 40 - 8;
const HEADER: usize = 4;
/// Of option 56: the address of one server `[RFC 5908 § 4.1]`.
const NTP_SUBOPTION_SRV_ADDR: u16 = 1;

/// How a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerKind {
    /// You could have this.
    Advertise,
    /// You have this.
    Reply,
}

/// Lifetimes of an address, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// How long it is preferred.
    pub preferred: u32,
    /// How long it is valid.
    pub valid: u32,
}

/// What an answer says of one identity association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// What it is for.
    pub kind: AssociationKind,
    /// Its number.
    pub iaid: u32,
    /// Addresses, each with its lifetimes.
    pub addresses: Vec<(Ipv6Addr, Lifetimes)>,
    /// A status other than success.
    pub status: Option<(Status, &'static str)>,
}

/// A server's message. Its options go out in the order of their codes, each with the length that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    kind: AnswerKind,
    xid: [u8; 3],
    /// Each with its code in front of its octets.
    options: Vec<(u16, Vec<u8>)>,
}

// === impl Answer ===

impl Answer {
    /// An answer with no options yet.
    #[must_use]
    pub fn new(kind: AnswerKind, xid: [u8; 3]) -> Self {
        Self { kind, xid, options: Vec::new() }
    }

    /// How long the datagram is as it stands.
    fn octets(&self) -> usize {
        HEADER + self.options.iter().map(|(_, octets)| octets.len()).sum::<usize>()
    }

    /// Adds the client's DUID.
    pub fn client_id(&mut self, duid: &[u8]) {
        self.raw(code::CLIENTID, duid);
    }

    /// Adds the server's DUID.
    pub fn server_id(&mut self, duid: &[u8]) {
        self.raw(code::SERVERID, duid);
    }

    /// Adds how much the server wants to be chosen.
    pub fn preference(&mut self, preference: u8) {
        self.raw(code::PREFERENCE, &[preference]);
    }

    /// Says that the four-message exchange ends with this Reply.
    pub fn rapid_commit(&mut self) {
        self.raw(code::RAPID_COMMIT, &[]);
    }

    /// Adds a status for the whole message.
    pub fn status(&mut self, status: Status, text: &str) {
        self.put(&status_option(status, text));
    }

    /// Adds what becomes of the identity associations, in their order. Of those that do not all fit the one that is
    /// given an address goes first: firmware reads that, and a client with so many others is none.
    pub fn associations(&mut self, granted: &[Granted]) {
        let options: Vec<DhcpOption> = granted.iter().map(association_option).collect();
        let leased = granted.iter().zip(&options).filter(|(granted, _)| granted.leases());
        let leased: usize = leased.map(|(_, option)| octets_of(option).len()).sum();
        let mut room = MAX_ANSWER.saturating_sub(self.octets() + leased);
        for (granted, option) in granted.iter().zip(&options) {
            let left = room.checked_sub(octets_of(option).len());
            if !granted.leases() {
                let Some(left) = left else { continue };
                room = left;
            }
            self.put(option);
        }
    }

    /// Adds where the boot file is `[RFC 5970 § 3.1]`.
    pub fn bootfile_url(&mut self, url: &str) {
        self.raw(code::BOOTFILE_URL, url.as_bytes());
    }

    /// Adds which of the client's architectures the boot file is for `[RFC 5970 § 3.3]`.
    pub fn architecture(&mut self, number: u16) {
        self.raw(code::CLIENT_ARCH_TYPE, &number.to_be_bytes());
    }

    /// Adds a vendor class with one item.
    pub fn vendor_class(&mut self, enterprise: u32, data: &'static [u8]) {
        let len = u16::try_from(data.len()).unwrap_or(u16::MAX);
        self.raw(code::VENDOR_CLASS, &[&enterprise.to_be_bytes()[..], &len.to_be_bytes(), data].concat());
    }

    /// Adds an option that is a list of addresses: DNS servers `[RFC 3646 § 3]`, SNTP servers `[RFC 4075 § 4]`.
    pub fn servers(&mut self, code: u16, servers: &[Ipv6Addr]) {
        let octets: Vec<u8> = servers.iter().flat_map(Ipv6Addr::octets).collect();
        self.raw(code, &octets);
    }

    /// Adds the domains to look for short names in `[RFC 3646 § 4]`.
    pub fn search(&mut self, domains: &[DomainName]) {
        let octets: Vec<u8> = domains.iter().flat_map(DomainName::as_wire).copied().collect();
        self.raw(code::DOMAIN_LIST, &octets);
    }

    /// Adds an NTP server. One option holds one of them `[RFC 5908 § 4]`.
    pub fn ntp_server(&mut self, server: Ipv6Addr) {
        let head = [NTP_SUBOPTION_SRV_ADDR.to_be_bytes(), 16_u16.to_be_bytes()].concat();
        self.raw(code::NTP_SERVER, &[&head[..], &server.octets()].concat());
    }

    /// Adds an option that is a number of seconds.
    pub fn seconds(&mut self, code: u16, seconds: u32) {
        self.raw(code, &seconds.to_be_bytes());
    }

    /// The codec's encoders of options 15, 16 and others count items where the format counts octets, so whatever is
    /// not nested goes out as octets.
    fn raw(&mut self, code: u16, body: &[u8]) {
        self.put(&DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), body.to_vec())));
    }

    fn put(&mut self, option: &DhcpOption) {
        self.options.push((OptionCode::from(option).into(), octets_of(option)));
    }

    /// The datagram.
    #[must_use]
    pub fn emit(mut self) -> Bytes {
        let kind = match self.kind {
            AnswerKind::Advertise => 2,
            AnswerKind::Reply => 7,
        };
        // Stable: associations stay in the client's order. iPXE reads only the first, and EDK2 reads option 59 up
        // to the next zero octet, which the next code's high octet is as long as codes are below 256.
        self.options.sort_by_key(|(code, _)| *code);
        let [a, b, c] = self.xid;
        let mut datagram = vec![kind, a, b, c];
        for (_, octets) in &self.options {
            datagram.extend(octets);
        }
        Bytes::from(datagram)
    }
}

// === impl Granted ===

impl Granted {
    /// Whether it gives an address, and does not only take some away.
    #[must_use]
    pub fn leases(&self) -> bool {
        self.addresses.iter().any(|(_, lifetimes)| lifetimes.valid > 0)
    }
}

// === impl Lifetimes ===

impl Lifetimes {
    /// Of an address that is no more.
    pub const OVER: Self = Self { preferred: 0, valid: 0 };
    /// What is never over `[RFC 9915 § 7.7]`.
    pub const INFINITY: u32 = u32::MAX;

    /// When to ask for more: T1 and T2, 0.5 and 0.8 of the time `[RFC 9915 § 21.4]`.
    pub(super) fn renewal(self) -> (u32, u32) {
        match self.preferred {
            Self::INFINITY => (Self::INFINITY, Self::INFINITY),
            preferred => (preferred / 2, preferred / 5 * 4),
        }
    }
}

fn association_option(granted: &Granted) -> DhcpOption {
    let addresses = granted.addresses.iter().map(|(addr, lifetimes)| {
        DhcpOption::IAAddr(IAAddr {
            addr: *addr,
            preferred_life: lifetimes.preferred,
            valid_life: lifetimes.valid,
            opts: std::iter::empty().collect(),
        })
    });
    let status = granted.status.map(|(status, text)| status_option(status, text));
    // One association at most has an address that lasts, so these are the same wherever they matter.
    let lasting = granted.addresses.iter().map(|(_, lifetimes)| *lifetimes).filter(|time| time.valid > 0);
    let (t1, t2) = lasting.min_by_key(|time| time.preferred).unwrap_or(Lifetimes::OVER).renewal();
    let (id, opts) = (granted.iaid, addresses.chain(status).collect());
    match granted.kind {
        AssociationKind::Addresses => DhcpOption::IANA(IANA { id, t1, t2, opts }),
        AssociationKind::Temporary => DhcpOption::IATA(IATA { id, opts }),
        AssociationKind::Prefixes => DhcpOption::IAPD(IAPD { id, t1: 0, t2: 0, opts }),
    }
}

fn status_option(status: Status, text: &str) -> DhcpOption {
    DhcpOption::StatusCode(StatusCode { status, msg: text.to_owned() })
}

fn octets_of(option: &DhcpOption) -> Vec<u8> {
    let mut octets = Vec::new();
    option
        .encode(&mut Encoder::new(&mut octets))
        .expect("encoding into a vector fails only for names, and there are none");
    octets
}
