//! The registry mirrors of this node: the seed's, that ask registries, and those of all others, that ask towards the seed.
//!
//! Every node holds the mirrors' anycast addresses as long as its own answer, so that each is asked by its own containerd
//! first. What it has not got it asks for at the next node on the way to the seed, and keeps. So an image comes over each
//! cable once, and is there for who boots next even if the way to the seed, or the seed, is gone.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use images::client::{Route, client_by, client_to_neighbours};
use images::pull::{Limit, Puller, Revalidate, Upstreams};
use images::registry::{Bound, Guard, Listener};
use images::store::{Digest, Store as ImageStore};
use images::upstream::{Neighbours, UpstreamConfig};
use mesh::plan::{MESH_REGISTRY, REGISTRY_PORT};
use mesh::{AddressPlan, Mirror};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::render::is_vip;
use super::settings::{Ask, GatewaySettings, MirrorSettings, RegistrySettings, RelaySettings, SeedSettings};
use crate::pki::server::ServerIdentity;

/// Mirrors whose ports are open.
#[derive(Debug)]
pub struct Mirrors {
    /// What they have, and how they get the rest.
    pub puller: Puller,
    /// Their ports. The checker puts their addresses on `lo` once they answer.
    pub bound: Bound,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    source: String,
}

// === impl Mirrors ===

impl Mirrors {
    /// Opens this node's mirrors, if it has any. A relay goes without rather than not to serve machines: its neighbours'
    /// are as good.
    ///
    /// # Errors
    ///
    /// What a seed cannot open, or a setting that cannot be used.
    pub fn open(settings: &GatewaySettings) -> Result<Option<Self>> {
        let plan = &settings.site.plan;
        if let Some(seed) = &settings.seed {
            let store = image_store(&seed.image_stores)?;
            let puller = of_seed(&seed.mirrors, plan, store, artefacts(settings))?;
            return Ok(Some(Self { puller, bound: open(plan, guard_of(settings, seed)?)? }));
        }
        let Some(puller) = of_relay(settings).transpose() else { return Ok(None) };
        let mirrors = puller.and_then(|puller| Ok(Self { puller, bound: open(plan, None)? }));
        Ok(mirrors.inspect_err(|error| tracing::warn!("going on without mirrors: {error:#}")).ok())
    }
}

/// Who asks the nodes on the way to the seed; none if it has no neighbour, or no room.
fn of_relay(settings: &GatewaySettings) -> Result<Option<Puller>> {
    let plan = &settings.site.plan;
    let Some(RelaySettings { images, room }) = &settings.relay else { return Ok(None) };
    let vips = settings.sources.iter().filter(|address| is_vip(settings, **address));
    let Some(port) = plan.mirrors.first().map(|mirror| mirror.port) else { return Ok(None) };
    let places = vips.map(|vip| format!("http://[{vip}]:{port}").parse().context("a neighbour's address"));
    let places: Vec<_> = places.collect::<Result<_>>()?;
    if places.is_empty() || *room == 0 {
        return Ok(None);
    }
    let store = image_store(std::slice::from_ref(images))?;
    // Pods' own data are on the same disk; or in memory, where there is none.
    let most = store.capacity().context("cannot tell how large the disk is")? / 4;
    let neighbours = Neighbours { name: settings.machine.name.to_string(), places };
    let client = client_to_neighbours().context("cannot ask neighbours")?;
    let upstreams = Upstreams::neighbours(neighbours, &client);
    // The seed knows how old a tag may be; to ask there costs little.
    let limit = Limit { bytes: (*room).min(most), beside: artefacts(settings) };
    let puller = Puller::new(store, limit, upstreams, Revalidate::Always);
    puller.context("cannot tell what the image store holds").map(Some)
}

/// Who asks this node's own mirrors, and where they do not answer, those that they would ask: for another program of the
/// node, with a store of its own.
///
/// # Errors
///
/// The settings name no mirror.
pub fn of_this_node(settings: &GatewaySettings, store: ImageStore) -> Result<Puller> {
    let port = settings.site.plan.mirrors.first().map(|mirror| mirror.port);
    let port = port.context("the settings name no mirrors")?;
    let vips = settings.sources.iter().filter(|address| is_vip(settings, **address));
    let places = std::iter::once(&Ipv6Addr::LOCALHOST).chain(vips);
    let places = places.map(|place| format!("http://[{place}]:{port}").parse().context("a mirror's address"));
    // Not the mirror's own name: it would take the request for one that it passed on itself.
    let name = format!("{}.node", settings.machine.name);
    let neighbours = Neighbours { name, places: places.collect::<Result<_>>()? };
    let client = client_to_neighbours().context("cannot ask this node's mirrors")?;
    Ok(Puller::unlimited(store, Upstreams::neighbours(neighbours, &client), Revalidate::Always))
}

/// What machines boot lies in the same store.
fn artefacts(settings: &GatewaySettings) -> BTreeSet<Digest> {
    settings.boot.all().filter_map(|(_, artefact)| Digest::from_hex(&artefact.sha256).ok()).collect()
}

