//! The product: the release binary as the service of a node, with settings as Ignition writes them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use bootstrap::gateway::settings::{
    Artefact, Ask, BootArtefacts, GatewaySettings, MirrorSettings, NetbootSettings, SeedSettings,
};
use bootstrap::pki::boot;
use bootstrap::store::redb::RedbStore;
use ignition::{Cni, ControlPlaneSpec, KubernetesSource, SitePlan};
use mesh::{AddressPlan, Far, Ledger, Link, LinkId, Machine, MachineId, Port, PortIndex, Revision, Role};

use crate::cable::{Cable, FAR_MAC, FAR_PORT, NEAR_MAC, NEAR_PORT, prefix};
use crate::content::Content;
use crate::report::OURS;
use crate::server::Server;

/// Starts the product at the near end of a new cable.
///
/// It is a relay whose copy of the ledger knows the link: the allocation was made in an earlier boot, and its far end
/// boots again. It tries to reach an API server that is not there; a seed would run a registry beside.
pub(crate) fn start(binary: &Path, content: &Content, folder: &Path) -> Result<Server> {
    let folder = folder.join(OURS);
    fs::create_dir_all(&folder)?;
    let settings = settings(content, &folder)?;
    write_ledger(&settings)?;
    let line = line(binary, &settings, &folder)?;
    let mut server = Server::start(OURS, Cable::plug(OURS)?, &folder, &line)?;
    server.wait_for("a router advertisement", |cable| {
        let routes = cable.far.run("ip", &["-6", "route", "show", "default", "dev", FAR_PORT])?;
        Ok(routes.contains("fe80::"))
    })?;
    for port in [547, 69, 80] {
        server.wait_for_port(port)?;
    }
    Ok(server)
}

/// Starts the product's mirrors at the near end of a cable: a seed that asks for docker.io's images somewhere else.
pub(crate) fn start_mirrors(
    binary: &Path,
    content: &Content,
    cable: Cable,
    folder: &Path,
    upstream: &str,
) -> Result<Server> {
    let mut settings = settings(content, folder)?;
    settings.machine.role = Role::Seed;
    // The API server's; there is none.
    settings.site.ca_cert_pem = boot::authority(SystemTime::now())?.certificate_pem;
    settings.seed = Some(SeedSettings {
        image_stores: vec![folder.join("images")],
        excluded: Vec::new(),
        boot_authority_key: None,
        mirrors: MirrorSettings {
            ask: Ask::Mirrored,
            room: 8 << 30,
            endpoints: [("docker.io".to_owned(), upstream.to_owned())].into(),
            ..MirrorSettings::default()
        },
        registry: None,
    });
    let line = line(binary, &settings, folder)?;
    Server::start(OURS, cable, folder, &line)
}

/// Writes the settings, and gives the line that starts the service with them.
fn line(binary: &Path, settings: &GatewaySettings, folder: &Path) -> Result<[String; 4]> {
    ensure!(binary.exists(), "{} is not there: cargo build --release --bin meshboot", binary.display());
    let path = folder.join("gateway.json");
    fs::write(&path, serde_json::to_vec_pretty(settings)?)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    Ok([text(binary), "--settings".to_owned(), text(&path), "gateway".to_owned()])
}

fn settings(content: &Content, folder: &Path) -> Result<GatewaySettings> {
    let artefact = |file: &crate::content::File| Artefact { sha256: file.sha256.clone(), size: file.size };
    Ok(GatewaySettings {
        site: SitePlan {
            id: "00000000-0000-4000-8000-000000000000".to_owned().try_into()?,
            plan: AddressPlan::default(),
            kubernetes: "v1.33.1".parse()?,
            kubernetes_source: KubernetesSource::Upstream,
            cni: Cni::default(),
            ssh_keys: Vec::new(),
            ca_cert_pem: String::new(),
            ca_spki_sha256: String::new(),
            nameservers: Vec::new(),
        },
        machine: machine()?,
        boot: BootArtefacts {
            uki: [("x64".to_owned(), artefact(&content.boot))].into(),
            root: artefact(&content.root),
            layer: artefact(&content.small),
        },
        reservations: [].into(),
        artefact_folders: vec![content.artefacts.clone()],
        sources: Vec::new(),
        ledger: folder.join("ledger.redb"),
        netboot: NetbootSettings::default(),
        control_plane: ControlPlaneSpec::default(),
        boot_authority: None,
        seed: None,
        relay: None,
        forced_links: [].into(),
    })
}

fn machine() -> Result<Machine> {
    Ok(Machine {
        id: MachineId::from_mac(NEAR_MAC),
        name: "node1".parse()?,
        role: Role::Node,
        block: mesh::BlockNumber(0),
        router_id: 1.try_into()?,
        ports: vec![Port { index: PortIndex::try_from(0)?, mac: NEAR_MAC, name: NEAR_PORT.to_owned() }],
    })
}

fn write_ledger(settings: &GatewaySettings) -> Result<()> {
    let id = LinkId { near: settings.machine.id, port: PortIndex::try_from(0)? };
    let link = Link { id, prefix: prefix()?, far: Far { mac: FAR_MAC, machine: None } };
    let ledger = Ledger::restore([settings.machine.clone()], [link])?;
    let store = RedbStore::open(&settings.ledger)?;
    store.copy(&ledger, Revision(1)).context("cannot write the copy of the ledger")
}
