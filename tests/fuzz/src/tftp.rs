//! TFTP: requests, and a transfer by packets of anybody and times.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::{Duration, Instant};

use netboot_proto::tftp::{
    Burst, Limits, MAX_RETRANSMITS, Opening, Outcome, Output, Request, Transfer, open,
};

use crate::Input;
use crate::place::{epoch, time};

const MAX_STEPS: usize = 300;
const MAX_WINDOW: u16 = 64;
/// The largest file that there can be.
const MAX_SIZE: u64 = i64::MAX.unsigned_abs();
/// Bursts of files up to this size are framed as well, with the octets that belong there.
const SMALL: u64 = 64 * 1024;
/// The longest time until a silent client is given up: what it may ask for as a timeout, or the server's own waits.
const PATIENCE: Duration = Duration::from_secs(255);

/// A transfer, and what is known of it without it.
struct World {
    transfer: Transfer,
    peer: SocketAddrV6,
    now: Instant,
    size: u64,
    longest: usize,
    /// What was asked for, in lower case.
    asked: String,
    /// What the last OACK or the defaults say.
    block: u16,
    window: u16,
    acknowledged: u64,
    /// The last block that was sent.
    sent: u64,
    outcome: Option<Outcome>,
}

/// Reads requests, and drives the transfer of the first that is one.
pub(crate) fn run(octets: &[u8]) {
    let mut input = Input::new(octets);
    let mtu = input.pick(&[1500, 1500, 1280, 9000, 0, 65_536, u32::MAX]);
    let size = match input.octet() % 4 {
        0 => u64::from(input.octet()),
        1 | 2 => u64::from(input.short()),
        _ => input.long() & MAX_SIZE,
    };
    let datagram = input.blob();
    let Some(request) = opened(datagram) else { return };
    let mut world = World::new(&request, datagram, size, mtu);
    world.pump();
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
        world.pump();
    }
    world.fall_silent();
}

/// What a datagram opens: a path inside the catalogue, or an ERROR, or nothing.
fn opened(datagram: &[u8]) -> Option<Request> {
    match open(datagram) {
        Opening::Serve(request) => {
            let path = &request.path;
            assert!(path.len() <= 255 && path.chars().all(|c| c.is_ascii_graphic() && c != '\\'), "{path}");
            assert!(path.split('/').all(|step| !matches!(step, "" | "." | "..")), "{path}");
            Some(request)
        }
        Opening::Refuse { bytes, .. } => {
            assert!(bytes.starts_with(&[0, 5]) && bytes.ends_with(&[0]) && bytes.len() < 100, "{bytes:?}");
            assert!(!datagram.starts_with(&[0, 5]), "an ERROR is answered");
            None
        }
        Opening::Ignore => None,
    }
}

// === impl World ===

