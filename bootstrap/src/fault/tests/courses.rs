//! The steps of faults, and which of them can stand together.

use std::collections::BTreeMap;

use hardware::plan::VolumePlan;
use hardware::traffic::{Means, Share};

use super::super::course::{Course, CourseError, Facts};
use super::super::overlap::conflict;
use super::super::step::Step;
use super::*;

const ALL: Means = Means { netem: true, tbf: true, frames: true };
/// As a kernel without netem has it.
const SOME: Means = Means { netem: false, tbf: true, frames: true };
const NONE: Means = Means { netem: false, tbf: false, frames: false };

fn facts(means: Means) -> Facts {
    let addresses = ["seed", "node1", "node2"].into_iter().zip(["2001:db8::1", "2001:db8::2", "2001:db8::3"]);
    let addresses = addresses.map(|(name, address)| (name.to_owned(), address.parse().unwrap()));
    let files = vec![VolumePlan::Disk { path: "/disks/node2.img".into(), size: 1 << 30 }];
    Facts { means: Some(means), addresses: addresses.collect::<BTreeMap<_, _>>(), files }
}

fn steps(line: &str, facts: &Facts) -> Result<Course, CourseError> {
    let (asked, lasts) = asked(line);
    course(&asked, &scene(), facts, FaultId(7), lasts)
}

fn told(steps: &[Step]) -> Vec<String> {
    steps.iter().map(Step::to_string).collect()
}

/// What is done last is undone first, and nothing is done that is not undone.
#[test]
fn undoing_goes_backwards() {
    for line in [
        "link cut seed-node1",
        "partition seed,node1 node2,node3,node4",
        "partition seed,node1 node2,node3,node4 --silent",
        "link flap node1-node2",
        "link degrade seed-node1 --loss 1% --rate 1mbit",
        "node kill node2",
        "node freeze node2",
        "disk node2 slow",
    ] {
        for means in [ALL, SOME] {
            let Course { apply, undo } = steps(line, &facts(means)).unwrap();
            assert_eq!(apply.len(), undo.len(), "{line}");
            for (done, undone) in apply.iter().zip(undo.iter().rev()) {
                let fits = match (done, undone) {
                    (Step::Carrier { tap, up: false, .. }, Step::Carrier { tap: same, up: true, .. }) => {
                        tap == same
                    }
                    (Step::Drop { table, .. }, Step::Pass { table: same }) => table == same,
                    (Step::Shape { tap, .. }, Step::Unshape { tap: same }) => tap == same,
                    (Step::PowerOff { domain }, Step::PowerOn { domain: same })
                    | (Step::Suspend { domain }, Step::Resume { domain: same })
                    | (Step::Pace { domain, .. }, Step::Pace { domain: same, .. }) => domain == same,
                    _ => false,
                };
                assert!(fits, "{line}: {done} is not undone by {undone}");
            }
        }
    }
}

#[test]
fn a_cut_cable_loses_both_its_carriers() {
    let course = steps("link cut node1-node3", &Facts::default()).unwrap();
    assert_eq!(
        told(&course.apply),
        [
            "take port mbab12m1p2 of meshboot-ab12-node1 its carrier",
            "take port mbab12m3p0 of meshboot-ab12-node3 its carrier"
        ]
    );
}

#[test]
fn a_silent_cut_leaves_carriers_alone_and_belongs_to_one_deployment() {
    let course = steps("partition seed node1 --silent", &facts(SOME)).unwrap();
    let table = "meshboot-ab12-f7-c1".to_owned();
    let tap = "mbab12m0p0".to_owned();
    assert_eq!(course.apply, [Step::Drop { table: table.clone(), tap, share: Share::ALL }]);
    assert_eq!(course.undo, [Step::Pass { table }]);
    let refused = steps("link cut seed-node1 --silent", &facts(NONE)).unwrap_err();
    assert!(refused.to_string().contains("nftables"), "{refused}");
}

