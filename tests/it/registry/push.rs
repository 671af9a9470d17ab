//! Images of one's own: pushed to the seed by skopeo, podman and docker, by TLS and with a password, and pulled on every node.

use std::os::unix::fs::PermissionsExt as _;
use std::time::SystemTime;

use bootstrap::pki::Pki;
use images::registry::USER;
use mesh::plan::{MESH_REGISTRY, REGISTRY_PORT};
use serde_json::json;
use tests::debian::unpacked;
use tests::netns::Namespace;

use super::line::{self, MACHINES, Machine, Seed, name};
use super::*;

pub(super) const PASSWORD: &str = "a password of a deployment";

/// A mesh, and what its operator has.
pub(super) struct Mesh {
    pub(super) machines: Vec<Machine>,
    /// The folder with the authority's certificate.
    pub(super) trust: String,
    /// What `skopeo login` wrote.
    login: String,
    pub(super) registry: String,
}

/// `what` tells it from the meshes of other tests.
pub(super) fn mesh(served: &Served, what: &str) -> Mesh {
    let pki = Pki::generate(SystemTime::now(), false).unwrap();
    let key = served.path("ca.key");
    fs::write(&key, pki.kubernetes.key_pem.expose()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let trust = served.path("trust");
    fs::create_dir(&trust).unwrap();
    fs::write(trust.join("ca.crt"), &pki.kubernetes.certificate_pem).unwrap();
    let password = Digest::of(PASSWORD.as_bytes());
    let registry = json!({ "password": password, "authority_key": key });
    let settings = json!({ "excluded": [], "registry": registry });
    let seed = Seed { authority_pem: pki.kubernetes.certificate_pem.clone(), settings };
    let machines = (0..).zip(line::line(what));
    let start = |(number, namespace)| Machine::start(namespace, number, served.path(&name(number)), &seed);
    // skopeo's parser of names knows no IPv6 addresses.
    let registry = format!("127.0.0.1:{REGISTRY_PORT}");
    let (trust, login) = (trust.display().to_string(), served.path("login.json").display().to_string());
    Mesh { machines: machines.map(start).collect(), trust, login, registry }
}

impl Mesh {
    pub(super) fn seed(&self) -> &Namespace {
        &self.machines[0].namespace
    }

    /// Runs a program where the seed's address is reached.
    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let (program, arguments) = (program.to_owned(), arguments.iter().map(ToString::to_string));
        let arguments: Vec<String> = arguments.collect();
        let run = move || Command::new(program).args(arguments).stdin(Stdio::null()).output();
        self.seed().network().unwrap().enter(run).unwrap().expect("the program is there")
    }

    fn login(&self, password: &str) -> Output {
        let arguments = [
            "login",
            "--authfile",
            &self.login,
            "--cert-dir",
            &self.trust,
            "-u",
            USER,
            "-p",
            password,
            &self.registry,
        ];
        self.run("skopeo", &arguments)
    }

    /// Pushes an image of an archive.
    fn push(&self, archive: &Path, to: &str) -> Output {
        let from = format!("oci-archive:{}", archive.display());
        let to = format!("docker://{}/{to}", self.registry);
        let copy = ["--insecure-policy", "copy", "--preserve-digests", "--dest-cert-dir", &self.trust];
        self.run("skopeo", &[&copy[..], &["--authfile", &self.login, &from, &to]].concat())
    }
}

