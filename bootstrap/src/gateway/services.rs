//! The anycast addresses of a node's services and how those are asked. The boot address is not among them: the
//! netboot servers hold it as long as they run.

use std::path::Path;

use anyhow::Result;
use mesh::plan::APISERVER_PORT;
use mesh::{AddressPlan, Block};

use crate::anycast::{Anycast, Probe};

/// Where kubeadm has etcd tell how it is, on an IPv6 node.
const ETCD_HEALTH: &str = "http://[::1]:2381/health";

/// A control plane, or a node that is one while it has the mark of one (`only_with`). `authority` is the certificate of
/// the cluster's CA.
///
/// # Errors
///
/// The certificate is none.
pub fn of_control_plane(
    plan: &AddressPlan,
    block: Block,
    authority: &str,
    only_with: Option<&Path>,
) -> Result<Vec<Anycast>> {
    let apiserver = Probe::https(format!("https://[{}]:{APISERVER_PORT}/readyz", block.vip()), authority)?;
    let etcd = Probe::http(ETCD_HEALTH.to_owned())?;
    let all = [("apiserver", plan.apiserver, apiserver), ("etcd", plan.etcd, etcd)];
    let anycasts = all.map(|(name, address, probe)| Anycast {
        name: name.to_owned(),
        address,
        probe,
        only_with: only_with.map(Path::to_owned),
    });
    Ok(anycasts.into())
}

/// The mirrors.
///
/// # Errors
///
/// There can be no HTTP client.
pub fn of_mirrors(plan: &AddressPlan) -> Result<Vec<Anycast>> {
    let anycasts = plan.mirrors.iter().map(|mirror| {
        let probe = Probe::http(format!("http://[::1]:{}/v2/", mirror.port))?;
        let name = format!("mirror {}", mirror.registry);
        Ok(Anycast { name, address: mirror.address, probe, only_with: None })
    });
    anycasts.collect()
}
