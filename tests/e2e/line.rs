//! Three machines in a line: a seed, a machine that boots through it, and one that boots through that.

use std::time::Duration;

use serde_json::json;

use crate::mesh::{Mesh, libvirt_objects, root, teardown};

#[test]
#[ignore = "needs libvirt and minutes: cargo xtask vm"]
fn a_machine_boots_through_a_relay_and_all_of_it_can_be_taken_down() {
    let before = libvirt_objects();
    let mesh = Mesh::deploy(&["libvirt", "2", "--topology", "line", "--install-deps"]);

    assert_eq!(mesh.ready_nodes(), ["node1", "node2", "seed"]);
    who_served_whom(&mesh);
    pods_reach_each_other(&mesh);
    the_api_server_answers_at_its_anycast_address(&mesh);

    mesh.teardown();
    assert_eq!(libvirt_objects(), before, "teardown leaves what it found");
    assert!(!root().join("cluster").exists());
    assert!(teardown().success(), "a second teardown is harmless");
}

fn who_served_whom(mesh: &Mesh) {
    let status = mesh.status();
    let served_by = |node: &str| {
        let machines = status["machines"].as_array().unwrap();
        machines.iter().find(|machine| machine["name"] == node).unwrap()["served_by"]["node"].clone()
    };
    assert_eq!(served_by("node1"), "seed");
    assert_eq!(served_by("node2"), "node1");
    let machines = mesh.get(&["machines.meshboot.io"]);
    assert_eq!(machines["items"].as_array().unwrap().len(), 3);
    let tokens = mesh.get(&["secrets", "-n", "kube-system", "-l", "meshboot.io/machine"]);
    assert_eq!(tokens["items"].as_array().unwrap().len(), 0, "tokens are revoked once their node is Ready");
}

fn pods_reach_each_other(mesh: &Mesh) {
    let pod = |name: &str, node: &str, command: &[&str]| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "nodeName": node, "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "main", "image": "docker.io/library/busybox:latest",
                    "imagePullPolicy": "Always", "command": command,
                }],
            },
        })
    };
    mesh.apply(&pod("server", "node1", &["sh", "-c", "echo hello > /index.html; exec httpd -f -h / -p 80"]));
    mesh.apply(&pod("client", "node2", &["sh", "-c", "exec tail -f /dev/null"]));
    let phase = |mesh: &Mesh, name| mesh.get(&["pod", name])["status"]["phase"] == "Running";
    mesh.wait("pods run", Duration::from_secs(180), |mesh| phase(mesh, "server") && phase(mesh, "client"));
    let address = mesh.get(&["pod", "server"])["status"]["podIP"].as_str().unwrap().to_owned();
    let url = format!("http://[{address}]/index.html");
    let answer = mesh.kubectl(&["exec", "client", "--", "wget", "-q", "-O", "-", &url]);
    assert_eq!(answer.trim(), "hello");
}

fn the_api_server_answers_at_its_anycast_address(mesh: &Mesh) {
    let url = "https://[fd65:7b9c:569:680:98eb:c508:eb8c:1b80]:6443/readyz";
    for node in ["seed", "node1", "node2"] {
        let answer =
            mesh.ssh(node, &format!("curl -sS --max-time 20 --cacert /etc/kubernetes/pki/ca.crt -g '{url}'"));
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        assert_eq!(text.trim(), "ok", "{node}: {}", String::from_utf8_lossy(&answer.stderr));
    }
}