/// Writes where blobs came from, in the text format of OpenMetrics.
///
/// # Errors
///
/// None that a string has.
pub fn write_counters(puller: &Puller, out: &mut String) -> fmt::Result {
    let (blobs, bytes): (Family<Source, Counter>, Family<Source, Counter>) = Default::default();
    for count in puller.counts() {
        let source = Source { source: count.source };
        blobs.get_or_create(&source).inc_by(count.blobs);
        bytes.get_or_create(&source).inc_by(count.bytes);
    }
    let mut registry = Registry::with_prefix("meshboot_mirror");
    registry.register("blobs", "Blobs of images that were wanted, by where they were or came from", blobs);
    registry.register("bytes", "Octets of blobs that were wanted, by where they were or came from", bytes);
    text::encode_registry(out, &registry)
}

/// The images that the seed has: what its stick carries, under what it was given since.
///
/// # Errors
///
/// No store can be opened.
fn image_store(folders: &[PathBuf]) -> Result<ImageStore> {
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
fn of_seed(
    settings: &MirrorSettings,
    plan: &AddressPlan,
    store: ImageStore,
    beside: BTreeSet<Digest>,
) -> Result<Puller> {
    let Some(upstreams) = upstreams(settings, plan)? else { return Ok(Puller::offline(store)) };
    let revalidate = match settings.revalidate {
        None => Revalidate::Never,
        Some(0) => Revalidate::Always,
        Some(seconds) => Revalidate::After(Duration::from_secs(seconds)),
    };
    // The cluster's own data are on the same disk.
    let most = store.capacity().context("cannot tell how large the image store's disk is")? / 2;
    let limit = Limit { bytes: settings.room.min(most), beside };
    Puller::new(store, limit, upstreams, revalidate).context("cannot tell what the image store holds")
}

/// Who is asked for images with these settings; none if nobody is.
///
/// # Errors
///
/// A registry's name or place is none, or the way out cannot be used.
pub fn upstreams(settings: &MirrorSettings, plan: &AddressPlan) -> Result<Option<Upstreams>> {
    let MirrorSettings { ask, endpoints, credentials, proxy, no_proxy, authorities, .. } = settings;
    if *ask == Ask::Nobody {
        return Ok(None);
    }
    let route = Route { proxy: proxy.clone(), no_proxy: no_proxy.clone(), authorities: authorities.clone() };
    let client = client_by(&route).context("cannot reach registries")?;
    // What is the mesh's own is nowhere else.
    let mirrored = plan.mirrors.iter().map(|mirror| &mirror.registry).filter(|name| *name != MESH_REGISTRY);
    let named: BTreeSet<&String> = mirrored.chain(endpoints.keys()).chain(credentials.keys()).collect();
    let configs = named.into_iter().map(|name| {
        let registry = name.parse().with_context(|| format!("`{name}` is no registry"))?;
        let endpoint = endpoints.get(name).map(|place| place.parse());
        let endpoint = endpoint.transpose().with_context(|| format!("the place of {name} is no URL"))?;
        Ok(UpstreamConfig { registry, endpoint, credentials: credentials.get(name).cloned() })
    });
    let configs = configs.collect::<Result<_>>()?;
    let upstreams = Upstreams::new(configs, *ask == Ask::Everybody, &client);
    upstreams.context("cannot ask registries").map(Some)
}

/// Who may push to this seed.
///
/// # Errors
///
/// The authority's key cannot be read.
fn guard_of(settings: &GatewaySettings, seed: &SeedSettings) -> Result<Option<Guard>> {
    let Some(RegistrySettings { password, authority_key }) = &seed.registry else { return Ok(None) };
    let names = vec![MESH_REGISTRY.to_owned(), settings.machine.name.to_string()];
    let identity = ServerIdentity::open(&settings.site.ca_cert_pem, authority_key, names);
    let identity = Arc::new(identity.context("nobody can push images: there is no proof of who this is")?);
    Ok(Some(Guard { password: *password, identity }))
}

/// Opens the mirrors' ports, and with a guard that of the registry. The checker puts the mirrors' addresses on `lo` once
/// they answer.
///
/// # Errors
///
/// A port is taken, or a mirror's name is no registry's.
fn open(plan: &AddressPlan, guard: Option<Guard>) -> Result<Bound> {
    let listener = |name: &str, port, guard| -> Result<Listener> {
        let registry = name.parse().with_context(|| format!("`{name}` is no registry"))?;
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        Ok(Listener { address, registry: Some(registry), guard })
    };
    let mut listeners = Vec::new();
    for Mirror { registry, port, .. } in &plan.mirrors {
        listeners.push(listener(registry, *port, None)?);
    }
    if guard.is_some() {
        listeners.push(listener(MESH_REGISTRY, REGISTRY_PORT, guard)?);
    }
    images::registry::bind(listeners).context("cannot open the mirrors")
}
