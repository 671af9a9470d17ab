//! Whatever plan is shown is the plan that is read.

use std::collections::{BTreeMap, BTreeSet};

use hardware::plan::MAX_PORTS;
use hardware::topology::from_seed;
use hardware::{Cable, End, MachineNumber};
use ignition::{ControlPlaneSpec, KubernetesVersion, NodeSpec, Taint};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::good;
use crate::deployment::{Wanted, WantedMachine};
use crate::meshfile::{MeshPlan, Place};
use crate::settings::{Origin, Raw};

/// A text that YAML may well take for something else.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}",
        "\\PC{0,6}",
        prop::sample::select(vec![
            "",
            "true",
            "no",
            "Null",
            "~",
            "1",
            "1.5",
            "1e3",
            "0x1f",
            "0b1",
            "-",
            "- a",
            "a: b",
            "a #b",
            "#",
            "2GiB",
            "{a}",
            "[a]",
            "&a",
            "*a",
            "!a",
            "|",
            ">",
            "'",
            "\"",
            "%",
            "@",
            "`",
            " a ",
            "2001-12-14",
            "12:30",
            "\u{85}",
            "\u{2028}",
            "\u{1f980}",
            "\t",
            ".inf",
            "=",
            "<<",
        ])
        .prop_map(str::to_owned),
    ]
}

/// An argument's value, as the kubelet's file can hold it.
fn argument() -> impl Strategy<Value = String> {
    word().prop_map(|word| word.replace(['\n', '\r', '\0', '"', '\'', '\\'], ""))
}

fn node() -> impl Strategy<Value = NodeSpec> {
    let value = "([A-Za-z0-9]([-A-Za-z0-9_.]{0,8}[A-Za-z0-9])?)?";
    let key = "([a-z0-9]{1,4}\\.example/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,8}[A-Za-z0-9])?";
    let taint =
        ("[a-z]{1,5}", value, prop::sample::select(vec!["NoSchedule", "PreferNoSchedule", "NoExecute"]));
    let taint =
        taint.prop_map(|(key, value, effect)| format!("{key}={value}:{effect}").parse::<Taint>().unwrap());
    let kubelet = btree_map("x-[a-z0-9-]{1,8}", argument(), 0..3);
    (
        btree_map(key, value, 0..3),
        vec(taint, 0..3),
        btree_map("[A-Z][A-Za-z0-9]{0,8}", any::<bool>(), 0..3),
        kubelet,
        any::<bool>(),
        option::of((1_u16..3, 0_u16..100, 0_u16..100)),
        option::of("[0-9]{16}|[0-9a-f]{16}|[0-9]{10}e[0-9]{5}"),
    )
        .prop_map(|(labels, taints, feature_gates, kubelet, control_plane, version, image)| {
            let mut seen = BTreeSet::new();
            let different = |taint: &Taint| seen.insert((taint.key.clone(), taint.effect));
            let taints = taints.into_iter().filter(different).collect();
            let version = version.map(|(major, minor, patch)| KubernetesVersion::new(major, minor, patch));
            let image = image.map(|image| image.parse().unwrap());
            NodeSpec {
                control_plane,
                image,
                kubernetes_version: version,
                labels,
                taints,
                feature_gates,
                kubelet,
            }
        })
}

fn machine() -> impl Strategy<Value = WantedMachine> {
    let name = "[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?";
    let disk = prop_oneof![(1_u64..100).prop_map(|gib| gib << 30), (1_u64 << 30)..(1 << 40)];
    (name, 512_u32..100_000, option::of(1_u16..=64), disk, 2..=MAX_PORTS, node()).prop_map(
        |(name, memory_mib, cpus, disk, ports, node)| WantedMachine {
            name: name.parse().unwrap(),
            memory_mib,
            cpus,
            disk,
            ports,
            node,
        },
    )
}

/// Machines of different names, each plugged into one before it wherever that has a port left.
fn wanted() -> impl Strategy<Value = Wanted> {
    vec((machine(), any::<prop::sample::Index>()), 1..7).prop_map(|all| {
        let mut machines: BTreeMap<String, (WantedMachine, prop::sample::Index)> = BTreeMap::new();
        for (machine, index) in all {
            machines.insert(machine.name.to_string(), (machine, index));
        }
        let (mut machines, indexes): (Vec<WantedMachine>, Vec<prop::sample::Index>) =
            machines.into_values().unzip();
        // The seed's disk is as large as its image, whatever is said of others.
        machines[0].disk = 10 << 30;
        // It is one anyway.
        machines[0].node.control_plane = false;
        // Its images are the mesh's.
        machines[0].node.image = None;
        let mut used = vec![0_u8; machines.len()];
        let mut laid = Vec::new();
        for (number, index) in (0_u16..).zip(indexes).skip(1) {
            let free: Vec<usize> =
                (0..usize::from(number)).filter(|other| used[*other] < machines[*other].ports).collect();
            let mut end = |machine: usize| {
                used[machine] += 1;
                End { machine: MachineNumber(u16::try_from(machine).unwrap()), port: used[machine] - 1 }
            };
            let (near, far) = (end(free[index.index(free.len())]), end(usize::from(number)));
            laid.push(Cable { number, near, far });
        }
        let cables = (1..).zip(from_seed(&laid)).map(|(number, cable)| Cable { number, ..cable }).collect();
        Wanted { machines, cables }
    })
}

fn settings() -> impl Strategy<Value = Raw> {
    let list = vec(word().prop_map(|word| word.replace(['\n', '\r'], "")), 0..3);
    let number = option::of(1_i64..64);
    (list, number, any::<bool>()).prop_map(|(list, cpus, https)| {
        let mut raw = Raw::default();
        let origin = Origin::Mesh(Place::Line { line: 1, column: 1 });
        raw.take("mirrors", "no-proxy", toml::Value::from(list), &origin);
        raw.take("netboot", "https", toml::Value::Boolean(https), &origin);
        if let Some(cpus) = cpus {
            raw.take("libvirt", "cpus", toml::Value::Integer(cpus), &origin);
        }
        raw
    })
}

fn control_plane() -> impl Strategy<Value = ControlPlaneSpec> {
    let value = || word().prop_map(|word| word.replace(['\n', '\r', '\0'], ""));
    let arguments = || btree_map("x-[a-z0-9-]{1,8}", value(), 0..3);
    (arguments(), arguments(), arguments(), arguments()).prop_map(
        |(apiserver, controller_manager, scheduler, etcd)| ControlPlaneSpec {
            apiserver,
            controller_manager,
            scheduler,
            etcd,
        },
    )
}

proptest! {
    #[test]
    fn a_plan_that_is_shown_is_read_again(
        name in option::of("[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?"),
        wanted in wanted(),
        control_plane in control_plane(),
        settings in settings(),
    ) {
        let name = name.map(|name| name.parse().unwrap());
        let plan = MeshPlan { name, wanted, control_plane, settings };
        let text = plan.to_yaml();
        prop_assert_eq!(good(&text), plan, "{}", text);
    }
}

#[test]
fn a_plan_reads_as_a_person_would_write_it() {
    let text = std::fs::read_to_string(super::documentation().join("examples/sizes.yaml")).unwrap();
    insta::assert_snapshot!(good(&text).to_yaml());
}
