use mesh::Happening;
use proptest::prelude::*;

use super::*;
use crate::timeline::journal::Fault;

const SECOND: u64 = 1_000_000;
const NOW: u64 = 1_764_446_400 * SECOND;

fn page(now: u64, up: u64, ups: &[u64]) -> EventPage {
    let event =
        |(seq, up): (usize, &u64)| Event { seq: seq as u64, at: 0, up: *up, what: Happening::Stopping };
    let events = ups.iter().enumerate().map(event).collect();
    EventPage { now, up, boot_id: "b".to_owned(), started: 0, oldest: 1, next: 9, events }
}

fn clock(now: u64, up: u64, frozen: Vec<Frozen>) -> Clock {
    let sample = Sample { asked: NOW, answered: NOW + 2000, now, up };
    Clock::new(&[sample], frozen).unwrap()
}

#[test]
fn a_wall_clock_that_was_set_does_not_matter() {
    let hour = 3600 * SECOND;
    let clock = clock(NOW + 1000 + hour, 100 * SECOND, Vec::new());
    assert_eq!(clock.ahead(), 3_600_000_000);
    assert_eq!(clock.within(), 1000);
    let entries = clock.entries("node1", &page(0, 0, &[40 * SECOND, 99 * SECOND]));
    let times: Vec<u64> = entries.iter().map(|entry| entry.at).collect();
    assert_eq!(times, [NOW + 1000 - 100 * SECOND, NOW + 1000 - 60 * SECOND, NOW + 1000 - SECOND]);
    assert!(matches!(entries[0].detail, What::Boot(_)));
}

#[test]
fn the_quickest_answer_says_most() {
    let slow = Sample { asked: NOW, answered: NOW + 400_000, now: NOW, up: 7 * SECOND };
    let quick = Sample { asked: NOW + SECOND, answered: NOW + SECOND + 600, now: NOW, up: 8 * SECOND };
    let clock = Clock::new(&[slow, quick, slow], Vec::new()).unwrap();
    assert_eq!((clock.within(), clock.at(8 * SECOND)), (300, NOW + SECOND + 300));
    assert_eq!(Clock::new(&[], Vec::new()), None);
}

#[test]
fn what_was_before_a_freeze_is_put_back_by_as_much() {
    // Noted 10 s before it was frozen, 30 s long, twice; the kernel counts none of that.
    let first = Frozen { from: NOW - 200 * SECOND, to: NOW - 170 * SECOND };
    let second = Frozen { from: NOW - 100 * SECOND, to: NOW - 70 * SECOND };
    let clock = clock(NOW, 1000 * SECOND, vec![first, second]);
    let after = 1000 * SECOND - 60 * SECOND;
    assert_eq!(clock.at(after), NOW + 1000 - 60 * SECOND);
    let between = 1000 * SECOND - 80 * SECOND;
    assert_eq!(clock.at(between), NOW + 1000 - 110 * SECOND);
    let before = 1000 * SECOND - 150 * SECOND;
    assert_eq!(clock.at(before), NOW + 1000 - 210 * SECOND);
}

#[test]
fn the_journal_tells_when_a_machine_stood_still() {
    let fault = |id: &str, kind: &str, machine: &str| {
        Act::FaultInjected(Fault {
            id: id.to_owned(),
            kind: kind.to_owned(),
            machines: vec![machine.to_owned()],
            text: String::new(),
            until: None,
        })
    };
    let undone = |id: &str| Act::FaultUndone { id: id.to_owned(), why: String::new() };
    let acts = [
        (1, fault("f1", "node freeze", "node1")),
        (2, fault("f2", "node freeze", "node2")),
        (3, fault("f3", "link cut", "node1")),
        (4, undone("f3")),
        (5, undone("f1")),
        (6, fault("f4", "node freeze", "node1")),
    ];
    let acts = acts.map(|(at, act)| journal::Entry { at, act });
    assert_eq!(frozen("node1", &acts), [Frozen { from: 1, to: 5 }]);
    assert_eq!(frozen("node2", &acts), []);
}

proptest! {
    /// Order is kept, whatever the answers were, and nothing a node says makes it fail.
    #[test]
    fn what_was_noted_later_is_later(
        asked: u64, trip in 0_u64..10 * SECOND, now: u64, up: u64, mut ups in prop::collection::vec(any::<u64>(), 2..9),
        freezes in prop::collection::vec((any::<u64>(), 0_u64..100 * SECOND), 0..4),
    ) {
        let sample = Sample { asked, answered: asked.saturating_add(trip), now, up };
        let mut frozen: Vec<Frozen> = Vec::new();
        let mut freezes = freezes;
        freezes.sort_unstable();
        for (from, length) in freezes {
            let from = frozen.last().map_or(from, |last| from.max(last.to));
            frozen.push(Frozen { from, to: from.saturating_add(length) });
        }
        let clock = Clock::new(&[sample], frozen).unwrap();
        ups.sort_unstable();
        let times: Vec<u64> = ups.iter().map(|up| clock.at(*up)).collect();
        prop_assert!(times.is_sorted(), "{times:?}");
        let _any = clock.ahead();
    }
}
