//! Faults that a node has to make in itself: what each does, and that it is gone again.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::mesh::{Mesh, meshboot, root};

/// An emulated node takes seconds to let somebody in, and a control plane minutes to come back.
const SOON: Duration = Duration::from_mins(3);
const COMES_BACK: Duration = Duration::from_mins(10);
/// Long enough to be seen before it ends by itself.
const WHILE: &str = "45s";

/// All of them, on a mesh whose `worker` is a node besides the seed and whose `neighbour` is at the other end of a cable.
pub(crate) fn each_fault_is_seen_and_undone(mesh: &Mesh, worker: &str, neighbour: &str) {
    a_unit_stops(mesh, worker, "kubelet", "kubelet.service");
    a_unit_stops(mesh, worker, "gateway", "meshboot-gateway.service");
    mirrors_refuse(mesh, worker);
    a_clock_is_off(mesh, worker);
    a_disk_is_full(mesh, worker);
    a_disk_is_readonly(mesh, worker);
    a_cable_is_late(mesh, worker, neighbour);
    a_node_without_routing_comes_back_alone(mesh, worker);
    a_static_pod_is_gone(mesh, "etcd", "etcd");
    a_static_pod_is_gone(mesh, "apiserver", "kube-apiserver");
    no_control_plane(worker);
    mesh.wait("all is as it was", COMES_BACK, |mesh| {
        let nodes = mesh.try_get(&["nodes"]);
        nodes.is_some() && mesh.ready_nodes().len() == mesh.status()["machines"].as_array().unwrap().len()
    });
}

/// `meshboot fault …`; its name.
pub(crate) fn fault(line: &str) -> String {
    let words: Vec<&str> = ["-o", "json", "fault"].into_iter().chain(line.split(' ')).collect();
    let output = meshboot(&words);
    assert!(output.status.success(), "fault {line}: {}", String::from_utf8_lossy(&output.stderr));
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    made["fault"]["id"].as_str().unwrap().to_owned()
}

