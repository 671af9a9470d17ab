//! A ledger in one file on this machine's disk.
//!
//! Each change is on the disk when [`append`](RedbStore::append) returns: one transaction, committed in two
//! phases, so that a torn last write is found and never rolled back over what was acknowledged. A file that
//! cannot be trusted is left as it is, to the last octet: it is proved on a copy in memory before it is
//! opened for writing.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ::redb::backends::InMemoryBackend;
use ::redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition, WriteTransaction,
};
use mesh::{Change, Ledger, Link, Machine, Revision, Store, StoreError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version of the tables below.
const SCHEMA: u64 = 1;
/// A ledger is small; the default cache is a gigabyte.
const CACHE_OCTETS: usize = 2 << 20;

/// `schema`, `revision` and `phase`.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Machines as JSON, by identity.
const MACHINES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("machines");
/// Links as JSON, by near end.
const LINKS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("links");

/// A ledger in a file.
#[derive(Debug)]
pub struct RedbStore {
    path: PathBuf,
    database: Database,
    held: Mutex<Held>,
}

/// Whether the file is the ledger, or a copy of one that is kept elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// The file is the ledger.
    #[default]
    Own,
    /// The ledger is being taken over by Kubernetes; who of the two has it is to be asked there.
    HandingOver,
    /// The file is a copy of the ledger in Kubernetes.
    Copy,
}

/// Why a ledger's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error("cannot {doing} the ledger's file {}", path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("the ledger's file {} is in use by another process: only one gateway runs on a machine", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It holds something that is no ledger.
    #[error(
        "the ledger's file {} is damaged: {reason}. It was left as it is. Put back a copy of it; or move it \
         away to start with an empty ledger, in which machines get the same blocks again from their Ethernet \
         addresses, but perhaps other names",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A later version of this program wrote it.
    #[error(
        "the ledger's file {} has schema {found}, and this version knows {SCHEMA}: use the version that wrote it",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The schema that it has.
        found: u64,
    },
}

/// What the file holds, in memory.
#[derive(Debug, Clone, Default)]
struct Held {
    ledger: Ledger,
    revision: Revision,
    phase: Phase,
    /// A commit failed, so the file may hold more than this.
    doubtful: bool,
}

/// Why tables could not be read as a ledger.
enum ReadError {
    Storage(::redb::Error),
    Content(String),
    Newer(u64),
}

// === impl RedbStore ===

