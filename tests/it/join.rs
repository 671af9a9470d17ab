//! Bootstrap tokens in a real Kubernetes: what they are good for, and for whom.
//!
//! `MESHBOOT_TEST_KUBERNETES` names a folder with `kube-apiserver` and `kube-controller-manager`, and `etcd` and `kubectl`
//! where these are not installed. Any version from 1.20 on will do.

use std::process::Output;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use bootstrap::join::certify::BOOT_SIGNER;
use bootstrap::join::{Certifier, Cluster as Join, Grant, new_token};
use bootstrap::pki::Authority;
use bootstrap::pki::boot::{self, BootSigner};
use bootstrap::store::KubernetesStore;
use ignition::BootstrapToken;
use mesh::{AddressPlan, Block, BlockNumber, Mac, MachineId};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::store::cluster::Cluster;

/// How long what is certain to come may take, on a slow machine that has other work.
const LIMIT: Duration = Duration::from_secs(120);

/// kubeadm's group of tokens, its two bindings of it, and the right that one of them gives.
const KUBEADM: &str = "system:bootstrappers:kubeadm:default-node-token";
const APPROVED: &str = "system:certificates.k8s.io:certificatesigningrequests:nodeclient";

struct Bench {
    cluster: Cluster,
    join: Join,
    runtime: Runtime,
    folder: tempfile::TempDir,
}

// === impl Bench ===

impl Bench {
    fn start() -> Self {
        let mut cluster = Cluster::start();
        cluster.start_controllers();
        let bind = |name: &str, role: &str| {
            let (role, group) = (format!("--clusterrole={role}"), format!("--group={KUBEADM}"));
            cluster.admin(&["create", "clusterrolebinding", name, &role, &group]);
        };
        bind("kubeadm:kubelet-bootstrap", "system:node-bootstrapper");
        bind("kubeadm:node-autoapprove-bootstrap", APPROVED);
        let (runtime, admin) = (Runtime::new().unwrap(), cluster.kubeconfig("admin"));
        KubernetesStore::new(&admin, AddressPlan::default(), runtime.handle().clone()).install().unwrap();
        let join = runtime.block_on(Join::open(&admin)).unwrap();
        Self { cluster, join, runtime, folder: tempfile::tempdir().unwrap() }
    }

    fn mint(&self, node: &str) -> anyhow::Result<BootstrapToken> {
        let grant = Grant {
            machine: MachineId::from_mac(Mac([2, 0, 0, 0, 0, 4])),
            node: node.parse()?,
            expires: "2099-01-01T00:00:00Z".parse()?,
            boot_before: None,
        };
        let token = new_token()?;
        self.runtime.block_on(self.join.mint(&token, &"node1".parse()?, &grant))?;
        Ok(token)
    }

    /// Makes a user that has this token, and waits until the API server knows it.
    fn user(&self, user: &str, token: &str) {
        self.cluster.write_kubeconfig(user, &json!({ "token": token }));
        self.wait("the token is known", || self.cluster.kubectl(user, &["api-versions"]).status.success());
    }

    fn create(&self, user: &str, object: &Value) -> Output {
        let path = self.folder.path().join("object.json");
        std::fs::write(&path, object.to_string()).unwrap();
        self.cluster.kubectl(user, &["create", "-f", path.to_str().unwrap()])
    }

    /// Asks as a kubelet does that is to be this node; gives its key.
    fn ask(&self, user: &str, request: &str, node: &str) -> KeyPair {
        let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::default());
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        let created = self.create(
            user,
            &json!({
                "apiVersion": "certificates.k8s.io/v1",
                "kind": "CertificateSigningRequest",
                "metadata": { "name": request },
                "spec": {
                    "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
                    "usages": ["digital signature", "key encipherment", "client auth"],
                    "request": base64(pem.as_bytes()),
                },
            }),
        );
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        key
    }

    fn status(&self, request: &str) -> Value {
        let object = self.cluster.admin(&["get", "csr", request, "-o", "json"]);
        serde_json::from_str::<Value>(&object).unwrap()["status"].take()
    }

    /// The certificate of a request, once it is there.
    fn certificate(&self, request: &str) -> String {
        self.wait(request, || self.status(request)["certificate"].is_string());
        self.status(request)["certificate"].as_str().unwrap().to_owned()
    }

    fn wait(&self, what: &str, so: impl Fn() -> bool) {
        let started = Instant::now();
        while !so() {
            let requests = || self.cluster.admin(&["get", "csr", "-o", "yaml"]);
            assert!(
                started.elapsed() < LIMIT,
                "{what}:\n{}\n{}",
                requests(),
                self.cluster.tail("controllers")
            );
            std::thread::sleep(Duration::from_millis(250));
        }
    }
}