pub(crate) fn clear(id: &str) {
    let output = meshboot(&["fault", "clear", id]);
    assert!(output.status.success(), "fault clear {id}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The names of all that stand.
pub(crate) fn standing() -> Vec<String> {
    let output = meshboot(&["-o", "json", "fault", "list"]);
    let listing: Value = serde_json::from_slice(&output.stdout).unwrap();
    let faults = listing["faults"].as_array().unwrap().iter();
    faults.map(|fault| fault["id"].as_str().unwrap().to_owned()).collect()
}

/// Whether a script succeeds on a node.
fn holds(mesh: &Mesh, node: &str, script: &str) -> bool {
    mesh.ssh(node, script).status.success()
}

fn a_unit_stops(mesh: &Mesh, node: &str, service: &str, unit: &str) {
    let active = format!("systemctl is-active --quiet {unit}");
    assert!(holds(mesh, node, &active), "{unit} does not run");
    let id = fault(&format!("service {service} {node}"));
    assert!(!holds(mesh, node, &active), "{unit} runs");
    clear(&id);
    mesh.wait(&format!("{unit} runs again"), SOON, |mesh| holds(mesh, node, &active));
}

/// Where a node's mirrors answer there is the address of docker.io's on `lo`.
fn mirrors_refuse(mesh: &Mesh, node: &str) {
    let answers = "curl -gsSf --max-time 10 -o /dev/null 'http://[::1]:5000/v2/'";
    let held = "address=$(sed -n 's/^server = \"http:..\\[\\(.*\\)\\].*/\\1/p' /etc/containerd/certs.d/docker.io/hosts.toml); \
                ip -6 address show dev lo | grep -q \"$address\"";
    mesh.wait("mirrors answer", SOON, |mesh| holds(mesh, node, answers) && holds(mesh, node, held));
    let id = fault(&format!("service mirror {node}"));
    assert!(!holds(mesh, node, answers), "a mirror answers");
    mesh.wait("the address is withdrawn", SOON, |mesh| !holds(mesh, node, held));
    clear(&id);
    mesh.wait("mirrors answer again", SOON, |mesh| holds(mesh, node, answers) && holds(mesh, node, held));
}

fn a_clock_is_off(mesh: &Mesh, node: &str) {
    let off = |mesh: &Mesh| -> i64 {
        let theirs = mesh.ssh(node, "date +%s").stdout;
        let ours = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let theirs: i64 = String::from_utf8(theirs).unwrap().trim().parse().unwrap();
        theirs - i64::try_from(ours).unwrap()
    };
    let before = off(mesh);
    let is_off = |mesh: &Mesh, by: i64| (off(mesh) - before - by).abs() < 30;
    let id = fault(&format!("clock {node} -10m"));
    assert!(is_off(mesh, -600), "{} s", off(mesh));
    clear(&id);
    assert!(is_off(mesh, 0), "{} s", off(mesh));
    // Ended by the node itself: whoever made it is told that by nobody.
    let id = fault(&format!("clock {node} +10m --for {WHILE}"));
    kill_keeper();
    assert!(is_off(mesh, 600), "{} s", off(mesh));
    mesh.wait("the clock is right again", SOON, |mesh| is_off(mesh, 0));
    mesh.wait("the fault is gone", SOON, |_| !standing().contains(&id));
    assert!(is_off(mesh, 0), "{} s", off(mesh));
}

const WRITES: &str = "dd if=/dev/zero of=/run/meshboot/state/test bs=4096 count=1 conv=fsync 2>/dev/null && \
                      rm /run/meshboot/state/test";

fn a_disk_is_full(mesh: &Mesh, node: &str) {
    assert!(holds(mesh, node, WRITES));
    let id = fault(&format!("disk {node} full"));
    assert!(!holds(mesh, node, WRITES), "there is room");
    // What is left of the try would be room.
    mesh.ssh(node, "rm -f /run/meshboot/state/test");
    clear(&id);
    mesh.wait("there is room again", SOON, |mesh| holds(mesh, node, WRITES));
}

fn a_disk_is_readonly(mesh: &Mesh, node: &str) {
    fault(&format!("disk {node} readonly --for {WHILE}"));
    assert!(!holds(mesh, node, WRITES), "it can be written");
    mesh.wait("it can be written again", SOON, |mesh| holds(mesh, node, WRITES));
    mesh.wait("the fault is gone", SOON, |_| standing().is_empty());
}

/// By whichever kernel has netem, this computer's or those of the machines.
fn a_cable_is_late(mesh: &Mesh, node: &str, neighbour: &str) {
    let far = mesh.address(neighbour);
    let fastest = |mesh: &Mesh| -> f64 {
        let said = mesh.ssh(node, &format!("ping -6 -n -c 5 -i 0.3 {far}")).stdout;
        let said = String::from_utf8(said).unwrap();
        let times = said.split_once("min/avg/max/mdev = ").unwrap_or_else(|| panic!("{said}")).1;
        times.split('/').next().unwrap().parse().unwrap()
    };
    let before = fastest(mesh);
    let id = fault(&format!("link degrade {node}-{neighbour} --latency 200ms"));
    let late = fastest(mesh);
    assert!(late > before + 380.0, "{before} ms became {late} ms");
    clear(&id);
    let after = fastest(mesh);
    assert!(after < 200.0, "{late} ms became {after} ms");
}

fn a_node_without_routing_comes_back_alone(mesh: &Mesh, node: &str) {
    let address = mesh.address(node);
    let reached = || {
        let ping = Command::new("ping").args(["-6", "-n", "-c", "1", "-W", "2", &address]).output();
        ping.unwrap().status.success()
    };
    assert!(reached());
    let id = fault(&format!("service routing {node} --for {WHILE}"));
    let begun = Instant::now();
    mesh.wait("it cannot be reached", SOON, |_| !reached());
    mesh.wait("it can be reached again", SOON, |_| reached());
    eprintln!("{node} without routing: reached again after {} s", begun.elapsed().as_secs());
    mesh.wait("the fault is gone", SOON, |_| !standing().contains(&id));
}

/// On the seed, whose pods they are.
fn a_static_pod_is_gone(mesh: &Mesh, service: &str, process: &str) {
    let runs = format!("pgrep -x {process} >/dev/null");
    assert!(holds(mesh, "seed", &runs), "no {process}");
    let id = fault(&format!("service {service} seed"));
    mesh.wait(&format!("{process} is gone"), SOON, |mesh| !holds(mesh, "seed", &runs));
    clear(&id);
    mesh.wait(&format!("{process} is back"), COMES_BACK, |mesh| holds(mesh, "seed", &runs));
    mesh.wait("the API server answers", COMES_BACK, |mesh| mesh.try_get(&["nodes"]).is_some());
}

/// It says so itself, and nothing is left.
fn no_control_plane(node: &str) {
    let output = meshboot(&["fault", "service", "etcd", node]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(&format!("{node} is no control plane")), "{said}");
    assert!(standing().is_empty());
}

/// The process that would end this deployment's faults from outside.
fn kill_keeper() {
    let cluster = root().join("cluster").display().to_string();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        if words.contains(&cluster) && words.ends_with("\0fault\0keep\0") {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
                .unwrap();
        }
    }
}
