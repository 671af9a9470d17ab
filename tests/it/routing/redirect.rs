//! A packet that a node sends back where it came from, as long as its routes are those of a moment ago.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tests::netns::Namespace;

/// The kernel says it to one sender once in a second.
const LIMIT: Duration = Duration::from_secs(20);

/// How many redirects a machine has heard [RFC 4861 § 4.5].
fn heard(machine: &Namespace) -> Result<u64> {
    let counters = machine.run("cat", &["/proc/net/snmp6"])?;
    let line = counters.lines().find_map(|line| line.strip_prefix("Icmp6InRedirects"));
    Ok(line.context("the kernel counts redirects")?.trim().parse()?)
}

/// How many redirects a node would have sent.
fn dropped(node: &Namespace) -> Result<u64> {
    let rules = node.run("/usr/sbin/nft", &["list", "table", "ip6", "meshboot-frr"])?;
    let rule =
        rules.lines().find_map(|line| line.trim().strip_prefix("icmpv6 type nd-redirect counter packets "));
    Ok(rule.context("a rule for redirects")?.split(' ').next().unwrap_or_default().parse()?)
}

/// Does something until something is so.
fn until(what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !so()? {
        ensure!(begun.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
    }
    Ok(())
}

#[test]
fn a_node_redirects_nobody() -> Result<()> {
    let (sender, node) = (Namespace::start("redirect-sender")?, Namespace::start("redirect-node")?);
    let pid = node.pid().to_string();
    sender.network()?.ip(&["link", "add", "cable", "type", "veth", "peer", "name", "port", "netns", &pid])?;
    for (machine, port, address) in [(&sender, "cable", "fd00::1/64"), (&node, "port", "fd00::2/64")] {
        machine.run("ip", &["addr", "add", address, "dev", port, "nodad"])?;
        machine.run("ip", &["link", "set", port, "up"])?;
        // A redirect names nobody but a neighbour's link-local address.
        let link_local = address.replace("fd00", "fe80");
        machine.run("ip", &["addr", "add", &link_local, "dev", port, "nodad"])?;
    }
    node.run("sysctl", &["-q", "-w", "net.ipv6.conf.all.forwarding=1"])?;
    sender.run("ip", &["route", "add", "2001:db8::/32", "via", "fd00::2"])?;
    node.run("ip", &["route", "add", "2001:db8::/32", "via", "fe80::1", "dev", "port"])?;
    // To somebody else each time: what a redirect says of one is kept.
    let mut last = 0;
    let mut send = || {
        last += 1;
        // Nobody answers.
        let _silence = sender.run("ping", &["-6", "-c", "1", "-W", "1", &format!("2001:db8::{last:x}")]);
    };

    // That is what Linux does.
    until("a redirect", || {
        send();
        Ok(heard(&sender)? > 0)
    })?;
    let rules = tempfile::NamedTempFile::new()?;
    // There is no FRR here, nor its user.
    std::fs::write(rules.path(), ignition::frr::frr_nft().replace("\"frr\"", "0"))?;
    node.run("/usr/sbin/nft", &["-f", &rules.path().to_string_lossy()])?;
    let before = heard(&sender)?;
    until("a redirect that is kept back", || {
        send();
        Ok(dropped(&node)? > 0)
    })?;
    ensure!(heard(&sender)? == before, "a redirect was sent");
    Ok(())
}
