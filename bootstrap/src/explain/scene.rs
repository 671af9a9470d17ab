//! The link that is explained: its addresses, what is served on it, and who is known at its far end.
//!
//! It comes from the settings of a machine's gateway, or it is the example that [`Scene::example`] documents.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::path::Path;

use ipnet::Ipv6Net;
use mesh::{AddressPlan, Far, Link, LinkId, LinkPrefix, Mac, Machine, MachineId, Port};
use netboot_proto::dhcp6::{self, Client, DEFAULT_LIFETIMES, ServerId};
use netboot_proto::{Arch, Catalogue, FileName, HttpBoot, Services, judge, ra};
use netboot_server::{DEFAULT_HOLD_DOWN, GatewayConfig};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::exit::{Code, Failure};
use crate::gateway::certificate;
use crate::gateway::content::{boot_file_name, own_boot_file_name};
use crate::gateway::settings::{BootArtefacts, GatewaySettings};

/// What an Ethernet link has, unless its port says otherwise.
const MTU: u32 = 1500;
/// The near port of the example.
const EXAMPLE_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 1]);
/// The size of the example's boot files.
const EXAMPLE_SIZE: u64 = 64 << 20;

/// A link, with all that its servers have to know.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The machine at the near end.
    pub machine: String,
    /// The link.
    pub link: LinkId,
    /// Its addresses.
    pub prefix: LinkPrefix,
    /// The near port's name.
    pub port: String,
    /// The near port's Ethernet address.
    pub mac: Mac,
    /// The link's MTU.
    pub mtu: u32,
    /// Whether the operator wants it served whatever is wrong with it.
    pub forced: bool,
    /// Who is known at the far end.
    pub far: Option<Far>,
    /// The boot files that are here, with their sizes.
    pub files: BTreeMap<Arch, (FileName, u64)>,
    /// Those of machines that boot images of their own, by SMBIOS UUID, as far as the settings name them.
    pub others: BTreeMap<Uuid, BTreeMap<Arch, (FileName, u64)>>,
    /// This machine's ports.
    pub own: BTreeMap<Mac, String>,
    /// "My neighbour": every machine of the mesh holds it.
    pub boot: Ipv6Addr,
    /// How firmware that boots by HTTP is to do it.
    pub http_boot: HttpBoot,
    site: Ipv6Net,
    server_id: ServerId,
    services: Services,
}

/// A link, as it is shown.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct LinkView {
    /// The machine at the near end.
    pub machine: String,
    /// The near port's number.
    pub index: u8,
    /// Its name.
    pub port: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// The link's /126.
    pub prefix: LinkPrefix,
    /// The near end's address.
    pub near: Ipv6Addr,
    /// The address that the far end gets.
    pub far: Ipv6Addr,
    /// The Ethernet address at the far end, where it is known.
    pub far_mac: Option<Mac>,
    /// The boot files that are here.
    pub boot_files: Vec<String>,
    /// Whether it is served whatever is wrong with it.
    pub forced: bool,
}

// === impl Scene ===

impl Scene {
    /// A link of nobody's, for packets that were recorded anywhere: port 0 of a machine whose Ethernet address is
    /// 02:00:00:00:00:01 and that has the first block of the default plan, so 2001:db8::10/126, with a boot file for
    /// every architecture and nothing to tell besides.
    #[must_use]
    pub fn example() -> Self {
        let plan = AddressPlan::default();
        let machine = MachineId::from_mac(EXAMPLE_MAC);
        let block = plan.block(mesh::BlockNumber(0)).expect("the default plan has a first block");
        let port = mesh::PortIndex::all().next().expect("a machine has ports");
        let file = |arch| Some((arch, (boot_file_name(arch)?, EXAMPLE_SIZE)));
        Self {
            machine: "example".to_owned(),
            link: LinkId { near: machine, port },
            prefix: block.link(port),
            port: "example0".to_owned(),
            mac: EXAMPLE_MAC,
            mtu: MTU,
            forced: false,
            far: None,
            files: Arch::ALL.into_iter().filter_map(file).collect(),
            others: BTreeMap::new(),
            own: BTreeMap::from([(EXAMPLE_MAC, "example0".to_owned())]),
            boot: plan.boot,
            http_boot: HttpBoot::Plain,
            site: plan.machines,
            server_id: ServerId::of_machine(machine),
            services: Services::default(),
        }
    }

