//! Faults of virtual machines and of the cables between them, by the real binary: a seed and a node that have nothing to
//! boot, and their firmware, which never ceases to ask for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bootstrap::deployment::{Deployment, Directory, Wanted};
use bootstrap::fault::asked::Asked;
use bootstrap::fault::moment::Moment;
use bootstrap::fault::record::{Folder, Record};
use bootstrap::fault::step::Step;
use bootstrap::settings::{Raw, Settings};
use hardware::firmware::Firmware;
use hardware::process::find;
use hardware::traffic::Means;
use hardware::{Accel, DeploymentId, Libvirt, Plan, daemon, host};
use serde_json::Value;
use tempfile::TempDir;
use tests::answers;

use crate::cli::binary;

/// Firmware in software on a busy computer asks again after this time at most.
const FIRMWARE_LIMIT: Duration = Duration::from_mins(2);
/// What a fault does, and its end, is seen soon; a busy libvirt takes seconds for each step.
pub(crate) const SOON: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// Not the defaults: a deployment may run on this computer.
const SETTINGS: &str = "[libvirt]\nhost-v4 = \"172.30.254.1/30\"\nhost-v6 = \"2001:db8:a0fd::1/64\"\nmemory = \"512MiB\"\n\
                        seed-memory = \"512MiB\"\ndisk = \"1GiB\"\n[addresses]\nmachines = \"2001:db8:a0fc::/71\"\n\
                        anycast = \"fd65:7b9c:569:a0fc::/64\"\n";

/// A deployment of two blank machines.
pub(crate) struct Lab {
    pub(crate) place: TempDir,
    pub(crate) directory: Directory,
    deployment: Deployment,
    libvirt: Libvirt,
}

impl Lab {
    pub(crate) async fn make(libvirt: Libvirt) -> Result<Self> {
        let place = tempfile::tempdir()?;
        fs::write(place.path().join("meshboot.toml"), SETTINGS)?;
        let raw = Raw::from_toml(SETTINGS, Path::new("meshboot.toml"));
        let settings = Settings::from_raw(raw).context("the settings of this test")?;
        let directory = Directory::new(&place.path().join("cluster"))?;
        directory.create()?;
        let id = DeploymentId::random();
        let seed = serde_json::from_value(serde_json::json!({
            "id": id.0, "name": "seed", "role": "seed", "block": 1, "router_id": 1, "ports": [],
        }))?;
        let site = id.0.to_string().parse()?;
        let mut deployment = Deployment::new(id, site, settings.addresses.clone(), seed);
        deployment.add(&Wanted::usual(&settings.libvirt, 1), Accel::Tcg);
        directory.save(&deployment)?;
        let lab = Self { place, directory, deployment, libvirt };
        let firmware = Firmware::find().context("OVMF is installed")?;
        let plan = Plan::new(&lab.deployment.spec(&lab.directory, &settings.libvirt, firmware));
        let seed_disk = plan.domains().find(|domain| domain.boots_from_disk).context("there is a seed")?;
        fs::create_dir_all(seed_disk.disk.parent().context("the disk is in a directory")?)?;
        fs::File::create(&seed_disk.disk)?.set_len(1 << 20)?;
        for object in &plan.objects {
            lab.libvirt.make(&plan, object).await?;
        }
        for domain in plan.domains() {
            lab.libvirt.virsh.start_domain(&domain.name).await?;
        }
        Ok(lab)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(words).current_dir(self.place.path()).env("HOME", self.place.path());
        command.stdin(Stdio::null());
        command
    }

    /// The command succeeds, and says this.
    pub(crate) fn does(&self, line: &str) -> Result<String> {
        let words: Vec<&str> = line.split(' ').collect();
        let output = self.command(&words).output().context("cargo build -p bootstrap")?;
        answers::are_published(&words, &output.stdout)?;
        let said = text(&output);
        ensure!(output.status.success(), "{line}: {} {said}", output.status);
        Ok(said)
    }

