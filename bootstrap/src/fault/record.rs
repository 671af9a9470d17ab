//! What is remembered of a fault: `cluster/faults/<id>.json`, written before the first step is done.
//!
//! So whatever crashes, how it is undone is known. Each record has a lock beside it that is held by whoever does steps of
//! that fault; one that is half made and that nobody holds was cut off.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::agenda::Why;
use super::asked::Asked;
use super::moment::Moment;
use super::step::Step;
use crate::deployment::Directory;
use crate::private_file;

/// The folder's name in the deployment's directory.
pub const FOLDER: &str = "faults";
/// The form of a record; a later one has another number.
const VERSION: u32 = 1;
/// The number of the last fault that there was.
const LAST: &str = "last";
/// The log of the process that ends faults.
const KEEPER_LOG: &str = "keeper.log";
/// The lock that it holds.
const KEEPER_LOCK: &str = "keeper.lock";
/// The lock of whoever begins a fault.
const LOCK: &str = "lock";
/// Looking a record up and writing another takes no time.
const FOLDER_PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
/// How often the keeper's lock is tried before it is somebody else's.
const GLANCES: u32 = 20;

/// The name of a fault: `f1`, `f2`, … No two of a deployment have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FaultId(pub u32);

/// A text that names no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no fault's name, as f1 is one")]
pub struct FaultIdError(String);

/// A fault: what was asked, how it is made and undone, and how far that is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The form that it was written in.
    pub version: u32,
    /// Its name.
    pub id: FaultId,
    /// What was asked.
    pub asked: Asked,
    /// Since when it stands, or since when it is being made.
    pub begun: Moment,
    /// How long it stands; none until it is cleared.
    pub lasts: Option<Duration>,
    /// How far it is.
    pub state: State,
    /// The steps that make it.
    pub apply: Vec<Step>,
    /// The steps that undo it.
    pub undo: Vec<Step>,
    /// Why it could not be undone, if that was tried.
    #[serde(default)]
    pub trouble: Option<Trouble>,
}

/// How far a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Somebody is making it.
    Applying,
    /// It stands.
    Standing,
    /// It is to end, and is tried to be undone.
    Ending,
}

/// An undoing that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// How often it was tried.
    pub attempts: u32,
    /// What went wrong the last time.
    pub reason: String,
    /// When that was.
    pub at: Moment,
    /// Why it was to be undone.
    pub why: Why,
}

/// A record that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// It can be read.
    Known(Box<Record>),
    /// It cannot: a later program wrote it, or it is damaged.
    Unknown {
        /// Its name.
        id: FaultId,
        /// Why.
        reason: String,
    },
}

/// The faults of one deployment.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

/// The part of a record that every form of it has.
#[derive(Deserialize)]
struct Form {
    version: u32,
}

// === impl FaultId ===

impl FromStr for FaultId {
    type Err = FaultIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_prefix('f').filter(|digits| !digits.starts_with(['+', '0']));
        number.and_then(|digits| digits.parse().ok()).map(Self).ok_or_else(|| FaultIdError(text.to_owned()))
    }
}

impl TryFrom<String> for FaultId {
    type Error = FaultIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<FaultId> for String {
    fn from(id: FaultId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for FaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "f{}", self.0)
    }
}

// === impl Record ===

impl Record {
    /// A fault that is about to be made.
    #[must_use]
    pub fn new(
        id: FaultId,
        asked: Asked,
        lasts: Option<Duration>,
        steps: (Vec<Step>, Vec<Step>),
        now: Moment,
    ) -> Self {
        let (apply, undo) = steps;
        let state = State::Applying;
        Self { version: VERSION, id, asked, begun: now, lasts, state, apply, undo, trouble: None }
    }

    /// From one cut of a flapping cable to the next, and how often it is cut.
    #[must_use]
    pub fn pulse(&self) -> Option<(Duration, Option<u32>)> {
        if let Asked::LinkFlap { period, times, .. } = &self.asked { Some((*period, *times)) } else { None }
    }

    /// How long it stands, by all that ends it; none if only somebody's word does.
    #[must_use]
    pub fn stands_for(&self) -> Option<Duration> {
        let pulses = self.pulse().and_then(|(period, times)| Some(period.saturating_mul(times?)));
        self.lasts.into_iter().chain(pulses).min()
    }

    /// How much of its time is left; none if it has no end of its own.
    #[must_use]
    pub fn left(&self, now: &Moment) -> Option<Duration> {
        self.stands_for().map(|time| self.begun.left(time, now))
    }

    /// Whether somebody has to look after it: it has an end, flaps, or is yet to be undone.
    #[must_use]
    pub fn needs_keeping(&self) -> bool {
        self.stands_for().is_some() || self.pulse().is_some() || self.state == State::Ending
    }
}

// === impl Entry ===

impl Entry {
    /// The fault's name.
    #[must_use]
    pub fn id(&self) -> FaultId {
        match self {
            Self::Known(record) => record.id,
            Self::Unknown { id, .. } => *id,
        }
    }

    /// The record, if it can be read.
    #[must_use]
    pub fn known(self) -> Option<Record> {
        match self {
            Self::Known(record) => Some(*record),
            Self::Unknown { .. } => None,
        }
    }
}

// === impl Folder ===

impl Folder {
    /// The faults of this deployment.
    #[must_use]
    pub fn of(directory: &Directory) -> Self {
        Self(directory.path().join(FOLDER))
    }

