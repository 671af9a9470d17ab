//! A control plane whose certificates end, and a loss of power while they are renewed.
//!
//! openssl is the real one, and so are the certificates; kubeadm's are signed in the ring of control planes.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};

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
const YEAR: i64 = 365;
/// As kubeadm writes them, with annotations and without.
const MANIFESTS: [(&str, &str); 4] = [
    (
        "kube-apiserver",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n    kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint: \
         '[fd65::1]:6443'\n  creationTimestamp: null\n  labels:\n    tier: control-plane\n  name: kube-apiserver\nspec: {}\n",
    ),
    (
        "kube-controller-manager",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  creationTimestamp: null\n  name: kube-controller-manager\nspec: {}\n",
    ),
    ("kube-scheduler", "apiVersion: v1\nkind: Pod\nmetadata:\n  name: kube-scheduler\nspec: {}\n"),
    ("etcd", "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n    a: b\n  name: etcd\nspec: {}\n"),
];

/// A certificate that ends in so many days, and its key.
fn certificate(days: i64) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_hours(2 * 365 * 24)).into();
    // Not to the second: tests take time.
    let hours = u64::try_from(days.unsigned_abs() * 24 + 1).unwrap();
    let ends = if days < 0 { now - Duration::from_hours(hours) } else { now + Duration::from_hours(hours) };
    params.not_after = ends.into();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn kubeconfig((certificate, key): (String, String)) -> String {
    let (certificate, key) = (STANDARD.encode(certificate), STANDARD.encode(key));
    format!("users:\n- user:\n    client-certificate-data: {certificate}\n    client-key-data: {key}\n")
}

/// A folder as kubeadm makes it, of certificates that end in so many days.
fn write_all(root: &Root, folder: &str, days: i64) {
    for name in CERTIFICATES {
        let (certificate, key) = certificate(days);
        root.write(&format!("{folder}/pki/{name}.crt"), &certificate, 0o644);
        root.write(&format!("{folder}/pki/{name}.key"), &key, 0o600);
    }
    for name in USERS {
        root.write(&format!("{folder}/{name}.conf"), &kubeconfig(certificate(days)), 0o600);
    }
}

/// A control plane whose certificates end in so many days, and a kubeadm whose last `renewed` days.
fn control_plane(days: i64, renewed: i64) -> Root {
    let root = Root::of(&node("v1.20.2", Cni::Routed));
    fs::remove_file(root.path("bin/openssl")).unwrap();
    write_all(&root, KUBERNETES, days);
    write_all(&root, "run/fresh", renewed);
    root.write("run/fresh/kubelet.conf", &kubeconfig(certificate(renewed)), 0o600);
    root.write(&format!("{KUBERNETES}/pki/ca.crt"), &certificate(10 * YEAR).0, 0o644);
    root.write(&format!("{KUBERNETES}/pki/ca.key"), "authority\n", 0o600);
    root.write(&format!("{KUBERNETES}/kubelet.conf"), "names a file\n", 0o600);
    for (pod, manifest) in MANIFESTS {
        root.write(&format!("{KUBERNETES}/manifests/{pod}.yaml"), manifest, 0o600);
    }
    kubelets(&root, 300);
    // It writes where it believes /etc/kubernetes to be, and nothing is done without the authority's key.
    let [etc, fresh, log] = [KUBERNETES, "run/fresh", "run/kubeadm"].map(|path| root.path(path));
    let (etc, fresh, log) = (etc.display(), fresh.display(), log.display());
    root.tool(
        "kubeadm",
        &format!(
            "echo \"$*\" >>{log}\ngrep -q authority {etc}/pki/ca.key || exit 1\ncase \"$1\" in\n\
             certs) cp -a {fresh}/pki {etc}/; cp -a {fresh}/admin.conf {fresh}/controller-manager.conf {fresh}/scheduler.conf {etc}/ ;;\n\
             init) cp {fresh}/kubelet.conf {etc}/ ;;\nesac"
        ),
    );
    root
}

/// The kubelet's own certificate, as it keeps it.
fn kubelets(root: &Root, days: i64) {
    let (certificate, key) = certificate(days);
    root.write("var/lib/kubelet/pki/kubelet-client-first.pem", &format!("{certificate}{key}"), 0o600);
    let _ = fs::remove_file(root.path(CLIENT));
    std::os::unix::fs::symlink("kubelet-client-first.pem", root.path(CLIENT)).unwrap();
}

