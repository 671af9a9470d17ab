//! Experiments with the real binary, as far as they go without a mesh.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::Desk;

#[test]
fn those_that_come_along_are_listed_and_shown() -> Result<()> {
    let desk = Desk::new()?;
    let listed = desk.run(&["-o", "json", "experiment", "list"])?;
    ensure!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed: Value = serde_json::from_slice(&listed.stdout)?;
    let all = listed["experiments"].as_array().map(Vec::len);
    ensure!(all.is_some_and(|all| all >= 6), "{listed}");
    for experiment in listed["experiments"].as_array().into_iter().flatten() {
        let name = experiment["name"].as_str().unwrap_or_default();
        let shown = desk.run(&["experiment", "show", name])?;
        let text = String::from_utf8(shown.stdout)?;
        ensure!(text.starts_with(&format!("name: {name}\n")), "{text}");
    }
    desk.refuses(&["experiment", "show", "moon"], 64, &["moon", "experiment list"])
}

#[test]
fn what_is_wrong_with_a_file_is_told_before_anything_is_done() -> Result<()> {
    let desk = Desk::new()?;
    desk.refuses(&["experiment", "run", "absent.yaml"], 65, &["absent.yaml", "experiment list"])?;
    let file = desk.directory.path().join("wrong.yaml");
    fs::write(&file, "name: wrong\nsteps:\n  - {fault: node slay node1}\n  - {slep: 5s}\n")?;
    // Of a step whose only field is none nothing is left that could be done.
    let told = ["3 mistakes", "wrong.yaml:3:", "slay", "wrong.yaml:4:", "slep", "this is none"];
    desk.refuses(&["experiment", "run", "wrong.yaml"], 65, &told)?;
    desk.refuses(&["experiment", "run", "power-loss", "--set", "victim"], 64, &["NAME=VALUE"])?;
    desk.refuses(&["experiment", "run", "power-loss", "--set", "villain=node3"], 65, &["villain"])?;
    desk.refuses(&["experiment", "run", "power-loss"], 69, &["no deployment"])
}
