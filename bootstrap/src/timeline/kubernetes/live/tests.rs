use kube::runtime::watcher::Event;
use serde_json::json;

use super::*;
use crate::timeline::kubernetes::{Change, PodFate};

fn pod(name: &str, uid: &str, node: Option<&str>) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "default", "uid": uid },
        "spec": { "containers": [], "nodeName": node },
    }))
    .unwrap()
}

fn fates(told: &[Told]) -> Vec<(String, PodFate)> {
    let fate = |(_, change): &Told| {
        let Change::Pod { pod, fate, .. } = change else { panic!("{change:?}") };
        (pod.clone(), *fate)
    };
    told.iter().map(fate).collect()
}

fn list(known: &mut Known<Pod>, pods: Vec<Pod>) -> Vec<Told> {
    let mut told = known.handle(Event::Init);
    for pod in pods {
        told.extend(known.handle(Event::InitApply(pod)));
    }
    told.extend(known.handle(Event::InitDone));
    told
}

fn told(name: &str, fate: PodFate) -> (String, PodFate) {
    (format!("default/{name}"), fate)
}

#[test]
fn how_things_stand_at_first_is_no_change() {
    let mut known = Known::new(pod_changes);
    assert!(!known.is_complete());
    assert_eq!(list(&mut known, vec![pod("a", "1", Some("node1"))]), []);
    assert!(known.is_complete());
    let moved = known.handle(Event::Apply(pod("b", "2", Some("node2"))));
    assert_eq!(fates(&moved), [told("b", PodFate::Scheduled)]);
    assert_eq!(moved[0].0.as_deref(), Some("node2"));
    let gone = known.handle(Event::Delete(pod("b", "2", Some("node2"))));
    assert_eq!(fates(&gone), [told("b", PodFate::Gone)]);
}

#[test]
fn after_an_interruption_what_is_there_is_compared_with_what_was() {
    let mut known = Known::new(pod_changes);
    list(
        &mut known,
        vec![pod("stays", "1", Some("node1")), pod("goes", "2", Some("node1")), pod("again", "3", None)],
    );
    let now = vec![pod("stays", "1", Some("node1")), pod("again", "4", Some("node2"))];
    let told_of = fates(&list(&mut known, now));
    let expected =
        [told("again", PodFate::Gone), told("goes", PodFate::Gone), told("again", PodFate::Scheduled)];
    assert_eq!(told_of.len(), 3);
    assert!(expected.iter().all(|one| told_of.contains(one)), "{told_of:?}");
}

#[test]
fn a_list_that_breaks_off_forgets_nobody() {
    let mut known = Known::new(pod_changes);
    list(&mut known, vec![pod("a", "1", Some("node1")), pod("b", "2", Some("node1"))]);
    // Half of a list, then the whole of another one.
    assert_eq!(known.handle(Event::Init), []);
    assert_eq!(known.handle(Event::InitApply(pod("a", "1", Some("node1")))), []);
    assert_eq!(list(&mut known, vec![pod("a", "1", Some("node1")), pod("b", "2", Some("node1"))]), []);
}

#[test]
fn a_deletion_that_was_not_announced_is_told_with_what_the_pod_was_at_last() {
    let mut known = Known::new(pod_changes);
    list(&mut known, vec![pod("a", "1", None)]);
    let gone = known.handle(Event::Delete(pod("a", "1", Some("node1"))));
    assert_eq!(fates(&gone), [told("a", PodFate::Scheduled), told("a", PodFate::Gone)]);
}

#[test]
fn a_recording_is_bounded() {
    let recording = watch::Sender::new(Recording::default());
    let change = Change::Node { present: true };
    let entries = vec![Entry::of_kubernetes(1, 0, None, change); MAX_ENTRIES / 2 + 1];
    record(&recording, entries.clone());
    record(&recording, entries);
    assert_eq!(recording.borrow().entries.len(), MAX_ENTRIES);
}
