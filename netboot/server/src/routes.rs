//! The kernel's routes by way of neighbours: each change of where something can be reached is an event.
//!
//! Netlink only tells that something has changed; then the whole table is read and compared. A route with several next
//! hops is told of in pieces that depend on who changes it, and a table of one mesh is small. Changes of routes that follow
//! each other within [`SETTLE`] are one: a route that is replaced is not lost in between. Each event bears the time at
//! which the kernel told of the first of them. A port that loses its carrier takes its next hops with it at once, of
//! which nothing is told: then the table is read at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt as _, TryStreamExt as _};
use ipnet::Ipv6Net;
use mesh::block::BLOCK_PREFIX_LEN;
use mesh::{Block, Happening, Moment};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHopFlags, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use tokio::time::Instant;

use crate::events::{EventLog, moment};
use crate::links::{LinksError, ask};

/// The table is read this long after the first word of a change.
const SETTLE: Duration = Duration::from_millis(10);
/// It is read this often whatever was told: the kernel does not tell of every next hop that dies with its port.
const GUARD: Duration = Duration::from_secs(5);

/// Which routes are watched.
#[derive(Debug, Clone)]
pub struct RouteScope {
    /// What every machine's block is cut from.
    pub machines: Ipv6Net,
    /// This machine's own block, to which no route leads.
    pub own: Block,
    /// The anycast addresses.
    pub anycasts: BTreeSet<Ipv6Addr>,
}

/// Why routes cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("watching the kernel's routes")]
pub struct RoutesError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// One path of a route: the number of the port that it leaves by, and the neighbour that it goes to.
type Hop = (u32, Ipv6Addr);
/// All paths, by where they lead.
type Table = BTreeMap<Ipv6Net, BTreeSet<Hop>>;

/// What a message of the kernel means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// Nothing that matters here.
    Nothing,
    /// A route that is watched was changed.
    Route,
    /// A port was changed, whose next hops may have died with it, or messages were lost.
    Other,
}

/// The kernel, asked and listened to.
struct Kernel {
    handle: Handle,
    events: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    /// The names of ports, also of those that are gone: their routes go a little later.
    names: BTreeMap<u32, String>,
}

/// Notes what becomes of the routes, for ever.
///
/// # Errors
///
/// Netlink cannot be opened, or ended.
pub async fn watch_routes(scope: RouteScope, log: EventLog) -> Result<(), RoutesError> {
    watch(scope, log).await.map_err(|error| RoutesError(error.into()))
}

async fn watch(scope: RouteScope, log: EventLog) -> Result<(), LinksError> {
    let mut kernel = Kernel::open()?;
    let mut table = Table::new();
    let mut heard = None;
    loop {
        let now = kernel.read(&scope).await?;
        let at = heard.unwrap_or_else(moment);
        for what in changes(&table, &now, |port| kernel.name(port)) {
            log.note_at(at, what);
        }
        table = now;
        heard = kernel.news(&scope).await?;
    }
}

// === impl RouteScope ===

impl RouteScope {
    /// Whether what becomes of a route to there is an event.
    #[must_use]
    pub fn covers(&self, to: Ipv6Net) -> bool {
        match to.prefix_len() {
            BLOCK_PREFIX_LEN => self.machines.contains(&to) && to != self.own.net(),
            128 => self.anycasts.contains(&to.addr()),
            _ => false,
        }
    }
}

// === impl Kernel ===

