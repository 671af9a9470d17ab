//! What a seed does besides: the first line of the ledger, the registry mirrors, and the certificates of boot servers.

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use images::client::{Route, client_by};
use images::pull::{Puller, Revalidate, Upstreams};
use images::registry::{Bound, Listener};
use images::store::Store as ImageStore;
use images::upstream::UpstreamConfig;
use mesh::store::transact;
use mesh::{AddressPlan, Change, Machine, Mirror, NodeName, Store, StoreError};

use super::settings::{Ask, GatewaySettings, MirrorSettings};
use crate::join::Certifier;
use crate::pki::boot::BootSigner;
use crate::store::journal::MeshStore;

/// Sees to it that the ledger begins with the seed itself.
///
/// # Errors
///
/// The ledger cannot be written, or is another site's.
pub fn enter_self(store: &dyn Store, machine: &Machine) -> Result<()> {
    let (ledger, _) = store.load().context("cannot read the ledger")?;
    if let Some(known) = ledger.machine(machine.id) {
        ensure!(
            (known.block, known.router_id, &known.name) == (machine.block, machine.router_id, &machine.name),
            "the ledger knows this seed as {} with block {}, and its settings say {} with block {}: the disk is another \
             deployment's",
            known.name,
            known.block.0,
            machine.name,
            machine.block.0
        );
    }
    transact(store, |ledger| {
        let change = ledger.machine(machine.id).is_none().then(|| Change::Admit(machine.clone()));
        Ok::<_, StoreError>(((), change))
    })
    .context("cannot enter the seed in the ledger")
}

/// The images that the seed has: what its stick carries, under what it was given since.
///
/// # Errors
///
/// No store can be opened.
pub fn image_store(folders: &[PathBuf]) -> Result<ImageStore> {
    let (first, lowers) = folders.split_first().context("the settings name no image store")?;
    let what = |folder: &PathBuf| format!("cannot open the image store {}", folder.display());
    let mut store = ImageStore::open(first).with_context(|| what(first))?;
    for lower in lowers {
        store = store.over(lower).with_context(|| what(lower))?;
    }
    Ok(store)
}

/// The seed's images, and who is asked for those that it has not got.
///
/// # Errors
///
/// A registry's name or place is none, or the way out cannot be used.
pub fn puller(settings: &MirrorSettings, plan: &AddressPlan, store: ImageStore) -> Result<Puller> {
    let MirrorSettings { ask, room, revalidate, endpoints, credentials, proxy, no_proxy, authorities } =
        settings;
    if *ask == Ask::Nobody {
        return Ok(Puller::offline(store));
    }
    let route = Route { proxy: proxy.clone(), no_proxy: no_proxy.clone(), authorities: authorities.clone() };
    let client = client_by(&route).context("cannot reach registries")?;
    let mirrored = plan.mirrors.iter().map(|mirror| &mirror.registry);
    let named: BTreeSet<&String> = mirrored.chain(endpoints.keys()).chain(credentials.keys()).collect();
    let configs = named.into_iter().map(|name| {
        let registry = name.parse().with_context(|| format!("`{name}` is no registry"))?;
        let endpoint = endpoints.get(name).map(|place| place.parse());
        let endpoint = endpoint.transpose().with_context(|| format!("the place of {name} is no URL"))?;
        Ok(UpstreamConfig { registry, endpoint, credentials: credentials.get(name).cloned() })
    });
    let configs = configs.collect::<Result<_>>()?;
    let upstreams =
        Upstreams::new(configs, *ask == Ask::Everybody, &client).context("cannot ask registries")?;
    let revalidate = match revalidate {
        None => Revalidate::Never,
        Some(0) => Revalidate::Always,
        Some(seconds) => Revalidate::After(Duration::from_secs(*seconds)),
    };
    // The cluster's own data are on the same disk.
    let most = store.capacity().context("cannot tell how large the image store's disk is")? / 2;
    Puller::new(store, (*room).min(most), upstreams, revalidate)
        .context("cannot tell what the image store holds")
}

/// Opens the mirrors' ports. The checker puts their addresses on `lo` once they answer.
///
/// # Errors
///
/// A port is taken, or a mirror's name is no registry's.
pub fn open_mirrors(plan: &AddressPlan) -> Result<Bound> {
    let listener = |mirror: &Mirror| -> Result<Listener> {
        let name =
            mirror.registry.parse().with_context(|| format!("`{}` is no registry", mirror.registry))?;
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, mirror.port));
        Ok(Listener { address, registry: Some(name) })
    };
    let listeners: Result<Vec<_>> = plan.mirrors.iter().map(listener).collect();
    images::registry::bind(listeners?).context("cannot open the mirrors")
}

/// What boot servers' certificates are signed with, if there are any: each for the block that the ledger gave its node.
///
/// # Errors
///
/// The authority cannot be read.
pub fn certifier(
    settings: &GatewaySettings,
    plan: &Arc<AddressPlan>,
    store: &Arc<MeshStore>,
) -> Result<Option<Certifier>> {
    let Some(signer) = boot_signer(settings)? else { return Ok(None) };
    let (plan, store) = (Arc::clone(plan), Arc::clone(store));
    let block_of = move |node: &NodeName| {
        let ledger = store.cached();
        ledger.machine_named(node.as_str()).and_then(|machine| plan.block(machine.block))
    };
    Ok(Some(Certifier::new(signer, block_of)))
}

/// The authority that firmware trusts, on a machine that has its key.
///
/// # Errors
///
/// The key cannot be read.
pub fn boot_signer(settings: &GatewaySettings) -> Result<Option<BootSigner>> {
    let key = settings.seed.as_ref().and_then(|seed| seed.boot_authority_key.as_ref());
    let pair = settings.boot_authority.as_ref().zip(key);
    pair.map(|(certificate_pem, key)| BootSigner::open(certificate_pem, key)).transpose()
}