impl World {
    fn new(request: &Request, datagram: &[u8], size: u64, mtu: u32) -> Self {
        let limits = Limits::for_mtu(mtu);
        assert!(limits.window <= MAX_WINDOW);
        let peer = SocketAddrV6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9), 2000, 0, 3);
        Self {
            transfer: Transfer::new(peer, request, size, &limits, epoch()),
            peer,
            now: epoch(),
            size,
            longest: usize::try_from(mtu.max(1280)).unwrap() - 40 - 8,
            asked: String::from_utf8_lossy(datagram).to_ascii_lowercase(),
            block: 512,
            window: 1,
            acknowledged: 0,
            sent: 0,
            outcome: None,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.octet() % 8 {
            0 => self.receive(self.peer, input.blob()),
            1 => {
                let from = SocketAddrV6::new(*self.peer.ip(), 2001, 0, 3);
                self.receive(from, input.blob());
            }
            2 | 3 => self.acknowledge(u64::from(input.short())),
            4 | 5 => self.acknowledge(self.sent.saturating_sub(u64::from(input.octet() % 4))),
            6 => self.pass(time(input)),
            _ => self.pass_to_deadline(),
        }
    }

    fn acknowledge(&mut self, block: u64) {
        let [.., high, low] = block.to_be_bytes();
        self.receive(self.peer, &[0, 4, high, low]);
    }

    fn receive(&mut self, from: SocketAddrV6, packet: &[u8]) {
        self.transfer.handle_datagram(from, packet, self.now);
    }

    fn pass_to_deadline(&mut self) {
        if let Some(at) = self.transfer.next_deadline() {
            self.pass(at.saturating_duration_since(self.now));
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.transfer.handle_timeout(self.now);
        assert!(self.transfer.next_deadline().is_none_or(|at| at > self.now), "a deadline that has passed");
    }

    fn pump(&mut self) {
        let mut data = 0;
        while let Some(output) = self.transfer.poll_effect() {
            match output {
                Output::Send { to, bytes } => {
                    assert!(bytes.len() <= self.longest, "{} octets", bytes.len());
                    match &bytes[..2] {
                        [0, 5] => {
                            assert!(to != self.peer || self.outcome.is_none(), "the end was told before")
                        }
                        [0, 6] => self.offered(to, &bytes[2..]),
                        other => panic!("{other:?} is sent"),
                    }
                }
                Output::Data(burst) => {
                    data += 1;
                    self.judge(&burst);
                }
                Output::Finished(outcome) => {
                    assert!(self.outcome.is_none(), "two ends");
                    if outcome == Outcome::Complete {
                        let last = self.size / u64::from(self.block) + 1;
                        assert_eq!(self.sent, last, "it was not sent to its end");
                    }
                    self.outcome = Some(outcome);
                }
            }
        }
        assert!(data <= 1, "{data} bursts for one packet");
        let acknowledged = self.transfer.acknowledged();
        assert!((self.acknowledged..=self.size).contains(&acknowledged), "{acknowledged} octets");
        match &self.outcome {
            None => {}
            Some(Outcome::Complete) => assert_eq!(acknowledged, self.size),
            Some(Outcome::Aborted { .. }) => assert_eq!(acknowledged, self.acknowledged, "said by giving up"),
            Some(Outcome::TimedOut { acknowledged: told }) => {
                assert_eq!(acknowledged, (*told).min(self.size))
            }
        }
        self.acknowledged = acknowledged;
        assert_eq!(
            self.transfer.next_deadline().is_none(),
            self.outcome.is_some(),
            "neither ended nor waiting"
        );
    }

    /// What is agreed on was asked for, and is no more than that.
    fn offered(&mut self, to: SocketAddrV6, options: &[u8]) {
        assert_eq!((to, self.sent), (self.peer, 0));
        let text = str::from_utf8(options).unwrap();
        let words: Vec<&str> = text.strip_suffix('\0').unwrap().split('\0').collect();
        for option in words.chunks(2) {
            let [name, value] = *option else { panic!("{words:?}") };
            let value: u64 = value.parse().unwrap();
            assert!(self.asked.contains(&format!("\0{name}\0")), "{name} was not asked for");
            match name {
                "blksize" => {
                    assert!(value >= 8 && usize::try_from(value).unwrap() + 4 <= self.longest, "{value}");
                    self.block = u16::try_from(value).unwrap();
                }
                "windowsize" => {
                    assert!((1..=u64::from(MAX_WINDOW)).contains(&value), "{value}");
                    self.window = u16::try_from(value).unwrap();
                }
                "timeout" => assert!((1..=255).contains(&value), "{value}"),
                "tsize" => assert_eq!(value, self.size),
                other => panic!("{other} is agreed on"),
            }
        }
    }

    /// Blocks of the file, behind what was acknowledged, no more than a window.
    fn judge(&mut self, burst: &Burst) {
        let Burst { first, offset, len, block, blocks } = *burst;
        assert!(self.outcome.is_none(), "a block behind the end");
        assert_eq!(block, self.block);
        assert!((1..=self.window).contains(&blocks), "{burst:?}, and the window is {}", self.window);
        assert_eq!(offset, (first - 1) * u64::from(block));
        let end = offset + u64::try_from(len).unwrap();
        assert!(end <= self.size, "{burst:?} of a file of {}", self.size);
        let last = first + u64::from(blocks) - 1;
        assert!(last >= self.sent, "{burst:?} behind block {}", self.sent);
        assert!(end == self.size || len == usize::from(block) * usize::from(blocks), "{burst:?} has a hole");
        assert!(last <= self.size / u64::from(block) + 1, "{burst:?} is behind the file's end");
        self.sent = last;
        if self.size <= SMALL {
            self.frame(burst);
        }
    }

    fn frame(&self, burst: &Burst) {
        let from = usize::try_from(burst.offset).unwrap();
        let content: Vec<u8> = (from..from + burst.len).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let framed = burst.frame(&content);
        let packets: Vec<&[u8]> = framed.chunks(burst.segment()).collect();
        assert_eq!(packets.len(), usize::from(burst.blocks));
        let mut rest = content.as_slice();
        for (packet, number) in packets.into_iter().zip(burst.first..) {
            let [.., high, low] = number.to_be_bytes();
            let (header, data) = packet.split_at(4);
            assert_eq!(header, [0, 3, high, low]);
            assert!(packet.len() <= self.longest);
            rest = rest.strip_prefix(data).expect("the file's octets in their order");
        }
        assert!(rest.is_empty());
    }

    /// A client that says nothing any more is given up.
    fn fall_silent(&mut self) {
        let begun = self.now;
        for _ in 0..=MAX_RETRANSMITS {
            self.pass_to_deadline();
            self.pump();
        }
        assert!(self.outcome.is_some(), "it is waited for without end");
        assert!(self.now - begun <= PATIENCE, "it is waited for {:?}", self.now - begun);
    }
}
