//! What is done to a whole mesh while it runs: it is changed by its file, stands beside another, is kept and put back.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::mesh::{self, Mesh, binary, meshboot, root};

/// A mesh of its own, with its own addresses.
const OTHER: &str = "e2e-other";

/// Runs `meshboot` with these words, which must succeed; what it printed.
fn said(words: &[&str]) -> String {
    let begun = Instant::now();
    let output = meshboot(words);
    let seconds = begun.elapsed().as_secs();
    eprintln!("meshboot {}: {} after {seconds} s", words.join(" "), output.status);
    assert!(output.status.success(), "{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The last word of a verb with `-o json`.
fn last(words: &[&str]) -> Value {
    serde_json::from_str(said(&[words, &["-o", "json"]].concat()).lines().last().unwrap()).unwrap()
}

/// `./deploy` with these words, which must succeed.
fn deploy(words: &[&str]) {
    assert!(mesh::deploy(words, &[]).success());
}

/// A fifth machine into node3 and a label for node4, by the file; it boots through node3, and without it in the file it goes.
pub(crate) fn changed_by_its_file(mesh: &Mesh) {
    let nodes = mesh.ready_nodes();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.yaml");
    let file = path.to_str().unwrap();
    let before = said(&["config", "show"]);
    std::fs::write(&path, &before).unwrap();
    assert!(said(&["deploy", "-f", file, "--dry-run"]).contains("nothing differs"));

    let fifth =
        "  - name: fifth\n    memory: 1536MiB\n    labels: {by: file}\ncables:\n  - node3:2 - fifth:0\n";
    let labelled = before.replace("  - name: node4\n", "  - name: node4\n    labels: {by: file}\n");
    std::fs::write(&path, labelled.replace("cables:\n", fifth)).unwrap();
    let told = said(&["deploy", "-f", file, "--dry-run"]);
    for line in ["+ machine fifth", "+ cable node3:2 - fifth:0", "node4"] {
        assert!(told.contains(line), "{line} is not in\n{told}");
    }
    assert_eq!(mesh.ready_nodes(), nodes, "a dry run does nothing");
    deploy(&["-f", file]);
    let status = mesh.status();
    assert_eq!(mesh.served_by(&status, "fifth"), "node3 port 2");
    for name in ["fifth", "node4"] {
        assert_eq!(mesh.get(&["node", name])["metadata"]["labels"]["by"], "file", "{name}");
    }
    assert_eq!(mesh.ready_nodes().len(), nodes.len() + 1);
    assert!(said(&["deploy", "-f", file, "--dry-run"]).contains("nothing differs"));

    std::fs::write(&path, before).unwrap();
    deploy(&["-f", file, "--yes"]);
    assert_eq!(mesh.ready_nodes(), nodes);
    assert!(mesh.get(&["node", "node4"])["metadata"]["labels"]["by"].is_null());
    assert!(said(&["deploy", "-f", file, "--dry-run"]).contains("nothing differs"));
}

/// Another mesh by its name, and its end: nobody of the first hears of it.
pub(crate) fn beside_another(mesh: &Mesh) {
    let (nodes, boots) = (mesh.ready_nodes(), boots(mesh));
    deploy(&["-p", OTHER, "libvirt", "1", "--memory", "1536MiB"]);
    let names = |words: &[&str]| -> Vec<(String, bool)> {
        let listed = last(words);
        let rows = listed["nodes"].as_array().unwrap().iter();
        rows.map(|row| (row["name"].as_str().unwrap().to_owned(), row["ready"] == true)).collect()
    };
    let other = names(&["-p", OTHER, "node", "list"]);
    assert_eq!(other, [("seed".to_owned(), true), ("node1".to_owned(), true)]);
    let address = |words: &[&str]| last(words)["address"].as_str().unwrap().to_owned();
    assert_ne!(address(&["-p", OTHER, "node", "ip", "node1"]), address(&["node", "ip", "node1"]));
    let meshes = last(&["list"]);
    let states = meshes["meshes"].as_array().unwrap().iter();
    let states: Vec<Value> = states.map(|one| json!([one["profile"], one["state"]])).collect();
    assert!(states.contains(&json!([OTHER, "complete"])) && states.contains(&json!([null, "complete"])));

    said(&["-p", OTHER, "teardown"]);
    assert!(!root().join(format!("cluster-{OTHER}")).join("deployment.json").exists());
    assert_eq!(mesh.ready_nodes(), nodes);
    assert_eq!(self::boots(mesh), boots, "no machine was started again");
    assert!(names(&["node", "list"]).iter().all(|(_, ready)| *ready));
}

/// What happens after a snapshot has not happened when it is put back.
pub(crate) fn kept_and_put_back(mesh: &Mesh) {
    let (nodes, boots) = (mesh.ready_nodes(), boots(mesh));
    an_interrupted_one_is_none();
    assert_eq!(self::boots(mesh), boots, "they went on; nobody started again");
    let made = |name: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
    mesh.apply(&made("before"));
    let saved = last(&["snapshot", "save", "e2e"]);
    eprintln!("snapshot of {} machines: {} octets in {} s", nodes.len(), saved["bytes"], saved["seconds"]);
    mesh.apply(&made("after"));
    let back = last(&["snapshot", "restore", "e2e"]);
    eprintln!("put back, and all Ready, in {} s", back["seconds"]);
    assert_eq!(mesh.ready_nodes(), nodes);
    assert_eq!(self::boots(mesh), boots, "they went on; nobody started again");
    assert!(mesh.try_get(&["configmap", "before"]).is_some());
    assert!(mesh.try_get(&["configmap", "after"]).is_none());
    said(&["snapshot", "delete", "e2e"]);
    mesh.kubectl(&["delete", "configmap", "before"]);
}

/// When it comes to the disks all machines are off, and their memories are in files.
fn an_interrupted_one_is_none() {
    let mut command = Command::new(binary());
    command.args(["snapshot", "save", "interrupted"]).current_dir(root());
    let mut save = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(save.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut said = Vec::new();
    for line in lines {
        if line == "==> disks" {
            kill(Pid::from_raw(save.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        }
        said.push(line);
    }
    assert_eq!(save.wait().unwrap().code(), Some(75), "{said:#?}");
    assert!(said.iter().any(|line| line.contains("interrupted by SIGINT")), "{said:#?}");
    let listed = last(&["node", "list"]);
    let mut nodes = listed["nodes"].as_array().unwrap().iter();
    assert!(nodes.all(|node| node["power"] == "running"), "{listed}");
    assert_eq!(last(&["snapshot", "list"])["snapshots"], json!([]));
    assert!(!root().join("cluster/snapshots/interrupted").exists());
}

/// In which boot each node is.
fn boots(mesh: &Mesh) -> Vec<String> {
    let nodes = mesh.get(&["nodes"]);
    nodes["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["status"]["nodeInfo"]["bootID"].to_string())
        .collect()
}
