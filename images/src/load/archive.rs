//! The entries of an archive, by their paths in it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
};

use tar::EntryType;

use crate::decompress::decompress;
use crate::store::{Digest, Staged};

use super::{LoadErrorKind, MAX_JSON};

/// More than the largest image has, by far.
const MAX_ENTRIES: usize = 20_000;
/// How far links may lead to links.
const MAX_LINKS: usize = 8;

/// An archive that was read.
#[derive(Debug)]
pub(super) struct Archive<T> {
    entries: BTreeMap<String, T>,
    links: BTreeMap<String, String>,
}

/// The beginning of an entry, for those who only look.
#[derive(Debug)]
pub(super) struct Sniffed(Vec<u8>);

/// An entry whose bytes can be read again.
pub(super) trait Content {
    /// Its bytes, of which at most [`MAX_JSON`] are read.
    fn small(&self) -> Result<Vec<u8>, io::Error>;
}

// === impl Archive ===

impl<T: Content> Archive<T> {
    /// Reads an archive; `keep` takes each entry's bytes.
    pub(super) fn read(
        file: File,
        mut keep: impl FnMut(&str, &mut dyn Read) -> Result<T, LoadErrorKind>,
    ) -> Result<Self, LoadErrorKind> {
        let mut tar = tar::Archive::new(decompress(file).map_err(LoadErrorKind::Read)?);
        let mut archive = Self { entries: BTreeMap::new(), links: BTreeMap::new() };
        let mut count = 0;
        for entry in tar.entries().map_err(LoadErrorKind::Read)? {
            let mut entry = entry.map_err(|error| broken(count, error))?;
            count += 1;
            if count > MAX_ENTRIES {
                return Err(LoadErrorKind::TooMany(MAX_ENTRIES));
            }
            let raw = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let kind = entry.header().entry_type();
            if kind.is_dir() || kind.is_pax_global_extensions() {
                continue;
            }
            if kind.is_symlink() || kind.is_hard_link() {
                archive.link(&raw, &entry)?;
                continue;
            }
            if !kind.is_file() && !kind.is_contiguous() {
                return Err(LoadErrorKind::Kind { path: raw, kind: kind_name(kind) });
            }
            let path = clean("", &raw)?;
            archive.claim(&path)?;
            let expected = entry.size();
            let mut counted = Counted { inner: &mut entry, count: 0, error: None };
            let kept = keep(&path, &mut counted);
            // What fails in reading the archive is the archive's fault, not the store's.
            if let Some(error) = counted.error.take() {
                return Err(broken(count, error));
            }
            if counted.count != expected {
                return Err(LoadErrorKind::Truncated(count, None));
            }
            archive.entries.insert(path, kept?);
        }
        if count == 0 {
            return Err(LoadErrorKind::NoTar);
        }
        Ok(archive)
    }

    /// A symbolic link is relative to its folder, a hard link to the archive.
    fn link(&mut self, raw: &str, entry: &tar::Entry<'_, impl Read>) -> Result<(), LoadErrorKind> {
        let target = entry.link_name_bytes().unwrap_or_default();
        let folder = raw.rsplit_once('/').map_or("", |(folder, _)| folder);
        let base = if entry.header().entry_type().is_symlink() { folder } else { "" };
        let path = clean("", raw)?;
        self.claim(&path)?;
        self.links.insert(path, clean(base, &String::from_utf8_lossy(&target))?);
        Ok(())
    }

    /// An entry's JSON.
    pub(super) fn json<J: serde::de::DeserializeOwned>(&self, path: &str) -> Result<J, LoadErrorKind> {
        let bytes = self.small(path)?;
        serde_json::from_slice(&bytes).map_err(|source| LoadErrorKind::Json { path: path.to_owned(), source })
    }

    /// A small entry's bytes.
    pub(super) fn small(&self, path: &str) -> Result<Vec<u8>, LoadErrorKind> {
        let bytes = self.get(path)?.1.small().map_err(LoadErrorKind::Read)?;
        let size = bytes.len() as u64;
        if size > MAX_JSON {
            return Err(LoadErrorKind::TooLarge { path: path.to_owned(), size });
        }
        Ok(bytes)
    }
}

impl<T> Archive<T> {
    /// Whether there is an entry at this path.
    pub(super) fn has(&self, path: &str) -> bool {
        self.get(path).is_ok()
    }

    /// An entry, and its path when all links are followed.
    pub(super) fn get(&self, path: &str) -> Result<(&str, &T), LoadErrorKind> {
        let mut at = path;
        for _ in 0..=MAX_LINKS {
            if let Some((path, entry)) = self.entries.get_key_value(at) {
                return Ok((path, entry));
            }
            match self.links.get(at) {
                Some(target) => at = target,
                None => break,
            }
        }
        Err(LoadErrorKind::Missing(path.to_owned()))
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, path: &str) -> Option<T> {
        self.entries.remove(path)
    }

    fn claim(&self, path: &str) -> Result<(), LoadErrorKind> {
        if self.entries.contains_key(path) || self.links.contains_key(path) {
            return Err(LoadErrorKind::Twice(path.to_owned()));
        }
        Ok(())
    }
}

fn kind_name(kind: EntryType) -> &'static str {
    if kind.is_character_special() || kind.is_block_special() {
        "device"
    } else if kind.is_fifo() {
        "pipe"
    } else if kind.is_gnu_sparse() {
        "sparse file"
    } else {
        "thing of an unknown kind"
    }
}

/// The tar reader says `Other` for what is no tar; a decompressor says what is missing.
fn broken(count: usize, error: io::Error) -> LoadErrorKind {
    if count == 0 && error.kind() == io::ErrorKind::Other {
        LoadErrorKind::NoTar
    } else {
        LoadErrorKind::Truncated(count, Some(error))
    }
}

/// A path within the archive, joined and without `.` and `..`.
fn clean(base: &str, path: &str) -> Result<String, LoadErrorKind> {
    let bad = || LoadErrorKind::Path(path.to_owned());
    if path.starts_with('/') || path.contains('\0') {
        return Err(bad());
    }
    let mut parts = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or_else(bad)?;
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() { Err(bad()) } else { Ok(parts.join("/")) }
}

/// The digest that a path says: `blobs/sha256/<hex>` or `<hex>.json`.
pub(super) fn digest_in(path: &str) -> Option<Digest> {
    let name = path.rsplit('/').next().unwrap_or_default();
    Digest::from_hex(name.strip_suffix(".json").unwrap_or(name)).ok()
}

// === impl Content ===

impl Content for Staged {
    fn small(&self) -> Result<Vec<u8>, io::Error> {
        let mut bytes = Vec::new();
        self.open()?.take(MAX_JSON + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl Sniffed {
    pub(super) const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Content for Sniffed {
    fn small(&self) -> Result<Vec<u8>, io::Error> {
        Ok(self.0.clone())
    }
}

/// Counts what was read and remembers how reading failed.
struct Counted<'a, R> {
    inner: &'a mut R,
    count: u64,
    error: Option<io::Error>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(count) => {
                self.count += count as u64;
                Ok(count)
            }
            Err(error) => {
                let kind = error.kind();
                self.error = Some(error);
                Err(kind.into())
            }
        }
    }
}
