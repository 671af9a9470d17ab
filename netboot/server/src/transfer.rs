//! TFTP transfers: one thread and one socket each.
//!
//! Client and server of a transfer wait for each other all the time. A thread that waits for nothing else is woken by the
//! kernel itself, and its wait is one call; by way of the runtime it was four, and a fifth
//! slower.

mod reader;
mod socket;

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mesh::Stage;
use netboot_proto::tftp::{self, Limits, Opening, Outcome, Output, Request, Transfer};
use netboot_proto::wire::tftp::{ErrorCode, error};

use crate::content::{Content, ContentFile};
use crate::port::LinkContext;
use crate::socket::{MAX_DATAGRAM, Received};
use reader::FileReader;
use socket::TransferSocket;

/// Transfers of one port at a time; `TasksMax` of the service has room for those of all ports.
const MAX_TRANSFERS: usize = 256;
/// What a transfer's thread has for its calls; nothing there goes deep.
const STACK: usize = 256 * 1024;
/// After so long at most a transfer sees that its port is gone.
const GLANCE: Duration = Duration::from_secs(1);

/// The transfers of one port.
#[derive(Debug)]
pub(crate) struct Transfers<C> {
    context: Arc<LinkContext<C>>,
    limits: Limits,
    unanswered: Unanswered,
    /// Whether they are to end. Each of them has a copy.
    over: Arc<AtomicBool>,
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
        Self { context, limits, unanswered: Arc::default(), over: Arc::default() }
    }

    /// The port's MTU changed; transfers that run keep their blocks.
    pub(crate) fn set_mtu(&mut self, mtu: u32) {
        self.limits = Limits::for_mtu(mtu);
    }

    /// A datagram came to port 69. Gives back what is to be answered at once, to its sender.
    pub(crate) fn open(&self, received: Received, datagram: &[u8]) -> Option<Bytes> {
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
        let Some(file) = self.context.content.boot_file_named(&request.path) else {
            tracing::debug!(%link, port, %peer, path = request.path, "TFTP: no such boot file");
            return Some(error(ErrorCode::FileNotFound, "no such boot file"));
        };
        if Arc::strong_count(&self.over) > MAX_TRANSFERS {
            tracing::warn!(%link, port, %peer, "TFTP: {MAX_TRANSFERS} transfers on one link");
            return Some(error(ErrorCode::Undefined, "too many transfers"));
        }
        // The same request again before the client has heard us: its transfer repeats itself. After that it is a new
        // one, of a client that began anew: should it only be late, the client refuses what it begins.
        let slot = Slot::take(&self.unanswered, peer, &request)?;
        let (context, over, limits) = (Arc::clone(&self.context), Arc::clone(&self.over), self.limits);
        let transfer = move || {
            if let Err(error) = run(&context, slot, asked, &file, &limits, &over) {
                let LinkContext { link, device, .. } = &*context;
                tracing::warn!(%link, port = device.name, %peer, %error, "a TFTP transfer failed");
            }
        };
        match thread::Builder::new().name("tftp".to_owned()).stack_size(STACK).spawn(transfer) {
            Ok(_thread) => None,
            Err(reason) => {
                tracing::warn!(%link, port, %peer, %reason, "TFTP: no thread for a transfer");
                Some(error(ErrorCode::Undefined, "too many transfers"))
            }
        }
    }
}

fn run<C: Content>(
    context: &LinkContext<C>,
    slot: Slot,
    asked: Ipv6Addr,
    file: &ContentFile,
    limits: &Limits,
    over: &AtomicBool,
) -> io::Result<()> {
    let mut socket = TransferSocket::open(&context.device, asked)?;
    let mut reader = FileReader::open(&file.path, file.size)?;
    let started = Instant::now();
    let peer = slot.request.0;
    let mut transfer = Transfer::new(peer, &slot.request.1, file.size, limits, started);
    let mut slot = Some(slot);
    let mut counted = 0;
    let mut ready = None;
    let mut buffer = [0; MAX_DATAGRAM];
    while !over.load(Ordering::Relaxed) {
        while let Some(output) = transfer.poll_effect() {
            match output {
                Output::Send { to, bytes } => socket.send(to, &bytes)?,
                Output::Data(burst) => {
                    if counted == 0 {
                        context.board.advance(context.link, Stage::Loading);
                    }
                    let ready = ready.take().filter(|(known, _)| *known == burst);
                    let row = match ready {
                        Some((_, row)) => row,
                        None => burst.frame(reader.read(burst.offset, burst.len)?),
                    };
                    socket.send_row(peer, &row, burst.segment())?;
                    let acknowledged = transfer.acknowledged();
                    // The board tells its watchers, so it hears of pieces and not of packets.
                    if acknowledged - counted >= plain_http::file::CHUNK as u64 || counted == 0 {
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
        // Made ready while the client is busy with what it has.
        if ready.is_none()
            && let Some(burst) = transfer.expected()
        {
            ready = Some((burst, burst.frame(reader.read(burst.offset, burst.len)?)));
        }
        let now = Instant::now();
        let left = transfer.next_deadline().map_or(Duration::ZERO, |deadline| deadline.duration_since(now));
        match socket.receive(&mut buffer, left.min(GLANCE))? {
            Some((len, from)) => {
                transfer.handle_datagram(from, buffer.get(..len).unwrap_or_default(), Instant::now());
                if transfer.heard() {
                    drop(slot.take());
                }
            }
            None => transfer.handle_timeout(Instant::now()),
        }
    }
    Ok(())
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

impl<C> Drop for Transfers<C> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
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
