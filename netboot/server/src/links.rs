//! The machine's links, by netlink: which there are, what becomes of them, and how a mesh port is set up.
//!
//! Everything that depends on the netlink crates' types is in here, and in `routes`.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt, TryStreamExt};
use mesh::{LinkPrefix, Mac};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, CacheInfo};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, LinkUnspec, MulticastGroup};

/// The kernel answers at once; one that does not for this long has lost the question.
const PATIENCE: Duration = Duration::from_secs(5);

/// A link of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Its number.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: String,
    /// Its Ethernet address.
    pub(crate) mac: Mac,
    /// What it is.
    pub(crate) kind: InterfaceKind,
    /// Whether a cable carries.
    pub(crate) carrier: bool,
    /// Its MTU.
    pub(crate) mtu: u32,
    /// Its link-local addresses that may be used, and the others.
    pub(crate) addresses: BTreeMap<Ipv6Addr, AddressState>,
}

/// What a link is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InterfaceKind {
    /// An Ethernet port of the hardware, real or virtual.
    Hardware,
    /// One end of a pair: a mesh port only if it was named.
    Pair,
    /// A bridge, a tunnel, a bridge's port: never a mesh port.
    Other,
}

/// Whether an address can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressState {
    /// The kernel is still looking whether somebody else has it.
    Tentative,
    /// It can be used.
    Usable,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkEvent {
    /// A link appeared or is another than before.
    Changed(u32),
    /// A link is gone.
    Gone(u32),
    /// A station was found.
    Neighbour(u32, Ipv6Addr, Option<Mac>),
    /// Events were lost: read the table anew.
    Lost,
}

/// Why netlink did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinksError {
    /// No netlink.
    #[error("opening a netlink socket")]
    Open(#[source] io::Error),
    /// A refusal.
    #[error("{what}")]
    Refused {
        /// What was asked.
        what: String,
        /// How it was refused.
        #[source]
        source: rtnetlink::Error,
    },
    /// No answer.
    #[error("{what}: the kernel did not answer within {} s", PATIENCE.as_secs())]
    Silent {
        /// What was asked.
        what: String,
    },
    /// The connection ended.
    #[error("the netlink socket was closed")]
    Closed,
}

/// The machine's links.
#[derive(Debug)]
pub(crate) struct Links {
    handle: Handle,
    events: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    table: BTreeMap<u32, Interface>,
}

// === impl Interface ===

impl Interface {
    /// Whether router advertisements can be sent: they come from a link-local address `[RFC 4861 § 4.2]`.
    pub(crate) fn has_link_local(&self) -> bool {
        self.addresses
            .iter()
            .any(|(address, state)| address.is_unicast_link_local() && *state == AddressState::Usable)
    }
}

// === impl Links ===

