//! `meshboot snapshot`: a whole simulated mesh, kept and put back.
//!
//! All machines are paused before the first is written, and go on after the last: none of them sees the others stand
//! still, for time stands still with them. So the mesh that is put back is one that was: leases, BGP sessions and watches
//! go on where they were. Its clocks go on from there as well; they are not set to this computer's time.
//!
//! A snapshot is a directory of the deployment: `snapshot.json`, written last, and for each machine its memory, if it had
//! power, its disk and its firmware's variables. The seed's disk holds the ledger and etcd.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hardware::virsh::DomainState;
use hardware::{Libvirt, MachineNumber, host};
use indicatif::HumanBytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cli::snapshot::Snapshot;
use crate::deploy::start_libvirt;
use crate::deployment::{Deployment, Directory, MachineRecord};
use crate::exit::{Code, Failure, OrFail as _};
use crate::fault;
use crate::progress::Reporter;
use crate::status::columns;
use crate::verbs::Context;

mod restore;
mod save;

pub(crate) use restore::Restored;
pub(crate) use save::Saved;

/// The directory of all snapshots, in the deployment's.
pub const FOLDER: &str = "snapshots";
/// What says that a snapshot is whole.
const RECORD: &str = "snapshot.json";
/// The record's form; a later one has another number.
const VERSION: u32 = 1;

/// What a snapshot is.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    version: u32,
    /// When the mesh was paused.
    at: Timestamp,
    /// The deployment as it was.
    deployment: Deployment,
    /// The machines that had power, and whether they ran.
    powered: Vec<Powered>,
}

/// A machine that had power.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Powered {
    machine: MachineNumber,
    /// Whether its processors ran; else it was frozen.
    running: bool,
}

/// One line of the list.
#[derive(Debug, Serialize, JsonSchema)]
struct Row {
    /// Its name.
    name: String,
    /// When the mesh was paused.
    #[schemars(with = "String", extend("format" = "date-time"))]
    at: Timestamp,
    /// How many machines it has.
    machines: usize,
    /// What it takes up.
    bytes: u64,
}

/// The snapshots of a mesh.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct List {
    snapshots: Vec<Row>,
}

/// A snapshot that is no more.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Deleted {
    deleted: String,
}

/// A snapshot's place.
#[derive(Debug)]
struct Place(PathBuf);

/// Does what the verb says.
///
/// # Errors
///
/// What failed, and what to do next.
pub async fn run(context: &Context, verb: &Snapshot, reporter: &Reporter) -> Result<(), Failure> {
    match verb {
        Snapshot::Save { name } => save::run(context, name, reporter).await,
        Snapshot::Restore { name, timeout } => restore::run(context, name, timeout, reporter).await,
        Snapshot::List => list(&context.directory, reporter),
        Snapshot::Delete { name } => {
            let _lock = context.directory.lock()?;
            let place = Place::of(&context.directory, name);
            if !place.0.exists() {
                return Err(place.missing(&context.directory));
            }
            let what = || format!("cannot remove {}", place.0.display());
            fs::remove_dir_all(&place.0).with_context(what).or_fail(Code::Io)?;
            reporter.result(&Deleted { deleted: name.clone() }, &format!("the snapshot {name} is gone"));
            Ok(())
        }
    }
}

fn list(directory: &Directory, reporter: &Reporter) -> Result<(), Failure> {
    directory.require()?;
    let snapshots = rows(directory)?;
    let header = ["NAME", "AT", "MACHINES", "SIZE"].map(str::to_owned);
    let lines = snapshots.iter().map(|row| {
        let at = row.at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
        [row.name.clone(), at, row.machines.to_string(), HumanBytes(row.bytes).to_string()]
    });
    let text = columns(&std::iter::once(header).chain(lines).collect::<Vec<_>>());
    reporter.result(&List { snapshots }, &text);
    Ok(())
}

