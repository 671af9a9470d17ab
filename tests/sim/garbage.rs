//! Datagrams that mean nothing, many at a time, on one port.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::Result;
use netboot_proto::wire::dhcp6::{ALL_SERVERS, CLIENT_PORT, SERVER_PORT};
use netboot_proto::wire::icmp6::{ALL_ROUTERS, ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn6, sendmmsg};
use socket2::{Domain, Protocol, Socket, Type};

/// Datagrams of one call.
const ROW: usize = 64;
const MAX_LEN: usize = 400;
/// The kernel puts a checksum there.
const MIN_LEN: usize = 4;
/// Between two rows that are due there is less time than this.
const PAUSE: Duration = Duration::from_micros(200);

/// Sends `rate` datagrams a second on a port for some time, to whatever the near end listens on, and says how many
/// went out, and before that once that it has begun. Some begin as messages do and end otherwise.
///
/// # Errors
///
/// The sockets cannot be opened, or sending fails for another reason than a full queue.
pub fn throw(port: &str, near: Ipv6Addr, rate: u32, time: Duration, begins: &Sender<()>) -> Result<u64> {
    let index = if_nametoindex(port)?;
    let udp = socket(port, Type::DGRAM, Protocol::UDP)?;
    let raw = socket(port, Type::RAW, Protocol::ICMPV6)?;
    let to = |ip: Ipv6Addr, port: u16| SockaddrIn6::from(SocketAddrV6::new(ip, port, 0, index));
    let servers = to(ALL_SERVERS, SERVER_PORT);
    let aims = [
        (&udp, servers, 1),
        (&udp, servers, 3),
        (&udp, to(near, SERVER_PORT), 1),
        (&udp, to(near, netboot_proto::tftp::PORT), 0),
        (&udp, to(near, CLIENT_PORT), 7),
        (&raw, to(ALL_ROUTERS, 0), ROUTER_SOLICITATION),
        (&raw, to(ALL_ROUTERS, 0), ROUTER_ADVERTISEMENT),
    ];
    let (begun, mut sent, mut random) = (Instant::now(), 0_u64, 0x9e37_79b9_7f4a_7c15_u64);
    let mut headers = MultiHeaders::<SockaddrIn6>::preallocate(ROW, None);
    for (socket, to, first) in aims.iter().cycle() {
        let passed = begun.elapsed();
        if passed >= time {
            break;
        }
        let row: Vec<Vec<u8>> = (0..ROW).map(|_| datagram(&mut random, *first)).collect();
        let slices: Vec<[std::io::IoSlice<'_>; 1]> =
            row.iter().map(|octets| [std::io::IoSlice::new(octets)]).collect();
        let fd = socket.as_raw_fd();
        match sendmmsg(fd, &mut headers, &slices, [Some(*to); ROW], [], MsgFlags::empty()) {
            Ok(results) => {
                let count = u64::try_from(results.count())?;
                if sent == 0 && count > 0 {
                    // Whoever does not wait for it does not matter.
                    let _ = begins.send(());
                }
                sent += count;
            }
            Err(Errno::ENOBUFS | Errno::EAGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        while sent > u64::try_from(begun.elapsed().as_micros())? * u64::from(rate) / 1_000_000 {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(sent)
}

fn socket(port: &str, kind: Type, protocol: Protocol) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV6, kind, Some(protocol))?;
    socket.bind_device(Some(port.as_bytes()))?;
    // Neighbour discovery is believed only so.
    socket.set_multicast_hops_v6(255)?;
    socket.set_unicast_hops_v6(255)?;
    Ok(socket)
}

/// Octets of which the first is one that is looked at.
fn datagram(random: &mut u64, first: u8) -> Vec<u8> {
    let mut next = || {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        random.to_le_bytes()
    };
    let [low, high, ..] = next();
    let len = usize::from(u16::from_le_bytes([low, high])) % MAX_LEN + MIN_LEN;
    let mut octets: Vec<u8> = std::iter::repeat_with(next).flatten().take(len).collect();
    octets[0] = first;
    octets
}
