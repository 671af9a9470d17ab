//! Links, addresses and routes of one namespace: changed and watched by netlink, without a process per step.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures::{StreamExt, TryStreamExt};
use ipnet::Ipv6Net;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, CacheInfo};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteType,
};
use rtnetlink::{Handle, LinkUnspec, MulticastGroup, RouteMessageBuilder};
use tokio::sync::mpsc as tokio_mpsc;

use crate::netns::Network;

/// Where one path of a route leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHop {
    /// The port it leaves by.
    pub port: String,
    /// The neighbour it goes to.
    pub via: Ipv6Addr,
}

/// A route by way of neighbours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its paths; those that the kernel holds for dead are left out.
    pub next_hops: BTreeSet<NextHop>,
}

/// All routes by way of neighbours, by destination.
pub type Routes = BTreeMap<Ipv6Net, Route>;

/// Is told the routes each time they have changed.
pub trait Watcher: Send + Sync + 'static {
    /// `routes` are all there are from this moment.
    fn handle_routes(&self, routes: Routes);
}

/// How often the routes are read although no event spoke of a change: a guard against lost events.
const REREAD: Duration = Duration::from_millis(100);

enum Request {
    SetLink { name: String, up: bool },
    AddAddress { port: String, address: Ipv6Addr, prefix: u8, preferred: bool },
    RemoveAddress { port: String, address: Ipv6Addr },
}

type Job = (Request, mpsc::Sender<Result<()>>);

/// The netlink sockets of one namespace, served by a thread inside.
#[derive(Debug)]
pub struct Netlink {
    jobs: Option<tokio_mpsc::UnboundedSender<Job>>,
    thread: Option<JoinHandle<Result<Result<()>>>>,
}

impl Netlink {
    /// Opens netlink in `network`; a watcher hears of the routes there.
    pub fn open(network: &Network, watcher: Option<Arc<dyn Watcher>>) -> Result<Self> {
        let (jobs, inbox) = tokio_mpsc::unbounded_channel();
        let thread = network.spawn("netlink", move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("building a runtime")?
                .block_on(serve(inbox, watcher))
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Sets a link up or down; as a cable is plugged in or pulled when it is the other end of a port.
    pub fn set_link(&self, name: &str, up: bool) -> Result<()> {
        self.ask(Request::SetLink { name: name.to_owned(), up })
            .with_context(|| format!("setting {name} {}", if up { "up" } else { "down" }))
    }

    /// Adds an address to a port; what the machine sends of itself carries only addresses that are preferred.
    pub fn add_address(&self, port: &str, address: Ipv6Addr, prefix: u8, preferred: bool) -> Result<()> {
        self.ask(Request::AddAddress { port: port.to_owned(), address, prefix, preferred })
            .with_context(|| format!("adding {address} to {port}"))
    }

    /// Removes an address from a port.
    pub fn remove_address(&self, port: &str, address: Ipv6Addr) -> Result<()> {
        self.ask(Request::RemoveAddress { port: port.to_owned(), address })
            .with_context(|| format!("removing {address} from {port}"))
    }

    fn ask(&self, request: Request) -> Result<()> {
        let (answer, wait) = mpsc::channel();
        let jobs = self.jobs.as_ref().context("netlink is closed")?;
        jobs.send((request, answer)).map_err(|_gone| anyhow!("the netlink thread has ended"))?;
        wait.recv().context("the netlink thread has ended")?
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _errors_were_told_to_the_asker = thread.join();
        }
    }
}

async fn serve(
    mut inbox: tokio_mpsc::UnboundedReceiver<Job>,
    watcher: Option<Arc<dyn Watcher>>,
) -> Result<()> {
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv6Route, MulticastGroup::Nexthop];
    let (connection, events, mut messages) = rtnetlink::new_multicast_connection(&groups)?;
    drop(events);
    tokio::spawn(connection);
    let (connection, handle, _no_messages) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    let mut ports = Ports::default();
    let mut last = None;
    loop {
        if let Some(watcher) = &watcher {
            let routes = read_routes(&handle, &mut ports).await?;
            if last.as_ref() != Some(&routes) {
                last = Some(routes.clone());
                watcher.handle_routes(routes);
            }
        }
        tokio::select! {
            biased;
            job = inbox.recv() => {
                let Some((request, answer)) = job else { return Ok(()) };
                // Nobody waits any more when the test has failed meanwhile.
                let _unheard = answer.send(perform(&handle, request).await);
            }
            event = messages.next() => {
                if event.is_none() {
                    return Ok(());
                }
                while messages.try_recv().is_ok() {}
            }
            () = tokio::time::sleep(REREAD), if watcher.is_some() => {}
        }
    }
}

