//! The link that everything happens on, and who is there.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mesh::{Block, LinkId, LinkPrefix, Mac, MachineId, PortIndex};
use netboot_proto::dhcp6::ServerId;
use netboot_proto::effect::Peer;
use netboot_proto::{DomainName, Services};
use netboot_server::FileName;

use crate::Input;

/// The near port's Ethernet address.
pub(crate) const NEAR: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// The stations of the link; the last of them is none.
pub(crate) const STATIONS: [Mac; 4] = [
    Mac([2, 0, 0, 0, 9, 1]),
    Mac([2, 0, 0, 0, 9, 2]),
    Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
    Mac([1, 0, 0x5e, 0, 0, 1]),
];
const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

pub(crate) fn port() -> PortIndex {
    PortIndex::try_from(0).unwrap()
}

pub(crate) fn prefix() -> LinkPrefix {
    Block::new("2001:db8::/119".parse().unwrap()).unwrap().link(port())
}

pub(crate) fn link() -> LinkId {
    LinkId { near: MachineId::from_mac(NEAR), port: port() }
}

pub(crate) fn server_id() -> ServerId {
    ServerId::of_machine(link().near)
}

pub(crate) fn file_name() -> FileName {
    FileName::try_from("node.efi".to_owned()).unwrap()
}

/// None, or as many as there may be.
pub(crate) fn services(full: bool) -> Services {
    if !full {
        return Services::default();
    }
    let servers = |what: u16| (0..4).map(|at| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, what, at)).collect();
    let domain: DomainName = format!("{}.example", "a".repeat(55)).parse().unwrap();
    Services::new(servers(0x53), vec![domain; 3], servers(0x123)).unwrap()
}

/// Some moment, always the same.
pub(crate) fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// Some time that passes: milliseconds, or minutes of them.
pub(crate) fn time(input: &mut Input<'_>) -> Duration {
    match input.short() {
        long if long >= 0x8000 => Duration::from_millis(u64::from(long & 0x7fff) * 10),
        short => Duration::from_millis(u64::from(short)),
    }
}

/// Somebody who speaks: mostly a station as it should be.
pub(crate) fn peer(input: &mut Input<'_>) -> Peer {
    let octet = input.octet();
    let station = STATIONS[usize::from(octet & 3)];
    let ip = match octet >> 2 & 7 {
        0..=3 => station.link_local(),
        4 => Ipv6Addr::UNSPECIFIED,
        5 => prefix().far(),
        6 => Ipv6Addr::from(input.array::<16>()),
        _ => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, input.short()),
    };
    let (destination, hop_limit, mac) = match octet >> 5 {
        0..=3 => (ALL_SERVERS, Some(255), Some(station)),
        4 => (NEAR.link_local(), Some(255), Some(station)),
        5 => (ALL_SERVERS, Some(input.octet()), Some(station)),
        6 => (ALL_SERVERS, None, None),
        _ => (ALL_SERVERS, Some(255), Some(NEAR)),
    };
    Peer { address: SocketAddrV6::new(ip, 546, 0, 3), mac, destination, hop_limit }
}