impl Links {
    /// Starts to watch, and reads what there is.
    pub(crate) async fn open() -> Result<Self, LinksError> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv6Ifaddr, MulticastGroup::Neigh];
        let (watcher, _, events) = rtnetlink::new_multicast_connection(&groups).map_err(LinksError::Open)?;
        // A socket of its own for questions: a flood of events must not lose an answer.
        let (asker, handle, _) = rtnetlink::new_connection().map_err(LinksError::Open)?;
        tokio::spawn(watcher);
        tokio::spawn(asker);
        let mut links = Self { handle, events, table: BTreeMap::new() };
        links.resync().await?;
        Ok(links)
    }

    /// Every link.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Interface> {
        self.table.values()
    }

    /// The link of this number.
    pub(crate) fn get(&self, index: u32) -> Option<&Interface> {
        self.table.get(&index)
    }

    /// A copy that can ask while this one waits.
    pub(crate) fn setup(&self) -> Setup {
        Setup { handle: self.handle.clone() }
    }

    /// Reads all of the table, after which nothing that was lost matters.
    pub(crate) async fn resync(&mut self) -> Result<(), LinksError> {
        let links = self.handle.link().get().execute().try_collect::<Vec<_>>();
        let links = ask("listing links", links).await?;
        let addresses = self.handle.address().get().execute().try_collect::<Vec<_>>();
        let addresses = ask("listing addresses", addresses).await?;
        self.table.clear();
        for message in links {
            self.take_link(&message);
        }
        for message in addresses {
            self.take_address(&message, true);
        }
        Ok(())
    }

    /// Waits for what happens next; loses nothing if it is dropped while it waits.
    pub(crate) async fn next(&mut self) -> Result<LinkEvent, LinksError> {
        loop {
            let (message, _) = self.events.next().await.ok_or(LinksError::Closed)?;
            let event = match message.payload {
                NetlinkPayload::InnerMessage(inner) => self.take(inner),
                // The kernel had more to say than the socket could hold.
                NetlinkPayload::Overrun(_) => Some(LinkEvent::Lost),
                NetlinkPayload::Done(_) | NetlinkPayload::Error(_) | NetlinkPayload::Noop | _ => None,
            };
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "five of netlink's many messages were subscribed to")]
    fn take(&mut self, message: RouteNetlinkMessage) -> Option<LinkEvent> {
        match message {
            RouteNetlinkMessage::NewLink(link) => self.take_link(&link),
            RouteNetlinkMessage::DelLink(link) if link.header.interface_family == AddressFamily::Unspec => {
                self.table.remove(&link.header.index).map(|gone| LinkEvent::Gone(gone.index))
            }
            RouteNetlinkMessage::NewAddress(address) => self.take_address(&address, true),
            RouteNetlinkMessage::DelAddress(address) => self.take_address(&address, false),
            RouteNetlinkMessage::NewNeighbour(neighbour) => take_neighbour(&neighbour, true),
            RouteNetlinkMessage::DelNeighbour(neighbour) => take_neighbour(&neighbour, false),
            _ => None,
        }
    }

    fn take_link(&mut self, message: &LinkMessage) -> Option<LinkEvent> {
        // Bridges tell of their ports in messages of their own family.
        if message.header.interface_family != AddressFamily::Unspec {
            return None;
        }
        let index = message.header.index;
        let Some(mut interface) = interface_of(message) else {
            return self.table.remove(&index).map(|_| LinkEvent::Gone(index));
        };
        if let Some(known) = self.table.get(&index) {
            interface.addresses.clone_from(&known.addresses);
            if *known == interface {
                return None;
            }
        }
        self.table.insert(index, interface);
        Some(LinkEvent::Changed(index))
    }

    fn take_address(&mut self, message: &AddressMessage, present: bool) -> Option<LinkEvent> {
        let index = message.header.index;
        let interface = self.table.get_mut(&index)?;
        let address = message.attributes.iter().find_map(address_of)?;
        let tentative = message.header.flags.contains(AddressHeaderFlags::Tentative);
        let changed = if present {
            let state = if tentative { AddressState::Tentative } else { AddressState::Usable };
            interface.addresses.insert(address, state) != Some(state)
        } else {
            interface.addresses.remove(&address).is_some()
        };
        changed.then_some(LinkEvent::Changed(index))
    }
}

/// Questions and orders to the kernel.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    handle: Handle,
}

impl Setup {
    /// Makes a link a mesh port: up, with its near address, deaf to other routers. Twice is harmless.
    pub(crate) async fn prepare(&self, interface: &Interface, prefix: LinkPrefix) -> Result<(), LinksError> {
        let name = &interface.name;
        // Two running nodes are both routers on their cable and learn routes from the routing protocol alone.
        set_sysctl(name, "accept_ra", "0");
        // An advertisement must go out as soon as the carrier is there, and a tentative address cannot send. On a
        // cable with two ends, and addresses made of Ethernet addresses, nobody else can have it.
        set_sysctl(name, "accept_dad", "0");
        set_sysctl(name, "keep_addr_on_down", "1");
        let up = self.handle.link().set(LinkUnspec::new_with_index(interface.index).up().build());
        ask(&format!("bringing {name} up"), up.execute()).await?;
        self.add_address(interface.index, name, prefix.near(), prefix.net().prefix_len()).await
    }

    /// Gives the loopback interface an address of one machine.
    pub(crate) async fn hold(&self, loopback: u32, address: Ipv6Addr) -> Result<(), LinksError> {
        let up = self.handle.link().set(LinkUnspec::new_with_index(loopback).up().build());
        ask("bringing lo up", up.execute()).await?;
        self.add_address(loopback, "lo", address, 128).await
    }

    /// Takes it away again.
    pub(crate) async fn release(&self, loopback: u32, address: Ipv6Addr) -> Result<(), LinksError> {
        let addresses = self.handle.address().get().set_link_index_filter(loopback).execute();
        let found = ask("listing the addresses of lo", addresses.try_collect::<Vec<_>>()).await?;
        for message in found {
            if message.attributes.iter().find_map(address_of) == Some(address) {
                let what = format!("removing {address} from lo");
                ask(&what, self.handle.address().del(message).execute()).await?;
            }
        }
        Ok(())
    }

