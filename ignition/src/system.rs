//! The machine itself: its name, who may log in, and where its state is kept.
//!
//! What is the same for all machines and all sites is in the image.

use std::fmt::Write as _;

use mesh::Block;

use crate::template::fill;
use crate::tree::{PRIVATE, PUBLIC, SCRIPT, Tree};
use crate::{NodePlan, RoleDetail};

const STATE_UNIT: &str = include_str!("templates/units/meshboot-state.service");
const SYSCTL: &str = include_str!("templates/system/sysctl.conf");
const SSHD: &str = include_str!("templates/system/sshd.conf");
const SSH_HOST_KEY: &str = include_str!("templates/scripts/ssh-host-key");
const SSH_DROP_IN: &str = include_str!("templates/system/ssh-drop-in.conf");

/// Writes what makes the machine this machine.
pub fn write(tree: &mut Tree, plan: &NodePlan, block: Block) {
    let (site, machine) = (&plan.site, &plan.machine);
    // The same at every boot: the journal, the DUID and Kubernetes know the machine by it.
    tree.file("/etc/machine-id", 0o444, format!("{}\n", machine.id.0.simple()));
    tree.file("/etc/hostname", PUBLIC, format!("{}\n", machine.name));
    tree.file("/etc/hosts", PUBLIC, hosts(plan, block));
    tree.file("/etc/resolv.conf", PUBLIC, resolv_conf(plan));
    tree.file("/etc/sysctl.d/90-meshboot.conf", PUBLIC, SYSCTL);
    tree.file("/etc/meshboot/ca.crt", PUBLIC, format!("{}\n", site.ca_cert_pem.trim()));

    let keys: String = site.ssh_keys.iter().map(|line| format!("{}\n", line.trim())).collect();
    tree.folder("/root/.ssh", 0o700);
    tree.file("/root/.ssh/authorized_keys", PRIVATE, keys);
    // Before the image's own files: sshd takes the first value it reads.
    tree.file("/etc/ssh/sshd_config.d/00-meshboot.conf", PUBLIC, SSHD);
    tree.file("/usr/lib/meshboot/ssh-host-key", SCRIPT, SSH_HOST_KEY);
    tree.drop_in("ssh.service", SSH_DROP_IN);
    // The image would make another key at each boot.
    tree.mask(["sshd-keygen.service"]);
    tree.wanted("/usr/lib/systemd/system/ssh.service", "multi-user.target");

    tree.unit("meshboot-state.service", fill(STATE_UNIT, &[("site", site.id.as_str())]));
}

fn hosts(plan: &NodePlan, block: Block) -> String {
    let name = &plan.machine.name;
    let mut text = format!(
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{} {name}\n{} apiserver.mesh\n{} boot.mesh\n",
        block.vip(),
        plan.site.plan.apiserver,
        plan.site.plan.boot,
    );
    if let RoleDetail::Node { boot: Some(link), .. } = &plan.detail {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{} neighbour.mesh", link.prefix.near());
    }
    text
}

/// CoreDNS and the kubelet want at least one name server. In a site that has none, the neighbour is named, whose
/// kernel refuses at once: a name that cannot be resolved costs no time.
fn resolv_conf(plan: &NodePlan) -> String {
    let site = &plan.site;
    if site.nameservers.is_empty() {
        format!(
            "# The site has no name server; this address refuses at once.\nnameserver {}\n",
            site.plan.boot
        )
    } else {
        site.nameservers.iter().map(|address| format!("nameserver {address}\n")).collect()
    }
}
