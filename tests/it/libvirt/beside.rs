//! Two meshes on one computer: their machines are blank, all else is as `deploy` makes it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bootstrap::deploy::check;
use bootstrap::deployment::{Deployment, Directory};
use bootstrap::progress::Reporter;
use bootstrap::settings::Settings;
use bootstrap::teardown;
use hardware::daemon::{self, Ensured};
use hardware::firmware::Firmware;
use hardware::virsh::DomainState;
use hardware::{Libvirt, MachineNumber, Plan};
use serde_json::Value;
use tests::answers;

use super::{is_installed, remains};
use crate::cli::binary;
use crate::cli::mesh::deployed;

/// One of the two.
struct Mesh {
    directory: Directory,
    settings: Settings,
    deployment: Deployment,
    plan: Plan,
}

impl Mesh {
    /// A mesh of this name as its record has it; nothing of it is made.
    fn new(place: &Path, name: &str, libvirt: Option<Ensured>) -> Result<Self> {
        let text = format!(
            "apiVersion: meshboot.io/v1alpha1\nkind: Mesh\nname: {name}\nmachines:\n- {{role: seed, memory: 512MiB}}\n- \
             {{memory: 512MiB, disk: 1GiB}}\n"
        );
        let (directory, mut deployment, settings) = deployed(&place.join(format!("cluster-{name}")), &text)?;
        deployment.libvirt = libvirt;
        directory.save(&deployment)?;
        let firmware = Firmware::find().context("OVMF is installed")?;
        let plan = Plan::new(&deployment.spec(&directory, &settings.libvirt, firmware));
        Ok(Self { directory, settings, deployment, plan })
    }

    async fn make(&self, libvirt: &Libvirt) -> Result<()> {
        let seed = self.plan.domains().next().context("there is a seed")?;
        std::fs::create_dir_all(seed.disk.parent().context("the disk is in a directory")?)?;
        std::fs::File::create(&seed.disk)?.set_len(1 << 20)?;
        for object in &self.plan.objects {
            libvirt.make(&self.plan, object).await?;
        }
        Ok(libvirt.virsh.start_domain(&seed.name).await?)
    }

    async fn is_whole(&self, libvirt: &Libvirt) -> Result<()> {
        let (domains, networks) = (libvirt.virsh.domains().await?, libvirt.virsh.running_networks().await?);
        ensure!(self.plan.domains().all(|domain| domains.contains(&domain.name)), "machines are gone");
        ensure!(self.plan.networks().all(|network| networks.contains(&network.name)), "cables are gone");
        let seed = self.deployment.machine(MachineNumber::SEED).context("there is a seed")?;
        let state = libvirt.virsh.state(&self.deployment.domain(seed)).await?;
        ensure!(state == DomainState::Running, "the seed is {state}");
        ensure!(self.directory.load()?.is_some(), "the record is gone");
        Ok(())
    }
}

/// What `meshboot list` says of the meshes below a directory.
fn listed(place: &Path) -> Result<Vec<Value>> {
    let words = ["-o", "json", "list"];
    let output = Command::new(binary()).args(words).current_dir(place).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    answers::are_published(&words, &output.stdout)?;
    let list: Value = serde_json::from_slice(&output.stdout)?;
    let place = place.canonicalize()?.display().to_string();
    let meshes = list["meshes"].as_array().context("there is a list")?;
    let ours =
        meshes.iter().filter(|mesh| mesh["directory"].as_str().is_some_and(|path| path.starts_with(&place)));
    Ok(ours.cloned().collect())
}

