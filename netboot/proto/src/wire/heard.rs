//! What other routers and DHCPv6 servers say, and what makes them say it.
//!
//! Only so much is read as tells whether they belong on the link.

use std::net::Ipv6Addr;

use bytes::{BufMut, Bytes, BytesMut};
use ipnet::Ipv6Net;
use mesh::Mac;

use super::icmp6::{PrefixInformation, ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION};
use super::walk::{self, code};

const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const PREFIX_INFORMATION: u8 = 3;
const ADVERTISEMENT_HEADER: usize = 16;
/// More prefixes than a router has reason to advertise; the rest of them says nothing new.
const MAX_PREFIXES: usize = 16;

const ADVERTISE: u8 = 2;
const REPLY: u8 = 7;
const INFORMATION_REQUEST: u8 = 11;

/// A router advertisement of somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeardAdvertisement {
    /// For how many seconds the sender is a default router; 0 says that it is none.
    pub router_lifetime: u16,
    /// The sender's Ethernet address, where it says one.
    pub source_mac: Option<Mac>,
    /// Its prefixes.
    pub prefixes: Vec<PrefixInformation>,
}

/// An Advertise or Reply of somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeardAnswer {
    /// The server's DUID.
    pub server_id: Vec<u8>,
}

// === impl HeardAdvertisement ===

impl HeardAdvertisement {
    /// Reads an advertisement; none if it breaks a rule of `[RFC 4861 § 6.1.2]` (the hop limit and the checksum were
    /// judged elsewhere).
    #[must_use]
    pub fn parse(source: Ipv6Addr, bytes: &[u8]) -> Option<Self> {
        let (header, mut options) = bytes.split_first_chunk::<ADVERTISEMENT_HEADER>()?;
        let [kind, code, _, _, _, _, high, low, ..] = *header;
        if kind != ROUTER_ADVERTISEMENT || code != 0 || !source.is_unicast_link_local() {
            return None;
        }
        let mut heard =
            Self { router_lifetime: u16::from_be_bytes([high, low]), source_mac: None, prefixes: Vec::new() };
        while let Some((&[kind, units], rest)) = options.split_first_chunk::<2>() {
            let len = usize::from(units) * 8;
            let body = rest.get(..len.checked_sub(2)?)?;
            match kind {
                SOURCE_LINK_LAYER_ADDRESS => heard.source_mac = body.first_chunk::<6>().copied().map(Mac),
                PREFIX_INFORMATION if heard.prefixes.len() < MAX_PREFIXES => {
                    heard.prefixes.extend(prefix_information(body));
                }
                _ => {}
            }
            options = options.get(len..)?;
        }
        options.is_empty().then_some(heard)
    }
}

/// The body of a prefix information option `[RFC 4861 § 4.6.2]`.
fn prefix_information(body: &[u8]) -> Option<PrefixInformation> {
    let body: &[u8; 30] = body.try_into().ok()?;
    let [len, flags, v0, v1, v2, v3, p0, p1, p2, p3, _, _, _, _, address @ ..] = *body;
    Some(PrefixInformation {
        net: Ipv6Net::new(Ipv6Addr::from(address), len).ok()?.trunc(),
        on_link: flags & 0x80 != 0,
        autonomous: flags & 0x40 != 0,
        valid: u32::from_be_bytes([v0, v1, v2, v3]),
        preferred: u32::from_be_bytes([p0, p1, p2, p3]),
    })
}

// === impl HeardAnswer ===

impl HeardAnswer {
    /// Reads a server's message; none if it is no server's, does not add up, or says no DUID.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let walked = walk::walk(bytes).ok()?;
        if !matches!(walked.kind, ADVERTISE | REPLY) {
            return None;
        }
        let id = walked.options.iter().find(|option| option.code == code::SERVERID)?;
        Some(Self { server_id: id.body.to_vec() })
    }
}

/// A router solicitation, with a checksum of zero: the kernel fills it in.
#[must_use]
pub fn router_solicitation(mac: Mac) -> Bytes {
    let mut out = BytesMut::with_capacity(16);
    out.put_slice(&[ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0, SOURCE_LINK_LAYER_ADDRESS, 1]);
    out.put_slice(&mac.0);
    out.freeze()
}

/// An Information-request `[RFC 9915 § 18.2.6]`: it asks for no address, so it leaves no trace at a server.
#[must_use]
pub fn information_request(xid: [u8; 3], duid: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    out.put_u8(INFORMATION_REQUEST);
    out.put_slice(&xid);
    let mut option = |code: u16, body: &[u8]| {
        out.put_u16(code);
        out.put_u16(u16::try_from(body.len()).unwrap_or(u16::MAX));
        out.put_slice(body);
    };
    option(code::CLIENTID, duid.get(..walk::MAX_DUID).unwrap_or(duid));
    option(code::ORO, &[code::DNS_SERVERS, code::SOL_MAX_RT].map(u16::to_be_bytes).concat());
    option(code::ELAPSED_TIME, &[0, 0]);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::dhcp6::{Kind, Message};
    use crate::wire::icmp6::{RouterAdvertisement, RouterPreference, RouterSolicitation};

    fn router() -> Ipv6Addr {
        "fe80::1".parse().unwrap()
    }

    #[test]
    fn what_we_advertise_is_heard_as_it_was_meant() {
        let prefix = PrefixInformation {
            net: "2001:db8::10/126".parse().unwrap(),
            on_link: true,
            autonomous: false,
            valid: 7200,
            preferred: 3600,
        };
        let said = RouterAdvertisement {
            cur_hop_limit: 64,
            managed: true,
            other: true,
            preference: RouterPreference::Medium,
            router_lifetime: 1800,
            source_mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            mtu: Some(1500),
            prefix: Some(prefix),
            dns: vec![router()],
            search: Vec::new(),
            dns_lifetime: 60,
        };
        let heard = HeardAdvertisement::parse(router(), &said.emit()).unwrap();
        let expected =
            HeardAdvertisement { router_lifetime: 1800, source_mac: said.source_mac, prefixes: vec![prefix] };
        assert_eq!(heard, expected);
        assert_eq!(HeardAdvertisement::parse("2001:db8::1".parse().unwrap(), &said.emit()), None);
    }

    #[test]
    fn our_questions_are_well_formed() {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let solicitation = RouterSolicitation::parse(router(), &router_solicitation(mac)).unwrap();
        assert_eq!(solicitation.source_mac, Some(mac));
        let message = Message::parse(&information_request([1, 2, 3], &[0, 4, 9])).unwrap();
        assert_eq!((message.kind, message.xid), (Kind::InformationRequest, [1, 2, 3]));
        assert_eq!(message.client_id.as_deref(), Some(&[0, 4, 9][..]));
        assert!(message.wants(code::DNS_SERVERS) && message.associations.is_empty());
    }

    #[test]
    fn only_a_server_that_says_who_it_is_is_heard() {
        let reply = [7, 0, 0, 1, 0, 2, 0, 3, 0, 4, 7];
        assert_eq!(HeardAnswer::parse(&reply).unwrap().server_id, [0, 4, 7]);
        assert_eq!(HeardAnswer::parse(&reply[..4]), None);
        let mut request = reply;
        request[0] = 3;
        assert_eq!(HeardAnswer::parse(&request), None);
    }

    proptest! {
        #[test]
        fn nothing_that_is_heard_can_make_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut advertisement = vec![ROUTER_ADVERTISEMENT, 0];
            advertisement.extend(&octets);
            let _any = HeardAdvertisement::parse(router(), &advertisement);
            let _any = HeardAnswer::parse(&octets);
        }
    }
}
