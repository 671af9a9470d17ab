//! kubeadm's configuration, in the API version of its Kubernetes.
//!
//! It is JSON, which kubeadm reads as the YAML that it is; several documents are divided by `---`. What kubeadm has a
//! good default for is left out.

use std::fmt::Write as _;

use mesh::plan::APISERVER_PORT;
use mesh::{AddressPlan, Block, NodeName};
use serde_json::{Value, json};

use crate::containerd::IMAGE_REPOSITORY;
use crate::gateway::in_order;
use crate::version::KubeadmApi;
use crate::{BootstrapToken, ControlPlaneSpec, NodePlan, SitePlan, Taint, Uplink};

mod components;

/// Where etcd hears the other members.
const ETCD_PEER_PORT: u16 = 2380;
/// How long control plane and kubelet may take to answer. Far more than a machine needs; a software-emulated one
/// gets near kubeadm's own four minutes.
const SLOW_MACHINE: &str = "15m0s";
/// How long one try looks for the cluster; the join unit tries again, and says why.
const DISCOVERY: &str = "2m0s";
/// How long the token lives that `kubeadm init` cannot be kept from making. Machines get tokens of their own.
const UNUSED_TOKEN: &str = "1s";
/// What kubeadm's preflight checks would call an error when a first try was cut short by its own time limit; how many
/// processors a control plane should have; and the kernel's build configuration, which the image does not hold.
const SECOND_TRY_OF_INIT: [&str; 13] = [
    "DirAvailable--var-lib-etcd",
    "FileAvailable--etc-kubernetes-manifests-etcd.yaml",
    "FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml",
    "FileAvailable--etc-kubernetes-manifests-kube-controller-manager.yaml",
    "FileAvailable--etc-kubernetes-manifests-kube-scheduler.yaml",
    "NumCPU",
    "Port-10250",
    "Port-10257",
    "Port-10259",
    "Port-2379",
    "Port-2380",
    "Port-6443",
    "SystemVerification",
];
const SECOND_TRY_OF_JOIN: [&str; 4] = [
    "FileAvailable--etc-kubernetes-bootstrap-kubelet.conf",
    "FileAvailable--etc-kubernetes-pki-ca.crt",
    "Port-10250",
    "SystemVerification",
];

/// Where the cluster is: the anycast address that every healthy API server answers at.
#[must_use]
pub fn endpoint(plan: &AddressPlan) -> String {
    format!("[{}]:{APISERVER_PORT}", plan.apiserver)
}

/// What `kubeadm init` reads.
#[must_use]
pub fn init_config(
    plan: &NodePlan,
    block: Block,
    uplink: Option<&Uplink>,
    control_plane: &ControlPlaneSpec,
) -> String {
    let (site, name) = (&plan.site, &plan.machine.name);
    let version = site.kubernetes;
    let api = version.kubeadm_api();
    let mut init = json!({
        "apiVersion": api.to_string(),
        "kind": "InitConfiguration",
        "bootstrapTokens": [{
            "description": "Made by kubeadm init; expired at once.",
            "ttl": UNUSED_TOKEN,
        }],
        "localAPIEndpoint": { "advertiseAddress": block.vip(), "bindPort": APISERVER_PORT },
        "nodeRegistration": registration(plan, block, &SECOND_TRY_OF_INIT),
    });
    if api >= KubeadmApi::V1Beta4 {
        init["timeouts"] = json!({
            "controlPlaneComponentHealthCheck": SLOW_MACHINE,
            "kubeletHealthCheck": SLOW_MACHINE,
        });
    }
    documents(&[
        init,
        components::cluster(site, name, block, uplink, control_plane, &[]),
        components::kubelet(site),
        components::kube_proxy(),
    ])
}

