//! Machines of which some are control planes: a ring of four.
//!
//! Machines are namespaces with FRR as nodes have it. What makes a control plane is real: kubeadm's certificates and the
//! commands of its static pods, etcd, API servers, and the keeper of anycast addresses. The fourth machine has none of that,
//! and asks.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bootstrap::anycast;
use bootstrap::control_plane::etcd::{Etcd, EtcdError, MemberId};
use bootstrap::gateway::services;
use ignition::kubeadm::{control_plane_config, etcd_peer};
use ignition::{Cni, ControlPlaneSpec, KubernetesSource, SitePlan};
use mesh::plan::{APISERVER_PORT, ETCD_PORT};
use mesh::{AddressPlan, Block, NodeName};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::sync::watch;

use super::LIMIT;
use super::asking::Asking;
use crate::routing::identity::Identity;
use crate::routing::protocol::Protocol;
use crate::routing::ring::Ring;
use crate::routing::truth::Place;

/// The control planes and their places; the one that is left asks.
pub(super) const CONTROL_PLANES: [(&str, Place); 3] = [("seed", 0), ("node1", 1), ("node3", 3)];
const WITNESS: Place = 2;
const SIZE: usize = 4;
/// Between two questions, and how long each may take.
const EVERY: Duration = Duration::from_millis(100);
const PATIENCE: &str = "--request-timeout=2s";
/// The same for connections in which nothing is asked.
const KNOCK_EVERY: Duration = Duration::from_millis(5);
const KNOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Where machines find the programs, and what they keep.
pub(super) const PROGRAMS: &str = "/opt";
pub(super) const KUBERNETES: &str = "/etc/kubernetes";
const DATA: &str = "/var/lib/etcd";
pub(super) const KUBELET: &str = "/var/lib/kubelet";
/// And what comes anew with each boot.
pub(super) const OWN: &str = "/etc/meshboot";
pub(super) const SCRIPTS: &str = "/usr/lib/meshboot";
/// The keys that all control planes share.
const SHARED: [&str; 8] = [
    "ca.crt",
    "ca.key",
    "sa.key",
    "sa.pub",
    "front-proxy-ca.crt",
    "front-proxy-ca.key",
    "etcd/ca.crt",
    "etcd/ca.key",
];

/// The ring, and what is on its machines' disks.
pub(super) struct Site {
    ring: Ring,
    pub(super) plan: SitePlan,
    pub(super) programs: TempDir,
    disks: BTreeMap<Place, TempDir>,
    keepers: BTreeMap<Place, Keeper>,
    servers: BTreeMap<Place, Child>,
}

/// Holds the anycast addresses of a machine for as long as its services answer.
struct Keeper {
    stop: watch::Sender<bool>,
    seen: watch::Receiver<Vec<anycast::AnycastStatus>>,
    thread: JoinHandle<Result<()>>,
}

fn identity(place: Place) -> Identity {
    Identity(u16::try_from(place).unwrap() + 1)
}

pub(super) fn block(place: Place) -> Block {
    Block::new(identity(place).block()).unwrap()
}

// === impl Site ===

impl Site {
    pub(super) fn new() -> Result<Self> {
        // As in the product's own main function; another test may have done it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let programs = programs()?;
        let version =
            Command::new(programs.path().join("kubeadm")).args(["version", "-o", "short"]).output()?;
        let plan = SitePlan {
            id: "5eed0000-0000-4000-8000-000000000001".parse()?,
            plan: AddressPlan::default(),
            kubernetes: String::from_utf8(version.stdout)?.trim().parse()?,
            kubernetes_source: KubernetesSource::Debian,
            cni: Cni::Routed,
            ssh_keys: Vec::new(),
            ca_cert_pem: String::new(),
            ca_spki_sha256: String::new(),
            nameservers: Vec::new(),
        };
        let mut site = Self {
            ring: Ring::new(Protocol::Bgp, SIZE)?,
            plan,
            programs,
            disks: BTreeMap::new(),
            keepers: BTreeMap::new(),
            servers: BTreeMap::new(),
        };
        for place in 0..SIZE {
            let disk = TempDir::new()?;
            let mut folders = vec![(site.programs.path().to_owned(), PROGRAMS.into())];
            for there in [KUBERNETES, DATA, KUBELET, OWN, SCRIPTS] {
                let here = disk.path().join(there.trim_start_matches('/'));
                fs::create_dir_all(&here)?;
                folders.push((here, there.into()));
            }
            site.ring.give_disk(place, folders)?;
            site.disks.insert(place, disk);
            site.ring.power_on(place, identity(place))?;
            site.ring.start_frr(place)?;
        }
        Ok(site)
    }

