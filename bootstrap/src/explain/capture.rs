//! Recorded packets, out of a file of tcpdump's or Wireshark's: pcap or pcapng.

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use netboot_proto::wire::frame::Framing;
use pcap_parser::{Block, InterfaceDescriptionBlock, Linktype, PcapBlockOwned, PcapError, create_reader};

/// The largest record of a file: more than any link's largest packet, and what a reader holds in memory.
const MAX_RECORD: usize = 1 << 20;
/// The lower half of the field says what the link is; the upper one, how long its checksum is.
const LINK_TYPE: i32 = 0xffff;
const NANOS: u64 = 1_000_000_000;

/// A recorded packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// When, since 1970.
    pub at: Duration,
    /// What stands in front of its IPv6 header.
    pub framing: Framing,
    /// Its octets.
    pub bytes: Vec<u8>,
    /// How many octets were not recorded.
    pub missing: u32,
}

/// Why a file's packets cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The operating system refused.
    #[error("cannot read it")]
    Read(#[source] io::Error),
    /// It is something else.
    #[error("it is no recording: neither pcap nor pcapng")]
    Foreign,
    /// It ends in the middle.
    #[error("it is truncated: it ends in the middle of a record, after {0} whole packets")]
    Truncated(usize),
    /// A record makes no sense.
    #[error("it is damaged behind {0} packets: a record makes no sense")]
    Damaged(usize),
    /// A record is larger than any packet.
    #[error("it is damaged behind {0} packets: a record is larger than {MAX_RECORD} octets")]
    Large(usize),
    /// The packets are of another kind of link.
    #[error("it was recorded on a link of type {0}, and Ethernet is what can be read")]
    LinkType(String),
}

/// An interface of a pcapng file, or the only one of a pcap file.
#[derive(Debug, Clone, Copy)]
struct Interface {
    /// None if it is no Ethernet; that is a mistake only once it has packets.
    framing: Result<Framing, Linktype>,
    /// Units in a second.
    resolution: u64,
    /// Seconds to add.
    offset: i64,
}

/// Reads every packet of a file and hands it on.
///
/// # Errors
///
/// See [`CaptureError`]; packets in front of the mistake were handed on.
pub fn read(file: File, mut each: impl FnMut(Recorded)) -> Result<(), CaptureError> {
    // The reader keeps the kernel's reason to itself.
    let mut failure = None;
    let watched = Watched { file, failure: &mut failure };
    let result = read_from(watched, &mut each);
    match failure {
        Some(error) => Err(CaptureError::Read(error)),
        None => result,
    }
}

fn read_from(source: impl Read + Send, each: &mut impl FnMut(Recorded)) -> Result<(), CaptureError> {
    let mut reader = create_reader(MAX_RECORD, source).map_err(|_| CaptureError::Foreign)?;
    let mut interfaces = Vec::new();
    let mut count = 0;
    let mut last = Duration::ZERO;
    loop {
        match reader.next() {
            Ok((len, block)) => {
                if let Some(packet) = take(&block, &mut interfaces, last, count)? {
                    (last, count) = (packet.at, count + 1);
                    each(packet);
                }
                reader.consume(len);
            }
            Err(PcapError::Eof) => return Ok(()),
            Err(PcapError::Incomplete(_)) => {
                let had = reader.data().len();
                reader.refill().map_err(|_| CaptureError::Truncated(count))?;
                // No room for more of it, and it is not whole.
                if reader.data().len() == had && !reader.reader_exhausted() {
                    return Err(CaptureError::Large(count));
                }
            }
            Err(PcapError::UnexpectedEof) => return Err(CaptureError::Truncated(count)),
            Err(PcapError::BufferTooSmall) => return Err(CaptureError::Large(count)),
            Err(
                PcapError::ReadError
                | PcapError::HeaderNotRecognized
                | PcapError::NomError(..)
                | PcapError::OwnedNomError(..),
            ) => return Err(CaptureError::Damaged(count)),
        }
    }
}

