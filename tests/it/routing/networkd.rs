//! systemd-networkd as nodes run it, beside FRR: which of the two is first depends on the machine and the day.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ignition::network::{loopback, networkd_conf, port_network};
use mesh::{AddressPlan, Block, Mac, Port};
use tests::netns::Namespace;

use super::identity::{Identity, PORTS};
use super::ring;
use super::scenario::must;

const START: Duration = Duration::from_secs(20);

#[test]
fn routes_that_are_there_already_outlive_the_start_of_networkd() -> Result<()> {
    let mut ring = ring()?;
    must(&mut ring, "networkd starts after FRR", START, |ring| {
        let at = Instant::now();
        start(ring.namespace(0)?, ring.world.machines[&0])?;
        Ok(at)
    })
}

/// A node with nobody at its ports.
fn alone(name: &str, identity: Identity) -> Result<Namespace> {
    let node = Namespace::start(name)?;
    let network = node.network()?;
    for (index, name) in PORTS.iter().enumerate() {
        let mac = Mac(identity.mac(index)).to_string();
        let peer = format!("p{index}");
        network.ip(&["link", "add", name, "address", &mac, "type", "veth", "peer", "name", &peer])?;
    }
    start(&node, identity)?;
    Ok(node)
}

#[test]
fn what_nobody_in_the_mesh_holds_does_not_follow_the_default_route() -> Result<()> {
    let identity = Identity(1);
    let node = alone("nowhere", identity)?;
    let network = node.network()?;
    network.ip(&["-6", "route", "add", "default", "via", "fe80::1", "dev", PORTS[0]])?;
    // As routing learns it: more particular than what is unreachable.
    network.ip(&[
        "-6",
        "route",
        "add",
        &Identity(2).block().to_string(),
        "via",
        "fe80::2",
        "dev",
        PORTS[1],
    ])?;
    let way = |to: &str| node.run("ip", &["-6", "route", "get", to]);
    ensure!(way("2001:db8:ffff::1")?.contains("via fe80::1"), "outside");
    ensure!(way(&Identity(2).vip().to_string())?.contains("via fe80::2"), "a neighbour");
    ensure!(way(&identity.vip().to_string())?.contains("local"), "itself");
    let boot = AddressPlan::default().boot.to_string();
    for nobody in [&Identity(3).vip().to_string(), &boot, &identity.block().broadcast().to_string()] {
        let refused = way(nobody);
        ensure!(refused.is_err(), "{nobody}: {refused:?}");
    }
    Ok(())
}

#[test]
fn a_node_reaches_services_where_there_is_no_way_out() -> Result<()> {
    let identity = Identity(1);
    let node = alone("inward", identity)?;
    let service = |number: u16| {
        let first = AddressPlan::default().services.network().to_bits();
        SocketAddrV6::new(Ipv6Addr::from_bits(first + u128::from(number)), 443, 0, 0)
    };
    let (translated, unknown) = (service(1), service(2));
    let to = SocketAddrV6::new(identity.vip(), 6443, 0, 0);
    // As kube-proxy does for what the node itself sends.
    let rules = format!(
        "add table ip6 kube\n\
         add chain ip6 kube output {{ type nat hook output priority -100; policy accept; }}\n\
         add rule ip6 kube output ip6 daddr {} tcp dport 443 dnat to {to}",
        translated.ip()
    );
    shell(&node, &format!("nft -f - <<'END'\n{rules}\nEND"))?;
    let (from, refused) = node.network()?.enter(move || -> Result<(SocketAddr, bool)> {
        let server = TcpListener::bind(to)?;
        let client = TcpStream::connect_timeout(&translated.into(), START)?;
        server.accept()?;
        let refused = TcpStream::connect_timeout(&unknown.into(), START).is_err();
        Ok((client.local_addr()?, refused))
    })??;
    ensure!(from.ip() == identity.vip(), "{from}");
    ensure!(refused, "a service that nobody translates is somebody");
    Ok(())
}

/// Returns when networkd has done its work.
fn start(node: &Namespace, identity: Identity) -> Result<()> {
    // Where /sys can be written networkd waits for udev, of which a namespace has none.
    let script = "mount -t sysfs -o ro sysfs /sys && mkdir -p /run/systemd && \
                  mount -t tmpfs tmpfs /run/systemd && \
                  mkdir -p /run/systemd/network /run/systemd/networkd.conf.d";
    shell(node, script)?;
    let block = Block::new(identity.block()).context("a node's block")?;
    let mut files = vec![
        ("networkd.conf.d/10-meshboot.conf".to_owned(), networkd_conf().to_owned()),
        ("network/05-lo.network".to_owned(), loopback(block, &AddressPlan::default())),
    ];
    for (index, name) in PORTS.iter().enumerate() {
        let port = Port {
            index: u8::try_from(index)?.try_into()?,
            mac: Mac(identity.mac(index)),
            name: (*name).to_owned(),
        };
        // Hardware has no kind; the ports of namespaces are of kind veth.
        let text = port_network(&port, identity.near(index).addr(), None).replace("Kind=!*\n", "");
        files.push((format!("network/10-mesh-{index}.network"), text));
    }
    for (name, text) in files {
        shell(node, &format!("cat >/run/systemd/{name} <<'END'\n{text}\nEND"))?;
    }
    let daemon = "/usr/lib/systemd/systemd-networkd";
    shell(node, &format!("{daemon} >/run/systemd/log 2>&1 </dev/null &"))?;
    let begun = Instant::now();
    loop {
        let done = "grep -lx ADMIN_STATE=configured /run/systemd/netif/links/* 2>/dev/null | wc -l";
        if shell(node, done)?.trim() == (PORTS.len() + 1).to_string() {
            return Ok(());
        }
        let late = begun.elapsed() > START;
        ensure!(!late, "networkd is not through: {}", shell(node, "cat /run/systemd/log")?);
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn shell(node: &Namespace, script: &str) -> Result<String> {
    node.run("/bin/sh", &["-c", script])
}