impl Kernel {
    fn open() -> Result<Self, LinksError> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv6Route];
        let (watcher, _, events) = rtnetlink::new_multicast_connection(&groups).map_err(LinksError::Open)?;
        // As for links: a flood of events must not lose an answer.
        let (asker, handle, _) = rtnetlink::new_connection().map_err(LinksError::Open)?;
        tokio::spawn(watcher);
        tokio::spawn(asker);
        Ok(Self { handle, events, names: BTreeMap::new() })
    }

    fn name(&self, port: u32) -> String {
        self.names.get(&port).cloned().unwrap_or_else(|| format!("port {port}"))
    }

    async fn read(&mut self, scope: &RouteScope) -> Result<Table, LinksError> {
        let question = RouteMessageBuilder::<Ipv6Addr>::new().build();
        let routes = self.handle.route().get(question).execute().try_collect::<Vec<_>>();
        let table = table_of(&ask("listing routes", routes).await?, scope);
        let ports = table.values().flatten().map(|(port, _)| *port);
        if ports.into_iter().any(|port| !self.names.contains_key(&port)) {
            let links = self.handle.link().get().execute().try_collect::<Vec<_>>();
            for link in ask("listing links", links).await? {
                let name = link.attributes.iter().find_map(name_of);
                self.names.extend(name.map(|name| (link.header.index, name)));
            }
        }
        Ok(table)
    }

    /// Waits until there is something to read, and says since when: none if only the table itself will tell.
    async fn news(&mut self, scope: &RouteScope) -> Result<Option<Moment>, LinksError> {
        let guard = Instant::now() + GUARD;
        let heard = loop {
            match tokio::time::timeout_at(guard, self.events.next()).await {
                Ok(None) => return Err(LinksError::Closed),
                Ok(Some((message, _))) => match self.take(message, scope) {
                    Word::Nothing => {}
                    Word::Route => break moment(),
                    Word::Other => return Ok(None),
                },
                Err(_) => return Ok(None),
            }
        };
        let settled = Instant::now() + SETTLE;
        while let Ok(message) = tokio::time::timeout_at(settled, self.events.next()).await {
            let (message, _) = message.ok_or(LinksError::Closed)?;
            self.take(message, scope);
        }
        Ok(Some(heard))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "four of netlink's many messages were subscribed to")]
    fn take(&mut self, message: NetlinkMessage<RouteNetlinkMessage>, scope: &RouteScope) -> Word {
        match message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                let name = link.attributes.iter().find_map(name_of);
                self.names.extend(name.map(|name| (link.header.index, name)));
                Word::Other
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(_)) => Word::Other,
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
            ) if destination(&route).is_some_and(|to| scope.covers(to)) => Word::Route,
            // The kernel had more to say than the socket could hold.
            NetlinkPayload::Overrun(_) => Word::Other,
            _ => Word::Nothing,
        }
    }
}

/// What is told of the difference between two tables: what became of each neighbour, then of each route.
fn changes(before: &Table, now: &Table, name: impl Fn(u32) -> String) -> Vec<Happening> {
    let ports = |table: &Table| table.values().flatten().map(|(port, _)| *port).collect::<BTreeSet<_>>();
    let (had, has) = (ports(before), ports(now));
    let neighbour = |port: &u32| Happening::Neighbour { port: name(*port), routes: has.contains(port) };
    let neighbours = had.symmetric_difference(&has).map(neighbour);
    let count = |table: &Table, to| table.get(to).map_or(0, |hops: &BTreeSet<Hop>| narrow(hops.len()));
    let all: BTreeSet<&Ipv6Net> = before.keys().chain(now.keys()).collect();
    let routes = all.into_iter().filter_map(|to| {
        let (before, paths) = (count(before, to), count(now, to));
        (before != paths).then_some(Happening::Route { to: *to, paths, before })
    });
    neighbours.chain(routes).collect()
}

fn narrow(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

fn table_of(messages: &[RouteMessage], scope: &RouteScope) -> Table {
    let mut table = Table::new();
    for message in messages {
        let is_ours = message.header.table == RouteHeader::RT_TABLE_MAIN
            && message.header.address_family == AddressFamily::Inet6
            && message.header.kind == RouteType::Unicast;
        let Some(to) = destination(message).filter(|to| is_ours && scope.covers(*to)) else { continue };
        let mut hops = BTreeSet::new();
        // The flags of a route with one next hop are that next hop's.
        let flags = RouteNextHopFlags::from_bits_retain(message.header.flags.bits().to_le_bytes()[0]);
        if !flags.contains(RouteNextHopFlags::Dead) {
            hops.extend(hop_of(&message.attributes, None));
        }
        for attribute in &message.attributes {
            let RouteAttribute::MultiPath(paths) = attribute else { continue };
            let living = paths.iter().filter(|path| !path.flags.contains(RouteNextHopFlags::Dead));
            hops.extend(living.filter_map(|path| hop_of(&path.attributes, Some(path.interface_index))));
        }
        if !hops.is_empty() {
            table.entry(to).or_default().extend(hops);
        }
    }
    table
}

fn destination(message: &RouteMessage) -> Option<Ipv6Net> {
    let address = message.attributes.iter().find_map(|attribute| {
        let RouteAttribute::Destination(RouteAddress::Inet6(address)) = attribute else { return None };
        Some(*address)
    });
    Ipv6Net::new(address?, message.header.destination_prefix_length).ok()
}

fn hop_of(attributes: &[RouteAttribute], port: Option<u32>) -> Option<Hop> {
    let mut hop = (port, None);
    for attribute in attributes {
        if let RouteAttribute::Oif(index) = attribute {
            hop.0 = Some(*index);
        }
        if let RouteAttribute::Gateway(RouteAddress::Inet6(address)) = attribute {
            hop.1 = Some(*address);
        }
    }
    hop.0.zip(hop.1)
}

fn name_of(attribute: &LinkAttribute) -> Option<String> {
    if let LinkAttribute::IfName(name) = attribute { Some(name.clone()) } else { None }
}

#[cfg(test)]
mod tests;
