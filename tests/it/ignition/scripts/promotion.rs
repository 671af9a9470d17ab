//! A node's disk on its way to a control plane's, and after a loss of power at any point of it.

use super::*;

const HERE: &str = "run/meshboot/promotion";
const CONTROL: &str = "etc/kubernetes/meshboot-control-plane";
const OWNER: &str = "etc/kubernetes/meshboot-etcd";
/// Where static pods wait.
const WAITS: &str = "etc/kubernetes/meshboot-pods";
const PODS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// A node that has joined, and a kubeadm that does as much of its phases as can be seen.
fn joined() -> Root {
    let root = Root::of(&node("v1.20.2", Cni::Routed));
    root.write(MARK, &root.read("etc/meshboot/member"), 0o600);
    root.write(CLIENT, "old", 0o600);
    root.write("var/lib/kubelet/config.yaml", "old", 0o644);
    root.tool("pgrep", "exit 1");
    etcd_says(&root, VOTER);
    let (etc, log) = (root.path("etc/kubernetes"), root.path("run/kubeadm"));
    let (etc, log) = (etc.display(), log.display());
    root.tool(
        "kubeadm",
        &format!(
            "echo \"$*\" >>{log}\ncase \"$4\" in\n\
             all) case \"$3\" in certs) [ -s {etc}/pki/ca.key ] && echo new >{etc}/pki/apiserver.crt ;; control-plane)\n\
             for pod in kube-apiserver kube-controller-manager kube-scheduler; do echo new >{etc}/manifests/$pod.yaml; done ;;\n\
             esac ;;\n\
             local) echo new >{etc}/manifests/etcd.yaml ;;\n\
             *) echo new >{etc}/$4.conf ;;\nesac"
        ),
    );
    root
}

/// As etcd 3.5 answers, a voting member and one that has yet to catch up.
const VOTER: &str =
    r#"{"header":{"member_id":"42"},"version":"3.5.16","dbSize":"20480","leader":"42","raftIndex":"9"}"#;
const LEARNER: &str =
    r#"{"header":{"member_id":"42"},"version":"3.5.16","leader":"7","raftIndex":"9","isLearner":true}"#;
/// And one that hears nobody: a field that is 0 is left out.
const ALONE: &str = r#"{"header":{"member_id":"42"},"version":"3.5.16","dbSize":"20480","raftIndex":"9"}"#;

fn etcd_says(root: &Root, answer: &str) {
    root.tool("curl", &format!("echo '{answer}'"));
}

/// What the gateway leaves.
fn bring(root: &Root, ticket: &str) {
    root.write(&format!("{HERE}/pki/ca.key"), "secret\n", 0o600);
    root.write(&format!("{HERE}/pki/ca.crt"), "public\n", 0o644);
    root.write(&format!("{HERE}/pki/etcd/ca.key"), "secret\n", 0o600);
    root.write(&format!("{HERE}/kubeadm.yaml"), "{}\n", 0o600);
    root.write(&format!("{HERE}/ticket"), &format!("{ticket}\n"), 0o600);
    root.write(&format!("{HERE}/ready"), "", 0o600);
}

fn has_pods(root: &Root) -> bool {
    let has = |pod: &&&str| root.has(&format!("etc/kubernetes/manifests/{pod}.yaml"));
    let some = PODS.iter().filter(has).count();
    assert!(some == 0 || some == PODS.len(), "{some} of them");
    some > 0
}

