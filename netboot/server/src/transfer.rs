//! TFTP transfers: one task and one socket each.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use mesh::Stage;
use netboot_proto::Arch;
use netboot_proto::tftp::{self, Limits, Opening, Outcome, Output, Request, Transfer};
use netboot_proto::wire::tftp::{ErrorCode, error};
use tokio::task::JoinSet;

use crate::content::{Content, ContentFile};
use crate::file::FileReader;
use crate::port::LinkContext;
use crate::socket::{Datagrams, MAX_DATAGRAM, Received};

/// Transfers of one port at a time.
const MAX_TRANSFERS: usize = 256;

/// The transfers of one port.
#[derive(Debug)]
pub(crate) struct Transfers<C> {
    context: Arc<LinkContext<C>>,
    limits: Limits,
    unanswered: Unanswered,
    tasks: JoinSet<()>,
}

/// Requests whose transfers run and whose clients were not heard of since.
type Unanswered = Arc<Mutex<BTreeSet<(SocketAddrV6, Request)>>>;

/// One of them, as long as it is.
#[derive(Debug)]
struct Slot {
    unanswered: Unanswered,
    request: (SocketAddrV6, Request),
}

// === impl Transfers ===

impl<C: Content> Transfers<C> {
    pub(crate) fn new(context: Arc<LinkContext<C>>, mtu: u32) -> Self {
        let limits = Limits::for_mtu(mtu);
        Self { context, limits, unanswered: Arc::default(), tasks: JoinSet::new() }
    }

    /// The port's MTU changed; transfers that run keep their blocks.
    pub(crate) fn set_mtu(&mut self, mtu: u32) {
        self.limits = Limits::for_mtu(mtu);
    }

    /// A datagram came to port 69. Gives back what is to be answered at once, to its sender.
    pub(crate) fn open(&mut self, received: Received, datagram: &[u8]) -> Option<Bytes> {
        while self.tasks.try_join_next().is_some() {}
        // A request to everybody is nobody's [RFC 1123 § 4.2.3.5].
        let asked = received.to.filter(|to| !to.is_multicast())?;
        let LinkContext { link, device, .. } = &*self.context;
        let (port, peer) = (&device.name, received.from);
        let request = match tftp::open(datagram) {
            Opening::Serve(request) => request,
            Opening::Refuse { bytes, reason } => {
                tracing::debug!(%link, port, %peer, reason, "a TFTP request was refused");
                return Some(bytes);
            }
            Opening::Ignore => return None,
        };
        if let Some(reason) = self.context.gate.closed() {
            tracing::debug!(%link, port, %peer, reason, "a TFTP request on a link that is not served");
            return Some(error(ErrorCode::Undefined, "this link is not served"));
        }
        let Some(file) = boot_file(&*self.context.content, &request.path) else {
            tracing::debug!(%link, port, %peer, path = request.path, "TFTP: no such boot file");
            return Some(error(ErrorCode::FileNotFound, "no such boot file"));
        };
        if self.tasks.len() >= MAX_TRANSFERS {
            tracing::warn!(%link, port, %peer, "TFTP: {MAX_TRANSFERS} transfers on one link");
            return Some(error(ErrorCode::Undefined, "too many transfers"));
        }
        // The same request again before the client has heard us: its transfer repeats itself. After that it is a new
        // one, of a client that began anew: should it only be late, the client refuses what it begins.
        let slot = Slot::take(&self.unanswered, peer, &request)?;
        let context = Arc::clone(&self.context);
        let limits = self.limits;
        self.tasks.spawn(async move {
            if let Err(error) = run(&context, slot, asked, &file, &limits).await {
                let LinkContext { link, device, .. } = &*context;
                tracing::warn!(%link, port = device.name, %peer, %error, "a TFTP transfer failed");
            }
        });
        None
    }
}

