//! How pods get their addresses.
//!
//! `ptp`, and not `bridge`: with a veth pair and a host route for each pod, every packet of a pod passes the node's
//! routing and its packet filter, also between two pods of one node. So service addresses work there without
//! br_netfilter, there is no broadcast domain to think of, and no bridge whose address waits for its first member.

use mesh::Block;

use crate::Cni;
use crate::template::fill;
use crate::tree::{PUBLIC, Tree};

const ROUTED: &str = include_str!("templates/cni/routed.json");
const FOLDER: &str = "/etc/cni/net.d";

/// Writes the CNI configuration of a node.
pub fn write(tree: &mut Tree, cni: &Cni, block: Block) {
    match cni {
        Cni::Routed => {
            let pods = block.pods().to_string();
            tree.file(format!("{FOLDER}/10-mesh.conflist"), PUBLIC, fill(ROUTED, &[("pods", &pods)]));
        }
        Cni::None => {}
        Cni::File(contents) => {
            tree.file(format!("{FOLDER}/10-mesh.{}", extension(contents)), PUBLIC, contents.as_str());
        }
    }
    // Where networks that are installed as pods put their plugins.
    tree.link("/opt/cni/bin", "/usr/lib/cni");
}

/// containerd tells a list of plugins from a single one by the file's name.
fn extension(contents: &str) -> &'static str {
    let parsed = serde_json::from_str::<serde_json::Value>(contents);
    if parsed.is_ok_and(|value| value.get("plugins").is_some()) { "conflist" } else { "conf" }
}
