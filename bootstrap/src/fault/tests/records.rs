//! What is remembered of faults, and what is to be done for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::super::agenda::{Agenda, Duty, agenda, wait_after};
use super::super::list::Listing;
use super::super::record::{State, Trouble};
use super::super::step::Step;
use super::*;

fn place() -> (tempfile::TempDir, Folder) {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::of(&Directory::new(place.path()).unwrap());
    (place, folder)
}

fn record(id: u32, line: &str, state: State) -> Record {
    let (asked, lasts) = asked(line);
    let step = |up| vec![Step::Carrier { domain: "d".to_owned(), tap: "t".to_owned(), up }];
    let mut record = Record::new(FaultId(id), asked, lasts, (step(false), step(true)), at(100_000));
    record.state = state;
    record
}

fn due(records: &[Record], now: u64) -> Agenda {
    agenda(records, &BTreeMap::new(), &BTreeSet::new(), &at(now))
}

#[test]
fn a_record_is_read_as_it_was_written_and_names_are_not_given_twice() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_place, folder) = place();
    assert!(folder.read().unwrap().is_empty());
    let locked = folder.lock().unwrap();
    let one = record(folder.next_id(&locked).unwrap().0, "link cut seed-node1 --for 5s", State::Standing);
    folder.begin(&locked, &one).unwrap();
    let mode = fs::metadata(folder.path().join("f1.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(folder.records().unwrap(), std::slice::from_ref(&one));
    folder.remove(one.id).unwrap();
    folder.remove(one.id).unwrap();
    assert!(folder.read().unwrap().is_empty());
    assert_eq!(folder.next_id(&locked).unwrap(), FaultId(2));
    // The note is lost, a record is not.
    fs::remove_file(folder.path().join("last")).unwrap();
    folder.write(&record(9, "node kill node1", State::Standing)).unwrap();
    assert_eq!(folder.next_id(&locked).unwrap(), FaultId(10));
}

#[test]
fn every_fault_is_read_as_it_was_written() {
    let (_place, folder) = place();
    drop(folder.lock().unwrap());
    for line in [
        "link degrade seed-node1 --latency 50ms --jitter 5ms --loss 0.5% --rate 10mbit",
        "link flap seed-node1 --count 3",
        "node wipe node2",
        "partition seed,node1 node2,node3 --silent",
        "service mirror node2",
        "clock node2 -30s",
        "disk node2 slow",
    ] {
        let written = record(1, line, State::Ending);
        folder.write(&written).unwrap();
        assert_eq!(folder.records().unwrap(), [written]);
    }
}

#[test]
fn what_a_later_program_wrote_is_left_alone_and_shown() {
    let (_place, folder) = place();
    drop(folder.lock().unwrap());
    folder.write(&record(1, "node kill node1", State::Standing)).unwrap();
    fs::write(folder.path().join("f2.json"), r#"{"version": 2, "shape": "unheard of"}"#).unwrap();
    fs::write(folder.path().join("f3.json"), "{").unwrap();
    fs::write(folder.path().join("notes.json"), "{").unwrap();
    let entries = folder.read().unwrap();
    let ids: Vec<String> = entries.iter().map(|entry| entry.id().to_string()).collect();
    assert_eq!(ids, ["f1", "f2", "f3"]);
    assert_eq!(folder.records().unwrap().len(), 1);
    let table = Listing::new(&entries, &at(160_000)).table();
    assert!(table.contains("version 2") && table.contains("damaged"), "{table}");
    // Whatever it holds, nothing is broken on top of it.
    let refused = stands_in_the_way(&folder, &asked("link cut seed-node1").0).unwrap_err();
    assert!(refused.message().contains("fault f2"), "{}", refused.message());
}

#[test]
fn only_one_does_the_steps_of_a_fault() {
    let (_place, folder) = place();
    drop(folder.lock().unwrap());
    let id = FaultId(1);
    assert!(!folder.is_held(id) && !folder.is_kept());
    let held = folder.hold(id, Duration::ZERO).unwrap();
    assert!(folder.is_held(id));
    assert!(folder.hold(id, Duration::from_millis(30)).is_err());
    drop(held);
    assert!(!folder.is_held(id));
    let keeper = folder.keep().unwrap();
    assert!(keeper.is_some() && folder.is_kept() && folder.keep().unwrap().is_none());
    drop(keeper);
    assert!(folder.keep().unwrap().is_some());
}

#[test]
fn faults_names() {
    assert_eq!("f12".parse(), Ok(FaultId(12)));
    for text in ["", "f", "12", "f01", "f+1", "f1x", "F1", "f99999999999"] {
        assert!(text.parse::<FaultId>().is_err(), "{text}");
    }
}

#[test]
fn a_fault_ends_when_its_time_is_over() {
    let both = [
        record(1, "link cut seed-node1 --for 5s", State::Standing),
        record(2, "node kill node3", State::Standing),
    ];
    let wake = |millis| Some(Duration::from_millis(millis));
    assert_eq!(due(&both, 104_000), Agenda { duties: vec![], wake: wake(1000) });
    assert_eq!(due(&both, 105_000), Agenda { duties: vec![Duty::Undo(FaultId(1), Why::Over)], wake: None });
    // One that only somebody's word ends is nobody's to keep.
    assert_eq!(due(&both[1..], 105_000), Agenda::default());
}

#[test]
fn an_undoing_that_fails_is_tried_again_later_and_later() {
    let mut ending = record(1, "link cut seed-node1 --for 5s", State::Ending);
    assert_eq!(due(std::slice::from_ref(&ending), 100_000).duties, [Duty::Undo(FaultId(1), Why::Over)]);
    ending.trouble =
        Some(Trouble { attempts: 3, reason: "libvirt is away".to_owned(), at: at(200_000), why: Why::Asked });
    let waits = due(std::slice::from_ref(&ending), 201_000);
    assert_eq!(waits, Agenda { duties: vec![], wake: Some(Duration::from_secs(3)) });
    let again = due(std::slice::from_ref(&ending), 204_000);
    assert_eq!(again.duties, [Duty::Undo(FaultId(1), Why::Asked)]);
    let waits: Vec<u64> = [1, 2, 3, 6, 7, 1000].map(|attempts| wait_after(attempts).as_secs()).to_vec();
    assert_eq!(waits, [1, 2, 4, 32, 60, 60]);
    let table = Listing::new(&[Entry::Known(Box::new(ending))], &at(201_000)).table();
    assert!(table.contains("libvirt is away (again in 3s)"), "{table}");
}

#[test]
fn what_was_cut_off_is_undone_and_what_is_being_made_is_watched() {
    let making = [record(1, "node kill node3", State::Applying)];
    assert_eq!(due(&making, 100_500), Agenda { duties: vec![], wake: Some(Duration::from_secs(1)) });
    let cut_off = agenda(&making, &BTreeMap::new(), &[FaultId(1)].into(), &at(100_500));
    assert_eq!(cut_off.duties, [Duty::Undo(FaultId(1), Why::CutOff)]);
}

#[test]
fn a_flapping_cable_is_turned_at_each_half_and_ends_after_its_times() {
    let flaps = [record(1, "link flap seed-node1 --period 4s --count 2", State::Standing)];
    let mut turned = BTreeMap::new();
    let mut seen = Vec::new();
    let mut now = 100_000;
    for _ in 0..100 {
        let Agenda { duties, wake } = agenda(&flaps, &turned, &BTreeSet::new(), &at(now));
        match duties.as_slice() {
            [] => now += u64::try_from(wake.unwrap().as_millis()).unwrap(),
            [Duty::Turn { id, half }] => {
                turned.insert(*id, *half);
                seen.push((now, half % 2 == 0));
            }
            [Duty::Undo(_, Why::Over)] => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [(100_000, true), (102_000, false), (104_000, true), (106_000, false)]);
    assert_eq!(now, 108_000);
}

#[test]
fn a_flap_without_an_end_goes_on_and_one_with_a_time_ends_in_the_middle() {
    let flaps = |line| [record(1, line, State::Standing)];
    let endless = flaps("link flap seed-node1 --period 4s");
    let late = agenda(&endless, &BTreeMap::new(), &BTreeSet::new(), &at(4_100_000));
    assert_eq!(late.duties, [Duty::Turn { id: FaultId(1), half: 2000 }]);
    assert!(endless[0].needs_keeping());
    let short = flaps("link flap seed-node1 --period 4s --count 9 --for 5s");
    assert_eq!(due(&short, 105_000).duties, [Duty::Undo(FaultId(1), Why::Over)]);
}

#[test]
fn the_list_tells_how_long_each_still_stands() {
    let entries = [
        record(1, "link cut seed-node1 --for 90s", State::Standing),
        record(2, "node kill node3", State::Standing),
        record(3, "clock node1 +1h --for 90s", State::Applying),
    ]
    .map(|record| Entry::Known(Box::new(record)));
    let table = Listing::new(&entries, &at(130_000)).table();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(
        lines[1].starts_with("f1") && lines[1].contains("30s ago") && lines[1].ends_with("in 60s"),
        "{table}"
    );
    assert!(lines[2].ends_with("when cleared"), "{table}");
    assert!(
        lines[3].contains("set the clock of node1 off by +3600 s") && lines[3].ends_with("is being made"),
        "{table}"
    );
    assert_eq!(Listing::new(&[], &at(0)).table(), "nothing is broken");
}
