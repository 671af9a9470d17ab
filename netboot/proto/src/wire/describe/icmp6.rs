//! Router solicitations and advertisements `[RFC 4861 § 4]`.

use std::net::Ipv6Addr;

use super::{
    Description, Field, address_at, addresses, domains, malformed, octets, seconds, station, text, u16_at,
    u32_at,
};
use crate::wire::icmp6::{ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION};

const SOLICITATION_HEADER: usize = 8;
const ADVERTISEMENT_HEADER: usize = 16;

/// A message of ICMPv6 in words, if it is one that routers and those who look for one send.
#[must_use]
pub fn icmp6(bytes: &[u8]) -> Option<Description> {
    match *bytes.first()? {
        ROUTER_SOLICITATION => {
            let mut said = Description::new("Router Solicitation");
            put_options(&mut said, bytes.get(SOLICITATION_HEADER..), bytes);
            Some(said)
        }
        ROUTER_ADVERTISEMENT => {
            let mut said = Description::new("Router Advertisement");
            if header(&mut said, bytes).is_some() {
                put_options(&mut said, bytes.get(ADVERTISEMENT_HEADER..), bytes);
            } else {
                said.put("message", malformed(bytes));
            }
            Some(said)
        }
        _ => None,
    }
}

fn header(said: &mut Description, bytes: &[u8]) -> Option<()> {
    let (hop_limit, flags, lifetime) = (*bytes.get(4)?, *bytes.get(5)?, u16_at(bytes, 6)?);
    let (reachable, retransmission) = (u32_at(bytes, 8)?, u32_at(bytes, 12)?);
    said.put("Cur Hop Limit", hop_limit);
    said.put("M (addresses by DHCPv6)", yes(flags & 0x80));
    said.put("O (other things by DHCPv6)", yes(flags & 0x40));
    let preference = match flags >> 3 & 0b11 {
        0b00 => "medium",
        0b01 => "high",
        0b11 => "low",
        _ => "reserved",
    };
    said.put("Prf (default router preference)", preference);
    let none = if lifetime == 0 { ": no default router" } else { "" };
    said.put("Router Lifetime", format!("{lifetime} s{none}"));
    said.put("Reachable Time", milliseconds(reachable));
    said.put("Retrans Timer", milliseconds(retransmission));
    Some(())
}

fn yes(flag: u8) -> &'static str {
    if flag == 0 { "no" } else { "yes" }
}

fn milliseconds(time: u32) -> String {
    if time == 0 { "the host's own".to_owned() } else { format!("{time} ms") }
}

fn put_options(said: &mut Description, options: Option<&[u8]>, whole: &[u8]) {
    let Some(mut rest) = options else { return said.put("message", malformed(whole)) };
    while !rest.is_empty() {
        let len = rest.get(1).map_or(0, |units| usize::from(*units) * 8);
        let (Some(code), Some(body)) = (rest.first(), rest.get(2..len).filter(|_| len > 0)) else {
            return said.put("options that do not add up", octets(rest));
        };
        let (name, value) = option(*code, body);
        let value = value.unwrap_or_else(|| malformed(body));
        said.fields.push(Field::option(u16::from(*code), name, value));
        rest = rest.get(len..).unwrap_or_default();
    }
}

/// IANA's name of an option of neighbour discovery, and what it says; none if it is not of its form.
fn option(code: u8, body: &[u8]) -> (Option<&'static str>, Option<String>) {
    let (name, value) = match code {
        1 => ("Source Link-layer Address", Some(station(body))),
        2 => ("Target Link-layer Address", Some(station(body))),
        3 => ("Prefix Information", prefix(body)),
        5 => ("MTU", u32_at(body, 2).map(|mtu| mtu.to_string())),
        14 => ("Nonce", Some(octets(body))),
        24 => ("Route Information", route(body)),
        25 => ("Recursive DNS Server", timed(body, addresses)),
        31 => ("DNS Search List", timed(body, domains)),
        37 => ("Captive Portal", Some(text(strip_zeros(body)))),
        38 => ("PREF64", Some(octets(body))),
        _ => return (None, Some(octets(body))),
    };
    (Some(name), value)
}

fn prefix(body: &[u8]) -> Option<String> {
    let (len, flags, valid, preferred) = (body.first()?, body.get(1)?, u32_at(body, 2)?, u32_at(body, 6)?);
    Some(format!(
        "{}/{len}, L (on-link) {}, A (autonomous) {}, valid {}, preferred {}",
        address_at(body, 14)?,
        yes(flags & 0x80),
        yes(flags & 0x40),
        seconds(valid),
        seconds(preferred),
    ))
}

/// As much of the prefix is there as it needs `[RFC 4191 § 2.3]`.
fn route(body: &[u8]) -> Option<String> {
    let (len, lifetime, shown) = (body.first()?, u32_at(body, 2)?, body.get(6..)?);
    let mut octets = [0; 16];
    octets.get_mut(..shown.len())?.copy_from_slice(shown);
    Some(format!("{}/{len}, {}", Ipv6Addr::from(octets), seconds(lifetime)))
}

/// An option of RFC 8106: two reserved octets, a lifetime, and a list.
fn timed(body: &[u8], list: impl Fn(&[u8]) -> Option<String>) -> Option<String> {
    Some(format!("{}, for {}", list(body.get(6..)?)?, seconds(u32_at(body, 2)?)))
}

fn strip_zeros(body: &[u8]) -> &[u8] {
    let end = body.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
    body.get(..end).unwrap_or(body)
}
