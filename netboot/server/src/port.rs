//! One mesh port: the loop that drives the cores of its link.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::net::SocketAddrV6;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;
use mesh::{Change, Far, LinkId, LinkPrefix, Mac, Sound, Stage};
use netboot_proto::dhcp6::{self, Client, Server};
use netboot_proto::effect::{Effect, Event, Peer};
use netboot_proto::judge::{self, Judge, JudgeEffect, Judgement};
use netboot_proto::ra::{self, Advertiser};
use netboot_proto::wire::icmp6::ROUTER_SOLICITATION;
use netboot_proto::{Arch, Catalogue};
use rand_core::{OsRng, RngCore as _, TryRngCore, UnwrapErr};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::board::StatusBoard;
use crate::content::Content;
use crate::gate::Gate;
use crate::http;
use crate::journal::{CommitError, Journal};
use crate::neighbours::Neighbours;
use crate::notes;
use crate::socket::{self, Datagrams, Device, MAX_DATAGRAM, Received};
use crate::tls::Https;
use crate::transfer::Transfers;

const NO_LINK_LOCAL: &str = "the port has no link-local address yet, so no router can be advertised";

/// What every server of one link needs.
#[derive(Debug)]
pub(crate) struct LinkContext<C> {
    pub(crate) link: LinkId,
    pub(crate) prefix: LinkPrefix,
    pub(crate) device: Device,
    pub(crate) mac: Mac,
    pub(crate) content: Arc<C>,
    pub(crate) board: StatusBoard,
    pub(crate) neighbours: Arc<Neighbours>,
    pub(crate) gate: Gate,
    /// Who may send a file by HTTP.
    pub(crate) files: Arc<Semaphore>,
    /// How firmware that boots by HTTP is to do it.
    pub(crate) https: Https,
}

/// This machine's ports.
pub(crate) type Own = BTreeMap<Mac, String>;

/// By what a link is judged.
#[derive(Debug)]
pub(crate) struct Judging {
    /// What every node's block is cut from.
    pub(crate) site: Ipv6Net,
    /// How long a link must have been without a fault before it is served again.
    pub(crate) hold_down: Duration,
    /// This machine's ports.
    pub(crate) own: watch::Receiver<Own>,
}

/// What the kernel says of the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortState {
    /// A cable carries.
    pub(crate) carrier: bool,
    /// There is a link-local address to send from.
    pub(crate) link_local: bool,
    /// The MTU.
    pub(crate) mtu: u32,
    /// The operator wants it served whatever is wrong with its link.
    pub(crate) forced: bool,
}

/// The port wants to know which station is behind an address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    pub(crate) interface: u32,
    pub(crate) address: std::net::Ipv6Addr,
}

/// A mesh port with its sockets open.
#[derive(Debug)]
pub(crate) struct Port<C, J> {
    context: Arc<LinkContext<C>>,
    journal: Arc<J>,
    icmp6: Datagrams,
    dhcp6: Datagrams,
    tftp: Datagrams,
    /// Asks other DHCPv6 servers; none if somebody else here has the port.
    asker: Option<Datagrams>,
    judge: Judge,
    judgement: Judgement,
    own: watch::Receiver<Own>,
    advertiser: Advertiser<UnwrapErr<OsRng>>,
    server: Server,
    transfers: Transfers<C>,
    state: watch::Receiver<PortState>,
    probes: mpsc::Sender<Probe>,
    tasks: JoinSet<()>,
    /// When the client whose answer is being made asked.
    asked: Instant,
}

type Committing = Pin<Box<dyn Future<Output = (Change, Result<(), CommitError>)> + Send>>;

// === impl Port ===

