use hardware::{Cable, End};

use super::*;
use crate::deployment::sample;

#[test]
fn who_is_behind_a_machine_alone_is_cut_off_without_it() {
    let mut deployment = sample(4);
    assert_eq!(cut_off(&deployment, MachineNumber(2)), Vec::<String>::new());
    assert_eq!(cut_off(&deployment, MachineNumber(1)), ["node2", "node3", "node4"]);
    assert_eq!(cut_off(&deployment, MachineNumber(4)), Vec::<String>::new());
    let end = |machine, port| End { machine: MachineNumber(machine), port };
    deployment.cables.push(Cable { number: 9, near: end(0, 1), far: end(4, 2) });
    assert_eq!(cut_off(&deployment, MachineNumber(1)), Vec::<String>::new(), "the new cable leads round it");
}