fn good(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_is_pushed_to_the_seed_is_pulled_on_every_node_at_once() {
    let served = Served::start();
    let mesh = mesh(&served, "push");
    let archives = [served.path("busybox.tar"), served.path("shell.tar")];
    for (archive, image) in
        archives.iter().zip(["docker.io/library/busybox:latest", "registry.k8s.io/a/shell:v1"])
    {
        export(&served, image, archive);
    }
    let [busybox, shell] = &archives;
    // Nobody comes in without the password, or pushes to a mirror.
    assert!(!mesh.push(busybox, "team/app:v1").status.success());
    let wrong = mesh.login("another");
    assert!(
        !wrong.status.success() && said(&wrong).contains("invalid username/password"),
        "{}",
        said(&wrong)
    );
    let stranger = served.path("stranger");
    fs::create_dir(&stranger).unwrap();
    let url = format!("https://{}/v2/", mesh.registry);
    let strange = mesh.run("curl", &["-sS", &url]);
    assert!(said(&strange).contains("certificate"), "{}", said(&strange));
    let place = "http://127.0.0.1:5000/v2/team/app/blobs/uploads/";
    let refused = mesh.run("curl", &["-sS", "-X", "POST", &place.replace("127.0.0.1", "[::1]")]);
    assert!(String::from_utf8_lossy(&refused.stdout).contains("pushed to the seed"), "{refused:?}");

    good(&mesh.login(PASSWORD));
    good(&mesh.push(busybox, "team/app:v1"));
    let image = format!("{MESH_REGISTRY}/team/app:v1");
    for (number, machine) in (0..MACHINES).zip(&mesh.machines).rev() {
        assert_eq!(machine.pull("first", &image), served.images[0].1.digest.to_string(), "{}", name(number));
    }
    // The same name for another image: it is there as soon as the push has ended.
    good(&mesh.push(shell, "team/app:v1"));
    assert_eq!(mesh.machines[3].pull("second", &image), served.images[2].1.digest.to_string());
    // And from a machine's own address outside, whichever that is.
    let pem = format!("{}/ca.crt", mesh.trust);
    for address in ["[::1]".to_owned(), format!("[{}]", line::vip(0))] {
        let url = format!("https://{address}:{REGISTRY_PORT}/v2/team/app/tags/list");
        let listed = mesh.run("curl", &["-sSf", "--cacert", &pem, "-u", &format!("{USER}:{PASSWORD}"), &url]);
        assert_eq!(
            String::from_utf8_lossy(&listed.stdout),
            r#"{"name":"team/app","tags":["v1"]}"#,
            "{}",
            said(&listed)
        );
    }
}

#[test]
fn podman_pushes_what_it_has() {
    let served = Served::start();
    let mesh = mesh(&served, "push");
    let archive = served.path("busybox.tar");
    export(&served, "docker.io/library/busybox:latest", &archive);
    let storage = ["root", "run"].map(|folder| served.path(folder).display().to_string());
    let podman = |arguments: &[&str]| {
        let own = ["--root", &storage[0], "--runroot", &storage[1], "--storage-driver", "vfs"];
        mesh.run("podman", &[&own[..], &["--cgroup-manager", "cgroupfs"], arguments].concat())
    };
    // As the README has it.
    let password = served.path("password");
    fs::write(&password, PASSWORD).unwrap();
    let password = password.display().to_string();
    let login = ["podman", "login", "--authfile", &mesh.login, "--cert-dir", &mesh.trust, "-u", USER];
    let login = [&login[..], &["--password-stdin", &mesh.registry, "<", &password]].concat();
    good(&mesh.run("sh", &["-c", &login.join(" ")]));
    let from = format!("oci-archive:{}", archive.display());
    let pulled = podman(&["pull", &from]);
    good(&pulled);
    let id = String::from_utf8_lossy(&pulled.stdout).trim().to_owned();
    let to = format!("{}/team/podman:v1", mesh.registry);
    good(&podman(&["push", "--cert-dir", &mesh.trust, "--authfile", &mesh.login, &id, &to]));
    // It packs layers anew, so the digest is another one.
    let digest = mesh.machines[1].pull("podman", &format!("{MESH_REGISTRY}/team/podman:v1"));
    assert!(digest.starts_with("sha256:"), "{digest}");
}

/// docker's daemon, which has its own folder of `/etc`, and ends with its test.
struct Docker {
    daemon: Child,
    program: PathBuf,
    folder: PathBuf,
}

impl Docker {
    /// One that trusts who has the certificate in a folder, at that address.
    fn start(mesh: &Mesh, folder: &Path, registry: &str) -> Self {
        let package = unpacked("bookworm", "docker.io").unwrap();
        let certificates = folder.join("etc/docker/certs.d").join(registry);
        fs::create_dir_all(&certificates).unwrap();
        fs::create_dir(folder.join("work")).unwrap();
        fs::copy(Path::new(&mesh.trust).join("ca.crt"), certificates.join("ca.crt")).unwrap();
        let script = "mount -t overlay overlay -o lowerdir=/etc,upperdir=$1/etc,workdir=$1/work /etc && \
                      exec $2 --data-root $1/data --exec-root $1/exec --pidfile $1/pid -H unix://$1/sock \
                      --bridge=none --iptables=false --ip6tables=false --storage-driver=vfs";
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh"]).arg(folder).arg(package.join("usr/sbin/dockerd"));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let daemon = mesh.seed().network().unwrap().enter(move || command.spawn()).unwrap().unwrap();
        let docker = Self { daemon, program: package.join("usr/bin/docker"), folder: folder.to_owned() };
        wait_for("dockerd", || docker.command(&["version"]).output().unwrap().status.success());
        docker
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-H").arg(format!("unix://{}/sock", self.folder.display())).args(arguments);
        command.env("DOCKER_CONFIG", self.folder.join("config"));
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).stdin(Stdio::null()).output().unwrap();
        good(&output);
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // It ends the containerd that it started.
        let pid = nix::unistd::Pid::from_raw(self.daemon.id().cast_signed());
        let _told = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _gone = self.daemon.wait();
    }
}

#[test]
fn docker_pushes_what_it_has() {
    // It trusts whoever is at 127.0.0.1.
    const ADDRESS: &str = "192.0.2.1";
    let served = Served::start();
    let mesh = mesh(&served, "push");
    mesh.seed().run("ip", &["addr", "add", ADDRESS, "dev", "lo"]).unwrap();
    let registry = format!("{ADDRESS}:{REGISTRY_PORT}");
    let archive = served.path("docker.tar");
    let from = format!("docker://{}/library/busybox:plain", served.for_skopeo);
    let to = format!("docker-archive:{}:team/app:v1", archive.display());
    run("skopeo", &["--insecure-policy", "copy", "--src-tls-verify=false", &from, &to]);
    let docker = Docker::start(&mesh, &served.path("docker"), &registry);
    docker.run(&["load", "-i", &archive.display().to_string()]);
    let name = format!("{registry}/team/docker:v1");
    docker.run(&["tag", "team/app:v1", &name]);
    let refused = docker.command(&["push", &name]).stdin(Stdio::null()).output().unwrap();
    assert!(!refused.status.success() && said(&refused).contains("no basic auth"), "{}", said(&refused));
    docker.run(&["login", "-u", USER, "-p", PASSWORD, &registry]);
    let pushed = docker.run(&["push", &name]);
    let digest = mesh.machines[2].pull("docker", &format!("{MESH_REGISTRY}/team/docker:v1"));
    assert!(pushed.contains(&digest), "{digest} of {pushed}");
}