    /// A file that a machine has.
    pub(super) fn path(&self, place: Place, path: &str) -> PathBuf {
        self.disks[&place].path().join(path.trim_start_matches('/'))
    }

    pub(super) fn key(&self, place: Place, name: &str) -> Result<String> {
        let path = self.path(place, KUBERNETES).join("pki").join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// The first control plane.
    pub(super) fn found(&mut self) -> Result<()> {
        let (name, place) = CONTROL_PLANES[0];
        let members = [format!("{name}={}", etcd_peer(block(place)))];
        self.become_one(name, place, &members)?;
        self.plan.ca_cert_pem = self.key(place, "ca.crt")?;
        // Later members are told of one that there is.
        let manifest = self.manifest(place, "etcd");
        let text = fs::read_to_string(&manifest)?;
        fs::write(manifest, text.replace("--initial-cluster-state=existing", "--initial-cluster-state=new"))?;
        self.start(place, "etcd")?;
        self.serve(place)?;
        self.wait("the first API server answers", |site| site.serves(place))
    }

    /// One more, as the promoter does it: a learner, its keys, its vote.
    pub(super) fn join(&mut self, name: &str, place: Place) -> Result<()> {
        for shared in SHARED {
            let text = self.key(0, shared)?;
            let path = self.path(place, KUBERNETES).join("pki").join(shared);
            fs::create_dir_all(path.parent().context("a folder")?)?;
            fs::write(path, text)?;
        }
        let peer = etcd_peer(block(place));
        let mut entered = None;
        self.wait("a learner is entered", |site| {
            let peer = peer.clone();
            entered = site.ask_etcd(0, async move |etcd, at| etcd.add_learner(at, &peer).await)?.ok();
            Ok(entered.is_some())
        })?;
        let (learner, all) = entered.context("a learner")?;
        let mut members: Vec<String> = Vec::new();
        for member in all {
            let of = if member.id == learner.id { name } else { &member.name };
            members.push(format!("{of}={}", member.peers.first().context("a member's address")?));
        }
        self.become_one(name, place, &members)?;
        self.start(place, "etcd")?;
        self.wait("the learner has its vote", |site| {
            let promoted = site.ask_etcd(0, async move |etcd, at| etcd.promote(at, learner.id).await)?;
            Ok(promoted.is_ok())
        })?;
        self.serve(place)
    }

    /// What kubeadm makes of it.
    pub(super) fn become_one(&self, name: &str, place: Place, members: &[String]) -> Result<()> {
        let node: NodeName = name.parse()?;
        let wanted = ControlPlaneSpec::default();
        let config = control_plane_config(&self.plan, &node, block(place), &wanted, members);
        fs::write(self.path(place, KUBERNETES).join("kubeadm.yaml"), config)?;
        ["certs all", "etcd local", "control-plane apiserver"]
            .iter()
            .try_for_each(|phase| self.phase(place, phase))
    }

    /// A phase of `kubeadm init`, by what the machine became a control plane with.
    pub(super) fn phase(&self, place: Place, phase: &str) -> Result<()> {
        let words = format!("init phase {phase} --config {KUBERNETES}/kubeadm.yaml");
        let words: Vec<&str> = words.split(' ').collect();
        self.ring.namespace(place)?.run(&format!("{PROGRAMS}/kubeadm"), &words).map(drop)
    }

    /// A shell's command on a machine, which finds the programs there; what it says.
    pub(super) fn shell(&self, place: Place, command: &str) -> Result<String> {
        let mut shell = self.ring.namespace(place)?.command("bash");
        shell
            .args(["-euo", "pipefail", "-c", &format!("cd /\n{command}")])
            .env("PATH", format!("{PROGRAMS}:/usr/sbin:/usr/bin"));
        let Output { status, stdout, stderr } = shell.stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&stdout).into_owned();
        ensure!(status.success(), "{command}\n{said}{}", String::from_utf8_lossy(&stderr));
        Ok(said)
    }

