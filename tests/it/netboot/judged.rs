//! Links that are not one cable with one machine at its end: with a switch, with another network behind them, or with
//! both ends in one machine. And the one between two nodes, which is what it should be.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mesh::{FaultKind, LinkFault, LinkStatus};
use tests::netns::Namespace;

use super::lab::Lab;
use super::served::{far_mac, near_mac};

/// Longer than a node may be silent before what answers there is taken for a stranger, with a second probe in it.
const WATCH: Duration = Duration::from_secs(24);

fn kinds(status: &LinkStatus) -> Vec<FaultKind> {
    status.faults.iter().map(LinkFault::kind).collect()
}

/// A machine at the far end becomes a switch, with further machines plugged into it.
fn switch(lab: &Lab, clients: &[(&Namespace, &str)]) -> Result<()> {
    let ip = |args: &str| lab.far.network()?.ip(&args.split(' ').collect::<Vec<_>>());
    // A switch has no address of its own.
    lab.far.network()?.enter(|| fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"))??;
    lab.far.network()?.enter(|| fs::write("/proc/sys/net/ipv6/conf/far0/disable_ipv6", "1"))??;
    ip("link add switch type bridge mcast_snooping 0 forward_delay 0")?;
    ip("link set switch up")?;
    ip("link set far0 master switch")?;
    for (at, (client, mac)) in clients.iter().enumerate() {
        let pid = client.pid();
        ip(&format!("link add plug{at} type veth peer name eth0 address {mac} netns {pid}"))?;
        ip(&format!("link set plug{at} master switch up"))?;
        client.network()?.enter(|| fs::write("/proc/sys/net/ipv6/conf/eth0/accept_dad", "0"))??;
        client.run("ip", &["link", "set", "eth0", "up"])?;
    }
    Ok(())
}

/// Whether a machine that looks for a router finds ours.
fn solicit(client: &Namespace) -> bool {
    client
        .run("rdisc6", &["-1", "-r", "1", "-w", "700", "eth0"])
        .is_ok_and(|heard| heard.contains("2001:db8::10/126"))
}

#[test]
fn two_machines_behind_a_switch_are_not_served_until_one_has_gone() -> Result<()> {
    let lab = Lab::start("nbswitch")?;
    fs::write(lab.path("hold-down"), "6")?;
    let clients = [Namespace::start("nbswitch-a")?, Namespace::start("nbswitch-b")?];
    let [one, other] = &clients;
    switch(&lab, &[(one, "02:00:00:00:aa:01"), (other, "02:00:00:00:aa:02")])?;
    lab.serve()?;
    lab.wait_for("the first machine's router", |_| Ok(solicit(one)))?;
    lab.wait_for("a judgement", |lab| {
        solicit(one);
        solicit(other);
        Ok(kinds(&lab.status()?) == [FaultKind::TwoMachines])
    })?;
    let status = lab.status()?;
    let macs = ["02:00:00:00:aa:01".parse()?, "02:00:00:00:aa:02".parse()?].to_vec();
    ensure!(status.faults == [LinkFault::TwoMachines { macs }], "{status:?}");
    let reason = status.reason.unwrap_or_default();
    ensure!(reason.starts_with("not served: more than one machine") && reason.contains("switch"), "{reason}");
    ensure!(!solicit(one), "a router is advertised");
    lab.wait_for("the last word to the machines", |_| {
        Ok(!one.run("ip", &["-6", "route"])?.contains("default via"))
    })?;

    // One is unplugged: the other is served once nothing was seen of it for the hold-down.
    lab.far.run("ip", &["link", "set", "plug1", "down"])?;
    lab.wait_for("the end of the judgement", |lab| Ok(lab.status()?.faults.is_empty()))?;
    ensure!(lab.status()?.reason.is_none());
    lab.wait_for("the router's return", |_| Ok(solicit(one)))
}

/// A daemon that ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails only when it is already gone.
        let _gone = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[test]
fn another_network_is_left_alone_until_it_is_gone() -> Result<()> {
    let lab = Lab::start("nbother")?;
    // Longer than the time between two looks for others.
    fs::write(lab.path("hold-down"), "22")?;
    lab.far.run("ip", &["addr", "add", "fd00:99::1/64", "dev", "far0", "nodad"])?;
    let leases = format!("--dhcp-leasefile={}", lab.path("leases"));
    let dnsmasq = lab.far.network()?.enter(move || {
        let mut command = Command::new("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--pid-file=",
            "--port=0",
            "--user=root",
        ]);
        command.args(["--interface=far0", "--enable-ra", "--dhcp-range=fd00:99::10,fd00:99::20,64,2m"]);
        command.arg(leases).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    })?;
    let dnsmasq = Daemon(dnsmasq.context("starting dnsmasq")?);
    lab.serve()?;
    let all = [FaultKind::SecondDhcpServer, FaultKind::ForeignPrefix, FaultKind::SecondRouter];
    lab.wait_for("a judgement", |lab| Ok(kinds(&lab.status()?) == all))?;
    let status = lab.status()?;
    let router = far_mac(0).link_local();
    let net = "fd00:99::/64".parse()?;
    ensure!(status.faults.contains(&LinkFault::ForeignPrefix { router, net }), "{status:?}");
    let heard = |fault: &LinkFault| matches!(fault, LinkFault::SecondDhcpServer { server: Some(server), .. } if *server == router);
    ensure!(status.faults.iter().any(heard), "{status:?}");
    ensure!(status.reason.is_some_and(|reason| reason.starts_with("not served: another DHCPv6 server")));

    // The operator knows better.
    lab.force("near0")?;
    lab.wait_for("the operator's word", |lab| {
        let status = lab.status()?;
        Ok(status.forced && status.reason.is_none() && kinds(&status) == all)
    })?;
    lab.force("")?;
    lab.wait_for("the operator's second thoughts", |lab| Ok(lab.status()?.reason.is_some()))?;

    drop(dnsmasq);
    lab.wait_for("the end of the judgement", |lab| Ok(lab.status()?.faults.is_empty()))?;
    ensure!(lab.status()?.reason.is_none());
    Ok(())
}

