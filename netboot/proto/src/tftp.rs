//! One TFTP transfer to a client: read-only `[RFC 1350]`, with the options of `[RFC 2347]`, `[RFC 2348]`,
//! `[RFC 2349]` and `[RFC 7440]`.
//!
//! ```text
//!                 options                ACK 0                 last block acknowledged
//!   (request) ------------> Offered ---------------> Sending ---------------------------> Finished
//!       |                                               ^  |  ACK inside the window: next window behind it
//!       +-----------------------------------------------+  |  deadline: the same window again
//!                 no options                               |  ERROR, or too many deadlines: Finished
//! ```
//!
//! The file's content does not pass through here: a [`Burst`] names the octets that the next packets carry, and
//! [`Burst::frame`] puts the headers between them.

mod request;

use std::collections::VecDeque;
use std::net::SocketAddrV6;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use crate::timers::TimerTable;
use crate::wire::tftp::{DATA_HEADER, ErrorCode, Packet, data_header, error, oack};

pub use request::{Limits, Opening, Request, open};

/// Where servers listen.
pub const PORT: u16 = 69;
/// How often the same packets are sent again before the client is taken for gone.
pub const MAX_RETRANSMITS: u32 = 6;
/// A client that set its own timeout is waited for this long at most, or for one timeout if that is longer.
const MAX_FIXED_WAIT: Duration = Duration::from_secs(60);

const DEFAULT_BLOCK: u16 = 512;
/// The first wait for an answer, before a round trip has been measured.
const INITIAL_RTO: Duration = Duration::from_millis(500);
const MIN_RTO: Duration = Duration::from_millis(100);
const MAX_RTO: Duration = Duration::from_secs(4);

/// What a transfer wants done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Send {
        /// To whom.
        to: SocketAddrV6,
        /// The payload.
        bytes: Bytes,
    },
    /// Read octets of the file and send them to the transfer's client.
    Data(Burst),
    /// It is over.
    Finished(Outcome),
}

/// Consecutive blocks to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    /// The number of the first block, from 1; on the wire it wraps.
    pub first: u64,
    /// Where its content begins in the file.
    pub offset: u64,
    /// How many octets of the file the burst carries.
    pub len: usize,
    /// Octets in each block but the file's last.
    pub block: u16,
    /// How many blocks.
    pub blocks: u16,
}

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The client has all of it.
    Complete,
    /// The client gave up. EDK2 does so on purpose after it has learnt the size.
    Aborted {
        /// Why, by number.
        code: u16,
        /// Why, in words.
        message: String,
        /// Whether it was before the first block.
        probe: bool,
    },
    /// The client was not heard of any more.
    TimedOut {
        /// Octets that it had acknowledged.
        acknowledged: u64,
    },
}

/// One transfer.
#[derive(Debug)]
pub struct Transfer {
    peer: SocketAddrV6,
    size: u64,
    block: u16,
    window: u16,
    blocks: u64,
    state: State,
    heard: bool,
    offer: Option<Bytes>,
    clock: RoundTrip,
    timers: TimerTable<Timer>,
    outputs: VecDeque<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The options are sent; the client acknowledges them as block 0.
    Offered { retransmits: u32 },
    /// Blocks behind `acked` up to `sent` are on their way.
    Sending { acked: u64, sent: u64, retransmits: u32 },
    /// Nothing more happens.
    Finished { acknowledged: u64 },
}

/// How long an answer takes `[RFC 6298]`.
#[derive(Debug)]
struct RoundTrip {
    /// Set by the timeout option; then nothing is measured.
    fixed: Option<Duration>,
    smoothed: Option<(Duration, Duration)>,
    sent_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Answer,
}

// === impl Transfer ===

impl Transfer {
    /// Starts to send a file of `size` octets to `peer`.
    #[must_use]
    pub fn new(peer: SocketAddrV6, request: &Request, size: u64, limits: &Limits, now: Instant) -> Self {
        let agreed = request.negotiate(limits, size);
        let block = agreed.block.unwrap_or(DEFAULT_BLOCK);
        let mut transfer = Self {
            peer,
            size,
            block,
            window: agreed.window.unwrap_or(1),
            // A file that fills its last block is ended by an empty one.
            blocks: size / u64::from(block) + 1,
            state: State::Offered { retransmits: 0 },
            heard: false,
            offer: None,
            clock: RoundTrip { fixed: agreed.timeout, smoothed: None, sent_at: None },
            timers: TimerTable::default(),
            outputs: VecDeque::new(),
        };
        if agreed.options.is_empty() {
            transfer.send_window(0, 0, now);
        } else {
            transfer.offer = Some(oack(&agreed.options));
            transfer.send_offer(0, now);
        }
        transfer
    }

