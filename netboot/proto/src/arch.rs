//! Processor architectures as firmware names them.

use std::fmt;

/// An architecture that boot files are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X64,
    /// 64-bit ARM.
    Arm64,
}

/// How firmware fetches what it boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Firmware {
    /// By TFTP.
    Pxe,
    /// By HTTP.
    Http,
}

// === impl Arch ===

impl Arch {
    /// Every architecture.
    pub const ALL: [Self; 2] = [Self::X64, Self::Arm64];

    /// What a number of IANA's registry "Processor Architecture Types" stands for, if boot files are made for
    /// it.
    ///
    /// 9 is EBC in the registry, but firmware that followed `[RFC 4578 § 2.1]` before its erratum says it for
    /// x64.
    #[must_use]
    pub fn from_number(number: u16) -> Option<(Self, Firmware)> {
        match number {
            7 | 9 => Some((Self::X64, Firmware::Pxe)),
            11 => Some((Self::Arm64, Firmware::Pxe)),
            16 => Some((Self::X64, Firmware::Http)),
            19 => Some((Self::Arm64, Firmware::Http)),
            _ => None,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X64 => "x64",
            Self::Arm64 => "arm64",
        })
    }
}
