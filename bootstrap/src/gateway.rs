//! `meshboot gateway`: the service that runs on every seed and relay.
//!
//! It composes the rooms: the netboot servers on every mesh port, the ledger behind them, the admission of
//! machines, the artefacts that are handed on, the registry mirrors, the anycast addresses of local services, what control
//! planes do (nodes' certificates approved, tokens revoked, further control planes made), and the status page. Start with
//! [`run`].

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use futures::FutureExt;
use mesh::{Happening, Ledger, Mac};
use netboot_server::{DEFAULT_HOLD_DOWN, Gateway, GatewayConfig, Https, ServerId, StatusBoard};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::admitter::Admitter;
use self::api::Watcher;
use self::artefacts::Artefacts;
use self::certificate::Keeper;
use self::choice::Choice;
use self::content::NodeContent;
use self::follow::Follower;
use self::journal::MeshJournal;
use self::mirrors::Mirrors;
use self::settings::GatewaySettings;
use crate::control_plane::candidate::Candidate;
use crate::control_plane::promoter::Promoter;
use crate::store::journal::MeshStore;
use crate::store::redb::RedbStore;

pub mod admit;
pub mod admitter;
pub mod api;
pub mod approver;
pub mod artefacts;
pub mod certificate;
pub mod choice;
pub mod content;
pub mod events;
pub mod follow;
pub mod force;
pub mod journal;
pub mod mirrors;
pub mod once;
pub mod ports;
pub mod publish;
pub mod render;
pub mod seed;
pub mod services;
pub mod settings;
pub mod status;

/// Threads for what cannot be waited for otherwise.
const BLOCKING_THREADS: usize = 32;

/// Serves until it is told to stop. The ports in `forced`, besides those in the settings, are served whatever is wrong
/// with their links.
///
/// # Errors
///
/// What could not be opened, and what to look at.
pub fn run(path: &Path, forced: &[String]) -> Result<()> {
    let mut settings = GatewaySettings::read(path)?;
    settings.forced_links.extend(forced.iter().cloned());
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // Files are read and the ledger is written on these; the unit's limit of tasks is no place to find out how many.
    let runtime = runtime.worker_threads(2).max_blocking_threads(BLOCKING_THREADS).enable_all().build();
    runtime.context("cannot start the async runtime")?.block_on(serve(settings, path, forced))
}

async fn serve(settings: GatewaySettings, path: &Path, forced: &[String]) -> Result<()> {
    let settings = Arc::new(settings);
    let plan = Arc::new(settings.site.plan.clone());
    let block = settings.block()?;
    let (stop, stopped) = watch::channel(false);
    let mut tasks = Tasks::default();

    let store = Arc::new(open_store(&settings)?);
    let origin = settings.seed.as_ref().map(|_| settings.machine.id.to_string());
    let (watcher, api) = Watcher::new(Arc::clone(&store), settings.site.plan.clone(), origin);
    tasks.spawn("API server", watcher.run(stopped.clone()).map(Ok));
    let copy = Arc::clone(&store);
    tasks.spawn("ledger", until(stopped.clone(), async move { copy.follow(|| ()).await }).map(Ok));

    let board = StatusBoard::new();
    let log = board.events().clone();
    log.note(Happening::Started { version: env!("CARGO_PKG_VERSION").to_owned() });
    tasks.spawn("API events", until(stopped.clone(), events::follow_api(api.status(), log.clone())).map(Ok));
    let routes = events::follow_routes(events::route_scope(&plan, block), log.clone());
    tasks.spawn("route events", until(stopped.clone(), routes).map(Ok));
    let publish = publish::publish(Arc::clone(&store), board.watch());
    tasks.spawn("links' status", until(stopped.clone(), publish).map(Ok));
    let follower = Follower::new(board.clone());
    let admitter = Admitter::new(Arc::clone(&settings), Arc::clone(&store), api.clone(), follower);
    let artefacts = Artefacts::open(&settings);
    let (choice, reserved) = Choice::new(settings.reservations.clone(), Arc::clone(&store));
    tasks.spawn("reservations", until(stopped.clone(), reserved.follow(api.clone())).map(Ok));
    let content = NodeContent::new(Arc::new(settings.boot.clone()), artefacts.clone(), choice, admitter);
    let journal = MeshJournal::new(Arc::clone(&store), Arc::clone(&plan));
    let mut config = netboot_config(&settings, &store.cached())?;
    if let Some((keeper, https)) = Keeper::new(&settings, api.clone())? {
        tasks.spawn("certificate", until(stopped.clone(), keeper.run()).map(Ok));
        config.https = https;
    }
    let netboot =
        Gateway::open(config, Arc::new(content), Arc::new(journal)).await.context("cannot serve netboot")?;
    let mut netboot = netboot.on_board(board.clone());
    if let Some(events) = netboot.events() {
        let ports = ports::Ports::new(Arc::clone(&settings), Arc::clone(&store), netboot.handle());
        tasks.spawn("ports", until(stopped.clone(), ports.run(events)).map(Ok));
    }

    let forcing = force::follow(path.to_owned(), forced.to_vec(), netboot.handle())?;
    tasks.spawn("forced links", until(stopped.clone(), forcing).map(Ok));

    for (name, artefact) in settings.boot.all() {
        let (artefacts, name, artefact) = (artefacts.clone(), name.to_owned(), artefact.clone());
        let obtain = async move { artefacts.obtain(&name, &artefact).await };
        tasks.spawn("artefact", until(stopped.clone(), obtain).map(Ok));
    }

    let (ours, ledger) = (Arc::clone(&settings), Arc::clone(&store));
    let certifier = move || seed::certifier(&ours, &ledger);
    tasks.spawn("approver", until(stopped.clone(), approver::run(api.clone(), certifier)).map(Ok));
    let promoter = Promoter::new(Arc::clone(&settings), Arc::clone(&store))?;
    tasks.spawn("promoter", until(stopped.clone(), promoter.run(api.clone())).map(Ok));
    let mark = settings.seed.is_none().then(|| Path::new(ignition::cluster::CONTROL_PLANE_MARK));
    if mark.is_some() {
        let candidate = Candidate::new(
            settings.machine.name.clone(),
            block,
            settings.site.clone(),
            settings.control_plane.clone(),
        );
        tasks.spawn("candidate", until(stopped.clone(), candidate.run(api.clone())).map(Ok));
    }
    let mut anycasts = services::of_control_plane(&plan, block, &settings.site.ca_cert_pem, mark)?;
    let mut images = None;
    if let Some(Mirrors { puller, bound }) = Mirrors::open(&settings)? {
        let (served, stopped) = (puller.clone(), stopped.clone());
        tasks.spawn("mirrors", async move { bound.serve(served, stop_of(stopped)).await }.map(Ok));
        anycasts.extend(services::of_mirrors(&plan)?);
        images = Some(puller);
    }
    let (anycast_status, anycasts_seen) = watch::channel(Vec::new());
    let following = events::follow_anycasts(anycasts_seen.clone(), log.clone());
    tasks.spawn("anycast events", until(stopped.clone(), following).map(Ok));
    tasks.spawn("anycast addresses", crate::anycast::keep(anycasts, anycast_status, stopped.clone()));

    let sources = status::Sources {
        machine: settings.machine.clone(),
        api: api.status(),
        anycasts: anycasts_seen,
        board,
        store,
        images,
    };
    tasks.spawn("status page", status::serve(block.vip(), sources, stopped.clone()));
    let farewell = stop_of(stopped.clone());
    tasks.spawn("netboot", async move { netboot.run(farewell).await.context("netboot failed") });

    sd_notify::notify(&[sd_notify::NotifyState::Ready])
        .context("cannot tell systemd that the service is ready")?;
    tracing::info!(node = %settings.machine.name, %block, "gateway serves");
    let result = tasks.first_end(asked_to_stop()).await;
    log.note(Happening::Stopping);
    stop.send_replace(true);
    tasks.drain().await;
    result
}

