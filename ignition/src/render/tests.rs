use std::fmt::Write as _;

use super::*;
use crate::fixture::{KEY, TOKEN, node, seed};
use crate::{BootLink, Cni, Secret, Uplink};

/// The tree as text: what a golden file holds and a reviewer reads.
fn unfold(tree: &Tree) -> String {
    let mut text = String::new();
    for (path, file) in &tree.files {
        let owner = file.owner.map_or_else(String::new, |(user, group)| format!(" {user}:{group}"));
        writeln!(text, "=== {path} {:04o}{owner}", file.mode).unwrap();
        // What FRR is told has tests of its own.
        if !path.contains("/frr") && !path.contains("-routing") {
            text.push_str(std::str::from_utf8(&file.contents).unwrap());
        }
    }
    for (name, contents) in &tree.units {
        writeln!(text, "=== unit {name}\n{contents}").unwrap();
    }
    for (path, mode) in &tree.folders {
        writeln!(text, "=== folder {path} {mode:04o}").unwrap();
    }
    for (path, target) in &tree.links {
        writeln!(text, "=== link {path} -> {target}").unwrap();
    }
    for name in &tree.masked {
        writeln!(text, "=== masked {name}").unwrap();
    }
    text
}

fn contents<'t>(tree: &'t Tree, path: &str) -> &'t str {
    std::str::from_utf8(&tree.files[path].contents).unwrap()
}

#[test]
fn golden_seed() {
    insta::assert_snapshot!(unfold(&tree(&seed()).unwrap()));
}

#[test]
fn golden_node() {
    insta::assert_snapshot!(unfold(&tree(&node()).unwrap()));
}

/// What a kubelet of its own adds to a node, and to a seed.
#[test]
fn golden_own_kubelet() {
    let own = |plan: NodePlan| {
        let mut with = plan.clone();
        with.spec.kubernetes_version = Some(KubernetesVersion::new(1, 19, 16));
        let (mut with, without) = (tree(&with).unwrap(), tree(&plan).unwrap());
        with.files.retain(|path, file| without.files.get(path) != Some(file));
        with.units.retain(|name, unit| without.units.get(name) != Some(unit));
        with.links.retain(|path, _| !without.links.contains_key(path));
        (with.folders, with.masked) = Default::default();
        unfold(&with)
    };
    insta::assert_snapshot!("own_kubelet_of_a_node", own(node()));
    insta::assert_snapshot!("own_kubelet_of_a_seed", own(seed()));
}

#[test]
fn a_kubelet_of_the_meshs_own_version_changes_nothing() {
    for plan in [seed(), node()] {
        let mut same = plan.clone();
        same.spec.kubernetes_version = Some(plan.site.kubernetes);
        assert_eq!(tree(&same).unwrap(), tree(&plan).unwrap());
    }
}

#[test]
fn equal_plans_give_equal_bytes() {
    for plan in [seed(), node()] {
        assert_eq!(render(&plan).unwrap().to_json(), render(&plan.clone()).unwrap().to_json());
    }
}

#[test]
fn the_spec_is_the_one_that_debians_ignition_reads() {
    let json: serde_json::Value = serde_json::from_str(&render(&node()).unwrap().to_json()).unwrap();
    assert_eq!(json["ignition"]["version"], "3.3.0");
}

#[test]
fn secrets_are_in_private_files_only_and_never_shown() {
    for plan in [seed(), node()] {
        let tree = tree(&plan).unwrap();
        for (path, file) in &tree.files {
            let text = std::str::from_utf8(&file.contents).unwrap();
            if text.contains(TOKEN) || text.contains(KEY) || path == gateway::SETTINGS {
                assert_eq!(file.mode, 0o600, "{path}");
            }
        }
        let config = render(&plan).unwrap();
        for shown in [format!("{plan:?}"), format!("{tree:?}"), format!("{config:?}")] {
            assert!(!shown.contains(TOKEN) && !shown.contains("PRIVATE KEY"), "{shown}");
        }
    }
}

