//! Many DHCPv6 clients on one link, each with an allocation that is durable before it is spoken of.
//!
//! The product gives a link one address, so that a load of many clients would write to its ledger once. Here every
//! DUID is a link of its own: the product's core ([`Server`]) for each of them, with a prefix and a far end of its
//! own, all behind one socket. The shell around them is this file and not `netboot-server`'s, and the journal is a file of
//! lines and not the product's ledger, which is made for hundreds of machines and not for a million.
//!
//! Order of effects: a datagram's change is in the file and `fdatasync` has come back before the answer is sent. That is
//! another thread's work, as it is the ledger's in the product: meanwhile datagrams are read, and those whose changes
//! came in one `fdatasync` share the next.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use ipnet::Ipv6Net;
use mesh::{Change, LinkId, LinkPrefix, Mac, MachineId, PortIndex};
use netboot_proto::Catalogue;
use netboot_proto::dhcp6::{Config, DEFAULT_LIFETIMES, Server, ServerId};
use netboot_proto::effect::{Effect, Peer};
use netboot_proto::wire::dhcp6::{ALL_SERVERS, Message, SERVER_PORT};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use socket2::{Domain, Protocol, Socket, Type};

use crate::cable::{NEAR_MAC, NEAR_PORT};

/// The first address of the prefix that links are cut from.
const FIRST: u128 = 0x2001_0db8_0001_0000_0001_0000_0000_0000;
/// So many changes share one `fdatasync` at most. All clients are one program behind one socket with room for some 200
/// datagrams, and the answers of a batch leave in a moment.
const BATCH: usize = 64;
/// Room for more than a million changes; behind it the file grows.
const PREPARED: u64 = 256 << 20;
/// Octets of datagrams, with what the kernel adds to each, that wait while the processor does something else.
const RECEIVED: usize = 8 << 20;
const MAX_DATAGRAM: usize = 2048;

/// A change that is not durable yet, and whose it is.
struct Pending {
    id: Vec<u8>,
    change: Change,
}

/// The servers of all links.
struct Links {
    servers: HashMap<Vec<u8>, Server>,
    server_id: ServerId,
}

/// Serves for ever, on the interface [`NEAR_PORT`], with a journal in this file.
pub(crate) fn serve(journal: &Path) -> Result<()> {
    let journal = prepare(journal).with_context(|| format!("cannot prepare {}", journal.display()))?;
    let socket = open().context("opening the DHCPv6 server's socket")?;
    let server_id = ServerId::of_machine(MachineId::from_mac(NEAR_MAC));
    let links = Mutex::new(Links { servers: HashMap::new(), server_id });
    let (to_journal, written) = mpsc::channel();
    std::thread::scope(|scope| {
        // Either ends with its error, and the process with it: a server that writes nothing, or hears nothing, is none.
        let (links, socket) = (&links, &socket);
        scope.spawn(move || ended(write_down(journal, &written, links, socket)));
        ended(answer(socket, links, &to_journal))
    })
}

/// A file that is as long already as it will be, as a log of etcd or PostgreSQL is: a file that grows makes of each
/// `fdatasync` a transaction of its file system as well. What is written ends at the first NUL.
fn prepare(path: &Path) -> io::Result<File> {
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    io::copy(&mut io::repeat(0).take(PREPARED), &mut file)?;
    file.sync_all()?;
    file.rewind()?;
    Ok(file)
}

#[expect(clippy::exit, reason = "the other thread waits in the kernel, and nothing else would end it")]
fn ended(how: Result<()>) -> ! {
    let text = how.map_or_else(|error| format!("{error:#}"), |()| "the other half has ended".to_owned());
    // Where standard error is gone, the status is left.
    let _told = writeln!(io::stderr(), "durable: {text}");
    std::process::exit(1)
}

/// Takes datagrams, answers those that change nothing, and hands on what has to be durable first.
fn answer(socket: &UdpSocket, links: &Mutex<Links>, journal: &Sender<Pending>) -> Result<()> {
    let mut buffer = [0; MAX_DATAGRAM];
    loop {
        let (len, from) = match socket.recv_from(&mut buffer) {
            Ok((len, SocketAddr::V6(from))) => (len, from),
            Ok((_, SocketAddr::V4(_))) => continue,
            Err(error) => return Err(error).context("receiving a DHCPv6 message"),
        };
        let datagram = buffer.get(..len).unwrap_or_default();
        let mut links = links.lock().map_err(|_poisoned| anyhow!("the other half panicked"))?;
        let Some((id, server)) = links.of(datagram)? else { continue };
        server.handle_datagram(&peer(from), datagram, Instant::now());
        while let Some(effect) = server.poll_effect() {
            match effect {
                Effect::Commit(change) => journal.send(Pending { id: id.clone(), change })?,
                Effect::Send { to, bytes } => send(socket, to, &bytes)?,
                Effect::Note(_) => {}
            }
        }
    }
}

/// Writes down what is pending, all of it with one `fdatasync`, and sends the answers that waited for that.
fn write_down(
    mut journal: File,
    pending: &Receiver<Pending>,
    links: &Mutex<Links>,
    socket: &UdpSocket,
) -> Result<()> {
    let mut lines = Vec::new();
    while let Ok(first) = pending.recv() {
        let batch: Vec<Pending> = std::iter::once(first).chain(pending.try_iter()).take(BATCH).collect();
        lines.clear();
        for Pending { change, .. } in &batch {
            serde_json::to_writer(&mut lines, change)?;
            lines.push(b'\n');
        }
        journal.write_all(&lines).and_then(|()| journal.sync_data()).context("writing the journal")?;
        for Pending { id, change } in &batch {
            // Not for all of them: datagrams are answered in between.
            let mut links = links.lock().map_err(|_poisoned| anyhow!("the other half panicked"))?;
            links.committed(id, change, socket)?;
        }
    }
    Ok(())
}

fn open() -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_only_v6(true)?;
    socket.bind_device(Some(NEAR_PORT.as_bytes()))?;
    socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, SERVER_PORT, 0, 0).into())?;
    // Of as many links there would be as many sockets, each with a buffer.
    setsockopt(&socket, RcvBufForce, &RECEIVED)?;
    let index = nix::net::if_::if_nametoindex(NEAR_PORT)?;
    socket.join_multicast_v6(&ALL_SERVERS, index)?;
    Ok(socket.into())
}

fn send(socket: &UdpSocket, to: SocketAddrV6, bytes: &[u8]) -> Result<()> {
    socket.send_to(bytes, to).map(drop).context("sending a DHCPv6 answer")
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
