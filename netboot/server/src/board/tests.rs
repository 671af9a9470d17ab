use mesh::PortIndex;

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
