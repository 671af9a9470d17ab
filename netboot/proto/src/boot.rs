//! Who asks decides what is booted, and how it is fetched.

use std::fmt;
use std::net::Ipv6Addr;

use crate::arch::{Arch, Firmware};
use crate::wire::dhcp6::VendorClass;

/// What UEFI's HTTP boot calls itself, and wants to hear back `[UEFI 2.10 § 24.7]`.
pub const HTTP_CLIENT: &[u8] = b"HTTPClient";
/// What UEFI's network boot by TFTP calls itself. It is never sent back: EDK2 takes that for a boot server
/// discovery and asks on port 4011.
pub const PXE_CLIENT: &[u8] = b"PXEClient";
/// The user class of iPXE.
pub const IPXE: &[u8] = b"iPXE";

/// The name of a boot file, safe inside a URL and a path: 1 to 64 of letters, digits, `.`, `-` and `_`, and
/// no dot first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(String);

/// A text that cannot be a boot file's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be a boot file's name: 1 to 64 letters, digits, `.`, `-` and `_`, no dot first")]
pub struct FileNameError(String);

/// Which boot files there are, and how they are fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// The one for [`Arch::X64`].
    pub x64: Option<FileName>,
    /// The one for [`Arch::Arm64`].
    pub arm64: Option<FileName>,
    /// How firmware that boots by HTTP fetches them.
    pub http_boot: HttpBoot,
}

/// How firmware that boots by HTTP fetches its file. It is never told to do it by another way than the operator wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HttpBoot {
    /// By `http`.
    #[default]
    Plain,
    /// By `https`.
    Secure,
    /// By `https`, but this machine has no certificate to show yet.
    Uncertified,
}

/// What a DHCPv6 client says of itself that matters for booting.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// Whether it asked for a boot file's URL at all.
    pub asked: bool,
    /// The architectures that it can boot, its favourite first.
    pub architectures: &'a [u16],
    /// Its vendor classes.
    pub vendor_classes: &'a [VendorClass],
    /// Its user classes.
    pub user_classes: &'a [Vec<u8>],
}

/// What a client is told to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It did not ask.
    NotAsked,
    /// This.
    Offer(Offer),
    /// Nothing: it is given its address only.
    Refuse(BootRefusal),
}

/// A boot file on offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Where it is.
    pub url: String,
    /// The architecture that it is for, as the client numbers it.
    pub number: u16,
    /// The enterprise number of the HTTP boot client that wants its vendor class back.
    pub echo: Option<u32>,
    /// By what it was told how the client fetches.
    pub sign: Sign,
}

/// By what a client is told to fetch by HTTP or by TFTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Its vendor class is [`HTTP_CLIENT`].
    HttpClient,
    /// Its user class is [`IPXE`].
    Ipxe,
    /// Its vendor class is [`PXE_CLIENT`].
    PxeClient,
    /// No class says so, but its architecture's number does.
    Number(Firmware),
}

/// Why a client that asked for a boot file is offered none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BootRefusal {
    /// It does not say what it is.
    #[error("it asks for a boot file and names no architecture")]
    NoArchitecture,
    /// No boot files are made for what it is.
    #[error("there are no boot files for architecture number {0}")]
    UnknownArchitecture(u16),
    /// There could be one, but there is none here.
    #[error("there is no boot file for {arch} (architecture number {number}) here")]
    NoFile {
        /// The architecture.
        arch: Arch,
        /// As the client numbers it.
        number: u16,
    },
    /// It is to fetch by HTTPS, and there is no certificate for that yet.
    #[error("it is to boot by HTTPS (netboot.https), and this machine has no certificate for that yet")]
    NoCertificate,
}

/// Decides what the client at the far end of a link boots.
///
/// The host of the URL is the link's near address: EDK2 takes its own address for one on a /64, so it would look
/// for any other address of the machine's block on the cable itself.
#[must_use]
pub fn decide(asker: &Asker<'_>, near: Ipv6Addr, catalogue: &Catalogue) -> Decision {
    if !asker.asked {
        return Decision::NotAsked;
    }
    let Some(first) = asker.architectures.first().copied() else {
        return Decision::Refuse(BootRefusal::NoArchitecture);
    };
    let known = || {
        asker.architectures.iter().filter_map(|number| {
            let (arch, firmware) = Arch::from_number(*number)?;
            Some((*number, arch, firmware))
        })
    };
    let found = known().find_map(|(number, arch, firmware)| {
        let file = catalogue.file(arch)?;
        Some((number, firmware, file))
    });
    let Some((number, firmware, file)) = found else {
        return Decision::Refuse(match known().next() {
            Some((number, arch, _)) => BootRefusal::NoFile { arch, number },
            None => BootRefusal::UnknownArchitecture(first),
        });
    };
    let class = |name: &[u8]| {
        let mut classes = asker.vendor_classes.iter();
        classes.find(|class| class.data.iter().any(|data| data.starts_with(name)))
    };
    let http = class(HTTP_CLIENT);
    let is_ipxe = asker.user_classes.iter().any(|class| class == IPXE);
    // The class says how the client fetches; the number is believed where no class does.
    let sign = if http.is_some() {
        Sign::HttpClient
    } else if is_ipxe {
        Sign::Ipxe
    } else if class(PXE_CLIENT).is_some() {
        Sign::PxeClient
    } else {
        Sign::Number(firmware)
    };
    let url = match (sign, sign.fetches(), catalogue.http_boot) {
        (_, Firmware::Pxe, _) => format!("tftp://[{near}]/{file}"),
        // It trusts authorities of its own, not those that are enrolled in the firmware below it.
        (Sign::Ipxe, ..) | (_, Firmware::Http, HttpBoot::Plain) => format!("http://[{near}]/boot/{file}"),
        (_, Firmware::Http, HttpBoot::Secure) => format!("https://[{near}]/boot/{file}"),
        (_, Firmware::Http, HttpBoot::Uncertified) => return Decision::Refuse(BootRefusal::NoCertificate),
    };
    Decision::Offer(Offer { url, number, echo: http.map(|class| class.enterprise), sign })
}

// === impl Sign ===

impl Sign {
    /// How the client fetches.
    #[must_use]
    pub fn fetches(self) -> Firmware {
        match self {
            Self::HttpClient | Self::Ipxe => Firmware::Http,
            Self::PxeClient => Firmware::Pxe,
            Self::Number(firmware) => firmware,
        }
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HttpClient => "by HTTP, because its vendor class (option 16) is HTTPClient",
            Self::Ipxe => "by HTTP, because its user class (option 15) is iPXE",
            Self::PxeClient => "by TFTP, because its vendor class (option 16) is PXEClient",
            Self::Number(Firmware::Http) => "by HTTP, because its architecture's number (option 61) says so",
            Self::Number(Firmware::Pxe) => "by TFTP, because its architecture's number (option 61) says so",
        })
    }
}

// === impl FileName ===

impl FileName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FileName {
    type Error = FileNameError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let allowed = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_');
        let good = (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed);
        if good { Ok(Self(name)) } else { Err(FileNameError(name)) }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Catalogue ===

impl Catalogue {
    /// The boot file for an architecture.
    #[must_use]
    pub fn file(&self, arch: Arch) -> Option<&FileName> {
        match arch {
            Arch::X64 => self.x64.as_ref(),
            Arch::Arm64 => self.arm64.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests;
