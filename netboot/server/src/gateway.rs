//! The netboot servers of one machine, from its links to its ports.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;
use mesh::{Block, Far, Happening, Link, LinkId, Mac, MachineId, PortIndex};
use netboot_proto::Services;
use netboot_proto::dhcp6::{self, DEFAULT_LIFETIMES, ServerId};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::board::StatusBoard;
use crate::content::Content;
use crate::gate::Gate;
use crate::http::MAX_FILES;
use crate::journal::Journal;
use crate::links::{Interface, InterfaceKind, LinkEvent, Links, LinksError};
use crate::neighbours::Neighbours;
use crate::port::{Judging, LinkContext, Own, Port, PortState, Probe};
use crate::socket::Device;
use crate::tls::Https;

/// A port that failed is tried again after this.
const RETRY: Duration = Duration::from_secs(2);
/// Ports have so long to say farewell.
const FAREWELL: Duration = Duration::from_secs(3);
const CHANNEL: usize = 64;

/// What a gateway is told when it starts.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// This machine.
    pub machine: MachineId,
    /// Its block.
    pub block: Block,
    /// Its mesh ports that the ledger knows, by Ethernet address.
    pub ports: BTreeMap<Mac, PortIndex>,
    /// The links that the ledger knows: they are served also while it is away.
    pub links: Vec<Link>,
    /// The anycast address that "my neighbour" answers at; held on `lo` as long as the gateway runs.
    pub boot: Ipv6Addr,
    /// The DHCPv6 server's DUID: the same after every start. [`ServerId::of_machine`] makes one.
    pub server_id: ServerId,
    /// Interfaces that are no mesh ports, by name: the way out, a management port.
    pub excluded: Vec<String>,
    /// Name servers, search domains and clocks to tell of; none as a rule.
    pub services: Services,
    /// What every node's block is cut from: who advertises anything else is of another network.
    pub site: Ipv6Net,
    /// How long a link must have been without a fault before it is served again; see [`netboot_proto::judge`].
    pub hold_down: Duration,
    /// Ports, by name or Ethernet address, that are served whatever is wrong with their links.
    pub forced: BTreeSet<String>,
    /// How firmware that boots by HTTP is to do it.
    pub https: Https,
}

