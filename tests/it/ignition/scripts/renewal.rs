//! A control plane whose certificates end, and a loss of power while they are renewed.
//!
//! openssl is the real one, and so are certificates and processes. kubeadm's own are renewed beside the ring of control
//! planes.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::*;

const KUBERNETES: &str = "etc/kubernetes";
const CERTIFICATES: [&str; 7] = [
    "apiserver",
    "apiserver-kubelet-client",
    "apiserver-etcd-client",
    "front-proxy-client",
    "etcd/server",
    "etcd/peer",
    "etcd/healthcheck-client",
];
/// A node that was made a control plane has no `super-admin`.
const USERS: [&str; 3] = ["admin", "controller-manager", "scheduler"];
const AUTHORITIES: [&str; 3] = ["ca", "front-proxy-ca", "etcd/ca"];
const SERVERS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
const YEAR: i64 = 365;
const HERE: &str = "run/fresh";

/// Who signs, and until when.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A control plane, and a kubeadm whose certificates wait in a folder.
struct Machine {
    root: Root,
    authority: Authority,
}

/// Of a certificate that ends in so many days. Not to the second: tests take time.
fn lasting(days: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_hours(2 * 365 * 24)).into();
    let hours = Duration::from_hours(days.unsigned_abs() * 24 + 1);
    params.not_after = if days < 0 { now - hours } else { now + hours }.into();
    params
}

// === impl Authority ===

impl Authority {
    fn new(days: i64) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = lasting(days);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Who has the same name as his authority is taken for his own.
        params.distinguished_name.push(DnType::CommonName, "authority");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate and its key.
    fn sign(&self, params: &CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn kubeconfig(&self, days: i64) -> String {
        let (certificate, key) = self.sign(&lasting(days));
        let (certificate, key) = (STANDARD.encode(certificate), STANDARD.encode(key));
        format!("users:\n- user:\n    client-certificate-data: {certificate}\n    client-key-data: {key}\n")
    }
}

// === impl Machine ===

impl Machine {
    /// Its certificates end in so many days, and new ones last for `renewed` days.
    fn new(days: i64, renewed: i64) -> Self {
        let root = Root::of(&node("v1.20.2", Cni::Routed));
        let machine = Self { root, authority: Authority::new(10 * YEAR) };
        let root = &machine.root;
        fs::remove_file(root.path("bin/openssl")).unwrap();
        root.write(MARK, "role node\nname joined-as\n", 0o600);
        for name in AUTHORITIES {
            root.write(&format!("{KUBERNETES}/pki/{name}.crt"), &machine.authority.pem, 0o644);
            root.write(&format!("{KUBERNETES}/pki/{name}.key"), "authority\n", 0o600);
        }
        root.write(&format!("{KUBERNETES}/kubelet.conf"), "names a file\n", 0o600);
        machine.write_all(KUBERNETES, days);
        machine.write_all(HERE, renewed);
        root.write(&format!("{HERE}/kubelet.conf"), &machine.authority.kubeconfig(renewed), 0o600);
        machine.give_kubelet(&lasting(300));
        // It writes where it believes /etc/kubernetes to be, and does nothing without the authority's key.
        let [etc, fresh, log] = [KUBERNETES, HERE, "run/kubeadm"].map(|path| root.path(path));
        let (etc, fresh, log) = (etc.display(), fresh.display(), log.display());
        root.tool(
            "kubeadm",
            &format!(
                "echo \"$*\" >>{log}; grep '\"name\"' {etc}/kubeadm.yaml >>{log}\n\
                 grep -q authority {etc}/pki/ca.key || exit 1\ncase \"$1\" in\n\
                 certs) cp -a {fresh}/pki {fresh}/admin.conf {fresh}/controller-manager.conf {fresh}/scheduler.conf {etc}/ ;;\n\
                 init) cp {fresh}/kubelet.conf {etc}/ ;;\nesac"
            ),
        );
        machine
    }

