//! What a config puts into a machine's root, before it is Ignition: files, folders, links and units.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Everything that a config puts into a machine's root, by path. What is written later under the same path replaces
/// what was written before.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// Files by absolute path.
    pub files: BTreeMap<String, File>,
    /// Folders that need another mode than 0755, by absolute path.
    pub folders: BTreeMap<String, u32>,
    /// Symbolic links: path to target.
    pub links: BTreeMap<String, String>,
    /// Whole systemd units by name.
    pub units: BTreeMap<String, String>,
    /// Names of units that must never start.
    pub masked: BTreeSet<String>,
}

/// A file.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Permission bits.
    pub mode: u32,
    /// Owner and group by name; root if none.
    pub owner: Option<(&'static str, &'static str)>,
    /// What is in it.
    pub contents: Vec<u8>,
}

/// Mode of a file that everybody may read.
pub const PUBLIC: u32 = 0o644;
/// Mode of a file that holds a secret.
pub const PRIVATE: u32 = 0o600;
/// Mode of a script.
pub const SCRIPT: u32 = 0o755;

// === impl Tree ===

impl Tree {
    /// Adds a file of root's.
    pub fn file(&mut self, path: impl Into<String>, mode: u32, contents: impl Into<Vec<u8>>) {
        self.files.insert(path.into(), File { mode, owner: None, contents: contents.into() });
    }

    /// Adds a file of another owner.
    pub fn file_of(
        &mut self,
        owner: (&'static str, &'static str),
        path: impl Into<String>,
        mode: u32,
        contents: impl Into<Vec<u8>>,
    ) {
        let file = File { mode, owner: Some(owner), contents: contents.into() };
        self.files.insert(path.into(), file);
    }

    /// Adds a folder of root's.
    pub fn folder(&mut self, path: impl Into<String>, mode: u32) {
        self.folders.insert(path.into(), mode);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: impl Into<String>, target: impl Into<String>) {
        self.links.insert(path.into(), target.into());
    }

    /// Adds a unit and has `multi-user.target` start it.
    pub fn unit(&mut self, name: &str, contents: impl Into<String>) {
        self.units.insert(name.to_owned(), contents.into());
        self.wanted(&format!("/etc/systemd/system/{name}"), "multi-user.target");
    }

    /// Has `target` start a unit.
    ///
    /// By a link, and not by Ignition's `enabled`: that goes by presets, which systemd applies on the first boot of a
    /// root only, and a root that has its machine id does not look like one.
    pub fn wanted(&mut self, unit: &str, target: &str) {
        let name = unit.rsplit('/').next().unwrap_or(unit);
        self.link(format!("/etc/systemd/system/{target}.wants/{name}"), unit);
    }

    /// Adds to a unit of the image.
    pub fn drop_in(&mut self, unit: &str, contents: impl Into<Vec<u8>>) {
        self.file(format!("/etc/systemd/system/{unit}.d/10-meshboot.conf"), PUBLIC, contents);
    }

    /// Keeps units of the image from ever starting.
    pub fn mask<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) {
        self.masked.extend(names.into_iter().map(str::to_owned));
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree")
            .field("files", &self.files.keys())
            .field("folders", &self.folders.keys())
            .field("links", &self.links)
            .field("units", &self.units.keys())
            .field("masked", &self.masked)
            .finish()
    }
}

// === impl File ===

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File {{ mode: {:o}, owner: {:?}, {} octets }}", self.mode, self.owner, self.contents.len())
    }
}
