//! Three control planes in a ring of four machines: each of them dies in turn, the seed included.
//!
//! A ring, for what is in the middle of a line takes one end from the other with it: then no two of the three are left
//! together. This computer reaches the mesh through the seed alone, so who asks the API server is a node, the one that is no
//! control plane; what it noted is read when the seed is back.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::experiments;
use crate::faults::Hands;
use crate::grid::{Identity, rebooted};
use crate::mesh::{Mesh, libvirt_objects, meshboot};

/// All of them.
const NODES: [&str; 4] = ["node1", "node2", "node3", "seed"];
/// The seed and its two neighbours in the ring, by name and number.
const CONTROL_PLANES: [(&str, u16); 3] = [("node1", 1), ("node3", 3), ("seed", 0)];
/// The one between the two.
const WITNESS: &str = "node2";
/// For how long one is away, at least.
const AWAY: Duration = Duration::from_secs(60);
/// Another promoter takes the lease of one that died after 30 s, looks every ten, and is emulated.
const NOTICED: Duration = Duration::from_mins(5);
/// How long `kubectl` may fail.
const FAILS: Duration = Duration::from_secs(10);
/// A machine boots, and its etcd catches up, in software emulation.
const RESTART: Duration = Duration::from_mins(20);
/// A promotion, or two.
const BECOMES: Duration = Duration::from_mins(30);
/// What only has to be noticed by whoever looks every ten seconds.
const SOON: Duration = Duration::from_mins(2);

#[test]
#[ignore = "needs libvirt and two hours: cargo xtask vm control-planes"]
fn any_one_of_three_control_planes_may_die() {
    let before = libvirt_objects();
    let ring = ["libvirt", "3", "--topology", "ring", "--control-planes", "3", "--install-deps"];
    let mesh = Mesh::deploy(&ring);
    assert_eq!(mesh.ready_nodes(), NODES);
    mesh.wait("all control planes are well", SOON, |mesh| whole(mesh, &["node1", "node3", "seed"]));
    eprintln!("{}", mesh.status_table());
    assert!(mesh.status_table().contains("control plane: 3 of 3\n"));
    assert_eq!(marked(&mesh), ["node1", "node3", "seed"]);
    no_keys_are_left(&mesh);

    let hands = Hands::new();
    let lost: Vec<Lost> =
        CONTROL_PLANES.iter().map(|(name, number)| one_dies(&mesh, &hands, name, *number)).collect();
    eprintln!("| lost | answers | `kubectl` fails for | all well again after |\n|---|---|---|---|");
    for Lost { name, answers, fails, back } in &lost {
        eprintln!("| {name} | {answers} | {:.1} s | {} s |", fails.as_secs_f64(), back.as_secs());
    }
    assert!(lost.iter().all(|lost| lost.answers > 100 && lost.fails < FAILS), "{lost:?}");
    for name in experiments::RING {
        experiments::passes(&mesh, name);
    }
    a_wiped_one_becomes_one_again(&mesh, "node3");
    one_is_deleted_and_another_takes_its_place(&mesh);

    mesh.teardown(&before);
}

/// As much as two processors can emulate, if each machine has one.
#[test]
#[ignore = "needs libvirt and two hours: cargo xtask vm triangle"]
fn three_that_are_all_there_is_bear_the_loss_of_any_one() {
    let before = libvirt_objects();
    let ring =
        ["libvirt", "2", "--topology", "ring", "--control-planes", "3", "--cpus", "1", "--install-deps"];
    let mesh = Mesh::deploy(&ring);
    let names = ["node1", "node2", "seed"];
    for (name, set) in experiments::TRIANGLE {
        mesh.wait("all control planes are well", RESTART, |mesh| whole(mesh, &names));
        experiments::passes_with(&mesh, name, set);
    }
    mesh.teardown(&before);
}

/// The nodes that Kubernetes knows as control planes.
fn marked(mesh: &Mesh) -> Vec<String> {
    let nodes = mesh.get(&["nodes", "-l", "node-role.kubernetes.io/control-plane"]);
    let name = |node: &Value| node["metadata"]["name"].as_str().unwrap().to_owned();
    let mut names: Vec<String> = nodes["items"].as_array().unwrap().iter().map(name).collect();
    names.sort();
    names
}

