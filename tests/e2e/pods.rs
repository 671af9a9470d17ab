//! Pods that talk to each other, of an image that only the mesh's own mirrors have.

use std::fs;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::mesh::{Mesh, meshboot, root};

const IMAGE: &str = "docker.io/library/busybox:latest";
/// The seed's registry, at the seed's address towards this computer, and what it is called in the mesh.
const REGISTRY: &str = "172.30.0.2:5443";
const OWN: &str = "mesh.internal/team/busybox:v1";
const LIMIT: Duration = Duration::from_secs(300);

/// A web server on one node is asked by a client on another, by the address of its pod. The client's image is one that was
/// pushed to the seed just before.
pub(crate) fn reach_each_other(mesh: &Mesh, server: &str, client: &str) {
    push();
    mesh.apply(&pod("server", server, IMAGE, "echo hello > /index.html; exec httpd -f -h / -p 80"));
    mesh.apply(&pod("client", client, OWN, "exec tail -f /dev/null"));
    let runs = |mesh: &Mesh, name| mesh.get(&["pod", name])["status"]["phase"] == "Running";
    mesh.wait("pods run", LIMIT, |mesh| runs(mesh, "server") && runs(mesh, "client"));

    let address = |name| mesh.get(&["pod", name])["status"]["podIP"].as_str().unwrap().to_owned();
    let url = format!("http://[{}]/index.html", address("server"));
    let answer = mesh.kubectl(&["exec", "client", "--", "wget", "-q", "-T", "20", "-O", "-", &url]);
    assert_eq!(answer.trim(), "hello");
    let status = mesh.status();
    for (pod, node) in [("server", server), ("client", client)] {
        let block: ipnet::Ipv6Net = mesh.machine(&status, node)["block"].as_str().unwrap().parse().unwrap();
        let address: std::net::Ipv6Addr = address(pod).parse().unwrap();
        assert!(block.contains(&address), "{pod} at {address} is not in {node}'s {block}");
    }
    came_from_the_mirror(mesh, "server", server);
    mesh.kubectl(&["delete", "pod", "server", "client", "--wait=false"]);
}

/// As an operator pushes an image of his own.
fn push() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar").display().to_string();
    let saved = meshboot(&["image", "save", IMAGE, "--to", &archive]);
    assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
    let password = fs::read_to_string(root().join("cluster/auth/registry-password")).unwrap();
    let login = folder.path().join("login.json");
    let auth = BASE64_STANDARD.encode(format!("meshboot:{password}"));
    fs::write(&login, json!({ "auths": { REGISTRY: { "auth": auth } } }).to_string()).unwrap();
    let mut copy = Command::new("skopeo");
    copy.args(["--insecure-policy", "copy", "--preserve-digests", "--dest-cert-dir"]);
    copy.arg(root().join("cluster/auth/registry")).arg("--authfile").arg(login);
    let name = OWN.trim_start_matches("mesh.internal/");
    let copied =
        copy.arg(format!("oci-archive:{archive}")).arg(format!("docker://{REGISTRY}/{name}")).output();
    let copied = copied.unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
}

/// What runs is what the mirror has under that name, asked at its anycast address by the node itself. The node
/// knows no other registry: its `hosts.toml` names the mirror as the server.
fn came_from_the_mirror(mesh: &Mesh, pod: &str, node: &str) {
    let runs = mesh.get(&["pod", pod])["status"]["containerStatuses"][0]["imageID"].clone();
    let ask = "server=$(sed -n 's/^server = \"\\(.*\\)\"$/\\1/p' /etc/containerd/certs.d/docker.io/hosts.toml); \
               echo \"$server\"; curl -gsSI --max-time 20 \"$server/v2/library/busybox/manifests/latest\"";
    let answer = mesh.ssh(node, ask);
    // Fields have their names in any case.
    let answer = String::from_utf8_lossy(&answer.stdout).to_ascii_lowercase();
    assert!(answer.starts_with("http://[fd65:"), "{answer}");
    let digest = answer.lines().find_map(|line| line.strip_prefix("docker-content-digest: ")).map(str::trim);
    let digest = digest.unwrap_or_else(|| panic!("{answer}"));
    assert!(runs.as_str().unwrap().ends_with(digest), "{runs} runs, the mirror has {digest}");
}

fn pod(name: &str, node: &str, image: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeName": node, "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": image,
                "imagePullPolicy": "Always", "command": ["sh", "-c", script],
            }],
        },
    })
}
