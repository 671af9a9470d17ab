//! `meshboot image`: what the operator gives to seeds, in and out again.

use std::io::Write as _;
use std::process::Stdio;

use images::catalog::{Artefact, Catalog};
use images::oci::{Compression, busybox};
use images::sbom::Package;
use images::store::{Digest, Reference, Store};
use serde_json::Value;

use super::*;
use crate::registry::Served;
use crate::registry::pull::{Elsewhere, PASSWORD, USER};

/// Where Debian's `busybox-static` is.
const BUSYBOX: &str = "/bin/busybox";

/// An archive with one image, and the image's name.
fn archive(desk: &Desk) -> Result<(PathBuf, String)> {
    let store = Store::open(desk.directory.path().join("elsewhere"))?;
    let name: Reference = busybox::NAME.parse()?;
    busybox::image(Path::new(BUSYBOX))?.assemble_as(&name, &store, Compression::default())?;
    let path = desk.directory.path().join("busybox.tar");
    images::save::save(&store, std::slice::from_ref(&name), fs::File::create(&path)?)?;
    Ok((path, name.to_string()))
}

/// Runs it and gives the result that it told as JSON.
fn result(desk: &Desk, arguments: &[&str]) -> Result<Value> {
    let output = desk.run(&[&["-o", "json", "image"], arguments].concat())?;
    let says = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{arguments:?}: {says}{}", String::from_utf8_lossy(&output.stderr));
    let events = says.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let result = events.into_iter().find(|event| event["event"] == "result");
    result.with_context(|| format!("{arguments:?} tells no result: {says}"))
}

#[test]
fn images_are_loaded_listed_saved_verified_and_removed() -> Result<()> {
    let desk = Desk::new()?;
    let (archive, name) = archive(&desk)?;
    let mut load = desk.command(&["image", "load", "-"]);
    let mut load = load.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    load.stdin.take().context("no input")?.write_all(&fs::read(&archive)?)?;
    ensure!(load.wait()?.success(), "an archive by standard input");

    let listed = result(&desk, &["list"])?;
    ensure!(
        listed["images"][0]["reference"] == name.as_str() && listed["images"][0]["size"].is_u64(),
        "{listed}"
    );
    ensure!(String::from_utf8(desk.run(&["image", "list"])?.stdout)?.contains(&name));
    let verified = result(&desk, &["verify"])?;
    ensure!(verified["checked"]["wrong"] == Value::Array(Vec::new()), "{verified}");
    // Out again as it came, to a file and to standard output.
    result(&desk, &["save", &name, "--to", "again.tar"])?;
    let again = fs::read(desk.directory.path().join("again.tar"))?;
    ensure!(again == fs::read(&archive)?, "another archive");
    ensure!(desk.run(&["image", "save", &name])?.stdout == again);
    // Where no octet goes in, no archive comes of it.
    let full = fs::File::create("/dev/full")?;
    let output = desk.command(&["image", "save", &name]).stdout(full).output()?;
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(74) && says.contains("No space left"), "{} {says}", output.status);

    desk.refuses(&["image", "rm", "docker.io/library/none:v1"], 65, &["was not loaded", "image list"])?;
    desk.refuses(&["image", "save", "docker.io/library/none:v1"], 65, &["not in the store"])?;
    desk.refuses(&["image", "rm", "No Name"], 64, &["No Name"])?;
    // A damaged blob is told with its image, and loading again mends both.
    let blobs = desk.directory.path().join(".cache/meshboot/store/blobs/sha256");
    let mut entries = fs::read_dir(&blobs)?.flatten().collect::<Vec<_>>();
    entries.sort_by_key(|entry| entry.metadata().map(|metadata| metadata.len()).unwrap_or_default());
    let layer = entries.pop().context("no blobs")?.path();
    fs::remove_file(&layer)?;
    fs::write(&layer, "other")?;
    desk.refuses(&["image", "verify"], 65, &["others than its name says", &name, "load the images again"])?;
    result(&desk, &["load", &archive.to_string_lossy()])?;
    result(&desk, &["verify"])?;
    let removed = result(&desk, &["rm", &name])?;
    ensure!(removed["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{removed}");
    ensure!(fs::read_dir(&blobs)?.next().is_none(), "blobs are left");
    ensure!(result(&desk, &["list"])?["images"] == Value::Array(Vec::new()));
    Ok(())
}

#[test]
fn what_is_no_image_is_refused_and_nothing_of_it_stays() -> Result<()> {
    let desk = Desk::new()?;
    let (archive, _) = archive(&desk)?;
    let whole = fs::read(archive)?;
    for (name, bytes, words) in [
        ("half.tar", &whole[..whole.len() / 2], "truncated"),
        ("text.tar", &b"no archive at all"[..], "no tar archive"),
    ] {
        fs::write(desk.directory.path().join(name), bytes)?;
        desk.refuses(&["image", "load", name], 65, &[name, words])?;
    }
    ensure!(result(&desk, &["list"])?["images"] == Value::Array(Vec::new()));
    let verified = result(&desk, &["verify"])?;
    ensure!(verified["checked"]["blobs"] == 0, "{verified}");
    Ok(())
}

