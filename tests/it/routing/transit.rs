//! Connections between nodes with two equal paths, through nodes that drop what connection tracking calls invalid.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ignition::frr::transit_nft;
use tests::netns::Network;

use super::ring::Ring;
use super::scenario::{SIZE, must};
use super::{AT_ONCE, ring};

/// Of the connections there and back each takes one of two paths: three quarters would not come about if those who pass
/// them on had to see both ways.
const CONNECTIONS: usize = 24;
const LIMIT: Duration = Duration::from_secs(3);

/// What kube-proxy has in its chain KUBE-FORWARD.
const KUBE_FORWARD: &str = "add table ip6 kube
add chain ip6 kube forward { type filter hook forward priority filter; policy accept; }
add rule ip6 kube forward ct state invalid counter drop
";

#[test]
fn connections_come_through_whatever_paths_they_take() -> Result<()> {
    let mut ring = ring()?;
    let services = "fd65:7b9c:569:681::/112".parse()?;
    for place in 0..SIZE {
        let identity = ring.world.machines[&place];
        load(&ring, place, KUBE_FORWARD)?;
        load(&ring, place, &transit_nft(identity.block(), services))?;
    }
    let (near, far) = (0, SIZE / 2);
    let to = ring.world.machines[&far].vip();
    let server = ring.network(far)?;
    let listener = server.enter(move || TcpListener::bind(SocketAddrV6::new(to, 0, 0, 0)))??;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that is gone is the client's to tell.
            let _ = stream.and_then(|mut stream| stream.write_all(b"x"));
        }
    });
    let client = ring.network(near)?;
    connect_all(client, address)?;

    must(&mut ring, "a path less", AT_ONCE, |ring| ring.cut(0, super::Cut::BothEnds))?;
    connect_all(ring.network(near)?, address)
}

fn load(ring: &Ring, place: usize, rules: &str) -> Result<()> {
    let command = format!("nft -f - <<'END'\n{rules}\nEND");
    ring.namespace(place)?.run("/bin/sh", &["-c", &command]).map(drop)
}

fn connect_all(client: &Network, to: SocketAddr) -> Result<()> {
    let begun = Instant::now();
    let failures = client.enter(move || -> Vec<String> {
        (0..CONNECTIONS).filter_map(|_| connect(to).err()).map(|error| format!("{error:#}")).collect()
    })?;
    ensure!(
        failures.is_empty(),
        "{} of {CONNECTIONS} connections came to nothing in {:?}: {}",
        failures.len(),
        begun.elapsed(),
        failures[0]
    );
    Ok(())
}

fn connect(to: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, LIMIT).context("connecting")?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.read_exact(&mut [0]).context("reading")
}
