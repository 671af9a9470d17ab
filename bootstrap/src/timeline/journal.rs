//! What was done to a deployment, by hand or by an experiment: `cluster/journal.jsonl`.
//!
//! Other modules only append, one call for each act, right after the act was done (or undone):
//!
//! ```ignore
//! Journal::append(&directory, Entry::now(Act::FaultInjected(Fault {
//!     id: "f1".to_owned(),
//!     kind: "link cut".to_owned(),
//!     machines: vec!["node1".to_owned(), "node3".to_owned()],
//!     text: "cut the cable node1-node3".to_owned(),
//!     until: None,
//! })))?;
//! ```
//!
//! The file has one JSON object a line, mode 0600: `at`, microseconds since 1970 by this computer's clock; `act`, which
//! act it is; and that act's own fields, as [`Act`] has them:
//!
//! ```json
//! {"at":1764446400123456,"act":"fault-injected","id":"f1","kind":"link cut","machines":["node1","node3"],"text":"cut the cable node1-node3","until":null}
//! {"at":1764446430123456,"act":"fault-undone","id":"f1","why":"its time was over"}
//! ```
//!
//! It is bounded: once it is [`MAX_SIZE`] long it becomes `journal.jsonl.1`, in the place of the one before. Writers
//! exclude each other by a lock on the file; a writer that died in the middle of a line leaves that line damaged and no
//! other. Readers take no lock and leave out what they cannot read, for one acts that a later program wrote.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::deployment::Directory;

/// The journal's name in the deployment's directory.
pub const FILE: &str = "journal.jsonl";
/// The name of the one before it.
pub const BEFORE: &str = "journal.jsonl.1";
/// A journal that is so long is put away before the next line.
pub const MAX_SIZE: u64 = 4 << 20;

/// A line is written in no time; a writer that holds the lock for so long does not write.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// The journal of one deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Journal {
    /// Its entries, in the order in which they were written.
    pub entries: Vec<Entry>,
    /// How many lines could not be read.
    pub damaged: usize,
}

/// One act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, in microseconds since 1970 by this computer's clock.
    pub at: u64,
    /// What was done.
    #[serde(flatten)]
    pub act: Act,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum Act {
    /// Every machine was Ready for the first time.
    Deployed {
        /// The machines, the seed first.
        machines: Vec<String>,
    },
    /// Something was broken.
    FaultInjected(Fault),
    /// It was mended, or whoever broke it left off.
    FaultUndone {
        /// Which fault.
        id: String,
        /// Why now: `asked to`, `its time was over`.
        why: String,
    },
    /// A machine was made.
    MachineAdded {
        /// Its name.
        machine: String,
    },
    /// A machine was switched on.
    MachineStarted {
        /// Its name.
        machine: String,
    },
    /// A machine was switched off.
    MachineStopped {
        /// Its name.
        machine: String,
        /// Whether the plug was pulled.
        hard: bool,
    },
    /// A machine and its disk were removed.
    MachineDeleted {
        /// Its name.
        machine: String,
    },
    /// Something else that a reader of the timeline should know: a step of an experiment, a snapshot, a reinstallation.
    Noted {
        /// The machines that it is about; all if there are none.
        machines: Vec<String>,
        /// What, in a few words.
        text: String,
    },
}

/// Something that was broken on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// What it is undone by; no two faults of a deployment have the same.
    pub id: String,
    /// The words of the command line: `link cut`, `node kill`, `node freeze`, `partition`.
    pub kind: String,
    /// The machines that it was done to, by their nodes' names; both ends of a cable.
    pub machines: Vec<String>,
    /// What was done, in a few words: it is the fault's label wherever it is shown.
    pub text: String,
    /// When it will be undone by itself, in microseconds since 1970; none if somebody has to.
    pub until: Option<u64>,
}

// === impl Journal ===

impl Journal {
    /// Writes one act down. When this returns it is on the disk.
    ///
    /// # Errors
    ///
    /// The file cannot be written to. What was done was done all the same.
    pub fn append(directory: &Directory, entry: Entry) -> Result<()> {
        let path = directory.path().join(FILE);
        write(&path, &directory.path().join(BEFORE), &entry)
            .with_context(|| format!("cannot write down in {} what was done", path.display()))
    }

    /// Reads all that is still there; a deployment without a journal has an empty one.
    ///
    /// # Errors
    ///
    /// A file is there and cannot be read.
    pub fn read(directory: &Directory) -> Result<Self> {
        let mut journal = Self::default();
        for name in [BEFORE, FILE] {
            let path = directory.path().join(name);
            match fs::read(&path) {
                Ok(octets) => journal.take(&octets),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
            }
        }
        Ok(journal)
    }

    fn take(&mut self, octets: &[u8]) {
        for line in octets.split(|octet| *octet == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            match serde_json::from_slice(line) {
                Ok(entry) => self.entries.push(entry),
                Err(_) => self.damaged += 1,
            }
        }
    }
}

// === impl Entry ===

impl Entry {
    /// An act that was done just now.
    #[must_use]
    pub fn now(act: Act) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { at: u64::try_from(since.as_micros()).unwrap_or(u64::MAX), act }
    }
}

fn write(path: &Path, before: &Path, entry: &Entry) -> Result<()> {
    let mut line = serde_json::to_vec(entry).context("cannot write it as JSON")?;
    line.push(b'\n');
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut file = open(path)?;
        lock(&file, deadline)?;
        // Whoever had the lock before may have put the file away.
        if !is_still(&file, path)? {
            continue;
        }
        let size = file.metadata()?.len();
        if size >= MAX_SIZE {
            fs::rename(path, before)?;
            continue;
        }
        if size > 0 && last_octet(&mut file)? != b'\n' {
            // Somebody died in the middle of a line.
            line.insert(0, b'\n');
        }
        file.write_all(&line)?;
        return Ok(file.sync_data()?);
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// The lock ends with the file.
fn lock(file: &File, deadline: Instant) -> Result<()> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error.into()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(POLL),
            Err(TryLockError::WouldBlock) => {
                bail!("another process has had it locked for {} s", PATIENCE.as_secs())
            }
        }
    }
}

fn is_still(file: &File, path: &Path) -> std::io::Result<bool> {
    let ours = file.metadata()?;
    match path.metadata() {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn last_octet(file: &mut File) -> std::io::Result<u8> {
    let mut octet = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut octet)?;
    Ok(octet[0])
}

#[cfg(test)]
mod tests;
