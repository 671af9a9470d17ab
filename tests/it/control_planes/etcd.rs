//! Servers of etcd as kubeadm sets them up: with an authority of their own, on loopback.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use bootstrap::control_plane::etcd::{Etcd, EtcdError};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

/// Members that know each other by the names of nodes.
pub(super) struct Site {
    folder: TempDir,
    authority: Issuer<'static, KeyPair>,
    /// Ports for clients and for the others.
    ports: BTreeMap<&'static str, (u16, u16)>,
    running: Vec<Child>,
}

/// What etcd says why it will not.
pub(super) fn refusal<T: std::fmt::Debug>(result: Result<T, EtcdError>) -> String {
    let error = result.unwrap_err();
    let EtcdError::Refused { message, .. } = error else { panic!("{error:?}") };
    message
}

impl Site {
    /// Where all of them are.
    pub(super) const AT: Ipv6Addr = Ipv6Addr::LOCALHOST;

    pub(super) fn new() -> Self {
        // As in the product's own main function; another test may have done it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "etcd-ca");
        fs::write(folder.path().join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        let site = Self {
            folder,
            authority: Issuer::new(params, key),
            ports: ["seed", "node1", "node2"].map(|name| (name, (free_port(), free_port()))).into(),
            running: Vec::new(),
        };
        site.certify("member", &["::1".to_owned(), "localhost".to_owned()]);
        site.certify("client", &[]);
        site
    }

    /// As kubeadm does: a member shows its certificate to clients, to the others, and to itself.
    fn certify(&self, name: &str, names: &[String]) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        fs::write(self.path(&format!("{name}.crt")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the others reach a member.
    pub(super) fn peer(&self, name: &str) -> String {
        format!("https://[{}]:{}", Self::AT, self.ports[name].1)
    }

    /// A client of one member.
    pub(super) fn client(&self, name: &str) -> Etcd {
        let read = |name: &str| fs::read_to_string(self.path(name)).unwrap();
        Etcd::new(&read("ca.crt"), &read("client.crt"), &read("client.key"), self.ports[name].0).unwrap()
    }

    /// Starts a member that is told of these, itself included.
    pub(super) fn start(&mut self, name: &str, all: &[&str], state: &str) {
        let path = |name: &str| self.path(name).display().to_string();
        let client = format!("https://[::]:{}", self.ports[name].0);
        let advertised = format!("https://[{}]:{}", Self::AT, self.ports[name].0);
        let members: Vec<String> = all.iter().map(|name| format!("{name}={}", self.peer(name))).collect();
        let log = File::create(self.path(&format!("{name}.log"))).unwrap();
        let folder = std::env::var_os("MESHBOOT_TEST_KUBERNETES").map(PathBuf::from).unwrap_or_default();
        let program = folder.join("etcd");
        let program = if program.exists() { program } else { Path::new("etcd").to_owned() };
        let child = Command::new(program)
            .args(["--name", name, "--data-dir", &path(&format!("{name}.etcd"))])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &advertised])
            .args(["--listen-peer-urls", &self.peer(name), "--initial-advertise-peer-urls", &self.peer(name)])
            .args(["--initial-cluster", &members.join(","), "--initial-cluster-state", state])
            .args(["--client-cert-auth", "--trusted-ca-file", &path("ca.crt")])
            .args(["--cert-file", &path("member.crt"), "--key-file", &path("member.key")])
            .args(["--peer-client-cert-auth", "--peer-trusted-ca-file", &path("ca.crt")])
            .args(["--peer-cert-file", &path("member.crt"), "--peer-key-file", &path("member.key")])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("etcd is installed, or in the folder of binaries");
        self.running.push(child);
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