    /// What kubeadm makes of certificates that end in so many days.
    fn write_all(&self, folder: &str, days: i64) {
        for name in CERTIFICATES {
            let (certificate, key) = self.authority.sign(&lasting(days));
            self.root.write(&format!("{folder}/pki/{name}.crt"), &certificate, 0o644);
            self.root.write(&format!("{folder}/pki/{name}.key"), &key, 0o600);
        }
        for name in USERS {
            self.root.write(&format!("{folder}/{name}.conf"), &self.authority.kubeconfig(days), 0o600);
        }
    }

    /// The kubelet's own certificate, as it keeps it.
    fn give_kubelet(&self, params: &CertificateParams) {
        let (certificate, key) = self.authority.sign(params);
        let own = "kubelet-client-first.pem";
        self.root.write(&format!("var/lib/kubelet/pki/{own}"), &format!("{certificate}{key}"), 0o600);
        let _ = fs::remove_file(self.root.path(CLIENT));
        std::os::unix::fs::symlink(own, self.root.path(CLIENT)).unwrap();
    }

    /// A process as a server in its static pod; the signal that ends it.
    fn serve(&self, name: &str) -> JoinHandle<Option<i32>> {
        let uid = name.replace('-', "");
        self.root.write(&format!("var/log/pods/kube-system_{name}-joined-as_{uid}/log"), "", 0o600);
        // The kernel keeps 15 octets of a name. It ends with this process, too.
        let script = format!("printf %s {name} >/proc/self/comm; read -r _");
        let mut server = Command::new("bash").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
        let comm = format!("/proc/{}/comm", server.id());
        while !name.starts_with(fs::read_to_string(&comm).unwrap().trim()) {
            std::thread::yield_now();
        }
        let pod = format!(
            "sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice"
        );
        for (container, pid) in [("server", server.id()), ("pause", std::process::id())] {
            self.root.write(&format!("{pod}/cri-{container}.scope/cgroup.procs"), &format!("{pid}\n"), 0o600);
        }
        std::thread::spawn(move || {
            let input = server.stdin.take();
            let signal = server.wait().unwrap().signal();
            drop(input);
            signal
        })
    }

    fn run(&self) -> Output {
        self.root.run("kubeadm-renew")
    }

    /// Every file of a folder that may be renewed, by its path in it.
    fn contents(&self, folder: &str) -> Vec<(String, String)> {
        let paths =
            CERTIFICATES.iter().flat_map(|name| [format!("pki/{name}.crt"), format!("pki/{name}.key")]);
        let paths = paths.chain(USERS.iter().map(|name| format!("{name}.conf")));
        paths
            .map(|path| (self.root.read(&format!("{folder}/{path}")), path))
            .map(|(text, path)| (path, text))
            .collect()
    }

    /// All are new, and nothing else is.
    fn is_renewed(&self) {
        assert_eq!(self.contents(KUBERNETES), self.contents(HERE));
        for name in AUTHORITIES {
            assert_eq!(self.root.read(&format!("{KUBERNETES}/pki/{name}.key")), "authority\n");
            assert_eq!(self.root.read(&format!("{KUBERNETES}/pki/{name}.crt")), self.authority.pem);
        }
        assert_eq!(self.root.read(&format!("{KUBERNETES}/kubelet.conf")), "names a file\n");
        assert_eq!(mode(&self.root.path(KUBERNETES).join("pki/etcd/peer.key")), 0o600);
        assert_eq!(mode(&self.root.path(KUBERNETES).join("pki/apiserver.crt")), 0o644);
        self.has_no_copies();
    }

    fn has_no_copies(&self) {
        for name in ["meshboot-renewing", "meshboot-renewed"] {
            assert!(!self.root.has(&format!("{KUBERNETES}/{name}")), "{name}");
        }
    }

    /// It fails with these words, and nothing has changed.
    fn refuses(&self, words: &str) {
        let before = self.contents(KUBERNETES);
        let output = self.run();
        let said = said(&output);
        assert!(!output.status.success() && said.contains(words), "{said}");
        assert_eq!(self.contents(KUBERNETES), before);
        self.has_no_copies();
    }

