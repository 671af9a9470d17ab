//! Three machines in a line: a seed, a machine that boots through it, and one that boots through that.

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;
use mesh::Block;

use crate::mesh::{Mesh, libvirt_objects, meshboot, root};
use crate::{inside, nodes, pods};

/// Machines of two sizes, from a file.
pub(crate) const LINE: [&str; 3] = ["-f", "tests/e2e/line.yaml", "--install-deps"];
/// A relay asks for its certificate as soon as it is a member; an emulated one makes its key in seconds.
const CERTIFIED: Duration = Duration::from_secs(180);
/// kubeadm makes ten keys, and servers start anew.
const RENEWED: Duration = Duration::from_mins(10);

#[test]
#[ignore = "needs libvirt and minutes: cargo xtask vm"]
fn a_machine_boots_through_a_relay_and_all_of_it_can_be_taken_down() {
    let before = libvirt_objects();
    let mesh = Mesh::deploy_late(&LINE);

    assert_eq!(mesh.ready_nodes(), ["node1", "node2", "seed"]);
    let status = mesh.status();
    assert!(mesh.served_by(&status, "node1").starts_with("seed port "), "{status}");
    assert!(mesh.served_by(&status, "node2").starts_with("node1 port "), "{status}");
    assert_eq!(mesh.get(&["machines.meshboot.io"])["items"].as_array().unwrap().len(), 3);
    for (node, size) in [("node1", "usual"), ("node2", "small")] {
        assert_eq!(mesh.get(&["node", node])["metadata"]["labels"]["size"], size);
    }
    mesh.has_no_bootstrap_tokens();
    pods::reach_each_other(&mesh, "node1", "node2");
    images_come_from_the_next_node(&mesh);
    mesh.api_server_answers_from_everywhere();
    a_relay_shows_firmware_its_certificate(&mesh);
    the_image_tells_what_it_is_made_of();
    the_control_plane_comes_before_other_pods(&mesh);
    nodes::come_and_go(&mesh, "node2");
    a_year_passes_for_the_seed(&mesh);

    mesh.teardown(&before);
}

/// Each node's containerd asks its own mirror, and that one the next node's on the way to the seed.
fn images_come_from_the_next_node(mesh: &Mesh) {
    for (node, neighbour) in [("node1", "seed"), ("node2", "node1")] {
        let ask = format!("curl -gsSf --max-time 20 'http://[{}]:8047/metrics'", mesh.address(node));
        let told = String::from_utf8_lossy(&mesh.ssh(node, &ask).stdout).into_owned();
        let source = format!("meshboot_mirror_blobs_total{{source=\"[{}]:5000\"}}", mesh.address(neighbour));
        assert!(told.contains(&source), "{node} has nothing of {neighbour}:\n{told}");
    }
}

/// The kubelet would give etcd 4.
fn the_control_plane_comes_before_other_pods(mesh: &Mesh) {
    let weights = |node: &str, pods: &str| {
        let read = format!(
            "cd /sys/fs/cgroup/kubepods.slice && cat cpu.weight && for log in /var/log/pods/kube-system_{pods}*; \
             do cat kubepods-*.slice/*pod$(echo ${{log##*_}} | tr - _).slice/cpu.weight; done"
        );
        let told = String::from_utf8_lossy(&mesh.ssh(node, &read).stdout).into_owned();
        told.split_whitespace().map(|word| word.parse().unwrap()).collect::<Vec<u32>>()
    };
    assert_eq!(weights("seed", "etcd-"), [200, 500]);
    let [pods, proxy] = weights("node1", "kube-proxy-")[..] else { panic!("one kube-proxy") };
    assert!(pods < 100 && proxy < 25, "a node weighs its pods as its kubelet does: {pods}, {proxy}");
}

/// Of the real image: nothing of it is without a source, and what is GPL says so.
fn the_image_tells_what_it_is_made_of() {
    let told = meshboot(&["image", "sbom", "-o", "json"]);
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    let packages = told["packages"].as_array().unwrap();
    assert!(packages.len() > 150, "{} packages", packages.len());
    assert!(packages.iter().all(|package| package["source"] != "" && package["source_version"] != ""));
    let licences = |name: &str| {
        let package = packages.iter().find(|package| package["name"] == name);
        package.unwrap_or_else(|| panic!("no {name}"))["licences"].to_string()
    };
    for name in ["bash", "iproute2", "frr"] {
        assert!(licences(name).contains("GPL"), "{name}: {}", licences(name));
    }
}

/// What machines at the far end of node1 would boot by HTTPS: the authority on this computer is what an operator enrols.
fn a_relay_shows_firmware_its_certificate(mesh: &Mesh) {
    let address: Ipv6Addr = mesh.address("node1").parse().unwrap();
    let block = Block::new(Ipv6Net::new(address, 119).unwrap().trunc()).unwrap();
    let status = mesh.status();
    let port: u8 = mesh.served_by(&status, "node2").rsplit(' ').next().unwrap().parse().unwrap();
    let near = block.link(port.try_into().unwrap()).near();
    let authority = std::fs::read_to_string(root().join("cluster/pki/boot-ca.crt")).unwrap();
    let load = format!(
        "echo '{authority}' | curl -gsSf --max-time 60 --tls-max 1.2 --ciphers AES256-GCM-SHA384 --cacert /dev/stdin \
         -o /dev/null -w '%{{http_code}} %{{size_download}}' 'https://[{near}]/boot/node-x64.efi'"
    );
    mesh.wait("a boot file by HTTPS", CERTIFIED, |mesh| {
        let output = mesh.ssh("node2", &load);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let size = said.strip_prefix("200 ").and_then(|size| size.parse::<u64>().ok());
        size.is_some_and(|size| size > 1 << 20)
    });
}

/// Its clock is set nearly to the end of kubeadm's certificates: there are others then, and the servers have read them.
fn a_year_passes_for_the_seed(mesh: &Mesh) {
    let shown = |mesh: &Mesh| {
        let ask = "for port in 6443 10257 10259 2379; do echo $port; openssl s_client -connect [::1]:$port </dev/null \
                   2>/dev/null | openssl x509 -noout -fingerprint; done";
        String::from_utf8_lossy(&mesh.ssh("seed", ask).stdout).into_owned()
    };
    // Of a server that is away nothing is shown; the controller manager and the scheduler have certificates of their own,
    // made when they start.
    let whole = |shown: &str| shown.matches("ingerprint=").count() == 4;
    let before = shown(mesh);
    assert!(whole(&before), "{before}");
    let fault = inside::fault("clock seed +8280h");
    mesh.wait("servers of the seed show other certificates", RENEWED, |mesh| {
        let now = shown(mesh);
        let others = now
            .lines()
            .zip(before.lines())
            .filter(|(now, before)| now.contains("ingerprint=") && now != before);
        whole(&now) && others.count() == 4
    });
    let ends =
        mesh.ssh("seed", "openssl x509 -noout -checkend 25920000 -in /etc/kubernetes/pki/apiserver.crt");
    assert!(ends.status.success(), "{}", String::from_utf8_lossy(&ends.stdout));
    inside::clear(&fault);
    mesh.wait("the API server answers", RENEWED, |mesh| mesh.try_get(&["nodes"]).is_some());
}