    /// The folder's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The log of the process that ends faults.
    #[must_use]
    pub fn keeper_log(&self) -> PathBuf {
        self.0.join(KEEPER_LOG)
    }

    /// Every fault, in the order of their making. There are none where there is no folder.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn read(&self) -> Result<Vec<Entry>> {
        let what = || format!("cannot read {}", self.0.display());
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(what),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.with_context(what)?.file_name();
            ids.extend(name.to_str().and_then(|name| name.strip_suffix(".json")?.parse::<FaultId>().ok()));
        }
        ids.sort_unstable();
        Ok(ids.into_iter().filter_map(|id| self.entry(id)).collect())
    }

    /// The faults that can be read.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn records(&self) -> Result<Vec<Record>> {
        Ok(self.read()?.into_iter().filter_map(Entry::known).collect())
    }

    /// One fault; none if there is none of this name.
    #[must_use]
    pub fn entry(&self, id: FaultId) -> Option<Entry> {
        let path = self.record(id);
        let unknown = |reason: String| Some(Entry::Unknown { id, reason });
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return unknown(format!("cannot read {}: {error}", path.display())),
        };
        match serde_json::from_str::<Form>(&text) {
            Ok(Form { version: VERSION }) => {}
            Ok(Form { version }) => {
                return unknown(format!(
                    "{} is of version {version}, and this is meshboot for version {VERSION}",
                    path.display()
                ));
            }
            Err(error) => return unknown(format!("{} is damaged: {error}", path.display())),
        }
        match serde_json::from_str(&text) {
            Ok(record) => Some(Entry::Known(Box::new(record))),
            Err(error) => unknown(format!("{} is damaged: {error}", path.display())),
        }
    }

    /// Writes a record, whole or not at all. When this returns it is on the disk.
    ///
    /// # Errors
    ///
    /// The folder is not there, or cannot be written to.
    pub fn write(&self, record: &Record) -> Result<()> {
        let text = serde_json::to_string_pretty(record).context("cannot write the fault as JSON")?;
        private_file::replace(&self.record(record.id), format!("{text}\n").as_bytes())
    }

    /// Removes a record, and its lock.
    ///
    /// # Errors
    ///
    /// It is there and cannot be removed.
    pub fn remove(&self, id: FaultId) -> Result<()> {
        for path in [self.record(id), self.lock_of(id)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Locks the folder against others that begin a fault; makes it if need be.
    ///
    /// # Errors
    ///
    /// It cannot be made, or somebody else has it locked for long.
    pub fn lock(&self) -> Result<File> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.with_context(|| format!("cannot make the directory {}", self.0.display()))?;
        acquire(&self.0.join(LOCK), FOLDER_PATIENCE)
    }

    /// A name that no fault has had; the folder is locked.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn next_id(&self, _locked: &File) -> Result<FaultId> {
        let noted = fs::read_to_string(self.0.join(LAST)).ok();
        let noted = noted.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let seen = self.read()?.iter().map(|entry| entry.id().0).max().unwrap_or(0);
        Ok(FaultId(noted.max(seen) + 1))
    }

    /// Writes a fault that is about to be made. Its name is not given again.
    ///
    /// # Errors
    ///
    /// The folder cannot be written to.
    pub fn begin(&self, _locked: &File, record: &Record) -> Result<()> {
        private_file::replace(&self.0.join(LAST), format!("{}\n", record.id.0).as_bytes())?;
        self.write(record)
    }

    /// Locks one fault against others that do its steps.
    ///
    /// # Errors
    ///
    /// Somebody else does, and for longer than `patience`.
    pub fn hold(&self, id: FaultId, patience: Duration) -> Result<File> {
        acquire(&self.lock_of(id), patience)
    }

    /// Whether somebody does steps of this fault.
    #[must_use]
    pub fn is_held(&self, id: FaultId) -> bool {
        is_locked(&self.lock_of(id))
    }

    /// Whether the process that ends faults is there.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        is_locked(&self.0.join(KEEPER_LOCK))
    }

    /// Becomes the process that ends faults; none if there is one.
    ///
    /// # Errors
    ///
    /// The lock cannot be opened.
    pub fn keep(&self) -> Result<Option<File>> {
        let path = self.0.join(KEEPER_LOCK);
        let what = || format!("cannot lock {}", path.display());
        let file = open(&path).with_context(what)?;
        // Whoever asks whether there is one holds the lock for a moment.
        for _ in 0..GLANCES {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(POLL),
                Err(TryLockError::Error(error)) => return Err(error).with_context(what),
            }
        }
        Ok(None)
    }

    fn record(&self, id: FaultId) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }

    fn lock_of(&self, id: FaultId) -> PathBuf {
        self.0.join(format!("{id}.lock"))
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// The lock ends with the file, and with the process.
fn acquire(path: &Path, patience: Duration) -> Result<File> {
    let what = || format!("cannot lock {}", path.display());
    let file = open(path).with_context(what)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error).with_context(what),
            Err(TryLockError::WouldBlock) if begun.elapsed() < patience => std::thread::sleep(POLL),
            Err(TryLockError::WouldBlock) => {
                let held = format!("another process has held it for {} s", patience.as_secs());
                return Err(anyhow::Error::msg(held)).with_context(what);
            }
        }
    }
}

fn is_locked(path: &Path) -> bool {
    let file = OpenOptions::new().write(true).open(path);
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}