fn no_keys_are_left(mesh: &Mesh) {
    let kinds = ["secrets,roles,rolebindings", "-n", "kube-system"];
    let left =
        mesh.get(&kinds)["items"].as_array().unwrap().iter().any(|object| {
            object["metadata"]["name"].as_str().unwrap().starts_with("meshboot-control-plane-")
        });
    assert!(!left, "a ticket is left");
    let has = |name: &str, path: &str| {
        let found = mesh.ssh(name, &format!("test -e {path} && echo yes || echo no"));
        match String::from_utf8_lossy(&found.stdout).trim() {
            "yes" => true,
            "no" => false,
            _ => panic!("{name}: {}", String::from_utf8_lossy(&found.stderr)),
        }
    };
    for (name, _) in CONTROL_PLANES {
        assert!(!has(name, "/run/meshboot/promotion"), "{name} keeps keys in memory");
        assert!(has(name, "/etc/kubernetes/pki/ca.key"), "{name} has no keys");
    }
    assert!(!has(WITNESS, "/etc/kubernetes/pki/ca.key"));
}

/// Whether etcd's members of these nodes all answer, and nobody waits.
fn whole(mesh: &Mesh, names: &[&str]) -> bool {
    let status = mesh.status();
    let board = &status["control_planes"];
    let waits = board["waits"].as_object().is_none_or(serde_json::Map::is_empty);
    let members = board["members"].as_object().cloned().unwrap_or_default();
    waits
        && members.len() == names.len()
        && names.iter().all(|name| members.get(*name).is_some_and(|it| it == "well"))
}

/// Asks for a Node as `kubectl get` does, what etcd says now, at the anycast address: again and again on a node.
struct Asking<'a>(&'a Mesh);

impl<'a> Asking<'a> {
    /// Where the kubelet asks, and as the kubelet does. `kubectl` itself takes seconds to start on an emulated machine, and
    /// what is to be measured is the server.
    const SCRIPT: &'static str = "server=$(sed -n 's/^ *server: //p' /etc/kubernetes/kubelet.conf); \
        key=/var/lib/kubelet/pki/kubelet-client-current.pem; \
        while :; do \
        if curl -gsf --max-time 2 -o /dev/null --cacert /etc/kubernetes/pki/ca.crt --cert $key --key $key \
        \"$server/api/v1/nodes/$(hostname)\"; then word=ok; else word=no; fi; \
        echo \"$(date +%s.%N) $word\"; sleep 0.2; done";

    fn start(mesh: &'a Mesh) -> Self {
        let start = format!(
            "systemd-run --quiet --collect --unit=asking --property=StandardOutput=truncate:/run/asking.log \
             /bin/bash -c '{}'",
            Self::SCRIPT.replace('\'', "'\\''")
        );
        let started = mesh.ssh(WITNESS, &start);
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        let asking = Self(mesh);
        mesh.wait("the API server answers the one who asks", SOON, |_| asking.noted().contains(" ok"));
        asking
    }

    fn noted(&self) -> String {
        String::from_utf8_lossy(&self.0.ssh(WITNESS, "cat /run/asking.log").stdout).into_owned()
    }

    /// How often there was an answer, and the longest time without one.
    fn stop(self) -> (usize, Duration) {
        let text = self.noted();
        self.0.ssh(WITNESS, "systemctl stop asking");
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let all: Vec<(f64, bool)> =
            lines.filter_map(|(time, word)| Some((time.parse().ok()?, word == "ok"))).collect();
        let (first, last) = (all.first().unwrap().0, all.last().unwrap().0);
        let answered: Vec<f64> = all.iter().filter(|(_, ok)| *ok).map(|(time, _)| *time).collect();
        let ends = || std::iter::once(first).chain(answered.iter().copied()).chain([last]);
        let gap = ends().zip(ends().skip(1)).map(|(one, next)| next - one).fold(0.0, f64::max);
        (answered.len(), Duration::from_secs_f64(gap))
    }
}