/// Those that are whole, by name. What an interrupted `save` left is none.
fn rows(directory: &Directory) -> Result<Vec<Row>, Failure> {
    let folder = directory.path().join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            let what = format!("cannot read {}", folder.display());
            return Err(anyhow::Error::new(error).context(what)).or_fail(Code::Io);
        }
    };
    let mut rows = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let place = Place(entry.path());
        if let Some(record) = place.load()? {
            rows.push(Row {
                name,
                at: record.at,
                machines: record.deployment.machines.len(),
                bytes: place.size(),
            });
        }
    }
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(rows)
}

/// The libvirt of a simulated mesh.
async fn libvirt_of(deployment: &Deployment, directory: &Directory) -> Result<Libvirt, Failure> {
    if deployment.stick.is_some() {
        let message =
            format!("the machines of {} are real ones: nothing can keep their memory", directory.text());
        return Err(Failure::new(Code::Unavailable, message));
    }
    let libvirt = Libvirt::default();
    start_libvirt(&libvirt).await?;
    Ok(libvirt)
}

/// Machines that were changed behind their records' backs would stay so.
fn require_no_faults(directory: &Directory) -> Result<(), Failure> {
    fault::require_none(directory, "there are faults, which no snapshot knows how to undo")
}

async fn state(
    libvirt: &Libvirt,
    deployment: &Deployment,
    machine: &MachineRecord,
) -> Result<DomainState, Failure> {
    libvirt.virsh.state(&deployment.domain(machine)).await.or_fail(Code::Unavailable)
}

/// Room for so many octets.
fn check_room(path: &Path, want: u64) -> Result<(), Failure> {
    let what = || format!("cannot tell how much room there is in {}", path.display());
    let free = host::free_disk(path).with_context(what).or_fail(Code::Io)?;
    if free >= want {
        return Ok(());
    }
    let message = format!(
        "there is no room for a snapshot in {}: {} are wanted, {} are free",
        path.display(),
        HumanBytes(want),
        HumanBytes(free)
    );
    let next = "free some; `meshboot snapshot list` shows what others take";
    Err(Failure::new(Code::CannotCreate, message).next(next))
}

/// What a file takes up; a disk is mostly holes.
fn taken(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    const BLOCK: u64 = 512;
    fs::metadata(path).map_or(0, |metadata| metadata.blocks().saturating_mul(BLOCK))
}

// === impl Place ===

impl Place {
    fn of(directory: &Directory, name: &str) -> Self {
        Self(directory.path().join(FOLDER).join(name))
    }

    fn memory(&self, machine: &MachineRecord) -> PathBuf {
        self.0.join(format!("{}.memory", machine.name))
    }

    fn disk(&self, machine: &MachineRecord) -> PathBuf {
        self.0.join(format!("{}.img", machine.name))
    }

    fn nvram(&self, machine: &MachineRecord) -> PathBuf {
        self.0.join(format!("{}.nvram.fd", machine.name))
    }

    /// The record; none if there is no whole snapshot.
    fn load(&self) -> Result<Option<Record>, Failure> {
        let path = self.0.join(RECORD);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let what = format!("cannot read {}", path.display());
                return Err(anyhow::Error::new(error).context(what)).or_fail(Code::Io);
            }
        };
        let record: Record = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged, or of another version of meshboot", path.display()))
            .or_fail(Code::Data)?;
        if record.version != VERSION {
            let message = format!(
                "{} is of version {}, and this is meshboot for version {VERSION}",
                path.display(),
                record.version
            );
            return Err(Failure::new(Code::Data, message));
        }
        Ok(Some(record))
    }

    fn size(&self) -> u64 {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries.map(|entry| taken(&entry.path())).sum()
    }

    fn missing(&self, directory: &Directory) -> Failure {
        let known: Vec<String> =
            rows(directory).map(|rows| rows.into_iter().map(|row| row.name).collect()).unwrap_or_default();
        let known = if known.is_empty() {
            "there is none".to_owned()
        } else {
            format!("there are {}", known.join(", "))
        };
        Failure::new(Code::Usage, format!("there is no snapshot in {}: {known}", self.0.display()))
    }
}
