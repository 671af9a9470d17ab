//! How long after the carrier the first router advertisement is on the wire.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

use crate::cable::{Cable, FAR_PORT};

/// `ETH_P_IPV6`.
const IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
const ROUTER_ADVERTISEMENT: u8 = 134;
const PATIENCE: Duration = Duration::from_secs(10);
/// The kernel tells of carriers once a second at most (`net/core/link_watch.c`): a cable that was put back sooner would be
/// its wait and not the server's.
const DARK: Duration = Duration::from_millis(1200);
/// Until the far end listens.
const SETTLED: Duration = Duration::from_millis(300);

/// Pulls the cable and puts it back. Gives the time, in ms, from before the order to put it back until the far end has
/// the first router advertisement; it holds the start of a process.
pub(crate) fn advertised(cable: &Cable) -> Result<f64> {
    cable.far.run("ip", &["link", "set", FAR_PORT, "down"])?;
    thread::sleep(DARK);
    let heard = cable.far.network()?.spawn("carrier", || -> Result<Instant> {
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(i32::from(IPV6.to_be()))))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let begun = Instant::now();
        let socket = std::net::UdpSocket::from(socket);
        let mut buffer = [0; 2048];
        while begun.elapsed() < PATIENCE {
            match socket.recv(&mut buffer) {
                Ok(len) if is_advertisement(buffer.get(..len).unwrap_or_default()) => {
                    return Ok(Instant::now());
                }
                Ok(_) => {}
                // It says once that the port was down.
                Err(error) if matches!(error.kind(), ErrorKind::NetworkDown | ErrorKind::WouldBlock) => {}
                Err(error) => return Err(error).context("listening for router advertisements"),
            }
        }
        bail!("no router advertisement came within {PATIENCE:?}")
    })?;
    // The listener is there.
    thread::sleep(SETTLED);
    let ordered = Instant::now();
    cable.far.run("ip", &["link", "set", FAR_PORT, "up"])?;
    let heard = heard.join().ok().context("the listener panicked")???;
    Ok(heard.saturating_duration_since(ordered).as_secs_f64() * 1e3)
}

/// A packet that begins with its IPv6 header, which has no extensions here.
fn is_advertisement(packet: &[u8]) -> bool {
    packet.get(6) == Some(&ICMPV6) && packet.get(40) == Some(&ROUTER_ADVERTISEMENT)
}
