//! Sockets that hear and speak on one port only.

use std::io::{self, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::time::Duration;

use netboot_proto::wire::dhcp6::{ALL_SERVERS, CLIENT_PORT, SERVER_PORT};
use netboot_proto::wire::icmp6::{ALL_ROUTERS, HOP_LIMIT, ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION};
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::net::{TcpListener, UdpSocket};

/// More than any client's request; DATA never comes in.
pub(crate) const MAX_DATAGRAM: usize = 2048;
/// A client that does not take what was sent to it for this long is gone, also if it says that its window is closed.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that wait for a seat: more than are thrown at a port at once.
const BACKLOG: i32 = 1024;
/// The ports of HTTP and HTTPS.
pub(crate) const HTTP: u16 = 80;
pub(crate) const HTTPS: u16 = 443;

/// The port that a socket belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    /// The name.
    pub(crate) name: String,
    /// The number.
    pub(crate) index: u32,
}

/// A datagram socket of one port. The runtime's type is used for its readiness alone, so a raw socket is as
/// good to it as one of UDP.
#[derive(Debug)]
pub(crate) struct Datagrams {
    socket: UdpSocket,
    index: u32,
}

/// Where a datagram came from and went to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) len: usize,
    pub(crate) from: SocketAddrV6,
    pub(crate) to: Option<Ipv6Addr>,
    pub(crate) hop_limit: Option<u8>,
}

// === impl Datagrams ===

impl Datagrams {
    /// Hears router solicitations and advertisements, and sends both.
    pub(crate) fn icmp6(device: &Device) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        let socket = Self::on(device, socket)?;
        socket.attach_filter(&routers_and_solicitors())?;
        socket.set_multicast_hops_v6(HOP_LIMIT.into())?;
        socket.set_unicast_hops_v6(HOP_LIMIT.into())?;
        socket.set_recv_hoplimit_v6(true)?;
        socket.join_multicast_v6(&ALL_ROUTERS, device.index)?;
        Self::register(device, socket)
    }

    /// Hears DHCPv6 clients.
    pub(crate) fn dhcp6(device: &Device) -> io::Result<Self> {
        let socket = Self::udp(device, SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, SERVER_PORT, 0, 0))?;
        socket.join_multicast_v6(&ALL_SERVERS, device.index)?;
        Self::register(device, socket)
    }

    /// Asks other DHCPv6 servers, and hears them.
    pub(crate) fn dhcp6_client(device: &Device) -> io::Result<Self> {
        let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, CLIENT_PORT, 0, 0);
        Self::register(device, Self::udp(device, any)?)
    }

    /// Hears TFTP requests to whatever address of ours.
    pub(crate) fn tftp(device: &Device) -> io::Result<Self> {
        let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, netboot_proto::tftp::PORT, 0, 0);
        Self::register(device, Self::udp(device, any)?)
    }

    /// The next datagram.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.socket.async_io(Interest::READABLE, || receive_now(&self.socket, buffer)).await
    }

    /// Sends a datagram. Who has a link-local address is on this link.
    pub(crate) async fn send(&self, to: SocketAddrV6, bytes: &[u8]) -> io::Result<()> {
        self.socket.send_to(bytes, scoped(to, self.index)).await.map(drop)
    }

    fn udp(device: &Device, bind: SocketAddrV6) -> io::Result<Socket> {
        let socket = Self::on(device, udp()?)?;
        socket.bind(&bind.into())?;
        Ok(socket)
    }

    fn on(device: &Device, socket: Socket) -> io::Result<Socket> {
        socket.set_nonblocking(true)?;
        socket.bind_device(Some(device.name.as_bytes()))?;
        socket.set_multicast_if_v6(device.index)?;
        socket.set_multicast_loop_v6(false)?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        Ok(socket)
    }

    fn register(device: &Device, socket: Socket) -> io::Result<Self> {
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, index: device.index })
    }
}

/// A socket of UDP for IPv6 alone.
pub(crate) fn udp() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_only_v6(true)?;
    Ok(socket)
}

/// An address as it is on a port: who has a link-local address, and a group, is on its link.
pub(crate) fn scoped(mut to: SocketAddrV6, index: u32) -> SocketAddrV6 {
    if to.ip().is_unicast_link_local() || to.ip().is_multicast() {
        to.set_scope_id(index);
    }
    to
}

/// Hears clients of HTTP or HTTPS, on whatever address of ours.
pub(crate) fn web(device: &Device, port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_only_v6(true)?;
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(device.name.as_bytes()))?;
    // Those that are accepted inherit both.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0).into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// What ICMP6_FILTER does `[RFC 3542 § 3.2]`, said in the one way that has a safe call: only what
/// routers say and hear wakes us up.
fn routers_and_solicitors() -> [SockFilter; 5] {
    const LOAD_OCTET: u16 = 0x30;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    [
        SockFilter::new(LOAD_OCTET, 0, 0, 0),
        SockFilter::new(JUMP_IF_EQUAL, 1, 0, ROUTER_SOLICITATION.into()),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, ROUTER_ADVERTISEMENT.into()),
        SockFilter::new(RETURN, 0, 0, u32::from(u16::MAX)),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "two of the kernel's many control messages were asked for"
)]
fn receive_now(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut space = nix::cmsg_space!(libc::in6_pktinfo, libc::c_int);
    let mut slices = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty())?;
    let from = message.address.ok_or_else(|| io::Error::other("a datagram from nowhere"))?;
    let mut received =
        Received { len: message.bytes, from: SocketAddrV6::from(from), to: None, hop_limit: None };
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                received.to = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr));
            }
            ControlMessageOwned::Ipv6HopLimit(limit) => received.hop_limit = u8::try_from(limit).ok(),
            _ => {}
        }
    }
    Ok(received)
}
