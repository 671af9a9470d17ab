//! The scripts that stand between a disk and kubeadm, run in a folder that plays the machine's root.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ignition::{Cni, NodePlan};
use tempfile::TempDir;

use super::{node, seed};

mod promotion;
mod renewal;

const MARK: &str = "etc/kubernetes/meshboot-member";
const CLIENT: &str = "var/lib/kubelet/pki/kubelet-client-current.pem";

/// A machine's root with a rendered config in it, and fakes for the tools that scripts call.
struct Root(TempDir);

impl Root {
    fn of(plan: &NodePlan) -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        for folder in ["etc/kubernetes", "var/lib/etcd", "var/lib/kubelet", "var/lib/meshboot", "run", "bin"]
        {
            fs::create_dir_all(root.path(folder)).unwrap();
        }
        for (path, file) in &ignition::render::tree(plan).unwrap().files {
            if path.starts_with("/etc/meshboot") || path.starts_with("/usr/lib/meshboot") {
                root.write(path.trim_start_matches('/'), &root.moved(&file.contents), file.mode);
            }
        }
        root.tool("openssl", "exit 0");
        root.tool("hostname", "echo node-2");
        root.tool("systemctl", &format!("echo \"$@\" >>{}", root.path("run/systemctl").display()));
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// The script with every path of the machine's moved into this root.
    fn moved(&self, script: &[u8]) -> String {
        let mut text = String::from_utf8(script.to_vec()).unwrap();
        for folder in [
            "/etc/kubernetes",
            "/etc/meshboot",
            "/var/lib/",
            "/var/log/",
            "/run/",
            "/sys/fs/cgroup",
            "/usr/lib/meshboot",
        ] {
            text = text.replace(folder, &format!("{}{folder}", self.0.path().display()));
        }
        text
    }

    fn write(&self, path: &str, contents: &str, mode: u32) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn tool(&self, name: &str, script: &str) {
        self.write(&format!("bin/{name}"), &format!("#!/bin/sh\n{script}\n"), 0o755);
    }

    fn run(&self, script: &str) -> Output {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        Command::new(self.path("usr/lib/meshboot").join(script)).env("PATH", path).output().unwrap()
    }

    fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// Leaves what a kubeadm of an earlier boot left.
    fn leave(&self, mark: Option<&str>) {
        self.write("etc/kubernetes/admin.conf", "old", 0o600);
        self.write("etc/kubernetes/pki/ca.crt", "old", 0o644);
        self.write("var/lib/etcd/member/wal", "old", 0o600);
        self.write("var/lib/kubelet/config.yaml", "old", 0o644);
        self.write("var/lib/kubelet/pods/volume", "old", 0o644);
        self.write(CLIENT, "old", 0o600);
        if let Some(mark) = mark {
            self.write(MARK, mark, 0o600);
        }
    }
}

