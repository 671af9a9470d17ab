//! The pages of the book whose commands need what only the VM lane has: images that are made, and a running mesh.

use std::path::Path;
use std::time::Instant;

use tests::book::Page;
use tests::book::run::Desk;

use crate::mesh::{Mesh, binary, root};

/// Pages with commands for a place where images are made.
const BUILT: [&str; 2] = ["docs/src/metal.md", "docs/src/images.md"];
/// Pages with commands for a running mesh, in the order in which they are read.
const MESH: [&str; 4] =
    ["docs/src/quick-start.md", "docs/src/concepts.md", "docs/src/nodes.md", "docs/src/mesh-file.md"];
/// The same, of those on what goes wrong there.
const FAILURES: [&str; 5] = [
    "docs/src/faults.md",
    "docs/src/experiments.md",
    "docs/src/timeline.md",
    "docs/src/snapshots.md",
    "docs/src/troubleshooting.md",
];

/// Runs what pages show where images are made: a stick's disk is written, and told of.
pub(crate) fn where_images_are_made() {
    for path in BUILT {
        run(path, "built", &Desk::checkout(&binary(), None));
    }
}

/// Runs what pages show on a mesh of a seed, node1 and node2, and perhaps others. A guest is added to it, and is gone again.
pub(crate) fn on_a_mesh(mesh: &Mesh) {
    on(mesh, &MESH);
}

/// Runs what pages show where something is to go wrong.
pub(crate) fn where_it_fails(mesh: &Mesh) {
    on(mesh, &FAILURES);
}

fn on(mesh: &Mesh, pages: &[&str]) {
    let nodes = mesh.ready_nodes();
    for path in pages {
        run(path, "mesh", &Desk::checkout(&binary(), Some(&root().join("cluster"))));
    }
    assert_eq!(mesh.ready_nodes(), nodes, "the pages leave the mesh as they found it");
}

fn run(path: &str, proof: &str, desk: &Desk) {
    let begun = Instant::now();
    let ran = desk.run(&Page::read(Path::new(path)), proof);
    eprintln!("{path}: {ran} commands in {} s", begun.elapsed().as_secs());
    assert!(ran > 0, "{path} has no commands");
}
