//! The machine as a member of its cluster: kubelet, kubeadm and the units that run them.
//!
//! `/etc/kubernetes`, `/var/lib/kubelet` and `/var/lib/etcd` are on the state disk and outlive a restart; what Ignition
//! brings is in memory and comes anew with each boot, under `/etc/meshboot`. `kubeadm-prepare` brings the two
//! together before anything else of Kubernetes starts.

use mesh::Block;
use mesh::plan::ETCD_PORT;

use crate::kubeadm::renewal_config;
use crate::render::JOIN_LIMIT;
use crate::template::fill;
use crate::tree::{PRIVATE, PUBLIC, SCRIPT, Tree};
use crate::{KubernetesSource, NodePlan, RoleDetail, SitePlan};

/// Where kubeadm finds its configuration.
pub const KUBEADM_CONFIG: &str = "/etc/meshboot/kubeadm.yaml";
/// And that by which it renews a control plane's certificates.
pub const RENEWAL_CONFIG: &str = "/etc/meshboot/renewal.yaml";
/// A certificate of a control plane is renewed when it ends in so many days, or in up to twice as many.
const RENEWED_BEFORE_DAYS: u32 = 30;
/// Written by the machine itself when kubeadm has wholly succeeded, and only then. Before it is there, a seed's
/// cluster may still be thrown away after a power cut: nothing that has to last may be put into it.
pub const MEMBER_MARK: &str = "/etc/kubernetes/meshboot-member";

/// Written by a node that was made a control plane when all that its etcd needs is on the disk, and only then: which
/// member of etcd it is, in hexadecimal. Before it is there the member gets no vote.
pub const CONTROL_PLANE_MARK: &str = "/etc/kubernetes/meshboot-control-plane";
/// Where the gateway leaves what makes its node a control plane; in memory, until the node is one. The file `ready` is
/// the last.
pub const PROMOTION: &str = "/run/meshboot/promotion";
/// Where the static pods of a control plane wait until their node's etcd has a vote.
const PODS_WAIT: &str = "/etc/kubernetes/meshboot-pods";

const SCRIPTS: &str = "/usr/lib/meshboot";
const PKI: &str = "/etc/meshboot/pki";
const PREPARE: &str = include_str!("templates/scripts/kubeadm-prepare");
const MEMBER: &str = include_str!("templates/scripts/kubeadm-member");
const JOIN: &str = include_str!("templates/scripts/kubeadm-join");
const PROMOTE: &str = include_str!("templates/scripts/kubeadm-promote");
const RENEW: &str = include_str!("templates/scripts/kubeadm-renew");
const RENEW_UNIT: &str = include_str!("templates/units/kubeadm-renew.service");
const RENEW_TIMER: &str = include_str!("templates/units/kubeadm-renew.timer");
const WEIGH_UNIT: &str = include_str!("templates/units/meshboot-weigh.service");
const PREPARE_UNIT: &str = include_str!("templates/units/kubeadm-prepare.service");
const INIT_UNIT: &str = include_str!("templates/units/kubeadm-init.service");
const JOIN_UNIT: &str = include_str!("templates/units/kubeadm-join.service");
const PROMOTE_PATH: &str = include_str!("templates/units/kubeadm-promote.path");
const PROMOTE_UNIT: &str = include_str!("templates/units/kubeadm-promote.service");
const KUBELET_UNIT: &str = include_str!("templates/units/kubelet.service");