fn take(
    block: &PcapBlockOwned<'_>,
    interfaces: &mut Vec<Interface>,
    last: Duration,
    count: usize,
) -> Result<Option<Recorded>, CaptureError> {
    let of = |number: u32| {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        interfaces.get(at).copied().ok_or(CaptureError::Damaged(count))
    };
    let packet = match block {
        PcapBlockOwned::LegacyHeader(header) => {
            let resolution = if header.is_nanosecond_precision() { NANOS } else { 1_000_000 };
            let framing = framing(Linktype(header.network.0 & LINK_TYPE));
            interfaces.push(Interface { framing, resolution, offset: 0 });
            return Ok(None);
        }
        PcapBlockOwned::Legacy(packet) => {
            let interface = of(0)?;
            let fraction = u64::from(packet.ts_usec).saturating_mul(NANOS / interface.resolution);
            let at = Duration::from_secs(packet.ts_sec.into()) + Duration::from_nanos(fraction);
            interface.recorded(at, packet.data, packet.caplen, packet.origlen)?
        }
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            interfaces.clear();
            return Ok(None);
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(block)) => {
            interfaces.push(Interface::of(block).ok_or(CaptureError::Damaged(count))?);
            return Ok(None);
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            let interface = of(packet.if_id)?;
            let at = interface.time(u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low));
            interface.recorded(at, packet.data, packet.caplen, packet.origlen)?
        }
        // It has no time of its own, and no length but the original one.
        PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
            let len = u32::try_from(packet.data.len()).unwrap_or(u32::MAX);
            of(0)?.recorded(last, packet.data, len.min(packet.origlen), packet.origlen)?
        }
        PcapBlockOwned::NG(_) => return Ok(None),
    };
    Ok(Some(packet))
}

fn framing(kind: Linktype) -> Result<Framing, Linktype> {
    match kind {
        Linktype::ETHERNET => Ok(Framing::Ethernet),
        Linktype::LINUX_SLL => Ok(Framing::Cooked),
        Linktype::LINUX_SLL2 => Ok(Framing::Cooked2),
        Linktype::RAW | Linktype::IPV6 => Ok(Framing::Bare),
        other => Err(other),
    }
}

// === impl Interface ===

impl Interface {
    /// None if its clock has a resolution that cannot be.
    fn of(block: &InterfaceDescriptionBlock<'_>) -> Option<Self> {
        let power = u32::from(block.if_tsresol & 0x7f);
        let base: u64 = if block.if_tsresol & 0x80 == 0 { 10 } else { 2 };
        let resolution = base.checked_pow(power)?;
        let framing = framing(Linktype(block.linktype.0 & LINK_TYPE));
        Some(Self { framing, resolution, offset: block.if_tsoffset })
    }

    fn time(&self, units: u64) -> Duration {
        let seconds = (units / self.resolution).saturating_add_signed(self.offset);
        let nanos = u128::from(units % self.resolution) * u128::from(NANOS) / u128::from(self.resolution);
        Duration::from_secs(seconds).saturating_add(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
    }

    fn recorded(&self, at: Duration, data: &[u8], kept: u32, whole: u32) -> Result<Recorded, CaptureError> {
        let framing = self.framing.map_err(|kind| CaptureError::LinkType(kind.to_string()))?;
        // Behind the packet there may be padding.
        let kept = usize::try_from(kept).unwrap_or(usize::MAX).min(data.len());
        let bytes = data.get(..kept).unwrap_or(data).to_vec();
        let missing = whole.saturating_sub(u32::try_from(kept).unwrap_or(u32::MAX));
        Ok(Recorded { at, framing, bytes, missing })
    }
}

/// A file that remembers why it could not be read.
struct Watched<'a> {
    file: File,
    failure: &'a mut Option<io::Error>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer).map_err(|error| {
            let kind = error.kind();
            *self.failure = Some(error);
            io::Error::from(kind)
        })
    }
}

#[cfg(test)]
mod tests;