/// Every file of a folder, by its path in it.
fn contents(root: &Root, folder: &str) -> Vec<(String, String)> {
    let paths = CERTIFICATES.iter().flat_map(|name| [format!("pki/{name}.crt"), format!("pki/{name}.key")]);
    let paths = paths.chain(USERS.iter().map(|name| format!("{name}.conf")));
    paths
        .map(|path| (root.read(&format!("{folder}/{path}")), path))
        .map(|(text, path)| (path, text))
        .collect()
}

fn manifests(root: &Root) -> Vec<String> {
    MANIFESTS.iter().map(|(pod, _)| root.read(&format!("{KUBERNETES}/manifests/{pod}.yaml"))).collect()
}

fn nothing_is_left(root: &Root) {
    for name in ["meshboot-renewing", "meshboot-renewed", "manifests/.meshboot-renewed"] {
        assert!(!root.has(&format!("{KUBERNETES}/{name}")), "{name}");
    }
}

fn renewed(root: &Root) {
    let (now, fresh) = (contents(root, KUBERNETES), contents(root, "run/fresh"));
    for (now, fresh) in now.iter().zip(&fresh) {
        assert_eq!(now, fresh);
    }
    assert_eq!(root.read(&format!("{KUBERNETES}/pki/ca.key")), "authority\n");
    assert_eq!(root.read(&format!("{KUBERNETES}/kubelet.conf")), "names a file\n");
    assert_eq!(mode(&root.path(KUBERNETES).join("pki/etcd/peer.key")), 0o600);
    assert_eq!(mode(&root.path(KUBERNETES).join("pki/apiserver.crt")), 0o644);
    nothing_is_left(root);
    let written = manifests(root);
    for ((pod, before), after) in MANIFESTS.iter().zip(&written).take(3) {
        let mut lines = after.lines();
        let own: Vec<&str> =
            lines.by_ref().filter(|line| !before.lines().any(|known| known == *line)).collect();
        let expected = if before.contains("annotations") { 1 } else { 2 };
        assert_eq!(own.len(), expected, "{pod}: {after}");
        let annotations = after.split_once("  annotations:\n").unwrap().1;
        let first = annotations.lines().next().unwrap();
        assert!(
            first.starts_with("    meshboot.io/certificates: \"") && first.ends_with(" GMT\""),
            "{after}"
        );
    }
    assert_eq!(written[3], MANIFESTS[3].1, "etcd reads its certificate for each connection");
}

#[test]
fn what_lasts_is_left_alone() {
    let root = control_plane(100, YEAR);
    let before = contents(&root, KUBERNETES);
    assert_eq!(ok(&root.run("kubeadm-renew")), "");
    assert!(!root.has("run/kubeadm") && !root.has("run/systemctl"));
    assert_eq!(
        (contents(&root, KUBERNETES), manifests(&root)),
        (before, MANIFESTS.map(|(_, text)| text.to_owned()).to_vec())
    );
}

#[test]
fn all_are_renewed_before_they_end_and_read_anew() {
    for days in [20, -200] {
        let root = control_plane(days, YEAR);
        let said = ok(&root.run("kubeadm-renew"));
        assert!(said.contains("apiserver ends in") && said.contains("they end on"), "{said}");
        renewed(&root);
        let config = root.path("etc/meshboot/renewal.yaml");
        assert_eq!(root.read("run/kubeadm"), format!("certs renew all --config {}\n", config.display()));
        assert_eq!(mode(&root.path(KUBERNETES).join("manifests/kube-apiserver.yaml")), 0o600);
        // A day later.
        assert_eq!(ok(&root.run("kubeadm-renew")), "");
        // And a year later: it is another day, and the pods read them once more.
        write_all(&root, KUBERNETES, 3);
        write_all(&root, "run/fresh", 2 * YEAR);
        let before = manifests(&root);
        ok(&root.run("kubeadm-renew"));
        renewed(&root);
        assert!(manifests(&root).iter().zip(&before).take(3).all(|(now, before)| now != before));
    }
}

#[test]
fn one_that_ends_is_enough() {
    for path in ["pki/etcd/healthcheck-client.crt", "scheduler.conf"] {
        let root = control_plane(100, YEAR);
        let (certificate, key) = certificate(10);
        let text = if path.ends_with(".crt") { certificate } else { kubeconfig((certificate, key)) };
        root.write(&format!("{KUBERNETES}/{path}"), &text, 0o600);
        ok(&root.run("kubeadm-renew"));
        renewed(&root);
    }
}

