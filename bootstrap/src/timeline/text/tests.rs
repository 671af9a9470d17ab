use super::super::story;
use super::*;

fn utc(timeline: &Timeline) -> String {
    text(timeline, &TimeZone::UTC)
}

#[test]
fn a_bad_day_reads_like_a_story() {
    let mut timeline = story::timeline();
    timeline.keep_from(story::CUT);
    let told = utc(&timeline);
    let lines: Vec<&str> = told.lines().take(9).collect();
    assert_eq!(
        lines,
        [
            "Sunday 2026-11-29, +00:00",
            "20:02:11.123              -      FAULT f1: cut the cable node1-node3",
            "20:02:11.125  +0.002      node1  enp3s0: no carrier (to node3)",
            "20:02:11.126  +0.003      node3  enp1s0: no carrier (to node1)",
            "20:02:11.233  +0.110      node1  enp3s0: no route leads by its neighbour",
            "20:02:11.283  +0.160      node1  no routes to node3, node4 any more",
            "20:02:11.294  +0.171      node3  one way left to seed",
            "20:02:11.294  +0.171      node3  no routes to node1, node2 any more",
            "20:02:13.023  +1.900      node1  routes to node3, node4",
        ]
    );
    assert!(
        told.contains(
            "20:03:52.323  +41.200     node3  node NotReady: Kubelet stopped posting node status.\n"
        ),
        "{told}"
    );
    assert!(told.contains("20:02:41.123              -      UNDONE f1: its time was over\n"), "{told}");
}

#[test]
fn a_time_that_is_known_to_the_second_has_no_fraction() {
    let mut timeline = story::timeline();
    timeline.entries.retain(Entry::is_turn);
    timeline.entries.truncate(1);
    let coarse =
        Entry { within: SECOND, at: (story::CUT / SECOND + 41) * SECOND, ..story::ready(0, 3, false) };
    timeline.entries.push(coarse);
    assert!(
        utc(&timeline).contains("\n20:02:52      +41         node3  node NotReady"),
        "{}",
        utc(&timeline)
    );
}

#[test]
fn clocks_that_are_wrong_and_memories_that_are_short_are_told_of() {
    let mut timeline = story::timeline();
    let witness =
        |machine: &str, since, ahead, within| Witness { machine: machine.to_owned(), since, ahead, within };
    timeline.witnesses = vec![
        witness("seed", 0, 1000, 900),
        witness("node1", 0, -3_600_012_000, 900),
        witness("node2", 0, 30_000, 120_000),
        witness("node3", story::KILL, 0, 900),
    ];
    timeline.silent = vec!["Kubernetes: there is no kubeconfig".to_owned()];
    let told = utc(&timeline);
    let (_, remarks) = told.split_once("\n\n").unwrap();
    assert_eq!(
        remarks,
        "node1: its clock is 3600.012 s behind; that is corrected here\n\
         node2: its times may be off by 120 ms\n\
         node3: what it noted before 20:03:11 is lost\n\
         Kubernetes: there is no kubeconfig\n"
    );
}

#[test]
fn another_day_has_a_line_of_its_own_in_the_readers_zone() {
    let mut timeline = story::timeline();
    let zone = TimeZone::fixed(jiff::tz::offset(3));
    assert!(text(&timeline, &zone).starts_with("Sunday 2026-11-29, +03:00\n22:12:11 "));
    let zone = TimeZone::fixed(jiff::tz::offset(4));
    let late = story::ready(story::CUT + 3600 * SECOND, 1, true);
    timeline.entries.push(late);
    let told = text(&timeline, &zone);
    assert!(told.contains("\nMonday 2026-11-30, +04:00\n"), "{told}");
    assert_eq!(utc(&Timeline::default()), "nothing is known to have happened\n");
}

#[test]
fn routes_are_not_told_together_across_a_fault() {
    let mut timeline = story::timeline();
    timeline.entries = vec![
        story::route(10, 1, 2, 0, 1),
        story::fault(20, "f1", "link cut", &[1], "cut"),
        story::route(30, 1, 3, 0, 1),
        story::route(40, 2, 3, 0, 1),
        story::route(50, 1, 4, 0, 1),
        story::route(60, 1, 0, 1, 0),
    ];
    let told: Vec<String> = lines(&timeline).into_iter().map(|line| line.text).collect();
    assert_eq!(
        told,
        [
            "no route to node2 any more",
            "FAULT f1: cut",
            "no routes to node3, node4 any more",
            "no route to node3 any more",
            "route to seed",
        ]
    );
}

#[test]
fn machines_are_in_the_order_of_their_numbers() {
    let mut names = ["node10", "node2", "seed", "node1"];
    names.sort_by_key(|name| natural(name));
    assert_eq!(names, ["node1", "node2", "node10", "seed"]);
}
