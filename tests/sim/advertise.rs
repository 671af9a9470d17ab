//! Stands in for meshboot's router advertisements on a node's ports: at once when a cable is plugged in, and then on.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use ipnet::Ipv6Net;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{Handle, MulticastGroup};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::netns::Network;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ROUTER_LIFETIME: u16 = 1800;
const PREFIX_LIFETIME: u32 = 86400;
/// A source address that is not there yet is worth another try soon.
const RETRY: Duration = Duration::from_millis(50);

/// A running advertiser; it falls silent when dropped.
#[derive(Debug)]
pub struct Advertiser {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<Result<()>>>>,
}

impl Advertiser {
    /// Advertises on `ports`, each with the prefix of its link, every `interval` while the link is up.
    pub fn start(network: &Network, ports: BTreeMap<String, Ipv6Net>, interval: Duration) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let thread = network.spawn("advertiser", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(advertise(ports, interval, stopped))
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Advertiser {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _nobody_to_tell = thread.join();
        }
    }
}

/// A port with its link up.
struct Live {
    index: u32,
    mac: Vec<u8>,
    next: Instant,
}

async fn advertise(
    ports: BTreeMap<String, Ipv6Net>,
    interval: Duration,
    mut stopped: oneshot::Receiver<()>,
) -> Result<()> {
    let socket = socket()?;
    let (connection, handle, mut events) = rtnetlink::new_multicast_connection(&[MulticastGroup::Link])?;
    tokio::spawn(connection);
    let mut live: BTreeMap<String, Live> = BTreeMap::new();
    loop {
        look(&handle, &ports, &mut live).await?;
        let now = Instant::now();
        for (name, port) in &mut live {
            if port.next <= now {
                let sent = send(&socket, port, ports[name]);
                port.next = now + if sent.is_ok() { interval } else { RETRY };
            }
        }
        let next = live.values().map(|port| port.next).min();
        tokio::select! {
            _ = &mut stopped => return Ok(()),
            event = events.next() => if event.is_none() { return Ok(()) },
            () = sleep_until(next.unwrap_or(now + interval)) => {}
        }
    }
}

fn socket() -> Result<Socket> {
    let socket =
        Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).context("opening a raw socket")?;
    socket.set_multicast_hops_v6(255)?;
    socket.set_unicast_hops_v6(255)?;
    // Zebra listens on this machine too, and would take us for its neighbour.
    socket.set_multicast_loop_v6(false)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

async fn look(
    handle: &Handle,
    ports: &BTreeMap<String, Ipv6Net>,
    live: &mut BTreeMap<String, Live>,
) -> Result<()> {
    let mut links = handle.link().get().execute();
    let mut seen = Vec::new();
    while let Some(link) = links.try_next().await? {
        let Some((name, mac)) = name_and_mac(&link) else { continue };
        if ports.contains_key(&name) && link.header.flags.contains(LinkFlags::LowerUp) {
            seen.push(name.clone());
            live.entry(name).or_insert_with(|| Live { index: link.header.index, mac, next: Instant::now() });
        }
    }
    live.retain(|name, _| seen.contains(name));
    Ok(())
}

fn name_and_mac(link: &LinkMessage) -> Option<(String, Vec<u8>)> {
    let (mut name, mut mac) = (None, None);
    for attribute in &link.attributes {
        if let LinkAttribute::IfName(this) = attribute {
            name = Some(this.clone());
        }
        if let LinkAttribute::Address(this) = attribute {
            mac = Some(this.clone());
        }
    }
    name.zip(mac)
}

fn send(socket: &Socket, port: &Live, prefix: Ipv6Net) -> io::Result<usize> {
    let to = SockAddr::from(SocketAddrV6::new(ALL_NODES, 0, 0, port.index));
    socket.send_to(&advertisement(prefix, &port.mac), &to)
}

/// M=1 and O=1; the prefix is on the link and makes no addresses [RFC 4861 § 4.2, § 4.6.2].
fn advertisement(prefix: Ipv6Net, mac: &[u8]) -> Vec<u8> {
    let mut bytes = vec![134, 0, 0, 0, 64, 0xc0];
    bytes.extend(ROUTER_LIFETIME.to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend([3, 4, prefix.prefix_len(), 0x80]);
    bytes.extend(PREFIX_LIFETIME.to_be_bytes());
    bytes.extend(PREFIX_LIFETIME.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(prefix.network().octets());
    bytes.extend([1, 1]);
    bytes.extend(mac);
    bytes
}
