//! What the book shows on a running mesh, faults that only a whole node can have, and another mesh beside it.

use crate::grid::{Act, act};
use crate::line::LINE;
use crate::mesh::{Mesh, libvirt_objects};
use crate::{docs, experiments, inside, whole};

/// What is done, one after the other.
const ACTS: [Act; 6] = [
    ("inside", |mesh| inside::each_fault_is_seen_and_undone(mesh, "node1", "node2")),
    ("built", |_| docs::where_images_are_made()),
    ("pages", docs::on_a_mesh),
    ("failures", docs::where_it_fails),
    // Its machines are of two sizes.
    ("placement", |mesh| experiments::passes(mesh, "placement")),
    // Seven machines are more than two processors can emulate in a time that anybody waits.
    ("beside", whole::beside_another),
];

#[test]
#[ignore = "needs libvirt and an hour: cargo xtask vm book"]
fn what_the_book_shows_is_so_and_faults_inside_nodes_come_and_go() {
    let before = libvirt_objects();
    let mesh = Mesh::deploy(&LINE);
    for name in ["node1", "node2", "seed"] {
        assert!(mesh.ready_nodes().contains(&name.to_owned()), "{name}");
    }
    act(&mesh, &ACTS);
    mesh.teardown(&before);
}