    /// What it was told, with a configuration that names the node by which the machine joined.
    fn kubeadm_was_told(&self, words: &str) {
        let config = self.root.path(KUBERNETES).join("kubeadm.yaml");
        let told = self.root.read("run/kubeadm");
        let told: Vec<&str> = told.lines().map(|line| line.trim().trim_end_matches(',')).collect();
        assert_eq!(told, [&*format!("{words} --config {}", config.display()), "\"name\": \"joined-as\""]);
    }
}

#[test]
fn what_lasts_is_left_alone() {
    let machine = Machine::new(100, YEAR);
    let before = machine.contents(KUBERNETES);
    assert_eq!(ok(&machine.run()), "");
    assert!(!machine.root.has("run/kubeadm"));
    assert_eq!(machine.contents(KUBERNETES), before);
}

#[test]
fn all_are_renewed_before_they_end() {
    for days in [20, -200] {
        let machine = Machine::new(days, YEAR);
        let said = ok(&machine.run());
        assert!(said.contains("apiserver ends in") && said.contains("they end on"), "{said}");
        machine.is_renewed();
        machine.kubeadm_was_told("certs renew all");
        assert_eq!(ok(&machine.run()), "", "a day later there is nothing to do");
    }
}

#[test]
fn one_that_ends_is_enough() {
    for path in ["pki/etcd/healthcheck-client.crt", "scheduler.conf"] {
        let machine = Machine::new(100, YEAR);
        let text = if path.ends_with(".crt") {
            machine.authority.sign(&lasting(10)).0
        } else {
            machine.authority.kubeconfig(10)
        };
        machine.root.write(&format!("{KUBERNETES}/{path}"), &text, 0o600);
        ok(&machine.run());
        machine.is_renewed();
    }
}

/// Each by its own process: of a pod of another name, and of what keeps the pod, nobody hears.
#[test]
fn servers_are_told_to_end_once_theirs_are_there() {
    let machine = Machine::new(10, YEAR);
    let servers = SERVERS.map(|name| machine.serve(name));
    let other = machine.serve("kube-proxy");
    ok(&machine.run());
    machine.is_renewed();
    let ended = servers.map(|server| server.join().unwrap());
    assert_eq!(ended, [Some(15); 3]);
    assert!(!other.is_finished());
}

#[test]
fn a_server_that_nobody_would_start_again_goes_on_until_somebody_would() {
    let machine = Machine::new(10, YEAR);
    let server = machine.serve("kube-apiserver");
    machine.root.tool("systemctl", "[ \"$2\" != is-active ]");
    let output = machine.run();
    let said = said(&output);
    assert!(!output.status.success() && said.contains("kubelet that would start it does not run"), "{said}");
    assert!(!server.is_finished());
    assert_eq!(machine.contents(KUBERNETES), machine.contents(HERE));
    machine.root.tool("systemctl", "exit 0");
    let said = ok(&machine.run());
    assert!(!said.contains("kubeadm renews") && said.contains("they end on"), "{said}");
    assert_eq!(server.join().unwrap(), Some(15));
    machine.is_renewed();
}

#[test]
fn a_kubeadm_that_fails_changes_nothing_and_is_heard() {
    let machine = Machine::new(10, YEAR);
    let words = "echo 'the disk is full'; echo 'To see the stack trace of this error execute with --v=5 or higher'; exit 1";
    machine.root.tool("kubeadm", words);
    machine.refuses("the disk is full\n");
    machine.refuses("kubeadm certs renew all failed");
}

#[test]
fn new_ones_that_end_as_soon_are_not_taken() {
    let machine = Machine::new(10, 12);
    machine.refuses("renewed all, and apiserver ends in");
}

#[test]
fn what_an_authority_that_ended_signs_is_worth_nothing() {
    let machine = Machine::new(10, YEAR);
    let ended = Authority::new(-1);
    machine.root.write(&format!("{KUBERNETES}/pki/etcd/ca.crt"), &ended.pem, 0o644);
    machine.refuses("the authority etcd/ca ended on ");
    assert!(!machine.root.has("run/kubeadm"));
}

/// At any point of it: what is on the disk as a whole is taken, and what is not is made again.
#[test]
fn a_loss_of_power_leaves_no_certificate_without_its_key() {
    for moved in 0..=CERTIFICATES.len() * 2 + USERS.len() {
        let machine = Machine::new(10, YEAR);
        let made = format!("{KUBERNETES}/meshboot-renewed");
        machine.write_all(&made, YEAR);
        for (at, (path, text)) in machine.contents(&made).into_iter().enumerate() {
            let mode = if path.ends_with(".crt") { 0o644 } else { 0o600 };
            machine.root.write(&format!("{HERE}/{path}"), &text, mode);
            if at < moved {
                let root = &machine.root;
                fs::rename(root.path(&made).join(&path), root.path(KUBERNETES).join(&path)).unwrap();
            }
        }
        ok(&machine.run());
        machine.is_renewed();
        assert!(!machine.root.has("run/kubeadm"), "they were made before");
    }
    let machine = Machine::new(10, YEAR);
    machine.root.write(&format!("{KUBERNETES}/meshboot-renewing/pki/apiserver.crt"), "torn", 0o644);
    ok(&machine.run());
    machine.is_renewed();
}

/// It was off for longer than its kubelet's certificate lasted, or got it by a clock that was years ahead; and nobody is
/// there to sign another.
#[test]
fn a_kubelet_whose_certificate_is_not_valid_is_admitted_by_the_authority() {
    let mut later = lasting(300);
    later.not_before = (SystemTime::now() + Duration::from_hours(48)).into();
    for params in [lasting(-1), later] {
        let machine = Machine::new(100, YEAR);
        machine.give_kubelet(&params);
        let before = machine.contents(KUBERNETES);
        let said = ok(&machine.run());
        assert!(said.contains("kubelet was not valid"), "{said}");
        machine.kubeadm_was_told("init phase kubeconfig kubelet");
        let target = fs::read_link(machine.root.path(CLIENT)).unwrap();
        assert!(target.to_string_lossy().starts_with("kubelet-client-2"), "{target:?}");
        assert_eq!(mode(&machine.root.path(CLIENT)), 0o600);
        let pem = machine.root.read(CLIENT);
        let (certificate, key) = pem.split_at(pem.find("-----BEGIN PRIVATE").unwrap());
        let made = machine.root.read(&format!("{HERE}/kubelet.conf"));
        assert!([certificate, key].iter().all(|part| made.contains(&STANDARD.encode(part))));
        assert!(machine.root.read("run/systemctl").ends_with("--no-block try-restart kubelet.service\n"));
        assert_eq!(machine.contents(KUBERNETES), before);
        assert_eq!(machine.root.read(&format!("{KUBERNETES}/kubelet.conf")), "names a file\n");
        machine.has_no_copies();
        assert_eq!(ok(&machine.run()), "");
    }
}

/// A kubelet that runs asks for another in time. One that is about to start may be late.
#[test]
fn a_kubelets_last_minutes_are_its_own_while_it_runs() {
    let machine = Machine::new(100, YEAR);
    let mut params = lasting(0);
    params.not_after = (SystemTime::now() + Duration::from_mins(30)).into();
    machine.give_kubelet(&params);
    assert_eq!(ok(&machine.run()), "");
    machine.root.tool("systemctl", "[ \"$2\" != is-active ]");
    assert!(ok(&machine.run()).contains("kubelet was not valid"));
}

/// Their servers do not start anew on the same day, if they became control planes on the same.
#[test]
fn the_machines_of_a_mesh_have_days_of_their_own() {
    let days = |number: u32| {
        let mut plan = node("v1.20.2", Cni::Routed);
        plan.machine.router_id = number.try_into().unwrap();
        let script = Root::of(&plan).read("usr/lib/meshboot/kubeadm-renew");
        script.lines().find_map(|line| line.strip_prefix("days=")).unwrap().parse::<u32>().unwrap()
    };
    let all: std::collections::BTreeSet<u32> = (1..=30).map(days).collect();
    assert_eq!(all.len(), 30);
    assert!(all.iter().all(|days| (30..60).contains(days)));
}
