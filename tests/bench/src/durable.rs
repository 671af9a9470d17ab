//! Many DHCPv6 clients on one link, each with an allocation that is durable before it is spoken of.
//!
//! The product gives a link one address, so that a load of many clients would write to its ledger once. Here every
//! DUID is a link of its own: the product's core ([`Server`]) for each of them, with a prefix and a far end of its
//! own, all behind one socket. The shell around them is this file and not `netboot-server`'s, and the journal is a file of
//! lines and not the product's ledger, which is made for hundreds of machines and not for a million.
//!
//! Order of effects: a datagram's change is in the file and `fdatasync` has come back before the answer is sent. Clients
//! whose datagrams wait at the same time share one `fdatasync`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ipnet::Ipv6Net;
use mesh::{Change, LinkId, LinkPrefix, Mac, MachineId, PortIndex};
use netboot_proto::Catalogue;
use netboot_proto::dhcp6::{Config, DEFAULT_LIFETIMES, Server, ServerId};
use netboot_proto::effect::{Effect, Peer};
use netboot_proto::wire::dhcp6::{ALL_SERVERS, Message, SERVER_PORT};
use socket2::{Domain, Protocol, Socket, Type};

use crate::cable::{NEAR_MAC, NEAR_PORT};

/// The first address of the prefix that links are cut from.
const FIRST: u128 = 0x2001_0db8_0001_0000_0001_0000_0000_0000;
/// So many datagrams wait for one `fdatasync` at most.
const BATCH: usize = 256;
const MAX_DATAGRAM: usize = 2048;

/// The servers of all links.
struct Links {
    servers: HashMap<Vec<u8>, Server>,
    server_id: ServerId,
}

/// Serves for ever, on the interface [`NEAR_PORT`], with a journal in this file.
pub(crate) fn serve(journal: &Path) -> Result<()> {
    let mut journal = File::options()
        .append(true)
        .create(true)
        .open(journal)
        .with_context(|| format!("cannot write {}", journal.display()))?;
    let socket = open().context("opening the DHCPv6 server's socket")?;
    let mut links =
        Links { servers: HashMap::new(), server_id: ServerId::of_machine(MachineId::from_mac(NEAR_MAC)) };
    let mut lines = Vec::new();
    let mut touched = Vec::new();
    let mut changes = Vec::new();
    loop {
        for number in 0..BATCH {
            // The first one is waited for, and then whatever is there already is taken along.
            if number < 2 {
                socket.set_nonblocking(number == 1)?;
            }
            let mut buffer = [0; MAX_DATAGRAM];
            let (len, from) = match socket.recv_from(&mut buffer) {
                Ok((len, SocketAddr::V6(from))) => (len, from),
                Ok((_, SocketAddr::V4(_))) => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("receiving a DHCPv6 message"),
            };
            let Some((id, server)) = links.of(buffer.get(..len).unwrap_or_default())? else { continue };
            server.handle_datagram(&peer(from), buffer.get(..len).unwrap_or_default(), Instant::now());
            while let Some(effect) = server.poll_effect() {
                match effect {
                    Effect::Commit(change) => {
                        serde_json::to_writer(&mut lines, &change)?;
                        lines.push(b'\n');
                        touched.push(id.clone());
                        changes.push(change);
                    }
                    Effect::Send { to, bytes } => send(&socket, to, &bytes)?,
                    Effect::Note(_) => {}
                }
            }
        }
        if !changes.is_empty() {
            journal.write_all(&lines).and_then(|()| journal.sync_data()).context("writing the journal")?;
            lines.clear();
            for (id, change) in touched.drain(..).zip(changes.drain(..)) {
                links.committed(&id, &change, &socket)?;
            }
        }
    }
}

fn open() -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_only_v6(true)?;
    socket.bind_device(Some(NEAR_PORT.as_bytes()))?;
    socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, SERVER_PORT, 0, 0).into())?;
    let index = nix::net::if_::if_nametoindex(NEAR_PORT)?;
    socket.join_multicast_v6(&ALL_SERVERS, index)?;
    Ok(socket.into())
}

/// A socket that does not wait for datagrams does not wait for room either; what finds none is lost, as on a cable.
fn send(socket: &UdpSocket, to: SocketAddrV6, bytes: &[u8]) -> Result<()> {
    match socket.send_to(bytes, to) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error).context("sending a DHCPv6 answer"),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// As the product's shell has it: the station by its link-local address.
fn peer(from: SocketAddrV6) -> Peer {
    let mac = from.ip().is_unicast_link_local().then(|| Mac::from_eui64(*from.ip())).flatten();
    // Nothing is told of the destination, and only multicast is sent here.
    Peer { address: from, mac, destination: ALL_SERVERS, hop_limit: None }
}

// === impl Links ===

impl Links {
    /// The server of the client that sent a message, and what the client is known by.
    fn of(&mut self, datagram: &[u8]) -> Result<Option<(Vec<u8>, &mut Server)>> {
        let Some(id) = Message::parse(datagram).ok().and_then(|message| message.client_id) else {
            return Ok(None);
        };
        if !self.servers.contains_key(&id) {
            let server = self.new_link()?;
            self.servers.insert(id.clone(), server);
        }
        Ok(self.servers.get_mut(&id).map(|server| (id, server)))
    }

    fn new_link(&self) -> Result<Server> {
        let number = u64::try_from(self.servers.len())?;
        let [.., a, b, c, d] = number.to_be_bytes();
        let link =
            LinkId { near: MachineId::from_mac(Mac([2, 0xbe, a, b, c, d])), port: PortIndex::try_from(0)? };
        let net = Ipv6Net::new(Ipv6Addr::from_bits(FIRST + u128::from(number) * 4), 126)?;
        let Some(prefix) = LinkPrefix::new(net) else { bail!("{net} is no link's prefix") };
        let server_id = self.server_id.clone();
        let lifetimes = DEFAULT_LIFETIMES;
        let config = Config { link, prefix, server_id, lifetimes, services: Default::default() };
        Ok(Server::new(config, Catalogue::default(), None))
    }

    fn committed(&mut self, id: &[u8], change: &Change, socket: &UdpSocket) -> Result<()> {
        let server = self.servers.get_mut(id).context("a link is gone")?;
        server.handle_committed(change);
        while let Some(effect) = server.poll_effect() {
            if let Effect::Send { to, bytes } = effect {
                send(socket, to, &bytes)?;
            }
        }
        Ok(())
    }
}
