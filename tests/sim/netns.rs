//! A machine of one test: namespaces of its own, held by one process, gone with it.
//!
//! The holder is the first process of a PID namespace and ends when its standard input does. So nothing outlives the
//! test, however it ends, and [`Namespace::power_off`] is a power cut: the kernel kills what runs in there at once.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The arguments are the name, the root, then pairs of what to mount and where; the first line out is the process id.
const HOLDER: &str = r#"
exec 2>&1
set -e
hostname "$1"
root=$2
shift 2
# As a machine's is: whoever makes a namespace of his own there changes how mounts of the root spread.
[ "$root" = / ] || mount --bind "$root" "$root"
while [ $# -gt 1 ]; do
    mount --bind "$1" "$root$2"
    shift 2
done
if [ "$root" != / ]; then
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
fi
ip link set lo up
read -r pid rest </proc/self/stat
exec 3<&0
exec chroot "$root" /bin/sh -c 'echo "$0"; cat <&3 >/dev/null & wait $!' "$pid"
"#;

/// Network, mount, process and host name namespaces of one machine.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    unshare: Child,
    pid: i32,
}

impl Namespace {
    /// Starts a machine that sees this machine's files.
    pub fn start(name: &str) -> Result<Self> {
        Self::start_in(name, Path::new("/"), &[])
    }

    /// Starts a machine whose root is `root`, with folders of this machine mounted over folders of that root.
    pub fn start_in(name: &str, root: &Path, mounts: &[(PathBuf, PathBuf)]) -> Result<Self> {
        let mut command = Command::new("unshare");
        command
            .args(["--net", "--mount", "--pid", "--uts", "--fork", "--propagation", "private"])
            .args(["sh", "-c", HOLDER, "sh", name])
            .arg(root);
        for (from, to) in mounts {
            command.arg(from).arg(to);
        }
        let mut unshare = command
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // It complains of each end by a signal; what goes wrong at the start is told on the output.
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting the namespaces of {name} with unshare"))?;
        let stdout = unshare.stdout.take().context("unshare has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let Ok(pid) = line.trim().parse() else {
            let status = unshare.wait()?;
            bail!(
                "the namespaces of {name} did not start ({status}; network tests need root): {}",
                line.trim()
            );
        };
        Ok(Self { name: name.to_owned(), unshare, pid })
    }

    /// The name given at the start.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process that holds the namespaces, as this machine numbers it.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Runs a program inside and gives its output; an exit status other than 0 is an error.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let output = self
            .command(program)
            .args(args)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("running {program} on {}", self.name))?;
        checked(&output).with_context(|| format!("{program} {args:?} on {}", self.name))
    }

    /// A program that will run inside, and end with the machine. The process that is started is `nsenter`, and the
    /// program its child.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.pid.to_string()])
            .args(["--net", "--mount", "--pid", "--uts", "--root", "--wd=/", "--"])
            .arg(program);
        command
    }

    /// A handle of the network namespace, for threads that work inside.
    pub fn network(&self) -> Result<Network> {
        let path = format!("/proc/{}/ns/net", self.pid);
        let file = File::open(&path).with_context(|| format!("opening {path} of {}", self.name))?;
        Ok(Network { name: self.name.clone(), file })
    }

    /// Kills whatever runs inside, at once and without a word to anybody.
    pub fn power_off(mut self) -> Result<()> {
        self.kill_all()
    }

    fn kill_all(&mut self) -> Result<()> {
        // Fails only when it is already gone.
        let _gone = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        self.unshare.wait().with_context(|| format!("waiting for the end of {}", self.name))?;
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _nothing_left_to_do = self.kill_all();
    }
}

fn checked(output: &Output) -> Result<String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{}: {stdout}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(stdout)
}

/// A network namespace that threads can enter.
#[derive(Debug)]
pub struct Network {
    name: String,
    file: File,
}

impl Network {
    /// Runs `work` on a thread of its own inside the network namespace; processes it starts are inside as well.
    pub fn spawn<T: Send + 'static>(
        &self,
        role: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<Result<T>>> {
        let file = self.file.try_clone()?;
        let name = format!("{}-{role}", self.name);
        let body = move || {
            setns(file.as_fd(), CloneFlags::CLONE_NEWNET).context("entering the network namespace")?;
            drop(file);
            Ok(work())
        };
        thread::Builder::new()
            .name(name.clone())
            .spawn(body)
            .with_context(|| format!("starting thread {name}"))
    }

    /// Runs `work` inside and waits for its result.
    pub fn enter<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        match self.spawn("work", work)?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs this machine's `ip` inside; unlike [`Namespace::run`] it sees all processes, so ports can be given away.
    pub fn ip(&self, args: &[&str]) -> Result<()> {
        let owned: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let output = self.enter(move || Command::new("ip").args(owned).stdin(Stdio::null()).output())??;
        checked(&output).map(drop).with_context(|| format!("ip {args:?} on {}", self.name))
    }
}
