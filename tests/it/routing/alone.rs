//! Who advertises on a port: meshboot, and nobody else.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol as IpProtocol, Socket, Type};
use tests::netns::Network;

use super::identity::Identity;
use super::protocol::Protocol;
use super::ring::Ring;

const ROUTER_ADVERTISEMENT: u8 = 134;
const PREFIX_INFORMATION: u8 = 3;

/// What stands in the way of a boot is the first advertisement that says something else, so all are looked at.
#[test]
fn only_meshboot_advertises() -> Result<()> {
    let mut ring = Ring::new(Protocol::Bgp, 3)?;
    let node = Identity(1);
    ring.power_on(0, node)?;
    let blank = ring.plug_blank(0, 0)?;
    let listener = blank.network()?;
    ring.start_frr(0)?;
    let heard = listen(&listener, Duration::from_secs(8))?;
    assert!(heard.len() >= 2, "an advertisement every 3 s: {heard:02x?}");
    for packet in &heard {
        assert_eq!(packet[5] & 0xc0, 0xc0, "M and O are set: {packet:02x?}");
        let [kind, _, length, flags, ..] = packet[16..] else { panic!("no option: {packet:02x?}") };
        assert_eq!(
            (kind, length, flags),
            (PREFIX_INFORMATION, 126, 0x80),
            "L is set, A is not: {packet:02x?}"
        );
        assert_eq!(packet[32..48], node.near(0).network().octets(), "the link's prefix: {packet:02x?}");
    }
    let rules = ring.namespace(0)?.run("/usr/sbin/nft", &["list", "table", "ip6", "meshboot-frr"])?;
    let (_, counter) = rules.split_once("counter packets ").context("the rule counts")?;
    assert!(!counter.starts_with("0 "), "zebra tried, or this test shows nothing: {rules}");
    Ok(())
}

fn listen(network: &Network, time: Duration) -> Result<Vec<Vec<u8>>> {
    network.enter(move || -> Result<Vec<Vec<u8>>> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(IpProtocol::ICMPV6))?;
        let socket = std::net::UdpSocket::from(socket);
        let mut heard = Vec::new();
        let end = Instant::now() + time;
        while let Some(rest) = end.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
            socket.set_read_timeout(Some(rest))?;
            let mut buffer = [0; 1500];
            // A timeout is the end of the time.
            let Ok((length, _)) = socket.recv_from(&mut buffer) else { continue };
            if buffer[0] == ROUTER_ADVERTISEMENT {
                heard.push(buffer[..length].to_vec());
            }
        }
        Ok(heard)
    })?
}
