use mesh::AddressPlan;

use super::super::Stood;
use super::super::entry::Entry;
use super::super::story::{self, CUT, KILL, SECOND};
use super::*;

fn span(from: u64, to: u64, what: State) -> Span<State> {
    Span { from, to: Some(to), what }
}

fn lane_of(number: u8, entries: Vec<Entry>) -> Lane {
    let machine = story::machine(number).name.to_string();
    let timeline = Timeline::new(vec![machine], entries, story::names());
    lanes(&timeline).remove(0)
}

#[test]
fn a_machine_without_power_is_ready_until_kubernetes_finds_out() {
    let lane = lane_of(3, story::entries());
    let Some(last) = lane.node.last() else { panic!("{lane:?}") };
    assert_eq!((last.from, last.to, last.what), (KILL + 131 * SECOND, None, State::Ready));
    let not_ready = span(KILL + 41_200_000, KILL + 131 * SECOND, State::NotReady);
    assert_eq!(lane.node[lane.node.len() - 2], not_ready);
    // It was mended before its kernel was started.
    assert_eq!(lane.power, [span(KILL, KILL + 90 * SECOND, State::Off)]);
    let cut = span(CUT + 3_000, CUT + 30 * SECOND + 1_600, State::NoCarrier);
    assert_eq!(lane.cables, [cut]);
}

#[test]
fn who_watched_knows_how_nodes_stood() {
    let machine = story::machine(1).name.to_string();
    let is = |at: u64, ready| {
        let change = Change::Ready { ready, reason: None };
        Entry::of_kubernetes(at * SECOND, 0, Some(machine.clone()), change)
    };
    // That it was Ready again nobody remembers.
    let entries = vec![is(10, false), is(150, false), is(170, true)];
    let mut timeline = Timeline::new(vec![machine.clone()], entries, story::names());
    let spans = |timeline: &Timeline| -> Vec<(u64, State)> {
        lanes(timeline)[0].node.iter().map(|span| (span.from / SECOND, span.what)).collect()
    };
    assert_eq!(spans(&timeline), [(0, State::Ready), (10, State::NotReady), (170, State::Ready)]);
    timeline.stood = Some(Stood { at: 100 * SECOND, ready: [(machine.clone(), true)].into() });
    let all = [
        (0, State::Ready),
        (10, State::NotReady),
        (100, State::Ready),
        (150, State::NotReady),
        (170, State::Ready),
    ];
    assert_eq!(spans(&timeline), all);
    timeline.stood = Some(Stood { at: 200 * SECOND, ready: [(machine.clone(), false)].into() });
    assert_eq!(spans(&timeline).last(), Some(&(200, State::NotReady)));
}

#[test]
fn routes_are_missing_until_the_last_one_is_back() {
    let lane = lane_of(3, story::entries());
    assert_eq!(lane.routes, [span(CUT + 171_000, CUT + 1_990_000, State::NoRoute)]);
}

#[test]
fn an_address_of_its_own_needs_no_route() {
    let address = AddressPlan::default().apiserver;
    let name = "apiserver".to_owned();
    let anycast =
        |at, held| story::node(at, 1, Happening::Anycast { name: name.clone(), address, held, reason: None });
    let route =
        |at, paths| story::node(at, 1, Happening::Route { to: address.into(), paths, before: 1 - paths });
    // The kernel's news and the service's come in any order.
    for entries in [vec![route(1, 0), anycast(2, true)], vec![anycast(1, true), route(2, 0)]] {
        assert!(lane_of(1, entries).routes.iter().all(|span| span.to == Some(2)));
    }
    let dropped = vec![anycast(1, true), anycast(2, false), route(3, 1), route(4, 0), route(6, 1)];
    assert_eq!(lane_of(1, dropped).routes, [span(4, 6, State::NoRoute)]);
}