#[test]
fn a_cable_between_two_of_our_own_ports_is_named_at_both() -> Result<()> {
    let lab = Lab::start("nbloop")?;
    let (one, other) = (near_mac(1).to_string(), near_mac(2).to_string());
    let pair =
        ["link", "add", "near1", "address", &one, "type", "veth", "peer", "name", "near2", "address", &other];
    lab.near.network()?.ip(&pair)?;
    lab.serve()?;
    let faults = |lab: &Lab| -> Result<Vec<Vec<LinkFault>>> {
        Ok(lab.statuses()?.into_iter().map(|status| status.faults).collect())
    };
    let looped = |port: &str| vec![LinkFault::Looped { port: port.to_owned() }];
    lab.wait_for("a judgement", |lab| Ok(faults(lab)? == [vec![], looped("near2"), looped("near1")]))?;
    // The cable is pulled out, and one end goes where it should.
    lab.near.network()?.ip(&["link", "del", "near1"])?;
    lab.plug_as("near1", "far1", 1)?;
    lab.wait_for("a good cable", |lab| Ok(faults(lab)? == [vec![], vec![]]))
}

#[test]
fn a_cable_that_sends_everything_back_is_a_loop() -> Result<()> {
    let lab = Lab::start("nbmirror")?;
    switch(&lab, &[])?;
    lab.far.run("bridge", &["link", "set", "dev", "far0", "hairpin", "on"])?;
    lab.serve()?;
    lab.wait_for("a judgement", |lab| {
        Ok(lab.status()?.faults == [LinkFault::Looped { port: "near0".to_owned() }])
    })
}

#[test]
fn two_nodes_of_one_mesh_serve_both_ends_of_their_cable() -> Result<()> {
    let lab = Lab::start("nbnodes")?;
    lab.serve()?;
    // It boots, and becomes a node.
    lab.configure_far()?;
    lab.far.run("ip", &["addr", "flush", "dev", "far0", "scope", "global"])?;
    lab.serve_far()?;
    let begun = Instant::now();
    while begun.elapsed() < WATCH {
        for status in lab.statuses()?.into_iter().chain(lab.far_statuses()?) {
            ensure!(status.faults.is_empty(), "{status:?}");
        }
        thread::sleep(Duration::from_millis(100));
    }
    // Each has heard the other: neither has taken it for a machine that boots.
    let log = |path: &str| fs::read_to_string(lab.path(path));
    ensure!(log("log")?.contains("Information-request") && log("far/log")?.contains("Information-request"));
    ensure!(lab.far_statuses()?.iter().all(|status| status.far_mac.is_none()));
    Ok(())
}
