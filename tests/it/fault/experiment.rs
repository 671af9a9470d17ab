//! Experiments on two blank machines, with an API server that knows nothing of them: what is done, measured and put right,
//! whoever interrupts it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use hardware::{Libvirt, daemon};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::machines::{Lab, SOON, is_installed, soon};
use crate::store::Cluster;

/// A server that answers as long as nothing is broken.
struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Server {
    fn start(lab: &Lab) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, stop) = (listener.local_addr()?, Arc::new(AtomicBool::new(false)));
        let (ended, folder) = (Arc::clone(&stop), lab.folder());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let mut stream = stream;
                let _request = stream.read(&mut [0; 1024]);
                if folder.read().is_ok_and(|faults| faults.is_empty()) {
                    let _sent = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
                }
            }
        });
        Ok(Self { address, stop })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _woken = std::net::TcpStream::connect(self.address);
    }
}

fn file(url: &str, pause: &str, most: &str) -> String {
    format!(
        "\
name: lab
title: A cable is cut, and who watches it falls silent
with: {{far: node1}}
probes:
  - {{name: web, http: '{url}', every: 50ms, timeout: 1s}}
steps:
  - create:
      - {{apiVersion: v1, kind: ConfigMap, metadata: {{name: 'lab-${{far}}'}}, data: {{written: 'yes'}}}}
      - {{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {{name: lab}}, value: 7}}
  - {{name: tainted, taint: 'bystander lab=yes:NoSchedule'}}
  - wait: {{object: node/bystander, field: '{{.spec.taints[*].key}}', equals: lab}}
  - {{undo: tainted}}
  - {{taint: 'bystander lab-${{far}}:PreferNoSchedule'}}
  - wait: {{object: node/bystander, field: '{{.spec.taints[*].key}}', contains: '${{far}}'}}
  - {{name: made, wait: {{object: 'configmap/lab-${{far}}', field: '{{.data.written}}', equals: 'yes'}}, within: 30s}}
  - probe: web
  - wait: {{probe: web, answered-for: 1s}}
  - {{name: cut, fault: 'link cut seed-${{far}}'}}
  - {{name: silent, wait: {{http: '{url}', answers: false}}, within: 30s}}
  - sleep: {pause}
  - {{name: mended, undo: cut}}
  - {{name: answers, wait: {{http: '{url}'}}, within: 30s}}
  - wait: {{api: answers}}
expect:
  - {{from: cut, to: silent, at-most: 30s}}
  - {{text: the silence, probe: web, at-least: 2s, at-most: {most}}}
  - {{probe: web, from: made, to: mended, at-least: 1%, at-most: 99%}}
"
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes API server: MESHBOOT_TEST_KUBERNETES names a folder of binaries"]
async fn experiments_are_measured_and_put_right_whoever_interrupts_them() -> Result<()> {
    if !is_installed() {
        return Ok(());
    }
    let cluster = Cluster::start();
    let libvirt = Libvirt::default();
    let started = daemon::ensure(&libvirt.virsh).await?;
    let lab = Lab::make(libvirt.clone()).await;
    let tried = match &lab {
        Ok(lab) => try_all(lab, &cluster),
        Err(_) => Ok(()),
    };
    let removed = lab.as_ref().map_or(Ok(()), Lab::remove);
    daemon::stop_if_unused(&libvirt.virsh, &started).await;
    lab.context("making the machines")?;
    tried?;
    removed
}

fn try_all(lab: &Lab, cluster: &Cluster) -> Result<()> {
    lab.directory.write("auth/kubeconfig", fs::read(cluster.kubeconfig("admin"))?)?;
    lab.directory.write("pki/ca.crt", fs::read(cluster.authority())?)?;
    let server = Server::start(lab)?;
    let url = format!("http://{}/", server.address);
    let place = lab.place.path().join("lab.yaml");
    let nothing_is_left = || -> Result<()> {
        lab.are_plugged(true)?;
        ensure!(lab.standing()? == 0, "a fault stands");
        let objects = cluster.admin(&["get", "configmaps", "-n", "default", "-o", "name"]);
        let classes = cluster.admin(&["get", "priorityclasses", "-o", "name"]);
        ensure!(!objects.contains("lab-node1") && !classes.contains("/lab"), "{objects}{classes}");
        // Of what the node had before nothing is taken.
        let taints = cluster.admin(&["get", "node", "bystander", "-o", "jsonpath={.spec.taints[*].key}"]);
        ensure!(taints.contains("before") && !taints.contains("lab"), "{taints}");
        Ok(())
    };

    let node = lab.place.path().join("node.json");
    let taints = serde_json::json!([{ "key": "before", "effect": "NoSchedule" }]);
    let object = serde_json::json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": "bystander" }, "spec": { "taints": taints },
    });
    fs::write(&node, object.to_string())?;
    cluster.admin(&["create", "-f", &node.to_string_lossy()]);

    fs::write(&place, file(&url, "2s", "60s"))?;
    let report: Value =
        serde_json::from_str(&last_line(&lab.does("-o json experiment run lab.yaml --svg lab.svg")?))?;
    ensure!(report["passed"] == true && report["left"] == serde_json::json!([]), "{report}");
    let marks: Vec<&str> =
        report["marks"].as_array().into_iter().flatten().filter_map(|mark| mark["name"].as_str()).collect();
    ensure!(marks == ["tainted", "made", "cut", "silent", "mended", "answers"], "{report}");
    let silence = report["probes"][0]["longest_gap"].as_u64().unwrap_or_default();
    ensure!((2000..60_000).contains(&silence), "{report}");
    let picture = fs::read_to_string(lab.place.path().join("lab.svg"))?;
    ensure!(picture.starts_with("<svg") && picture.contains("cut the cable seed-node1"), "{picture}");
    nothing_is_left()?;
    let taken = file(&url, "2s", "60s").replace("lab=yes", "before");
    fs::write(&place, taken)?;
    lab.refuses("experiment run lab.yaml", 65, &["bystander has the taint before:NoSchedule already"])?;
    nothing_is_left()?;

    // What somebody else made is neither changed nor removed.
    cluster.admin(&["create", "priorityclass", "lab", "--value=5"]);
    fs::write(&place, file(&url, "2s", "60s"))?;
    lab.refuses("experiment run lab.yaml", 65, &["lab is there already"])?;
    let value = cluster.admin(&["get", "priorityclass", "lab", "-o", "jsonpath={.value}"]);
    ensure!(value == "5", "{value}");
    cluster.admin(&["delete", "priorityclass", "lab"]);
    nothing_is_left()?;

    fs::write(&place, file(&url, "2s", "2100ms"))?;
    lab.refuses("experiment run lab.yaml", 65, &["not as expected: the silence", "NOT as expected"])?;
    nothing_is_left()?;
    lab.refuses("experiment run lab.yaml --set far=node9", 65, &["no cable", "seed-node9"])?;
    nothing_is_left()?;

    fs::write(&place, file(&url, "10m", "60s"))?;
    let mut running = lab.spawn("experiment run lab.yaml")?;
    soon("the cable is cut", SOON, || lab.are_plugged(false))?;
    kill(Pid::from_raw(i32::try_from(running.id())?), Signal::SIGINT)?;
    let ended = running.wait()?;
    ensure!(ended.code() == Some(65), "{ended}");
    nothing_is_left()?;

    let mut running = lab.spawn("experiment run lab.yaml")?;
    soon("the cable is cut", SOON, || lab.are_plugged(false))?;
    running.kill()?;
    running.wait()?;
    let faults = lab.faults()?;
    ensure!(faults.len() == 1 && faults[0]["left"].as_u64().is_some_and(|left| left > 0), "{faults:?}");
    lab.refuses("experiment run lab.yaml", 69, &["nothing is broken"])?;
    lab.does("fault clear --all")?;
    lab.are_plugged(true)
}

/// What comes before it are the events of its stages.
fn last_line(said: &str) -> String {
    said.lines().rfind(|line| line.contains("\"passed\"")).unwrap_or_default().to_owned()
}