/// What `kubeadm join` reads. It holds the token.
#[must_use]
pub fn join_config(plan: &NodePlan, block: Block, token: &BootstrapToken) -> String {
    let site = &plan.site;
    let version = site.kubernetes;
    let api = version.kubeadm_api();
    let mut join = json!({
        "apiVersion": api.to_string(),
        "kind": "JoinConfiguration",
        "discovery": {
            "bootstrapToken": {
                "apiServerEndpoint": endpoint(&site.plan),
                "caCertHashes": [format!("sha256:{}", site.ca_spki_sha256)],
                "token": token.expose(),
            },
        },
        "nodeRegistration": registration(plan, block, &SECOND_TRY_OF_JOIN),
    });
    if api >= KubeadmApi::V1Beta4 {
        join["timeouts"] = json!({ "discovery": DISCOVERY, "kubeletHealthCheck": SLOW_MACHINE });
    } else {
        join["discovery"]["timeout"] = json!(DISCOVERY);
    }
    documents(&[join])
}

/// What the phases of `kubeadm init` read that make a node one more control plane: certificates, kubeconfigs and static
/// pods, for which none of them asks the cluster. `etcd` has every member of the cluster's etcd as `name=URL`, this node's
/// included.
///
/// Not the phases of `kubeadm join`: up to 1.26 they give a new member its vote before it runs, and a cluster of one whose
/// second member never comes up is lost.
#[must_use]
pub fn control_plane_config(
    site: &SitePlan,
    name: &NodeName,
    block: Block,
    wanted: &ControlPlaneSpec,
    etcd: &[String],
) -> String {
    let joins = [("initial-cluster", etcd.join(",")), ("initial-cluster-state", "existing".to_owned())];
    documents(&[local(site, name, block), components::cluster(site, name, block, None, wanted, &joins)])
}

/// What kubeadm reads when it renews a control plane's certificates. Whom they name it finds in those that there are, and
/// without a configuration it would ask the cluster, which may be waiting for them.
#[must_use]
pub fn renewal_config(site: &SitePlan, name: &NodeName, block: Block) -> String {
    let wanted = ControlPlaneSpec::default();
    documents(&[local(site, name, block), components::cluster(site, name, block, None, &wanted, &[])])
}

/// Of a machine that has joined already.
fn local(site: &SitePlan, name: &NodeName, block: Block) -> Value {
    let version = site.kubernetes;
    json!({
        "apiVersion": version.kubeadm_api().to_string(),
        "kind": "InitConfiguration",
        "localAPIEndpoint": { "advertiseAddress": block.vip(), "bindPort": APISERVER_PORT },
        "nodeRegistration": { "name": name, "criSocket": version.cri_socket() },
    })
}

/// Where a node's etcd is reached by the others.
#[must_use]
pub fn etcd_peer(block: Block) -> String {
    format!("https://[{}]:{ETCD_PEER_PORT}", block.vip())
}

/// How the machine presents itself to Kubernetes.
fn registration(plan: &NodePlan, block: Block, ignored: &[&str]) -> Value {
    let version = plan.site.kubernetes;
    let wanted = plan.spec.arguments();
    let wanted = wanted.iter().map(|(name, value)| (name.as_str(), value.clone()));
    let all: Vec<(&str, String)> = wanted.chain([("node-ip", block.vip().to_string())]).collect();
    let mut registration = json!({
        "name": plan.machine.name,
        "criSocket": version.cri_socket(),
        "kubeletExtraArgs": arguments(version.kubeadm_api(), &all),
    });
    // Without any a control plane has the one that kubeadm gives it.
    if !plan.spec.taints.is_empty() {
        let taint = |taint: &Taint| json!({ "key": taint.key, "value": taint.value, "effect": taint.effect.to_string() });
        registration["taints"] = plan.spec.taints.iter().map(taint).collect();
    }
    if version.kubeadm_speaks_cri() {
        registration["ignorePreflightErrors"] = json!(ignored);
    }
    if version.kubeadm_api() >= KubeadmApi::V1Beta4 {
        registration["imagePullSerial"] = json!(false);
    }
    registration
}

/// A component's arguments: a map up to v1beta3, then a list.
fn arguments(api: KubeadmApi, arguments: &[(&str, String)]) -> Value {
    if api >= KubeadmApi::V1Beta4 {
        arguments.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
    } else {
        Value::Object(arguments.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect())
    }
}

fn documents(documents: &[Value]) -> String {
    let mut text = String::new();
    for (at, document) in documents.iter().enumerate() {
        let divider = if at == 0 { "" } else { "---\n" };
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{divider}{:#}", in_order(document));
    }
    text
}

#[cfg(test)]
mod tests;
