//! Recorded packets, heard again one after the other at the times that they were recorded at.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use mesh::Mac;
use netboot_proto::wire::describe::Description;
use netboot_proto::wire::frame::{Frame, FrameError, Payload};
use schemars::JsonSchema;
use serde::Serialize;

use super::capture::Recorded;
use super::cores::{Cores, Happening};
use super::scene::{LinkView, Scene};
use super::verdict::{Verdict, indented};

/// A longer silence is cut to this: nothing is remembered for so long, and a clock that jumped may say years.
const MAX_SILENCE: Duration = Duration::from_secs(3600);
/// What was asked last is still answered.
const AFTERMATH: Duration = Duration::from_secs(4);

/// What a recording is explained to be.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Replay {
    /// The link that the packets are taken to have come from.
    pub link: LinkView,
    /// Whether that link is the example, and not one of a site.
    pub example: bool,
    /// What was heard and what happened, in order.
    pub entries: Vec<Entry>,
    /// How many frames of which other kind there were.
    pub passed_over: BTreeMap<String, usize>,
    /// How many advertisements would have gone out because their time had come.
    pub periodic_advertisements: usize,
}

/// One thing that was heard or happened.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Entry {
    /// A packet of a protocol that is served here.
    Packet {
        /// Its number in the file, from 1.
        number: usize,
        /// Seconds after the file's first packet.
        seconds: f64,
        /// The Ethernet address that sent it, where it was recorded.
        mac: Option<Mac>,
        /// Its source.
        from: Ipv6Addr,
        /// Where it went.
        to: Ipv6Addr,
        /// What it says.
        says: Description,
        /// What becomes of it.
        verdict: Verdict,
    },
    /// Something that is no answer to one packet.
    Happening {
        /// Seconds after the file's first packet.
        seconds: f64,
        /// What.
        happening: Happening,
    },
}

/// Hears packets.
#[derive(Debug)]
pub struct Player {
    scene: Scene,
    example: bool,
    playing: Option<Playing>,
    entries: Vec<Entry>,
    passed_over: BTreeMap<String, usize>,
    number: usize,
}

#[derive(Debug)]
struct Playing {
    cores: Cores,
    begun: Instant,
    now: Instant,
    recorded: Duration,
}

// === impl Player ===

impl Player {
    /// Nothing was heard on this link yet.
    #[must_use]
    pub fn new(scene: Scene, example: bool) -> Self {
        let (entries, passed_over) = (Vec::new(), BTreeMap::new());
        Self { scene, example, playing: None, entries, passed_over, number: 0 }
    }

    /// The next packet of the file.
    pub fn hear(&mut self, packet: &Recorded) {
        self.number += 1;
        let playing = self.playing.get_or_insert_with(|| {
            let now = Instant::now();
            let cores = Cores::new(self.scene.clone(), now);
            Playing { cores, begun: now, now, recorded: packet.at }
        });
        let gone = packet.at.saturating_sub(playing.recorded).min(MAX_SILENCE);
        playing.recorded = playing.recorded.max(packet.at);
        playing.now += gone;
        playing.cores.pass(playing.now);
        playing.tell(&mut self.entries);
        let frame = Frame::parse(packet.framing, &packet.bytes);
        let other = match &frame {
            Ok(frame) => match playing.cores.hear(frame, playing.now) {
                Some((says, verdict)) => {
                    let seconds = playing.seconds(playing.now);
                    let Frame { mac, source: from, destination: to, .. } = *frame;
                    let number = self.number;
                    self.entries.push(Entry::Packet { number, seconds, mac, from, to, says, verdict });
                    None
                }
                None => Some(kind_of(frame)),
            },
            Err(FrameError::Short) if packet.missing > 0 => {
                Some("cut short by the recording (tcpdump -s 0 keeps all of it)".to_owned())
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(other) = other {
            *self.passed_over.entry(other).or_default() += 1;
        }
        playing.tell(&mut self.entries);
    }

    /// What was heard.
    #[must_use]
    pub fn finish(mut self) -> Replay {
        let mut periodic_advertisements = 0;
        if let Some(mut playing) = self.playing {
            playing.cores.pass(playing.now + AFTERMATH);
            playing.tell(&mut self.entries);
            periodic_advertisements = playing.cores.periodic();
        }
        Replay {
            link: self.scene.view(),
            example: self.example,
            entries: self.entries,
            passed_over: self.passed_over,
            periodic_advertisements,
        }
    }
}

// === impl Playing ===

impl Playing {
    fn seconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.begun).as_secs_f64()
    }

    fn tell(&mut self, entries: &mut Vec<Entry>) {
        for (at, happening) in self.cores.take_happenings() {
            entries.push(Entry::Happening { seconds: self.seconds(at), happening });
        }
    }
}

fn kind_of(frame: &Frame<'_>) -> String {
    match frame.payload {
        Payload::Icmp6(bytes) => {
            format!("ICMPv6 type {}", bytes.first().copied().unwrap_or_default())
        }
        Payload::Udp { .. } => "UDP of other ports".to_owned(),
        Payload::Other(6) => "TCP".to_owned(),
        Payload::Other(protocol) => format!("IPv6 protocol {protocol}"),
    }
}

// === impl Replay ===

impl Replay {
    /// The explanation for people.
    #[must_use]
    pub fn text(&self) -> String {
        let example = if self.example {
            "The packets are heard as on this example link; --settings FILE takes a site's own.\n"
        } else {
            ""
        };
        let mut out = format!("{example}{}\n", self.link.text());
        let mut advertisement = None;
        for entry in &self.entries {
            // Writing to a String cannot fail.
            let _infallible = match entry {
                Entry::Packet { number, seconds, mac, from, to, says, verdict } => {
                    let mac = mac.map_or_else(String::new, |mac| format!(" ({mac})"));
                    writeln!(out, "\n+{seconds:.3} s  packet {number}: {from}{mac} to {to}")
                        .and_then(|()| writeln!(out, "{}", indented(&says.to_string(), 2)))
                        .and_then(|()| write!(out, "{}", verdict.text()))
                }
                Entry::Happening { seconds, happening: Happening::Judged { faults, serves } } => {
                    let word = if *serves { "is served" } else { "is not served any more" };
                    let faults =
                        if faults.is_empty() { "nothing is wrong with it".into() } else { faults.join("; ") };
                    writeln!(out, "\n+{seconds:.3} s  the link {word}: {faults}")
                }
                Entry::Happening { seconds, happening: Happening::Advertised { occasion, sent } } => {
                    let to = sent.to;
                    let known = advertisement.replace(&sent.says) == Some(&sent.says);
                    let says = if known { "the same as before".to_owned() } else { sent.says.to_string() };
                    writeln!(out, "\n+{seconds:.3} s  a router advertisement goes to {to}: {occasion}")
                        .and_then(|()| writeln!(out, "{}", indented(&says, 2)))
                }
            };
        }
        let _infallible = writeln!(out);
        if self.entries.iter().all(|entry| matches!(entry, Entry::Happening { .. })) {
            out.push_str("no packet of a protocol that is served here: router discovery, DHCPv6, TFTP\n");
        }
        for (kind, count) in &self.passed_over {
            let _infallible = writeln!(out, "passed over: {count} of {kind}");
        }
        if self.periodic_advertisements > 0 {
            let _infallible = writeln!(
                out,
                "besides, {} router advertisements would have gone out because their time had come",
                self.periodic_advertisements
            );
        }
        out
    }
}
