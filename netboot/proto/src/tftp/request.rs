//! What a client may ask for, and what it gets.

use std::time::Duration;

use bytes::Bytes;

use crate::wire::tftp::{ErrorCode, Packet, ReadRequest, error};

/// The smallest and the largest block that may be agreed on `[RFC 2348]`.
const MIN_BLOCK: u16 = 8;
const MAX_BLOCK: u16 = 65464;
/// Every link of IPv6 has as much `[RFC 8200 § 5]`.
const MIN_MTU: u32 = 1280;
/// IPv6, UDP and TFTP headers.
const HEADERS: u32 = 40 + 8 + 4;
/// The longest path that is looked at.
const MAX_PATH: usize = 255;

/// What the server allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest block.
    pub block: u16,
    /// The largest window, in blocks.
    pub window: u16,
}

/// What a datagram to port 69 opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// A transfer, if there is such a file.
    Serve(Request),
    /// Nothing, and the client is told why.
    Refuse {
        /// The ERROR packet.
        bytes: Bytes,
        /// Why.
        reason: &'static str,
    },
    /// Nothing: it is an ERROR, and nobody is told of it.
    Ignore,
}

/// A read request that may be served.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// The file, without a slash in front.
    pub path: String,
    options: Vec<(String, String)>,
}

/// What both sides agreed on.
#[derive(Debug, Default)]
pub(super) struct Agreed {
    pub(super) block: Option<u16>,
    pub(super) window: Option<u16>,
    pub(super) timeout: Option<Duration>,
    pub(super) options: Vec<(&'static str, u64)>,
}

// === impl Limits ===

impl Limits {
    /// Sent without an acknowledgement, so also what a lost packet costs.
    pub const DEFAULT_WINDOW: u16 = 64;

    /// The limits on a link of this MTU: the largest block whose packet is not cut.
    #[must_use]
    pub fn for_mtu(mtu: u32) -> Self {
        let fits = u16::try_from(mtu.max(MIN_MTU) - HEADERS).unwrap_or(MAX_BLOCK);
        Self { block: fits.min(MAX_BLOCK), window: Self::DEFAULT_WINDOW }
    }
}

/// Reads a datagram that came to port 69.
#[must_use]
pub fn open(bytes: &[u8]) -> Opening {
    let refuse = |code, reason| Opening::Refuse { bytes: error(code, reason), reason };
    match Packet::parse(bytes) {
        Packet::Read(ReadRequest { mode, .. }) if mode != "octet" => {
            refuse(ErrorCode::IllegalOperation, "only mode octet is served")
        }
        Packet::Read(request) => match normalise(&request.file) {
            Some(path) => Opening::Serve(Request { path, options: request.options }),
            None => refuse(ErrorCode::AccessViolation, "not a path of a boot file"),
        },
        Packet::Write => refuse(ErrorCode::AccessViolation, "nothing can be written here"),
        Packet::Ack(_) | Packet::Unexpected(_) => refuse(ErrorCode::UnknownTransfer, "unknown transfer"),
        Packet::Malformed => refuse(ErrorCode::IllegalOperation, "not a request of TFTP"),
        // An ERROR is never answered.
        Packet::Error { .. } => Opening::Ignore,
    }
}

/// A path inside the catalogue: no step up, no empty name, nothing that a shell or a terminal reads.
fn normalise(file: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_graphic() && c != '\\';
    if file.len() > MAX_PATH || !file.chars().all(plain) {
        return None;
    }
    let steps: Vec<&str> = file.split('/').filter(|step| !step.is_empty() && *step != ".").collect();
    let inside = !steps.is_empty() && !steps.contains(&"..");
    inside.then(|| steps.join("/"))
}

// === impl Request ===

impl Request {
    /// Agrees on options: those that are known and make sense, capped; the others are passed over in silence
    /// `[RFC 2347]`.
    pub(super) fn negotiate(&self, limits: &Limits, size: u64) -> Agreed {
        let mut agreed = Agreed::default();
        for (name, value) in &self.options {
            // Digits and nothing else: `parse` takes a sign as well.
            let digits = value.bytes().all(|octet| octet.is_ascii_digit());
            let Some(value) = value.parse::<u64>().ok().filter(|_| digits) else { continue };
            match name.as_str() {
                "blksize" if (MIN_BLOCK.into()..=MAX_BLOCK.into()).contains(&value) => {
                    let block = u16::try_from(value).unwrap_or(u16::MAX).min(limits.block);
                    agreed.block = Some(block);
                    agreed.options.push(("blksize", u64::from(block)));
                }
                "windowsize" if (1..=65535).contains(&value) => {
                    let window = u16::try_from(value).unwrap_or(u16::MAX).min(limits.window);
                    agreed.window = Some(window);
                    agreed.options.push(("windowsize", u64::from(window)));
                }
                "timeout" if (1..=255).contains(&value) => {
                    agreed.timeout = Some(Duration::from_secs(value));
                    agreed.options.push(("timeout", value));
                }
                "tsize" => agreed.options.push(("tsize", size)),
                _ => {}
            }
        }
        agreed
    }
}
