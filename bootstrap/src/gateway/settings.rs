//! The settings of the service: one JSON file, written by Ignition, mode 0600.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use ignition::{ControlPlaneSpec, NodeSpec, SitePlan};
use images::store::Digest;
use images::upstream::Credentials;
use mesh::{Block, Machine, NodeName};
use netboot_server::Services;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// TCP port of the status page, on the node's VIP only.
pub const STATUS_PORT: u16 = 8047;

/// All that `meshboot gateway` has to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewaySettings {
    /// The site, as it is passed from neighbour to neighbour.
    pub site: SitePlan,
    /// The machine that this service runs on.
    pub machine: Machine,
    /// The files that machines boot from.
    pub boot: BootArtefacts,
    /// What the operator wants of machines that may come, by SMBIOS UUID. Those that were reserved later are in
    /// Kubernetes.
    #[serde(default)]
    pub reservations: BTreeMap<Uuid, Reservation>,
    /// Folders that hold artefacts by sha256, most wanted first. New ones are stored beside the images.
    pub artefact_folders: Vec<PathBuf>,
    /// Who has the artefacts that are missing here, nearest first.
    #[serde(default)]
    pub sources: Vec<Ipv6Addr>,
    /// Where the ledger is kept between boots.
    pub ledger: PathBuf,
    /// What machines are told besides their addresses.
    #[serde(default)]
    pub netboot: NetbootSettings,
    /// What is wanted of control planes: all of them have one configuration.
    #[serde(default)]
    pub control_plane: ControlPlaneSpec,
    /// The certificate, in PEM, of the authority that firmware trusts; none if firmware boots by HTTP.
    #[serde(default)]
    pub boot_authority: Option<String>,
    /// What a seed does besides.
    #[serde(default)]
    pub seed: Option<SeedSettings>,
    /// What nodes that are no seed do besides; handed on from neighbour to neighbour.
    #[serde(default)]
    pub relay: Option<RelaySettings>,
    /// This machine's ports, by name or Ethernet address, that are served whatever is wrong with their links.
    #[serde(default)]
    pub forced_links: BTreeSet<String>,
}

/// What the operator wants of a machine that may come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    /// The name of its node.
    pub name: NodeName,
    /// What is wanted of its node.
    #[serde(default)]
    pub spec: NodeSpec,
    /// The files of the images that [`NodeSpec::image`] names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootArtefacts>,
}

/// What machines are told besides their addresses and the site's name servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetbootSettings {
    /// Domains to look for short names in.
    pub search: Vec<String>,
    /// NTP servers.
    pub ntp: Vec<Ipv6Addr>,
}

/// What a seed does besides.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedSettings {
    /// Stores of container images: the first is written to, the others are only read.
    pub image_stores: Vec<PathBuf>,
    /// Ethernet devices that are no mesh ports: the way out.
    pub excluded: Vec<mesh::Mac>,
    /// The file of the key of [`GatewaySettings::boot_authority`], if there is one.
    #[serde(default)]
    pub boot_authority_key: Option<PathBuf>,
    /// How its mirrors get what they have not got.
    #[serde(default)]
    pub mirrors: MirrorSettings,
    /// Who may push images to it; none if nobody may.
    #[serde(default)]
    pub registry: Option<RegistrySettings>,
}

/// Who may push images to a seed, and how it proves itself to him.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrySettings {
    /// The SHA-256 of the password, as `sha256:<hex>`.
    pub password: Digest,
    /// The file of the key of the cluster's authority.
    pub authority_key: PathBuf,
}

/// What a node that is no seed does besides: it hands on images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelaySettings {
    /// The folder that it keeps them in.
    pub images: PathBuf,
    /// How many octets of them there may be; 0 for no mirrors.
    pub room: u64,
}

