use std::collections::BTreeSet;

use super::*;
use crate::profile::MESH_PORTS;
use crate::topology::{Shape, cables};

fn machine(number: MachineNumber) -> MachineSpec {
    let memory_mib = if number == MachineNumber::SEED { 3072 } else { 2048 };
    MachineSpec {
        number,
        name: number.usual_name(),
        size: Size { memory_mib, cpus: 2 },
        disk: 10 << 30,
        ports: MESH_PORTS,
        comes_first: number == MachineNumber::SEED,
    }
}

pub(crate) fn spec(nodes: u16) -> Spec {
    Spec {
        owner: Owner {
            deployment: DeploymentId(Uuid::from_u128(0x3fa2_b1c4_0000_4000_8000_0000_dead_beef)),
            directory: "/srv/mesh/cluster".to_owned(),
        },
        machines: (0..=nodes).map(MachineNumber).map(machine).collect(),
        cables: cables(Shape::Grid, nodes),
        accel: Accel::Tcg,
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
            "meshboot-3fa2-c1-seed-node1",
            "meshboot-3fa2-c2-node1-node2",
            "meshboot-3fa2-c3-node1-node3",
            "meshboot-3fa2-c4-node2-node4",
            "meshboot-3fa2-c5-node3-node4",
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

#[test]
fn what_is_added_are_a_machine_and_its_cables() {
    let mut spec = spec(4);
    let whole = Plan::new(&spec);
    spec.machines.push(MachineSpec { name: "rack2-pi".to_owned(), ports: 8, ..machine(MachineNumber(7)) });
    let end = |number, port| End { machine: MachineNumber(number), port };
    spec.cables.push(Cable { number: 9, near: end(3, 3), far: end(7, 0) });
    spec.cables.push(Cable { number: 10, near: end(3, 2), far: end(7, 7) });

    let added = Plan::of_machine(&spec, MachineNumber(7));
    let names: Vec<&str> = added.networks().map(|network| network.name.as_str()).collect();
    assert_eq!(names, ["meshboot-3fa2-c9-node3-rack2-pi", "meshboot-3fa2-c10-node3-rack2-pi"]);
    let [domain] = added.domains().collect::<Vec<_>>()[..] else { panic!("one machine is added") };
    assert_eq!((domain.name.as_str(), domain.ports.len()), ("meshboot-3fa2-rack2-pi", 8));
    assert_eq!(domain.ports.iter().filter(|port| port.plugged).count(), 2);

    let again = Plan::new(&spec);
    assert_eq!(again.objects.len(), whole.objects.len() + added.objects.len(), "and nothing else");
    let port = spec.mesh_port(end(3, 3));
    assert!(
        port.plugged && port.network == names[0] && !whole.networks().any(|old| old.name == port.network)
    );
}