fn base64(octets: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(octets)
}

#[test]
#[ignore = "needs Kubernetes: MESHBOOT_TEST_KUBERNETES names a folder of binaries"]
fn join_token_is_bound_to_its_node() {
    let bench = Bench::start();
    let token = bench.mint("node4").unwrap();
    bench.user("machine", &token.expose());
    what_a_token_may_do_and_what_not(&bench);
    kubernetes_approves_an_operators_and_not_a_machines(&bench);
    // As many as there are control planes: each decides, and who comes second finds it decided.
    let approvers = [certifier(), certifier(), certifier()].map(|certifier| {
        let join = bench.join.clone();
        bench.runtime.spawn(async move { join.approve(Some(&certifier)).await })
    });
    a_machine_becomes_its_node_and_no_other(&bench);
    a_node_is_certified_to_firmware_as_itself(&bench);
    a_thief_becomes_nobody_else(&bench);
    a_token_ends_when_its_node_is_ready(&bench);
    assert!(approvers.iter().all(|approver| !approver.is_finished()), "the watches last");
    approvers.iter().for_each(tokio::task::JoinHandle::abort);
    no_token_where_all_tokens_requests_are_approved(&bench);
}

fn what_a_token_may_do_and_what_not(bench: &Bench) {
    let system = ["-n", "kube-system"];
    let may: [&[&str]; 6] = [
        &["create", "certificatesigningrequests"],
        &["watch", "certificatesigningrequests"],
        &["get", "nodes/node9"],
        &["get", "configmaps/kubeadm-config", system[0], system[1]],
        &["get", "configmaps/kubelet-config-1.20", system[0], system[1]],
        &["get", "configmaps/kube-proxy", system[0], system[1]],
    ];
    for verb in may {
        assert!(bench.cluster.may("machine", verb), "a token may not {verb:?}");
    }
    let may_not: [&[&str]; 10] = [
        &["create", "certificatesigningrequests", "--subresource=nodeclient"],
        &["create", "certificatesigningrequests", "--subresource=selfnodeclient"],
        &["update", "certificatesigningrequests", "--subresource=approval"],
        &["get", "secrets", system[0], system[1]],
        &["list", "secrets", system[0], system[1]],
        &["create", "secrets", system[0], system[1]],
        &["list", "configmaps", system[0], system[1]],
        &["get", "configmaps/other", system[0], system[1]],
        &["list", "nodes"],
        &["create", "nodes"],
    ];
    for verb in may_not {
        assert!(!bench.cluster.may("machine", verb), "a token may {verb:?}");
    }
}

/// Nobody of ours looks yet.
fn kubernetes_approves_an_operators_and_not_a_machines(bench: &Bench) {
    bench.ask("machine", "early", "node4");
    bench.ask("machine", "early-thief", "node5");
    let (id, secret) = ("abcdef", "0123456789abcdef");
    let made = bench.create(
        "admin",
        &json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "bootstrap.kubernetes.io/token",
            "metadata": { "name": format!("bootstrap-token-{id}"), "namespace": "kube-system" },
            "stringData": {
                "token-id": id, "token-secret": secret, "usage-bootstrap-authentication": "true",
                "auth-extra-groups": KUBEADM,
            },
        }),
    );
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    bench.user("operator", &format!("{id}.{secret}"));
    bench.ask("operator", "operators", "node7");
    bench.certificate("operators");
    for request in ["early", "early-thief"] {
        assert_eq!(bench.status(request), json!({}), "Kubernetes decided on {request}");
    }
}

fn a_machine_becomes_its_node_and_no_other(bench: &Bench) {
    // What was asked while nobody looked, and after.
    bench.certificate("early");
    let key = bench.ask("machine", "again", "node4");
    let certificate = bench.certificate("again");
    let credentials = json!({
        "client-certificate-data": certificate,
        "client-key-data": base64(key.serialize_pem().as_bytes()),
    });
    bench.cluster.write_kubeconfig("node4", &credentials);
    let node = |name: &str| json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } });
    let created = bench.create("node4", &node("node4"));
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    let refused = bench.create("node4", &node("node5"));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("node4"), "{why}");
}

/// What firmware trusts.
static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| boot::authority(SystemTime::now()).unwrap());