    /// A datagram came to the transfer's port.
    pub fn handle_datagram(&mut self, from: SocketAddrV6, bytes: &[u8], now: Instant) {
        let packet = Packet::parse(bytes);
        if (from.ip(), from.port()) != (self.peer.ip(), self.peer.port()) {
            // Somebody else's packet ends that one's transfer, not this one [RFC 1350 § 4].
            if !matches!(packet, Packet::Error { .. }) {
                let bytes = error(ErrorCode::UnknownTransfer, "unknown transfer");
                self.outputs.push_back(Output::Send { to: from, bytes });
            }
            return;
        }
        match (self.state, packet) {
            (State::Finished { .. }, _) => {}
            (state, Packet::Error { code, message }) => {
                let probe = matches!(state, State::Offered { .. });
                self.finish(Outcome::Aborted { code, message, probe });
            }
            (State::Offered { retransmits }, Packet::Ack(0)) => {
                self.heard = true;
                self.measure(retransmits, now);
                self.send_window(0, 0, now);
            }
            (State::Offered { .. }, Packet::Ack(_)) => {}
            (State::Sending { acked, sent, retransmits }, Packet::Ack(block)) => {
                self.heard = true;
                self.handle_ack(acked, sent, retransmits, block, now);
            }
            // The request again: the client has not heard us yet, and the deadline will tell it.
            (State::Offered { .. } | State::Sending { .. }, Packet::Read(_)) => {}
            // Neither a delay nor a duplicate explains these, so they end the transfer [RFC 1350 § 2].
            (
                State::Offered { .. } | State::Sending { .. },
                Packet::Write | Packet::Unexpected(_) | Packet::Malformed,
            ) => {
                let message = "only acknowledgements are expected here";
                let bytes = error(ErrorCode::IllegalOperation, message);
                self.outputs.push_back(Output::Send { to: self.peer, bytes });
                self.finish(Outcome::Aborted { code: 4, message: "illegal operation".into(), probe: false });
            }
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(Timer::Answer) = self.timers.expire(now) {
            match self.state {
                State::Finished { .. } => {}
                State::Offered { retransmits } if retransmits < self.clock.max_retransmits() => {
                    self.send_offer(retransmits + 1, now);
                }
                State::Sending { acked, retransmits, .. } if retransmits < self.clock.max_retransmits() => {
                    self.send_window(acked, retransmits + 1, now);
                }
                State::Offered { .. } => self.finish(Outcome::TimedOut { acknowledged: 0 }),
                State::Sending { acked, .. } => {
                    let acknowledged = acked * u64::from(self.block);
                    self.finish(Outcome::TimedOut { acknowledged });
                }
            }
        }
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What will be sent next if the client acknowledges all that was sent: it can be made ready meanwhile.
    #[must_use]
    pub fn expected(&self) -> Option<Burst> {
        match self.state {
            State::Sending { sent, .. } if sent < self.blocks => Some(self.burst(sent)),
            State::Offered { .. } => Some(self.burst(0)),
            State::Sending { .. } | State::Finished { .. } => None,
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    /// Whether the client has answered. Until then its request may come again and means this transfer.
    #[must_use]
    pub fn heard(&self) -> bool {
        self.heard
    }

    /// Octets that the client has acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        match self.state {
            State::Offered { .. } => 0,
            State::Sending { acked, .. } => (acked * u64::from(self.block)).min(self.size),
            State::Finished { acknowledged } => acknowledged,
        }
    }

    /// An acknowledgement moves the window only if it is of a block on its way. One of the last acknowledged
    /// block is a duplicate, and to answer it with data would double every packet from there on `[RFC 1123
    /// § 4.2.3.1]`; if the first block of a window was lost, the deadline finds out.
    fn handle_ack(&mut self, acked: u64, sent: u64, retransmits: u32, block: u16, now: Instant) {
        let [.., high, low] = acked.to_be_bytes();
        let progress = u64::from(block.wrapping_sub(u16::from_be_bytes([high, low])));
        if progress == 0 || acked + progress > sent {
            return;
        }
        self.measure(retransmits, now);
        let acked = acked + progress;
        if acked == self.blocks {
            self.finish(Outcome::Complete);
        } else {
            self.send_window(acked, 0, now);
        }
    }

    fn send_offer(&mut self, retransmits: u32, now: Instant) {
        if let Some(bytes) = self.offer.clone() {
            self.outputs.push_back(Output::Send { to: self.peer, bytes });
        }
        self.state = State::Offered { retransmits };
        self.await_answer(retransmits, now);
    }

    fn send_window(&mut self, acked: u64, retransmits: u32, now: Instant) {
        let burst = self.burst(acked);
        let sent = acked + u64::from(burst.blocks);
        self.outputs.push_back(Output::Data(burst));
        self.state = State::Sending { acked, sent, retransmits };
        self.await_answer(retransmits, now);
    }

    /// The window behind a block.
    fn burst(&self, acked: u64) -> Burst {
        let sent = (acked + u64::from(self.window)).min(self.blocks);
        let block = u64::from(self.block);
        let offset = acked * block;
        let end = (sent * block).min(self.size);
        Burst {
            first: acked + 1,
            offset,
            len: usize::try_from(end - offset).expect("a window is a few megabytes"),
            block: self.block,
            blocks: u16::try_from(sent - acked).expect("at most the window"),
        }
    }

    fn await_answer(&mut self, retransmits: u32, now: Instant) {
        self.clock.sent_at = Some(now);
        self.timers.set(Timer::Answer, now + self.clock.timeout(retransmits));
    }

    /// An answer to a packet that was sent twice says nothing of the round trip (Karn's rule).
    fn measure(&mut self, retransmits: u32, now: Instant) {
        let sent_at = self.clock.sent_at.take();
        if let (0, Some(sent_at)) = (retransmits, sent_at) {
            self.clock.measured(now.saturating_duration_since(sent_at));
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        let acknowledged = if outcome == Outcome::Complete { self.size } else { self.acknowledged() };
        self.state = State::Finished { acknowledged };
        self.timers.stop(Timer::Answer);
        self.outputs.push_back(Output::Finished(outcome));
    }
}

// === impl RoundTrip ===

impl RoundTrip {
    fn max_retransmits(&self) -> u32 {
        let Some(fixed) = self.fixed else { return MAX_RETRANSMITS };
        let waits = MAX_FIXED_WAIT.as_secs() / fixed.as_secs().max(1);
        u32::try_from(waits).unwrap_or(MAX_RETRANSMITS).min(MAX_RETRANSMITS)
    }

    fn timeout(&self, retransmits: u32) -> Duration {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        let once = match self.smoothed {
            None => INITIAL_RTO,
            Some((mean, deviation)) => (mean + 4 * deviation).clamp(MIN_RTO, MAX_RTO),
        };
        (once * 2_u32.saturating_pow(retransmits.min(8))).min(MAX_RTO)
    }

    fn measured(&mut self, sample: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => (sample, sample / 2),
            Some((mean, deviation)) => ((mean * 7 + sample) / 8, (deviation * 3 + mean.abs_diff(sample)) / 4),
        });
    }
}

// === impl Burst ===

impl Burst {
    /// Octets of every packet but the file's last, for a socket that cuts one buffer into datagrams.
    #[must_use]
    pub fn segment(&self) -> usize {
        DATA_HEADER + usize::from(self.block)
    }

    /// The packets, one behind the other, with the file's octets between their headers. `content` is what the
    /// file holds from [`offset`](Self::offset) on, [`len`](Self::len) octets.
    #[must_use]
    pub fn frame(&self, content: &[u8]) -> Bytes {
        let mut packets = BytesMut::with_capacity(content.len() + usize::from(self.blocks) * DATA_HEADER);
        let mut rest = content;
        for at in 0..u64::from(self.blocks) {
            let [.., high, low] = (self.first + at).to_be_bytes();
            packets.put_slice(&data_header(u16::from_be_bytes([high, low])));
            let (block, behind) = rest.split_at(rest.len().min(usize::from(self.block)));
            packets.put_slice(block);
            rest = behind;
        }
        packets.freeze()
    }
}

#[cfg(test)]
mod tests;