    /// The link at a port of the machine that these settings are of.
    #[must_use]
    pub fn of_port(
        settings: &GatewaySettings,
        config: &GatewayConfig,
        files: BTreeMap<Arch, (FileName, u64)>,
        port: &Port,
    ) -> Self {
        let link = LinkId { near: config.machine, port: port.index };
        let known = |known: &&Link| known.id == link;
        Self {
            machine: settings.machine.name.to_string(),
            link,
            prefix: config.block.link(port.index),
            port: port.name.clone(),
            mac: port.mac,
            mtu: MTU,
            forced: config.is_forced(&port.name, port.mac),
            far: config.links.iter().find(known).map(|link| link.far),
            files,
            others: others(settings),
            own: settings.machine.ports.iter().map(|port| (port.mac, port.name.clone())).collect(),
            boot: config.boot,
            http_boot: certificate::http_boot(settings),
            site: config.site,
            server_id: config.server_id.clone(),
            services: config.services.clone(),
        }
    }

    /// What the link's DHCPv6 server is told.
    #[must_use]
    pub fn server(&self) -> dhcp6::Config {
        dhcp6::Config {
            link: self.link,
            prefix: self.prefix,
            server_id: self.server_id.clone(),
            lifetimes: DEFAULT_LIFETIMES,
            services: self.services.clone(),
        }
    }

    /// What the link's router is told.
    #[must_use]
    pub fn router(&self) -> ra::Config {
        ra::Config {
            prefix: self.prefix,
            mac: self.mac,
            mtu: self.mtu,
            lifetimes: DEFAULT_LIFETIMES,
            services: self.services.clone(),
        }
    }

    /// What the link's judge is told.
    #[must_use]
    pub fn judge(&self) -> judge::Config {
        judge::Config {
            prefix: self.prefix,
            site: self.site,
            mac: self.mac,
            server_id: self.server_id.clone(),
            hold_down: DEFAULT_HOLD_DOWN,
            seed: 0,
        }
    }

    /// The boot files for a machine and how they are fetched, as the DHCPv6 server knows it.
    #[must_use]
    pub fn catalogue(&self, client: &Client) -> Catalogue {
        let uuids = client.uuids().into_iter().flatten().map(Uuid::from_bytes);
        let files = uuids.filter_map(|uuid| self.others.get(&uuid)).next().unwrap_or(&self.files);
        let name = |arch| files.get(&arch).map(|(name, _)| name.clone());
        Catalogue { x64: name(Arch::X64), arm64: name(Arch::Arm64), http_boot: self.http_boot }
    }

    /// The addresses at which this machine hears what was sent to it alone.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<Ipv6Addr> {
        [self.prefix.near(), self.mac.link_local(), self.boot].into()
    }

    /// The link, as it is shown.
    #[must_use]
    pub fn view(&self) -> LinkView {
        LinkView {
            machine: self.machine.clone(),
            index: self.link.port.get(),
            port: self.port.clone(),
            mac: self.mac,
            prefix: self.prefix,
            near: self.prefix.near(),
            far: self.prefix.far(),
            far_mac: self.far.map(|far| far.mac),
            boot_files: self.files.values().map(|(name, _)| name.to_string()).collect(),
            forced: self.forced,
        }
    }
}

/// The boot files that are not everybody's.
fn others(settings: &GatewaySettings) -> BTreeMap<Uuid, BTreeMap<Arch, (FileName, u64)>> {
    let files = |boot: &BootArtefacts| {
        let file = |arch: Arch| {
            let uki = boot.uki.get(&arch.to_string())?;
            Some((arch, (own_boot_file_name(arch, uki)?, uki.size)))
        };
        Arch::ALL.into_iter().filter_map(file).collect()
    };
    let reserved = settings.reservations.iter();
    reserved.filter_map(|(uuid, reserved)| Some((*uuid, files(reserved.boot.as_ref()?)))).collect()
}

// === impl LinkView ===

impl LinkView {
    /// The link for people.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { machine, index, port, mac, prefix, near, far, .. } = self;
        let who = self.far_mac.map_or_else(|| "nobody is known there".to_owned(), |mac| mac.to_string());
        let files = if self.boot_files.is_empty() { "none".to_owned() } else { self.boot_files.join(", ") };
        let forced = if self.forced { "\n  served whatever is wrong with it (force-link)" } else { "" };
        format!(
            "{machine} port {index} ({port}, {mac})\n  link {prefix}: near {near}, far {far} ({who})\n  \
             boot files here: {files}{forced}"
        )
    }
}

/// The port of a machine that a text names: by its name, its Ethernet address or its number.
///
/// # Errors
///
/// The machine has no such port.
pub fn port_named<'a>(machine: &'a Machine, text: &str, path: &Path) -> Result<&'a Port, Failure> {
    let is_it = |port: &&Port| {
        port.name == text || text.parse() == Ok(port.mac) || text.parse() == Ok(port.index.get())
    };
    machine.ports.iter().find(is_it).ok_or_else(|| {
        let known: Vec<String> = machine
            .ports
            .iter()
            .map(|port| format!("{} ({}, {})", port.name, port.index, port.mac))
            .collect();
        let message = format!("{} in {} has no port `{text}`", machine.name, path.display());
        Failure::new(Code::Data, message).next(format!("known: {}", known.join(", ")))
    })
}
