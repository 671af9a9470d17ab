//! Machines one by one in a running mesh: added, stopped, started, looked into, deleted.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::grid::Identity;
use crate::mesh::{Mesh, meshboot};

/// Kubernetes calls a node that is silent NotReady after 40 s; its API server may be slow to say so.
const NOT_READY: Duration = Duration::from_secs(120);
/// The seed's page hears of it by a watch.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// `meshboot node` with these words; they must succeed.
fn node(words: &[&str]) -> String {
    let output = try_node(words);
    assert!(output.status.success(), "node {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn try_node(words: &[&str]) -> Output {
    let all: Vec<&str> = ["node"].iter().chain(words).copied().collect();
    let begun = Instant::now();
    let output = meshboot(&all);
    eprintln!("meshboot node {}: {} after {} s", words.join(" "), output.status, begun.elapsed().as_secs());
    output
}

/// What is refused, with which exit code, and what is said.
fn refused(words: &[&str], code: i32, says: &str) {
    let output = try_node(words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "node {}: {said}", words.join(" "));
    assert!(said.contains(says), "node {}: {said}", words.join(" "));
}

/// The last word of `node list -o json`.
fn listed() -> Vec<Value> {
    let text = node(&["list", "-o", "json"]);
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    last["nodes"].as_array().unwrap().clone()
}

/// A machine of another size with a name of its own is plugged into `neighbour`, boots through it, is stopped and started,
/// and goes.
pub(crate) fn come_and_go(mesh: &Mesh, neighbour: &str) {
    let nodes = mesh.ready_nodes();
    let begun = Instant::now();
    let plug = format!("{neighbour}:3");
    node(&[
        "add",
        "guest",
        "--plug-into",
        &plug,
        "--memory",
        "1536MiB",
        "--ports",
        "2",
        "--label",
        "rack=2",
        "--taint",
        "guest=yes:NoSchedule",
        "--extra-config",
        "kubelet.max-pods=30",
    ]);
    eprintln!("guest: {} s from nothing to Ready", begun.elapsed().as_secs());
    let status = mesh.status();
    assert_eq!(mesh.served_by(&status, "guest"), format!("{neighbour} port 3"));
    let object = mesh.get(&["node", "guest"]);
    assert_eq!(object["metadata"]["labels"]["rack"], "2");
    assert_eq!(object["spec"]["taints"][0]["key"], "guest");
    assert_eq!(object["status"]["capacity"]["pods"], "30");
    let rows = listed();
    let guest = rows.iter().find(|row| row["name"] == "guest").unwrap();
    assert_eq!((&guest["memory_mib"], &guest["ports"][0]["machine"]), (&1536.into(), &neighbour.into()));

    what_cannot_be_is_refused(neighbour);
    it_can_be_looked_into(mesh);
    it_is_the_same_after_a_rest(mesh);

    node(&["delete", "guest"]);
    assert_eq!(mesh.ready_nodes(), nodes);
    assert!(mesh.try_get(&["machines.meshboot.io", "guest"]).is_none(), "its addresses are free");
    assert!(mesh.try_get(&["reservations.meshboot.io", "guest"]).is_none());
    mesh.wait("nobody knows of the guest", FORGOTTEN, |_| listed().iter().all(|row| row["name"] != "guest"));
    refused(&["status", "guest"], 64, "no machine `guest`");
}

fn what_cannot_be_is_refused(neighbour: &str) {
    refused(&["add", "guest"], 73, "`guest` already");
    refused(&["add", "other", "--plug-into", &format!("{neighbour}:3")], 64, "has a cable to guest");
    refused(&["add", "other", "--plug-into", "nobody"], 64, "no machine `nobody`");
    refused(&["add", "other", "--memory", "900GiB"], 69, "not enough memory");
    refused(&["delete", "seed"], 64, "teardown");
    refused(&["delete", neighbour], 69, "guest");
    refused(&["stop", "nobody"], 64, "no machine `nobody`");
}

fn it_can_be_looked_into(mesh: &Mesh) {
    assert_eq!(node(&["ssh", "guest", "--", "hostname"]).trim(), "guest");
    assert_eq!(node(&["ip", "guest"]).trim(), mesh.address("guest"));
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().join("hosts");
    node(&["cp", "guest:/etc/hostname", here.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(&here).unwrap().trim(), "guest");
    assert!(node(&["logs", "guest", "-n", "20"]).lines().count() >= 20);
    assert!(node(&["logs", "guest", "-n", "5", "--console"]).lines().count() == 5);
    let all = node(&["logs", "-n", "1"]);
    assert!(all.lines().any(|line| line.starts_with("[guest] ")), "{all}");
}

/// Stopped by its power button, it is gone for Kubernetes after a while, and comes back as the node that it was.
fn it_is_the_same_after_a_rest(mesh: &Mesh) {
    let before = Identity::all(mesh);
    let begun = Instant::now();
    node(&["stop", "guest"]);
    eprintln!("guest: {} s to shut down", begun.elapsed().as_secs());
    refused(&["ssh", "guest", "--", "true"], 255, "");
    mesh.wait("guest is NotReady", NOT_READY, |mesh| !mesh.ready_nodes().contains(&"guest".to_owned()));
    let begun = Instant::now();
    node(&["start", "guest"]);
    eprintln!("guest: {} s from power to Ready", begun.elapsed().as_secs());
    assert_eq!(Identity::all(mesh), before);
}
