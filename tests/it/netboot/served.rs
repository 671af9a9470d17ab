//! The server's process: this test binary again, with a folder that says what to serve and holds what it wrote.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bootstrap::gateway::status::{self, ApiStatus, Sources};
use bootstrap::store::journal::MeshStore;
use mesh::allocate::attach;
use mesh::{AddressPlan, Block, Change, Mac, Machine, MachineId, MemoryStore, Port, PortIndex, Role, Store};
use netboot_server::{
    Arch, Bytes, Client, CommitError, Content, ContentFile, DEFAULT_HOLD_DOWN, FileName, Gateway,
    GatewayConfig, Https, IgnitionRefusal, IgnitionRequest, Journal, RefusalStatus, ServerCertificate,
    ServerId, Services, Sha256, StatusBoard,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::lab::BOOT;

/// Says which end of the first cable serves: none for the near one, and this for the other.
pub(super) const SIDE: &str = "MESHBOOT_TEST_NETBOOT_FAR";
/// Names the folder; without it there is nothing to serve.
pub(super) const FOLDER: &str = "MESHBOOT_TEST_NETBOOT";
/// This test's name, by which the process is started.
pub(super) const NAME: &str = "netboot::served::serve";

/// The digest that a file of the folder goes by. The server names files and does not check them.
pub(super) fn digest(name: &str) -> Sha256 {
    let mut octets = [0xab; 32];
    for (octet, letter) in octets.iter_mut().zip(name.bytes()) {
        *octet = letter;
    }
    Sha256(octets)
}

/// The Ethernet address of a near port.
pub(super) fn near_mac(port: u8) -> Mac {
    Mac([2, 0, 0, 0, port, 1])
}

/// The Ethernet address of a far port.
pub(super) fn far_mac(port: u8) -> Mac {
    Mac([2, 0, 0, 0, port, 2])
}

/// Which machine of the mesh this process is: the Ethernet addresses of its ports, and its block.
fn identity() -> (fn(u8) -> Mac, &'static str) {
    if env::var_os(SIDE).is_some() { (far_mac, "2001:db8::200/119") } else { (near_mac, "2001:db8::/119") }
}

#[test]
#[ignore = "the process that the other tests start"]
fn serve() -> Result<()> {
    let folder = PathBuf::from(env::var_os(FOLDER).context("no folder to serve")?);
    let log = File::options().append(true).create(true).open(folder.join("log"))?;
    // A log that has every packet is slower than the network.
    let level = fs::read_to_string(folder.join("level")).unwrap_or_else(|_| "trace".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(format!("netboot_server={level}"))
        .with_ansi(false)
        .with_writer(log)
        .init();
    // As the gateway has them.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).max_blocking_threads(32).enable_all().build()?.block_on(run(&folder))
}

async fn run(folder: &Path) -> Result<()> {
    let store = replay(folder)?;
    let (ledger, _) = store.load()?;
    let (mac, block) = identity();
    let machine = MachineId::from_mac(mac(0));
    let ports = (0..8).map(|port| Ok((mac(port), PortIndex::try_from(port)?)));
    let hold_down = fs::read_to_string(folder.join("hold-down")).ok().map(|text| text.parse()).transpose()?;
    let (shown, seen) = watch::channel(certificate(folder)?);
    let config = GatewayConfig {
        machine,
        block: Block::new(block.parse()?).context("no block")?,
        ports: ports.collect::<Result<_>>()?,
        links: ledger.links().cloned().collect(),
        boot: BOOT.parse()?,
        server_id: ServerId::of_machine(machine),
        excluded: Vec::new(),
        services: Services::new(vec!["2001:db8::53".parse()?], vec!["mesh.example".parse()?], Vec::new())?,
        site: AddressPlan::default().machines,
        hold_down: hold_down.map_or(DEFAULT_HOLD_DOWN, Duration::from_secs),
        forced: forced(folder),
        https: if folder.join("https").exists() { Https::On(seen) } else { Https::Off },
    };
    let files = Arc::new(Folder { path: folder.to_owned() });
    let journal = Arc::new(Lines { path: folder.to_owned(), store });
    let gateway = Gateway::open(config, files, journal).await?;
    let handle = gateway.handle();
    let mut hangup = signal(SignalKind::hangup())?;
    let words = folder.to_owned();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            handle.force(forced(&words)).await;
            if let Ok(certificate) = certificate(&words) {
                shown.send_replace(certificate);
            }
        }
    });
    let ours = ledger.machine(machine).context("this machine is not in the ledger")?.clone();
    let page = status_page(gateway.handle().status().clone(), ours)?;
    tokio::spawn(async move {
        // The test that wants the page finds it, or not.
        let _ended = page.await;
    });
    let mut board = gateway.handle().status().watch();
    let status = folder.join("status");
    tokio::spawn(async move {
        loop {
            let links = board.borrow_and_update().clone();
            let text = serde_json::to_vec(&links).unwrap_or_default();
            let new = status.with_extension("new");
            let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &status));
            if written.is_err() || board.changed().await.is_err() {
                return;
            }
        }
    });
    let mut stop = signal(SignalKind::terminate())?;
    gateway.run(async move { stop.recv().await.unwrap_or_default() }).await?;
    Ok(())
}

