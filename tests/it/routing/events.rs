//! What a node remembers of its cables and routes, told by the real service beside the real routing daemon, and put in
//! order with what was done by `meshboot timeline`.

use std::fs;
use std::net::Ipv6Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use bootstrap::deployment::{Deployment, Directory};
use bootstrap::timeline::journal::{Act, Entry, Fault, Journal};
use hardware::DeploymentId;
use mesh::{AddressPlan, Event, EventPage, Happening, Mac, Machine};
use serde_json::{Value, json};
use tests::answers;
use tests::netns::Network;

use super::identity::{Identity, PORTS};
use super::ring::Cut;
use super::scenario::must;
use super::{AT_ONCE, BY_MEETING, ring};
use crate::cli::binary;
use crate::cli::explain::settings;

/// The status page, with the events.
const PAGE: u16 = 8047;
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// A carrier is told of by the kernel, and noted at once.
const SOON: u64 = 1_000_000;

/// The service of one machine of the ring.
struct Gateway {
    network: Network,
    vip: Ipv6Addr,
    machine: Machine,
    child: Child,
    folder: tempfile::TempDir,
}

impl Gateway {
    fn start(network: Network, identity: Identity) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mac = |port| Mac(identity.mac(port));
        let ports: Vec<_> =
            PORTS.iter().enumerate().map(|(port, name)| (mac(port), (*name).to_owned())).collect();
        let mut settings = settings(folder.path(), &ports);
        let of_machine =
            json!({ "name": identity.name(), "role": "node", "block": identity.0, "router_id": identity.0 });
        for (key, value) in of_machine.as_object().context("an object")? {
            settings["machine"][key] = value.clone();
        }
        let machine = serde_json::from_value(settings["machine"].clone())?;
        let file = folder.path().join("gateway.json");
        fs::write(&file, settings.to_string())?;
        let log = fs::File::create(folder.path().join("log"))?;
        let mut command = Command::new(binary());
        command.arg("--settings").arg(file).arg("gateway").stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let child = network.enter(move || command.spawn())??;
        Ok(Self { network, vip: identity.vip(), machine, child, folder })
    }

    /// The events after this one, as anybody on the mesh gets them.
    fn page(&self, after: u64) -> Result<EventPage> {
        let url = format!("http://[{}]:{PAGE}/events?after={after}", self.vip);
        let output = self.network.enter(move || Command::new("curl").args(["-sSf", &url]).output())??;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Waits until an event that is wanted has come; gives all after `after`.
    fn wait(&self, after: u64, what: &str, is_there: impl Fn(&[Event]) -> bool) -> Result<Vec<Event>> {
        let begun = Instant::now();
        loop {
            let page = self.page(after);
            if let Ok(page) = &page
                && is_there(&page.events)
            {
                return Ok(page.events.clone());
            }
            if begun.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.folder.path().join("log"))?;
                bail!("{what} did not come: {page:#?}\n{log}");
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Fails only when it is already gone.
        let _gone = self.child.kill().and_then(|()| self.child.wait());
    }
}

fn micros() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?)
}

fn carrier(event: &Event, of: &str) -> Option<bool> {
    let Happening::Carrier { port, carries, .. } = &event.what else { return None };
    (port == of).then_some(*carries)
}

fn paths(events: &[Event], to: Identity) -> Option<u16> {
    events.iter().rev().find_map(|event| {
        let Happening::Route { to: net, paths, .. } = &event.what else { return None };
        (*net == to.block()).then_some(*paths)
    })
}

fn neighbour(events: &[Event], of: &str) -> Option<bool> {
    events.iter().rev().find_map(|event| {
        let Happening::Neighbour { port, routes } = &event.what else { return None };
        (port == of).then_some(*routes)
    })
}