/// Something that the caller has to act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayEvent {
    /// An Ethernet port of the hardware that the ledger does not know: extend the ledger, then call
    /// [`GatewayHandle::add_port`].
    NewPort {
        /// Its name.
        name: String,
        /// Its Ethernet address.
        mac: Mac,
    },
    /// A mesh port is served.
    PortOpened(LinkId),
    /// A mesh port is gone.
    PortClosed(LinkId),
    /// A mesh port cannot be served. It is tried again.
    PortFailed {
        /// The link.
        link: LinkId,
        /// What was attempted, and how it failed.
        reason: String,
    },
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Two ports have one number.
    #[error("{first} and {second} are both port {port} of this machine")]
    SamePort {
        /// One port.
        first: Mac,
        /// The other.
        second: Mac,
        /// Their number.
        port: PortIndex,
    },
    /// The machine's links cannot be watched.
    #[error("watching this machine's links")]
    Links(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a gateway stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The machine's links cannot be watched any more.
    #[error("watching this machine's links")]
    Links(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Reaches into a running gateway.
#[derive(Debug, Clone)]
pub struct GatewayHandle {
    commands: mpsc::Sender<Command>,
    board: StatusBoard,
}

#[derive(Debug)]
enum Command {
    AddPort(Mac, PortIndex),
    Force(BTreeSet<String>),
}

/// The netboot servers of one machine.
#[derive(Debug)]
pub struct Gateway<C, J> {
    config: GatewayConfig,
    content: Arc<C>,
    journal: Arc<J>,
    links: Links,
    board: StatusBoard,
    neighbours: Arc<Neighbours>,
    known: BTreeMap<LinkId, Far>,
    running: BTreeMap<u32, Running>,
    ports: JoinSet<(u32, Option<Far>, io::Result<()>)>,
    retries: BTreeMap<u32, Instant>,
    announced: BTreeSet<Mac>,
    events: mpsc::Sender<GatewayEvent>,
    listener: Option<mpsc::Receiver<GatewayEvent>>,
    commands: mpsc::Receiver<Command>,
    commander: mpsc::Sender<Command>,
    probes: mpsc::Receiver<Probe>,
    prober: mpsc::Sender<Probe>,
    own: watch::Sender<Own>,
}

/// A port that is served.
#[derive(Debug)]
struct Running {
    link: LinkId,
    mac: Mac,
    name: String,
    state: watch::Sender<PortState>,
    stop: CancellationToken,
}

// === impl GatewayHandle ===

impl GatewayHandle {
    /// The ledger knows a further port: serve it.
    pub async fn add_port(&self, mac: Mac, port: PortIndex) {
        // A gateway that is gone serves nothing.
        let _gone = self.commands.send(Command::AddPort(mac, port)).await;
    }

    /// The operator wants these ports, by name or Ethernet address, served whatever is wrong with their links, and no
    /// others.
    pub async fn force(&self, ports: BTreeSet<String>) {
        let _gone = self.commands.send(Command::Force(ports)).await;
    }

    /// How far each link's boot has come; later stages are set here.
    #[must_use]
    pub fn status(&self) -> &StatusBoard {
        &self.board
    }
}

// === impl Gateway ===

impl<C: Content, J: Journal> Gateway<C, J> {
    /// Reads the machine's links. Nothing is served or changed before [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub async fn open(config: GatewayConfig, content: Arc<C>, journal: Arc<J>) -> Result<Self, OpenError> {
        for (first, port) in &config.ports {
            if let Some((second, _)) = config.ports.iter().find(|(mac, other)| *mac > first && *other == port)
            {
                return Err(OpenError::SamePort { first: *first, second: *second, port: *port });
            }
        }
        let links = Links::open().await.map_err(|error| OpenError::Links(error.into()))?;
        let mine = config.links.iter().filter(|link| link.id.near == config.machine);
        let known = mine.map(|link| (link.id, link.far)).collect();
        let (events, listener) = mpsc::channel(CHANNEL);
        let (commander, commands) = mpsc::channel(CHANNEL);
        let (prober, probes) = mpsc::channel(CHANNEL);
        Ok(Self {
            config,
            content,
            journal,
            links,
            board: StatusBoard::new(),
            neighbours: Arc::default(),
            known,
            running: BTreeMap::new(),
            ports: JoinSet::new(),
            retries: BTreeMap::new(),
            announced: BTreeSet::new(),
            events,
            listener: Some(listener),
            commands,
            commander,
            probes,
            prober,
            own: watch::Sender::default(),
        })
    }

    /// Shows the links' stages on a board that the caller has, who may have to know it before there is a gateway.
    #[must_use]
    pub fn on_board(mut self, board: StatusBoard) -> Self {
        self.board = board;
        self
    }

    /// A handle to the gateway once it runs.
    #[must_use]
    pub fn handle(&self) -> GatewayHandle {
        GatewayHandle { commands: self.commander.clone(), board: self.board.clone() }
    }

    /// What the caller has to act on. There is one listener; events that it does not fetch in time are lost.
    pub fn events(&mut self) -> Option<mpsc::Receiver<GatewayEvent>> {
        self.listener.take()
    }

    /// Serves until `shutdown` is done; then every link hears that its router is gone.
    ///
    /// # Errors
    ///
    /// See [`RunError`].
    pub async fn run(mut self, shutdown: impl Future<Output = ()> + Send) -> Result<(), RunError> {
        self.hold_boot_address(true).await;
        self.share_own();
        self.reconcile_all().await;
        let mut shutdown = std::pin::pin!(shutdown);
        let result = loop {
            let retry = self.retries.values().min().copied();
            tokio::select! {
                () = &mut shutdown => break Ok(()),
                event = self.links.next() => match event {
                    Ok(event) => if let Err(error) = self.handle_event(event).await {
                        break Err(error);
                    },
                    Err(error) => break Err(error),
                },
                Some(command) = self.commands.recv() => {
                    match command {
                        Command::AddPort(mac, port) => drop(self.config.ports.insert(mac, port)),
                        Command::Force(ports) => self.config.forced = ports,
                    }
                    self.reconcile_all().await;
                }
                Some(Probe { interface, address }) = self.probes.recv() => {
                    if let Err(error) = self.links.setup().probe(interface, address).await {
                        tracing::debug!(%error, "a neighbour could not be looked for");
                    }
                }
                Some(ended) = self.ports.join_next() => match ended {
                    Ok((index, far, result)) => self.handle_end(index, far, result),
                    Err(error) => tracing::error!(%error, "a port's task ended badly"),
                },
                () = sleep_until(retry) => {
                    let now = Instant::now();
                    self.retries.retain(|_, at| *at > now);
                    self.reconcile_all().await;
                }
            }
        };
        self.say_farewell().await;
        result.map_err(|error| RunError::Links(error.into()))
    }

    async fn handle_event(&mut self, event: LinkEvent) -> Result<(), LinksError> {
        match event {
            LinkEvent::Changed(index) => {
                self.share_own();
                if self.links.get(index).is_some_and(|interface| !interface.carrier) {
                    self.neighbours.forget_all(index);
                }
                self.reconcile(index).await;
            }
            LinkEvent::Gone(index) => {
                self.neighbours.forget_all(index);
                self.retries.remove(&index);
                self.stop(index);
            }
            LinkEvent::Neighbour(index, address, Some(mac)) => self.neighbours.learn(index, address, mac),
            LinkEvent::Neighbour(index, address, None) => self.neighbours.forget(index, address),
            LinkEvent::Lost => {
                tracing::warn!("link events were lost; reading all links again");
                self.links.resync().await?;
                self.share_own();
                self.reconcile_all().await;
            }
        }
        Ok(())
    }

    async fn reconcile_all(&mut self) {
        let here: BTreeSet<u32> = self.links.all().map(|interface| interface.index).collect();
        let gone: Vec<u32> = self.running.keys().filter(|index| !here.contains(index)).copied().collect();
        for index in gone {
            self.stop(index);
        }
        for index in here {
            self.reconcile(index).await;
        }
    }

    /// Makes what is served on a link what should be.
    async fn reconcile(&mut self, index: u32) {
        let Some(interface) = self.links.get(index).cloned() else { return };
        let wanted = self.config.port_of(&interface).ok();
        let forced = self.config.is_forced(&interface.name, interface.mac);
        if let Some(running) = self.running.get(&index) {
            let same = running.mac == interface.mac && running.name == interface.name;
            if same && wanted == Some(running.link.port) {
                let near = self.config.block.link(running.link.port).near();
                let lost = !interface.addresses.contains_key(&near);
                let new = state_of(&interface, forced);
                if running.state.borrow().carrier != new.carrier {
                    self.note_carrier(running.link, &running.name, new.carrier);
                }
                running.state.send_if_modified(|state| std::mem::replace(state, new) != new);
                if lost {
                    self.restore(&interface, running.link).await;
                }
                return;
            }
            self.stop(index);
        }
        match wanted {
            Some(port) if !self.retries.contains_key(&index) => self.start(&interface, port).await,
            Some(_) => {}
            None => self.announce(&interface),
        }
    }

    /// Tells every port of all of this machine's: whatever comes from one of them is a loop.
    fn share_own(&self) {
        let is_port = |interface: &&Interface| {
            interface.kind == InterfaceKind::Hardware || self.config.ports.contains_key(&interface.mac)
        };
        let ports = self.links.all().filter(is_port);
        let own: Own = ports.map(|interface| (interface.mac, interface.name.clone())).collect();
        self.own.send_if_modified(|known| {
            let news = *known != own;
            *known = own;
            news
        });
    }

    fn announce(&mut self, interface: &Interface) {
        let Interface { kind, name, mac, .. } = interface;
        let is_new = *kind == InterfaceKind::Hardware
            && !self.config.excluded.contains(name)
            && !self.config.ports.contains_key(mac)
            && self.announced.insert(*mac);
        if is_new {
            tracing::info!(port = name, %mac, "an Ethernet port that the ledger does not know");
            self.tell(GatewayEvent::NewPort { name: name.clone(), mac: *mac });
        }
    }

    async fn start(&mut self, interface: &Interface, port: PortIndex) {
        let link = LinkId { near: self.config.machine, port };
        let prefix = self.config.block.link(port);
        let far = self.known.get(&link).copied();
        self.board.add(link, &interface.name, prefix.near(), far);
        if let Err(error) = self.links.setup().prepare(interface, prefix).await {
            return self.fail(interface.index, link, chain(&error));
        }
        let (state, states) =
            watch::channel(state_of(interface, self.config.is_forced(&interface.name, interface.mac)));
        let context = LinkContext {
            link,
            prefix,
            device: Device { name: interface.name.clone(), index: interface.index },
            mac: interface.mac,
            content: Arc::clone(&self.content),
            board: self.board.clone(),
            neighbours: Arc::clone(&self.neighbours),
            gate: Gate::default(),
            files: Arc::new(Semaphore::new(MAX_FILES)),
            https: self.config.https.clone(),
        };
        let judging =
            Judging { site: self.config.site, hold_down: self.config.hold_down, own: self.own.subscribe() };
        let server = dhcp6::Config {
            link,
            prefix,
            server_id: self.config.server_id.clone(),
            lifetimes: DEFAULT_LIFETIMES,
            services: self.config.services.clone(),
        };
        let journal = Arc::clone(&self.journal);
        match Port::open(context, journal, server, far, states, self.prober.clone(), judging) {
            Ok(open) => {
                let stop = CancellationToken::new();
                let (index, token) = (interface.index, stop.clone());
                self.ports.spawn(async move {
                    let (far, result) = open.run(token).await;
                    (index, far, result)
                });
                let (mac, name) = (interface.mac, interface.name.clone());
                tracing::info!(%link, port = name, near = %prefix.near(), "serving a mesh port");
                if interface.carrier {
                    self.note_carrier(link, &name, true);
                }
                self.running.insert(index, Running { link, mac, name, state, stop });
                self.tell(GatewayEvent::PortOpened(link));
            }
            Err(error) => self.fail(interface.index, link, format!("opening the port's sockets: {error}")),
        }
    }

    /// Somebody took the near address away.
    async fn restore(&self, interface: &Interface, link: LinkId) {
        let prefix = self.config.block.link(link.port);
        if let Err(error) = self.links.setup().prepare(interface, prefix).await {
            let (port, error) = (&interface.name, chain(&error));
            tracing::warn!(%link, port, error, "the near address is gone and cannot be put back");
        }
    }

    fn stop(&mut self, index: u32) {
        if let Some(running) = self.running.remove(&index) {
            running.stop.cancel();
            if running.state.borrow().carrier {
                self.note_carrier(running.link, &running.name, false);
            }
            self.board.remove(running.link);
            tracing::info!(link = %running.link, port = running.name, "a mesh port is gone");
            self.tell(GatewayEvent::PortClosed(running.link));
        }
    }

    fn fail(&mut self, index: u32, link: LinkId, reason: String) {
        tracing::warn!(%link, reason, "a mesh port cannot be served");
        self.board.explain(link, Some(reason.clone()));
        self.retries.insert(index, Instant::now() + RETRY);
        self.tell(GatewayEvent::PortFailed { link, reason });
    }

    /// A port's task ended: because it was told to, or because it could not go on.
    fn handle_end(&mut self, index: u32, far: Option<Far>, result: io::Result<()>) {
        let Some(running) = self.running.get(&index).filter(|running| !running.stop.is_cancelled()) else {
            return;
        };
        let link = running.link;
        self.known.extend(far.map(|far| (link, far)));
        self.running.remove(&index);
        let reason = result.err().map_or_else(|| "it ended".to_owned(), |error| error.to_string());
        self.fail(index, link, format!("serving the port: {reason}"));
    }

    async fn say_farewell(&mut self) {
        for running in self.running.values() {
            running.stop.cancel();
        }
        let all = async { while self.ports.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, all).await.is_err() {
            tracing::warn!("some ports did not stop within {} s", FAREWELL.as_secs());
        }
        self.hold_boot_address(false).await;
    }

    /// The boot address is this machine's as long as it serves, so that no route leads to one that does not.
    async fn hold_boot_address(&self, hold: bool) {
        let address = self.config.boot;
        let Some(lo) = self.links.all().find(|interface| interface.name == "lo") else {
            tracing::warn!(%address, "there is no interface lo to hold the boot address");
            return;
        };
        let setup = self.links.setup();
        let result =
            if hold { setup.hold(lo.index, address).await } else { setup.release(lo.index, address).await };
        if let Err(error) = result {
            tracing::warn!(%address, error = chain(&error), "the boot address could not be set on lo");
        }
    }

    fn note_carrier(&self, link: LinkId, port: &str, carries: bool) {
        self.board.events().note(Happening::Carrier { port: port.to_owned(), link, carries });
    }

    fn tell(&self, event: GatewayEvent) {
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            tracing::warn!(?event, "nobody fetches the gateway's events");
        }
    }
}

fn state_of(interface: &Interface, forced: bool) -> PortState {
    let Interface { carrier, mtu, .. } = *interface;
    PortState { carrier, link_local: interface.has_link_local(), mtu, forced }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
