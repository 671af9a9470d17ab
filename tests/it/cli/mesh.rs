//! Meshes out of files, and several of them side by side.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use anyhow::{Context, Result, ensure};
use bootstrap::deployment::{Deployment, Directory};
use bootstrap::meshfile::Draft;
use bootstrap::settings::{Raw, Settings};
use hardware::{Accel, DeploymentId};
use mesh::{BlockNumber, Machine, MachineId, Role};
use serde_json::Value;

use super::Desk;

const SMALL: &str = "apiVersion: meshboot.io/v1alpha1\nkind: Mesh\nmachines:\n- role: seed\n- name: big\n  memory: 1GiB\n  \
                     labels: {size: big}\n- count: 2\n  memory: 512MiB\ntopology: ring\n";

impl Desk {
    pub(super) fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.directory.path().join(name);
        fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    }

    fn says(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        let says = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?} ended with {} and said {says}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    fn feed(&self, arguments: &[&str], text: &str) -> Result<Output> {
        let mut command = self.command(arguments);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn()?;
        child.stdin.take().context("it has a standard input")?.write_all(text.as_bytes())?;
        Ok(child.wait_with_output()?)
    }
}

/// The files of a mesh that was deployed, without its machines: what verbs that only read need.
pub(crate) fn deployed(place: &Path, text: &str) -> Result<(Directory, Deployment, Settings)> {
    let draft = Draft::parse("mesh.yaml", text);
    let raw = draft.settings_over(Raw::default());
    let (plan, settings) = draft.plan(draft.name().iter().fold(raw, |raw, name| name.settings_under(raw)))?;
    let id = DeploymentId::random();
    let seed = Machine {
        id: MachineId(id.0),
        name: "seed".parse()?,
        role: Role::Seed,
        block: BlockNumber(1),
        router_id: 1.try_into()?,
        ports: Vec::new(),
    };
    let mut deployment = Deployment::new(id, id.to_string().parse()?, settings.addresses.clone(), seed);
    deployment.add(&plan.wanted, Accel::Tcg);
    deployment.profile.clone_from(&plan.name);
    deployment.kubernetes = Some("v1.34.2".parse()?);
    deployment.mark_complete();
    let directory = Directory::new(place)?;
    directory.save(&deployment)?;
    directory.write("settings.toml", plan.settings.to_toml())?;
    Ok((directory, deployment, settings))
}

#[test]
fn every_mistake_of_a_mesh_is_told_with_its_line() -> Result<()> {
    let desk = Desk::new()?;
    let text = SMALL
        .replace("memory: 1GiB", "memroy: 1GiB")
        .replace("topology: ring", "cables: [seed - big, big - x]");
    let file = desk.file("mesh.yaml", &text)?;
    let words =
        ["2 mistakes", "mesh.yaml:6:3:", "did you mean memory?", "mesh.yaml:10:22:", "no machine `x`"];
    desk.refuses(&["deploy", "-f", &file], 78, &words)?;
    desk.refuses(&["deploy", "libvirt", "-f", &file, "--dry-run"], 78, &words)?;
    let output = desk.feed(&["deploy", "-f", "-"], &text)?;
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(78) && says.contains("<stdin>:6:3:"), "{says}");

    let newer = desk.file("newer.yaml", &SMALL.replace("v1alpha1", "v1"))?;
    desk.refuses(&["deploy", "-f", &newer], 78, &["meshboot.io/v1`", "knows meshboot.io/v1alpha1"])?;
    desk.refuses(&["deploy", "-f", "absent.yaml"], 78, &["absent.yaml"])
}

#[test]
fn a_file_or_flags_say_what_machines_are() -> Result<()> {
    let desk = Desk::new()?;
    let file = desk.file("mesh.yaml", SMALL)?;
    desk.refuses(&["deploy"], 64, &["libvirt", "--file"])?;
    desk.refuses(&["deploy", "-p", "lab"], 64, &["libvirt", "-f FILE"])?;
    // What is for every verb stands before or after any word.
    let line = ["deploy", "-p", "lab", "libvirt", "1", "--memory", "512MiB", "--dry-run"];
    let after = ["deploy", "libvirt", "1", "--memory", "512MiB", "--dry-run", "-p", "lab"];
    ensure!(desk.says(&line)? == desk.says(&after)?);
    desk.refuses(&["deploy", "libvirt", "2", "-f", &file], 64, &["cannot be used with"])?;
    desk.refuses(&["deploy", "-f", &file, "libvirt", "2"], 64, &["cannot be used with", "after that word"])?;
    desk.refuses(&["deploy", "--timeout", "5m", "libvirt", "2"], 64, &["cannot be used with"])?;
    desk.refuses(&["deploy", "libvirt", "-f", &file, "--memory", "1GiB"], 64, &["cannot be used with"])?;
    desk.refuses(
        &["deploy", "libvirt", "2", "--label", "node9:a=b", "--ports", "0"],
        78,
        &["2 mistakes", "--label", "--ports"],
    )?;
    desk.refuses(&["deploy", "libvirt", "2", "--topology", "star"], 78, &["--topology", "grid"])?;
    desk.refuses(&["deploy", "libvirt", "7", "--topology", &file], 64, &["3 machines", "7"])?;
    desk.refuses(&["deploy", "libvirt", "--topology", "ring"], 64, &["how many machines"])
}