/// As `meshboot image build` leaves it, of files that nobody boots.
fn catalog(desk: &Desk) -> Result<()> {
    let folder = desk.directory.path().join(".cache/meshboot/images/one");
    fs::create_dir_all(&folder)?;
    let artefact = |name: &str| -> Result<Artefact> {
        let path = folder.join(name);
        fs::write(&path, name)?;
        let (sha256, size) = Digest::of_file(&path)?;
        Ok(Artefact { sha256, size, path })
    };
    let catalog = Catalog {
        id: "one".to_owned(),
        boot: "fd65:7b9c:569:680::b007".parse()?,
        root: artefact("root")?,
        layer: artefact("layer")?,
        node_uki: artefact("node.efi")?,
        seed_uki: artefact("seed.efi")?,
        kubernetes: "v1.20.2".to_owned(),
        kubernetes_source: "debian".to_owned(),
        kubectl: folder.join("kubectl"),
        kubeadm: folder.join("kubeadm"),
        suite: "trixie".to_owned(),
        kernel: "6.12.0".to_owned(),
        store: desk.directory.path().join(".cache/meshboot/store"),
        images: vec!["registry.k8s.io/pause:3.2".parse()?],
        missing_images: vec!["registry.k8s.io/coredns:1.7.0".parse()?],
    };
    catalog.write(&folder)?;
    Ok(())
}

#[test]
fn what_is_missing_is_pulled_once_and_needs_no_registry_then() -> Result<()> {
    let desk = Desk::new()?;
    desk.refuses(&["image", "missing"], 65, &["not made yet", "image build"])?;
    catalog(&desk)?;
    Store::open(desk.directory.path().join(".cache/meshboot/store"))?;
    let served = Served::start();
    let mut elsewhere = Elsewhere::start();
    let login = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("{USER}:{PASSWORD}"));
    fs::write(
        desk.directory.path().join("login.json"),
        serde_json::json!({ "auths": { "registry.k8s.io": { "auth": login } } }).to_string(),
    )?;
    fs::write(
        desk.directory.path().join("meshboot.toml"),
        format!(
            "[mirrors]\nendpoints = [\"registry.k8s.io=http://{}\"]\ncredentials = \"login.json\"\n",
            elsewhere.address
        ),
    )?;
    for image in ["pause:3.2", "coredns:1.7.0"] {
        elsewhere.push(&served, "library/busybox:latest", image);
    }
    let missing = |listed: &Value| -> Vec<String> {
        let all = listed["missing"].as_array().into_iter().flatten();
        all.filter_map(|one| one["image"].as_str().map(str::to_owned)).collect()
    };
    let names = ["registry.k8s.io/pause:3.2", "registry.k8s.io/coredns:1.7.0"];
    ensure!(missing(&result(&desk, &["missing"])?) == names);
    let pulled = result(&desk, &["pull", names[0], names[1]])?;
    ensure!(pulled["pulled"][1]["digest"] == served.images[0].1.digest.to_string(), "{pulled}");
    ensure!(missing(&result(&desk, &["missing"])?).is_empty());
    // Again: what the name is now.
    elsewhere.push(&served, "library/busybox:plain", "coredns:1.7.0");
    let pulled = result(&desk, &["pull", names[1]])?;
    ensure!(pulled["pulled"][0]["digest"] == served.images[1].1.digest.to_string(), "{pulled}");
    desk.refuses(
        &["image", "pull", "registry.k8s.io/none:v1"],
        69,
        &["cannot pull registry.k8s.io/none:v1"],
    )?;

    elsewhere.stop();
    result(&desk, &["save", names[1], "--to", "saved.tar"])?;
    desk.refuses(&["image", "pull", names[0], "registry.k8s.io/other:v1"], 69, &["cannot pull"])?;
    // It is one of those that go onto a seed's disk, and no more once it was removed.
    result(&desk, &["rm", names[0]])?;
    ensure!(missing(&result(&desk, &["missing"])?) == names[..1]);
    fs::write(desk.directory.path().join("meshboot.toml"), "[mirrors]\nask = \"nobody\"\n")?;
    desk.refuses(&["image", "pull", names[0]], 78, &["no registry is asked", "image load"])?;
    Ok(())
}

#[test]
fn what_an_image_is_made_of_is_told_with_licences_and_sources() -> Result<()> {
    let desk = Desk::new()?;
    catalog(&desk)?;
    desk.refuses(&["image", "sbom"], 65, &["packages.json", "image build"])?;
    let package = Package {
        name: "bash".to_owned(),
        version: "5.2.37-2+b5".to_owned(),
        architecture: "amd64".to_owned(),
        source: "bash".to_owned(),
        source_version: "5.2.37-2".to_owned(),
        licences: ["GPL-3+".to_owned()].into(),
    };
    let path = desk.directory.path().join(".cache/meshboot/images/one/packages.json");
    fs::write(path, serde_json::to_vec(&[package])?)?;
    let said = String::from_utf8(desk.run(&["image", "sbom"])?.stdout)?;
    let line = "bash 5.2.37-2+b5  https://snapshot.debian.org/package/bash/5.2.37-2/  GPL-3+";
    ensure!(said.trim() == line, "{said}");
    let document: Value = serde_json::from_slice(&desk.run(&["image", "sbom", "--spdx"])?.stdout)?;
    let names = document["packages"].as_array().into_iter().flatten().map(|package| &package["name"]);
    ensure!(
        document["spdxVersion"] == "SPDX-2.3" && names.eq(["meshboot", "kubernetes", "bash"]),
        "{document}"
    );
    Ok(())
}