async fn beside_each_other(
    libvirt: &Libvirt,
    started: &Ensured,
    place: &Path,
    (one, two): (&Mesh, &Mesh),
) -> Result<()> {
    one.make(libvirt).await.context("making the first")?;
    check::no_conflict(libvirt, &two.directory, &two.settings).await.map_err(|failure| failure.error)?;
    let refused = check::no_conflict(libvirt, &two.directory, &one.settings).await;
    let said = refused.err().context("two meshes with the same addresses are not refused")?;
    for word in [
        "libvirt.host-v4",
        "libvirt.host-v6",
        "addresses.anycast",
        "addresses.machines",
        one.directory.text(),
    ] {
        ensure!(said.message().contains(word), "{word} is missing in {}", said.message());
    }
    ensure!(said.next.is_some_and(|next| next.contains("-p NAME")));
    two.make(libvirt).await.context("making the second")?;

    let meshes = listed(place)?;
    ensure!(meshes.len() == 2, "{meshes:?}");
    for (mesh, name) in meshes.iter().zip(["tests-one", "tests-two"]) {
        ensure!(mesh["profile"] == name && mesh["state"] == "complete", "{mesh}");
        ensure!(mesh["machines"] == 2 && mesh["running"] == 1, "{mesh}");
    }

    let removed =
        teardown::run(&one.directory, &Reporter::silent()).await.map_err(|failure| failure.error)?;
    ensure!(removed.domains.len() == 2 && removed.networks.len() == 3, "{removed:?}");
    let left = remains(one.deployment.id)?;
    ensure!(left.is_empty() && !one.directory.path().exists(), "left behind: {left:?}");
    libvirt.virsh.version().await.context("libvirt was stopped, and the other mesh is in it")?;
    two.is_whole(libvirt).await.context("the other mesh")?;
    let kept = two.directory.load()?.and_then(|known| known.libvirt);
    // Where libvirt runs anyway there is nothing to hand over.
    let ran = started.started == daemon::Started::Already;
    let nothing = ran && !started.made_network_state && started.kvm_before.is_none();
    ensure!(
        nothing || kept.as_ref() == Some(started),
        "what was done for the first is not the second's to undo: {kept:?}"
    );

    // Off and with its cables down, as after a start of this computer, the other is still libvirt's to know.
    let seed = two.deployment.machine(MachineNumber::SEED).context("there is a seed")?;
    libvirt.power_off(&two.deployment.domain(seed)).await?;
    for network in two.plan.networks() {
        libvirt.virsh.destroy_network(&network.name).await?;
    }
    let again = Mesh::new(place, "tests-one", Some(started.clone()))?;
    again.make(libvirt).await.context("making the first again")?;
    let removed =
        teardown::run(&again.directory, &Reporter::silent()).await.map_err(|failure| failure.error)?;
    ensure!(removed.undone.is_empty() && removed.networks.len() == 3, "{removed:?}");
    libvirt.virsh.version().await.context("libvirt was stopped, and the other mesh is defined in it")?;

    // A mesh whose files are lost is still found, and can be removed.
    std::fs::remove_dir_all(two.directory.path())?;
    let meshes = listed(place)?;
    ensure!(
        meshes.len() == 1 && meshes[0]["state"] == "files-lost" && meshes[0]["machines"] == 2,
        "{meshes:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_meshes_side_by_side_leave_each_other_alone() -> Result<()> {
    if !is_installed() {
        return Ok(());
    }
    let libvirt = Libvirt::default();
    let started = daemon::ensure(&libvirt.virsh).await?;
    let temporary = tempfile::tempdir()?;
    let place = temporary.path();
    // The first found libvirt as it was; the second came when it answered.
    let one = Mesh::new(place, "tests-one", Some(started.clone()))?;
    let two = Mesh::new(place, "tests-two", None)?;
    let used = beside_each_other(&libvirt, &started, place, (&one, &two)).await;
    let mut left = Vec::new();
    for mesh in [&one, &two] {
        let torn = teardown::run(&mesh.directory, &Reporter::silent()).await;
        torn.map_err(|failure| failure.error).context("tearing it down")?;
        left.extend(remains(mesh.deployment.id)?);
    }
    daemon::stop_if_unused(&libvirt.virsh, &started).await;
    used?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}
