//! The name of a blob: the sha256 of its bytes.

use std::{fmt, fs::File, io, io::Read, path::Path, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// The only algorithm that the store keeps; `sha512` is allowed by the OCI image specification, and unused.
const ALGORITHM: &str = "sha256";

/// How much of a file is hashed at once.
const CHUNK: usize = 256 * 1024;

/// A sha256 digest, written `sha256:<64 hex digits>` where OCI writes it and as bare hex digits in file names
/// and on the kernel's command line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    /// There is no `algorithm:` before the hex digits.
    #[error("`{0}` is no digest: expected sha256:<64 hex digits>")]
    NoAlgorithm(String),
    /// Another algorithm than sha256.
    #[error("the digest `{0}` is of an algorithm other than sha256")]
    Algorithm(String),
    /// Not 64 lower-case hex digits.
    #[error("`{0}` is no sha256: expected 64 lower-case hex digits")]
    Hex(String),
}

/// Hashes what is written into it.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Sha256);

// === impl Digest ===

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes.as_ref());
        hasher.finish()
    }

    /// The digest of all that a reader gives, and its length.
    ///
    /// # Errors
    ///
    /// What the reader fails with.
    pub fn of_reader(mut reader: impl Read) -> io::Result<(Self, u64)> {
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; CHUNK];
        let mut length: u64 = 0;
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => return Ok((hasher.finish(), length)),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            hasher.update(&buffer[..count]);
            length += count as u64;
        }
    }

    /// The digest of a file, and its length.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn of_file(path: &Path) -> io::Result<(Self, u64)> {
        Self::of_reader(File::open(path)?)
    }

    /// Parses bare hex digits.
    ///
    /// # Errors
    ///
    /// [`ParseDigestError::Hex`].
    pub fn from_hex(text: &str) -> Result<Self, ParseDigestError> {
        let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mut bytes = [0; 32];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) if lower => Ok(Self(bytes)),
            _ => Err(ParseDigestError::Hex(text.to_owned())),
        }
    }

    /// The bare hex digits.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some((ALGORITHM, digits)) => Self::from_hex(digits),
            Some(_) => Err(ParseDigestError::Algorithm(text.to_owned())),
            None => Err(ParseDigestError::NoAlgorithm(text.to_owned())),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

// === impl Hasher ===

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes added.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}