/// Writes the units and scripts of a seed or node.
pub fn write(tree: &mut Tree, plan: &NodePlan, block: Block) {
    let site = &plan.site;
    let mut script = |name: &str, text: String| tree.file(format!("{SCRIPTS}/{name}"), SCRIPT, text);
    script("kubeadm-member", MEMBER.to_owned());
    // Any node may be made a control plane.
    let days = (RENEWED_BEFORE_DAYS + plan.machine.router_id.get() % RENEWED_BEFORE_DAYS).to_string();
    script("kubeadm-renew", fill(RENEW, &[("config", RENEWAL_CONFIG), ("days", &days)]));
    let (role, verb) = match &plan.detail {
        RoleDetail::Seed { .. } => ("seed", "init"),
        RoleDetail::Node { .. } => ("node", "join"),
    };
    let values = [("role", role), ("verb", verb), ("control", CONTROL_PLANE_MARK), ("waits", PODS_WAIT)];
    script("kubeadm-prepare", fill(PREPARE, &values));
    match &plan.detail {
        RoleDetail::Seed { pki, .. } => {
            let values = [("config", KUBEADM_CONFIG), ("skip", &*skip_in_init(site))];
            tree.unit("kubeadm-init.service", fill(INIT_UNIT, &values));
            tree.folder(PKI, 0o700);
            for file in pki {
                tree.file(format!("{PKI}/{}", file.path), file.mode, file.contents.expose().as_str());
            }
        }
        RoleDetail::Node { .. } => {
            let limit = JOIN_LIMIT.as_secs().to_string();
            let endpoint = crate::kubeadm::endpoint(&site.plan);
            let skip = if site.kubernetes.kubeadm_speaks_cri() { "" } else { " --skip-phases=preflight" };
            let values =
                [("config", KUBEADM_CONFIG), ("skip", skip), ("limit", &limit), ("endpoint", &endpoint)];
            script("kubeadm-join", fill(JOIN, &values));
            let (folder, waits) = (("folder", PROMOTION), ("waits", PODS_WAIT));
            let port = ETCD_PORT.to_string();
            let values = [folder, waits, ("mark", CONTROL_PLANE_MARK), ("port", &port)];
            script("kubeadm-promote", fill(PROMOTE, &values));
            tree.unit("kubeadm-join.service", JOIN_UNIT);
            tree.unit("kubeadm-promote.path", fill(PROMOTE_PATH, &[folder]));
            tree.unit("kubeadm-promote.service", fill(PROMOTE_UNIT, &[folder, waits]));
        }
    }
    tree.file("/etc/meshboot/member", PRIVATE, member(plan, block, role));
    tree.file(
        "/etc/default/kubelet",
        PUBLIC,
        "# Further arguments, for an operator: KUBELET_EXTRA_ARGS=--v=2\n",
    );
    tree.unit("kubeadm-prepare.service", PREPARE_UNIT);
    tree.unit("kubelet.service", KUBELET_UNIT);
    tree.file(RENEWAL_CONFIG, PRIVATE, renewal_config(site, &plan.machine.name, block));
    tree.unit("kubeadm-renew.service", RENEW_UNIT);
    tree.unit("kubeadm-renew.timer", RENEW_TIMER);
    // On a node that is no control plane it finds nothing to do, and may be made one at any time.
    tree.unit("meshboot-weigh.service", fill(WEIGH_UNIT, &[("node", plan.machine.name.as_str())]));
}

/// What makes the machine this member of this cluster. A node with another of these joins anew.
fn member(plan: &NodePlan, block: Block, role: &str) -> String {
    let (site, name) = (&plan.site, &plan.machine.name);
    let (ca, version) = (&site.ca_spki_sha256, site.kubernetes);
    let mut text =
        format!("role {role}\nname {name}\naddress {}\nca {ca}\nkubernetes {version}\n", block.vip());
    if let Some(kubelet) = plan.spec.own_kubelet(version) {
        text.push_str(&format!("kubelet {kubelet}\n"));
    }
    // A kubelet reads its arguments from what joining wrote.
    for (argument, value) in plan.spec.arguments() {
        text.push_str(&format!("kubelet --{argument}={value}\n"));
    }
    text
}

fn skip_in_init(site: &SitePlan) -> String {
    let preflight = (!site.kubernetes.kubeadm_speaks_cri()).then_some("preflight");
    let dns = match site.kubernetes_source {
        KubernetesSource::Debian => Some("addon/coredns"),
        KubernetesSource::Upstream => None,
    };
    let phases: Vec<&str> = preflight.into_iter().chain(dns).collect();
    if phases.is_empty() { String::new() } else { format!(" --skip-phases={}", phases.join(",")) }
}
