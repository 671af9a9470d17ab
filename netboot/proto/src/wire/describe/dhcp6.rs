//! DHCPv6 `[RFC 9915]`.

use super::names::{architecture, dhcp6_message, dhcp6_option, dhcp6_status, enterprise};
use super::{
    Description, Field, address_at, addresses, domains, malformed, octets, seconds, station, text, u16_at,
    u32_at,
};
use crate::wire::walk::code;

const RELAY_FORWARD: u8 = 12;
const RELAY_REPLY: u8 = 13;
const RELAY_MSG: u16 = 9;
const AUTH: u16 = 11;
const UNICAST: u16 = 12;
const VENDOR_OPTS: u16 = 17;
const INTERFACE_ID: u16 = 18;
const RECONF_MSG: u16 = 19;
const CLIENT_FQDN: u16 = 39;
const ECHO_REQUEST: u16 = 43;
const BOOTFILE_PARAM: u16 = 60;
const NII: u16 = 62;
const CLIENT_LINKLAYER_ADDR: u16 = 79;
/// A datagram inside a datagram, an option inside an option: what lies deeper is shown as octets.
const MAX_DEPTH: usize = 6;
/// The hardware type of Ethernet in IANA's registry.
const ETHERNET: u16 = 1;

/// A message of DHCPv6 in words.
#[must_use]
pub fn dhcp6(bytes: &[u8]) -> Description {
    message(bytes, 0)
}

fn message(bytes: &[u8], depth: usize) -> Description {
    let Some((kind, rest)) = bytes.split_first() else { return Description::new("DHCPv6: nothing") };
    let name = dhcp6_message(*kind).map_or_else(|| format!("message type {kind}"), str::to_owned);
    let mut said = Description::new(format!("DHCPv6 {name}"));
    let options = if matches!(*kind, RELAY_FORWARD | RELAY_REPLY) {
        relay_header(&mut said, rest)
    } else {
        rest.split_at_checked(3).map(|(xid, options)| {
            said.put("transaction", octets(xid));
            options
        })
    };
    match options {
        Some(options) => said.fields.extend(walk(options, depth)),
        None => said.put("header", malformed(rest)),
    }
    said
}

fn relay_header<'a>(said: &mut Description, rest: &'a [u8]) -> Option<&'a [u8]> {
    let (hops, link, peer) = (*rest.first()?, address_at(rest, 1)?, address_at(rest, 17)?);
    said.put("hop count", hops);
    said.put("link-address", link);
    said.put("peer-address", peer);
    rest.get(33..)
}

/// Options as far as they add up, and what is left.
fn walk(bytes: &[u8], depth: usize) -> Vec<Field> {
    each(bytes, |code, body| option(code, body, depth))
}

fn each(bytes: &[u8], mut tell: impl FnMut(u16, &[u8]) -> Field) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let header = u16_at(rest, 0).zip(u16_at(rest, 2));
        let body = header.and_then(|(_, len)| rest.get(4..4 + usize::from(len)));
        let (Some((code, _)), Some(body)) = (header, body) else {
            fields.push(Field::plain("options that do not add up", octets(rest)));
            break;
        };
        fields.push(tell(code, body));
        rest = rest.get(4 + body.len()..).unwrap_or_default();
    }
    fields
}

fn option(code: u16, body: &[u8], depth: usize) -> Field {
    let value = value(code, body).unwrap_or_else(|| malformed(body));
    let mut field = Field::option(code, dhcp6_option(code), value);
    let fixed = match code {
        code::IA_NA | code::IA_PD => 12,
        code::IA_TA => 4,
        code::IAADDR => 24,
        code::IAPREFIX => 25,
        code::NTP_SERVER => {
            field.fields = each(body, ntp);
            return field;
        }
        RELAY_MSG if depth < MAX_DEPTH => {
            let inner = message(body, depth + 1);
            (field.value, field.fields) = (inner.name, inner.fields);
            return field;
        }
        _ => return field,
    };
    let nested = body.get(fixed..).filter(|nested| !nested.is_empty());
    field.fields = match nested {
        Some(nested) if depth < MAX_DEPTH => walk(nested, depth + 1),
        Some(nested) => vec![Field::plain("options", octets(nested))],
        None => Vec::new(),
    };
    field
}