#[test]
fn a_kubelet_that_does_not_go_with_the_mesh_is_refused_before_anything_is_made() -> Result<()> {
    let desk = Desk::new()?;
    let deploy = ["deploy", "libvirt", "2", "--dry-run", "--kubernetes", "v1.30.2", "--kubernetes-version"];
    let allowed = "v1.27.0 to v1.30.2";
    for (kubelet, words) in [
        ("v1.31.0", ["--kubernetes-version", "newer than the mesh's Kubernetes v1.30.2", allowed]),
        ("node1:v1.30.3", ["--kubernetes-version", "newer", allowed]),
        ("v1.26.15", ["--kubernetes-version", "too old for the mesh's Kubernetes v1.30.2", allowed]),
        ("new", ["--kubernetes-version", "`new` is not a version", "vMAJOR.MINOR.PATCH"]),
        ("node9:v1.30.0", ["--kubernetes-version", "no machine `node9`", "node1"]),
    ] {
        desk.refuses(&[&deploy[..], &[kubelet]].concat(), 78, &words)?;
    }
    let both = ["v1.31.0", "--kubernetes-version", "node1:v1.20.0", "--label", "a"];
    desk.refuses(&[&deploy[..], &both].concat(), 78, &["3 mistakes", "v1.31.0", "v1.20.0", "--label"])?;
    for kubelet in ["v1.30.2", "node1:v1.27.0", "seed:v1.29.9"] {
        ensure!(desk.says(&[&deploy[..], &[kubelet]].concat())?.contains("+ machine node1"));
    }
    let text = SMALL.replace("  memory: 1GiB", "  kubernetesVersion: v1.26.9\n  memory: 1GiB");
    let text = format!(
        "{text}defaults: {{kubernetesVersion: 1.28}}\nsettings: {{kubernetes: {{source: v1.30.2}}}}\n"
    );
    let file = desk.file("mesh.yaml", &text)?;
    let words =
        ["2 mistakes", "mesh.yaml:6:22: kubernetesVersion: a kubelet v1.26.9 is too old", "not a text"];
    desk.refuses(&["deploy", "-f", &file], 78, &words)?;
    // It is what the mesh has that counts, where the source does not name it.
    deployed(&desk.cluster(), SMALL)?;
    let output = desk.run(&["node", "add", "--kubernetes-version", "v1.35.0"])?;
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(64) && says.contains("v1.31.0 to v1.34.2"), "{says}");
    Ok(())
}

#[test]
fn a_kubelet_of_a_mesh_that_runs_is_another_thing_to_do_only_if_it_is_another() -> Result<()> {
    let desk = Desk::new()?;
    deployed(&desk.cluster(), SMALL)?;
    let with = |version: &str| {
        SMALL.replace("  memory: 1GiB", &format!("  kubernetesVersion: {version}\n  memory: 1GiB"))
    };
    let dry_run = |version: &str| -> Result<Output> {
        let file = desk.file("mesh.yaml", &with(version))?;
        desk.run(&["deploy", "-f", &file, "--dry-run"])
    };
    let said = |output: Output| {
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned())
    };
    let [same, _] = said(dry_run("v1.34.2")?);
    ensure!(same == "nothing differs\n", "{same}");
    let [older, _] = said(dry_run("v1.33.7")?);
    ensure!(older.starts_with("~ big: kubernetesVersion the mesh's -> v1.33.7; its power is cut"), "{older}");
    let newer = dry_run("v1.35.0")?;
    ensure!(newer.status.code() == Some(78));
    let [_, newer] = said(newer);
    ensure!(newer.contains("big: a kubelet v1.35.0 is newer than the mesh's Kubernetes v1.34.2"), "{newer}");

    fs::remove_dir_all(desk.cluster())?;
    deployed(&desk.cluster(), &with("v1.33.7"))?;
    ensure!(desk.says(&["config", "show"])?.contains("  kubernetesVersion: v1.33.7\n"));
    let [back, _] = said(dry_run("v1.34.2")?);
    ensure!(back.starts_with("~ big: kubernetesVersion v1.33.7 -> the mesh's; its power is cut"), "{back}");
    Ok(())
}

