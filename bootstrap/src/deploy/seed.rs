//! What a seed is told before its first boot: who it is, its keys, its way out, and what it serves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use aws_lc_rs::rand;
use hardware::process::Invocation;
use hardware::{DeploymentId, End, MachineNumber};
use ignition::{
    ControlPlaneSpec, KubernetesSource, NodePlan, NodeSpec, RoleDetail, Secret, SiteId, SitePlan, Uplink,
};
use images::catalog::Catalog;
use images::store::Digest;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use mesh::plan::APISERVER_PORT;
use mesh::{BlockNumber, Mac, Machine, MachineId, NodeName, Port, PortIndex, Role, RouterId};
use uuid::Uuid;

use crate::deployment::{Directory, WantedMachine, seed_addresses};
use crate::exit::{Code, Failure, OrFail as _};
use crate::gateway::render::{ARTEFACT_FOLDER, LEDGER};
use crate::gateway::settings::{
    Artefact, BootArtefacts, GatewaySettings, RegistrySettings, RelaySettings, Reservation, SeedSettings,
};
use crate::pki::Pki;
use crate::settings::{LibvirtSettings, Settings};

const KEYGEN_LIMIT: Duration = Duration::from_secs(30);
/// Where a node keeps images that came to it after its first boot.
const IMAGES: &str = "/var/lib/meshboot/images";
/// The certificate of the authority that firmware is to trust, in the form that firmware's menus read.
pub(super) const BOOT_AUTHORITY: &str = "auth/boot-ca.der";
/// What whoever pushes images has to know.
pub(crate) const REGISTRY_PASSWORD: &str = "auth/registry-password";
/// The authority of the registry's certificate, in a folder of its own: podman takes a folder, and all that is in it.
pub(crate) const REGISTRY_AUTHORITY: &str = "auth/registry/ca.crt";
/// The password's length in octets, before they are written in hexadecimal.
const PASSWORD_LEN: usize = 32;
/// Slot of a virtual machine's first mesh port on its PCI bus: what its kernel names the port after.
const FIRST_PORT_SLOT: u8 = 16;

/// Who the seed is.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// Its site.
    pub(super) site: SiteId,
    /// It, as its ledger has it.
    pub(super) machine: Machine,
}

/// All that its configuration is made of, besides settings.
#[derive(Debug)]
pub(super) struct Seed<'a> {
    /// Who it is.
    pub(super) identity: &'a Identity,
    /// Its port to the world outside.
    pub(super) uplink: Option<Uplink>,
    /// What is wanted of machines that are known before they come.
    pub(super) reservations: BTreeMap<Uuid, Reservation>,
    /// What is wanted of the seed's own node.
    pub(super) spec: NodeSpec,
    /// What is wanted of the control plane.
    pub(super) control_plane: ControlPlaneSpec,
    /// What it serves.
    pub(super) catalog: &'a Catalog,
    /// Its ports that are served whatever is wrong with their links.
    pub(super) forced_links: BTreeSet<String>,
}

// === impl Identity ===

impl Identity {
    /// The seed of virtual machines: its ports are known before it is.
    pub(super) fn of_libvirt(id: DeploymentId, settings: &Settings, wanted: &WantedMachine) -> Self {
        let port = |index: u8| {
            let mac = id.mac(End { machine: MachineNumber::SEED, port: index });
            Port { index: port_index(index), mac, name: format!("enp0s{}", FIRST_PORT_SLOT + index) }
        };
        let first = id.mac(End { machine: MachineNumber::SEED, port: 0 });
        Self::new(
            settings,
            id.0,
            MachineId(id.machine_uuid(MachineNumber::SEED)),
            wanted.name.clone(),
            first,
            (0..wanted.ports).map(port).collect(),
        )
    }

    /// A seed on a stick: which machine it will be put into is not known, nor the machine's ports.
    pub(super) fn of_stick(settings: &Settings) -> Self {
        let id = DeploymentId::random();
        let first = id.mac(End { machine: MachineNumber::SEED, port: 0 });
        let name = MachineNumber::SEED.usual_name().parse().expect("it is made of letters");
        Self::new(settings, id.0, MachineId(id.0), name, first, Vec::new())
    }

    fn new(
        settings: &Settings,
        deployment: Uuid,
        id: MachineId,
        name: NodeName,
        first: Mac,
        ports: Vec<Port>,
    ) -> Self {
        let site = settings.site_id.clone();
        let made = || deployment.to_string().parse().expect("a UUID can name a site");
        let block: BlockNumber = settings.addresses.preferred_number(first);
        let machine = Machine {
            id,
            name,
            role: Role::Seed,
            block,
            router_id: RouterId::try_from(1).expect("1 is a router id"),
            ports,
        };
        Self { site: site.unwrap_or_else(made), machine }
    }
}

// === impl Seed ===

