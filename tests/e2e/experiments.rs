//! The experiments that come with the program, on a running mesh: each passes, and leaves the mesh as it found it.

use std::fs;

use serde_json::Value;

use crate::inside::standing;
use crate::mesh::{Mesh, meshboot, root};

/// Those for a grid of a seed and four machines. The partition is last: a node that was NotReady for a moment and is lost soon
/// after was seen without the taint that evicts its pods.
pub(crate) const GRID: [&str; 4] = ["cable-cut", "mirror-gone", "power-loss", "partition"];

/// Those for a ring of four, three of them control planes.
pub(crate) const RING: [&str; 2] = ["apiserver-lost", "etcd-quorum"];

/// Those for three control planes in a ring of three, each with what is set for it there.
pub(crate) const TRIANGLE: [(&str, &[&str]); 5] = [
    ("etcd-quorum", &["other=node2"]),
    ("apiserver-lost", &[]),
    ("control-plane-lost", &[]),
    ("control-plane-lost", &["victim=node1", "witness=node2"]),
    ("control-plane-lost", &["victim=node2"]),
];

/// Runs one as it is.
pub(crate) fn passes(mesh: &Mesh, name: &str) {
    passes_with(mesh, name, &[]);
}

/// Runs one. Its figures are printed, and its picture lies in `target/experiments`.
pub(crate) fn passes_with(mesh: &Mesh, name: &str, set: &[&str]) {
    let before = mesh.ready_nodes();
    let folder = root().join("target/experiments");
    fs::create_dir_all(&folder).unwrap();
    let title = [&[name], set].concat().join("-").replace('=', "-");
    let picture = folder.join(format!("{title}.svg")).display().to_string();
    let words = ["-o", "json", "experiment", "run", name, "--svg", &picture];
    let set = set.iter().flat_map(|setting| ["--set", setting]);
    let output = meshboot(&words.into_iter().chain(set).collect::<Vec<_>>());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut reports = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let report = reports.next_back().filter(|report| report["experiment"] == name);
    let report =
        report.unwrap_or_else(|| panic!("{name}: {said}{}", String::from_utf8_lossy(&output.stderr)));
    for expected in report["expectations"].as_array().unwrap() {
        let measured =
            expected["measured"].as_f64().map_or_else(|| "-".to_owned(), |number| format!("{number:.0}"));
        eprintln!(
            "| {title} | {} | {measured} {} |",
            expected["text"].as_str().unwrap(),
            expected["unit"].as_str().unwrap()
        );
    }
    for probe in report["probes"].as_array().unwrap() {
        eprintln!("| {title} | {probe} |");
    }
    assert!(output.status.success() && report["passed"] == true, "{report}");
    assert_eq!(report["left"], serde_json::json!([]), "{report}");
    assert!(fs::read_to_string(&picture).unwrap().starts_with("<svg"));
    assert!(standing().is_empty(), "faults stand after {title}");
    assert_eq!(mesh.ready_nodes(), before, "{title} leaves the mesh as it found it");
}