#[test]
fn a_node_becomes_a_control_plane_by_kubeadms_phases() {
    let root = joined();
    bring(&root, "2a");
    let said = ok(&root.run("kubeadm-promote"));
    assert!(said.contains("member 2a"), "{said}");
    let config = root.path(HERE).join("kubeadm.yaml");
    let phases = [
        "certs all",
        "kubeconfig admin",
        "kubeconfig controller-manager",
        "kubeconfig scheduler",
        "etcd local",
        "control-plane all",
    ];
    let expected = phases.map(|phase| format!("init phase {phase} --config {}\n", config.display())).concat();
    assert_eq!(root.read("run/kubeadm"), expected);
    assert!(has_pods(&root) && !root.has(WAITS) && !root.has(HERE), "no key stays in memory");
    assert_eq!((root.read(CONTROL).as_str(), root.read(OWNER).as_str()), ("2a\n", "2a\n"));
    assert_eq!(mode(&root.path("etc/kubernetes/pki/etcd/ca.key")), 0o600);
    assert_eq!(mode(&root.path("etc/kubernetes/pki/ca.crt")), 0o644);
    // Once more, as when the gateway died before it saw it.
    bring(&root, "2a");
    root.tool("kubeadm", "exit 1");
    ok(&root.run("kubeadm-promote"));
    assert!(has_pods(&root) && !root.has(HERE));
}

/// What would ask it, and fail, and take its time: until then it waits.
#[test]
fn etcd_is_alone_until_it_has_its_vote() {
    let root = joined();
    bring(&root, "2a");
    let (count, seen) = (root.path("run/count"), root.path("run/seen"));
    let (pods, count, seen) = (root.path("etc/kubernetes"), count.display(), seen.display());
    // It does not answer, then it hears nobody, then it learns; each time somebody looks what there is.
    root.tool(
        "curl",
        &format!(
            "echo >>{count}; ls {pods}/manifests {pods}/meshboot-control-plane >>{seen}\n\
             case $(wc -l <{count}) in 1) exit 7;; 2) echo '{ALONE}';; 3) echo '{LEARNER}';; *) echo '{VOTER}';; esac",
            pods = pods.display()
        ),
    );
    ok(&root.run("kubeadm-promote"));
    assert_eq!(root.read("run/count").len(), 4);
    let seen = root.read("run/seen");
    assert_eq!((seen.matches("etcd.yaml").count(), seen.matches("kube-").count()), (4, 0), "{seen}");
    // Whoever gives the vote waits for the mark.
    assert_eq!(seen.matches("meshboot-control-plane").count(), 4, "{seen}");
    assert!(has_pods(&root) && !root.has(WAITS));
}

#[test]
fn a_loss_of_power_before_the_vote_leaves_the_rest_to_the_next_boot() {
    let root = joined();
    bring(&root, "2a");
    // The plug is pulled while it waits.
    root.tool("curl", "exit 7");
    root.tool("sleep", "kill -9 $PPID");
    assert!(!root.run("kubeadm-promote").status.success());
    assert!(root.has(WAITS) && !root.has(HERE));
    let said = ok(&root.run("kubeadm-prepare"));
    assert!(said.contains("is a control plane and goes on"), "{said}");
    etcd_says(&root, VOTER);
    root.tool("kubeadm", "exit 1");
    ok(&root.run("kubeadm-promote"));
    assert!(has_pods(&root) && !root.has(WAITS));
    // And once more, as at each later boot.
    ok(&root.run("kubeadm-promote"));
}

#[test]
fn a_member_that_was_given_up_while_it_waited_becomes_the_next_one() {
    let root = joined();
    bring(&root, "2a");
    let here = root.path(HERE);
    // A new ticket comes while the first member is still a learner.
    let other = root.path("other");
    fs::create_dir_all(other.join("pki/etcd")).unwrap();
    fs::write(other.join("pki/ca.key"), "secret\n").unwrap();
    fs::write(other.join("ticket"), "2b\n").unwrap();
    fs::write(other.join("ready"), "").unwrap();
    root.tool(
        "curl",
        &format!(
            "[ -e {other} ] || {{ echo '{VOTER}'; exit 0; }}\nmv {other} {here}; echo '{LEARNER}'",
            other = other.display(),
            here = here.display()
        ),
    );
    ok(&root.run("kubeadm-promote"));
    assert_eq!((root.read(CONTROL).as_str(), root.read(OWNER).as_str()), ("2b\n", "2b\n"));
    assert!(has_pods(&root) && !root.has(WAITS) && !root.has(HERE));
}

