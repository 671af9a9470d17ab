//! Images of a registry elsewhere, by way of a mirror: Debian's `docker-registry`, which wants to know who asks, and
//! containerd and skopeo, which do not tell.

use std::net::TcpListener;

use images::client::{Route, client_by};
use images::pull::{Puller, Revalidate, Upstreams};
use images::upstream::{Credentials, UpstreamConfig};
use tests::debian::unpacked;
use tests::netns::Namespace;

use super::*;

pub(crate) const USER: &str = "user";
pub(crate) const PASSWORD: &str = "secret";
/// `htpasswd -nbB user secret`, with the least work that bcrypt can be told to do.
const HTPASSWD: &str = "user:$2b$04$mbU6OvmZONacFRRrRz7U6.P6fRUpKC8xJAvSo/8bI1RQeOFeqV.7e\n";

/// A registry of another's program.
pub(crate) struct Elsewhere {
    dir: TempDir,
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Elsewhere {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
        let auth = format!("htpasswd: {{ realm: elsewhere, path: {}/htpasswd }}", dir.path().display());
        Self::with(dir, &auth)
    }

    /// One that is told so who may come in.
    pub(crate) fn with(dir: TempDir, auth: &str) -> Self {
        let address = free_port();
        let config = format!(
            "version: 0.1\nstorage: {{ filesystem: {{ rootdirectory: {0}/data }} }}\n\
             http: {{ addr: \"{address}\" }}\nauth: {{ {auth} }}\n",
            dir.path().display()
        );
        fs::write(dir.path().join("config.yml"), config).unwrap();
        let child = Self::command(&dir).spawn().expect("docker-registry does not start");
        let elsewhere = Self { dir, child, address };
        elsewhere.wait();
        elsewhere
    }