fn open_store(settings: &GatewaySettings) -> Result<MeshStore> {
    let file = RedbStore::open(&settings.ledger);
    if settings.seed.is_some() {
        let store = MeshStore::seed(file.context("cannot open the seed's ledger")?)
            .context("cannot read the ledger")?;
        // Once Kubernetes has the ledger it has the seed as well.
        if store.cached().machine(settings.machine.id).is_none() {
            seed::enter_self(&store, &settings.machine)?;
        }
        return Ok(store);
    }
    // A relay's file is only a copy: without it nothing is lost.
    let file =
        file.inspect_err(|error| tracing::warn!("going on without a copy of the ledger: {error:#}")).ok();
    MeshStore::relay(file).context("cannot read the copy of the ledger")
}

/// What the netboot servers are told, with what the ledger knows, but for the certificate of HTTPS.
pub(crate) fn netboot_config(settings: &GatewaySettings, ledger: &Ledger) -> Result<GatewayConfig> {
    let ours = ledger.machine(settings.machine.id).unwrap_or(&settings.machine);
    let ports: BTreeMap<Mac, _> =
        ours.ports.iter().chain(&settings.machine.ports).map(|port| (port.mac, port.index)).collect();
    Ok(GatewayConfig {
        machine: settings.machine.id,
        block: settings.block()?,
        ports,
        links: ledger.links().cloned().collect(),
        boot: settings.site.plan.boot,
        server_id: ServerId::of_machine(settings.machine.id),
        excluded: Vec::new(),
        services: settings.services()?,
        site: settings.site.plan.machines,
        hold_down: DEFAULT_HOLD_DOWN,
        forced: settings.forced_links.clone(),
        https: Https::Off,
    })
}

async fn asked_to_stop() -> Result<()> {
    let listen = |kind| signal(kind).context("cannot listen for signals");
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("asked to stop");
    Ok(())
}

async fn stop_of(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone says the same.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn until(stopped: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = stop_of(stopped) => {}
    }
}

/// The parts of a running service. One that fails ends it: systemd starts it anew, and its reason is the log's
/// last line.
#[derive(Debug, Default)]
struct Tasks {
    running: JoinSet<(&'static str, Result<()>)>,
}

// === impl Tasks ===

impl Tasks {
    fn spawn(&mut self, name: &'static str, work: impl Future<Output = Result<()>> + Send + 'static) {
        self.running.spawn(work.map(move |result| (name, result)));
    }

    /// Waits until one of them fails, or `stop` is done. One that comes to a good end was done early.
    async fn first_end(&mut self, stop: impl Future<Output = Result<()>>) -> Result<()> {
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                stop = &mut stop => return stop,
                Some(ended) = self.running.join_next() => {
                    let (name, result) = ended.context("a part of the service ended badly")?;
                    result.with_context(|| format!("{name} failed"))?;
                }
            }
        }
    }

    async fn drain(&mut self) {
        let limit = std::time::Duration::from_secs(8);
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!("not all parts of the service ended in time");
        }
    }
}