impl<C: Content, J: Journal> Port<C, J> {
    /// Opens the port's sockets.
    pub(crate) fn open(
        context: LinkContext<C>,
        journal: Arc<J>,
        server: dhcp6::Config,
        known: Option<Far>,
        state: watch::Receiver<PortState>,
        probes: mpsc::Sender<Probe>,
        judging: Judging,
    ) -> io::Result<Self> {
        let device = &context.device;
        let judge = Judge::new(judge::Config {
            prefix: context.prefix,
            site: judging.site,
            mac: context.mac,
            server_id: server.server_id.clone(),
            hold_down: judging.hold_down,
            seed: OsRng.unwrap_err().next_u32(),
        });
        let asker = Datagrams::dhcp6_client(device).inspect_err(|error| {
            let port = &device.name;
            tracing::warn!(link = %context.link, port, %error, "other DHCPv6 servers cannot be looked for");
        });
        let mtu = state.borrow().mtu;
        let advertised = ra::Config {
            prefix: context.prefix,
            mac: context.mac,
            mtu,
            lifetimes: server.lifetimes,
            services: server.services.clone(),
        };
        let icmp6 = Datagrams::icmp6(device)?;
        let dhcp6 = Datagrams::dhcp6(device)?;
        let tftp = Datagrams::tftp(device)?;
        let http = socket::web(device, socket::HTTP)?;
        let acceptor = context.https.acceptor();
        let https =
            acceptor.map(|acceptor| socket::web(device, socket::HTTPS).map(|https| (https, acceptor)));
        let https = https.transpose()?;
        let advertiser = Advertiser::new(advertised, OsRng.unwrap_err());
        let server = Server::new(server, catalogue(&context, &Client::default()), known);
        let context = Arc::new(context);
        let mut tasks = JoinSet::new();
        tasks.spawn(http::serve(Arc::clone(&context), http, None));
        if let Some((https, acceptor)) = https {
            tasks.spawn(http::serve(Arc::clone(&context), https, Some(acceptor)));
        }
        let transfers = Transfers::new(Arc::clone(&context), mtu);
        Ok(Self {
            context,
            journal,
            icmp6,
            dhcp6,
            tftp,
            asker: asker.ok(),
            judgement: judge.judgement(),
            judge,
            own: judging.own,
            advertiser,
            server,
            transfers,
            state,
            probes,
            tasks,
            asked: Instant::now(),
        })
    }