#[test]
fn a_cable_is_degraded_where_that_can_be_done() {
    let all = "link degrade seed-node1 --latency 50ms --loss 1% --rate 1mbit";
    let course = steps(all, &facts(ALL)).unwrap();
    assert!(course.apply.iter().all(|step| matches!(step, Step::Shape { .. })), "{course:?}");
    assert_eq!(course.apply.len(), 2);

    // The machines have netem in any case.
    let course = steps(all, &facts(SOME)).unwrap();
    let mut hosts = Vec::new();
    for step in &course.apply {
        let Step::Inside { host, script } = step else { panic!("{step}") };
        assert!(script.contains("netem") && script.contains("02:ab:12:00"), "{script}");
        hosts.push(host.name.as_str());
    }
    assert_eq!(hosts, ["seed", "node1"]);
    let nowhere = Facts { means: Some(SOME), ..Facts::default() };
    assert_eq!(steps(all, &nowhere), Err(CourseError::NoAddress("seed".to_owned())));

    // What is not late needs neither.
    let course = steps("link degrade seed-node1 --loss 1% --rate 1mbit", &nowhere).unwrap();
    assert_eq!(course.apply.len(), 3);
    let refused = steps("link degrade seed-node1 --rate 1mbit", &facts(NONE)).unwrap_err();
    assert!(refused.to_string().contains("tbf"), "{refused}");
}

#[test]
fn a_wiped_machine_has_power_again_whatever_was_cut_off() {
    let course = steps("node wipe node2", &facts(ALL)).unwrap();
    assert_eq!(
        told(&course.apply),
        [
            "pull the plug of meshboot-ab12-node2",
            "make /disks/node2.img anew",
            "forget the host key of node2",
            "switch meshboot-ab12-node2 on"
        ]
    );
    assert_eq!(told(&course.undo), ["switch meshboot-ab12-node2 on"]);
}

#[test]
fn what_is_inside_a_node_is_undone_by_the_node_too_if_it_has_an_end() {
    for line in [
        "service apiserver node2",
        "service mirror node2",
        "clock node2 +1h",
        "disk node2 full",
        "disk node2 readonly",
    ] {
        for (lasts, armed) in [("", false), (" --for 90s", true)] {
            let course = steps(&format!("{line}{lasts}"), &facts(ALL)).unwrap();
            let [Step::Inside { script: make, host }] = course.apply.as_slice() else { panic!("{course:?}") };
            let [Step::Inside { script: undo, .. }] = course.undo.as_slice() else { panic!("{course:?}") };
            assert_eq!(host.name, "node2");
            assert_eq!(make.contains("systemd-run"), armed, "{make}");
            assert_eq!(make.contains("--on-active=90s"), armed, "{make}");
            // The timer is there before anything is broken.
            if armed {
                let deed = make.rfind("MESHBOOT\n").unwrap();
                let timer = make.find("systemd-run").unwrap();
                assert!(deed < timer && make[timer..].lines().count() > 1, "{make}");
            }
            assert!(undo.contains("systemctl stop meshboot-fault-f7.timer"), "{undo}");
        }
    }
    let refused = steps("service etcd node4", &facts(ALL)).unwrap_err();
    assert_eq!(refused, CourseError::NoAddress("node4".to_owned()));
}

#[test]
fn faults_that_can_stand_together() {
    let stand = |standing: &str, asked_for: &str| conflict(&asked(asked_for).0, &asked(standing).0).is_none();
    for (one, other) in [
        ("link degrade seed-node1 --loss 1%", "link cut seed-node1"),
        ("link cut seed-node1", "link cut seed-node1 --silent"),
        ("link cut seed-node1", "link cut node1-node2"),
        ("node kill node1", "link cut seed-node1"),
        ("node kill node1", "node kill node2"),
        ("service etcd node1", "service apiserver node1"),
        ("disk node1 slow", "disk node1 full"),
        ("disk node1 full", "node kill node1"),
        ("node kill node1", "disk node1 slow"),
    ] {
        assert!(stand(one, other), "{one}, then {other}");
    }
    for (one, other) in [
        ("link cut seed-node1", "link cut #1"),
        ("link cut seed-node1", "link flap seed-node1"),
        ("link cut node1-node2", "partition seed,node1 node2,node3"),
        ("link degrade seed-node1 --loss 1%", "link degrade seed-node1 --rate 1mbit"),
        ("node freeze node1", "node kill node1"),
        ("node kill node1", "node wipe node1"),
        ("node kill node1", "service etcd node1"),
        ("node freeze node1", "clock node1 +1h"),
        ("disk node1 full", "disk node1 readonly"),
        ("service etcd node1", "node wipe node1"),
        ("clock node1 +1h", "clock node1 -1h"),
    ] {
        assert!(!stand(one, other), "{one}, then {other}");
    }
}
