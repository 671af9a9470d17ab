//! The driver against the libvirt of this computer: two blank machines, one cable between them, nothing to
//! boot. Needs root, libvirt, QEMU and OVMF; where libvirt is not installed there is nothing to test.

mod beside;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hardware::firmware::Firmware;
use hardware::plan::{Object, Size, Uplink};
use hardware::process::{Invocation, find};
use hardware::profile::MESH_PORTS;
use hardware::topology::cables;
use hardware::virsh::DomainState;
use hardware::{
    Accel, Cable, DeploymentId, End, Libvirt, MachineNumber, MachineSpec, Owner, Plan, Shape, Spec, daemon,
    host,
};

/// From power-on to the first attempt to boot from the network, in software, on a busy computer.
const FIRMWARE_LIMIT: Duration = Duration::from_secs(120);

fn is_installed() -> bool {
    host::is_root()
        && find("virsh").is_some()
        && Firmware::find().is_some()
        && find("qemu-system-x86_64").is_some()
}

fn blank(number: MachineNumber) -> MachineSpec {
    MachineSpec {
        number,
        name: number.usual_name(),
        size: Size { memory_mib: 256, cpus: 1 },
        disk: 1 << 20,
        ports: MESH_PORTS,
        comes_first: false,
    }
}

fn spec(directory: &Path, nodes: u16) -> Result<Spec> {
    Ok(Spec {
        owner: Owner {
            deployment: DeploymentId::random(),
            directory: directory.to_str().context("a test's directory is UTF-8")?.to_owned(),
        },
        machines: (0..=nodes).map(MachineNumber).map(blank).collect(),
        cables: cables(Shape::Line, nodes),
        accel: Accel::Tcg,
        firmware: Firmware::find().context("OVMF is installed")?,
        run_as: host::run_as(),
        // Not the default: a deployment may run on this computer.
        uplink: Uplink {
            host_v4: "172.30.255.1/30".parse()?,
            host_v6: "2001:db8:a0ff::1/64".parse()?,
            seed_v4: "172.30.255.2".parse()?,
            seed_v6: "2001:db8:a0ff::2".parse()?,
            routes: vec!["2001:db8:a0fe::/64".parse()?],
        },
    })
}

fn remains(id: DeploymentId) -> Result<Vec<String>> {
    let links = fs::read_dir("/sys/class/net")?.flatten().map(|entry| entry.file_name());
    let links = links.map(|name| name.to_string_lossy().into_owned());
    let mut found: Vec<String> = links.filter(|name| name.starts_with(&id.interface_prefix())).collect();
    for process in fs::read_dir("/proc")?.flatten() {
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&id.object_prefix()) {
            found.push(command);
        }
    }
    Ok(found)
}