/// What an option says of itself; none if it is not of its form.
fn value(code: u16, body: &[u8]) -> Option<String> {
    Some(match code {
        code::CLIENTID | code::SERVERID => duid(body)?,
        code::IA_NA | code::IA_PD => {
            let (t1, t2) = (u32_at(body, 4)?, u32_at(body, 8)?);
            format!("IAID {:#010x}, T1 {}, T2 {}", u32_at(body, 0)?, seconds(t1), seconds(t2))
        }
        code::IA_TA => format!("IAID {:#010x}", u32_at(body, 0)?),
        code::IAADDR => {
            let (preferred, valid) = (u32_at(body, 16)?, u32_at(body, 20)?);
            format!("{}, preferred {}, valid {}", address_at(body, 0)?, seconds(preferred), seconds(valid))
        }
        code::IAPREFIX => {
            let (preferred, valid) = (seconds(u32_at(body, 0)?), seconds(u32_at(body, 4)?));
            format!("{}/{}, preferred {preferred}, valid {valid}", address_at(body, 9)?, body.get(8)?)
        }
        code::ORO | ECHO_REQUEST => codes(body)?,
        code::PREFERENCE => <[u8; 1]>::try_from(body).ok()?[0].to_string(),
        code::ELAPSED_TIME => {
            let hundredths = u16::from_be_bytes(body.try_into().ok()?);
            format!("{}.{:02} s", hundredths / 100, hundredths % 100)
        }
        RELAY_MSG | AUTH => octets(body),
        UNICAST => addresses(body)?,
        code::STATUS_CODE => {
            let (number, words) = (u16_at(body, 0)?, body.get(2..)?);
            let name = dhcp6_status(number).map_or_else(|| number.to_string(), str::to_owned);
            if words.is_empty() { name } else { format!("{name}, \"{}\"", text(words)) }
        }
        code::RAPID_COMMIT if body.is_empty() => String::new(),
        code::RAPID_COMMIT => return None,
        code::USER_CLASS | BOOTFILE_PARAM => items(body)?,
        code::VENDOR_CLASS => format!("{}: {}", enterprise(u32_at(body, 0)?), items(body.get(4..)?)?),
        VENDOR_OPTS => format!("{}: {}", enterprise(u32_at(body, 0)?), octets(body.get(4..)?)),
        INTERFACE_ID | code::BOOTFILE_URL => text(body),
        RECONF_MSG => dhcp6_message(*body.first()?)?.to_owned(),
        code::DNS_SERVERS | code::SNTP_SERVERS => addresses(body)?,
        code::DOMAIN_LIST => domains(body)?,
        code::INFORMATION_REFRESH_TIME | code::SOL_MAX_RT | code::INF_MAX_RT => {
            seconds(u32::from_be_bytes(body.try_into().ok()?))
        }
        CLIENT_FQDN => {
            let (flags, name) = body.split_first()?;
            format!("flags {flags:#04x}, {}", domains(name)?)
        }
        code::NTP_SERVER => String::new(),
        code::CLIENT_ARCH_TYPE => numbers(body)?.map(architecture_of).collect::<Vec<_>>().join(", "),
        NII => {
            let [kind, major, minor] = <[u8; 3]>::try_from(body).ok()?;
            let kind = if kind == 1 { "UNDI".to_owned() } else { format!("type {kind}") };
            format!("{kind} {major}.{minor}")
        }
        CLIENT_LINKLAYER_ADDR => format!("{}: {}", hardware(u16_at(body, 0)?), station(body.get(2..)?)),
        _ => octets(body),
    })
}

/// A DUID `[RFC 9915 § 11]`.
fn duid(body: &[u8]) -> Option<String> {
    let (kind, rest) = (u16_at(body, 0)?, body.get(2..)?);
    Some(match kind {
        1 => {
            let (kind, time, address) = (hardware(u16_at(rest, 0)?), u32_at(rest, 2)?, rest.get(6..)?);
            format!("DUID-LLT, {kind}, {}, made {time} s after the year 2000 began", station(address))
        }
        2 => format!("DUID-EN, {}, {}", enterprise(u32_at(rest, 0)?), octets(rest.get(4..)?)),
        3 => format!("DUID-LL, {}, {}", hardware(u16_at(rest, 0)?), station(rest.get(2..)?)),
        4 => {
            let digits: String = rest.iter().map(|octet| format!("{octet:02x}")).collect();
            let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| digits.get(part));
            let whole = <[u8; 16]>::try_from(rest).is_ok();
            let [Some(a), Some(b), Some(c), Some(d), Some(e)] = parts else { return None };
            format!("DUID-UUID, {}", if whole { [a, b, c, d, e].join("-") } else { octets(rest) })
        }
        other => format!("DUID of type {other}, {}", octets(rest)),
    })
}

fn hardware(number: u16) -> String {
    if number == ETHERNET { "Ethernet".to_owned() } else { format!("hardware type {number}") }
}

fn architecture_of(number: u16) -> String {
    architecture(number).map_or_else(|| number.to_string(), |name| format!("{number} ({name})"))
}

fn codes(body: &[u8]) -> Option<String> {
    let name = |code| dhcp6_option(code).map_or_else(|| code.to_string(), |name| format!("{code} {name}"));
    Some(numbers(body)?.map(name).collect::<Vec<_>>().join(", "))
}

fn numbers(body: &[u8]) -> Option<impl Iterator<Item = u16>> {
    let (pairs, rest) = body.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|pair| u16::from_be_bytes(*pair)))
}

/// A row of items, each with its length before it.
fn items(mut body: &[u8]) -> Option<String> {
    let mut listed = Vec::new();
    while !body.is_empty() {
        let len = usize::from(u16_at(body, 0)?);
        let (item, rest) = body.get(2..)?.split_at_checked(len)?;
        listed.push(text(item));
        body = rest;
    }
    Some(listed.join(", "))
}

/// A suboption of option 56; they have numbers of their own `[RFC 5908 § 4]`.
fn ntp(code: u16, body: &[u8]) -> Field {
    let (name, value) = match code {
        1 => ("NTP_SUBOPTION_SRV_ADDR", addresses(body)),
        2 => ("NTP_SUBOPTION_MC_ADDR", addresses(body)),
        3 => ("NTP_SUBOPTION_SRV_FQDN", domains(body)),
        _ => ("unknown", Some(octets(body))),
    };
    Field::option(code, Some(name), value.unwrap_or_else(|| malformed(body)))
}
