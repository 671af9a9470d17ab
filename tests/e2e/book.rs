//! What the book shows on a running mesh, and faults that only a whole node can have.

use crate::line::LINE;
use crate::mesh::{Mesh, libvirt_objects};
use crate::{docs, experiments, inside};

#[test]
#[ignore = "needs libvirt and half an hour: cargo xtask vm book"]
fn what_the_book_shows_is_so_and_faults_inside_nodes_come_and_go() {
    let before = libvirt_objects();
    let mesh = Mesh::deploy(&LINE);
    assert_eq!(mesh.ready_nodes(), ["node1", "node2", "seed"]);
    inside::each_fault_is_seen_and_undone(&mesh, "node1", "node2");
    docs::where_images_are_made();
    docs::on_a_mesh(&mesh);
    // Its machines are of two sizes.
    experiments::passes(&mesh, "placement");
    mesh.teardown(&before);
}