    fn command(dir: &TempDir) -> Command {
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let package = unpacked("bookworm", "docker-registry").unwrap();
        let mut command = Command::new(package.join("usr/bin/docker-registry"));
        command.arg("serve").arg(dir.path().join("config.yml")).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    /// The same, where only this namespace reaches it.
    pub(crate) fn move_to(&mut self, namespace: &Namespace, address: &str) {
        self.stop();
        let path = self.dir.path().join("config.yml");
        let config = fs::read_to_string(&path).unwrap();
        let config = config.replace(&self.address.to_string(), address);
        fs::write(path, config).unwrap();
        self.address = address.parse().unwrap();
        let mut command = Self::command(&self.dir);
        self.child = namespace.network().unwrap().enter(move || command.spawn()).unwrap().unwrap();
    }

    fn wait(&self) {
        wait_for("docker-registry", || std::net::TcpStream::connect(self.address).is_ok());
    }

    /// Takes an image from a store.
    pub(crate) fn push(&self, served: &Served, from: &str, to: &str) {
        let from = format!("docker://{}/{from}", served.for_skopeo);
        let to = format!("docker://{}/{to}", self.address);
        let copy = ["--insecure-policy", "copy", "--preserve-digests", "--src-tls-verify=false"];
        let there = ["--dest-tls-verify=false", "--dest-creds", &format!("{USER}:{PASSWORD}"), &from, &to];
        run("skopeo", &[&copy[..], &there].concat());
    }

    /// How many requests for this it has answered.
    pub(crate) fn requests(&self, what: &str) -> usize {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap();
        let answered = |line: &&str| line.contains("response completed") && line.contains(what);
        log.lines().filter(answered).count()
    }

    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A mirror on a runtime of its own.
pub(crate) struct Mirror {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Mirror {
    pub(crate) fn start(store: &Path, elsewhere: &Elsewhere, password: &str) -> Self {
        let store = Store::open(store).unwrap();
        let credentials = Some(Credentials { user: USER.to_owned(), password: password.to_owned() });
        let endpoint = Some(format!("http://{}", elsewhere.address).parse().unwrap());
        let registry = "registry.example".parse().unwrap();
        let config = UpstreamConfig { registry, endpoint, credentials };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Listener { address, registry: Some("registry.example".parse().unwrap()), guard: None };
        let (stop, stopped) = oneshot::channel::<()>();
        let (bound, addresses) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.unwrap().block_on(async {
                let client = client_by(&Route::default()).unwrap();
                let upstreams = Upstreams::new(vec![config], false, &client).unwrap();
                let registry = registry::bind(vec![listener]).unwrap();
                bound.send(registry.addresses()[0]).unwrap();
                let shutdown = async {
                    let _ = stopped.await;
                };
                let puller = Puller::new(store, 1 << 30, upstreams, Revalidate::Always).unwrap();
                registry.serve(puller, shutdown).await;
            });
        });
        Self { address: addresses.recv().unwrap(), stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn inspect(&self, name: &str) -> Output {
        let url = format!("docker://{}/{name}", self.address);
        Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &url]).output().unwrap()
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// Once pulled, an image needs its registry no more; until then nobody but the mirror tells it who asks.
#[test]
fn what_was_pulled_once_by_a_mirror_is_there_when_its_registry_is_not() {
    let served = Served::start();
    let mut elsewhere = Elsewhere::start();
    elsewhere.push(&served, "library/busybox:latest", "a/busybox:v1");
    let store = served.path("mirrored");
    let mirror = Mirror::start(&store, &elsewhere, PASSWORD);
    let containerd = Containerd::start(&served.path("c"));
    let hosts = served.path("hosts");
    fs::create_dir_all(hosts.join("registry.example")).unwrap();
    let text =
        format!("server = \"http://{}\"\ncapabilities = [\"pull\", \"resolve\"]\n[host]\n", mirror.address);
    fs::write(hosts.join("registry.example/hosts.toml"), text).unwrap();
    let name = "registry.example/a/busybox:v1";
    let pull = ["images", "pull", "--snapshotter", "native", "--hosts-dir", hosts.to_str().unwrap(), name];
    containerd.ctr(&pull);
    let digest = served.images[0].1.digest.to_string();
    assert_eq!(containerd.image(name).0, digest);
    // A second client gets the same without another blob from there.
    let blobs = elsewhere.requests("/blobs/");
    assert!(blobs > 0);
    let out = served.path("copied");
    let copy = |out: &Path| {
        let from = format!("docker://{}/a/busybox:v1", mirror.address);
        let to = format!("dir:{}", out.display());
        let copy = ["--insecure-policy", "copy", "--preserve-digests", "--src-tls-verify=false", &from, &to];
        run("skopeo", &copy)
    };
    copy(&out);
    assert_eq!(elsewhere.requests("/blobs/"), blobs);
    let tags = run(
        "skopeo",
        &["list-tags", "--tls-verify=false", &format!("docker://{}/a/busybox", mirror.address)],
    );
    assert!(String::from_utf8_lossy(&tags.stdout).contains("\"v1\""));

    elsewhere.stop();
    copy(&served.path("copied again"));
    drop(mirror);
    // And by another process, from the same store.
    let mirror = Mirror::start(&store, &elsewhere, PASSWORD);
    assert_eq!(Digest::of(&mirror.inspect("a/busybox:v1").stdout).to_string(), digest);
}

#[test]
fn a_mirror_says_why_it_has_no_image() {
    let served = Served::start();
    let mut elsewhere = Elsewhere::start();
    elsewhere.push(&served, "library/busybox:latest", "a/busybox:v1");
    let mirror = Mirror::start(&served.path("mirrored"), &elsewhere, "wrong");
    let said = |output: Output| {
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let denied = said(mirror.inspect("a/busybox:v1"));
    assert!(denied.contains("credentials") && !denied.contains("wrong"), "{denied}");
    let mirror = Mirror::start(&served.path("mirrored"), &elsewhere, PASSWORD);
    let unknown = said(mirror.inspect("a/busybox:v2"));
    assert!(unknown.contains("manifest unknown") || unknown.contains("is not there"), "{unknown}");
    elsewhere.stop();
    let url = format!("http://{}/v2/a/busybox/manifests/v1", mirror.address);
    let away = String::from_utf8(run("curl", &["-sS", &url]).stdout).unwrap();
    assert!(away.contains("UNAVAILABLE") && away.contains("cannot be fetched"), "{away}");
}
