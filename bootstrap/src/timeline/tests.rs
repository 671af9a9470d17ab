use proptest::prelude::*;

use super::journal::Act;
use super::kubernetes::{Change, PodFate};
use super::story::{self, CUT, SECOND};
use super::*;
use crate::progress::Reporter;

fn told(at: u64, within: u64, machine: &str, change: Change) -> Entry {
    Entry::of_kubernetes(at, within, Some(machine.to_owned()), change)
}

fn ready(at: u64, within: u64, ready: bool, reason: Option<&str>) -> Entry {
    told(at, within, "node1", Change::Ready { ready, reason: reason.map(str::to_owned) })
}

#[test]
fn what_two_witnesses_tell_is_told_once_by_the_better_one() {
    let live = ready(10 * SECOND + 200_000, 0, false, None);
    let condition = ready(10 * SECOND, SECOND, false, Some("silent"));
    let event = ready(10 * SECOND, SECOND, false, None);
    let again = ready(20 * SECOND, SECOND, false, None);
    let back = ready(15 * SECOND, SECOND, true, None);
    let all = vec![again.clone(), condition.clone(), live.clone(), back.clone(), event];
    assert_eq!(merge(all), [live, back.clone(), again.clone()]);
    // Without the live one, one of the other two.
    let event = ready(10 * SECOND, SECOND, false, None);
    assert_eq!(merge(vec![back, again, condition, event]).len(), 3);
}

#[test]
fn a_pod_that_nobody_places_is_the_same_pod() {
    let pod = |machine: Option<&str>, at, within| {
        let change = Change::Pod { pod: "default/web".to_owned(), fate: PodFate::Evicted, reason: None };
        Entry::of_kubernetes(at, within, machine.map(str::to_owned), change)
    };
    let (known, unknown) = (pod(Some("node1"), 5 * SECOND, 0), pod(None, 5 * SECOND, SECOND));
    let elsewhere = pod(Some("node2"), 5 * SECOND, SECOND);
    assert_eq!(merge(vec![unknown, elsewhere.clone(), known.clone()]), [known, elsewhere]);
}

#[test]
fn what_is_known_to_the_second_comes_last_in_it() {
    let fault =
        Entry::of_act(10 * SECOND + 900_000, Act::Noted { machines: Vec::new(), text: String::new() });
    let effect = ready(10 * SECOND, SECOND, false, None);
    assert_eq!(merge(vec![effect.clone(), fault.clone()]), [fault, effect]);
}

#[test]
fn one_machine_and_what_was_done() {
    let mut timeline = story::timeline();
    timeline.keep_machine("node4").unwrap();
    assert_eq!(timeline.machines, ["node4"]);
    assert!(timeline.entries.iter().all(|entry| entry.concerns("node4") || entry.is_turn()));
    assert_eq!(timeline.entries.iter().filter(|entry| entry.is_turn()).count(), 4);
    let failure = timeline.keep_machine("node9").unwrap_err();
    assert_eq!(failure.code, Code::Data);
    assert!(failure.next.unwrap().contains("node4"));
}

#[test]
fn what_was_before_is_left_out() {
    let mut timeline = story::timeline();
    timeline.keep_from(CUT);
    assert!(timeline.entries[0].is_turn(), "{:?}", timeline.entries[0]);
    timeline.tell(None, &Reporter::silent());
}

#[test]
fn an_entry_for_programs_has_its_witnesses_words() {
    let entry = story::carrier(CUT, 1, 2, false);
    let (time, text) = (text::rfc3339(entry.at), entry.text(&story::names()));
    let line = serde_json::to_value(Line { time, text, entry: &entry }).unwrap();
    assert_eq!(line["time"], "2026-11-29T20:02:11.123000Z");
    assert_eq!(line["text"], "enp3s0: no carrier (to node3)");
    assert_eq!(line["machines"], serde_json::json!(["node1"]));
    assert_eq!((&line["source"], &line["detail"]["event"]), (&"node".into(), &"carrier".into()));
    assert_eq!(line["at"], CUT);
}

proptest! {
    /// In whatever order entries come, they leave in one order, and each once.
    #[test]
    fn the_order_does_not_depend_on_who_was_asked_first(
        times in prop::collection::vec((0_u64..30, any::<bool>(), 0_u8..3, any::<bool>()), 0..40),
        seed: u64,
    ) {
        let entry = |(at, coarse, machine, is_ready): (u64, bool, u8, bool)| {
            let machine = format!("node{machine}");
            let within = if coarse { SECOND } else { 0 };
            told(at * SECOND / 3, within, &machine, Change::Ready { ready: is_ready, reason: None })
        };
        let entries: Vec<Entry> = times.into_iter().map(entry).collect();
        let merged = merge(entries.clone());
        let mut shuffled = entries;
        let length = shuffled.len().max(1);
        shuffled.rotate_left(usize::try_from(seed % length as u64).unwrap());
        shuffled.reverse();
        prop_assert_eq!(&merge(shuffled), &merged);
        let ends: Vec<u64> = merged.iter().map(|entry| entry.latest()).collect();
        prop_assert!(ends.is_sorted());
    }
}