/// Who certifies boot servers, in a mesh whose ledger has node4 alone.
fn certifier() -> Certifier {
    let signer = BootSigner::new(&AUTHORITY).unwrap();
    Certifier::new(signer, |node| (node.as_str() == "node4").then(block_of_node4))
}

fn block_of_node4() -> Block {
    AddressPlan::default().block(BlockNumber(4)).unwrap()
}

fn a_node_is_certified_to_firmware_as_itself(bench: &Bench) {
    let node = "node4".parse().unwrap();
    let request = boot::request(&node).unwrap();
    let certify = |user: &str| {
        let kubeconfig = bench.cluster.kubeconfig(user);
        bench.runtime.block_on(async {
            let cluster = Join::open(&kubeconfig).await?;
            cluster.certify(&node, &request.request_pem).await
        })
    };
    let certificate = certify("node4").unwrap();
    let renewed_at = boot::renewed_at(&certificate, &AUTHORITY.certificate_pem, block_of_node4());
    assert!(renewed_at.is_some(), "{certificate}");
    for (user, why) in [("admin", "asked for by admin"), ("machine", "asked for by system:bootstrap:")] {
        let error = format!("{:#}", certify(user).unwrap_err());
        assert!(error.contains(why), "{error}");
    }
    let all: Value = serde_json::from_str(&bench.cluster.admin(&["get", "csr", "-o", "json"])).unwrap();
    let ours =
        all["items"].as_array().unwrap().iter().filter(|item| item["spec"]["signerName"] == BOOT_SIGNER);
    assert_eq!(ours.filter(|item| item["status"]["certificate"].is_string()).count(), 1);
}

fn a_thief_becomes_nobody_else(bench: &Bench) {
    bench.ask("machine", "thief", "node5");
    for request in ["early-thief", "thief"] {
        bench.wait(request, || bench.status(request)["conditions"].is_array());
        let status = bench.status(request);
        let condition = &status["conditions"][0];
        assert_eq!((&condition["type"], &condition["reason"]), (&json!("Denied"), &json!("OtherName")));
        let message = condition["message"].as_str().unwrap();
        assert!(
            message.contains("system:node:node4") && message.contains("CN=system:node:node5"),
            "{message}"
        );
        assert_eq!(status["certificate"], Value::Null);
    }
}

/// The seed sees a node that is Ready, and its token is gone.
fn a_token_ends_when_its_node_is_ready(bench: &Bench) {
    let sweepers = [bench.join.clone(), bench.join.clone()]
        .map(|join| bench.runtime.spawn(async move { join.sweep().await }));
    let tokens = ["get", "secrets", "-n", "kube-system", "-o", "name"];
    let minted = || bench.cluster.admin(&tokens).matches("bootstrap-token-").count();
    let before = minted();
    let mut node: Value =
        serde_json::from_str(&bench.cluster.admin(&["get", "node", "node4", "-o", "json"])).unwrap();
    node["status"]["conditions"] = json!([{
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "as its kubelet would say",
    }]);
    let path = bench.folder.path().join("node.json");
    std::fs::write(&path, node.to_string()).unwrap();
    let status = "/api/v1/nodes/node4/status";
    bench.cluster.admin(&["replace", "--raw", status, "-f", path.to_str().unwrap()]);
    bench.wait("the token is revoked", || minted() == before - 1);
    let get = || bench.cluster.kubectl("machine", &["get", "csr"]).status.success();
    bench.wait("the token is forgotten", || !get());
    assert!(sweepers.iter().all(|sweeper| !sweeper.is_finished()), "the watches last");
    sweepers.iter().for_each(tokio::task::JoinHandle::abort);
    // A machine that boots anew has another one.
    let next = bench.mint("node4").unwrap();
    bench.user("machine", &next.expose());
    bench.ask("machine", "next-boot", "node4");
    bench.certificate("next-boot");
}

fn no_token_where_all_tokens_requests_are_approved(bench: &Bench) {
    let role = format!("--clusterrole={APPROVED}");
    let all = ["create", "clusterrolebinding", "everybody", &role, "--group=system:bootstrappers"];
    bench.cluster.admin(&all);
    bench.wait("the binding is known", || bench.mint("node6").is_err());
    let error = format!("{:#}", bench.mint("node6").unwrap_err());
    assert!(error.contains("everybody"), "{error}");
    bench.cluster.admin(&["delete", "clusterrolebinding", "everybody"]);
    bench.wait("the binding is gone", || bench.mint("node6").is_ok());
}
