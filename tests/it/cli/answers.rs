//! What verbs answer programs, as far as they go without a machine. [`Desk::run`] looks whether it is of the form that is
//! published; here is who is asked, and for what.

use std::{fs, thread};

use anyhow::{Context, Result, ensure};
use bootstrap::answers::{names, verb_of};
use serde_json::Value;
use tests::book::root;

use super::Desk;
use super::mesh::deployed;
use crate::docs::generated::published;

const MESH: &str = "apiVersion: meshboot.io/v1alpha1\nkind: Mesh\nmachines:\n- role: seed\n- count: 2\n  memory: 512MiB\n  \
                    taints: ['a=b:NoSchedule']\n";

/// The last line that is told, and the exit code.
fn told(desk: &Desk, words: &[&str]) -> Result<(Value, Option<i32>)> {
    let output = desk.run(&[&["-o", "json"], words].concat())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = said.lines().last().with_context(|| format!("{words:?} tells nothing"))?;
    Ok((serde_json::from_str(last)?, output.status.code()))
}

/// The verb succeeds, and its answer has something at this place.
fn has(desk: &Desk, words: &[&str], place: &str) -> Result<()> {
    let (answer, code) = told(desk, words)?;
    ensure!(code == Some(0) && answer.pointer(place).is_some(), "{words:?}: {code:?} {answer}");
    Ok(())
}

/// Who needs no deployment.
#[test]
fn verbs_without_a_mesh_answer_as_it_is_published() -> Result<()> {
    let desk = Desk::new()?;
    let file = desk.file("mesh.yaml", MESH)?;
    let answers: &[(&[&str], &str)] = &[
        (&["schema"], "/schemas/0/name"),
        (&["config", "check"], "/good"),
        (&["experiment", "check", "power-loss"], "/good"),
        (&["experiment", "list"], "/experiments/0/title"),
        (&["site", "new"], "/id"),
        (&["man", "pages"], "/pages/0"),
        (&["image", "list"], "/images"),
        (&["image", "verify"], "/checked/blobs"),
        (&["list"], "/meshes"),
        (&["teardown"], "/files"),
        (&["deploy", "-f", &file, "--dry-run"], "/changes/0/change"),
        (
            &["deploy", "libvirt", "1", "--dry-run", "--memory", "512MiB", "--seed-memory", "512MiB"],
            "/dry_run",
        ),
    ];
    answers.iter().try_for_each(|(words, place)| has(&desk, words, place))
}

/// Who looks at a deployment, be its machines there or not.
#[test]
fn verbs_that_look_at_a_mesh_answer_as_it_is_published() -> Result<()> {
    let desk = Desk::new()?;
    let (directory, ..) = deployed(&desk.cluster(), MESH)?;
    let snapshot = directory.path().join("snapshots/before");
    fs::create_dir_all(&snapshot)?;
    let record: Value = serde_json::from_str(&fs::read_to_string(directory.path().join("deployment.json"))?)?;
    let record = serde_json::json!({
        "version": 1, "at": "2026-11-29T20:02:53Z", "deployment": record, "powered": [{ "machine": 0, "running": true }],
    });
    fs::write(snapshot.join("snapshot.json"), record.to_string())?;
    fs::create_dir_all(directory.path().join("console"))?;
    fs::write(directory.path().join("console/seed.log"), "Linux\r\n")?;
    let answers: &[(&[&str], &str)] = &[
        (&["status"], "/machines/2/reason"),
        (&["node", "status", "node1"], "/machines/0/name"),
        (&["node", "list"], "/nodes/1/memory_mib"),
        (&["node", "ip", "seed"], "/address"),
        (&["node", "logs", "seed"], "/logs/0/lines/0"),
        (&["node", "logs", "seed", "--console", "--file", "log"], "/lines"),
        (&["list"], "/meshes/0/endpoint"),
        (&["config", "show"], "/file"),
        (&["timeline"], "/machines/2"),
        (&["fault", "list"], "/faults"),
        (&["fault", "clear", "--all"], "/cleared"),
        (&["snapshot", "list"], "/snapshots/0/at"),
    ];
    // Most of them wait some seconds for machines that are not there.
    thread::scope(|scope| {
        let asked: Vec<_> =
            answers.iter().map(|(words, place)| scope.spawn(|| has(&desk, words, place))).collect();
        asked.into_iter().try_for_each(|asked| asked.join().expect("it gives back what is wrong"))
    })?;
    has(&desk, &["snapshot", "delete", "before"], "/deleted")?;
    let failures: &[(&[&str], i32)] =
        &[(&["why", "node1"], 75), (&["node", "ip", "node9"], 64), (&["snapshot", "delete", "before"], 64)];
    for (words, wanted) in failures {
        let (failure, code) = told(&desk, words)?;
        ensure!(code == Some(*wanted), "{words:?}: {code:?} {failure}");
        ensure!(failure["event"] == "error" && failure["code"] == *wanted, "{words:?}: {failure}");
    }
    Ok(())
}

#[test]
fn the_schemas_that_are_published_are_printed() -> Result<()> {
    let desk = Desk::new()?;
    for name in names() {
        let words: Vec<&str> = ["schema"].into_iter().chain(name.split(' ')).collect();
        let printed = desk.run(&words)?.stdout;
        let file = published(name);
        ensure!(printed == fs::read(root().join(&file))?, "{file} is not what is printed");
    }
    ensure!(desk.run(&["config", "schema"])?.stdout == fs::read(root().join("docs/mesh.schema.json"))?);
    // A verb of a group has the group's.
    ensure!(verb_of("fault node kill") == Some("fault"));
    ensure!(desk.run(&["schema", "fault", "node", "kill"])?.stdout == desk.run(&["schema", "fault"])?.stdout);
    desk.refuses(&["schema", "moon"], 64, &["no schema `moon`", "meshboot schema"])?;
    desk.refuses(&["schema", "node", "ssh"], 64, &["no schema `node ssh`"])
}
