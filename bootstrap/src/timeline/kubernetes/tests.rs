use serde_json::json;

use super::past::{Objects, SECOND};
use super::*;

fn node(ready: &str, taints: serde_json::Value) -> Node {
    serde_json::from_value(json!({
        "metadata": { "name": "node3", "uid": "n3", "creationTimestamp": "2026-11-29T19:00:00Z" },
        "spec": { "taints": taints },
        "status": { "conditions": [
            { "type": "MemoryPressure", "status": "Unknown" },
            {
                "type": "Ready",
                "status": ready,
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
                "lastTransitionTime": "2026-11-29T20:02:52Z",
            },
        ] },
    }))
    .unwrap()
}

fn unreachable() -> serde_json::Value {
    json!([
        { "key": "node.kubernetes.io/unreachable", "effect": "NoSchedule" },
        { "key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2026-11-29T20:02:53Z" },
    ])
}

fn pod(node: Option<&str>, ready: &str, more: serde_json::Value) -> Pod {
    let mut pod = json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "p1", "creationTimestamp": "2026-11-29T19:30:00Z" },
        "spec": { "containers": [], "nodeName": node },
        "status": { "phase": "Running", "conditions": [
            { "type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-29T19:30:01Z" },
            { "type": "Ready", "status": ready, "lastTransitionTime": "2026-11-29T20:02:52Z" },
        ] },
    });
    for (key, value) in more.as_object().unwrap() {
        for (inner, value) in value.as_object().unwrap() {
            pod[key][inner] = value.clone();
        }
    }
    serde_json::from_value(pod).unwrap()
}

fn changes(told: Vec<Told>) -> Vec<Change> {
    assert!(told.iter().all(|(machine, _)| machine.as_deref() == Some("node3")), "{told:?}");
    told.into_iter().map(|(_, change)| change).collect()
}

fn fates(told: Vec<Told>) -> Vec<PodFate> {
    let fate = |change| if let Change::Pod { fate, .. } = change { fate } else { panic!("{change:?}") };
    told.into_iter().map(|(_, change)| fate(change)).collect()
}

fn taint(effect: &str, present: bool) -> Change {
    Change::Taint { key: "node.kubernetes.io/unreachable".to_owned(), effect: effect.to_owned(), present }
}

fn seconds(text: &str) -> u64 {
    u64::try_from(text.parse::<jiff::Timestamp>().unwrap().as_microsecond()).unwrap()
}

#[test]
fn a_node_that_falls_silent_is_not_ready_and_tainted() {
    let (good, bad) = (node("True", json!([])), node("Unknown", unreachable()));
    let reason = Some("Kubelet stopped posting node status.".to_owned());
    let fell = changes(node_changes(Some(&good), Some(&bad)));
    let not_ready = Change::Ready { ready: false, reason };
    assert_eq!(fell, [not_ready, taint("NoSchedule", true), taint("NoExecute", true)]);
    let rose = changes(node_changes(Some(&bad), Some(&good)));
    let ready = Change::Ready { ready: true, reason: None };
    assert_eq!(rose, [ready.clone(), taint("NoSchedule", false), taint("NoExecute", false)]);
    // From Unknown to False is no change of what matters.
    assert_eq!(node_changes(Some(&bad), Some(&node("False", unreachable()))), []);
    assert_eq!(changes(node_changes(None, Some(&good))), [Change::Node { present: true }, ready]);
    assert_eq!(changes(node_changes(Some(&good), None)), [Change::Node { present: false }]);
}

#[test]
fn a_pods_life() {
    let nowhere = pod(None, "False", json!({ "status": { "phase": "Pending" } }));
    let placed = pod(Some("node3"), "False", json!({ "status": { "phase": "Pending" } }));
    let runs = pod(Some("node3"), "True", json!({}));
    let silent = pod(Some("node3"), "False", json!({}));
    let leaving = json!({ "metadata": { "deletionTimestamp": "2026-11-29T20:08:23Z" } });
    let leaving = pod(Some("node3"), "False", leaving);
    let failed = pod(Some("node3"), "False", json!({ "status": { "phase": "Failed", "reason": "Evicted" } }));
    let done = pod(Some("node3"), "False", json!({ "status": { "phase": "Succeeded" } }));
    for (old, new, expected) in [
        (None, Some(&nowhere), vec![]),
        (Some(&nowhere), Some(&placed), vec![PodFate::Scheduled]),
        (Some(&placed), Some(&runs), vec![PodFate::Ready]),
        (None, Some(&runs), vec![PodFate::Scheduled, PodFate::Ready]),
        (Some(&runs), Some(&silent), vec![PodFate::NotReady]),
        (Some(&silent), Some(&leaving), vec![PodFate::Deleting]),
        (Some(&leaving), Some(&leaving), vec![]),
        (Some(&leaving), None, vec![PodFate::Gone]),
        (Some(&runs), Some(&failed), vec![PodFate::NotReady, PodFate::Failed]),
        (Some(&silent), Some(&done), vec![PodFate::Finished]),
        (None, None, vec![]),
    ] {
        assert_eq!(fates(pod_changes(old, new)), expected);
    }
}