impl Seed<'_> {
    /// Makes keys, writes the operator's files, and gives the Ignition config for the seed's disk.
    pub(super) async fn write(
        &self,
        settings: &Settings,
        directory: &Directory,
    ) -> Result<Secret<String>, Failure> {
        let pki = Pki::generate(SystemTime::now(), settings.https)?;
        for file in pki.files() {
            let name = format!("pki/{}", file.path);
            directory.write(&name, file.contents.expose()).or_fail(Code::Io)?;
        }
        if let Some(boot) = &pki.boot {
            directory.write(BOOT_AUTHORITY, &boot.certificate_der).or_fail(Code::Io)?;
        }
        let server = format!("https://[{}]:{APISERVER_PORT}", settings.addresses.apiserver);
        let kubeconfig = pki.kubeconfig(&server)?;
        directory.write("auth/kubeconfig", kubeconfig.expose()).or_fail(Code::Io)?;
        let operator = ssh_key(directory).await?;
        let password = password()?;
        directory.write(REGISTRY_PASSWORD, password.expose()).or_fail(Code::Io)?;
        directory.write(REGISTRY_AUTHORITY, &pki.kubernetes.certificate_pem).or_fail(Code::Io)?;
        let registry = RegistrySettings {
            password: Digest::of(password.expose().as_bytes()),
            authority_key: Pki::authority_key_file(),
        };

        let site = self.site_plan(settings, &pki, operator).or_fail(Code::Data)?;
        let gateway = self.gateway_settings(settings, &site, &pki, registry);
        let plan = NodePlan {
            site,
            machine: self.identity.machine.clone(),
            spec: self.spec.clone(),
            detail: RoleDetail::Seed {
                uplink: self.uplink.clone(),
                pki: pki.files(),
                control_plane: self.control_plane.clone(),
            },
            gateway_settings: Secret::new(
                serde_json::to_value(&gateway).context("cannot write the gateway's settings")?,
            ),
        };
        let config = ignition::render(&plan).context("cannot render the seed's configuration");
        Ok(Secret::new(config.or_fail(Code::Config)?.to_json()))
    }

    fn site_plan(&self, settings: &Settings, pki: &Pki, operator: String) -> anyhow::Result<SitePlan> {
        let is_debian = self.catalog.kubernetes_source == "debian";
        let version = &self.catalog.kubernetes;
        Ok(SitePlan {
            id: self.identity.site.clone(),
            plan: settings.addresses.clone(),
            kubernetes: version.parse().with_context(|| format!("the images hold Kubernetes {version}"))?,
            kubernetes_source: if is_debian { KubernetesSource::Debian } else { KubernetesSource::Upstream },
            cni: settings.cni.clone(),
            ssh_keys: settings.ssh_keys.iter().cloned().chain([operator]).collect(),
            ca_cert_pem: pki.kubernetes.certificate_pem.clone(),
            ca_spki_sha256: pki.kubernetes.spki_sha256.clone(),
            nameservers: settings.nameservers.clone(),
        })
    }

    fn gateway_settings(
        &self,
        settings: &Settings,
        site: &SitePlan,
        pki: &Pki,
        registry: RegistrySettings,
    ) -> GatewaySettings {
        let artefact =
            |made: &images::catalog::Artefact| Artefact { sha256: made.sha256.hex(), size: made.size };
        let catalog = self.catalog;
        let store = PathBuf::from(ignition::gateway::STORE);
        GatewaySettings {
            site: site.clone(),
            machine: self.identity.machine.clone(),
            boot: BootArtefacts {
                uki: BTreeMap::from([("x64".to_owned(), artefact(&catalog.node_uki))]),
                root: artefact(&catalog.root),
                layer: artefact(&catalog.layer),
            },
            reservations: self.reservations.clone(),
            artefact_folders: vec![PathBuf::from(ARTEFACT_FOLDER), store.join(STORE_ARTEFACTS)],
            sources: Vec::new(),
            ledger: PathBuf::from(LEDGER),
            netboot: settings.netboot.clone(),
            control_plane: self.control_plane.clone(),
            boot_authority: pki.boot.as_ref().map(|boot| boot.certificate_pem.clone()),
            seed: Some(SeedSettings {
                image_stores: vec![PathBuf::from(IMAGES), store],
                excluded: self.uplink.iter().map(|uplink| uplink.mac).collect(),
                boot_authority_key: pki.boot_key_file(),
                mirrors: settings.mirrors.clone(),
                registry: Some(registry),
            }),
            relay: Some(RelaySettings { images: PathBuf::from(IMAGES), room: settings.relay_room }),
            forced_links: self.forced_links.clone(),
        }
    }
}

/// Where artefacts are in the store that a seed's disk carries.
const STORE_ARTEFACTS: &str = "blobs/sha256";

/// One that nobody guesses.
fn password() -> Result<Secret<String>, Failure> {
    let mut octets = [0; PASSWORD_LEN];
    rand::fill(&mut octets).map_err(|_| anyhow::anyhow!("the kernel gave no random numbers"))?;
    Ok(Secret::new(hex::encode(octets)))
}

/// The seed's end of the network to this computer.
pub(super) fn libvirt_uplink(id: DeploymentId, settings: &LibvirtSettings) -> Uplink {
    let (v4, v6) = seed_addresses(settings);
    let v4 = Ipv4Net::new(v4, settings.host_v4.prefix_len()).map(IpNet::V4);
    let v6 = Ipv6Net::new(v6, settings.host_v6.prefix_len()).map(IpNet::V6);
    Uplink {
        mac: id.uplink_mac(),
        addresses: [v4, v6].into_iter().flatten().collect(),
        gateways: vec![settings.host_v4.addr().into(), settings.host_v6.addr().into()],
        automatic: false,
    }
}

/// Makes the operator's SSH key and returns its public half.
async fn ssh_key(directory: &Directory) -> Result<String, Failure> {
    let path = directory.ssh_key();
    let public = path.with_extension("pub");
    Invocation::new("ssh-keygen", KEYGEN_LIMIT)
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "meshboot", "-f"])
        .args([&path])
        .run()
        .await
        .context("cannot make the SSH key")
        .or_fail(Code::Unavailable)?;
    let text = std::fs::read_to_string(&public).with_context(|| format!("cannot read {}", public.display()));
    Ok(text.or_fail(Code::Io)?.trim().to_owned())
}

fn port_index(index: u8) -> PortIndex {
    PortIndex::try_from(index).expect("a virtual machine has few ports")
}
