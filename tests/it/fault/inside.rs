//! What a node does to itself: its scripts, run by a real shell in a root where nothing of this computer can be hurt.
//!
//! systemd is not there: a stand-in writes down what it was told. What only a whole node can show is in `e2e/`.

use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bootstrap::fault::asked::{Asked, DiskTrouble, Service};
use bootstrap::fault::inside::{Scripts, scripts};
use bootstrap::fault::record::FaultId;
use tempfile::TempDir;
use tests::netns::Namespace;

/// Mounts of its own, in which what the scripts touch is in memory; and a network of its own.
const ROOT: &str = r#"
set -eu
mount -t tmpfs none /run
mkdir -p /run/meshboot/state /run/bin
mount -t tmpfs -o size=8m none /run/meshboot/state
mkdir -p "$1/kubernetes"
mkdir -p /etc/kubernetes
mount --bind "$1/kubernetes" /etc/kubernetes
cat >/run/bin/systemctl <<END
#!/bin/sh
echo "systemctl \$*" >>'$1/told'
END
cat >/run/bin/systemd-run <<END
#!/bin/sh
echo "systemd-run \$*" >>'$1/told'
END
cat >/run/bin/date <<END
#!/bin/sh
echo "date \$*" >>'$1/told'
[ ! -e '$1/no-clock' ]
END
chmod +x /run/bin/*
export PATH="/run/bin:$PATH"
ip link set lo up
exec sh
"#;

struct Node(TempDir);

impl Node {
    fn new() -> Result<Self> {
        let node = Self(tempfile::tempdir()?);
        fs::create_dir_all(node.manifests())?;
        Ok(node)
    }

    fn manifests(&self) -> std::path::PathBuf {
        self.0.path().join("kubernetes/manifests")
    }

    fn told(&self) -> String {
        fs::read_to_string(self.0.path().join("told")).unwrap_or_default()
    }

    /// Runs scripts one after the other on the same boot.
    fn run(&self, scripts: &[&str]) -> Result<Output> {
        let mut shell = Command::new("unshare")
            .args(["--mount", "--net", "--propagation", "private", "sh", "-c", ROOT, "sh"])
            .arg(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("unshare, which needs root")?;
        let mut input = shell.stdin.take().context("its input is piped")?;
        for script in scripts {
            // As ssh has a shell run each.
            writeln!(input, "(\n{script}\n) || exit $?")?;
        }
        drop(input);
        Ok(shell.wait_with_output()?)
    }

    fn works(&self, scripts: &[&str]) -> Result<String> {
        let output = self.run(scripts)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{}: {said}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(said)
    }
}

fn of(asked: &Asked, lasts: Option<Duration>) -> Result<Scripts> {
    scripts(asked, &[5000, 5001], FaultId(3), lasts).context("it is a fault inside a node")
}

fn service(service: Service, lasts: Option<Duration>) -> Result<Scripts> {
    of(&Asked::Service { service, machine: "node1".to_owned() }, lasts)
}

fn has(folder: &Path, name: &str) -> bool {
    folder.join(name).exists()
}

#[test]
fn a_static_pod_goes_and_comes_back_as_it_was() -> Result<()> {
    let node = Node::new()?;
    let Scripts { make, undo } = service(Service::Etcd, None)?;
    let refused = node.run(&[&make])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(3) && said.contains("node1 is no control plane"), "{said}");

    fs::write(node.manifests().join("etcd.yaml"), "kind: Pod")?;
    for _ in 0..2 {
        node.works(&[&make])?;
        ensure!(!has(&node.manifests(), "etcd.yaml"));
    }
    for _ in 0..2 {
        node.works(&[&undo])?;
        ensure!(fs::read_to_string(node.manifests().join("etcd.yaml"))? == "kind: Pod");
    }
    ensure!(
        fs::read_dir(node.0.path().join("kubernetes/meshboot-faults"))?.count() == 0,
        "something is left"
    );

    // What was written meanwhile is newer.
    node.works(&[&make])?;
    fs::write(node.manifests().join("etcd.yaml"), "kind: NewPod")?;
    node.works(&[&undo])?;
    ensure!(fs::read_to_string(node.manifests().join("etcd.yaml"))? == "kind: NewPod");
    Ok(())
}

#[test]
fn what_has_an_end_is_armed_with_a_script_that_undoes_it() -> Result<()> {
    let node = Node::new()?;
    fs::write(node.manifests().join("kube-apiserver.yaml"), "kind: Pod")?;
    let Scripts { make, .. } = service(Service::Apiserver, Some(Duration::from_millis(2500)))?;
    // What the timer would run, and it once more.
    let timer = "/bin/sh /run/meshboot-faults/f3.undo";
    let gone = "test ! -e /etc/kubernetes/manifests/kube-apiserver.yaml";
    node.works(&[&make, gone, timer, timer])?;
    ensure!(has(&node.manifests(), "kube-apiserver.yaml"), "the timer does not undo it");
    let told = node.told();
    ensure!(
        told.contains("--unit=meshboot-fault-f3 --on-active=2.5s")
            && told.contains("/run/meshboot-faults/f3.undo"),
        "{told}"
    );
    Ok(())
}

/// What cuts the node off is done when the answer is on its way, and not at all if it was undone by then.
#[test]
fn routing_stops_after_the_answer() -> Result<()> {
    let Scripts { make, undo } = service(Service::Routing, Some(Duration::from_secs(45)))?;
    let soon = "/bin/sh /run/meshboot-faults/f3.soon\n";
    let stops = |node: &Node| node.told().matches("systemctl stop frr.service").count();
    let node = Node::new()?;
    node.works(&[&make])?;
    ensure!(stops(&node) == 0 && node.told().contains("--on-active=3s"), "{}", node.told());
    let node = Node::new()?;
    node.works(&[&make, soon, &undo])?;
    ensure!(stops(&node) == 1 && node.told().contains("systemctl start frr.service"), "{}", node.told());
    let node = Node::new()?;
    node.works(&[&make, &undo, soon])?;
    ensure!(stops(&node) == 0, "{}", node.told());
    Ok(())
}

#[test]
fn a_clock_is_set_once_and_set_back_once() -> Result<()> {
    let node = Node::new()?;
    let Scripts { make, undo } = of(&Asked::Clock { machine: "node1".to_owned(), by: -90 }, None)?;
    node.works(&[&make, &make, &undo, &undo])?;
    let dates: Vec<String> =
        node.told().lines().filter(|line| line.starts_with("date")).map(str::to_owned).collect();
    ensure!(dates == ["date -s -90 seconds", "date -s +90 seconds"], "{dates:?}");
    // After a restart there is nothing to set back.
    node.works(&[&undo])?;
    ensure!(node.told().matches("date").count() == 2, "{}", node.told());
    // Nor if it was not set: to set it back would be the fault.
    fs::write(node.0.path().join("no-clock"), "")?;
    let fails = format!("if (\n{make}\n); then exit 9; fi");
    node.works(&[&fails, &undo])?;
    let last = node.told().lines().rfind(|line| line.starts_with("date")).map(str::to_owned);
    ensure!(last.as_deref() == Some("date -s -90 seconds"), "{}", node.told());
    Ok(())
}

#[test]
fn this_shells_date_understands_what_a_clock_is_told() -> Result<()> {
    // Shown, and not set: a clock is no namespace's own.
    for (by, seconds) in [("+3600 seconds", 3600), ("-90 seconds", -90)] {
        let show = |words: &[&str]| -> Result<i64> {
            let output = Command::new("date").args(words).arg("+%s").output()?;
            Ok(String::from_utf8(output.stdout)?.trim().parse()?)
        };
        let off = show(&["-d", by])? - show(&[])? - seconds;
        ensure!((-2..=2).contains(&off), "{by} is off by {off} s");
    }
    Ok(())
}

#[test]
fn a_full_disk_has_no_room_for_one_block_until_it_is_emptied() -> Result<()> {
    let node = Node::new()?;
    let Scripts { make, undo } =
        of(&Asked::Disk { machine: "node1".to_owned(), trouble: DiskTrouble::Full }, None)?;
    let write = "dd if=/dev/zero of=/run/meshboot/state/block bs=4096 count=1 2>/dev/null";
    let full = format!("if {write}; then echo 'there is room' >&2; exit 9; fi");
    node.works(&[write, "rm /run/meshboot/state/block", &make, &full, &make, &full, &undo, write, &undo])?;
    Ok(())
}

#[test]
fn mirrors_refuse_reset_and_answer_again() -> Result<()> {
    let node = Namespace::start("mirrors")?;
    node.run("mount", &["-t", "tmpfs", "none", "/run"])?;
    let network = node.network()?;
    let run = |script: &str| node.run("sh", &["-c", script]).map(drop);
    let Scripts { make, undo } = service(Service::Mirror, None)?;
    let [mirror, other] = [5001, 5002];
    // The kernel answers for them.
    let _listeners = network
        .enter(move || [mirror, other].map(|port| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))))?;
    let connect = |port: u16| {
        let place = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        network.enter(move || {
            TcpStream::connect_timeout(&place, Duration::from_secs(5)).map_err(|error| error.kind())
        })
    };
    let mut standing = connect(mirror)?.map_err(io::Error::from)?;
    standing.set_read_timeout(Some(Duration::from_secs(5)))?;
    for _ in 0..2 {
        run(&make)?;
        ensure!(connect(mirror)?.err() == Some(ErrorKind::ConnectionRefused), "a mirror answers");
        ensure!(connect(other)?.is_ok(), "who is no mirror does not answer");
    }
    standing.write_all(b"GET")?;
    let reset = standing.read(&mut [0]).map_err(|error| error.kind());
    ensure!(reset == Err(ErrorKind::ConnectionReset), "a connection outlives it: {reset:?}");
    for _ in 0..2 {
        run(&undo)?;
        ensure!(connect(mirror)?.is_ok(), "a mirror does not answer again");
    }
    Ok(())
}
