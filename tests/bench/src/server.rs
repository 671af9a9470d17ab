//! A server that is measured: its processes, their processor time and their memory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cable::Cable;

/// Where control groups are mounted.
const GROUPS: &str = "/sys/fs/cgroup";
/// Moves itself into a control group and becomes a program.
const ENTER: &str = r#"echo 0 >"$1/cgroup.procs" && shift && exec "$@""#;

/// A server on a cable of its own. All its processes are in one control group, for some fork for each client and a
/// child that nobody waits for takes its figures with it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) cable: Cable,
    group: Group,
    child: Child,
    output: PathBuf,
}

/// A control group, in whichever of the two hierarchies counts processor time.
#[derive(Debug)]
struct Group {
    path: PathBuf,
    unified: bool,
}

// === impl Server ===

impl Server {
    /// Starts a server at the near end. What it says goes to a file of its name in `folder`.
    pub(crate) fn start(name: &'static str, cable: Cable, folder: &Path, line: &[String]) -> Result<Self> {
        let output = folder.join(format!("{}.output", name.replace(' ', "-")));
        let said = File::create(&output).with_context(|| format!("cannot write {}", output.display()))?;
        let group = Group::new()?;
        let inside = cable.near.command(line.first().context("no program")?);
        let mut command = Command::new("sh");
        command.args(["-c", ENTER, "sh"]).arg(&group.path).arg(inside.get_program()).args(inside.get_args());
        command.args(&line[1..]).stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        Ok(Self { name, cable, group, child, output })
    }

    /// Waits until it serves.
    pub(crate) fn wait_for(&mut self, what: &str, mut so: impl FnMut(&Cable) -> Result<bool>) -> Result<()> {
        let (child, cable) = (&mut self.child, &self.cable);
        let waited = cable.wait_for(what, || {
            if let Some(status) = child.try_wait()? {
                bail!("it ended ({status})");
            }
            so(cable)
        });
        let said = || fs::read_to_string(&self.output).unwrap_or_default();
        waited.with_context(|| format!("{}, which said: {}", self.name, said()))
    }

    /// Waits until a UDP or TCP port is bound in its network.
    pub(crate) fn wait_for_port(&mut self, port: u16) -> Result<()> {
        self.wait_for(&format!("port {port}"), |cable| {
            let sockets = cable.near.run("ss", &["-Hlnut", "sport", "=", &format!(":{port}")])?;
            Ok(!sockets.is_empty())
        })
    }

    /// Processor time of all its processes so far, also of those that have ended.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        self.group.cpu()
    }

    /// The most memory that its processes have had in them, in MiB: the sum of each one's peak.
    pub(crate) fn peak_mib(&self) -> Result<f64> {
        let mut kib = 0.0;
        for pid in self.group.pids()? {
            // A child that is about to end has nothing to say.
            let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            if field("Name:") == Some("nsenter") {
                continue;
            }
            let peak = field("VmHWM:").and_then(|line| line.split(' ').next()).unwrap_or("0");
            kib += peak.parse::<f64>()?;
        }
        Ok(kib / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only when they are already gone.
        for pid in self.group.pids().unwrap_or_default() {
            let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _gone = self.child.kill().and_then(|()| self.child.wait());
        self.group.remove();
    }
}

// === impl Group ===

impl Group {
    fn new() -> Result<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let unified = Path::new(GROUPS).join("cgroup.controllers").exists();
        let hierarchy = if unified { PathBuf::from(GROUPS) } else { Path::new(GROUPS).join("cpuacct") };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = hierarchy.join(format!("meshboot-bench-{}-{number}", std::process::id()));
        fs::create_dir(&path).with_context(|| {
            format!("cannot make the control group {} (the benchmark needs root)", path.display())
        })?;
        Ok(Self { path, unified })
    }

    fn cpu(&self) -> Result<Duration> {
        let read = |name: &str| {
            let path = self.path.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        if self.unified {
            let stat = read("cpu.stat")?;
            let used =
                stat.lines().find_map(|line| line.strip_prefix("usage_usec ")).context("no usage_usec")?;
            return Ok(Duration::from_micros(used.parse()?));
        }
        Ok(Duration::from_nanos(read("cpuacct.usage")?.trim().parse()?))
    }

    fn pids(&self) -> Result<Vec<i32>> {
        let pids = fs::read_to_string(self.path.join("cgroup.procs"))?;
        pids.lines().map(|pid| Ok(pid.parse()?)).collect()
    }

    fn remove(&self) {
        // What was killed leaves the group a moment later.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
