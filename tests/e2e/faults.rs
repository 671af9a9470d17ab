//! What is done to a running mesh from outside: cables cut, power lost, and what that cost.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bootstrap::deployment::{Deployment, Directory};
use hardware::{Cable, MachineNumber};

use crate::mesh::root;

/// Between two probes.
const PROBE: Duration = Duration::from_millis(20);

/// The hands on a deployment's virtual machines.
#[derive(Debug)]
pub(crate) struct Hands(Deployment);

impl Hands {
    pub(crate) fn new() -> Self {
        Self(Directory::new(&root().join("cluster")).unwrap().load().unwrap().unwrap())
    }

    /// The cable between two machines.
    pub(crate) fn cable(&self, near: u16, far: u16) -> Cable {
        let joins = |cable: &&Cable| cable.near.machine.0 == near && cable.far.machine.0 == far;
        *self.0.cables.iter().find(joins).unwrap()
    }

    /// Pulls a cable out of its near end, or puts it back: the far end's carrier stays, as with a switch between.
    pub(crate) fn set_cable(&self, cable: &Cable, state: &str) {
        let domain = self.0.id.domain(&self.0.name_of(cable.near.machine));
        virsh(&["domif-setlink", &domain, &self.0.id.tap(cable.near), state]);
    }

    /// Pulls machines' plugs, at once.
    pub(crate) fn power_off(&self, machines: impl IntoIterator<Item = u16>) {
        for machine in machines {
            virsh(&["destroy", &self.0.id.domain(&self.0.name_of(MachineNumber(machine)))]);
        }
    }

    /// Gives machines power.
    pub(crate) fn power_on(&self, machines: impl IntoIterator<Item = u16>) {
        for machine in machines {
            virsh(&["start", &self.0.id.domain(&self.0.name_of(MachineNumber(machine)))]);
        }
    }
}

fn virsh(arguments: &[&str]) {
    let output = Command::new("virsh").args(["-q", "-c", "qemu:///system"]).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "virsh {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A stream of pings from this computer.
#[derive(Debug)]
pub(crate) struct Probe {
    ping: Child,
    /// What it says. Nobody reads it meanwhile, so a pipe would fill up, and a full pipe holds the pings up.
    said: File,
    since: f64,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Probed {
    /// How many were answered.
    pub answered: usize,
    /// The longest time without an answer.
    pub longest_gap: Duration,
}

impl Probe {
    pub(crate) fn start(address: &str) -> Self {
        let interval = PROBE.as_secs_f64().to_string();
        let said = tempfile::tempfile().unwrap();
        let ping = Command::new("ping")
            .args(["-6", "-n", "-D", "-i", &interval, address])
            .stdout(said.try_clone().unwrap())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { ping, said, since: now() }
    }

    pub(crate) fn stop(mut self) -> Probed {
        let until = now();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.ping.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        self.ping.wait().unwrap();
        let mut text = String::new();
        self.said.rewind().unwrap();
        self.said.read_to_string(&mut text).unwrap();
        // `[1795251944.123456] 64 bytes from ...`
        let time = |line: &str| line.strip_prefix('[')?.split(']').next()?.parse::<f64>().ok();
        let times = text.lines().filter(|line| line.contains("bytes from")).filter_map(time);
        let answered: Vec<f64> = times.filter(|time| (self.since..until).contains(time)).collect();
        let ends = std::iter::once(self.since).chain(answered.iter().copied()).chain([until]);
        let gap = ends.clone().zip(ends.skip(1)).map(|(a, b)| b - a).fold(0.0, f64::max);
        Probed { answered: answered.len(), longest_gap: Duration::from_secs_f64(gap) }
    }
}

/// Seconds since 1970, as `ping -D` has them.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}