/// How a seed's mirrors get what they have not got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorSettings {
    /// Whom they ask.
    pub ask: Ask,
    /// How many octets of images there may be, what the seed was given included.
    pub room: u64,
    /// After how many seconds a tag is looked up again; 0 for each time, none for never.
    pub revalidate: Option<u64>,
    /// Where registries are that are not at their names by HTTPS.
    pub endpoints: BTreeMap<String, String>,
    /// Who asks.
    pub credentials: BTreeMap<String, Credentials>,
    /// By way of whom.
    pub proxy: Option<String>,
    /// Who is asked without the proxy.
    pub no_proxy: Vec<String>,
    /// Certificate authorities besides the usual ones, in PEM.
    pub authorities: Option<String>,
}

/// Which registries are asked for what is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ask {
    /// None: what the seed was given is all there is.
    #[default]
    Nobody,
    /// Those that have a mirror.
    Mirrored,
    /// Those, and whichever else a node names that has a public name.
    Everybody,
}

/// The files that machines boot from, by sha256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootArtefacts {
    /// The UKI that firmware loads, by processor architecture (`x64`, `arm64`).
    pub uki: BTreeMap<String, Artefact>,
    /// The root image.
    pub root: Artefact,
    /// The layer over it that holds `meshboot` itself.
    pub layer: Artefact,
}

/// A file known by its sha256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artefact {
    /// The digest, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// The size in octets.
    pub size: u64,
}

// === impl GatewaySettings ===

impl GatewaySettings {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// It is absent, unknown fields or wrong values stand in it, or the address plan has mistakes.
    pub fn read(path: &Path) -> Result<Self> {
        let what = || format!("cannot use the settings in {}", path.display());
        let text = std::fs::read(path).with_context(what)?;
        let settings: Self = serde_json::from_slice(&text).with_context(what)?;
        let mistakes: Vec<_> = settings.site.plan.check().iter().map(ToString::to_string).collect();
        ensure!(mistakes.is_empty(), "{}: {}", what(), mistakes.join("; "));
        ensure!(!settings.artefact_folders.is_empty(), "{}: artefact_folders is empty", what());
        settings.block().with_context(what)?;
        settings.services().with_context(what)?;
        Ok(settings)
    }

    /// What machines are told by DHCPv6 and router advertisements.
    ///
    /// # Errors
    ///
    /// As [`NetbootSettings::services`].
    pub fn services(&self) -> Result<Services> {
        self.netboot.services(&self.site.nameservers)
    }

    /// The block of the machine that the service runs on.
    ///
    /// # Errors
    ///
    /// The plan has no block of that number.
    pub fn block(&self) -> Result<Block> {
        let number = self.machine.block;
        self.site.plan.block(number).with_context(|| format!("the address plan has no block {}", number.0))
    }
}

// === impl Ask ===

impl FromStr for Ask {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "nobody" => Ok(Self::Nobody),
            "mirrored" => Ok(Self::Mirrored),
            "everybody" => Ok(Self::Everybody),
            _ => Err(format!("`{text}` is none of nobody, mirrored and everybody")),
        }
    }
}

// === impl NetbootSettings ===

impl NetbootSettings {
    /// These, and those of the site's name servers that IPv6 reaches, the first ones.
    ///
    /// # Errors
    ///
    /// A name is none, or there is more than an answer has room for.
    pub fn services(&self, nameservers: &[IpAddr]) -> Result<Services> {
        let dns = nameservers.iter().filter_map(|address| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        });
        let search = self.search.iter().map(|name| name.parse()).collect::<Result<_, _>>();
        let search = search.context("cannot use netboot.search")?;
        Services::new(dns.take(Services::MAX_SERVERS).collect(), search, self.ntp.clone())
            .context("machines cannot be told of all of it")
    }
}

// === impl BootArtefacts ===

impl BootArtefacts {
    /// Every file, with what it is.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Artefact)> {
        let ukis = self.uki.iter().map(|(arch, uki)| (arch.as_str(), uki));
        ukis.chain([("root", &self.root), ("layer", &self.layer)])
    }
}
