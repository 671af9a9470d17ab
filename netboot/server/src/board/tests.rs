use mesh::{LinkFault, PortIndex};

use super::*;

fn link(port: u8) -> LinkId {
    LinkId { near: MachineId::from_mac(Mac([2, 0, 0, 0, 0, 1])), port: PortIndex::try_from(port).unwrap() }
}

fn board() -> StatusBoard {
    let board = StatusBoard::new();
    for port in [1, 0] {
        board.add(link(port), "eth", Ipv6Addr::LOCALHOST, None);
    }
    board
}

fn judged(faults: &[LinkFault], forced: bool) -> Judgement {
    let serves = faults.is_empty() || forced;
    Judgement { faults: faults.to_vec(), serves, advertises: serves, forced, neighbour: false }
}

fn stage(board: &StatusBoard) -> Stage {
    board.watch().borrow()[0].stage
}

#[test]
fn links_are_ordered_and_go() {
    let board = board();
    let ports = || board.watch().borrow().iter().map(|status| status.link.port.get()).collect::<Vec<_>>();
    assert_eq!(ports(), [0, 1]);
    board.remove(link(0));
    assert_eq!(ports(), [1]);
}

#[test]
fn a_boot_goes_forward_until_it_begins_again() {
    let board = board();
    board.restart(link(0), Stage::Carrier);
    board.advance(link(0), Stage::Loading);
    board.count(link(0), 9);
    board.explain(link(0), Some("because".to_owned()));
    board.advance(link(0), Stage::Addressed);
    assert_eq!(stage(&board), Stage::Loading);
    assert_eq!(board.watch().borrow()[0].reason.as_deref(), Some("because"));
    board.advance(link(0), Stage::Root);
    assert_eq!((stage(&board), board.watch().borrow()[0].reason.clone()), (Stage::Root, None));
    assert_eq!(board.watch().borrow()[0].bytes, 9);
    board.restart(link(0), Stage::Addressed);
    assert_eq!((stage(&board), board.watch().borrow()[0].bytes), (Stage::Addressed, 0));
}

#[test]
fn what_went_wrong_at_a_stage_is_not_said_of_another() {
    let board = board();
    let reason = || board.watch().borrow()[0].reason.clone();
    board.set_stage(link(0), Stage::Ready, None);
    board.explain_in(Stage::Addressed, link(0), "late".to_owned());
    assert_eq!(reason(), None);
    board.restart(link(0), Stage::Addressed);
    board.explain_in(Stage::Addressed, link(0), "now".to_owned());
    assert_eq!(reason().as_deref(), Some("now"));
}

#[test]
fn watchers_hear_of_changes_only() {
    let board = board();
    let mut watcher = board.watch();
    watcher.mark_unchanged();
    board.advance(link(0), Stage::Dark);
    board.count(link(0), 0);
    board.set_stage(link(0), Stage::Dark, None);
    assert!(!watcher.has_changed().unwrap());
    board.set_stage(link(0), Stage::Ready, None);
    assert!(watcher.has_changed().unwrap());
}

#[test]
fn a_boots_steps_are_remembered_and_counted() {
    let board = board();
    board.restart(link(0), Stage::Carrier);
    board.hear(link(0), Sound::Dhcp);
    board.restart(link(0), Stage::Addressed);
    board.explain(link(0), Some("because".to_owned()));
    board.advance(link(0), Stage::Loading);
    board.count(link(0), 9);
    board.restart(link(0), Stage::Addressed);
    let timelines = board.timelines();
    let boots = &timelines.iter().find(|timeline| timeline.link == link(0)).unwrap().boots;
    let stages: Vec<Vec<Stage>> =
        boots.iter().map(|boot| boot.steps.iter().map(|step| step.stage).collect()).collect();
    let whole = vec![Stage::Dark, Stage::Carrier, Stage::Addressed, Stage::Loading];
    assert_eq!(stages, [whole, vec![Stage::Addressed]]);
    assert_eq!((boots[0].heard.dhcp, boots[0].steps[3].bytes), (1, 9));
    assert_eq!(boots[0].steps[2].notes[0].1, "because");
    let mut text = String::new();
    board.write_metrics(&mut text).unwrap();
    for line in [
        "meshboot_stages_total{port=\"eth\",stage=\"addressed\"} 2",
        "meshboot_sent_bytes_total{port=\"eth\",stage=\"loading\"} 9",
        "meshboot_stage_seconds_count{port=\"eth\",stage=\"addressed\"} 1",
    ] {
        assert!(text.lines().any(|told| told == line), "no `{line}` in\n{text}");
    }
}

#[test]
fn a_fault_is_the_reason_until_it_is_gone_or_overruled() {
    let board = board();
    let reason = || board.watch().borrow()[0].reason.clone();
    let faults = [LinkFault::Looped { port: "eth1".to_owned() }];
    board.explain(link(0), Some("because".to_owned()));
    board.judge(link(0), &judged(&faults, false));
    assert!(reason().unwrap().starts_with("not served: what port eth1"));
    board.explain(link(0), None);
    board.set_stage(link(0), Stage::Joining, Some("CNI".to_owned()));
    assert!(reason().unwrap().starts_with("not served"));
    board.judge(link(0), &judged(&faults, true));
    assert_eq!(reason(), None);
    board.explain(link(0), Some("because".to_owned()));
    board.judge(link(0), &judged(&[], true));
    assert_eq!(reason().as_deref(), Some("because"));
    board.judge(link(0), &judged(&faults, false));
    board.judge(link(0), &judged(&[], false));
    assert_eq!(reason(), None);
}

#[test]
fn a_boot_that_came_by_another_cable_ends_here_when_its_node_shows() {
    let board = board();
    let neighbour = |neighbour| Judgement { neighbour, ..judged(&[], false) };
    board.restart(link(0), Stage::Addressed);
    board.set_stage(link(0), Stage::Loading, None);
    board.judge(link(0), &neighbour(true));
    assert_eq!(stage(&board), Stage::Carrier);
    // It went, and boots here; nothing that is known already ends that.
    board.set_stage(link(0), Stage::Loading, None);
    board.judge(link(0), &neighbour(true));
    assert_eq!(stage(&board), Stage::Loading);
    board.set_stage(link(0), Stage::Configured, None);
    board.judge(link(0), &neighbour(false));
    board.judge(link(0), &neighbour(true));
    assert_eq!(stage(&board), Stage::Configured, "it is this boot's own node that shows");
}

#[test]
fn another_station_is_another_machine() {
    let board = board();
    let machine = MachineId::from_mac(Mac([2, 0, 0, 0, 0, 7]));
    board.heard(link(0), Mac([2, 0, 0, 0, 0, 7]));
    board.set_far(link(0), Some(machine), "node1".parse().ok());
    board.heard(link(0), Mac([2, 0, 0, 0, 0, 7]));
    assert_eq!(board.watch().borrow()[0].far_machine, Some(machine));
    board.heard(link(0), Mac([2, 0, 0, 0, 0, 8]));
    assert_eq!(board.watch().borrow()[0].far_machine, None);
    assert_eq!(board.watch().borrow()[0].far_node, None);
}
