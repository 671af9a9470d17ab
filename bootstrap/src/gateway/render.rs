//! The configuration of the machine at the far end of a link.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use ignition::{BootLink, BootstrapToken, NodePlan, NodeSpec, RoleDetail, Secret};
use ipnet::Ipv6Net;
use mesh::block::BLOCK_PREFIX_LEN;
use mesh::{Block, LinkId, Mac, Machine};

use super::settings::GatewaySettings;

/// Where a node keeps its ledger between boots.
pub const LEDGER: &str = "/var/lib/meshboot/ledger.redb";
/// Where a node's initrd left the artefacts that it booted from.
pub const ARTEFACT_FOLDER: &str = "/run/meshboot/artefacts";
/// How many neighbours a node is told to ask for artefacts and images: its own, that one's, and so on towards the seed,
/// which is the last one however far away it is.
const MAX_SOURCES: usize = 5;

/// Renders the Ignition config of a machine that boots through one of our links.
///
/// # Errors
///
/// The plan is not one that can be rendered.
pub fn node_config(
    ours: &GatewaySettings,
    machine: &Machine,
    spec: NodeSpec,
    token: BootstrapToken,
    link: LinkId,
    boot_mac: Mac,
) -> Result<String> {
    let block = ours.block()?;
    let prefix = block.link(link.port);
    let mut sources = vec![prefix.near(), block.vip()];
    // Near ends are only good for the machine on that link; VIPs are for everybody.
    sources.extend(ours.sources.iter().copied().filter(|address| is_vip(ours, *address)));
    sources.dedup();
    if let Some(seed) = sources.pop() {
        sources.truncate(MAX_SOURCES - 1);
        sources.push(seed);
    }
    let theirs = GatewaySettings {
        machine: machine.clone(),
        artefact_folders: vec![PathBuf::from(ARTEFACT_FOLDER)],
        sources,
        ledger: PathBuf::from(LEDGER),
        seed: None,
        forced_links: BTreeSet::new(),
        ..ours.clone()
    };
    let plan = NodePlan {
        site: ours.site.clone(),
        machine: machine.clone(),
        spec,
        detail: RoleDetail::Node { token, boot: Some(BootLink { mac: boot_mac, prefix }) },
        gateway_settings: Secret::new(
            serde_json::to_value(&theirs).context("cannot write the gateway's settings")?,
        ),
    };
    let config = ignition::render(&plan)
        .with_context(|| format!("cannot render the configuration of {}", machine.name))?;
    Ok(config.to_json())
}

/// Whether an address is a node's own, that is the same on all its links.
pub(super) fn is_vip(settings: &GatewaySettings, address: Ipv6Addr) -> bool {
    let block = Ipv6Net::new(address, BLOCK_PREFIX_LEN).ok().and_then(Block::new);
    settings.site.plan.machines.contains(&address) && block.is_some()
}