impl RedbStore {
    /// Opens the ledger in a file; makes an empty one if there is no such file.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; a file that exists was not changed.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let path = path.into();
        let failed = |doing, source| OpenError::Io { doing, path: path.clone(), source };
        let octets = match File::open(&path) {
            Ok(file) => read_locked(&path, file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(&path).map_err(|error| failed("create", error))?;
                read_locked(&path, File::open(&path).map_err(|error| failed("open", error))?)?
            }
            Err(error) => return Err(failed("open", error)),
        };
        prove(&path, octets)?;
        let database = builder().open(&path).map_err(|error| {
            if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
                return OpenError::InUse { path: path.clone() };
            }
            // What it holds was proved good.
            failed("open", io::Error::other(error))
        })?;
        Self::with_database(path, database)
    }

    /// The ledger in a file that no gateway has open; neither the file nor its folder is written.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn peek(path: &Path) -> Result<Ledger, OpenError> {
        let failed = |source| OpenError::Io { doing: "open", path: path.to_owned(), source };
        let octets = read_locked(path, File::open(path).map_err(failed)?)?;
        Ok(prove(path, octets)?.ledger)
    }

    fn with_database(path: PathBuf, database: Database) -> Result<Self, OpenError> {
        let held = read(&database).map_err(|error| error.at(&path))?;
        Ok(Self { path, database, held: Mutex::new(held) })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is the ledger or a copy.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// Remembers for good whether the file is the ledger or a copy.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the file cannot be written.
    pub fn set_phase(&self, phase: Phase) -> Result<(), StoreError> {
        let mut held = self.lock();
        self.refresh(&mut held)?;
        let next = Held { phase, ..held.clone() };
        self.commit(&mut held, next)
    }

    /// Makes the file a copy of a ledger that is kept elsewhere. An older revision than the copy has already
    /// is passed over.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the file cannot be written.
    pub fn copy(&self, ledger: &Ledger, revision: Revision) -> Result<(), StoreError> {
        let mut held = self.lock();
        self.refresh(&mut held)?;
        let older = held.phase == Phase::Copy && revision < held.revision;
        let same = held.phase == Phase::Copy && revision == held.revision && *ledger == held.ledger;
        if older || same {
            return Ok(());
        }
        let next = Held { ledger: ledger.clone(), revision, phase: Phase::Copy, doubtful: false };
        self.commit(&mut held, next)
    }

    /// Writes what is different, and nothing else.
    fn commit(&self, held: &mut Held, next: Held) -> Result<(), StoreError> {
        let written = self.begin().and_then(|transaction| {
            write(&transaction, held, &next)?;
            transaction.commit()?;
            Ok(())
        });
        match written {
            Ok(()) => {
                *held = next;
                Ok(())
            }
            Err(error) => {
                held.doubtful = true;
                Err(self.unavailable("write to", &error))
            }
        }
    }

    fn begin(&self) -> Result<WriteTransaction, ::redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        // With one phase, a last commit whose checksums are wrong is taken for a torn one and rolled back.
        transaction.set_two_phase_commit(true);
        Ok(transaction)
    }

    /// After a failed commit only the file knows whether it was made.
    fn refresh(&self, held: &mut Held) -> Result<(), StoreError> {
        if held.doubtful {
            *held = read(&self.database).map_err(|error| match error {
                ReadError::Storage(error) => self.unavailable("read", &error),
                ReadError::Content(reason) => {
                    StoreError::Corrupt { place: self.path.display().to_string(), reason }
                }
                ReadError::Newer(schema) => StoreError::Corrupt {
                    place: self.path.display().to_string(),
                    reason: format!("it has schema {schema} of a sudden"),
                },
            })?;
        }
        Ok(())
    }

    fn unavailable(&self, doing: &str, error: &::redb::Error) -> StoreError {
        let path = self.path.display();
        StoreError::Unavailable { reason: format!("cannot {doing} the ledger's file {path}: {error}") }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for RedbStore {
    fn load(&self) -> Result<(Ledger, Revision), StoreError> {
        let mut held = self.lock();
        self.refresh(&mut held)?;
        Ok((held.ledger.clone(), held.revision))
    }

    fn append(&self, expected: Revision, change: &Change) -> Result<Revision, StoreError> {
        let mut held = self.lock();
        self.refresh(&mut held)?;
        if held.revision != expected {
            return Err(StoreError::Conflict { expected, actual: held.revision });
        }
        let mut next = Held { revision: Revision(expected.0 + 1), ..held.clone() };
        next.ledger.apply(change)?;
        self.commit(&mut held, next)?;
        Ok(held.revision)
    }
}

// === impl Phase ===

impl Phase {
    fn number(self) -> u64 {
        match self {
            Self::Own => 0,
            Self::HandingOver => 1,
            Self::Copy => 2,
        }
    }

    fn from_number(number: u64) -> Option<Self> {
        [Self::Own, Self::HandingOver, Self::Copy].into_iter().find(|phase| phase.number() == number)
    }
}

// === impl ReadError ===

impl ReadError {
    fn at(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            Self::Storage(error) => OpenError::Damaged { path, reason: error.to_string() },
            Self::Content(reason) => OpenError::Damaged { path, reason },
            Self::Newer(found) => OpenError::Newer { path, found },
        }
    }
}

impl<E: Into<::redb::Error>> From<E> for ReadError {
    fn from(error: E) -> Self {
        Self::Storage(error.into())
    }
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_OCTETS);
    builder
}

/// Makes a whole file under another name and then names it, so that no half of one is ever found.
fn create(path: &Path) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let made = builder().create(&new).map_err(::redb::Error::from).and_then(|database| {
        let mut transaction = database.begin_write()?;
        transaction.set_two_phase_commit(true);
        transaction.open_table(META)?.insert("schema", SCHEMA)?;
        write(&transaction, &Held::default(), &Held::default())?;
        transaction.commit()?;
        Ok(())
    });
    made.map_err(io::Error::other)?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// The file's octets, while no other process writes it.