/// What the loss of one came to.
#[derive(Debug)]
struct Lost {
    name: String,
    /// How often the one who asked was answered.
    answers: usize,
    /// The longest time without an answer, from before it died until all were well again.
    fails: Duration,
    /// From when it had power until all were well again.
    back: Duration,
}

/// Its plug is pulled, and put back when the others have noticed.
fn one_dies(mesh: &Mesh, hands: &Hands, name: &str, number: u16) -> Lost {
    let names = CONTROL_PLANES.map(|(name, _)| name);
    mesh.wait("all control planes are well", RESTART, |mesh| whole(mesh, &names));
    let before = Identity::all(mesh);
    let asking = Asking::start(mesh);
    hands.power_off([number]);
    sleep(AWAY);
    if name != "seed" {
        let told = format!("control plane: 2 of 3; the etcd of {name} does not answer");
        mesh.wait(&told, NOTICED, |mesh| mesh.status_table().contains(&told));
    }
    let begun = Instant::now();
    hands.power_on([number]);
    mesh.wait(&format!("{name} is Ready again"), RESTART, |mesh| rebooted(mesh, &before, &[name]));
    mesh.wait("all are Ready again", RESTART, |mesh| mesh.are_ready(&NODES));
    mesh.wait("all control planes are well again", RESTART, |mesh| whole(mesh, &names));
    let back = begun.elapsed();
    let (answers, fails) = asking.stop();
    eprintln!(
        "{name} died: {answers} answers, {fails:?} without one; all well again {back:?} after it had power"
    );
    assert_eq!(Identity::all(mesh), before);
    Lost { name: name.to_owned(), answers, fails, back }
}

/// Its member of etcd is another one afterwards.
fn a_wiped_one_becomes_one_again(mesh: &Mesh, name: &str) {
    let mark = |mesh: &Mesh| {
        let read = mesh.ssh(name, "cat /etc/kubernetes/meshboot-control-plane");
        String::from_utf8_lossy(&read.stdout).trim().to_owned()
    };
    let member = mark(mesh);
    let begun = Instant::now();
    let done = meshboot(&["node", "reinstall", name]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let names = CONTROL_PLANES.map(|(name, _)| name);
    mesh.wait("all control planes are well again", BECOMES, |mesh| whole(mesh, &names));
    eprintln!("{name} was wiped: a control plane again after {} s", begun.elapsed().as_secs());
    let now = mark(mesh);
    assert!(!now.is_empty() && now != member, "{member} then, {now} now");
    no_keys_are_left(mesh);
}

fn one_is_deleted_and_another_takes_its_place(mesh: &Mesh) {
    let node = |words: &[&str]| {
        let done = meshboot(&[&["node"], words].concat());
        assert!(done.status.success(), "node {words:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let begun = Instant::now();
    node(&["delete", "node3"]);
    eprintln!("node3 was deleted after {} s", begun.elapsed().as_secs());
    mesh.wait("two are left", SOON, |mesh| whole(mesh, &["node1", "seed"]));
    // Two bear no loss: the disk of neither may be wiped.
    let refused = meshboot(&["node", "reinstall", "node1"]);
    assert_eq!(refused.status.code(), Some(69), "{}", String::from_utf8_lossy(&refused.stderr));
    let begun = Instant::now();
    node(&["add", "fourth", "--role", "control-plane", "--plug-into", "seed", "--plug-into", WITNESS]);
    eprintln!("another control plane after {} s", begun.elapsed().as_secs());
    mesh.wait("three are well", SOON, |mesh| whole(mesh, &["fourth", "node1", "seed"]));
    assert_eq!(marked(mesh), ["fourth", "node1", "seed"]);
    let list = String::from_utf8(meshboot(&["node", "list"]).stdout).unwrap();
    let role =
        |name: &str| list.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().nth(1);
    assert_eq!([role("fourth"), role(WITNESS)], [Some("control-plane"), Some("node")], "{list}");
}
