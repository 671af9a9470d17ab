//! The files that every server serves: the same ones, by their names and by their digests.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The boot file's name, everywhere.
pub(crate) const BOOT_NAME: &str = "node-x64.efi";
const MIB: u64 = 1 << 20;

/// One file.
#[derive(Debug)]
pub(crate) struct File {
    /// Where it is by its name.
    pub(crate) path: PathBuf,
    /// Its digest in hexadecimal digits.
    pub(crate) sha256: String,
    /// Its size in octets.
    pub(crate) size: u64,
}

/// All files.
#[derive(Debug)]
pub(crate) struct Content {
    /// The folder with the names.
    pub(crate) names: PathBuf,
    /// The folder with the digests: the same files.
    pub(crate) artefacts: PathBuf,
    /// What firmware loads, by TFTP.
    pub(crate) boot: File,
    /// What the initrd fetches, by HTTP.
    pub(crate) root: File,
    /// Something small, whose requests cost more than its octets.
    pub(crate) small: File,
}

// === impl File ===

impl File {
    /// Reads it once, so that the page cache has it whoever is asked first: kernels take back what nobody wanted for some
    /// minutes.
    pub(crate) fn warm(&self) -> Result<()> {
        let mut file = fs::File::open(&self.path)?;
        let read = io::copy(&mut file, &mut io::sink());
        read.map(drop).with_context(|| format!("cannot read {}", self.path.display()))
    }
}

// === impl Content ===

impl Content {
    /// Makes the files.
    pub(crate) fn make(folder: &Path, boot_mib: u64, root_mib: u64) -> Result<Self> {
        let (names, artefacts) = (folder.join("names"), folder.join("artefacts"));
        fs::create_dir_all(&names)?;
        fs::create_dir_all(&artefacts)?;
        let make = |name: &str, size| make(&names.join(name), &artefacts, size);
        let boot = make(BOOT_NAME, boot_mib * MIB + 700)?;
        let root = make("root", root_mib * MIB)?;
        let small = make("small", 1000)?;
        Ok(Self { names, artefacts, boot, root, small })
    }
}

/// Octets that tell where they belong, so that no two blocks are the same: Marsaglia's xorshift.
#[derive(Debug)]
pub(crate) struct Octets(u64);

impl Octets {
    /// A row of them; another seed gives another row.
    pub(crate) const fn of(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next ones. What does not fill the last eight is dropped.
    pub(crate) fn next(&mut self, len: usize) -> Vec<u8> {
        let mut octets = Vec::with_capacity(len + 8);
        while octets.len() < len {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            octets.extend(self.0.to_le_bytes());
        }
        octets.truncate(len);
        octets
    }
}

fn make(path: &Path, artefacts: &Path, size: u64) -> Result<File> {
    let what = || format!("cannot write {}", path.display());
    let mut file = fs::File::create(path).with_context(what)?;
    let mut digest = Sha256::new();
    let mut octets = Octets::of(size);
    let mut left = usize::try_from(size)?;
    while left > 0 {
        let piece = octets.next(left.min(1 << 20));
        digest.update(&piece);
        file.write_all(&piece).with_context(what)?;
        left -= piece.len();
    }
    // What waits to be written would be written during the measurements.
    file.sync_all().with_context(what)?;
    let sha256 = hex::encode(digest.finalize());
    fs::hard_link(path, artefacts.join(&sha256)).with_context(what)?;
    Ok(File { path: path.to_owned(), sha256, size })
}