#[test]
fn a_kubeadm_that_fails_changes_nothing_and_is_heard() {
    let root = control_plane(10, YEAR);
    let before = contents(&root, KUBERNETES);
    root.tool("kubeadm", "echo 'the authority is on holiday' >&2; exit 1");
    let output = root.run("kubeadm-renew");
    let said = said(&output);
    assert!(
        !output.status.success() && said.contains("certs renew all: the authority is on holiday"),
        "{said}"
    );
    assert_eq!(contents(&root, KUBERNETES), before);
    assert!(!root.has(&format!("{KUBERNETES}/meshboot-renewed")));
}

#[test]
fn new_ones_that_end_as_soon_are_not_taken_every_day() {
    let root = control_plane(10, 12);
    let before = (contents(&root, KUBERNETES), manifests(&root));
    let output = root.run("kubeadm-renew");
    let said = said(&output);
    assert!(!output.status.success() && said.contains("is the clock right"), "{said}");
    assert_eq!((contents(&root, KUBERNETES), manifests(&root)), before);
}

/// At any point of it: what is on the disk as a whole is taken, and what is not is made again.
#[test]
fn a_loss_of_power_leaves_no_certificate_without_its_key() {
    for moved in 0..=CERTIFICATES.len() * 2 + USERS.len() {
        let root = control_plane(10, YEAR);
        let made = format!("{KUBERNETES}/meshboot-renewed");
        write_all(&root, &made, YEAR);
        for (at, (path, text)) in contents(&root, &made).into_iter().enumerate() {
            root.write(
                &format!("run/fresh/{path}"),
                &text,
                if path.ends_with(".crt") { 0o644 } else { 0o600 },
            );
            if at < moved {
                fs::rename(root.path(&made).join(&path), root.path(KUBERNETES).join(&path)).unwrap();
            }
        }
        ok(&root.run("kubeadm-renew"));
        renewed(&root);
        assert!(!root.has("run/kubeadm"), "they were made before");
    }
    let root = control_plane(10, YEAR);
    root.write(&format!("{KUBERNETES}/meshboot-renewing/pki/apiserver.crt"), "torn", 0o644);
    ok(&root.run("kubeadm-renew"));
    renewed(&root);
}

/// It was off for longer than its kubelet's certificate lasted, and nobody is there to sign another.
#[test]
fn a_kubelet_that_was_away_for_too_long_is_admitted_by_the_authority() {
    let root = control_plane(100, YEAR);
    kubelets(&root, -1);
    let before = contents(&root, KUBERNETES);
    let said = ok(&root.run("kubeadm-renew"));
    assert!(said.contains("kubelet had ended"), "{said}");
    let config = root.path("etc/meshboot/renewal.yaml");
    assert_eq!(
        root.read("run/kubeadm"),
        format!("init phase kubeconfig kubelet --config {}\n", config.display())
    );
    let target = fs::read_link(root.path(CLIENT)).unwrap();
    assert!(target.to_string_lossy().starts_with("kubelet-client-2"), "{target:?}");
    assert_eq!(mode(&root.path(CLIENT)), 0o600);
    let pem = root.read(CLIENT);
    assert!(
        root.read("run/fresh/kubelet.conf")
            .contains(&STANDARD.encode(pem.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap()))
    );
    assert!(pem.contains("PRIVATE KEY"));
    assert_eq!(root.read("run/systemctl"), "--no-block try-restart kubelet.service\n");
    assert_eq!(
        (contents(&root, KUBERNETES), manifests(&root)),
        (before, MANIFESTS.map(|(_, text)| text.to_owned()).to_vec())
    );
    assert_eq!(root.read(&format!("{KUBERNETES}/kubelet.conf")), "names a file\n");
    nothing_is_left(&root);
    assert_eq!(ok(&root.run("kubeadm-renew")), "");
}

#[test]
fn a_manifest_of_somebody_elses_is_named() {
    let root = control_plane(10, YEAR);
    root.write(&format!("{KUBERNETES}/manifests/kube-scheduler.yaml"), "{metadata: {}}\n", 0o600);
    let output = root.run("kubeadm-renew");
    let said = said(&output);
    assert!(
        !output.status.success() && said.contains("kube-scheduler.yaml is not as kubeadm writes them"),
        "{said}"
    );
    assert_eq!(root.read(&format!("{KUBERNETES}/manifests/kube-scheduler.yaml")), "{metadata: {}}\n");
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