async fn run<C: Content>(
    context: &LinkContext<C>,
    slot: Slot,
    asked: Ipv6Addr,
    file: &ContentFile,
    limits: &Limits,
) -> io::Result<()> {
    let socket = Datagrams::transfer(&context.device, asked)?;
    let mut reader = FileReader::open(&file.path, file.size).await?;
    let started = Instant::now();
    let peer = slot.request.0;
    let mut transfer = Transfer::new(peer, &slot.request.1, file.size, limits, started);
    let mut slot = Some(slot);
    let mut counted = 0;
    let mut buffer = [0; MAX_DATAGRAM];
    // Every packet moves the deadline. The clock is set anew only when it rings too soon, and not for each of them.
    let mut alarm = pin!(tokio::time::sleep_until(started.into()));
    loop {
        while let Some(output) = transfer.poll_effect() {
            match output {
                Output::Send { to, bytes } => socket.send(to, &bytes).await?,
                Output::Data(burst) => {
                    if counted == 0 {
                        context.board.advance(context.link, Stage::Loading);
                    }
                    let row = burst.frame(&reader.read(burst.offset, burst.len).await?);
                    socket.send_row(peer, &row, burst.segment()).await?;
                    let acknowledged = transfer.acknowledged();
                    // The board tells its watchers, so it hears of pieces and not of packets.
                    if acknowledged - counted >= crate::file::CHUNK as u64 || counted == 0 {
                        context.board.count(context.link, acknowledged - counted);
                        counted = acknowledged;
                    }
                }
                Output::Finished(outcome) => {
                    if outcome == Outcome::Complete {
                        context.board.count(context.link, file.size - counted);
                    }
                    report(context, peer, file, &outcome, started);
                    return Ok(());
                }
            }
        }
        let deadline = tokio::time::Instant::from(transfer.next_deadline().unwrap_or_else(Instant::now));
        if deadline < alarm.deadline() || alarm.is_elapsed() {
            alarm.as_mut().reset(deadline);
        }
        tokio::select! {
            received = socket.receive_from(&mut buffer) => {
                let (len, from) = received?;
                transfer.handle_datagram(from, buffer.get(..len).unwrap_or_default(), Instant::now());
                if transfer.heard() {
                    drop(slot.take());
                }
            }
            () = &mut alarm => transfer.handle_timeout(Instant::now()),
        }
    }
}

fn report<C>(
    context: &LinkContext<C>,
    peer: SocketAddrV6,
    file: &ContentFile,
    outcome: &Outcome,
    started: Instant,
) {
    let LinkContext { link, device, .. } = context;
    let (port, file) = (&device.name, &file.name);
    match outcome {
        Outcome::Complete => {
            let seconds = started.elapsed().as_secs_f64();
            tracing::info!(%link, port, %peer, %file, seconds, "boot file sent by TFTP");
        }
        Outcome::Aborted { probe: true, .. } => {
            tracing::debug!(%link, port, %peer, %file, "the client asked for the size only");
        }
        Outcome::Aborted { code, message, probe: false } => {
            context.board.metrics().count_refusal(port, "tftp-aborted");
            context.board.explain(*link, Some(format!("the firmware stopped loading {file}: {message}")));
            tracing::warn!(%link, port, %peer, %file, code, message, "the client gave up a TFTP transfer");
        }
        Outcome::TimedOut { acknowledged } => {
            let text = format!("the far end fell silent while it loaded {file}, after {acknowledged} octets");
            context.board.metrics().count_refusal(port, "tftp-timed-out");
            context.board.explain(*link, Some(text));
            tracing::warn!(%link, port, %peer, %file, acknowledged, "a TFTP client fell silent");
        }
    }
}

/// The boot file of this name, for whichever architecture.
pub(crate) fn boot_file<C: Content>(content: &C, name: &str) -> Option<ContentFile> {
    Arch::ALL.into_iter().filter_map(|arch| content.boot_file(arch)).find(|file| file.name.as_str() == name)
}

// === impl Slot ===

impl Slot {
    fn take(unanswered: &Unanswered, peer: SocketAddrV6, request: &Request) -> Option<Self> {
        let request = (peer, request.clone());
        let new = unanswered.lock().unwrap_or_else(PoisonError::into_inner).insert(request.clone());
        new.then(|| Self { unanswered: Arc::clone(unanswered), request })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.request);
    }
}

#[cfg(test)]
mod tests;