#[test]
fn only_the_nodes_own_address_is_on_lo() {
    let plan = node();
    let tree = tree(&plan).unwrap();
    let text = contents(&tree, "/etc/systemd/network/05-lo.network");
    assert_eq!(text.matches("Address=").count(), 1);
    for (path, file) in tree.files.iter().filter(|(path, _)| path.starts_with("/etc/systemd/network")) {
        let text = std::str::from_utf8(&file.contents).unwrap();
        for (name, address) in plan.site.plan.anycast_addresses() {
            assert!(!text.contains(&address.to_string()), "{name} in {path}");
        }
    }
}

#[test]
fn the_far_address_is_on_the_port_that_the_node_booted_through() {
    let tree = tree(&node()).unwrap();
    let addresses = |port: u8| {
        let text = contents(&tree, &format!("/etc/systemd/network/10-mesh-{port}.network"));
        text.lines().filter(|line| line.starts_with("Address=")).count()
    };
    assert_eq!([0, 1, 2, 3].map(addresses), [1, 2, 1, 1]);
}

#[test]
fn a_cni_of_the_users_own_takes_the_place_of_ours() {
    let named = |cni| {
        let mut plan = node();
        plan.site.cni = cni;
        let tree = tree(&plan).unwrap();
        tree.files.keys().filter(|path| path.starts_with("/etc/cni")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(named(Cni::Routed), ["/etc/cni/net.d/10-mesh.conflist"]);
    assert!(named(Cni::None).is_empty());
    let list = r#"{"cniVersion":"1.0.0","name":"n","plugins":[]}"#.to_owned();
    assert_eq!(named(Cni::File(list)), ["/etc/cni/net.d/10-mesh.conflist"]);
    let single = r#"{"cniVersion":"0.4.0","name":"n","type":"bridge"}"#.to_owned();
    assert_eq!(named(Cni::File(single)), ["/etc/cni/net.d/10-mesh.conf"]);
}

#[test]
fn a_seed_without_an_uplink_announces_no_way_out() {
    let mut plan = seed();
    let RoleDetail::Seed { uplink, .. } = &mut plan.detail else { unreachable!() };
    *uplink = None;
    let tree = tree(&plan).unwrap();
    assert!(!tree.files.contains_key("/etc/systemd/network/07-uplink.network"));
    assert!(!contents(&tree, "/etc/frr/frr.conf").contains("redistribute kernel"));
}

#[test]
fn an_uplink_can_take_what_it_is_offered() {
    let mut plan = seed();
    let RoleDetail::Seed { uplink, .. } = &mut plan.detail else { unreachable!() };
    let mac = "02:00:5e:00:01:ff".parse().unwrap();
    *uplink = Some(Uplink { mac, addresses: Vec::new(), gateways: Vec::new(), automatic: true });
    let tree = tree(&plan).unwrap();
    let text = contents(&tree, "/etc/systemd/network/07-uplink.network");
    assert!(text.contains("DHCP=yes") && text.contains("IPv6AcceptRA=yes"), "{text}");
}

#[test]
fn name_servers_of_the_site_are_used() {
    let mut plan = node();
    plan.site.nameservers = vec!["2001:db8:a001::53".parse().unwrap()];
    assert_eq!(contents(&tree(&plan).unwrap(), "/etc/resolv.conf"), "nameserver 2001:db8:a001::53\n");
}

#[test]
fn a_registry_with_a_port_has_a_folder_without_a_colon() {
    let mut plan = node();
    let further = plan.site.plan.further_mirror("registry.example:5000");
    plan.site.plan.mirrors.push(further);
    let tree = tree(&plan).unwrap();
    assert!(tree.files.contains_key("/etc/containerd/certs.d/registry.example_5000_/hosts.toml"));
}

/// Every way in which a plan can be wrong, and what is said of it.
#[test]
fn wrong_plans_are_refused() {
    type Break = fn(&mut NodePlan);
    let of_node: [(Break, &str); 16] = [
        (|plan| plan.machine.block = BlockNumber(1 << 50), "has no room"),
        (|plan| plan.machine.role = Role::Seed, "is a seed in the ledger"),
        (|plan| plan.site.kubernetes = KubernetesVersion::new(1, 19, 9), "v1.19.9 is too old"),
        (
            |plan| plan.spec.kubernetes_version = Some(KubernetesVersion::new(1, 20, 3)),
            "v1.20.3 is newer than the mesh's Kubernetes v1.20.2",
        ),
        (
            |plan| plan.spec.kubernetes_version = Some(KubernetesVersion::new(1, 18, 20)),
            "v1.18.20 is too old",
        ),
        (|plan| plan.machine.ports[1].mac = plan.machine.ports[0].mac, "two ports with"),
        (
            |plan| plan.machine.ports[0].name = "lan0\ninterface lan1".to_owned(),
            "not a name that a kernel gives",
        ),
        (|plan| plan.machine.ports[0].name = String::new(), "not a name that a kernel gives"),
        (|plan| plan.machine.ports[0].name = "lo".to_owned(), "not a name that a kernel gives"),
        (
            |plan| plan.machine.ports[0].name = "a-name-of-16-char".to_owned(),
            "not a name that a kernel gives",
        ),
        (|plan| plan.site.ssh_keys = vec!["a\nb".to_owned()], "ssh key 1"),
        (|plan| plan.site.ca_cert_pem = "MIIB".to_owned(), "not a PEM certificate"),
        (|plan| plan.site.ca_spki_sha256 = "AB".repeat(32), "not a SHA-256"),
        (|plan| plan.site.plan.mirrors[0].registry = "../x".to_owned(), "is not a registry"),
        (|plan| plan.site.cni = Cni::File("{}".to_owned()), "it has no `name`"),
        (|plan| plan.site.cni = Cni::File("yaml: 1".to_owned()), "it is not JSON"),
    ];
    for (wrong, said) in of_node {
        let mut plan = node();
        wrong(&mut plan);
        let error = render(&plan).unwrap_err().to_string();
        assert!(error.contains(said), "{error:?} does not say {said:?}");
    }
}

#[test]
fn a_boot_through_a_foreign_port_is_refused() {
    let mut plan = node();
    let RoleDetail::Node { boot: Some(link), .. } = &mut plan.detail else { unreachable!() };
    *link = BootLink { mac: Mac([2, 0, 0, 0, 0, 9]), ..*link };
    assert!(matches!(render(&plan), Err(RenderError::ForeignBootPort { .. })));
}

#[test]
fn a_pki_that_kubeadm_would_trip_over_is_refused() {
    let with = |change: fn(&mut Vec<crate::PkiFile>)| {
        let mut plan = seed();
        let RoleDetail::Seed { pki, .. } = &mut plan.detail else { unreachable!() };
        change(pki);
        render(&plan).unwrap_err()
    };
    assert_eq!(with(|pki| drop(pki.remove(1))), RenderError::PkiIncomplete("ca.key"));
    assert_eq!(with(|pki| drop(pki.pop())), RenderError::PkiIncomplete("sa.pub beside sa.key"));
    for path in ["/ca.crt", "../ca.crt", "etcd/../../x", "etcd//ca.crt", "a b", ".hidden"] {
        let mut plan = seed();
        let RoleDetail::Seed { pki, .. } = &mut plan.detail else { unreachable!() };
        pki[0].path = path.to_owned();
        assert_eq!(render(&plan).unwrap_err(), RenderError::PkiPath(path.to_owned()));
    }
    assert!(matches!(with(|pki| pki[1].mode = 0o644), RenderError::PkiMode { mode: 0o644, .. }));
}

#[test]
fn a_config_out_of_proportion_is_refused() {
    let mut plan = node();
    plan.gateway_settings = Secret::new(serde_json::Value::String("x".repeat(MAX_BYTES)));
    assert!(matches!(render(&plan), Err(RenderError::TooLarge { .. })));
}
