//! containerd and the mirrors that it pulls from.
//!
//! For containerd 1.7 (Debian 13): a file of version 2, which containerd 2 reads as well.

use mesh::Mirror;

use crate::SitePlan;
use crate::template::fill;
use crate::tree::{PUBLIC, Tree};

const CONFIG: &str = include_str!("templates/containerd/config.toml");
const UNIT: &str = include_str!("templates/units/containerd.service");
const HOSTS: &str = include_str!("templates/containerd/hosts.toml");
const CERTS: &str = "/etc/containerd/certs.d";

/// Where control-plane and pause images are named to be, whatever Kubernetes' version.
pub const IMAGE_REPOSITORY: &str = "registry.k8s.io";

/// Writes containerd's config and one file for each mirror.
pub fn write(tree: &mut Tree, site: &SitePlan) {
    let sandbox_image = format!("{IMAGE_REPOSITORY}/pause:{}", site.kubernetes.pause_tag());
    tree.file("/etc/containerd/config.toml", PUBLIC, fill(CONFIG, &[("sandbox_image", &sandbox_image)]));
    tree.unit("containerd.service", UNIT);
    for mirror in &site.plan.mirrors {
        let folder = registry_folder(&mirror.registry);
        tree.file(format!("{CERTS}/{folder}/hosts.toml"), PUBLIC, hosts_toml(mirror));
    }
    // A registry without a mirror of its own is asked for by `?ns=` at the first one: it may know it, and if not, it
    // says so at once, where the registry itself would be waited for in a mesh without a way out.
    if let Some(first) = site.plan.mirrors.first() {
        tree.file(format!("{CERTS}/_default/hosts.toml"), PUBLIC, hosts_toml(first));
    }
}

/// The mirror as `server`, and no `[host]`: what it cannot give is an error at once, not a wait for an upstream that
/// cannot be reached.
fn hosts_toml(mirror: &Mirror) -> String {
    let url = format!("http://[{}]:{}", mirror.address, mirror.port);
    fill(HOSTS, &[("url", &url)])
}

/// containerd looks for `localhost:5000` under `localhost_5000_`: a colon is no good in every folder's name.
fn registry_folder(registry: &str) -> String {
    match registry.split_once(':') {
        Some((host, port)) => format!("{host}_{port}_"),
        None => registry.to_owned(),
    }
}
