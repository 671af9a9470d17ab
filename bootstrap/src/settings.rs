//! What a site is to be: one TOML file, `MESHBOOT_*` variables over it, the command line over both.
//!
//! [`Raw`] is what was given, key by key, with where each value came from. [`Settings::from_raw`] is pure and
//! finds every mistake at once.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use hardware::Shape;
use ignition::{Cni, KubernetesVersion, SiteId};
use images::kubernetes::Source;
use ipnet::{Ipv4Net, Ipv6Net};
use mesh::AddressPlan;

use crate::gateway::settings::{MirrorSettings, NetbootSettings};

mod credentials;
mod keys;
mod parse;
mod raw;

pub use keys::{KEYS, Key, example};
pub(crate) use parse::{cpus, duration, memory_mib, octets, port, size};
pub(crate) use raw::nearest;
pub use raw::{Origin, Raw};

/// All settings, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The site's name; none to have one made.
    pub site_id: Option<SiteId>,
    /// Name servers for machines and pods.
    pub nameservers: Vec<IpAddr>,
    /// Who may log in as root, besides the key that `deploy` makes: lines of `authorized_keys`.
    pub ssh_keys: Vec<String>,
    /// The address plan.
    pub addresses: AddressPlan,
    /// What machines are told when they boot.
    pub netboot: NetbootSettings,
    /// Whether firmware that boots by HTTP is to do it by HTTPS.
    pub https: bool,
    /// How a seed's mirrors get what they have not got.
    pub mirrors: MirrorSettings,
    /// How many octets of images each other node keeps of those that pass through it.
    pub relay_room: u64,
    /// What images are made of.
    pub image: ImageSettings,
    /// How pods get their addresses.
    pub cni: Cni,
    /// Virtual machines.
    pub libvirt: LibvirtSettings,
    /// A real seed.
    pub usb: UsbSettings,
}

/// What images are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSettings {
    /// Debian's suite.
    pub suite: String,
    /// The mirror that its packages come from; none for the one that this computer's apt uses.
    pub mirror: Option<String>,
    /// Debian's packages that machines have besides those that they need.
    pub packages: Vec<String>,
    /// Further words of the kernel's command line.
    pub kernel_arguments: Vec<String>,
    /// Where Kubernetes comes from.
    pub kubernetes: Source,
    /// The root of the server that its releases come from.
    pub kubernetes_server: String,
}

/// Virtual machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibvirtSettings {
    /// The seed's memory in MiB.
    pub seed_memory_mib: u32,
    /// Each other machine's memory in MiB.
    pub memory_mib: u32,
    /// Processors of each machine; none to go by how they are made.
    pub cpus: Option<u16>,
    /// Size of each other machine's disk in octets.
    pub disk: u64,
    /// How machines are cabled.
    pub topology: Shape,
    /// This computer's IPv4 address towards the seed.
    pub host_v4: Ipv4Net,
    /// This computer's IPv6 address towards the seed.
    pub host_v6: Ipv6Net,
    /// How long `deploy` waits for all machines to be Ready.
    pub timeout: Duration,
}

/// A real seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsbSettings {
    /// The Ethernet address of its port to the world outside; none if it has no such port.
    pub uplink: Option<mesh::Mac>,
    /// Its ports that are served whatever is wrong with their links, by name or Ethernet address.
    pub forced_links: Vec<String>,
    /// Size of the disk's image in octets where it is written to a file; none for what it carries and 12 GiB.
    pub size: Option<u64>,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The setting, as `libvirt.memory`; empty if the mistake is not one setting's.
    pub key: String,
    /// Where its value came from.
    pub origin: Option<Origin>,
    /// What is wrong with it.
    pub problem: String,
}

/// Every mistake in the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

// === impl Settings ===