fn ok(output: &Output) -> String {
    let said = said(output);
    assert!(output.status.success(), "{said}");
    said
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_blank_seed_gets_its_pki() {
    let root = Root::of(&seed("v1.20.2", Cni::Routed));
    ok(&root.run("kubeadm-prepare"));
    assert_eq!(root.read("etc/kubernetes/pki/ca.crt"), "secret\n");
    assert_eq!(mode(&root.path("etc/kubernetes/pki/etcd/ca.key")), 0o600);
    assert!(!root.has(MARK), "kubeadm has not run yet");
}

#[test]
fn a_seed_whose_init_was_cut_off_starts_anew_and_loses_nothing() {
    let root = Root::of(&seed("v1.20.2", Cni::Routed));
    root.leave(None);
    let said = ok(&root.run("kubeadm-prepare"));
    assert!(said.contains("cut off"), "{said}");
    assert!(!root.has("etc/kubernetes/admin.conf") && !root.has("var/lib/etcd/member"));
    assert!(!root.has("var/lib/kubelet/config.yaml"), "the kubelet would start with it");
    assert_eq!(root.read("etc/kubernetes/pki/ca.crt"), "secret\n");
    assert_eq!(root.read("var/lib/meshboot/unfinished/etcd/member/wal"), "old");
    assert_eq!(root.read("var/lib/meshboot/unfinished/kubernetes/admin.conf"), "old");
    // And once more, as after a second power cut.
    root.leave(None);
    ok(&root.run("kubeadm-prepare"));
    assert!(!root.has("var/lib/etcd/member"));
}

#[test]
fn a_seed_with_a_cluster_keeps_it_whatever_its_plan_says() {
    let root = Root::of(&seed("v1.20.2", Cni::Routed));
    for mark in [root.read("etc/meshboot/member"), "name other\n".to_owned(), String::new()] {
        root.leave(Some(&mark));
        root.tool("openssl", "exit 1");
        ok(&root.run("kubeadm-prepare"));
        for kept in
            ["etc/kubernetes/admin.conf", "var/lib/etcd/member/wal", "var/lib/kubelet/config.yaml", CLIENT]
        {
            assert_eq!(root.read(kept), "old", "{kept} with mark {mark:?}");
        }
        assert_eq!(root.read(MARK), mark);
    }
}

#[test]
fn a_node_that_has_joined_goes_on_as_itself() {
    let root = Root::of(&node("v1.20.2", Cni::Routed));
    root.leave(Some(&root.read("etc/meshboot/member")));
    ok(&root.run("kubeadm-prepare"));
    assert_eq!(root.read(CLIENT), "old");
    assert!(root.has(MARK) && root.has("var/lib/kubelet/config.yaml"));
}

#[test]
fn a_node_that_was_another_or_has_expired_or_was_cut_off_joins_anew() {
    let root = Root::of(&node("v1.20.2", Cni::Routed));
    let member = root.read("etc/meshboot/member");
    let cases = [(Some("name other\n".to_owned()), "exit 0"), (Some(member), "exit 1"), (None, "exit 0")];
    for (mark, openssl) in cases {
        root.leave(mark.as_deref());
        root.tool("openssl", openssl);
        ok(&root.run("kubeadm-prepare"));
        assert!(!root.has(MARK) && !root.has(CLIENT) && !root.has("var/lib/kubelet/config.yaml"));
        assert!(!root.has("etc/kubernetes/pki"), "a node's comes with the join");
        assert!(root.has("var/lib/kubelet/pods/volume"), "the kubelet itself clears up after its pods");
    }
}

/// kubeadm writes the kubelet's arguments for the kubelet that it finds.
#[test]
fn a_node_that_gets_another_kubelet_joins_anew() {
    let plan = node("v1.34.2", Cni::Routed);
    let joined = Root::of(&plan).read("etc/meshboot/member");
    let mut own = plan.clone();
    own.spec.kubernetes_version = Some("v1.33.7".parse().unwrap());
    for (plan, stays) in [(plan, true), (own, false)] {
        let root = Root::of(&plan);
        root.leave(Some(&joined));
        let said = ok(&root.run("kubeadm-prepare"));
        assert_eq!((root.has(MARK), said.contains("joins anew")), (stays, !stays), "{said}");
    }
}

#[test]
fn a_node_that_joins_is_marked_when_all_is_done() {
    let root = Root::of(&node("v1.20.2", Cni::Routed));
    root.tool("kubeadm", &format!("echo \"$@\" >{}", root.path("run/kubeadm").display()));
    ok(&root.run("kubeadm-join"));
    assert_eq!(root.read(MARK), root.read("etc/meshboot/member"));
    let config = root.path("etc/meshboot/kubeadm.yaml");
    assert_eq!(
        root.read("run/kubeadm"),
        format!("join --config {} --skip-phases=preflight\n", config.display())
    );
}

#[test]
fn a_join_that_fails_says_why_and_leaves_no_mark() {
    let cases = [
        (
            "a Node with name \"node-2\" and status \"Ready\" already exists in the cluster.",
            "within a minute",
        ),
        ("could not find a JWS signature in the cluster-info ConfigMap", "does not know the token"),
        ("dial tcp [fd65::1]:6443: connect: network is unreachable", "does not answer yet"),
        ("something else", "the reason is above"),
    ];
    for (error, expected) in cases {
        let root = Root::of(&node("v1.20.2", Cni::Routed));
        root.tool("kubeadm", &format!("echo '{error}' >&2; exit 1"));
        let output = root.run("kubeadm-join");
        let said = said(&output);
        assert!(!output.status.success() && said.contains(error) && said.contains(expected), "{said}");
        assert!(!root.has(MARK) && !root.has("run/systemctl"), "{said}");
    }
}

#[test]
fn a_node_that_cannot_join_restarts_for_a_new_token() {
    let root = Root::of(&node("v1.20.2", Cni::Routed));
    root.tool("kubeadm", "exit 0");
    root.write("run/meshboot-join.since", &format!("-{}\n", ignition::JOIN_LIMIT.as_secs()), 0o600);
    let output = root.run("kubeadm-join");
    assert!(!output.status.success() && said(&output).contains("restarts"));
    assert_eq!(root.read("run/systemctl"), "--no-block reboot\n");
}

#[test]
fn a_join_that_came_through_after_kubeadm_gave_up_counts() {
    let root = Root::of(&node("v1.20.2", Cni::Routed));
    root.tool("kubeadm", "echo 'called again'; exit 1");
    root.write("etc/kubernetes/kubelet.conf", "apiVersion: v1", 0o600);
    root.write(CLIENT, "certificate", 0o600);
    let said = ok(&root.run("kubeadm-join"));
    assert!(root.has(MARK) && !said.contains("called again"), "{said}");
}

#[test]
fn a_kubelet_config_without_a_certificate_is_no_membership() {
    let root = Root::of(&node("v1.20.2", Cni::Routed));
    root.tool("kubeadm", "echo 'called again'; exit 1");
    root.write("etc/kubernetes/kubelet.conf", "apiVersion: v1", 0o600);
    let output = root.run("kubeadm-join");
    assert!(!output.status.success() && said(&output).contains("called again"));
    assert!(!root.has(MARK) && !root.has("etc/kubernetes/kubelet.conf"));
}
