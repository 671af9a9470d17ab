//! systemd-networkd as nodes run it, beside FRR: which of the two is first depends on the machine and the day.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ignition::network::{loopback, networkd_conf, port_network};
use mesh::{Mac, Port};
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

/// Returns when networkd has done its work.
fn start(node: &Namespace, identity: Identity) -> Result<()> {
    // Where /sys can be written networkd waits for udev, of which a namespace has none.
    let script = "mount -t sysfs -o ro sysfs /sys && mkdir -p /run/systemd && \
                  mount -t tmpfs tmpfs /run/systemd && \
                  mkdir -p /run/systemd/network /run/systemd/networkd.conf.d";
    shell(node, script)?;
    let mut files = vec![
        ("networkd.conf.d/10-meshboot.conf".to_owned(), networkd_conf().to_owned()),
        ("network/05-lo.network".to_owned(), loopback(identity.vip(), identity.block())),
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