/// The real status page, on the machine's own address.
fn status_page(board: StatusBoard, machine: Machine) -> Result<impl Future<Output = Result<()>> + use<>> {
    let (_, block) = identity();
    let block = Block::new(block.parse()?).context("no block")?;
    let (stop, stopped) = watch::channel(false);
    let (api, seen) = watch::channel(ApiStatus { available: false, reason: None });
    let (anycasts, anycasts_seen) = watch::channel(Vec::new());
    let sources = Sources {
        machine,
        api: seen,
        anycasts: anycasts_seen,
        board,
        store: Arc::new(MeshStore::relay(None)?),
        images: None,
    };
    Ok(async move {
        let _kept = (stop, api, anycasts);
        status::serve(block.vip(), sources, stopped).await
    })
}

/// The ports that are forced: words of a file.
fn forced(folder: &Path) -> BTreeSet<String> {
    let words = fs::read_to_string(folder.join("forced")).unwrap_or_default();
    words.split_whitespace().map(str::to_owned).collect()
}

/// The certificate for HTTPS, if there is one.
fn certificate(folder: &Path) -> Result<Option<ServerCertificate>> {
    if !folder.join("server.crt").exists() {
        return Ok(None);
    }
    let read = |name| fs::read_to_string(folder.join(name));
    Ok(Some(ServerCertificate::new(&read("server.crt")?, &read("server.key")?)?))
}

/// The ledger as the last process left it.
fn replay(folder: &Path) -> Result<MemoryStore> {
    let store = MemoryStore::default();
    let (mac, _) = identity();
    let near = Machine {
        id: MachineId::from_mac(mac(0)),
        name: "seed".parse()?,
        role: Role::Seed,
        block: mesh::BlockNumber(0),
        router_id: 1.try_into()?,
        ports: (0..8)
            .map(|port| Ok(Port { index: port.try_into()?, mac: mac(port), name: format!("near{port}") }))
            .collect::<Result<_>>()?,
    };
    let lines = fs::read_to_string(folder.join("ledger")).unwrap_or_default();
    let changes = lines.lines().map(serde_json::from_str).collect::<Result<Vec<Change>, _>>()?;
    for change in [Change::Admit(near)].iter().chain(&changes) {
        let (_, revision) = store.load()?;
        store.append(revision, change)?;
    }
    Ok(store)
}

/// Changes as lines of a file, each on the disk before it counts.
struct Lines {
    path: PathBuf,
    store: MemoryStore,
}

impl Lines {
    fn append(&self, change: &Change) -> Result<()> {
        anyhow::ensure!(!self.path.join("away").exists(), "the store is away");
        let Change::Attach(link) = change else { anyhow::bail!("only links are attached here") };
        let (ledger, revision) = self.store.load()?;
        let plan = AddressPlan::default();
        let Some(change) = attach(&ledger, &plan, link.id, link.far)? else { return Ok(()) };
        let mut file = OpenOptions::new().append(true).create(true).open(self.path.join("ledger"))?;
        file.write_all(format!("{}\n", serde_json::to_string(&change)?).as_bytes())?;
        file.sync_all()?;
        self.store.append(revision, &change)?;
        Ok(())
    }
}

impl Journal for Lines {
    async fn commit(&self, change: Change) -> Result<(), CommitError> {
        self.append(&change).map_err(|error| CommitError { reason: format!("{error:#}") })
    }
}

/// The files of a folder.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn file(&self, name: &str) -> Option<ContentFile> {
        let path = self.path.join(name);
        let size = fs::metadata(&path).ok()?.len();
        Some(ContentFile {
            name: FileName::try_from(name.to_owned()).ok()?,
            path,
            sha256: digest(name),
            size,
        })
    }
}

impl Content for Folder {
    fn boot_file(&self, arch: Arch, _client: &Client) -> Option<ContentFile> {
        match arch {
            Arch::X64 => self.file("node.efi"),
            Arch::Arm64 => self.file("node-arm64.efi"),
        }
    }

    fn boot_file_named(&self, name: &str) -> Option<ContentFile> {
        ["node.efi", "node-arm64.efi"].contains(&name).then(|| self.file(name)).flatten()
    }

    fn artefact(&self, sha256: Sha256) -> Option<ContentFile> {
        ["node.efi", "root"].into_iter().find(|name| digest(name) == sha256).and_then(|name| self.file(name))
    }

    async fn ignition(&self, request: IgnitionRequest) -> Result<Bytes, IgnitionRefusal> {
        if !self.path.join("ignition").exists() {
            let reason = "the ledger is away".to_owned();
            return Err(IgnitionRefusal { status: RefusalStatus::NotReady, reason });
        }
        let ports: Vec<String> = request.ports.iter().map(|(name, mac)| format!("{name},{mac}")).collect();
        Ok(format!("far={} ports={}", request.far_mac, ports.join(" ")).into())
    }
}
