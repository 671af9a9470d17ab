//! A version of Kubernetes.

use std::{fmt, str::FromStr};

/// Such as `v1.34.2` or `v1.35.0-rc.1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 1.
    pub major: u32,
    /// What people call the version: it decides which of kubeadm's APIs is spoken.
    pub minor: u32,
    /// Repairs.
    pub patch: u32,
    /// `rc.1`; empty for a release.
    pub pre: String,
}

/// Why a text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no version of Kubernetes: expected something like v1.34.2")]
pub struct ParseVersionError(String);

// === impl Version ===

impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseVersionError(text.to_owned());
        let rest = text.strip_prefix('v').ok_or_else(bad)?;
        let (numbers, pre) = match rest.split_once('-') {
            Some((numbers, pre)) => (numbers, Some(pre)),
            None => (rest, None),
        };
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
        if pre.is_some_and(|pre| pre.is_empty() || pre.contains("..") || !pre.bytes().all(letter)) {
            return Err(bad());
        }
        let number = |text: &str| {
            let plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()));
            if plain { text.parse::<u32>().ok() } else { None }
        };
        match numbers.split('.').map(number).collect::<Vec<_>>().as_slice() {
            [Some(major), Some(minor), Some(patch)] => Ok(Self {
                major: *major,
                minor: *minor,
                patch: *patch,
                pre: pre.unwrap_or_default().to_owned(),
            }),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)?;
        if self.pre.is_empty() { Ok(()) } else { write!(f, "-{}", self.pre) }
    }
}
