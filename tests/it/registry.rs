//! The registry and its images, with the clients that a mesh and its people use: containerd and skopeo.
//!
//! Needs root and the packages `containerd`, `skopeo`, `podman`, `busybox-static`, `iproute2`.

#![expect(clippy::unwrap_used, reason = "the tests' own helpers fail as the tests do")]

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use images::{
    load,
    oci::{Compression, Config, Image, Layer, busybox, root::Root},
    pull::Puller,
    registry::{self, Listener, ProbeError},
    store::{Descriptor, Digest, Reference, Store},
};
use tempfile::TempDir;
use tokio::sync::oneshot;

mod crowd;
mod kill;
mod kubelet;
mod line;
mod outside;
pub(crate) mod pull;
mod push;
mod token;

/// How long a client may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

const DOCKER_IO: &str = "docker.io";

/// Where Debian's `busybox-static` is.
const BUSYBOX: &str = "/bin/busybox";

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; is its package installed?"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Waits for something that has no event, and says what it waits for when it does not come.
fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !ready() {
        assert!(Instant::now() < end, "{what} did not come within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A store with images, and a registry that serves them, on a runtime of its own.
pub(crate) struct Served {
    dir: TempDir,
    store: Store,
    docker_io: SocketAddr,
    named: SocketAddr,
    for_skopeo: SocketAddr,
    pub(crate) images: Vec<(Reference, Descriptor)>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        let mut images = Vec::new();
        let mut make = |name: &str, image: &Image, compression| {
            let name: Reference = name.parse().unwrap();
            let target = image.assemble_as(&name, &store, compression).unwrap();
            images.push((name, target));
        };
        let busybox = busybox::image(Path::new(BUSYBOX)).unwrap();
        make(busybox::NAME, &busybox, Compression::default());
        make("docker.io/library/busybox:plain", &busybox, Compression::None);
        let mut layer = Layer::default();
        // A program with libraries; two layers, one of them with what tar finds hard.
        Root::new("/").take("/bin/sh", &mut layer).unwrap();
        let mut second = Layer::default();
        second.bytes(&format!("{}/{}", "d".repeat(110), "f".repeat(110)), "long", 0o644).unwrap();
        let config = Config { entrypoint: vec!["/bin/sh".to_owned()], ..Config::default() };
        let shell = Image { layers: vec![layer, second], config };
        make("registry.k8s.io/a/shell:v1", &shell, Compression::default());

        // skopeo's parser of names knows no IPv6 addresses, and `localhost` is 127.0.0.1 to it.
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        let docker_io = Some(DOCKER_IO.parse().unwrap());
        let listen = |address, registry| Listener { address, registry, guard: None };
        let listeners = vec![listen(v6, docker_io.clone()), listen(v6, None), listen(v4, docker_io)];
        let (stop, stopped) = oneshot::channel::<()>();
        let (bound, addresses) = std::sync::mpsc::channel();
        let served = store.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let registry = registry::bind(listeners).unwrap();
                bound.send(registry.addresses()).unwrap();
                let shutdown = async {
                    let _ = stopped.await;
                };
                registry.serve(Puller::offline(served), shutdown).await;
            });
        });
        let [docker_io, named, for_skopeo] = addresses.recv().unwrap().try_into().unwrap();
        Self { dir, store, docker_io, named, for_skopeo, images, stop: Some(stop), thread: Some(thread) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A containerd of our own.
struct Containerd {
    child: Child,
    socket: String,
}

impl Containerd {
    fn start(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        let config = dir.join("config.toml");
        let socket = dir.join("s").display().to_string();
        let text = format!(
            "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = \"{socket}\"\n[ttrpc]\naddress = \"{socket}.ttrpc\"\n",
            dir.display()
        );
        fs::write(&config, text).unwrap();
        let log = fs::File::create(dir.join("log")).unwrap();
        let child = Command::new("containerd")
            .args(["--config", config.to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("containerd: is its package installed?");
        let containerd = Self { child, socket };
        wait_for("containerd", || {
            let asked = Command::new("ctr").args(["-a", &containerd.socket, "version"]).output();
            asked.is_ok_and(|output| output.status.success())
        });
        containerd
    }

    fn ctr(&self, arguments: &[&str]) -> String {
        let output = run("ctr", &[&["-a", &self.socket], arguments].concat());
        String::from_utf8(output.stdout).unwrap()
    }

    /// The digest that containerd has for a name, and its media type.
    fn image(&self, name: &str) -> (String, String) {
        let listed = self.ctr(&["images", "list", &format!("name=={name}")]);
        let line = listed.lines().nth(1).unwrap_or_else(|| panic!("{name} is not in {listed}"));
        let mut fields = line.split_whitespace().skip(1).map(str::to_owned);
        let media_type = fields.next().unwrap();
        (fields.next().unwrap(), media_type)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The way of a node: names of the upstream registries, mirrors by `hosts.toml`, by tag and by digest.
#[test]
fn containerd_pulls_through_the_mirrors() {
    let served = Served::start();
    let containerd = Containerd::start(&served.path("c"));
    let hosts = served.path("hosts");
    for (registry, mirror) in [(DOCKER_IO, served.docker_io), ("_default", served.named)] {
        fs::create_dir_all(hosts.join(registry)).unwrap();
        // containerd up to 1.7 wants a `[host]` table and cannot read one whose key holds a bracket, as IPv6 addresses do.
        let text = format!("server = \"http://{mirror}\"\ncapabilities = [\"pull\", \"resolve\"]\n[host]\n");
        fs::write(hosts.join(registry).join("hosts.toml"), text).unwrap();
    }
    let hosts = hosts.to_str().unwrap();
    let pull = |name: &str| {
        // Unpacking checks every layer against the configuration's digests.
        containerd.ctr(&["images", "pull", "--snapshotter", "native", "--hosts-dir", hosts, name]);
    };
    for (name, target) in &served.images {
        let name = name.to_string();
        pull(&name);
        assert_eq!(containerd.image(&name), (target.digest.to_string(), target.media_type.clone()), "{name}");
    }
    let by_digest = format!("docker.io/library/busybox@{}", served.images[1].1.digest);
    pull(&by_digest);
    assert_eq!(containerd.image(&by_digest).0, served.images[1].1.digest.to_string());
    // The alias of old kubeadms.
    pull("k8s.gcr.io/a/shell:v1");

    let missing =
        ["-a", &containerd.socket, "images", "pull", "--hosts-dir", hosts, "docker.io/library/none:1"];
    let output = Command::new("ctr").args(missing).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("not found"), "{said}");

    // What was unpacked is what the image says.
    let mount = served.path("mount");
    fs::create_dir_all(&mount).unwrap();
    let mounted = mount.to_str().unwrap();
    containerd.ctr(&[
        "images",
        "mount",
        "--snapshotter",
        "native",
        "docker.io/library/busybox:latest",
        mounted,
    ]);
    assert_eq!(fs::read(mount.join("bin/busybox")).unwrap(), fs::read(BUSYBOX).unwrap());
    let said = run("chroot", &[mounted, "/bin/sh", "-c", "echo up; ls /bin/httpd /bin/nc"]).stdout;
    containerd.ctr(&["images", "unmount", mounted]);
    assert_eq!(String::from_utf8(said).unwrap(), "up\n/bin/httpd\n/bin/nc\n");
}

/// A program with libraries, taken out of a root by reading its headers, runs in the image.
#[test]
fn a_program_of_a_root_runs_in_its_image() {
    let served = Served::start();
    let containerd = Containerd::start(&served.path("c"));
    let name = format!("{}/a/shell:v1", served.named);
    // The listener for all registries needs to be told which: a client that cannot tell gets nothing.
    let output = Command::new("ctr")
        .args(["-a", &containerd.socket, "images", "pull", "--plain-http", &name])
        .output()
        .unwrap();
    assert!(!output.status.success());

    let archive = served.path("shell.tar");
    export(&served, "registry.k8s.io/a/shell:v1", &archive);
    containerd.ctr(&["images", "import", "--snapshotter", "native", archive.to_str().unwrap()]);
    let mount = served.path("mount");
    fs::create_dir_all(&mount).unwrap();
    let mounted = mount.to_str().unwrap();
    containerd.ctr(&["images", "mount", "--snapshotter", "native", "registry.k8s.io/a/shell:v1", mounted]);
    let said = run("chroot", &[mounted, "/bin/sh", "-c", "echo up"]).stdout;
    containerd.ctr(&["images", "unmount", mounted]);
    assert_eq!(String::from_utf8(said).unwrap(), "up\n");
}

/// Writes an image of the store as an OCI layout, by skopeo.
fn export(served: &Served, name: &str, archive: &Path) {
    let (_, target) = served.images.iter().find(|(made, _)| made.to_string() == name).unwrap();
    let copy: Reference = "docker.io/copy/of:1".parse().unwrap();
    served.store.set_ref(&copy, target).unwrap();
    let from = format!("docker://{}/copy/of:1", served.for_skopeo);
    let to = format!("oci-archive:{}:{name}", archive.display());
    run("skopeo", &["--insecure-policy", "copy", "--preserve-digests", "--src-tls-verify=false", &from, &to]);
}

/// The way of people: skopeo, straight from the registry, and back by an archive.
#[test]
fn skopeo_copies_and_what_it_writes_can_be_loaded() {
    let served = Served::start();
    let from = |tag: &str| format!("docker://{}/library/busybox:{tag}", served.for_skopeo);
    for (name, target) in served.images.iter().filter(|(name, _)| name.registry.as_str() == DOCKER_IO) {
        let raw = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &from(name.tag.as_str())]).stdout;
        assert_eq!(Digest::of(&raw), target.digest);
    }
    let tags = run(
        "skopeo",
        &["list-tags", "--tls-verify=false", &format!("docker://{}/library/busybox", served.for_skopeo)],
    );
    let tags: serde_json::Value = serde_json::from_slice(&tags.stdout).unwrap();
    assert_eq!(tags["Tags"], serde_json::json!(["latest", "plain"]));

    let layout = served.path("layout.tar");
    let docker = served.path("docker.tar");
    let to_layout = format!("oci-archive:{}:busybox:copied", layout.display());
    let to_docker = format!("docker-archive:{}:quay.io/a/busybox:saved", docker.display());
    // The docker form knows no zstd.
    for (tag, to) in [("latest", &to_layout), ("plain", &to_docker)] {
        run("skopeo", &["--insecure-policy", "copy", "--src-tls-verify=false", &from(tag), to]);
    }
    let other = Store::open(served.path("other")).unwrap();
    let loaded = load::load(&layout, &other).unwrap();
    assert_eq!(loaded[0].reference.to_string(), "docker.io/library/busybox:copied");
    assert_eq!(loaded[0].target.digest, served.images[0].1.digest, "an OCI layout keeps every byte");
    let loaded = load::load(&docker, &other).unwrap();
    assert_eq!(loaded[0].reference.to_string(), "quay.io/a/busybox:saved");
    assert_eq!(load::list(&other).unwrap().len(), 2);
}

/// Anycast: the registry listens on an address that comes and goes, and is asked by one that stays.
#[test]
fn an_anycast_address_may_come_and_go() {
    // Of this thread only, and of the programs that it starts.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("needs root");
    run("ip", &["link", "set", "lo", "up"]);
    let anycast: SocketAddr = "[fd65:7b9c:569:680:98e8:1762:7b6e:83f6]:5000".parse().unwrap();
    let local: SocketAddr = "[::1]:5000".parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listeners = [anycast, local].map(|address| Listener { address, registry: None, guard: None });
        let (stop, stopped) = oneshot::channel::<()>();
        let registry = registry::bind(listeners.to_vec()).unwrap();
        let registry = tokio::spawn(registry.serve(Puller::offline(store), async {
            let _ = stopped.await;
        }));
        let limit = Duration::from_secs(5);
        registry::probe(local, limit).await.unwrap();
        assert!(matches!(registry::probe(anycast, limit).await, Err(ProbeError::Io { .. })));
        let address = format!("{}/128", anycast.ip());
        for _ in 0..2 {
            run("ip", &["address", "add", &address, "dev", "lo", "nodad"]);
            // The kernel makes the address's route a moment after it has said that the address is there.
            let end = Instant::now() + LIMIT;
            while let Err(error) = registry::probe(anycast, limit).await {
                assert!(Instant::now() < end, "{error}: {:?}", std::error::Error::source(&error));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            run("ip", &["address", "del", &address, "dev", "lo"]);
            assert!(matches!(registry::probe(anycast, limit).await, Err(ProbeError::Io { .. })));
        }
        stop.send(()).unwrap();
        registry.await.unwrap();
        assert!(matches!(registry::probe(local, limit).await, Err(ProbeError::Io { .. })));
    });
}
