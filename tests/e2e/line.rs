//! Three machines in a line: a seed, a machine that boots through it, and one that boots through that.

use crate::mesh::{Mesh, libvirt_objects};
use crate::pods;

#[test]
#[ignore = "needs libvirt and minutes: cargo xtask vm"]
fn a_machine_boots_through_a_relay_and_all_of_it_can_be_taken_down() {
    let before = libvirt_objects();
    let mesh = Mesh::deploy(&["libvirt", "2", "--topology", "line", "--install-deps"]);

    assert_eq!(mesh.ready_nodes(), ["node1", "node2", "seed"]);
    let status = mesh.status();
    assert!(mesh.served_by(&status, "node1").starts_with("seed port "), "{status}");
    assert!(mesh.served_by(&status, "node2").starts_with("node1 port "), "{status}");
    assert_eq!(mesh.get(&["machines.meshboot.io"])["items"].as_array().unwrap().len(), 3);
    mesh.has_no_bootstrap_tokens();
    pods::reach_each_other(&mesh, "node1", "node2");
    mesh.api_server_answers_from_everywhere();

    mesh.teardown(&before);
}