    /// Serves until told to stop, and then says so on the link; or until a socket fails, and then the port may be
    /// opened again. Gives back what it knew of the far end.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> (Option<Far>, io::Result<()>) {
        let result = self.drive(stop).await;
        self.tasks.shutdown().await;
        (self.server.far(), result)
    }

    async fn drive(&mut self, stop: CancellationToken) -> io::Result<()> {
        let (mut icmp6, mut dhcp6, mut tftp) = ([0; MAX_DATAGRAM], [0; MAX_DATAGRAM], [0; MAX_DATAGRAM]);
        let mut answers = [0; MAX_DATAGRAM];
        let mut committing: Option<Committing> = None;
        self.judge.handle_own(self.own.borrow_and_update().clone());
        self.handle_state();
        loop {
            self.pump(&mut committing).await;
            let deadlines =
                [self.judge.next_deadline(), self.advertiser.next_deadline(), self.server.next_deadline()];
            let deadline = deadlines.into_iter().flatten().min();
            tokio::select! {
                () = stop.cancelled() => break,
                received = self.icmp6.receive(&mut icmp6) => {
                    let (peer, bytes) = self.peer(received?, &icmp6);
                    let now = Instant::now();
                    self.judge.handle_icmp6(&peer, bytes, now);
                    self.pump_judge().await;
                    if bytes.first() == Some(&ROUTER_SOLICITATION) {
                        self.context.board.hear(self.context.link, Sound::Solicitation);
                    }
                    if self.judgement.advertises && bytes.first() == Some(&ROUTER_SOLICITATION) {
                        self.advertiser.handle_datagram(&peer, bytes, now);
                    }
                }
                received = receive(self.asker.as_ref(), &mut answers) => {
                    let (peer, bytes) = self.peer(received?, &answers);
                    self.judge.handle_server(&peer, bytes, Instant::now());
                }
                received = self.dhcp6.receive(&mut dhcp6) => {
                    let (peer, bytes) = self.peer(received?, &dhcp6);
                    if peer.mac.is_none() {
                        self.probe(peer.address);
                    }
                    let now = Instant::now();
                    if committing.is_none() {
                        self.asked = now;
                    }
                    self.judge.handle_client(&peer, bytes, now);
                    self.pump_judge().await;
                    let LinkContext { board, link, device, .. } = &*self.context;
                    board.hear(*link, Sound::Dhcp);
                    if let Some(fault) = self.judgement.faults.first().filter(|_| !self.judgement.serves) {
                        board.metrics().count_refusal(&device.name, fault.kind().name());
                    } else {
                        self.server.handle_catalogue(catalogue(&self.context, &Client::of(&peer, bytes)));
                        self.server.handle_datagram(&peer, bytes, now);
                    }
                }
                received = self.tftp.receive(&mut tftp) => {
                    let received = received?;
                    let answer = self.transfers.open(received, tftp.get(..received.len).unwrap_or_default());
                    if let Some(bytes) = answer {
                        report_send(&self.context, self.tftp.send(received.from, &bytes).await);
                    }
                }
                (change, result) = next(&mut committing) => {
                    committing = None;
                    match result {
                        Ok(()) => self.server.handle_committed(&change),
                        Err(error) => self.server.handle_commit_failed(&change, error.reason),
                    }
                }
                changed = self.state.changed() => match changed {
                    Ok(()) => self.handle_state(),
                    Err(_) => break,
                },
                Ok(()) = self.own.changed() => {
                    self.judge.handle_own(self.own.borrow_and_update().clone());
                }
                () = sleep_until(deadline) => {
                    self.judge.handle_timeout(Instant::now());
                    self.pump_judge().await;
                    self.advertiser.handle_timeout(Instant::now());
                    self.server.handle_timeout(Instant::now());
                }
            }
        }
        self.advertiser.handle_stop(Instant::now());
        self.pump(&mut committing).await;
        Ok(())
    }

    /// Does what the cores want done, in their order.
    async fn pump(&mut self, committing: &mut Option<Committing>) {
        self.pump_judge().await;
        self.pump_advertiser().await;
        while let Some(effect) = self.server.poll_effect() {
            match effect {
                Effect::Commit(change) => *committing = Some(self.commit(change)),
                Effect::Note(event) => {
                    if let Event::Answered(answered) = &event {
                        let LinkContext { board, device, .. } = &*self.context;
                        board.metrics().observe_answer(&device.name, answered.asked, self.asked.elapsed());
                        self.advertiser.handle_client(answered.to, Instant::now());
                        self.pump_advertiser().await;
                    }
                    self.note(&event);
                }
                Effect::Send { to, bytes } => report_send(&self.context, self.dhcp6.send(to, &bytes).await),
            }
        }
    }

    async fn pump_judge(&mut self) {
        while let Some(effect) = self.judge.poll_effect() {
            match effect {
                JudgeEffect::Solicit { to, bytes } => {
                    report_send(&self.context, self.icmp6.send(to, &bytes).await);
                }
                JudgeEffect::Ask { to, bytes } => {
                    if let Some(asker) = &self.asker {
                        report_send(&self.context, asker.send(to, &bytes).await);
                    }
                }
                JudgeEffect::Judged(judgement) => self.obey(judgement),
            }
        }
    }

    /// The link was judged: serve it or not.
    fn obey(&mut self, judgement: Judgement) {
        let LinkContext { link, board, gate, device, .. } = &*self.context;
        notes::note_judgement(*link, &device.name, &self.judgement, &judgement);
        let reason = judgement.faults.first().filter(|_| !judgement.serves);
        gate.set(reason.map(|fault| format!("this link is not served: {fault}")));
        board.judge(*link, &judgement);
        board.metrics().set_faults(&device.name, &judgement.faults);
        self.judgement = judgement;
        self.advertise();
    }

    /// Is a router on the link if there is a cable and it is one for it, and else is none any more.
    fn advertise(&mut self) {
        let PortState { carrier, link_local, .. } = *self.state.borrow();
        if self.judgement.advertises {
            self.advertiser.handle_carrier(carrier && link_local, Instant::now());
        } else {
            self.advertiser.handle_withdrawal(Instant::now());
        }
    }

    async fn pump_advertiser(&mut self) {
        while let Some(effect) = self.advertiser.poll_effect() {
            match effect {
                Effect::Send { to, bytes } => report_send(&self.context, self.icmp6.send(to, &bytes).await),
                Effect::Note(event) => self.note(&event),
                Effect::Commit(_) => {}
            }
        }
    }

    /// A commit runs to its end also if the port is gone before.
    fn commit(&self, change: Change) -> Committing {
        let journal = Arc::clone(&self.journal);
        let committed = change.clone();
        let task = tokio::spawn(async move { journal.commit(committed).await });
        Box::pin(async move {
            let result = task.await.unwrap_or_else(|error| Err(CommitError { reason: error.to_string() }));
            (change, result)
        })
    }

    /// The kernel said something new of the port.
    fn handle_state(&mut self) {
        let PortState { carrier, link_local, mtu, forced } = *self.state.borrow_and_update();
        self.advertiser.handle_mtu(mtu);
        self.transfers.set_mtu(mtu);
        self.advertise();
        self.judge.handle_forced(forced);
        self.judge.handle_carrier(carrier && link_local, Instant::now());
        let LinkContext { link, board, device, .. } = &*self.context;
        let status = || board.watch().borrow().iter().find(|status| status.link == *link).cloned();
        match (carrier, status().map(|status| status.stage)) {
            (true, Some(Stage::Dark)) => {
                tracing::info!(%link, port = device.name, "a cable carries");
                board.restart(*link, Stage::Carrier);
            }
            (false, Some(stage)) if stage != Stage::Dark => {
                tracing::info!(%link, port = device.name, "no cable carries any more");
                board.restart(*link, Stage::Dark);
            }
            (true | false, Some(_) | None) => {}
        }
        if carrier && !link_local {
            board.explain(*link, Some(NO_LINK_LOCAL.to_owned()));
        } else if status().is_some_and(|status| status.reason.as_deref() == Some(NO_LINK_LOCAL)) {
            board.explain(*link, None);
        }
    }

    fn peer<'a>(&self, received: Received, buffer: &'a [u8]) -> (Peer, &'a [u8]) {
        let Received { len, from, to, hop_limit } = received;
        let peer = Peer {
            address: from,
            mac: self.context.neighbours.station(self.context.device.index, *from.ip()),
            destination: to.unwrap_or(std::net::Ipv6Addr::UNSPECIFIED),
            hop_limit,
        };
        (peer, buffer.get(..len).unwrap_or_default())
    }

    /// Has the kernel look for the station behind an address; the client's next try finds it.
    fn probe(&self, address: SocketAddrV6) {
        let probe = Probe { interface: self.context.device.index, address: *address.ip() };
        // Full: others are being looked for, and the client will ask again.
        let _later = self.probes.try_send(probe);
    }

    fn note(&self, event: &Event) {
        notes::note(&self.context.board, self.context.link, &self.context.device.name, event);
    }
}

/// A datagram that could not be sent is one that was lost: the other side repeats itself.
fn report_send<C>(context: &LinkContext<C>, sent: io::Result<()>) {
    if let Err(error) = sent {
        let LinkContext { link, device, .. } = context;
        tracing::warn!(%link, port = device.name, %error, "a datagram could not be sent");
    }
}

/// What a machine may boot.
fn catalogue<C: Content>(context: &LinkContext<C>, client: &Client) -> Catalogue {
    let name = |arch| context.content.boot_file(arch, client).map(|file| file.name);
    Catalogue { x64: name(Arch::X64), arm64: name(Arch::Arm64), http_boot: context.https.http_boot() }
}

async fn receive(socket: Option<&Datagrams>, buffer: &mut [u8]) -> io::Result<Received> {
    match socket {
        Some(socket) => socket.receive(buffer).await,
        None => pending().await,
    }
}

async fn next(committing: &mut Option<Committing>) -> (Change, Result<(), CommitError>) {
    match committing {
        Some(commit) => commit.await,
        None => pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => pending().await,
    }
}
