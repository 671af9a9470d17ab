//! Imports go down only: the edges between the rooms, as cargo sees them, are the ones of the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Who may import whom. What is not here is a bug.
const PLAN: [(&str, &[&str]); 12] = [
    ("mesh", &[]),
    ("plain-http", &[]),
    ("netboot-proto", &["mesh"]),
    ("ignition", &["mesh"]),
    ("netboot-server", &["mesh", "netboot-proto", "plain-http"]),
    ("images", &["plain-http"]),
    ("hardware", &["mesh"]),
    ("bootstrap", &["hardware", "ignition", "images", "mesh", "netboot-proto", "netboot-server"]),
    ("tests", &["bootstrap", "hardware", "ignition", "images", "mesh", "netboot-proto", "netboot-server"]),
    ("tests-bench", &["bootstrap", "ignition", "images", "mesh", "netboot-proto", "tests"]),
    ("tests-fuzz", &["mesh", "netboot-proto", "netboot-server"]),
    ("tests-xtask", &[]),
];

/// What a pure room may never see, directly or through another crate.
const PURE: [&str; 3] = ["mesh", "netboot-proto", "ignition"];
const EFFECTS: [&str; 5] = ["tokio", "socket2", "nix", "rtnetlink", "reqwest"];

#[test]
fn rooms_import_downwards_only() {
    let members = members();
    let names: BTreeSet<&str> = PLAN.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        members.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        names,
        "a room is not in the plan"
    );
    for (room, allowed) in PLAN {
        for import in members[room].iter().filter(|import| names.contains(import.as_str())) {
            assert!(allowed.contains(&import.as_str()), "{room} may not import {import}");
        }
    }
}

#[test]
fn pure_rooms_see_no_effects() {
    for room in PURE {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--package", room])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8(output.stdout).unwrap();
        for line in tree.lines() {
            let name = line.split(' ').next().unwrap();
            assert!(!EFFECTS.contains(&name), "{room} is pure and sees {name}");
        }
    }
}

/// The workspace's members, each with its normal dependencies.
fn members() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    let normal = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().clone();
        all.into_iter().filter(|one| one["kind"].is_null()).map(|one| text(&one["name"])).collect()
    };
    packages.iter().map(|package| (text(&package["name"]), normal(package))).collect()
}

fn root() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/..")
}