    /// The command goes on, and says nothing to anybody.
    pub(crate) fn spawn(&self, line: &str) -> Result<Child> {
        let words: Vec<&str> = line.split(' ').collect();
        Ok(self.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    /// The command fails with this code and all these words.
    pub(crate) fn refuses(&self, line: &str, code: i32, told: &[&str]) -> Result<()> {
        let words: Vec<&str> = line.split(' ').collect();
        let output = self.command(&words).output()?;
        let said = text(&output);
        ensure!(output.status.code() == Some(code), "{line}: {} {said}", output.status);
        for word in told {
            ensure!(said.contains(word), "{line} does not say `{word}` but {said}");
        }
        Ok(())
    }

    /// `fault list -o json`.
    pub(crate) fn faults(&self) -> Result<Vec<Value>> {
        let listing: Value = serde_json::from_str(&self.does("-o json fault list")?)?;
        Ok(listing["faults"].as_array().context("a list of faults")?.clone())
    }

    /// What is on the disk, which no command looks at.
    pub(crate) fn standing(&self) -> Result<usize> {
        Ok(self.folder().read()?.len())
    }

    pub(crate) fn folder(&self) -> Folder {
        Folder::of(&self.directory)
    }

    fn domain(&self, name: &str) -> Result<String> {
        let machine = self.deployment.machines.iter().find(|machine| machine.name.as_str() == name);
        Ok(self.deployment.domain(machine.context("the machine is there")?))
    }

    /// The tap interfaces of the cable, the seed's first.
    fn taps(&self) -> Result<[String; 2]> {
        let cable = self.deployment.cables.first().context("there is a cable")?;
        Ok(cable.ends().map(|end| self.deployment.id.tap(end)))
    }

    fn state(&self, name: &str) -> Result<String> {
        virsh(&["domstate", &self.domain(name)?])
    }

    /// Both ends' carriers, as they are and as they will be when the machines are switched on.
    fn carriers(&self) -> Result<Vec<String>> {
        let [near, far] = self.taps()?;
        let mut all = Vec::new();
        for (name, tap) in [("seed", &near), ("node1", &far)] {
            for when in [&["domif-getlink"][..], &["domif-getlink", "--config"]] {
                let domain = self.domain(name)?;
                let said = virsh(&[when, &[&*domain, &**tap]].concat())?;
                all.push(said.split_whitespace().last().unwrap_or_default().to_owned());
            }
        }
        Ok(all)
    }

    pub(crate) fn are_plugged(&self, up: bool) -> Result<()> {
        let carriers = self.carriers()?;
        let wanted = if up { "up" } else { "down" };
        ensure!(carriers.iter().all(|state| state == wanted), "carriers are {carriers:?} and not {wanted}");
        Ok(())
    }

    fn pace(&self, when: &str) -> Result<(u64, u64)> {
        let said = virsh(&["blkdeviotune", when, &self.domain("node1")?, "vda"])?;
        let number = |name: &str| -> Result<u64> {
            let line = said.lines().find(|line| line.starts_with(name)).context("virsh tells the pace")?;
            Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
        };
        Ok((number("total_bytes_sec")?, number("total_iops_sec")?))
    }

    /// The processes that end faults of this deployment.
    fn keepers(&self) -> Result<Vec<i32>> {
        let cluster = self.directory.text();
        let mut found = Vec::new();
        for process in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let words: Vec<_> = words.split(|octet| *octet == 0).collect();
            if words.contains(&cluster.as_bytes()) && words.ends_with(&[&b"fault"[..], b"keep", b""]) {
                found.push(pid);
            }
        }
        Ok(found)
    }

    pub(crate) fn remove(&self) -> Result<()> {
        let said = self.does("-o json teardown")?;
        ensure!(said.contains(&format!("\"domains\":[\"{}", self.deployment.id.object_prefix())), "{said}");
        Ok(())
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn virsh(words: &[&str]) -> Result<String> {
    let output = Command::new("virsh").args(["-q", "-c", "qemu:///system"]).args(words).output()?;
    ensure!(output.status.success(), "virsh {words:?}: {}", text(&output));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Waits until it is so, and says what was the matter last if it never is.
pub(crate) fn soon<T>(what: &str, limit: Duration, mut is: impl FnMut() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    loop {
        match is() {
            Ok(value) => return Ok(value),
            Err(error) if begun.elapsed() >= limit => {
                return Err(error.context(format!("{what}: not within {} s", limit.as_secs())));
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// Counts the frames that come from one end of a cable, and those that are passed on to the other, whether or not the
/// machine there takes them. What this computer itself says to a machine is none of them.
struct Counters(String);

impl Counters {
    fn new(from: &str, to: &str) -> Result<Self> {
        let counters = Self(format!("count-{from}-{to}"));
        counters.nft(&format!(
            "table bridge {name} {{\n\
             chain sent {{\n type filter hook prerouting priority filter; iifname \"{from}\" counter\n }}\n\
             chain passed {{\n type filter hook forward priority 100; oifname \"{to}\" counter\n }}\n}}\n",
            name = counters.0
        ))?;
        Ok(counters)
    }

    fn nft(&self, rules: &str) -> Result<()> {
        let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
        std::io::Write::write_all(&mut nft.stdin.take().context("its input is piped")?, rules.as_bytes())?;
        ensure!(nft.wait()?.success(), "nft: {rules}");
        Ok(())
    }

    /// How many were sent, and how many passed on.
    fn read(&self) -> Result<(u64, u64)> {
        let output = Command::new("nft").args(["list", "table", "bridge", &self.0]).output()?;
        let said = text(&output);
        let counts = said.lines().filter_map(|line| Some(line.split_once("counter packets ")?.1));
        let counts: Vec<u64> = counts.filter_map(|rest| rest.split(' ').next()?.parse().ok()).collect();
        let [sent, passed] = counts.as_slice() else { anyhow::bail!("nft says {said}") };
        Ok((*sent, *passed))
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        let _gone_with_the_machines =
            self.nft(&format!("table bridge {0}\ndelete table bridge {0}\n", self.0));
    }
}

fn kill(pid: i32) -> Result<()> {
    Ok(nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)?)
}

pub(crate) fn is_installed() -> bool {
    host::is_root()
        && find("virsh").is_some()
        && Firmware::find().is_some()
        && find("qemu-system-x86_64").is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_seen_and_is_gone_when_it_is_undone() -> Result<()> {
    if !is_installed() {
        return Ok(());
    }
    let libvirt = Libvirt::default();
    let started = daemon::ensure(&libvirt.virsh).await?;
    let lab = Lab::make(libvirt.clone()).await;
    let tried = match &lab {
        Ok(lab) => try_all(lab).await,
        Err(_) => Ok(()),
    };
    let log = lab.as_ref().ok().map(|lab| fs::read_to_string(lab.folder().keeper_log()).unwrap_or_default());
    let removed = match &lab {
        Ok(lab) => lab.remove(),
        Err(_) => Ok(()),
    };
    daemon::stop_if_unused(&libvirt.virsh, &started).await;
    let lab = lab.context("making the machines")?;
    tried.with_context(|| format!("the log of the keeper:\n{}", log.unwrap_or_default()))?;
    removed?;
    ensure!(!lab.directory.path().exists(), "the directory is left");
    let tables = Command::new("nft").args(["list", "tables"]).output()?;
    ensure!(!text(&tables).contains(&lab.deployment.id.tag()), "a table is left: {}", text(&tables));
    soon("nobody keeps a deployment that is gone", SOON, || {
        let keepers = lab.keepers()?;
        ensure!(keepers.is_empty(), "{keepers:?}");
        Ok(())
    })
}

async fn try_all(lab: &Lab) -> Result<()> {
    mistakes(lab).context("mistakes")?;
    a_cut_cable(lab).context("a cut cable")?;
    a_partition(lab).context("a partition")?;
    frames_that_are_dropped(lab).await.context("frames that are dropped")?;
    a_degraded_cable(lab).await.context("a degraded cable")?;
    a_machine_without_power(lab).context("a machine without power")?;
    a_frozen_machine(lab).context("a frozen machine")?;
    a_machine_that_is_reset_and_wiped(lab).context("a machine that is reset and wiped")?;
    a_slow_disk(lab).context("a slow disk")?;
    a_flapping_cable(lab).context("a flapping cable")?;
    what_programs_are_told(lab).context("what programs are told")?;
    a_fault_ends_though_its_maker_was_killed(lab).context("its maker is killed")?;
    a_fault_ends_though_its_keeper_was_killed(lab).context("its keeper is killed")?;
    what_cannot_be_undone_is_tried_again(lab).context("what cannot be undone")?;
    what_was_cut_off_is_undone(lab).context("what was cut off")?;
    what_stands_is_taken_down_with_the_rest(lab).context("what stands at the end")
}

fn mistakes(lab: &Lab) -> Result<()> {
    ensure!(lab.does("fault list")?.trim() == "nothing is broken");
    lab.refuses("fault node kill node9", 64, &["no machine `node9`: seed, node1"])?;
    lab.refuses("fault link cut seed-node2 --for soon", 64, &["2 mistakes", "seed-node1", "`soon`"])?;
    lab.refuses("fault service sshd node1", 64, &["no service", "apiserver"])?;
    lab.refuses("fault clear f1 f2", 64, &["2 mistakes", "no fault f1"])?;
    // Whoever must answer for it is not there: it says so, and nothing is left.
    lab.refuses("fault service kubelet node1", 69, &["nobody tells the address of node1"])?;
    ensure!(lab.standing()? == 0);
    Ok(())
}

fn a_cut_cable(lab: &Lab) -> Result<()> {
    lab.are_plugged(true)?;
    let said = lab.does("fault link cut node1-seed")?;
    ensure!(said.contains("f1: cut the cable seed-node1") && said.contains("fault clear f1"), "{said}");
    lab.are_plugged(false)?;
    lab.refuses("fault link cut seed-node1", 73, &["f1 stands in the way", "fault clear f1"])?;
    lab.refuses("fault link flap seed-node1", 73, &["f1 stands in the way"])?;
    let faults = lab.faults()?;
    ensure!(faults.len() == 1 && faults[0]["id"] == "f1" && faults[0]["state"] == "standing", "{faults:?}");
    ensure!(lab.does("fault clear f1")?.contains("undone: f1"));
    lab.are_plugged(true)?;
    lab.does("fault link cut seed-node1")?;
    lab.are_plugged(false)?;
    ensure!(lab.does("fault link heal seed-node1")?.contains("undone"));
    lab.are_plugged(true)?;
    ensure!(lab.does("fault link heal seed-node1")?.contains("nothing was done to cable seed-node1"));
    ensure!(lab.does("fault clear --all")?.contains("nothing is broken"));
    ensure!(lab.keepers()?.is_empty(), "nothing of this has to be kept");
    Ok(())
}

fn a_partition(lab: &Lab) -> Result<()> {
    lab.does("fault partition {seed}|{node1}")?;
    lab.are_plugged(false)?;
    lab.refuses("fault link heal seed-node1", 64, &["is one of those that", "part seed | node1"])?;
    lab.does("fault clear --all")?;
    lab.are_plugged(true)
}

/// The machines' firmware asks by multicast, on a cable that is a bridge: what one sends comes to the other.
async fn frames_that_are_dropped(lab: &Lab) -> Result<()> {
    if !Means::probe().await?.frames {
        return lab.refuses("fault link cut seed-node1 --silent", 69, &["nftables"]);
    }
    let [near, far] = lab.taps()?;
    let passes = |passes: bool| {
        let counters = Counters::new(&far, &near)?;
        soon("the firmware of node1 asks", FIRMWARE_LIMIT, || {
            let (sent, passed) = counters.read()?;
            ensure!(sent >= 3, "{sent} frames were sent");
            ensure!(!passes || passed >= 1, "none of {sent} frames passed");
            Ok(passed)
        })
    };
    ensure!(passes(true)? > 0);
    lab.does("fault link cut seed-node1 --silent")?;
    lab.are_plugged(true)?;
    let passed = passes(false)?;
    ensure!(passed == 0, "{passed} frames passed a cable that is cut");
    // It stays so for a machine that was off meanwhile.
    lab.does("fault node kill node1")?;
    lab.does("fault link heal seed-node1")?;
    lab.does("fault link cut seed-node1 --silent")?;
    lab.does("fault node kill seed")?;
    let cleared = lab.does("fault clear f5 f7")?;
    ensure!(cleared.contains("undone: f7, f5"), "{cleared}");
    let passed = passes(false)?;
    ensure!(passed == 0, "{passed} frames passed a cable that is cut");
    lab.does("fault clear --all")?;
    ensure!(passes(true)? > 0);
    Ok(())
}

async fn a_degraded_cable(lab: &Lab) -> Result<()> {
    let means = Means::probe().await?;
    let disciplines = || -> Result<String> {
        let mut all = String::new();
        for tap in lab.taps()? {
            all.push_str(&text(&Command::new("tc").args(["qdisc", "show", "dev", &tap]).output()?));
        }
        Ok(all)
    };
    if means.netem {
        lab.does("fault link degrade seed-node1 --latency 20ms --loss 1%")?;
        let said = disciplines()?;
        ensure!(said.matches("netem").count() == 2 && said.contains("delay 20"), "{said}");
        lab.does("fault clear --all")?;
    } else {
        // Then the machines would have to do it, and these have no address.
        lab.refuses("fault link degrade seed-node1 --latency 20ms", 69, &["nobody tells the address"])?;
    }
    lab.does("fault link degrade seed-node1 --rate 10mbit")?;
    let paced = |there: usize| -> Result<()> {
        let said = disciplines()?;
        let count = said.matches("netem").count() + said.matches("tbf").count();
        ensure!(count == there && (count == 0 || said.contains("10Mbit")), "{said}");
        Ok(())
    };
    paced(2)?;
    lab.refuses("fault link degrade seed-node1 --loss 1%", 73, &["stands in the way"])?;
    // A cut cable that is degraded is degraded when it is mended; a machine's tap is another after its start.
    lab.does("fault link cut seed-node1")?;
    lab.does("fault node kill node1")?;
    paced(1)?;
    let kill = lab.faults()?.last().context("there are faults")?["id"].clone();
    lab.does(&format!("fault clear {}", kill.as_str().context("it has a name")?))?;
    paced(2)?;
    lab.are_plugged(false)?;
    lab.does("fault link heal seed-node1")?;
    paced(0)?;
    lab.are_plugged(true)
}

/// Looked at by `does`: it is of the form that is published.
fn what_programs_are_told(lab: &Lab) -> Result<()> {
    for (line, told) in [
        ("fault link cut seed-node1", "\"kind\":\"link cut\""),
        ("fault list", "\"state\":\"standing\""),
        ("timeline", "\"act\":\"fault-injected\""),
        ("fault link heal seed-node1", "\"cleared\":[\"f"),
        ("status", "\"reason\":\"waits for seed to serve it\""),
        ("node list", "\"its_port\":0"),
        ("list", "\"running\":2"),
        ("node stop --hard node1", "\"stopped\":[\"node1\"]"),
        ("node start --no-wait node1", "\"started\":[\"node1\"]"),
        ("snapshot save one", "\"saved\":\"one\""),
        ("snapshot list", "\"snapshots\":[{\"name\":\"one\""),
        ("snapshot delete one", "\"deleted\":\"one\""),
    ] {
        let said = lab.does(&format!("-o json {line}"))?;
        ensure!(said.contains(told), "{line} does not say `{told}` but {said}");
    }
    Ok(())
}

fn a_machine_without_power(lab: &Lab) -> Result<()> {
    lab.does("fault node kill seed")?;
    ensure!(lab.state("seed")? == "shut off" && lab.state("node1")? == "running");
    lab.refuses("fault node freeze seed", 73, &["stands in the way: pull the plug of seed"])?;
    lab.refuses("fault clock seed +1h", 73, &["seed itself would have to do it"])?;
    lab.does("fault clear --all")?;
    ensure!(lab.state("seed")? == "running");
    Ok(())
}

fn a_frozen_machine(lab: &Lab) -> Result<()> {
    lab.does("fault node freeze node1")?;
    ensure!(lab.state("node1")? == "paused");
    lab.does("-o json fault node thaw node1")?;
    ensure!(lab.state("node1")? == "running");
    ensure!(lab.does("fault node thaw node1")?.contains("was not frozen"));
    Ok(())
}

fn a_machine_that_is_reset_and_wiped(lab: &Lab) -> Result<()> {
    let disks = lab.directory.path().join("disks");
    let console = lab.directory.path().join("console/node1.log");
    let boots = |console: &Path| {
        String::from_utf8_lossy(&fs::read(console).unwrap_or_default()).matches("BdsDxe").count()
    };
    soon("the firmware speaks", FIRMWARE_LIMIT, || {
        ensure!(boots(&console) > 0);
        Ok(())
    })?;
    let process = || -> Result<String> {
        Ok(fs::read_to_string(format!("/run/libvirt/qemu/{}.pid", lab.domain("node1")?))?)
    };
    let (before, qemu) = (boots(&console), process()?);
    lab.does("fault node reboot node1")?;
    soon("the firmware begins anew", FIRMWARE_LIMIT, || {
        ensure!(boots(&console) > before, "{before} lines");
        Ok(())
    })?;
    ensure!(process()? == qemu, "it was switched off and on");

    let (disk, nvram): (PathBuf, PathBuf) = (disks.join("node1.img"), disks.join("node1.nvram.fd"));
    let fresh = || -> Result<(bool, u64, usize)> {
        let content = fs::read(&nvram)?;
        let marks = content.windows(4).filter(|window| *window == b"MARK").count();
        let mut head = vec![0; 4096];
        std::io::Read::read_exact(&mut fs::File::open(&disk)?, &mut head)?;
        Ok((head.iter().all(|octet| *octet == 0), fs::metadata(&disk)?.len(), marks))
    };
    let (_, size, _) = fresh()?;
    lab.does("fault node kill node1")?;
    for path in [&disk, &nvram] {
        let mut file = fs::OpenOptions::new().write(true).open(path)?;
        std::io::Write::write_all(&mut file, b"MARK")?;
    }
    lab.refuses("fault node wipe node1", 73, &["stands in the way"])?;
    lab.does("fault clear --all")?;
    ensure!(!fresh()?.0);
    lab.does("fault node wipe node1")?;
    ensure!(fresh()? == (true, size, 0), "{:?}", fresh()?);
    ensure!(lab.state("node1")? == "running" && lab.standing()? == 0);
    lab.refuses("fault node wipe seed", 64, &["boots from its disk"])
}

fn a_slow_disk(lab: &Lab) -> Result<()> {
    lab.does("fault disk node1 slow --rate 128KiB --iops 7")?;
    for when in ["--live", "--config"] {
        ensure!(lab.pace(when)? == (128 << 10, 7), "{when}: {:?}", lab.pace(when)?);
    }
    lab.does("fault clear --all")?;
    for when in ["--live", "--config"] {
        ensure!(lab.pace(when)? == (0, 0), "{when}: {:?}", lab.pace(when)?);
    }
    // Of a machine that is off it is the next start's.
    lab.does("fault node kill node1")?;
    lab.does("fault disk node1 slow")?;
    ensure!(lab.pace("--config")? == (1 << 20, 50));
    lab.does("fault clear --all")?;
    ensure!(lab.pace("--live")? == (0, 0));
    Ok(())
}

fn a_flapping_cable(lab: &Lab) -> Result<()> {
    lab.does("fault link flap seed-node1 --period 8s --count 2")?;
    let mut seen = Vec::new();
    soon("two cuts and their end", SOON, || {
        let carriers = lab.carriers()?;
        let state = carriers[2].clone();
        if seen.last() != Some(&state) {
            seen.push(state);
        }
        ensure!(lab.standing()? == 0, "{seen:?}");
        Ok(())
    })?;
    lab.are_plugged(true)?;
    ensure!(seen == ["down", "up", "down", "up"], "{seen:?}");
    Ok(())
}

fn a_fault_ends_though_its_maker_was_killed(lab: &Lab) -> Result<()> {
    let begun = Instant::now();
    let mut maker = lab.spawn("fault node freeze node1 --for 5s --wait")?;
    soon("the machine is frozen", SOON, || {
        ensure!(lab.state("node1")? == "paused");
        Ok(())
    })?;
    maker.kill()?;
    maker.wait()?;
    ensure!(begun.elapsed() < Duration::from_secs(5), "this computer is too slow to kill it in time");
    soon("the fault ends", SOON, || {
        ensure!(lab.state("node1")? == "running" && lab.standing()? == 0);
        Ok(())
    })?;
    ensure!(begun.elapsed() >= Duration::from_secs(5), "it ended too early: {:?}", begun.elapsed());
    soon("nothing is left to keep", SOON, || {
        ensure!(lab.keepers()?.is_empty());
        Ok(())
    })
}

fn a_fault_ends_though_its_keeper_was_killed(lab: &Lab) -> Result<()> {
    lab.does("fault link cut seed-node1 --for 4s")?;
    let keepers = lab.keepers()?;
    ensure!(keepers.len() == 1, "{keepers:?}");
    // One is enough.
    lab.does("fault disk node1 slow --for 1h")?;
    ensure!(lab.keepers()? == keepers);
    kill(keepers[0])?;
    soon("its time is over", SOON, || {
        let now = Moment::now()?;
        let overdue = |record: &Record| record.left(&now).is_some_and(|left| left.is_zero());
        ensure!(lab.folder().records()?.iter().any(overdue));
        Ok(())
    })?;
    lab.are_plugged(false)?;
    lab.does("status")?;
    soon("the next command ends it", SOON, || lab.are_plugged(true))?;
    ensure!(lab.keepers()?.len() == 1, "the other one is kept");
    ensure!(lab.pace("--live")?.0 > 0);
    lab.does("fault clear --all")?;
    soon("nothing is left to keep", SOON, || {
        ensure!(lab.keepers()?.is_empty());
        Ok(())
    })
}

/// libvirt cannot be reached by a program that does not find `virsh`.
fn what_cannot_be_undone_is_tried_again(lab: &Lab) -> Result<()> {
    lab.does("fault node freeze node1")?;
    let id = lab.faults()?[0]["id"].as_str().context("it has a name")?.to_owned();
    let poor = lab.place.path().join("bin");
    fs::create_dir_all(&poor)?;
    let virsh = poor.join("virsh");
    fs::write(&virsh, "#!/bin/sh\necho 'libvirt is away' >&2\nexit 1\n")?;
    fs::set_permissions(&virsh, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let path = format!("{}:{}", poor.display(), std::env::var("PATH").unwrap_or_default());
    let cleared = lab.command(&["fault", "clear", &id]).env("PATH", path).output()?;
    let said = text(&cleared);
    ensure!(
        cleared.status.code() == Some(75) && said.contains("libvirt is away"),
        "{} {said}",
        cleared.status
    );
    ensure!(said.contains("tried again by itself"), "{said}");
    soon("it is tried again", SOON, || {
        let faults = lab.faults()?;
        let reason = faults[0]["reason"].as_str().unwrap_or_default().to_owned();
        ensure!(faults[0]["state"] == "ending" && reason.contains("libvirt is away"), "{faults:?}");
        let trouble = lab.folder().records()?.pop().and_then(|record| record.trouble);
        ensure!(trouble.is_some_and(|trouble| trouble.attempts >= 2));
        Ok(())
    })?;
    // It has found its way back.
    fs::remove_file(&virsh)?;
    soon("it is undone at last", SOON, || {
        ensure!(lab.state("node1")? == "running" && lab.standing()? == 0);
        Ok(())
    })
}

/// A maker that died between two steps.
fn what_was_cut_off_is_undone(lab: &Lab) -> Result<()> {
    let folder = lab.folder();
    let id = {
        let locked = folder.lock()?;
        folder.next_id(&locked)?
    };
    let domain = lab.domain("node1")?;
    let asked = Asked::NodeFreeze { machine: "node1".to_owned() };
    let steps =
        (vec![Step::Suspend { domain: domain.clone() }], vec![Step::Resume { domain: domain.clone() }]);
    folder.write(&Record::new(id, asked, None, steps, Moment::now()?))?;
    virsh(&["suspend", &domain])?;
    lab.does("fault list")?;
    soon("the next command has it undone", SOON, || {
        ensure!(lab.state("node1")? == "running" && lab.standing()? == 0);
        Ok(())
    })
}

fn what_stands_is_taken_down_with_the_rest(lab: &Lab) -> Result<()> {
    lab.does("fault node freeze node1 --for 1h")?;
    lab.does("fault node kill seed")?;
    lab.does("fault link cut seed-node1")?;
    if find("nft").is_some() {
        lab.does("fault link cut seed-node1 --silent --for 1h")?;
    }
    ensure!(lab.keepers()?.len() == 1);
    Ok(())
}
