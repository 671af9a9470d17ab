use proptest::prelude::*;

use super::*;

fn moment(at: u64) -> Moment {
    Moment { at, up: at / 2 }
}

fn numbers(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

#[test]
fn an_event_is_one_flat_object() {
    let mut ring = EventRing::default();
    ring.push(moment(8), Happening::Route { to: "2001:db8::200/119".parse().unwrap(), paths: 0, before: 2 });
    ring.push(moment(10), Happening::Stopping);
    let text = serde_json::to_string(&ring.after(0)).unwrap();
    let route = r#"{"seq":1,"at":8,"up":4,"event":"route","to":"2001:db8::200/119","paths":0,"before":2}"#;
    assert_eq!(text, format!(r#"[{route},{{"seq":2,"at":10,"up":5,"event":"stopping"}}]"#));
    assert_eq!(serde_json::from_str::<Vec<Event>>(&text).unwrap(), ring.after(0));
}

#[test]
fn what_a_later_version_tells_is_read_all_the_same() {
    let text = r#"{"seq":1,"at":8,"up":4,"event":"moonrise","phase":"full"}"#;
    let event: Event = serde_json::from_str(text).unwrap();
    assert_eq!(event, Event { seq: 1, at: 8, up: 4, what: Happening::Unknown });
}

#[test]
fn a_number_of_another_run_gets_all() {
    let mut ring = EventRing::default();
    (0..3).for_each(|at| ring.push(moment(at), Happening::Stopping));
    assert_eq!(numbers(&ring.after(1)), [2, 3]);
    assert!(ring.after(3).is_empty());
    assert_eq!(numbers(&ring.after(4)), [1, 2, 3]);
}

proptest! {
    /// However many there were: the last ones are there, numbered without a gap.
    #[test]
    fn the_ring_is_bounded_and_has_no_gap(capacity in 1_usize..50, pushed in 0_u64..200, after in 0_u64..250) {
        let mut ring = EventRing::new(capacity);
        (0..pushed).for_each(|at| ring.push(moment(at), Happening::Stopping));
        let all = numbers(&ring.after(0));
        let oldest = pushed.saturating_sub(capacity as u64) + 1;
        prop_assert_eq!(&all, &(oldest..=pushed).collect::<Vec<_>>());
        prop_assert_eq!((ring.oldest(), ring.next()), (oldest.min(pushed + 1), pushed + 1));
        let from = if after <= pushed { after } else { 0 };
        let expected: Vec<u64> = all.into_iter().filter(|seq| *seq > from).collect();
        prop_assert_eq!(numbers(&ring.after(after)), expected);
    }
}
