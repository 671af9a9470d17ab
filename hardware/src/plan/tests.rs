use std::collections::BTreeSet;

use super::*;

pub(crate) fn spec(nodes: u16) -> Spec {
    Spec {
        owner: Owner {
            deployment: DeploymentId(Uuid::from_u128(0x3fa2_b1c4_0000_4000_8000_0000_dead_beef)),
            directory: "/srv/mesh/cluster".to_owned(),
        },
        nodes,
        shape: Shape::Grid,
        seed: Size { memory_mib: 3072, cpus: 2 },
        node: Size { memory_mib: 2048, cpus: 2 },
        node_disk: 10 << 30,
        accel: Accel::Tcg,
        seed_comes_first: true,
        firmware: Firmware {
            code: "/usr/share/OVMF/OVMF_CODE_4M.fd".into(),
            variables: "/usr/share/OVMF/OVMF_VARS_4M.fd".into(),
        },
        run_as: (1000, 36),
        uplink: Uplink {
            host_v4: "172.30.0.1/30".parse().unwrap(),
            host_v6: "2001:db8:a001::1/64".parse().unwrap(),
            seed_v4: "172.30.0.2".parse().unwrap(),
            seed_v6: "2001:db8:a001::2".parse().unwrap(),
            routes: vec!["fd65:7b9c:569:680::/64".parse().unwrap(), "2001:db8::/71".parse().unwrap()],
        },
    }
}

#[test]
fn four_machines_have_five_cables_and_a_way_out() {
    let plan = Plan::new(&spec(4));
    let networks: Vec<&str> = plan.networks().map(|network| network.name.as_str()).collect();
    assert_eq!(
        networks,
        [
            "meshboot-3fa2-uplink",
            "meshboot-3fa2-loose",
            "meshboot-3fa2-seed-node1",
            "meshboot-3fa2-node1-node2",
            "meshboot-3fa2-node1-node3",
            "meshboot-3fa2-node2-node4",
            "meshboot-3fa2-node3-node4",
        ]
    );
    assert_eq!(plan.domains().count(), 5);
    assert!(plan.domains().all(|domain| domain.ports.iter().filter(|port| port.slot < 0x18).count() == 4));
    assert_eq!(plan.domains().filter(|domain| domain.ports.len() == 5).count(), 1);
}

#[test]
fn a_cable_has_two_ends_and_a_loose_port_none() {
    let plan = Plan::new(&spec(7));
    for network in plan.networks().skip(2) {
        let ends = plan.domains().flat_map(|domain| &domain.ports);
        assert_eq!(ends.filter(|port| port.network == network.name && port.plugged).count(), 2);
    }
    let ports = plan.domains().flat_map(|domain| &domain.ports);
    assert!(ports.into_iter().all(|port| port.plugged != port.network.ends_with("-loose")));
}

#[test]
fn every_object_is_made_after_what_it_needs_and_removed_before() {
    let plan = Plan::new(&spec(4));
    let mut networks = BTreeSet::new();
    let mut files = BTreeSet::new();
    for object in &plan.objects {
        match object {
            Object::Network(network) => assert!(networks.insert(&network.name)),
            Object::Volume(volume) => assert!(files.insert(volume.path())),
            Object::Domain(domain) => {
                assert!(domain.ports.iter().all(|port| networks.contains(&port.network)));
                assert!(files.contains(domain.nvram.as_path()) && files.contains(domain.console.as_path()));
                assert!(domain.boots_from_disk || files.contains(domain.disk.as_path()));
            }
        }
    }
    assert!(matches!(plan.reversed().next(), Some(Object::Domain(_))));
    assert!(matches!(plan.reversed().last(), Some(Object::Network(_))));
}

#[test]
fn only_nodes_boot_from_the_network_and_only_by_cabled_ports() {
    let plan = Plan::new(&spec(4));
    let entries: Vec<usize> = plan
        .volumes()
        .filter_map(|volume| match volume {
            VolumePlan::Nvram { ports, .. } => Some(ports.len()),
            VolumePlan::Disk { .. } | VolumePlan::Console { .. } => None,
        })
        .collect();
    assert_eq!(entries, [0, 3, 2, 2, 2]);
}
