//! What is served, on behalf of the caller.

use std::fmt;
use std::future::Future;
use std::net::SocketAddrV6;
use std::path::PathBuf;
use std::str::FromStr;

use bytes::Bytes;
use mesh::{LinkId, Mac};
use netboot_proto::dhcp6::Client;
use netboot_proto::{Arch, FileName};
use uuid::Uuid;

/// The digest that names an artefact.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

/// A text that is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sha256 is 64 lower-case hexadecimal digits")]
pub struct Sha256Error;

/// A file to serve. It must not change as long as it is on offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentFile {
    /// Its name in URLs.
    pub name: FileName,
    /// Where it is.
    pub path: PathBuf,
    /// Its digest.
    pub sha256: Sha256,
    /// Its size in octets.
    pub size: u64,
}

/// A machine's request for its configuration, and what the port that it came in on says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnitionRequest {
    /// The link.
    pub link: LinkId,
    /// The near port's name.
    pub near_port: String,
    /// The address that asks: the link's far end, or link-local.
    pub peer: SocketAddrV6,
    /// The Ethernet address that asks.
    pub far_mac: Mac,
    /// The SMBIOS UUID that the machine says it has.
    pub uuid: Option<Uuid>,
    /// The Ethernet ports that it says it has, by their kernel's names.
    pub ports: Vec<(String, Mac)>,
    /// The images that it says it was started from.
    pub image: Option<String>,
}

/// How a refused request shall go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalStatus {
    /// Ask again in a moment: 503.
    NotReady,
    /// Never: 403.
    Forbidden,
    /// Not as long as the ledger says otherwise, or as the machine is as it is: 409. It starts over from its firmware.
    Conflict,
}

/// Why a configuration is not handed out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct IgnitionRefusal {
    /// Whether to ask again.
    pub status: RefusalStatus,
    /// The reason; shown to the machine, in the log and in the status.
    pub reason: String,
}

/// The files and configurations of one machine.
pub trait Content: Send + Sync + 'static {
    /// The boot file for a machine of an architecture. It is asked for again and again and should answer from memory.
    fn boot_file(&self, arch: Arch, client: &Client) -> Option<ContentFile>;

    /// Any machine's boot file, by its name in URLs.
    fn boot_file_named(&self, name: &str) -> Option<ContentFile>;

    /// An artefact.
    fn artefact(&self, sha256: Sha256) -> Option<ContentFile>;

    /// The configuration of the machine that asks. What it promises must be durable when this returns. The future
    /// is dropped if the machine goes away or it takes too long, and the machine asks again.
    fn ignition(
        &self,
        request: IgnitionRequest,
    ) -> impl Future<Output = Result<Bytes, IgnitionRefusal>> + Send;
}

// === impl Sha256 ===

impl FromStr for Sha256 {
    type Err = Sha256Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| Sha256Error)?;
        let mut octets = [0; 32];
        for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else { return Err(Sha256Error) };
            *octet = nibble(*high)? << 4 | nibble(*low)?;
        }
        Ok(Self(octets))
    }
}

fn nibble(digit: u8) -> Result<u8, Sha256Error> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(Sha256Error),
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl RefusalStatus ===

impl RefusalStatus {
    /// The HTTP status.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::NotReady => 503,
            Self::Forbidden => 403,
            Self::Conflict => 409,
        }
    }
}
