//! Machines that boot images of their own: told of them by whoever serves them, the seed or a relay that has not got them yet.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use images::store::Digest;
use mesh::{AddressPlan, BlockNumber};
use serde_json::{Value, json};
use tests::firmware;
use tests::netns::Namespace;

use super::lab::{Lab, NEAR};
use super::served::{far_mac, near_mac};
use crate::cli::binary;
use crate::cli::explain::settings;

/// The machine with images of its own.
const OWN: &str = "00112233-4455-6677-8899-aabbccddeeff";
/// What it calls itself, as EDK2 makes a DUID of an SMBIOS UUID.
const OWN_DUID: [u8; 18] =
    [0, 4, 0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
/// Another machine.
const OTHER_DUID: [u8; 18] = [0, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];
const PATIENCE: Duration = Duration::from_secs(10);

/// The real service of a machine; it ends with this value.
struct Gateway(Child);

impl Gateway {
    fn start(lab: &Lab, machine: &Namespace, folder: &Path, settings: &Value) -> Result<Self> {
        let path = folder.join("gateway.json");
        fs::write(&path, settings.to_string())?;
        let log = File::options().append(true).create(true).open(lab.path("output"))?;
        let mut command = Command::new(binary());
        command.arg("--settings").arg(path).arg("gateway").stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        Ok(Self(machine.network()?.enter(move || command.spawn())??))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Fails only when it is already gone.
        let _gone = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Files by their digests, as a seed's disk has them.
struct Files(PathBuf);

impl Files {
    /// Puts a file there, and says how settings name it.
    fn put(&self, what: &str) -> Result<Value> {
        let octets = what.repeat(10_000);
        let digest = Digest::of(&octets).hex();
        fs::write(self.0.join(&digest), &octets)?;
        Ok(json!({ "sha256": digest, "size": octets.len() }))
    }

    fn set(&self, whose: &str) -> Result<Value> {
        let file = |what: &str| self.put(&format!("{whose} {what};"));
        Ok(json!({ "uki": { "x64": file("uki")? }, "root": file("root")?, "layer": file("layer")? }))
    }
}

/// What firmware is told to load, that asks through a port of a machine.
fn told(machine: &Namespace, port: &'static str, duid: [u8; 18]) -> Result<String> {
    let given = machine.network()?.enter(move || firmware::boot(port, &duid, 1, PATIENCE))?;
    Ok(given.map(|given| given.url).unwrap_or_default())
}

/// The name of the boot file that is the machine's own.
fn own_file(own: &Value) -> String {
    format!("node-x64-{}.efi", &own["uki"]["x64"]["sha256"].as_str().unwrap()[..16])
}

fn get(machine: &Namespace, url: &str) -> Result<Vec<u8>> {
    let out = tempfile::NamedTempFile::new()?;
    let path = out.path().to_string_lossy().into_owned();
    machine.run("curl", &["-gsSf", "--max-time", "20", "-o", &path, url])?;
    Ok(fs::read(out.path())?)
}

/// Each file of a set is there; the first by this name.
fn has_all(machine: &Namespace, near: &str, boot_file: &str, set: &Value) -> Result<()> {
    let artefact = |file: &Value| (format!("artefacts/{}", file["sha256"].as_str().unwrap()), file.clone());
    let uki = (format!("boot/{boot_file}"), set["uki"]["x64"].clone());
    for (path, file) in [uki, artefact(&set["root"]), artefact(&set["layer"])] {
        let octets = get(machine, &format!("http://[{near}]/{path}"))?;
        ensure!(Digest::of(&octets).hex() == file["sha256"].as_str().unwrap(), "{path} is another file");
    }
    Ok(())
}

#[test]
fn a_machine_boots_its_own_images_by_the_seed_and_by_a_relay_that_fetches_them() -> Result<()> {
    let lab = Lab::without_cable("own")?;
    lab.plug()?;
    let [near, far] = ["seed", "relay"].map(|name| PathBuf::from(lab.path(name)));
    fs::create_dir(&near)?;
    fs::create_dir(&far)?;
    let files = Files(near.clone());
    let (usual, own) = (files.set("usual")?, files.set("own")?);
    let reservations = json!({ OWN: {
        "name": "trial", "spec": { "image": "0123456789abcdef" }, "boot": own,
    } });

    let mut seed = settings(&near, &[(near_mac(0), "near0".to_owned())]);
    seed["boot"] = usual.clone();
    seed["reservations"] = reservations.clone();
    seed["seed"] = json!({ "image_stores": [near.join("images")], "excluded": [] });
    let _seed = Gateway::start(&lab, &lab.near, &near, &seed)?;
    let usual_url = format!("tftp://[{NEAR}]/node-x64.efi");
    lab.wait_for("the seed's boot file", |lab| Ok(told(&lab.far, "far0", OTHER_DUID)? == usual_url))?;
    ensure!(told(&lab.far, "far0", OWN_DUID)? == format!("tftp://[{NEAR}]/{}", own_file(&own)));
    lab.configure_far()?;
    has_all(&lab.far, NEAR, "node-x64.efi", &usual)?;
    has_all(&lab.far, NEAR, &own_file(&own), &own)?;
    ensure!(get(&lab.far, &format!("http://[{NEAR}]/boot/node-x64-0000000000000000.efi")).is_err());

    // The machine at the far end serves the next one.
    let third = Namespace::start("own-third")?;
    let pid = third.pid().to_string();
    let mac = far_mac(1).to_string();
    let pair =
        ["link", "add", "far1", "address", &mac, "type", "veth", "peer", "name", "third0", "netns", &pid];
    lab.far.network()?.ip(&pair)?;
    third.run("sysctl", &["-q", "-w", "net.ipv6.conf.third0.accept_dad=0"])?;
    third.run("ip", &["link", "set", "third0", "up"])?;
    let mut relay = settings(&far, &[(far_mac(1), "far1".to_owned())]);
    relay["machine"]["name"] = "node1".into();
    relay["machine"]["block"] = 1.into();
    relay["machine"]["router_id"] = 2.into();
    relay["boot"] = usual;
    relay["reservations"] = reservations;
    relay["sources"] = json!([NEAR]);
    // It has a ledger of its own, as seeds have: a relay's is in Kubernetes, of which there is none here.
    relay["seed"] = json!({ "image_stores": [far.join("images")], "excluded": [] });
    let _relay = Gateway::start(&lab, &lab.far, &far, &relay)?;
    let block = AddressPlan::default().block(BlockNumber(1)).unwrap();
    let relay_near = block.link(0.try_into()?).near().to_string();
    lab.wait_for("the relay's boot file", |_| {
        Ok(told(&third, "third0", OTHER_DUID)? == format!("tftp://[{relay_near}]/node-x64.efi"))
    })?;
    let is_fetched = |file: &Value| {
        let sha256 = file["sha256"].as_str().unwrap();
        far.join("images/blobs/sha256").join(sha256).exists()
    };
    ensure!(!is_fetched(&own["uki"]["x64"]), "nobody asked for it yet");
    // It has them when they were asked for, and offers nothing before.
    let own_url = format!("tftp://[{relay_near}]/{}", own_file(&own));
    let mut before = Vec::new();
    lab.wait_for("the relay's boot file for one machine", |_| {
        let url = told(&third, "third0", OWN_DUID)?;
        let is_it = url == own_url;
        before.extend((!is_it).then_some(url));
        Ok(is_it)
    })?;
    ensure!(!before.is_empty() && before.iter().all(String::is_empty), "{before:?}");
    lab.wait_for("the rest", |_| Ok(is_fetched(&own["root"]) && is_fetched(&own["layer"])))?;
    Ok(())
}