    /// Has the kernel find out which station is behind an address.
    pub(crate) async fn probe(&self, interface: u32, address: Ipv6Addr) -> Result<(), LinksError> {
        let probe = self.handle.neighbours().add(interface, IpAddr::V6(address));
        let probe = probe.replace().state(NeighbourState::None).flags(NeighbourFlags::Use);
        ask(&format!("looking for {address} on interface {interface}"), probe.execute()).await
    }

    async fn add_address(
        &self,
        index: u32,
        name: &str,
        address: Ipv6Addr,
        prefix_len: u8,
    ) -> Result<(), LinksError> {
        let mut add = self.handle.address().add(index, IpAddr::V6(address), prefix_len).replace();
        let message = add.message_mut();
        message.header.flags.insert(AddressHeaderFlags::Nodad);
        // Deprecated: only the node's own address may be the source of what it begins [RFC 6724 § 5, rule 3].
        let mut lifetimes = CacheInfo::default();
        lifetimes.ifa_valid = u32::MAX;
        message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
        ask(&format!("adding {address}/{prefix_len} to {name}"), add.execute()).await
    }
}

/// Asks the kernel, with a limit to the wait.
pub(crate) async fn ask<T>(
    what: &str,
    question: impl Future<Output = Result<T, rtnetlink::Error>>,
) -> Result<T, LinksError> {
    let what = what.to_owned();
    match tokio::time::timeout(PATIENCE, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(LinksError::Refused { what, source }),
        Err(_) => Err(LinksError::Silent { what }),
    }
}

/// Sets a port's IPv6 setting; a kernel without it serves without it.
fn set_sysctl(interface: &str, name: &str, value: &str) {
    let path = Path::new("/proc/sys/net/ipv6/conf").join(interface).join(name);
    if let Err(error) = std::fs::write(&path, value) {
        tracing::warn!(path = %path.display(), value, %error, "could not set a port's IPv6 setting");
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a link has five attributes that matter here and fifty others"
)]
fn interface_of(message: &LinkMessage) -> Option<Interface> {
    let mut interface = Interface {
        index: message.header.index,
        name: String::new(),
        mac: Mac([0; 6]),
        kind: InterfaceKind::Hardware,
        // The flags say so in one message; the attribute of that name is 1 on some links that are down.
        carrier: message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        mtu: 0,
        addresses: BTreeMap::new(),
    };
    let mut has_controller = false;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::Address(octets) => {
                interface.mac = octets.as_slice().try_into().map_or(interface.mac, Mac);
            }
            LinkAttribute::Controller(controller) => has_controller |= *controller != 0,
            LinkAttribute::LinkInfo(info) => {
                let kind = info.iter().find_map(|info| match info {
                    LinkInfo::Kind(InfoKind::Veth) => Some(InterfaceKind::Pair),
                    LinkInfo::Kind(InfoKind::Tun) => Some(InterfaceKind::Pair),
                    LinkInfo::Kind(_) => Some(InterfaceKind::Other),
                    _ => None,
                });
                interface.kind = kind.unwrap_or(interface.kind);
            }
            _ => {}
        }
    }
    let is_ethernet = message.header.link_layer_type == LinkLayerType::Ether && interface.mac.is_unicast();
    if !is_ethernet || has_controller {
        interface.kind = InterfaceKind::Other;
    }
    (!interface.name.is_empty()).then_some(interface)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an address has one attribute that matters here")]
fn address_of(attribute: &AddressAttribute) -> Option<Ipv6Addr> {
    match attribute {
        AddressAttribute::Address(IpAddr::V6(address)) => Some(*address),
        _ => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a neighbour has two attributes that matter here")]
fn take_neighbour(message: &NeighbourMessage, present: bool) -> Option<LinkEvent> {
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(destination)) => {
                address = Some(*destination);
            }
            NeighbourAttribute::LinkLayerAddress(octets) => mac = octets.as_slice().try_into().ok().map(Mac),
            _ => {}
        }
    }
    let failed = matches!(message.header.state, NeighbourState::Failed | NeighbourState::Incomplete);
    let mac = mac.filter(|mac| present && !failed && mac.is_unicast());
    Some(LinkEvent::Neighbour(message.header.ifindex, address?, mac))
}
