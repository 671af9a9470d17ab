//! The cluster-wide documents: control plane, kubelets and kube-proxy.

use std::collections::BTreeMap;

use mesh::plan::ETCD_PORT;
use mesh::{Block, NodeName};
use serde_json::{Value, json};

use super::{IMAGE_REPOSITORY, SLOW_MACHINE, arguments, endpoint};
use crate::version::KubeadmApi;
use crate::{ControlPlaneSpec, SitePlan, Uplink};

const DNS_DOMAIN: &str = "cluster.local";
/// Which of the service addresses is the cluster's DNS: kubeadm's tenth.
const DNS_SERVICE: u128 = 10;
/// Until then priority and fairness took a sample of each of its queues for every millisecond, also of those where nothing
/// happens: of what an idle API server of 1.20 does, three tenths. (kubernetes/kubernetes issue 97685, ended by
/// pull request 110104.)
const FAIRNESS_IS_CHEAP: u16 = 25;
/// Twice Kubernetes' own times: its 10 s to renew a lease are not enough for a slow machine whose API server is
/// busy, and whoever loses the lease restarts, which makes it busier.
const LEADER: [(&str, &str); 3] = [
    ("leader-elect-lease-duration", "30s"),
    ("leader-elect-renew-deadline", "20s"),
    ("leader-elect-retry-period", "4s"),
];

/// For so long an API server that was told to end serves on and says so: its node sees that within a second, and routes
/// lead elsewhere before it refuses anybody.
const FAREWELL: &str = "5s";

/// More than twice etcd's own times, in milliseconds: a member that is kept waiting for a second is not dead. One that is
/// takes its leadership with it for five seconds at most.
const ETCD: [(&str, &str); 2] = [("heartbeat-interval", "250"), ("election-timeout", "2500")];

/// `joins` has further arguments of this machine's etcd.
pub(super) fn cluster(
    site: &SitePlan,
    name: &NodeName,
    block: Block,
    uplink: Option<&Uplink>,
    wanted: &ControlPlaneSpec,
    joins: &[(&'static str, String)],
) -> Value {
    let api = site.kubernetes.kubeadm_api();
    let vip = block.vip();
    let outer = uplink.iter().flat_map(|uplink| &uplink.addresses).map(|net| net.addr().to_string());
    let mut api_server_names =
        vec![site.plan.apiserver.to_string(), vip.to_string(), "localhost".to_owned(), "::1".to_owned()];
    api_server_names.extend(outer);
    let etcd_names = [site.plan.etcd.to_string(), vip.to_string(), "localhost".to_owned(), name.to_string()];

    // On every address, so that the anycast one is answered whenever it is there.
    let listens = ("listen-client-urls", format!("https://[::]:{ETCD_PORT}"));
    let times = ETCD.map(|(name, value)| (name, value.to_owned()));
    let own: Vec<_> = std::iter::once(listens).chain(times).collect();
    let etcd: Vec<_> = with(&own, &wanted.etcd).into_iter().chain(joins.iter().cloned()).collect();

    let mut cluster = json!({
        "apiVersion": api.to_string(),
        "kind": "ClusterConfiguration",
        "clusterName": "meshboot",
        "kubernetesVersion": site.kubernetes,
        "controlPlaneEndpoint": endpoint(&site.plan),
        "imageRepository": IMAGE_REPOSITORY,
        // Pods have their node's block. kubeadm would refuse pod prefixes that are narrower than a /64 for each node.
        "networking": { "dnsDomain": DNS_DOMAIN, "serviceSubnet": site.plan.services },
        "apiServer": {
            "certSANs": api_server_names,
            "extraArgs": arguments(api, &with(&api_server(site), &wanted.apiserver)),
        },
        "controllerManager": {
            "extraArgs": arguments(api, &with(
                &leader(&[("allocate-node-cidrs", "false".to_owned()), ("bind-address", "::".to_owned())]),
                &wanted.controller_manager,
            )),
        },
        "scheduler": {
            "extraArgs": arguments(api, &with(
                &leader(&[("bind-address", "::".to_owned())]),
                &wanted.scheduler,
            )),
        },
        "etcd": {
            "local": {
                "dataDir": "/var/lib/etcd",
                "serverCertSANs": etcd_names,
                "extraArgs": arguments(api, &etcd),
            },
        },
    });
    // RSA keys cost minutes on a slow machine.
    if api >= KubeadmApi::V1Beta4 {
        cluster["encryptionAlgorithm"] = json!("ECDSA-P256");
    } else {
        cluster["featureGates"] = json!({ "PublicKeysECDSA": true });
        cluster["apiServer"]["timeoutForControlPlane"] = json!(SLOW_MACHINE);
    }
    // CoreDNS moved one level down in 1.21; kubeadms whose own default is the old registry do not know it of this one.
    if site.kubernetes.at_least(21) {
        cluster["dns"] = json!({ "imageRepository": format!("{IMAGE_REPOSITORY}/coredns") });
    }
    cluster
}

fn api_server(site: &SitePlan) -> Vec<(&'static str, String)> {
    let mut own = vec![("bind-address", "::".to_owned()), ("shutdown-delay-duration", FAREWELL.to_owned())];
    if !site.kubernetes.at_least(FAIRNESS_IS_CHEAP) {
        own.push(("enable-priority-and-fairness", "false".to_owned()));
    }
    own
}

/// The arguments of a component that runs once in the cluster, with the times after which another takes over.
fn leader(own: &[(&'static str, String)]) -> Vec<(&'static str, String)> {
    own.iter().cloned().chain(LEADER.map(|(name, value)| (name, value.to_owned()))).collect()
}

/// A component's arguments, and over them those that the operator wants.
fn with<'a>(own: &[(&'a str, String)], wanted: &'a BTreeMap<String, String>) -> Vec<(&'a str, String)> {
    let own = own.iter().filter(|(name, _)| !wanted.contains_key(*name)).cloned();
    own.chain(wanted.iter().map(|(name, value)| (name.as_str(), value.clone()))).collect()
}

pub(super) fn kubelet(site: &SitePlan) -> Value {
    let version = site.kubernetes;
    let dns = std::net::Ipv6Addr::from_bits(site.plan.services.network().to_bits() + DNS_SERVICE);
    let mut kubelet = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "::",
        "cgroupDriver": "systemd",
        "clusterDNS": [dns],
        "clusterDomain": DNS_DOMAIN,
        "failSwapOn": false,
        "resolvConf": "/etc/resolv.conf",
        "rotateCertificates": true,
        // One slow image must not hold up the others.
        "serializeImagePulls": false,
    });
    if version.kubelet_config_names_runtime() {
        kubelet["containerRuntimeEndpoint"] = json!(version.cri_socket());
    }
    kubelet
}

pub(super) fn kube_proxy() -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "bindAddress": "::",
        "healthzBindAddress": "[::]:10256",
        "metricsBindAddress": "[::1]:10249",
        // The kernel's own limits stand: machines of all sizes are in one mesh.
        "conntrack": { "maxPerCore": 0, "min": 0 },
    })
}