#[test]
fn a_node_remembers_what_happened_to_its_cables_and_routes() -> Result<()> {
    let mut ring = ring()?;
    // The service holds the boot address, and the ring must know.
    ring.add_anycast(0, AddressPlan::default().boot)?;
    let gateway = Gateway::start(ring.namespace(0)?.network()?, Identity(1))?;
    let others = [2, 3, 4].map(Identity);
    let whole = |events: &[Event]| {
        let has_carrier = |port: &&str| events.iter().any(|event| carrier(event, port) == Some(true));
        others.iter().all(|other| paths(events, *other) > Some(0)) && PORTS.iter().all(has_carrier)
    };
    let at_first = gateway.wait(0, "how things stand", whole)?;
    ensure!(matches!(at_first[0].what, Happening::Started { .. }), "{at_first:#?}");
    // The third machine is as far by one cable as by the other.
    ensure!(paths(&at_first, Identity(3)) == Some(2), "{at_first:#?}");

    let before = gateway.page(0)?.next - 1;
    let first = micros()?;
    must(&mut ring, "a cable is cut", AT_ONCE, |ring| ring.cut(0, Cut::BothEnds))?;
    let second = micros()?;
    must(&mut ring, "the other one too", AT_ONCE, |ring| ring.cut(3, Cut::BothEnds))?;
    let alone = |events: &[Event]| others.iter().all(|other| paths(events, *other) == Some(0));
    let lost = gateway.wait(before, "routes' end", alone)?;
    ensure!(lost.iter().map(|event| event.seq).eq(before + 1..=before + lost.len() as u64), "{lost:#?}");
    for (port, cut) in [(PORTS[0], first), (PORTS[1], second)] {
        let event = lost.iter().find(|event| carrier(event, port) == Some(false));
        let event = event.with_context(|| format!("{port} lost no carrier: {lost:#?}"))?;
        ensure!((cut..cut + SOON).contains(&event.at), "{port} was cut at {cut}: {event:?}");
        ensure!(neighbour(&lost, port) == Some(false), "{port}: {lost:#?}");
    }
    // Both clocks agree on how much later the second cut was.
    let ends: Vec<&Event> = lost
        .iter()
        .filter(|event| carrier(event, PORTS[0]).or_else(|| carrier(event, PORTS[1])) == Some(false))
        .collect();
    let [one, other] = ends[..] else { bail!("two carriers were lost: {lost:#?}") };
    ensure!((other.at - one.at).abs_diff(other.up - one.up) < 20_000, "{one:?} {other:?}");

    let before = gateway.page(0)?.next - 1;
    must(&mut ring, "both are healed", BY_MEETING, |ring| {
        ring.heal(0)?;
        ring.heal(3)
    })?;
    let back =
        gateway.wait(before, "routes", |events| whole(events) && paths(events, Identity(3)) == Some(2))?;
    ensure!(PORTS.iter().all(|port| neighbour(&back, port) == Some(true)), "{back:#?}");
    ensure!(
        gateway.page(u64::MAX)?.events.len() as u64 == gateway.page(0)?.next - 1,
        "another run's number gets all"
    );

    shown_in_order(&gateway, first)
}

/// `meshboot timeline` puts the fault before what followed from it, and draws it.
fn shown_in_order(gateway: &Gateway, cut: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let directory = Directory::new(&folder.path().join("cluster"))?;
    directory.create()?;
    let site = serde_json::from_value(json!("5eed0000-0000-4000-8000-000000000001"))?;
    let id = DeploymentId(serde_json::from_value(json!("5eed0000-0000-4000-8000-000000000002"))?);
    directory.save(&Deployment::new(id, site, AddressPlan::default(), gateway.machine.clone()))?;
    let fault = Fault {
        id: "f1".to_owned(),
        kind: "link cut".to_owned(),
        machines: vec!["node-1".to_owned()],
        text: "cut a cable of node-1".to_owned(),
        until: None,
    };
    Journal::append(&directory, Entry { at: cut, act: Act::FaultInjected(fault) })?;
    let picture = folder.path().join("timeline.svg");
    let said = timeline(
        gateway,
        directory.path(),
        &["-o", "json", "--since", "-10m", "--svg", &picture.to_string_lossy()],
    )?;
    let lines = said.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let (result, entries) = lines.split_last().context("nothing was said")?;
    ensure!(result["event"] == "result" && result["entries"] == entries.len(), "{result}");
    ensure!(entries.iter().all(|entry| entry["event"] == "entry"), "{said}");
    let times: Vec<u64> = entries.iter().filter_map(|entry| entry["at"].as_u64()).collect();
    ensure!(times.len() == entries.len() && times.is_sorted(), "{said}");
    let place = |what: &str, is_it: &dyn Fn(&Value) -> bool| {
        entries.iter().position(is_it).with_context(|| format!("{what} is not told: {said}"))
    };
    let injected = place("the fault", &|entry| entry["detail"]["act"] == "fault-injected")?;
    let lost = place("the carrier", &|entry| entry["detail"]["carries"] == false)?;
    let gone =
        place("the route", &|entry| entry["detail"]["event"] == "route" && entry["detail"]["paths"] == 0)?;
    ensure!(injected < lost && injected < gone, "{injected} {lost} {gone}: {said}");
    // The kernel tells of ports and of routes by two sockets.
    ensure!(times[lost] < times[gone] + 10_000, "{said}");
    // Both are by this computer's clock, and so little off.
    ensure!(result["witnesses"][0]["within"].as_u64() < Some(50_000), "{result}");
    ensure!(result["witnesses"][0]["ahead"].as_i64().map(i64::abs) < Some(50_000), "{result}");
    let silent = result["silent"].to_string();
    ensure!(silent.contains("Kubernetes: there is no kubeconfig"), "{silent}");
    let drawn = fs::read_to_string(picture)?;
    ensure!(drawn.contains("f1 cut a cable of node-1") && drawn.contains("a route is missing"), "{drawn}");
    let text = timeline(gateway, directory.path(), &["--machine", "node-1"])?;
    ensure!(text.contains("FAULT f1: cut a cable of node-1") && text.contains("lan0: no carrier"), "{text}");
    Ok(())
}

fn timeline(gateway: &Gateway, directory: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(binary());
    command.arg("--cluster").arg(directory).arg("timeline").args(arguments).stdin(Stdio::null());
    let output = gateway.network.enter(move || command.output())??;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    answers::are_published(&[&["timeline"], arguments].concat(), &output.stdout)?;
    Ok(String::from_utf8(output.stdout)?)
}