async fn perform(handle: &Handle, request: Request) -> Result<()> {
    match request {
        Request::SetLink { name, up } => {
            let link = LinkUnspec::new_with_name(&name);
            let link = if up { link.up() } else { link.down() };
            handle.link().set(link.build()).execute().await?;
        }
        Request::AddAddress { port, address, prefix, preferred } => {
            let index = index_of(handle, &port).await?;
            let mut request = handle.address().add(index, IpAddr::V6(address), prefix);
            if !preferred {
                let mut lifetimes = CacheInfo::default();
                lifetimes.ifa_valid = u32::MAX;
                request.message_mut().attributes.push(AddressAttribute::CacheInfo(lifetimes));
            }
            request.execute().await?;
        }
        Request::RemoveAddress { port, address } => {
            let index = index_of(handle, &port).await?;
            let mut all = handle.address().get().set_link_index_filter(index).execute();
            while let Some(message) = all.try_next().await? {
                let this = AddressAttribute::Address(IpAddr::V6(address));
                if message.attributes.contains(&this) {
                    handle.address().del(message).execute().await?;
                    return Ok(());
                }
            }
            return Err(anyhow!("{port} has no address {address}"));
        }
    }
    Ok(())
}

async fn index_of(handle: &Handle, name: &str) -> Result<u32> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    Ok(links.try_next().await?.with_context(|| format!("no link {name}"))?.header.index)
}

/// Interface names by index.
#[derive(Debug, Default)]
struct Ports(BTreeMap<u32, String>);

impl Ports {
    async fn name(&mut self, handle: &Handle, index: u32) -> Result<String> {
        if !self.0.contains_key(&index) {
            let mut links = handle.link().get().execute();
            while let Some(link) = links.try_next().await? {
                for attribute in link.attributes {
                    if let LinkAttribute::IfName(name) = attribute {
                        self.0.insert(link.header.index, name);
                    }
                }
            }
        }
        Ok(self.0.get(&index).cloned().unwrap_or_else(|| format!("gone-{index}")))
    }
}

async fn read_routes(handle: &Handle, ports: &mut Ports) -> Result<Routes> {
    let mut routes = Routes::new();
    let mut all = handle.route().get(RouteMessageBuilder::<Ipv6Addr>::new().build()).execute();
    while let Some(message) = all.try_next().await? {
        if message.header.address_family != AddressFamily::Inet6 || message.header.kind != RouteType::Unicast
        {
            continue;
        }
        let destination = destination(&message)?;
        let mut one = PartialHop::default();
        let mut hops = Vec::new();
        for attribute in &message.attributes {
            one.learn(attribute);
            if let RouteAttribute::MultiPath(paths) = attribute {
                hops.extend(paths.iter().filter_map(living));
            }
        }
        let flags = RouteNextHopFlags::from_bits_retain(message.header.flags.bits().to_le_bytes()[0]);
        if !flags.contains(RouteNextHopFlags::Dead) {
            hops.extend(one.complete());
        }
        let mut next_hops = BTreeSet::new();
        for (index, via) in hops {
            next_hops.insert(NextHop { port: ports.name(handle, index).await?, via });
        }
        if !next_hops.is_empty() {
            let route = routes.entry(destination).or_insert(Route { next_hops: BTreeSet::new() });
            route.next_hops.extend(next_hops);
        }
    }
    Ok(routes)
}

fn destination(message: &RouteMessage) -> Result<Ipv6Net> {
    let mut address = Ipv6Addr::UNSPECIFIED;
    for attribute in &message.attributes {
        if let RouteAttribute::Destination(RouteAddress::Inet6(destination)) = attribute {
            address = *destination;
        }
    }
    Ok(Ipv6Net::new(address, message.header.destination_prefix_length)?)
}

#[derive(Debug, Default)]
struct PartialHop {
    port: Option<u32>,
    via: Option<Ipv6Addr>,
}

impl PartialHop {
    fn learn(&mut self, attribute: &RouteAttribute) {
        if let RouteAttribute::Oif(index) = attribute {
            self.port = Some(*index);
        }
        if let RouteAttribute::Gateway(RouteAddress::Inet6(address)) = attribute {
            self.via = Some(*address);
        }
    }

    fn complete(self) -> Option<(u32, Ipv6Addr)> {
        self.port.zip(self.via)
    }
}

fn living(path: &RouteNextHop) -> Option<(u32, Ipv6Addr)> {
    if path.flags.contains(RouteNextHopFlags::Dead) {
        return None;
    }
    let mut hop = PartialHop { port: Some(path.interface_index), via: None };
    path.attributes.iter().for_each(|attribute| hop.learn(attribute));
    hop.complete()
}