#[test]
fn a_phase_that_fails_leaves_no_mark_and_says_why() {
    let root = joined();
    bring(&root, "2a");
    root.tool("kubeadm", "echo 'error: no room' >&2; exit 1");
    let output = root.run("kubeadm-promote");
    assert!(
        !output.status.success() && said(&output).contains("kubeadm init phase certs all: error: no room")
    );
    assert!(!root.has(CONTROL));
    assert_eq!(root.read(&format!("{HERE}/trouble")), "kubeadm init phase certs all: error: no room\n");
}

/// The data is the ticket's from before the first static pod on: a learner that has run must find it again.
#[test]
fn after_a_loss_of_power_the_same_ticket_keeps_what_etcd_has() {
    let root = joined();
    bring(&root, "2a");
    ok(&root.run("kubeadm-promote"));
    root.write("var/lib/etcd/member/wal", "learnt", 0o600);
    fs::remove_file(root.path(CONTROL)).unwrap();
    // It boots: without the mark there was no vote, and torn pods must not start.
    let said = ok(&root.run("kubeadm-prepare"));
    assert!(said.contains("goes on as the same node") && !has_pods(&root), "{said}");
    assert_eq!(root.read("var/lib/etcd/member/wal"), "learnt");
    bring(&root, "2a");
    ok(&root.run("kubeadm-promote"));
    assert_eq!(root.read("var/lib/etcd/member/wal"), "learnt");
    assert!(has_pods(&root) && root.has(CONTROL));
}

#[test]
fn another_ticket_begins_with_an_empty_etcd_and_keeps_the_former_one_aside() {
    let root = joined();
    bring(&root, "2a");
    ok(&root.run("kubeadm-promote"));
    root.write("var/lib/etcd/member/wal", "former", 0o600);
    root.write("etc/kubernetes/admin.conf", "former", 0o600);
    bring(&root, "2b");
    // Its etcd goes on for a moment after its static pod is gone.
    let count = root.path("run/count");
    let count = count.display();
    root.tool(
        "pgrep",
        &format!(
            "[ -e {count} ] && exit 1; touch {count}; [ ! -e {}/etcd.yaml ]",
            root.path("etc/kubernetes/manifests").display()
        ),
    );
    ok(&root.run("kubeadm-promote"));
    assert!(root.has("run/count") && !root.has("var/lib/etcd/member"));
    assert_eq!(root.read("var/lib/meshboot/former-etcd/member/wal"), "former");
    assert_eq!(root.read("etc/kubernetes/admin.conf"), "new\n");
    assert_eq!(root.read(CONTROL), "2b\n");
}

#[test]
fn a_control_plane_that_boots_keeps_its_cluster_whatever_its_plan_says() {
    let root = joined();
    bring(&root, "2a");
    ok(&root.run("kubeadm-promote"));
    root.write("var/lib/etcd/member/wal", "precious", 0o600);
    let mark = root.read(MARK);
    // Another kubelet's argument, another version; and its certificate ended while it was off.
    root.tool("openssl", "exit 1");
    for other in [mark.clone(), format!("{mark}kubelet --v=4\n"), mark.replace("v1.20.2", "v1.20.3")] {
        root.write(MARK, &other, 0o600);
        let said = ok(&root.run("kubeadm-prepare"));
        assert!(said.contains("is a control plane and goes on"), "{said}");
        assert!(has_pods(&root) && root.has(CONTROL) && root.has(CLIENT));
        assert_eq!(root.read("var/lib/etcd/member/wal"), "precious");
    }
    // Another node: it joins anew, and even then what etcd has is not thrown away.
    root.write(MARK, &mark.replace("name ", "name not-"), 0o600);
    ok(&root.run("kubeadm-prepare"));
    assert!(!has_pods(&root) && !root.has(CONTROL) && !root.has(OWNER) && !root.has(MARK));
    assert_eq!(root.read("var/lib/etcd/member/wal"), "precious");
}

#[test]
fn a_machine_that_has_not_joined_becomes_nothing() {
    let root = joined();
    fs::remove_file(root.path(MARK)).unwrap();
    bring(&root, "2a");
    let output = root.run("kubeadm-promote");
    assert!(!output.status.success() && said(&output).contains("has not joined"));
    assert!(!root.has("run/kubeadm"));
}
