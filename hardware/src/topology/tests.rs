use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn pairs(shape: Shape, nodes: u16) -> Vec<(u16, u16)> {
    cables(shape, nodes).iter().map(|cable| (cable.near.machine.0, cable.far.machine.0)).collect()
}

#[test]
fn four_machines_are_cabled_as_kubermesh_had_them() {
    assert_eq!(pairs(Shape::Grid, 4), [(0, 1), (1, 2), (1, 3), (2, 4), (3, 4)]);
}

#[test]
fn small_and_odd_grids() {
    assert_eq!(pairs(Shape::Grid, 1), [(0, 1)]);
    assert_eq!(pairs(Shape::Grid, 3), [(0, 1), (1, 2), (1, 3)]);
    assert_eq!(pairs(Shape::Grid, 5), [(0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (3, 5)]);
    assert_eq!(pairs(Shape::Grid, 0), []);
}

#[test]
fn a_line_is_a_line() {
    assert_eq!(pairs(Shape::Line, 3), [(0, 1), (1, 2), (2, 3)]);
}

#[test]
fn rings_are_closed() {
    assert_eq!(pairs(Shape::Ring, 1), [(0, 1)]);
    assert_eq!(pairs(Shape::Ring, 2), [(0, 1), (0, 2), (1, 2)]);
    assert_eq!(pairs(Shape::Ring, 3), [(0, 1), (0, 3), (1, 2), (3, 2)]);
    assert_eq!(pairs(Shape::Ring, 4), [(0, 1), (0, 4), (1, 2), (4, 3), (2, 3)]);
}

#[test]
fn cables_of_any_hand_are_put_in_order() {
    for shape in [Shape::Grid, Shape::Line, Shape::Ring] {
        let usual = cables(shape, 9);
        let turned = |cable: &Cable| Cable { near: cable.far, far: cable.near, ..*cable };
        let laid: Vec<Cable> = usual.iter().rev().map(turned).collect();
        assert_eq!(from_seed(&laid), usual, "{shape}");
    }
    let end = |machine| End { machine: MachineNumber(machine), port: 0 };
    let adrift = Cable { number: 1, near: end(8), far: end(7) };
    let mut with = cables(Shape::Line, 2);
    with.insert(0, adrift);
    assert_eq!(from_seed(&with).last().map(|cable| cable.number), Some(1));
}

#[test]
fn every_machine_is_reached_and_no_port_is_used_twice() {
    for shape in [Shape::Grid, Shape::Line, Shape::Ring] {
        for nodes in 0..=MAX_MACHINES {
            let mut reached = BTreeSet::from([0]);
            let mut used = BTreeSet::new();
            let mut ports: BTreeMap<MachineNumber, u8> = BTreeMap::new();
            for cable in cables(shape, nodes) {
                assert!(reached.contains(&cable.near.machine.0), "{cable:?} hangs in the air");
                reached.insert(cable.far.machine.0);
                for end in [cable.near, cable.far] {
                    assert!(used.insert(end), "{end:?} has two cables");
                    let highest = ports.entry(end.machine).or_default();
                    *highest = end.port.max(*highest);
                }
            }
            assert_eq!(reached.len(), usize::from(nodes) + 1);
            assert!(ports.values().all(|port| *port < MESH_PORTS));
        }
    }
}

#[test]
fn port_0_leads_towards_the_seed() {
    for cable in cables(Shape::Grid, 100) {
        if cable.far.port == 0 {
            assert!(cable.near.machine < cable.far.machine);
        }
    }
    for machine in 1..=100 {
        let towards = cables(Shape::Grid, 100).into_iter().find(|cable| cable.far.machine.0 == machine);
        assert_eq!(towards.map(|cable| cable.far.port), Some(0));
    }
}

#[test]
fn a_grid_survives_the_loss_of_any_one_cable_behind_machine_1() {
    for nodes in [4_u16, 6, 8, 20] {
        let all = cables(Shape::Grid, nodes);
        for cut in all.iter().skip(1) {
            let mut reached = BTreeSet::from([0]);
            let mut before = 0;
            while before != reached.len() {
                before = reached.len();
                for cable in all.iter().filter(|cable| *cable != cut) {
                    let ends = [cable.near.machine.0, cable.far.machine.0];
                    if ends.iter().any(|end| reached.contains(end)) {
                        reached.extend(ends);
                    }
                }
            }
            assert_eq!(reached.len(), usize::from(nodes) + 1, "cable {cut:?} was the only way");
        }
    }
}
