//! A kubelet of another version than the mesh's, on a node that is to have one.
//!
//! The nodes' image has one kubelet. Another comes by the mirrors, as an image that holds nothing else, and is laid over the
//! first one: so kubeadm, which asks the kubelet for its version, and the kubelet's own unit find it where they look. What
//! fetches it is this machine's own program; the kubelet waits for it, and so does what makes the machine a node.

use crate::template::fill;
use crate::tree::Tree;
use crate::{NodePlan, RoleDetail};

const UNIT: &str = include_str!("templates/units/meshboot-kubelet.service");
const DROP_IN: &str = include_str!("templates/system/kubelet-drop-in.conf");

/// Where everybody looks for the kubelet.
pub const PROGRAM: &str = "/usr/bin/kubelet";
/// Where a node keeps its own, on the disk: a restart needs nobody for it.
pub const FOLDER: &str = "/var/lib/meshboot/kubelet";

/// Writes what gives a node its own kubelet, if it is to have one.
pub fn write(tree: &mut Tree, plan: &NodePlan) {
    let Some(version) = plan.spec.own_kubelet(plan.site.kubernetes) else { return };
    tree.unit("meshboot-kubelet.service", fill(UNIT, &[("version", &version.to_string())]));
    let member = match &plan.detail {
        RoleDetail::Seed { .. } => "kubeadm-init.service",
        RoleDetail::Node { .. } => "kubeadm-join.service",
    };
    tree.drop_in(member, DROP_IN);
    tree.drop_in("kubelet.service", DROP_IN);
}
