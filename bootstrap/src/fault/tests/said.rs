//! What is said on the command line.

use hardware::traffic::{Impairment, Share};
use hardware::virsh::Pace;

use super::super::asked::{DiskTrouble, Service};
use super::*;

fn ends(cable: u16, near: &str, far: &str) -> Ends {
    Ends { cable, near: near.to_owned(), far: far.to_owned() }
}

#[test]
fn a_cable_is_named_by_its_ends_in_either_order_or_by_its_number() {
    let cut = |cable| (Asked::LinkCut { cable, silent: false }, None);
    for word in ["seed-node1", "node1-seed", "#1"] {
        assert_eq!(asked(&format!("link cut {word}")), cut(ends(1, "seed", "node1")));
    }
    assert_eq!(asked("link cut #6"), cut(ends(6, "node4", "node-a-1")));
    let twice = mistakes("link cut node-a-1-node4");
    assert!(twice.contains("#6 or #7"), "{twice}");
    let itself = mistakes("link cut node1-node1");
    assert!(itself.contains("not one to itself"), "{itself}");
    for (word, told) in [
        ("node1-node4", "no cable between node1 and node4: seed-node1, node1-node2"),
        ("node1-node9", "there is no cable `node1-node9`"),
        ("node1", "there is no cable `node1`"),
        ("#77", "there is no cable `#77`"),
    ] {
        let said = mistakes(&format!("link heal {word}"));
        assert!(said.contains(told), "{said}");
    }
}

#[test]
fn all_that_can_be_asked_for() {
    let second = Duration::from_secs(1);
    let machine = || "node2".to_owned();
    let cable = || ends(1, "seed", "node1");
    let all = [
        (
            "link cut seed-node1 --silent --for 5s",
            Asked::LinkCut { cable: cable(), silent: true },
            Some(5 * second),
        ),
        (
            "link degrade seed-node1 --latency 50ms --jitter 5ms --loss 0.5% --rate 10mbit",
            Asked::LinkDegrade {
                cable: cable(),
                by: Impairment {
                    latency: Some(second / 20),
                    jitter: Some(second / 200),
                    loss: Share::millionths(5_000),
                    rate: Some(10_000_000),
                },
            },
            None,
        ),
        (
            "link flap seed-node1 --count 3",
            Asked::LinkFlap { cable: cable(), period: 10 * second, times: Some(3) },
            None,
        ),
        ("node kill node2 --for 2m", Asked::NodeKill { machine: machine() }, Some(120 * second)),
        ("node freeze node2", Asked::NodeFreeze { machine: machine() }, None),
        ("node reboot node2", Asked::NodeReboot { machine: machine() }, None),
        ("node wipe node2", Asked::NodeWipe { machine: machine() }, None),
        ("node kill seed", Asked::NodeKill { machine: "seed".to_owned() }, None),
        ("service etcd node2", Asked::Service { service: Service::Etcd, machine: machine() }, None),
        (
            "service routing node2 --for 1m",
            Asked::Service { service: Service::Routing, machine: machine() },
            Some(60 * second),
        ),
        ("clock node2 +1h", Asked::Clock { machine: machine(), by: 3600 }, None),
        ("clock node2 -30s --for 5m", Asked::Clock { machine: machine(), by: -30 }, Some(300 * second)),
        ("disk node2 full", Asked::Disk { machine: machine(), trouble: DiskTrouble::Full }, None),
        ("disk node2 readonly", Asked::Disk { machine: machine(), trouble: DiskTrouble::Readonly }, None),
        (
            "disk node2 slow --rate 64KiB",
            Asked::Disk {
                machine: machine(),
                trouble: DiskTrouble::Slow(Pace { octets: 64 << 10, operations: 0 }),
            },
            None,
        ),
    ];
    for (line, wanted, lasts) in all {
        assert_eq!(asked(line), (wanted, lasts), "{line}");
    }
    assert_eq!(understand(&words("link heal seed-node1"), &scene()), Ok(Some(Wish::Heal(cable()))));
    assert_eq!(understand(&words("node thaw node2"), &scene()), Ok(Some(Wish::Thaw(machine()))));
    assert_eq!(understand(&words("list"), &scene()), Ok(None));
}

#[test]
fn a_partition_is_said_in_two_ways_and_cuts_what_is_between() {
    let sides = [["seed", "node1"], ["node2", "node3"]].map(|side| side.map(str::to_owned).to_vec()).to_vec();
    // node4 is on no side: its cables stay.
    let cables = vec![ends(2, "node1", "node2"), ends(3, "node1", "node3")];
    let wanted = Asked::Partition { sides, cables, silent: false };
    for line in [
        "seed,node1 node2,node3",
        "{seed,node1}|{node2,node3}",
        "{seed,node1} | {node2,node3}",
        "seed,node1|node2,node3",
    ] {
        assert_eq!(asked(&format!("partition {line}")).0, wanted, "{line}");
    }
    for (line, told) in [
        ("seed,node1", "two sets at least"),
        ("seed,node1 node1,node2", "node1 is named twice"),
        ("seed node7", "no machine `node7`: seed, node1"),
        ("seed node4", "no cable between these sets"),
    ] {
        let said = mistakes(&format!("partition {line}"));
        assert!(said.contains(told), "{said}");
    }
}

#[test]
fn every_mistake_is_told_at_once() {
    let said = mistakes("link degrade node1-node9 --latency fast --loss 101% --rate 10 --for ever");
    for told in ["5 mistakes", "node1-node9", "--latency", "`101%`", "--rate", "--for"] {
        assert!(said.contains(told), "{said}");
    }
    for (line, told) in [
        ("link degrade seed-node1", "say how"),
        ("link degrade seed-node1 --latency 5ms --jitter 6ms", "--jitter is around --latency"),
        ("link degrade seed-node1 --jitter 6ms", "--jitter is around --latency"),
        ("link degrade seed-node1 --loss 0%", "more than 0%"),
        ("link degrade seed-node1 --loss 1.23456%", "no share"),
        ("link flap seed-node1 --period 10ms --count 0", "2 mistakes"),
        ("service sshd node9", "2 mistakes"),
        ("service routing node1", "say --for how long"),
        ("clock node1 1h", "neither forward nor back"),
        ("clock node1 +500ms", "whole seconds"),
        ("clock node1 -500000h", "twenty years at most"),
        ("disk node1 empty", "no trouble of a disk"),
        ("disk node1 full --iops 5", "how slow a disk is"),
        ("node wipe seed", "boots from its disk"),
        ("node kill node9 --for 1ms", "2 mistakes"),
    ] {
        let said = mistakes(line);
        assert!(said.contains(told), "{line}: {said}");
    }
}

#[test]
fn real_machines_are_in_the_operators_hands_but_for_what_the_network_reaches() {
    for line in [
        "link cut a-b",
        "link heal a-b",
        "link degrade a-b --loss 1%",
        "link flap a-b",
        "node kill a",
        "node freeze a",
        "node thaw a",
        "node reboot a",
        "node wipe a",
        "partition a b",
        "disk a slow",
    ] {
        assert!(by_hand(&words(line)).is_some(), "{line}");
    }
    for line in ["service etcd a", "clock a +1h", "disk a full", "disk a readonly", "list", "clear f1"] {
        assert_eq!(by_hand(&words(line)), None, "{line}");
    }
}
