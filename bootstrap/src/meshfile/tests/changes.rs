//! What a running mesh lacks of one that is wanted.

use super::{HEAD, good};
use crate::meshfile::{Change, changes};

const RUNNING: &str = "machines:\n- {name: seed, role: seed}\n- {name: a, labels: {size: small, rack: '1'}, taints: \
                       [slow:NoSchedule]}\n- {name: b, cpus: 2}\ncables: [seed:0 - a:0, a:1 - b:0, b:1 - seed:1]\n";

fn between(running: &str, wanted: &str) -> Vec<Change> {
    changes(&good(&format!("{HEAD}{running}")), &good(&format!("{HEAD}{wanted}")))
}

fn told(wanted: &str) -> String {
    let lines: Vec<String> = between(RUNNING, wanted).iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[test]
fn the_same_mesh_has_no_difference_however_it_is_written() {
    assert_eq!(between(RUNNING, RUNNING), []);
    // Other order, cables from their other ends, processors as they are.
    let turned = "machines:\n- {name: b}\n- {name: a, labels: {rack: '1', size: small}, taints: [slow:NoSchedule]}\n- \
                  {name: seed, role: seed}\ncables: [seed:1 - b:1, b:0 - a:1, a:0 - seed:0]\n";
    assert_eq!(told(turned), "");
    // What machines are given that do not say otherwise is nothing that runs.
    assert_eq!(told(&format!("settings: {{libvirt: {{timeout: 5m}}, usb: {{size: 20GiB}}}}\n{RUNNING}")), "");
}

#[test]
fn machines_and_cables_come_and_go() {
    let wanted = "machines:\n- {name: seed, role: seed}\n- {name: a, labels: {size: small, rack: '1'}, taints: \
                  [slow:NoSchedule]}\n- {name: c, memory: 4GiB, role: control-plane}\ncables: [seed:0 - a:0, a:2 - c:0, seed:1 - c:1]\n";
    assert_eq!(
        told(wanted),
        "- machine b, drained first, with its disk and cables\n+ machine c of 4GiB, one more control plane\n+ cable a:2 - c:0\n+ cable seed:1 - c:1"
    );
    let recabled = RUNNING.replace("b:1 - seed:1", "b:2 - seed:1");
    assert_eq!(told(&recabled), "- cable seed:1 - b:1\n+ cable seed:1 - b:2");
}

#[test]
fn what_a_node_wears_is_changed_at_once_and_what_it_is_given_by_its_power() {
    let wanted = RUNNING
        .replace("{size: small, rack: '1'}", "{size: big, zone: z}")
        .replace("slow:NoSchedule", "slow:NoExecute")
        .replace("{name: b, cpus: 2}", "{name: b, cpus: 4, memory: 3GiB}");
    assert_eq!(
        told(&wanted),
        "~ b: memory 2GiB -> 3GiB, cpus 2 -> 4; its power is cut and given again\n~ a: no label rack, at once\n~ a: label \
         size=big, at once\n~ a: label zone=z, at once\n~ a: no taint slow:NoSchedule, at once\n~ a: taint slow:NoExecute, \
         at once"
    );
}

#[test]
fn all_that_cannot_be_had_is_told_at_once() {
    let wanted = RUNNING
        .replace(
            "name: a, ",
            "name: a, role: control-plane, disk: 20GiB, ports: 6, featureGates: {A: true}, kubelet: {v: 1}, ",
        )
        .replace("{name: seed,", "{name: root,")
        .replace("seed:", "root:");
    let wanted = format!(
        "name: lab\nsettings: {{netboot: {{https: true}}}}\nextraConfig: {{etcd: {{v: 1}}}}\n{wanted}"
    );
    let all = between(RUNNING, &wanted);
    let impossible: Vec<String> =
        all.iter().filter(|change| change.is_impossible()).map(ToString::to_string).collect();
    insta::assert_snapshot!(impossible.join("\n"));
}

#[test]
fn other_images_are_a_machines_when_it_has_power_the_next_time() {
    let [one, other] = ["0123456789abcdef", "fedcba9876543210"];
    let with = |image: &str| RUNNING.replace("{name: b,", &format!("{{name: b, image: '{image}',"));
    let said = |running: &str, wanted: &str| {
        between(running, wanted).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let tail = "; its power is cut and given again";
    assert_eq!(said(RUNNING, &with(one)), format!("~ b: image the mesh's -> {one}{tail}"));
    assert_eq!(said(&with(one), &with(other)), format!("~ b: image {one} -> {other}{tail}"));
    assert_eq!(said(&with(one), RUNNING), format!("~ b: image {one} -> the mesh's{tail}"));
}

#[test]
fn another_kubelet_is_a_nodes_at_its_next_join_and_no_control_planes() {
    let running = RUNNING.replace("{name: b,", "{name: b, kubernetesVersion: v1.33.7,");
    let said = |running: &str, wanted: &str| {
        between(running, wanted).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let tail = "; its power is cut and given again, and it joins anew";
    let cases = [
        (RUNNING, running.as_str(), format!("~ b: kubernetesVersion the mesh's -> v1.33.7{tail}")),
        (running.as_str(), RUNNING, format!("~ b: kubernetesVersion v1.33.7 -> the mesh's{tail}")),
    ];
    for (before, after, expected) in cases {
        assert_eq!(said(before, after), expected);
    }
    let both = running.replace("v1.33.7,", "v1.33.8, featureGates: {A: true},");
    assert_eq!(
        said(&running, &both),
        format!("~ b: kubernetesVersion v1.33.7 -> v1.33.8, featureGates{tail}")
    );
    let seed = RUNNING.replace("{name: seed,", "{name: seed, kubernetesVersion: v1.33.7,");
    let refused = said(RUNNING, &seed);
    assert!(
        refused.starts_with("! seed: kubernetesVersion the mesh's -> v1.33.7: a control plane's"),
        "{refused}"
    );
    let server = format!("settings: {{kubernetes: {{server: 'http://releases.example'}}}}\n{RUNNING}");
    assert_eq!(said(RUNNING, &server), "", "where this computer fetches from is nothing that runs");
}

#[test]
fn a_value_is_the_same_in_words_and_as_itself() {
    let running = format!("settings: {{netboot: {{https: true}}}}\n{RUNNING}");
    let wanted = format!("settings: {{netboot: {{https: 'true'}}}}\n{RUNNING}");
    assert_eq!(between(&running, &wanted), []);
}

#[test]
fn changes_are_values_for_programs_too() {
    let recabled = RUNNING.replace("b:1 - seed:1", "b:2 - seed:1");
    let json = serde_json::to_value(between(RUNNING, &recabled)).unwrap();
    assert_eq!(json[1], serde_json::json!({ "change": "add-cable", "near": "seed:1", "far": "b:2" }));
}
