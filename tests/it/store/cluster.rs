//! etcd, a Kubernetes API server and, where it is asked for, the controllers that approve and sign certificates, on
//! loopback, from a folder of binaries.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tempfile::TempDir;

/// How long a server may take to start, on a slow machine that has other work.
const START: Duration = Duration::from_secs(120);

/// Who may speak to the API server: token, user, id, groups.
const USERS: [(&str, &str, &str, &str); 4] = [
    ("admin-token", "admin", "1", "system:masters"),
    ("node1-token", "system:node:node1", "2", "system:nodes"),
    ("node2-token", "system:node:node2", "3", "system:nodes"),
    ("crasher-token", "crasher", "4", "crashers"),
];

/// A cluster of one etcd and one API server, and what was started besides, which end with it.
#[derive(Debug)]
pub(crate) struct Cluster {
    binaries: PathBuf,
    folder: TempDir,
    port: u16,
    etcd_port: u16,
    etcd: Child,
    api: Option<Child>,
    controllers: Option<Child>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let binaries = std::env::var_os("MESHBOOT_TEST_KUBERNETES").expect("MESHBOOT_TEST_KUBERNETES is set");
        let binaries = PathBuf::from(binaries);
        let folder = tempfile::tempdir().unwrap();
        let (etcd_port, peer_port, port) = (free_port(), free_port(), free_port());
        let client = format!("http://127.0.0.1:{etcd_port}");
        let peer = format!("http://127.0.0.1:{peer_port}");
        let etcd = Command::new(binary(&binaries, "etcd"))
            .arg("--data-dir")
            .arg(folder.path().join("etcd"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdout(log(&folder, "etcd"))
            .stderr(log(&folder, "etcd"))
            .spawn()
            .expect("etcd is installed, or in the folder of binaries");

        let key = KeyPair::generate().unwrap();
        fs::write(folder.path().join("sa.key"), key.serialize_pem()).unwrap();
        fs::write(folder.path().join("sa.pub"), key.public_key_pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(folder.path().join("ca.crt"), authority.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(folder.path().join("ca.key"), key.serialize_pem()).unwrap();
        let users = USERS.map(|(token, user, id, groups)| format!("{token},{user},{id},\"{groups}\"\n"));
        fs::write(folder.path().join("tokens.csv"), users.concat()).unwrap();
        let mut cluster = Self { binaries, folder, port, etcd_port, etcd, api: None, controllers: None };
        for (token, user, ..) in USERS {
            cluster.write_kubeconfig(user, &serde_json::json!({ "token": token }));
        }
        cluster.start_api();
        cluster
    }

    /// The kubeconfig of one of the users.
    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.path().join(format!("{}.conf", user.replace(':', "-")))
    }

    /// The certificate of who signs.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    pub(crate) fn start_api(&mut self) {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let child = Command::new(binary(&self.binaries, "kube-apiserver"))
            .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port))
            .arg(format!("--secure-port={}", self.port))
            .args(["--bind-address=127.0.0.1", "--advertise-address=192.0.2.1"])
            .args(["--endpoint-reconciler-type=none", "--service-cluster-ip-range=192.0.2.0/24"])
            .args(["--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"])
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!("--service-account-key-file={}", path("sa.pub")))
            .arg(format!("--service-account-signing-key-file={}", path("sa.key")))
            .arg(format!("--token-auth-file={}", path("tokens.csv")))
            .arg("--enable-bootstrap-token-auth=true")
            .arg(format!("--client-ca-file={}", path("ca.crt")))
            .arg(format!("--cert-dir={}", path("certs")))
            .stdout(log(&self.folder, "api"))
            .stderr(log(&self.folder, "api"))
            .spawn()
            .unwrap();
        self.api = Some(child);
        let started = Instant::now();
        while !self.kubectl("admin", &["get", "--raw", "/readyz"]).status.success() {
            let ended = self.api.as_mut().and_then(|api| api.try_wait().unwrap());
            let late = started.elapsed() > START;
            assert!(ended.is_none() && !late, "the API server does not start:\n{}", self.tail("api"));
            sleep(Duration::from_millis(250));
        }
    }

    /// The controllers that approve requests for certificates, and sign them.
    pub(crate) fn start_controllers(&mut self) {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let child = Command::new(binary(&self.binaries, "kube-controller-manager"))
            .arg(format!("--kubeconfig={}", path("admin.conf")))
            .arg("--controllers=csrapproving,csrsigning")
            .arg(format!("--cluster-signing-cert-file={}", path("ca.crt")))
            .arg(format!("--cluster-signing-key-file={}", path("ca.key")))
            .args(["--leader-elect=false", "--bind-address=127.0.0.1"])
            .arg(format!("--secure-port={}", free_port()))
            .arg(format!("--cert-dir={}", path("controllers-certs")))
            .stdout(log(&self.folder, "controllers"))
            .stderr(log(&self.folder, "controllers"))
            .spawn()
            .expect("kube-controller-manager is in the folder of binaries");
        self.controllers = Some(child);
    }

    /// As by a power cut.
    pub(crate) fn stop_api(&mut self) {
        if let Some(mut api) = self.api.take() {
            api.kill().unwrap();
            api.wait().unwrap();
        }
    }

    /// The API server takes connections and answers nothing, until it is woken.
    pub(crate) fn freeze_api(&self, frozen: bool) {
        let api = self.api.as_ref().expect("it runs");
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        kill(Pid::from_raw(api.id().try_into().unwrap()), signal).unwrap();
    }

    pub(crate) fn kubectl(&self, user: &str, arguments: &[&str]) -> Output {
        Command::new(binary(&self.binaries, "kubectl"))
            .arg("--kubeconfig")
            .arg(self.kubeconfig(user))
            .args(["--cache-dir", &self.folder.path().join("cache").display().to_string()])
            .args(arguments)
            .output()
            .expect("kubectl is installed, or in the folder of binaries")
    }

    /// What kubectl prints for the administrator.
    pub(crate) fn admin(&self, arguments: &[&str]) -> String {
        let output = self.kubectl("admin", arguments);
        assert!(
            output.status.success(),
            "kubectl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Whether a user may do something.
    pub(crate) fn may(&self, user: &str, arguments: &[&str]) -> bool {
        self.kubectl(user, &[&["auth", "can-i", "--quiet"], arguments].concat()).status.success()
    }

    /// Writes the kubeconfig of a user with these credentials.
    pub(crate) fn write_kubeconfig(&self, user: &str, credentials: &serde_json::Value) {
        let server = format!("https://127.0.0.1:{}", self.port);
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": server, "insecure-skip-tls-verify": true } }],
            "users": [{ "name": user, "user": credentials }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": user } }],
        });
        fs::write(self.kubeconfig(user), kubeconfig.to_string()).unwrap();
    }

    /// The end of what a server has written.
    pub(crate) fn tail(&self, name: &str) -> String {
        let text = fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let children = [self.controllers.as_mut(), self.api.as_mut(), Some(&mut self.etcd)];
        for child in children.into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn binary(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    if path.exists() { path } else { PathBuf::from(name) }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn log(folder: &TempDir, name: &str) -> Stdio {
    let path = folder.path().join(format!("{name}.log"));
    File::options().create(true).append(true).open(path).unwrap().into()
}