    pub(super) fn manifest(&self, place: Place, pod: &str) -> PathBuf {
        self.path(place, KUBERNETES).join(format!("manifests/{pod}.yaml"))
    }

    /// Starts the program of a static pod, as its manifest says.
    pub(super) fn start(&self, place: Place, pod: &str) -> Result<Child> {
        let manifest = self.manifest(place, pod);
        let text =
            fs::read_to_string(&manifest).with_context(|| format!("reading {}", manifest.display()))?;
        let command = text.lines().skip_while(|line| line.trim() != "- command:").skip(1);
        // YAML has some of them in quotation marks.
        let words = command.map_while(|line| line.strip_prefix("    - ")).map(|word| word.trim_matches('\''));
        let words: Vec<&str> = words.collect();
        let (program, arguments) = words.split_first().context("a static pod has a command")?;
        let log = File::options().create(true).append(true).open(self.path(place, &format!("{pod}.log")))?;
        let mut command = self.ring.namespace(place)?.command(format!("{PROGRAMS}/{program}"));
        // It ends with the machine.
        Ok(command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?)
    }

    pub(super) fn start_server(&mut self, place: Place) -> Result<()> {
        let server = self.start(place, "kube-apiserver")?;
        self.servers.insert(place, server);
        Ok(())
    }

    /// As a kubelet ends it; waits until it has ended.
    pub(super) fn end_server(&mut self, place: Place) -> Result<()> {
        let mut server = self.servers.remove(&place).context("it has no API server")?;
        let nsenter = server.id();
        let children = fs::read_to_string(format!("/proc/{nsenter}/task/{nsenter}/children"))?;
        kill(
            Pid::from_raw(children.trim().parse().context("the server is the only child")?),
            Signal::SIGTERM,
        )?;
        self.wait("the API server has ended", |_| Ok(server.try_wait()?.is_some()))
    }