async fn wait_for_text(console: &Path, text: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        let says = fs::read(console).unwrap_or_default();
        if String::from_utf8_lossy(&says).contains(text) {
            return Ok(());
        }
        ensure!(
            start.elapsed() < FIRMWARE_LIMIT,
            "no `{text}` on {} within {} s",
            console.display(),
            FIRMWARE_LIMIT.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn make_and_use(libvirt: &Libvirt, plan: &Plan) -> Result<()> {
    let seed_disk = plan.domains().find(|domain| domain.boots_from_disk).context("there is a seed")?;
    fs::create_dir_all(seed_disk.disk.parent().context("the disk is in a directory")?)?;
    fs::File::create(&seed_disk.disk)?.set_len(1 << 20)?;
    for object in &plan.objects {
        libvirt.make(plan, object).await?;
    }
    // An interrupted attempt is begun again, with networks that are defined and up or down.
    for (number, network) in plan.networks().enumerate() {
        if number == 0 {
            libvirt.virsh.destroy_network(&network.name).await?;
        }
        libvirt.make(plan, &Object::Network(network.clone())).await?;
        ensure!(libvirt.virsh.running_networks().await?.contains(&network.name));
    }
    let found = libvirt.survey().await?;
    let ours = found.iter().filter(|object| object.owner == plan.owner).count();
    ensure!(ours == plan.networks().count() + plan.domains().count(), "not every object says whose it is");

    for domain in plan.domains() {
        libvirt.virsh.start_domain(&domain.name).await?;
        ensure!(libvirt.virsh.state(&domain.name).await? == DomainState::Running);
    }
    let node = plan.domains().find(|domain| !domain.boots_from_disk).context("there is a node")?;
    // The boot entries written into its variables are the ones it tries, and IPv4 is not among them.
    wait_for_text(&node.console, "PXE over IPv6").await?;
    let says = String::from_utf8_lossy(&fs::read(&node.console)?).into_owned();
    ensure!(!says.contains("IPv4"), "the firmware tries IPv4: {says}");

    let port = node.ports.first().context("the node has ports")?;
    for up in [false, true] {
        libvirt.virsh.set_link(&node.name, &port.tap, up).await?;
        let ask = ["-q", "-c", "qemu:///system", "domif-getlink", &node.name, &port.tap];
        let answer = Invocation::new("virsh", Duration::from_secs(30)).args(ask).run().await?;
        ensure!(answer.contains(if up { "up" } else { "down" }), "the link is {answer}");
    }
    Ok(())
}

/// Removes what the plan made, twice, and says what is left of it.
async fn remove_twice(libvirt: &Libvirt, plan: &Plan) -> Result<Vec<String>> {
    let found = libvirt.survey().await?;
    for object in found.iter().filter(|object| plan.owner.owns(&object.owner)) {
        libvirt.remove(object).await?;
        libvirt.remove(object).await?;
    }
    // A bridge that libvirt knows nothing of, as one that was killed at the wrong time leaves it.
    let stray = format!("{}c9", plan.owner.deployment.interface_prefix());
    Invocation::new("ip", Duration::from_secs(10))
        .args(["link", "add", &stray, "type", "bridge"])
        .run()
        .await?;
    let swept = libvirt.sweep(plan.owner.deployment).await?;
    ensure!(swept == [stray], "swept away: {swept:?}");
    let mut left = remains(plan.owner.deployment)?;
    let objects = libvirt.virsh.domains().await?.into_iter().chain(libvirt.virsh.networks().await?);
    left.extend(objects.filter(|name| name.starts_with(&plan.owner.deployment.object_prefix())));
    Ok(left)
}

async fn exists(libvirt: &Libvirt, name: &str) -> Result<bool> {
    let domains = libvirt.virsh.domains().await?;
    Ok(domains.contains(name) && libvirt.virsh.networks().await?.contains(name))
}

/// The tap interfaces that are plugged into a bridge.
fn taps(bridge: &str) -> Result<BTreeSet<String>> {
    let ports = fs::read_dir(format!("/sys/class/net/{bridge}/brif"))?.flatten();
    Ok(ports.map(|port| port.file_name().to_string_lossy().into_owned()).collect())
}

async fn link_is_up(domain: &str, tap: &str) -> Result<bool> {
    let ask = ["-q", "-c", "qemu:///system", "domif-getlink", domain, tap];
    let answer = Invocation::new("virsh", Duration::from_secs(30)).args(ask).run().await?;
    Ok(answer.trim().ends_with("up"))
}

/// A third machine is plugged into the second one, which runs, and both ends of the cable are on one bridge.
async fn plug_in_another(libvirt: &Libvirt, spec: &Spec) -> Result<()> {
    let mut more = spec.clone();
    let number = MachineNumber(2);
    more.machines.push(MachineSpec { name: "third".to_owned(), ports: 2, ..blank(number) });
    let near = End { machine: MachineNumber(1), port: 1 };
    let cable = Cable { number: 2, near, far: End { machine: number, port: 0 } };
    more.cables.push(cable);
    let added = Plan::of_machine(&more, number);
    for object in &added.objects {
        libvirt.make(&added, object).await?;
    }
    let id = spec.owner.deployment;
    let (second, third) = (id.domain("node1"), id.domain("third"));
    libvirt.plug(&second, &more.mesh_port(near)).await?;
    ensure!(link_is_up(&second, &id.tap(near)).await?, "the near end has no carrier");
    libvirt.virsh.start_domain(&third).await?;
    let ends = BTreeSet::from(cable.ends().map(|end| id.tap(end)));
    let seen = taps(&id.cable_bridge(&cable))?;
    ensure!(seen == ends, "the cable joins {seen:?}");

    // For good: not only while it has power.
    libvirt.power_off(&second).await?;
    libvirt.virsh.start_domain(&second).await?;
    ensure!(taps(&id.cable_bridge(&cable))? == ends && link_is_up(&second, &id.tap(near)).await?);

    libvirt.plug(&second, &spec.mesh_port(near)).await?;
    ensure!(!link_is_up(&second, &id.tap(near)).await?, "a port without a cable has a carrier");
    ensure!(taps(&id.loose_bridge())?.contains(&id.tap(near)));
    Ok(())
}

/// A machine's memory is written, and it goes on where it was.
async fn keep_and_go_on(libvirt: &Libvirt, plan: &Plan, folder: &Path) -> Result<()> {
    let node = plan.domains().find(|domain| !domain.boots_from_disk).context("there is a node")?;
    let (virsh, memory) = (&libvirt.virsh, folder.join("node.memory"));
    virsh.suspend_domain(&node.name).await?;
    ensure!(virsh.state(&node.name).await? == DomainState::Other("paused".to_owned()));
    virsh.save_domain(&node.name, &memory).await?;
    ensure!(virsh.state(&node.name).await? == DomainState::Off);
    let before = fs::metadata(&node.console)?.len();
    virsh.restore_domain(&memory).await?;
    ensure!(virsh.state(&node.name).await? == DomainState::Other("paused".to_owned()));
    virsh.resume_domain(&node.name).await?;
    ensure!(virsh.state(&node.name).await? == DomainState::Running);
    // Firmware that was started anew would begin by clearing its console; one that goes on writes on.
    let start = Instant::now();
    while fs::metadata(&node.console)?.len() <= before {
        ensure!(start.elapsed() < FIRMWARE_LIMIT, "the machine that was put back is silent");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ensure!(memory.exists(), "it can be put back again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_are_plugged_in_and_kept_while_others_run() -> Result<()> {
    if !is_installed() {
        return Ok(());
    }
    let libvirt = Libvirt::default();
    let started = daemon::ensure(&libvirt.virsh).await?;
    let directory = tempfile::tempdir()?;
    let spec = spec(directory.path(), 1)?;
    let plan = Plan::new(&spec);
    let used = async {
        make_and_use(&libvirt, &plan).await.context("making and using the machines")?;
        plug_in_another(&libvirt, &spec).await.context("plugging in another")?;
        keep_and_go_on(&libvirt, &plan, directory.path()).await.context("keeping a machine")
    };
    let used = used.await;
    let left = remove_twice(&libvirt, &plan).await;
    daemon::stop_if_unused(&libvirt.virsh, &started).await;
    used?;
    let left = left.context("removing them")?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_blank_machines_come_and_go_and_nothing_else_is_touched() -> Result<()> {
    if !is_installed() {
        return Ok(());
    }
    let libvirt = Libvirt::default();
    let started = daemon::ensure(&libvirt.virsh).await?;
    let directory = tempfile::tempdir()?;

    // Somebody else's objects, with a name that looks like ours.
    let stranger = DeploymentId::random();
    let foreign = format!("{}foreign", stranger.object_prefix());
    let bridge = stranger.uplink_bridge();
    let network = format!("<network><name>{foreign}</name><bridge name='{bridge}' stp='off'/></network>");
    let domain = format!(
        "<domain type='qemu'><name>{foreign}</name><memory unit='MiB'>16</memory><os><type>hvm</type></os></domain>"
    );
    libvirt.virsh.define_network(&network).await?;
    libvirt.virsh.define_domain(&domain).await?;

    let plan = Plan::new(&spec(directory.path(), 1)?);
    let used = make_and_use(&libvirt, &plan).await;
    let left = remove_twice(&libvirt, &plan).await;

    let kept = exists(&libvirt, &foreign).await;
    let undefined = libvirt.virsh.undefine_domain(&foreign).await;
    let undefined = undefined.and(libvirt.virsh.undefine_network(&foreign).await);
    daemon::stop_if_unused(&libvirt.virsh, &started).await;

    // The first that went wrong may be the reason of all others.
    used.context("making and using the machines")?;
    let left = left.context("removing them")?;
    ensure!(kept?, "an object of somebody else was removed");
    undefined?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}
