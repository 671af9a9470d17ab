//! Recorded frames: the way to the datagrams in them.
//!
//! The kernel does this for a gateway; here it is for frames out of a file, of which nothing was checked. Checksums are
//! not looked at: what a machine sends is mostly recorded before they are filled in.

use std::net::Ipv6Addr;

use mesh::Mac;

const IPV6: u16 = 0x86dd;
/// What an 802.1Q tag is behind; the second is that of a provider's.
const TAGS: [u16; 2] = [0x8100, 0x88a8];
/// No frame has more of them.
const MAX_TAGS: usize = 2;
const ADDRESSES: usize = 12;
const SLL_HEADER: usize = 16;
const SLL2_HEADER: usize = 20;
/// The hardware type of Ethernet `[RFC 826]`.
const ETHERNET: u16 = 1;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;

const UDP: u8 = 17;
const ICMP6: u8 = 58;
/// Extension headers `[RFC 8200 § 4]`.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
const MAX_EXTENSIONS: usize = 8;

/// What stands in front of the IPv6 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Ethernet's header.
    Ethernet,
    /// Linux's of a recording on any port, which has the source alone.
    Cooked,
    /// The second version of that.
    Cooked2,
    /// Nothing.
    Bare,
}

/// A datagram of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The Ethernet address that sent it, where it was recorded.
    pub mac: Option<Mac>,
    /// Its source.
    pub source: Ipv6Addr,
    /// Where it goes to.
    pub destination: Ipv6Addr,
    /// Its hop limit.
    pub hop_limit: u8,
    /// What it carries.
    pub payload: Payload<'a>,
}

/// What a datagram carries, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// A message of ICMPv6.
    Icmp6(&'a [u8]),
    /// A datagram of UDP.
    Udp {
        /// The port that sent it.
        from: u16,
        /// The port that it goes to.
        to: u16,
        /// What it holds.
        bytes: &'a [u8],
    },
    /// Another protocol, by its number.
    Other(u8),
}

/// Why a frame holds no datagram that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Another protocol, by its EtherType.
    #[error("not IPv6 (EtherType {0:#06x})")]
    NotIpv6(u16),
    /// A part of a datagram.
    #[error("a fragment")]
    Fragment,
    /// It ends before its headers say so.
    #[error("cut short")]
    Short,
}

impl<'a> Frame<'a> {
    /// Reads a frame.
    ///
    /// # Errors
    ///
    /// It holds no whole datagram of IPv6.
    pub fn parse(framing: Framing, bytes: &'a [u8]) -> Result<Self, FrameError> {
        let (mac, packet) = match framing {
            Framing::Ethernet => ethernet(bytes)?,
            Framing::Cooked => cooked(bytes)?,
            Framing::Cooked2 => cooked2(bytes)?,
            Framing::Bare => (None, bytes),
        };
        let (header, rest) = packet.split_first_chunk::<IPV6_HEADER>().ok_or(FrameError::Short)?;
        let [version, _, _, _, l0, l1, next, hop_limit, addresses @ ..] = header;
        if version >> 4 != 6 {
            return Err(FrameError::NotIpv6(if version >> 4 == 4 { 0x0800 } else { 0 }));
        }
        let (source, destination) = addresses.split_first_chunk::<16>().ok_or(FrameError::Short)?;
        let destination: &[u8; 16] = destination.try_into().map_err(|_| FrameError::Short)?;
        // Behind it may be Ethernet's padding.
        let body = rest.get(..usize::from(u16::from_be_bytes([*l0, *l1]))).ok_or(FrameError::Short)?;
        Ok(Self {
            mac: mac.filter(|mac| mac.is_unicast()),
            source: Ipv6Addr::from(*source),
            destination: Ipv6Addr::from(*destination),
            hop_limit: *hop_limit,
            payload: payload(*next, body)?,
        })
    }
}

fn ethernet(bytes: &[u8]) -> Result<(Option<Mac>, &[u8]), FrameError> {
    let (addresses, mut rest) = bytes.split_first_chunk::<ADDRESSES>().ok_or(FrameError::Short)?;
    let [_, _, _, _, _, _, mac @ ..] = *addresses;
    for _ in 0..=MAX_TAGS {
        let (kind, behind) = rest.split_first_chunk::<2>().ok_or(FrameError::Short)?;
        match u16::from_be_bytes(*kind) {
            IPV6 => return Ok((Some(Mac(mac)), behind)),
            tag if TAGS.contains(&tag) => rest = behind.get(2..).ok_or(FrameError::Short)?,
            other => return Err(FrameError::NotIpv6(other)),
        }
    }
    Err(FrameError::NotIpv6(TAGS[0]))
}

/// Packet type, hardware type, length of the address, eight octets of address, protocol.
fn cooked(bytes: &[u8]) -> Result<(Option<Mac>, &[u8]), FrameError> {
    let (header, packet) = bytes.split_first_chunk::<SLL_HEADER>().ok_or(FrameError::Short)?;
    let [_, _, h0, h1, _, len, a, b, c, d, e, f, _, _, p0, p1] = *header;
    ipv6([p0, p1])?;
    Ok((sender([h0, h1], len, [a, b, c, d, e, f]), packet))
}

/// Protocol, reserved, interface, hardware type, packet type, length of the address, eight octets of address.
fn cooked2(bytes: &[u8]) -> Result<(Option<Mac>, &[u8]), FrameError> {
    let (header, packet) = bytes.split_first_chunk::<SLL2_HEADER>().ok_or(FrameError::Short)?;
    let [p0, p1, _, _, _, _, _, _, h0, h1, _, len, a, b, c, d, e, f, _, _] = *header;
    ipv6([p0, p1])?;
    Ok((sender([h0, h1], len, [a, b, c, d, e, f]), packet))
}

fn sender(hardware: [u8; 2], len: u8, mac: [u8; 6]) -> Option<Mac> {
    (u16::from_be_bytes(hardware) == ETHERNET && len == 6).then_some(Mac(mac))
}

fn ipv6(kind: [u8; 2]) -> Result<(), FrameError> {
    match u16::from_be_bytes(kind) {
        IPV6 => Ok(()),
        other => Err(FrameError::NotIpv6(other)),
    }
}

fn payload(mut next: u8, mut body: &[u8]) -> Result<Payload<'_>, FrameError> {
    for _ in 0..=MAX_EXTENSIONS {
        match next {
            ICMP6 => return Ok(Payload::Icmp6(body)),
            UDP => return udp(body),
            FRAGMENT => return Err(FrameError::Fragment),
            HOP_BY_HOP | ROUTING | DESTINATION => {
                let (&[following, units], _) = body.split_first_chunk::<2>().ok_or(FrameError::Short)?;
                body = body.get(8 + 8 * usize::from(units)..).ok_or(FrameError::Short)?;
                next = following;
            }
            other => return Ok(Payload::Other(other)),
        }
    }
    Ok(Payload::Other(next))
}

fn udp(body: &[u8]) -> Result<Payload<'_>, FrameError> {
    let (&[f0, f1, t0, t1, l0, l1, _, _], _) =
        body.split_first_chunk::<UDP_HEADER>().ok_or(FrameError::Short)?;
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    let bytes = body.get(UDP_HEADER..len).ok_or(FrameError::Short)?;
    Ok(Payload::Udp { from: u16::from_be_bytes([f0, f1]), to: u16::from_be_bytes([t0, t1]), bytes })
}

#[cfg(test)]
mod tests;