fn read_locked(path: &Path, mut file: File) -> Result<Vec<u8>, OpenError> {
    let failed = |doing, source| OpenError::Io { doing, path: path.to_owned(), source };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(failed("lock", error)),
    }
    let mut octets = Vec::new();
    file.read_to_end(&mut octets).map_err(|error| failed("read", error))?;
    Ok(octets)
}

/// Reads the ledger from a copy, with every checksum checked; opening the file itself would write to it.
fn prove(path: &Path, octets: Vec<u8>) -> Result<Held, OpenError> {
    let damaged = |reason: String| OpenError::Damaged { path: path.to_owned(), reason };
    if octets.is_empty() {
        return Err(damaged("it is empty".to_owned()));
    }
    // Checksums let some damage through, and the database asserts its own invariants.
    let proved = catch_unwind(AssertUnwindSafe(move || {
        let backend = InMemoryBackend::new();
        backend.set_len(u64::try_from(octets.len()).map_err(io::Error::other)?)?;
        backend.write(0, &octets)?;
        drop(octets);
        let mut database = builder().create_with_backend(backend)?;
        if !database.check_integrity()? {
            return Err(ReadError::Content("its parts do not fit together".to_owned()));
        }
        read(&database)
    }));
    match proved {
        Ok(Ok(held)) => Ok(held),
        Ok(Err(error)) => Err(error.at(path)),
        Err(_) => Err(damaged("its structure makes no sense".to_owned())),
    }
}

fn read(database: &Database) -> Result<Held, ReadError> {
    let transaction = database.begin_read()?;
    let meta = transaction.open_table(META)?;
    let number = |key: &'static str| match meta.get(key)? {
        Some(value) => Ok(value.value()),
        None => Err(ReadError::Content(format!("it has no {key}"))),
    };
    match number("schema")? {
        SCHEMA => {}
        schema if schema > SCHEMA => return Err(ReadError::Newer(schema)),
        schema => return Err(ReadError::Content(format!("there never was a schema {schema}"))),
    }
    let phase = number("phase")?;
    let phase =
        Phase::from_number(phase).ok_or_else(|| ReadError::Content(format!("no phase is {phase}")))?;
    let machines: Vec<Machine> = rows(&transaction.open_table(MACHINES)?)?;
    let links: Vec<Link> = rows(&transaction.open_table(LINKS)?)?;
    let ledger = Ledger::restore(machines, links).map_err(|error| ReadError::Content(error.to_string()))?;
    Ok(Held { ledger, revision: Revision(number("revision")?), phase, doubtful: false })
}

fn rows<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Vec<T>, ReadError> {
    let mut rows = Vec::new();
    for row in table.iter()? {
        let (key, value) = row?;
        let parsed = serde_json::from_slice(value.value());
        rows.push(parsed.map_err(|error| ReadError::Content(format!("row {}: {error}", key.value())))?);
    }
    Ok(rows)
}

fn write(transaction: &WriteTransaction, old: &Held, new: &Held) -> Result<(), ::redb::Error> {
    let mut meta = transaction.open_table(META)?;
    meta.insert("revision", new.revision.0)?;
    meta.insert("phase", new.phase.number())?;

    let mut machines = transaction.open_table(MACHINES)?;
    for gone in old.ledger.machines().filter(|machine| new.ledger.machine(machine.id).is_none()) {
        machines.remove(gone.id.to_string().as_str())?;
    }
    for machine in new.ledger.machines().filter(|machine| old.ledger.machine(machine.id) != Some(machine)) {
        machines.insert(machine.id.to_string().as_str(), json(machine)?.as_slice())?;
    }

    let mut links = transaction.open_table(LINKS)?;
    for gone in old.ledger.links().filter(|link| new.ledger.link(link.id).is_none()) {
        links.remove(gone.id.to_string().as_str())?;
    }
    for link in new.ledger.links().filter(|link| old.ledger.link(link.id) != Some(link)) {
        links.insert(link.id.to_string().as_str(), json(link)?.as_slice())?;
    }
    Ok(())
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, ::redb::Error> {
    serde_json::to_vec(value).map_err(|error| ::redb::Error::Io(io::Error::other(error)))
}

#[cfg(test)]
mod tests;
