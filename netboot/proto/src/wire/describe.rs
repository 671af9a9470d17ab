//! Messages in words for people: every field and option by the name that the RFCs and IANA's registries give it.
//!
//! Nothing is decided here. What does not add up is told as far as it does, and then shown as octets: a strict reader
//! would have nothing to say of the very messages that somebody wants explained.

mod dhcp6;
mod icmp6;
mod names;
mod tftp;

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

use mesh::Mac;
use serde::Serialize;

pub use dhcp6::dhcp6;
pub use icmp6::icmp6;
pub use names::{architecture, dhcp6_option};
pub use tftp::tftp;

/// So many octets are shown of what has no form.
const MAX_OCTETS: usize = 48;
/// Seconds that never end `[RFC 9915 § 7.7]`, `[RFC 4861 § 4.6.2]`.
const INFINITY: u32 = u32::MAX;

/// A message in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Description {
    /// What it is.
    pub name: String,
    /// What it says, in its order.
    pub fields: Vec<Field>,
}

/// One thing that a message says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Field {
    /// Its number, if it is an option.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Its name.
    pub name: Cow<'static, str>,
    /// What it holds.
    pub value: String,
    /// What lies inside it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Self>,
}

// === impl Description ===

impl Description {
    fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), fields: Vec::new() }
    }

    fn put(&mut self, name: &'static str, value: impl fmt::Display) {
        self.fields.push(Field::plain(name, value));
    }

    /// The first option of this number, at whatever depth.
    #[must_use]
    pub fn option(&self, code: u16) -> Option<&Field> {
        find(&self.fields, code)
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        write_fields(f, &self.fields, 1)
    }
}

// === impl Field ===

impl Field {
    fn plain(name: &'static str, value: impl fmt::Display) -> Self {
        Self { code: None, name: Cow::Borrowed(name), value: value.to_string(), fields: Vec::new() }
    }

    fn option(code: u16, name: Option<&'static str>, value: String) -> Self {
        Self { code: Some(code), name: Cow::Borrowed(name.unwrap_or("unknown")), value, fields: Vec::new() }
    }
}

fn find(fields: &[Field], code: u16) -> Option<&Field> {
    let here = fields.iter().find(|field| field.code == Some(code));
    here.or_else(|| fields.iter().find_map(|field| find(&field.fields, code)))
}

fn write_fields(f: &mut fmt::Formatter<'_>, fields: &[Field], depth: usize) -> fmt::Result {
    for field in fields {
        write!(f, "\n{:indent$}", "", indent = depth * 2)?;
        if let Some(code) = field.code {
            write!(f, "{code} ")?;
        }
        f.write_str(&field.name)?;
        if !field.value.is_empty() {
            write!(f, ": {}", field.value)?;
        }
        write_fields(f, &field.fields, depth + 1)?;
    }
    Ok(())
}

/// Octets of no known form, in hexadecimal.
fn octets(bytes: &[u8]) -> String {
    let shown: String = bytes.iter().take(MAX_OCTETS).map(|octet| format!("{octet:02x}")).collect();
    match bytes.len() {
        0 => "nothing".to_owned(),
        len if len > MAX_OCTETS => format!("{shown}... ({len} octets)"),
        _ => shown,
    }
}

/// Octets that should be of another form.
fn malformed(bytes: &[u8]) -> String {
    format!("malformed: {}", octets(bytes))
}

/// What somebody else wrote: as text if it is one that a terminal can be trusted with.
fn text(bytes: &[u8]) -> String {
    let plain = !bytes.is_empty() && bytes.iter().all(|octet| (0x20..0x7f).contains(octet));
    if plain { String::from_utf8_lossy(bytes).into_owned() } else { octets(bytes) }
}

fn seconds(seconds: u32) -> String {
    if seconds == INFINITY { "infinity".to_owned() } else { format!("{seconds} s") }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|octets| u16::from_be_bytes(*octets))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|octets| u32::from_be_bytes(*octets))
}

fn address_at(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    bytes.get(at..)?.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets))
}

/// Addresses that fill the octets.
fn addresses(bytes: &[u8]) -> Option<String> {
    let (chunks, rest) = bytes.as_chunks::<16>();
    let listed: Vec<String> = chunks.iter().map(|octets| Ipv6Addr::from(*octets).to_string()).collect();
    (rest.is_empty() && !listed.is_empty()).then(|| listed.join(", "))
}

/// An Ethernet address that fills the octets, or whatever else does.
fn station(bytes: &[u8]) -> String {
    <[u8; 6]>::try_from(bytes).map_or_else(|_| octets(bytes), |mac| Mac(mac).to_string())
}

/// Domain names that fill the octets, but for zeros behind them, uncompressed `[RFC 9915 § 10]`.
fn domains(mut bytes: &[u8]) -> Option<String> {
    let mut names = Vec::new();
    let mut labels: Vec<String> = Vec::new();
    while let Some((len, rest)) = bytes.split_first() {
        let (label, rest) = rest.split_at_checked(usize::from(*len))?;
        bytes = rest;
        match len {
            0 if labels.is_empty() => {}
            0 => names.push(std::mem::take(&mut labels).join(".")),
            1..=63 => labels.push(text(label)),
            _ => return None,
        }
    }
    // A name without its end is a part of one: clients may send those [RFC 4704 § 4.2].
    if !labels.is_empty() {
        names.push(labels.join("."));
    }
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests;