    /// Its API server, and the addresses.
    pub(super) fn serve(&mut self, place: Place) -> Result<()> {
        self.start_server(place)?;
        let plan = &self.plan.plan;
        let anycasts = services::of_control_plane(plan, block(place), &self.plan.ca_cert_pem, None)?;
        let (stop, stopped) = watch::channel(false);
        let (status, seen) = watch::channel(Vec::new());
        let thread = self.ring.network(place)?.spawn("keeper", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(anycast::keep(anycasts, status, stopped))
        })?;
        let thread = std::thread::spawn(move || thread.join().expect("the keeper panics")?);
        self.keepers.insert(place, Keeper { stop, seen, thread });
        Ok(())
    }

    pub(super) fn serves(&self, place: Place) -> Result<bool> {
        let seen = self.keepers.get(&place).map(|keeper| keeper.seen.borrow().clone()).unwrap_or_default();
        Ok(seen.len() == 2 && seen.iter().all(|one| one.held))
    }

    /// Asks a machine's etcd, on that machine.
    pub(super) fn ask_etcd<T, F>(
        &self,
        place: Place,
        ask: impl FnOnce(Etcd, Ipv6Addr) -> F + Send + 'static,
    ) -> Result<Result<T, EtcdError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, EtcdError>>,
    {
        let client = "apiserver-etcd-client";
        let (crt, key) =
            (self.key(place, &format!("{client}.crt"))?, self.key(place, &format!("{client}.key"))?);
        let etcd = Etcd::new(&self.key(place, "etcd/ca.crt")?, &crt, &key, ETCD_PORT)?;
        let at = block(place).vip();
        self.ring.network(place)?.enter(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(ask(etcd, at)))
        })?
    }

    pub(super) fn wait(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while !done(self)? {
            let logs = || -> String {
                let all = self.disks.iter().flat_map(|(place, disk)| {
                    ["etcd", "kube-apiserver"].map(|pod| (place, pod, disk.path().join(format!("{pod}.log"))))
                });
                all.map(|(place, pod, path)| format!("--- place {place}, {pod}\n{}\n", tail(&path))).collect()
            };
            ensure!(begun.elapsed() < LIMIT, "{what}: not within {} s\n{}", LIMIT.as_secs(), logs());
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// All of them are members, answer, and have their addresses.
    pub(super) fn wait_until_whole(&mut self, all: &[(&str, Place)]) -> Result<()> {
        self.wait("all control planes are well", |site| {
            let mut whole = true;
            for &(_, place) in all {
                let member = site.ask_etcd(place, async |etcd, at| Ok(etcd.answers(at).await))?;
                let member: Option<MemberId> = member.unwrap_or_default();
                whole &= member.is_some() && site.serves(place)?;
            }
            Ok(whole)
        })
    }

    /// All of it ends at once; its neighbours keep their carriers and hear nothing more.
    pub(super) fn power_off(&mut self, place: Place) -> Result<()> {
        self.ring.power_off(place)?;
        let keeper = self.keepers.remove(&place).context("it is no control plane")?;
        // Nobody is left to hear what it takes back.
        keeper.stop.send_replace(true);
        keeper.thread.join().expect("the keeper panics")
    }

    pub(super) fn power_on(&mut self, place: Place) -> Result<()> {
        self.ring.power_on(place, identity(place))?;
        self.ring.start_frr(place)?;
        // Where its data says that it is a member it is that, whatever it is told.
        self.start(place, "etcd")?;
        self.serve(place)
    }

    /// Begins to ask on the machine that is no control plane.
    pub(super) fn ask(&self) -> Result<Asking> {
        let folder = self.path(WITNESS, KUBERNETES);
        for name in ["ca.crt", "apiserver-kubelet-client.crt", "apiserver-kubelet-client.key"] {
            fs::write(folder.join(name), self.key(0, name)?)?;
        }
        let server = format!("https://[{}]:{APISERVER_PORT}", self.plan.plan.apiserver);
        let arguments = [
            format!("--server={server}"),
            format!("--certificate-authority={KUBERNETES}/ca.crt"),
            format!("--client-certificate={KUBERNETES}/apiserver-kubelet-client.crt"),
            format!("--client-key={KUBERNETES}/apiserver-kubelet-client.key"),
            PATIENCE.to_owned(),
        ];
        let kubectl = format!("{PROGRAMS}/kubectl");
        let mut command = self.ring.namespace(WITNESS)?.command(kubectl);
        // What etcd says now, not what an API server remembers.
        command.args(arguments).args(["get", "--raw", "/api/v1/namespaces/default"]).stdin(Stdio::null());
        let mut once = move || -> Result<bool> {
            let Output { status, .. } = command.output()?;
            Ok(status.success())
        };
        ensure!(once()?, "the witness has no answer although all is well");
        Asking::start(self.ring.network(WITNESS)?, EVERY, once)
    }

    /// Begins to make connections to the API server from there, more often than `kubectl` can be started.
    pub(super) fn knock(&self) -> Result<Asking> {
        let server = SocketAddr::from((self.plan.plan.apiserver, APISERVER_PORT));
        let once = move || Ok(TcpStream::connect_timeout(&server, KNOCK_PATIENCE).is_ok());
        Asking::start(self.ring.network(WITNESS)?, KNOCK_EVERY, once)
    }
}

/// The programs, in a folder that a machine can have.
fn programs() -> Result<TempDir> {
    let from = std::env::var_os("MESHBOOT_TEST_KUBERNETES").context("MESHBOOT_TEST_KUBERNETES is not set")?;
    let folder = TempDir::new()?;
    for name in ["kubeadm", "kubectl", "kube-apiserver", "etcd"] {
        let path = Path::new(&from).join(name);
        fs::copy(&path, folder.path().join(name)).with_context(|| format!("copying {}", path.display()))?;
    }
    Ok(folder)
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