#[test]
fn nobody_misses_a_machine_that_was_deleted() {
    let name = story::machine(2).name.to_string();
    let act = |at, act| Entry::of_act(at, act);
    let nobody = "2001:db8::ffff:0/119".parse().unwrap();
    let entries = vec![
        story::node(1, 1, Happening::Route { to: nobody, paths: 0, before: 1 }),
        story::carrier(2, 1, 1, false),
        story::carrier(2, 1, 0, false),
        act(3, Act::MachineDeleted { machine: name.clone() }),
        story::carrier(4, 1, 0, true),
    ];
    let names = story::machine(1).name.to_string();
    let mut timeline = Timeline::new(vec![names, name.clone()], entries.clone(), story::names());
    timeline.names.cable([story::link(1, 0)].into());
    let [neighbour, deleted] = &lanes(&timeline)[..] else { panic!("two machines") };
    assert_eq!(neighbour.routes, [span(1, 3, State::NoRoute)]);
    assert_eq!(neighbour.cables, [span(2, 4, State::NoCarrier)]);
    assert_eq!((neighbour.deleted, deleted.deleted), (None, Some(3)));
    let again = [entries, vec![act(5, Act::MachineAdded { machine: name.clone() })]].concat();
    assert_eq!(lanes(&Timeline::new(vec![name], again, story::names()))[0].deleted, None);
}

#[test]
fn two_ports_without_a_carrier_are_one_span() {
    let entries = vec![
        story::carrier(1, 1, 0, false),
        story::carrier(2, 1, 1, false),
        story::carrier(3, 1, 0, true),
        story::carrier(4, 1, 1, true),
        story::carrier(5, 1, 1, true),
    ];
    assert_eq!(lane_of(1, entries).cables, [span(1, 4, State::NoCarrier)]);
}

#[test]
fn a_service_that_was_started_anew_looks_at_everything_anew() {
    let entries = vec![
        story::carrier(1, 1, 0, false),
        story::route(1, 1, 2, 0, 1),
        story::node(5, 1, Happening::Started { version: String::new() }),
        story::route(6, 1, 2, 1, 0),
    ];
    let lane = lane_of(1, entries);
    assert_eq!(
        (lane.cables, lane.routes),
        (vec![span(1, 5, State::NoCarrier)], vec![span(1, 5, State::NoRoute)])
    );
}

#[test]
fn a_node_that_ceases_to_be_ready_was_ready_and_a_new_one_was_not() {
    let lane = lane_of(1, vec![story::ready(50 * SECOND, 1, false)]);
    assert_eq!(lane.node[0], span(0, 50 * SECOND, State::Ready));
    let made = story::kubernetes(50 * SECOND, 1, Change::Node { present: true });
    let lane =
        lane_of(1, vec![made, story::ready(50 * SECOND, 1, false), story::ready(60 * SECOND, 1, true)]);
    assert_eq!(lane.node[0], span(50 * SECOND, 60 * SECOND, State::NotReady));
}

#[test]
fn a_frozen_machine_thaws_with_its_own_fault_alone() {
    let entries = vec![
        story::fault(1, "f1", "node freeze", &[1], "freeze"),
        story::fault(2, "f2", "link cut", &[1], "cut"),
        story::undone(3, "f2", ""),
        story::undone(9, "f1", ""),
    ];
    assert_eq!(lane_of(1, entries).power, [span(1, 9, State::Frozen)]);
}

#[test]
fn off_ends_with_the_kernels_start_if_nobody_tells_more() {
    let boot =
        Entry { detail: story::entries().into_iter().find_map(is_boot).unwrap(), ..story::ready(7, 1, true) };
    let stopped = Entry::of_act(2, Act::MachineStopped { machine: "node1".to_owned(), hard: true });
    assert_eq!(lane_of(1, vec![stopped, boot]).power, [span(2, 7, State::Off)]);
}

fn is_boot(entry: Entry) -> Option<What> {
    matches!(entry.detail, What::Boot(_)).then_some(entry.detail)
}

#[test]
fn a_fault_lasts_until_it_is_undone_and_names_may_be_used_again() {
    let mut timeline = story::timeline();
    timeline.entries = vec![
        story::fault(1, "f1", "link cut", &[1], "cut"),
        story::undone(3, "f1", ""),
        story::fault(5, "f1", "link cut", &[1], "cut again"),
        story::undone(6, "f9", ""),
    ];
    let spans: Vec<_> = faults(&timeline).into_iter().map(|span| (span.from, span.to)).collect();
    assert_eq!(spans, [(1, Some(3)), (5, None)]);
}

#[test]
fn pods_that_leave_are_marked_once_for_each_word_of_it() {
    let lane = lane_of(3, story::entries());
    let left = lane.marks.iter().filter(|(_, mark)| *mark == Mark::Left).count();
    assert_eq!((left, lane.marks.len()), (2, 4));
}
