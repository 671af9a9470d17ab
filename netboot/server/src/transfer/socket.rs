//! The socket of one transfer, for a thread that has nothing else to wait for.

use std::io::{self, ErrorKind, IoSlice};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn6, sendmsg};
use rustix::thread::{CpuSet, sched_setaffinity};
use socket2::SockRef;

use crate::socket::{self, Device};

/// The largest buffer that the kernel cuts into datagrams `[udp(7)]`, and the largest number of them.
const MAX_SEGMENTED: usize = 65_000;
const MAX_SEGMENTS: usize = 64;
/// A port that does not take a datagram for this long has gone.
const SEND_LIMIT: Duration = Duration::from_secs(5);
/// What the kernel can be told to wait, at least.
const TICK: Duration = Duration::from_millis(1);

/// A socket that waits.
#[derive(Debug)]
pub(super) struct TransferSocket {
    socket: UdpSocket,
    index: u32,
    /// How long the kernel was told to wait.
    patience: Duration,
    /// The processor that this thread keeps to.
    processor: Option<usize>,
}

// === impl TransferSocket ===

impl TransferSocket {
    /// Answers from the address that was asked.
    pub(super) fn open(device: &Device, asked: Ipv6Addr) -> io::Result<Self> {
        let scope = if asked.is_unicast_link_local() { device.index } else { 0 };
        let socket = socket::udp()?;
        socket.bind_device(Some(device.name.as_bytes()))?;
        socket.bind(&SocketAddrV6::new(asked, 0, 0, scope).into())?;
        socket.set_write_timeout(Some(SEND_LIMIT))?;
        socket.set_read_timeout(Some(TICK))?;
        Ok(Self { socket: socket.into(), index: device.index, patience: TICK, processor: None })
    }

    /// Waits for a datagram, but not for much longer than this. Telling the kernel how long costs a call, so it is told only
    /// when that is another time than before.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        limit: Duration,
    ) -> io::Result<Option<(usize, SocketAddrV6)>> {
        let patience = TICK * u32::try_from(limit.as_millis() + 1).unwrap_or(u32::MAX);
        if patience != self.patience {
            self.socket.set_read_timeout(Some(patience))?;
            self.patience = patience;
        }
        match self.socket.recv_from(buffer) {
            Ok((len, SocketAddr::V6(from))) => {
                self.stay_with_packets();
                Ok(Some((len, from)))
            }
            Ok((_, SocketAddr::V4(_))) => Ok(None),
            Err(error) if is_early(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a datagram. Who has a link-local address is on this link.
    pub(super) fn send(&self, to: SocketAddrV6, bytes: &[u8]) -> io::Result<()> {
        self.socket.send_to(bytes, socket::scoped(to, self.index)).map(drop)
    }

    /// Sends a row of datagrams of `segment` octets, the last one perhaps shorter, with as few calls as may be.
    pub(super) fn send_row(&self, to: SocketAddrV6, row: &[u8], segment: usize) -> io::Result<()> {
        let at_once = segment * (MAX_SEGMENTED / segment.max(1)).clamp(1, MAX_SEGMENTS);
        for part in row.chunks(at_once) {
            match self.send_segments(to, part, segment) {
                // Some devices cannot do it.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                    part.chunks(segment).try_for_each(|datagram| self.send(to, datagram))?;
                }
                result => result?,
            }
        }
        Ok(())
    }

    /// Keeps this thread to the processor that its packets come in on: what they are made of is in its caches, and no
    /// sleeping processor has to be woken for each of them.
    fn stay_with_packets(&mut self) {
        let processor = SockRef::from(&self.socket).cpu_affinity();
        // It may not be known: -1.
        let Ok(processor @ 0..CpuSet::MAX_CPU) = processor else { return };
        if self.processor != Some(processor) {
            let mut only = CpuSet::new();
            only.set(processor);
            // Where that is not allowed it stays as it is.
            self.processor = sched_setaffinity(None, &only).is_ok().then_some(processor);
        }
    }

    fn send_segments(&self, to: SocketAddrV6, part: &[u8], segment: usize) -> io::Result<()> {
        let Some(segment) = u16::try_from(segment).ok().filter(|_| part.len() > segment) else {
            return self.send(to, part);
        };
        let to = SockaddrIn6::from(socket::scoped(to, self.index));
        let (parts, control) = ([IoSlice::new(part)], [ControlMessage::UdpGsoSegments(&segment)]);
        sendmsg(self.socket.as_raw_fd(), &parts, &control, MsgFlags::empty(), Some(&to))?;
        Ok(())
    }
}

/// Nothing came so far.
fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