impl Settings {
    /// Checks everything that was given.
    ///
    /// # Errors
    ///
    /// All mistakes.
    pub fn from_raw(raw: Raw) -> Result<Self, ConfigErrors> {
        let mut reader = parse::Reader::new(raw);
        let settings = Self {
            site_id: reader.optional("site.id", parse::display_error::<SiteId>),
            nameservers: reader.list("site.nameservers", parse::display_error::<IpAddr>),
            ssh_keys: reader.list("site.ssh-keys", parse::ssh_key),
            addresses: reader.addresses(),
            netboot: NetbootSettings {
                search: reader.list("netboot.search", parse::domain_name),
                ntp: reader.list("netboot.ntp", parse::display_error::<Ipv6Addr>),
            },
            https: reader.required("netboot.https", parse::display_error::<bool>),
            mirrors: reader.mirrors(),
            relay_room: reader.required("mirrors.relay-room", octets),
            image: ImageSettings {
                suite: reader.required("image.suite", parse::suite),
                mirror: reader.optional("image.mirror", parse::url),
                packages: reader.list("image.packages", parse::package),
                kernel_arguments: reader.list("image.kernel-arguments", parse::kernel_argument),
                kubernetes: reader.required("kubernetes.source", parse::display_error::<Source>),
                kubernetes_server: reader.required("kubernetes.server", parse::url),
            },
            cni: reader.required("kubernetes.cni", parse::cni),
            libvirt: LibvirtSettings {
                seed_memory_mib: reader.required("libvirt.seed-memory", memory_mib),
                memory_mib: reader.required("libvirt.memory", memory_mib),
                cpus: reader.required("libvirt.cpus", cpus),
                disk: reader.required("libvirt.disk", size),
                topology: reader.required("libvirt.topology", parse::display_error::<Shape>),
                host_v4: reader.required("libvirt.host-v4", parse::host_v4),
                host_v6: reader.required("libvirt.host-v6", parse::host_v6),
                timeout: reader.required("libvirt.timeout", duration),
            },
            usb: UsbSettings {
                uplink: reader.optional("usb.uplink", parse::display_error::<mesh::Mac>),
                forced_links: reader.list("usb.forced-links", port),
                size: reader.optional("usb.size", size),
            },
        };
        let mut errors = reader.finish();
        if errors.is_empty() {
            errors = settings.check();
        }
        if errors.is_empty() { Ok(settings) } else { Err(ConfigErrors(errors)) }
    }

    /// What is wrong between one setting and another.
    fn check(&self) -> Vec<ConfigError> {
        let mistake = |key: &str, problem: String| ConfigError { key: key.to_owned(), origin: None, problem };
        let plan = self.addresses.check();
        let mut errors: Vec<ConfigError> =
            plan.iter().map(|error| mistake("addresses", error.to_string())).collect();
        if let Err(error) = self.netboot.services(&self.nameservers) {
            errors.push(mistake("netboot", format!("{error:#}")));
        }
        let host = self.libvirt.host_v6;
        for (name, net) in
            [("addresses.anycast", self.addresses.anycast), ("addresses.machines", self.addresses.machines)]
        {
            if host.contains(&net) || net.contains(&host) {
                errors.push(mistake("libvirt.host-v6", format!("{host} overlaps {name} {net}")));
            }
        }
        errors
    }
}

// === impl ImageSettings ===

impl ImageSettings {
    /// The version of Kubernetes, where its source names it.
    #[must_use]
    pub fn kubernetes_version(&self) -> Option<KubernetesVersion> {
        match &self.kubernetes {
            // One that is no release yet is none of ignition's.
            Source::Upstream(version) => version.to_string().parse().ok(),
            Source::Auto | Source::Debian | Source::Dir(_) => None,
        }
    }
}

// === impl ConfigErrors ===

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => write!(f, "the settings are wrong: {only}"),
            many => {
                write!(f, "the settings have {} mistakes:", many.len())?;
                many.iter().try_for_each(|error| write!(f, "\n  {error}"))
            }
        }
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)?;
        self.origin.as_ref().map_or(Ok(()), |origin| write!(f, " (given by {origin})"))
    }
}

#[cfg(test)]
mod tests;