#[test]
fn a_dry_run_says_what_would_be_made_and_makes_nothing() -> Result<()> {
    let desk = Desk::new()?;
    let file = desk.file("mesh.yaml", SMALL)?;
    let of_file = desk.says(&["deploy", "-f", &file, "--dry-run"])?;
    for line in [
        "+ machine seed of 3GiB",
        "+ machine big of 1GiB",
        "+ machine node2 of 512MiB",
        "+ cable seed:0 - big:0",
    ] {
        ensure!(of_file.lines().any(|said| said == line), "{line} is missing in {of_file}");
    }
    let flags = ["deploy", "libvirt", "--dry-run", "--topology", &file];
    ensure!(desk.says(&flags)? == of_file, "another mesh from the same machines and cables");
    let json = desk.says(&["-o", "json", "deploy", "-f", &file, "--dry-run"])?;
    let told: Value = serde_json::from_str(&json)?;
    ensure!(
        told["event"] == "changes"
            && told["dry_run"] == true
            && told["changes"][0]["change"] == "add-machine"
    );
    let large = desk.file("large.yaml", &SMALL.replace("512MiB", "1TiB"))?;
    desk.refuses(
        &["deploy", "-f", &large, "--dry-run"],
        69,
        &["not enough memory", "the seed and 1 of them would fit"],
    )?;
    ensure!(!desk.cluster().exists());
    Ok(())
}

#[test]
fn what_is_shown_is_what_runs() -> Result<()> {
    let desk = Desk::new()?;
    desk.refuses(&["config", "show"], 69, &["no deployment"])?;
    deployed(&desk.cluster(), SMALL)?;
    let shown = desk.says(&["config", "show"])?;
    let file = desk.file("shown.yaml", &shown)?;
    ensure!(desk.says(&["deploy", "-f", &file, "--dry-run"])? == "nothing differs\n");
    ensure!(
        desk.says(&["deploy", "-f", &desk.file("as-written.yaml", SMALL)?, "--dry-run"])?
            == "nothing differs\n"
    );

    let other =
        desk.file("other.yaml", &SMALL.replace("size: big", "size: huge").replace("count: 2", "count: 3"))?;
    let told = desk.says(&["deploy", "-f", &other, "--dry-run"])?;
    for line in ["+ machine node3 of 512MiB", "- cable seed:1 - node2:0", "~ big: label size=huge, at once"] {
        ensure!(told.lines().any(|said| said == line), "{line} is missing in {told}");
    }
    let impossible = SMALL.replace("kind: Mesh\n", "kind: Mesh\nsettings: {netboot: {https: true}}\n");
    let impossible = desk.file("impossible.yaml", &impossible.replace("memory: 1GiB", "disk: 20GiB"))?;
    for dry_run in [&["--dry-run"][..], &[]] {
        let output = desk.run(&[&["deploy", "-f", &impossible][..], dry_run].concat())?;
        let (told, says) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        ensure!(output.status.code() == Some(78), "{says}");
        ensure!(
            told.contains("! settings.netboot.https: false -> true")
                && told.contains("! big: disk 10GiB -> 20GiB")
        );
        ensure!(says.contains("2 of these changes") && says.contains("teardown"), "{says}");
    }
    Ok(())
}

#[test]
fn a_profile_has_a_directory_and_addresses_of_its_own() -> Result<()> {
    let desk = Desk::new()?;
    desk.refuses(&["-p", "Lab", "status"], 64, &["cannot name a mesh"])?;
    desk.refuses(&["-p", "lab", "status"], 69, &["cluster-lab"])?;
    let file = desk.file("mesh.yaml", &format!("name: lab\n{SMALL}"))?;
    deployed(&desk.directory.path().join("cluster-lab"), &format!("name: lab\n{SMALL}"))?;
    // In its own directory, and with the addresses that its name gives it.
    ensure!(desk.says(&["deploy", "-f", &file, "--dry-run"])? == "nothing differs\n");
    ensure!(desk.says(&["-p", "lab", "config", "show"])?.contains("name: lab\n"));
    let other = desk.says(&["-p", "other", "deploy", "-f", &file, "--dry-run"])?;
    ensure!(other.starts_with("+ machine seed"), "another profile is another mesh: {other}");
    ensure!(!desk.cluster().exists());
    Ok(())
}

#[test]
fn every_mesh_is_listed_with_and_without_libvirt() -> Result<()> {
    let desk = Desk::with_programs(&[])?;
    ensure!(desk.says(&["list"])?.contains("no mesh"));
    deployed(&desk.cluster(), SMALL)?;
    deployed(&desk.directory.path().join("cluster-lab"), &format!("name: lab\n{SMALL}"))?;
    fs::create_dir(desk.directory.path().join("clusters"))?;
    let text = desk.says(&["list"])?;
    ensure!(text.lines().filter(|line| line.contains("complete")).count() == 2, "{text}");
    ensure!(
        text.contains("lab ") && text.contains("https://[fd") && text.contains("libvirt does not answer"),
        "{text}"
    );
    let list: Value = serde_json::from_str(&desk.says(&["-o", "json", "list"])?)?;
    let meshes = list["meshes"].as_array().context("there is a list")?;
    ensure!(
        meshes.len() == 2 && meshes.iter().all(|mesh| mesh["machines"] == 4 && mesh["running"].is_null()),
        "{list}"
    );
    Ok(())
}
