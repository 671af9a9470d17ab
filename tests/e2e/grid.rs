//! The mesh of README's first command, and what it survives.

use std::thread::sleep;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::Value;

use crate::faults::{Hands, Probe};
use crate::mesh::{Mesh, libvirt_objects};
use crate::{experiments, pods, whole};

const NODES: [&str; 5] = ["node1", "node2", "node3", "node4", "seed"];
/// All machines at once, in software emulation on two processors.
const POWER_CUT: Duration = Duration::from_mins(60);
const RESTART: Duration = Duration::from_mins(20);
/// BGP's hold time is 3 s: a machine that holds on to a silent neighbour for longer than twice that is wrong.
const REROUTE: Duration = Duration::from_secs(6);

/// With this in the environment only these are done, for those who write tests.
const ONLY: &str = "MESHBOOT_TEST_ONLY";
/// Something that is done to a mesh, by name.
pub(crate) type Act = (&'static str, fn(&Mesh));
/// What is done, one after the other.
const ACTS: [Act; 5] = [
    ("joined", joined),
    ("experiments", experimented),
    ("file", whole::changed_by_its_file),
    ("snapshot", whole::kept_and_put_back),
    ("broken", broken),
];

#[test]
#[ignore = "needs libvirt and an hour: cargo xtask vm grid"]
fn a_mesh_of_five_outlives_cuts_and_losses_of_power() {
    let before = libvirt_objects();
    let mesh = Mesh::deploy(&["libvirt", "4", "--install-deps"]);
    assert_eq!(mesh.ready_nodes(), NODES);
    act(&mesh, &ACTS);
    mesh.teardown(&before);
}

/// Does what is to be done, and says how long each took.
pub(crate) fn act(mesh: &Mesh, acts: &[Act]) {
    let only = std::env::var(ONLY).ok();
    for (name, act) in acts {
        if only.as_deref().is_none_or(|only| only.split(',').any(|one| one == *name)) {
            let begun = Instant::now();
            act(mesh);
            eprintln!("== {name}: {} s", begun.elapsed().as_secs());
        }
    }
}

/// Everybody is served by a neighbour, and reached.
fn joined(mesh: &Mesh) {
    let status = mesh.status();
    eprintln!("{}", mesh.status_table());
    let server = mesh.served_by(&status, "node4").to_owned();
    assert!(server.starts_with("node2 port ") || server.starts_with("node3 port "), "{server}");
    mesh.has_no_bootstrap_tokens();
    pods::reach_each_other(mesh, "node1", "node4");
    mesh.api_server_answers_from_everywhere();
    memory(mesh);
}

fn experimented(mesh: &Mesh) {
    for name in experiments::GRID {
        experiments::passes(mesh, name);
    }
}

/// By hand, without the product's own faults.
fn broken(mesh: &Mesh) {
    let hands = Hands::new();
    a_cut_cable_is_gone_round(mesh, &hands);
    a_machine_comes_back_as_the_same_node(mesh, &hands);
    a_boot_outlives_the_gateway_that_serves_it(mesh, &hands);
    the_whole_site_comes_back_alone(mesh, &hands);
}

/// Far below what a machine has; the limits are those that the product promises.
fn memory(mesh: &Mesh) {
    for node in mesh.ready_nodes() {
        let ask = "awk '/VmRSS/ {print $2}' /proc/$(systemctl show -P MainPID meshboot-gateway)/status; \
                   awk '/MemTotal/ {t=$2} /MemAvailable/ {a=$2} END {print t, a}' /proc/meminfo";
        let answer = mesh.ssh(&node, ask);
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        let rss: u64 = text.lines().next().unwrap().trim().parse().unwrap();
        eprintln!(
            "{node}: gateway {} MiB resident; total and available KiB: {}",
            rss / 1024,
            text.lines().nth(1).unwrap()
        );
        assert!(rss < 64 * 1024, "{node}: {rss} KiB");
    }
}

fn a_cut_cable_is_gone_round(mesh: &Mesh, hands: &Hands) {
    let cable = hands.cable(1, 3);
    let address = mesh.address("node3");
    for state in ["down", "up"] {
        let probe = Probe::start(&address);
        // What is measured begins with a time in which all is well.
        sleep(Duration::from_secs(2));
        hands.set_cable(&cable, state);
        // Longer than the cluster's 40 s grace for a node that does not report.
        sleep(Duration::from_secs(50));
        let probed = probe.stop();
        eprintln!("cable 1-3 {state}: {} answers, {:?} without", probed.answered, probed.longest_gap);
        assert!(probed.answered > 100 && probed.longest_gap < REROUTE, "{probed:?}");
        assert!(mesh.ready_nodes().contains(&"node3".to_owned()));
    }
}

fn a_machine_comes_back_as_the_same_node(mesh: &Mesh, hands: &Hands) {
    let before = Identity::all(mesh);
    hands.power_off([2]);
    hands.power_on([2]);
    let start = Instant::now();
    mesh.wait("node2 is Ready again", RESTART, |mesh| rebooted(mesh, &before, &["node2"]));
    eprintln!("node2: {} s from power to Ready", start.elapsed().as_secs());
    assert_eq!(Identity::all(mesh), before);
}

fn a_boot_outlives_the_gateway_that_serves_it(mesh: &Mesh, hands: &Hands) {
    let before = Identity::all(mesh);
    let servers = [2, 3].map(|near| {
        let name = format!("node{near}");
        (mesh.address(&name), hands.cable(near, 4).near.port, name)
    });
    hands.power_off([4]);
    // A link by which this boot does not come tells for ever how far an earlier one came.
    let since = UNIX_EPOCH.elapsed().unwrap();
    hands.power_on([4]);
    // In the middle of its boot file, and in that of its root image, which it loads while it asks who it is.
    for stages in [&["loading"][..], &["root", "asking", "configured"]] {
        let mut server = String::new();
        mesh.wait(&format!("node4 is at {}", stages.join(" or ")), RESTART, |mesh| {
            let serves = |(address, port, _): &&(String, u8, String)| {
                let stage = mesh.link_stage(address, *port, since);
                stage.is_some_and(|stage| stages.contains(&stage.as_str()))
            };
            servers.iter().find(serves).is_some_and(|(_, _, name)| {
                server.clone_from(name);
                true
            })
        });
        let killed = mesh.ssh(&server, "systemctl kill --kill-whom=main -s KILL meshboot-gateway");
        assert!(killed.status.success(), "{killed:?}");
        eprintln!("{server}'s gateway was killed");
    }
    mesh.wait("node4 is Ready again", RESTART, |mesh| rebooted(mesh, &before, &["node4"]));
    assert_eq!(Identity::all(mesh), before);
}

fn the_whole_site_comes_back_alone(mesh: &Mesh, hands: &Hands) {
    let before = Identity::all(mesh);
    hands.power_off(0..=4);
    hands.power_on(0..=4);
    mesh.wait("the whole site is Ready again", POWER_CUT, |mesh| rebooted(mesh, &before, &NODES));
    eprintln!("{}", mesh.status_table());
    assert_eq!(Identity::all(mesh), before);
    pods::reach_each_other(mesh, "node1", "node4");
}

/// What a node must keep over a loss of power; its boot is not among what is compared.
#[derive(Debug)]
pub(crate) struct Identity {
    name: String,
    uid: String,
    block: String,
    address: String,
    boot: String,
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        let kept = |one: &Self| [&one.name, &one.uid, &one.block, &one.address].map(String::clone);
        kept(self) == kept(other)
    }
}

impl Identity {
    pub(crate) fn all(mesh: &Mesh) -> Vec<Self> {
        let status = mesh.status();
        let nodes = mesh.get(&["nodes"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = |node: &Value| {
            let name = text(&node["metadata"]["name"]);
            let machine = mesh.machine(&status, &name);
            let (block, address) = (text(&machine["block"]), text(&machine["address"]));
            let (uid, boot) = (text(&node["metadata"]["uid"]), text(&node["status"]["nodeInfo"]["bootID"]));
            Self { uid, block, address, boot, name }
        };
        nodes["items"].as_array().unwrap().iter().map(of).collect()
    }
}

/// Whether these nodes are Ready in another boot than before. The API server may be away.
pub(crate) fn rebooted(mesh: &Mesh, before: &[Identity], names: &[&str]) -> bool {
    let Some(nodes) = mesh.try_get(&["nodes"]) else { return false };
    names.iter().all(|name| {
        let found = nodes["items"].as_array().unwrap().iter().find(|node| node["metadata"]["name"] == *name);
        let old = before.iter().find(|one| one.name == *name).unwrap();
        found.is_some_and(|node| {
            let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
            ready && node["status"]["nodeInfo"]["bootID"] != old.boot.as_str()
        })
    })
}
