//! Ends faults when their time is over, whatever has become of the program that made them.
//!
//! A process of its own session, one for each deployment: `meshboot fault keep`. It sleeps until the next end, or until a
//! record is written, and is no more when there is nothing left to end. Should it be killed, the next command that
//! looks at the deployment ends what is overdue and starts another ([`tend`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::agenda::{Agenda, Duty, FIRST_WAIT, agenda};
use super::moment::Moment;
use super::record::{FaultId, Folder, Record, State};
use super::site::Site;
use crate::deployment::Directory;
use crate::progress::out;

/// This program, also if another lies in its place by now.
const OURSELVES: &str = "/proc/self/exe";
/// What it says once it keeps, or once it knows that another does.
const READY: &str = "keeping";
const READY_LIMIT: Duration = Duration::from_secs(20);
/// The clock that sleep goes by stands still while a computer is suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// What a keeper does: each fault by itself, so that a node that does not answer holds no other up.
#[derive(Debug, Default)]
struct Work {
    tasks: JoinSet<FaultId>,
    under_way: BTreeSet<FaultId>,
    /// In which half of its period each flapping cable was left.
    turned: BTreeMap<FaultId, u64>,
}

/// Sees to it that somebody ends the faults of this deployment.
///
/// # Errors
///
/// No process could be started.
pub async fn ensure(directory: &Directory, folder: &Folder) -> Result<()> {
    if folder.is_kept() {
        return Ok(());
    }
    let path = folder.keeper_log();
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    let log = log.with_context(|| format!("cannot write {}", path.display()))?;
    let words: [OsString; 5] =
        ["--verbose".into(), "--cluster".into(), directory.path().into(), "fault".into(), "keep".into()];
    let mut child = Command::new(OURSELVES)
        .args(words)
        // The directory is said whole.
        .env_remove("MESHBOOT_PROFILE")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("cannot start the process that ends faults")?;
    let output = child.stdout.take().context("it has no output")?;
    let mut lines = BufReader::new(output).lines();
    match timeout(READY_LIMIT, lines.next_line()).await {
        Ok(Ok(Some(line))) if line == READY => Ok(()),
        Ok(_) => bail!("the process that ends faults did not start: {}", path.display()),
        Err(_) => bail!("the process that ends faults said nothing for {} s", READY_LIMIT.as_secs()),
    }
}

/// Starts somebody who ends what is overdue, and later the rest, should nobody be there to do it.
///
/// # Errors
///
/// Nobody could be started.
pub async fn tend(directory: &Directory) -> Result<()> {
    let folder = Folder::of(directory);
    if folder.is_kept() {
        return Ok(());
    }
    let cut_off = |record: &Record| record.state == State::Applying && !folder.is_held(record.id);
    if folder.records()?.iter().any(|record| record.needs_keeping() || cut_off(record)) {
        ensure(directory, &folder).await?;
    }
    Ok(())
}

/// Keeps, until there is nothing left to keep.
///
/// # Errors
///
/// The folder cannot be read or watched.
pub async fn run(directory: &Directory) -> Result<()> {
    // So that no terminal takes it along. It fails where a shell has begun a session for it already.
    let _begun = nix::unistd::setsid();
    let site = Site::new(directory);
    let Some(keeping) = site.folder.keep()? else {
        out(READY);
        return Ok(());
    };
    let changed = watch(site.folder.path())?;
    out(READY);
    tracing::info!(directory = directory.text(), "keeping");
    let mut work = Work::default();
    loop {
        let Agenda { duties, wake } = work.agenda(&site.folder)?;
        for duty in duties {
            work.begin(&site, duty);
        }
        let sleep = match wake {
            Some(wake) => wake.min(LONGEST_SLEEP),
            None if !work.under_way.is_empty() => LONGEST_SLEEP,
            None => match Rest::of(&site.folder)? {
                Rest::Something => FIRST_WAIT,
                // Whoever begins a fault now finds that nobody keeps.
                Rest::Nothing(locked) => {
                    drop(keeping);
                    drop(locked);
                    break;
                }
            },
        };
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = changed.notified() => {}
            Some(done) = work.tasks.join_next() => work.end(done.context("a duty came to grief")?),
        }
    }
    tracing::info!("nothing is left to keep");
    Ok(())
}

/// Whether there is a reason to stay.
enum Rest {
    /// There is.
    Something,
    /// There is none, and nothing can come as long as the folder is locked; it is not if a teardown took it.
    Nothing(Option<File>),
}

// === impl Rest ===

impl Rest {
    /// Whoever begins a fault locks the folder, writes the record, and looks for a keeper after that: either it is seen here,
    /// or it finds no keeper.
    fn of(folder: &Folder) -> Result<Self> {
        if !folder.path().is_dir() {
            return Ok(Self::Nothing(None));
        }
        let locked = folder.lock()?;
        let waits = |record: &Record| record.needs_keeping() || record.state == State::Applying;
        let something = folder.records()?.iter().any(waits);
        Ok(if something { Self::Something } else { Self::Nothing(Some(locked)) })
    }
}

// === impl Work ===

impl Work {
    /// What is to be done, besides what is being done.
    fn agenda(&self, folder: &Folder) -> Result<Agenda> {
        let records: Vec<Record> = folder.records()?;
        let idle: Vec<Record> =
            records.into_iter().filter(|record| !self.under_way.contains(&record.id)).collect();
        let half_made = idle.iter().filter(|record| record.state == State::Applying);
        let cut_off: BTreeSet<FaultId> =
            half_made.map(|record| record.id).filter(|id| !folder.is_held(*id)).collect();
        Ok(agenda(&idle, &self.turned, &cut_off, &Moment::now()?))
    }

    fn begin(&mut self, site: &Site, duty: Duty) {
        let (Duty::Undo(id, _) | Duty::Turn { id, .. }) = duty;
        self.under_way.insert(id);
        if let Duty::Turn { half, .. } = duty {
            // One that fails is made up for by the next.
            self.turned.insert(id, half);
        }
        let site = site.clone();
        self.tasks.spawn(async move {
            let done = match duty {
                Duty::Undo(_, why) => site.end(id, why).await.map(drop),
                Duty::Turn { half, .. } => site.turn(id, half).await,
            };
            match done {
                Ok(()) => tracing::info!(%id, ?duty, "done"),
                Err(error) => {
                    tracing::warn!(%id, ?duty, "{error:#}");
                    // The record says when to try again, unless not even that could be written.
                    tokio::time::sleep(FIRST_WAIT).await;
                }
            }
            id
        });
    }

    fn end(&mut self, id: FaultId) {
        self.under_way.remove(&id);
    }
}

/// Tells of each change in the folder.
///
/// # Errors
///
/// It cannot be watched.
pub(super) fn watch(folder: &Path) -> Result<Arc<Notify>> {
    let what = || format!("cannot watch {}", folder.display());
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC).with_context(what)?;
    // Records are renamed into their place.
    let events = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_DELETE_SELF;
    inotify.add_watch(folder, events).with_context(what)?;
    let changed = Arc::new(Notify::new());
    let tell = Arc::clone(&changed);
    // It waits in the kernel, and ends with the process.
    std::thread::spawn(move || {
        while inotify.read_events().is_ok() {
            tell.notify_one();
        }
    });
    Ok(changed)
}