#[test]
fn what_the_api_still_knows() {
    let leaving = json!({ "metadata": {
        "deletionTimestamp": "2026-11-29T20:08:23Z",
        "deletionGracePeriodSeconds": 30,
    } });
    let event = |kind: &str, name: &str, reason: &str, message: &str, more: serde_json::Value| {
        let namespace = if kind == "Node" { json!(null) } else { json!("default") };
        let mut event = json!({
            "metadata": { "name": "e", "namespace": "default", "creationTimestamp": "2026-11-29T20:00:00Z" },
            "involvedObject": { "kind": kind, "name": name, "namespace": namespace },
            "reason": reason, "message": message, "type": "Normal",
        });
        for (key, value) in more.as_object().unwrap() {
            event[key] = value.clone();
        }
        serde_json::from_value(event).unwrap()
    };
    let last = |time: &str| json!({ "lastTimestamp": time });
    let exact = json!({ "eventTime": "2026-11-29T20:07:53.250000Z" });
    let assigned = "Successfully assigned default/other to node2";
    let objects = Objects {
        nodes: vec![node("Unknown", unreachable())],
        pods: vec![pod(Some("node3"), "False", leaving)],
        events: vec![
            event(
                "Node",
                "node3",
                "NodeNotReady",
                "status is now: NodeNotReady",
                last("2026-11-29T20:02:52Z"),
            ),
            event("Node", "node3", "RegisteredNode", "registered", last("2026-11-29T19:00:00Z")),
            event("Pod", "other", "Scheduled", assigned, exact),
            event("Pod", "other", "Pulled", "pulled", last("2026-11-29T20:07:55Z")),
            event("Pod", "other", "Started", "started", last("2026-11-29T20:07:55Z")),
            event("Pod", "web", "TaintManagerEviction", "Marking for deletion", last("2026-11-29T20:07:53Z")),
            event("Pod", "odd", "FailedScheduling", "0/5", json!({ "type": "Warning", "count": 3 })),
        ],
    };
    let entries = crate::timeline::merge(objects.entries());
    let told: Vec<(u64, u64, String, String)> = entries
        .iter()
        .map(|entry| {
            let text = entry.text(&crate::timeline::names::Names::default());
            (entry.at, entry.within, entry.machines.join(","), text)
        })
        .collect();
    let row = |time: &str, within, machine: &str, text: &str| {
        (seconds(time), within, machine.to_owned(), text.to_owned())
    };
    assert_eq!(
        told,
        [
            row("2026-11-29T19:00:00Z", SECOND, "node3", "node registered"),
            row("2026-11-29T19:30:01Z", SECOND, "node3", "pod default/web scheduled here"),
            row("2026-11-29T20:00:00Z", SECOND, "", "Pod default/odd: FailedScheduling: 0/5 (3 times)"),
            row("2026-11-29T20:02:52Z", SECOND, "node3", "node NotReady"),
            row("2026-11-29T20:02:52Z", SECOND, "node3", "pod default/web not Ready"),
            row(
                "2026-11-29T20:02:53Z",
                SECOND,
                "node3",
                "node tainted node.kubernetes.io/unreachable:NoExecute"
            ),
            row("2026-11-29T20:07:53.25Z", 0, "node2", "pod default/other scheduled here"),
            row("2026-11-29T20:07:53Z", SECOND, "node3", "pod default/web evicted: Marking for deletion"),
            row("2026-11-29T20:07:53Z", SECOND, "node3", "pod default/web is being deleted"),
            row("2026-11-29T20:07:55Z", SECOND, "node2", "pod default/other a container started"),
        ]
    );
}

#[test]
fn a_pod_that_never_was_ready_did_not_cease_to_be() {
    let waiting = pod(Some("node3"), "False", json!({ "status": { "phase": "Pending" } }));
    let objects = Objects { pods: vec![waiting], ..Objects::default() };
    let told: Vec<_> = objects.entries().into_iter().map(|entry| entry.detail).collect();
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn objects_without_anything_in_them_tell_nothing_and_break_nothing() {
    let objects = Objects {
        nodes: vec![Node::default()],
        pods: vec![Pod::default()],
        events: vec![k8s_openapi::api::core::v1::Event::default()],
    };
    assert_eq!(objects.entries(), []);
    assert_eq!(pod_changes(Some(&Pod::default()), Some(&Pod::default())), []);
    assert_eq!(node_changes(Some(&Node::default()), Some(&Node::default())), []);
}
