//! The least that a TFTP server can do: it waits for an acknowledgement, and sends the next block.
//!
//! In windows of one, client and server wait for each other all the time, and most of a block's time is the kernel's: two
//! packets through its network, and a process to be woken at either end. This shows how much is left for a server to be
//! better in. It has one client, knows no loss and no time-out, and is nobody's rival.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use anyhow::{Context, Result};

use crate::tftp::BLOCK;

/// What a request may have.
const MAX_DATAGRAM: usize = 2048;

/// Serves one file under any name, for ever.
pub(crate) fn serve(file: &Path) -> Result<()> {
    let octets = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 69)).context("cannot listen for TFTP")?;
    let agreed = [b"\0\x06blksize\0", BLOCK.to_string().as_bytes(), b"\0"].concat();
    loop {
        let (_, client) = socket.recv_from(&mut [0; MAX_DATAGRAM])?;
        socket.send_to(&agreed, client)?;
        send(&socket, client, &octets)?;
    }
}

fn send(socket: &UdpSocket, client: SocketAddr, octets: &[u8]) -> Result<()> {
    let mut packet = Vec::with_capacity(4 + BLOCK);
    let mut acknowledgement = [0; 4];
    // The last one is shorter than a block, and may be empty.
    for number in 0..=octets.len() / BLOCK {
        socket.recv_from(&mut acknowledgement)?;
        let from = number * BLOCK;
        let to = (from + BLOCK).min(octets.len());
        packet.clear();
        packet.extend([0, 3]);
        packet.extend(u16::try_from((number + 1) % 0x1_0000)?.to_be_bytes());
        packet.extend_from_slice(octets.get(from..to).unwrap_or_default());
        socket.send_to(&packet, client)?;
    }
    socket.recv_from(&mut acknowledgement)?;
    Ok(())
}
