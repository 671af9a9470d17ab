//! `meshboot fault`: things broken on purpose, and mended.
//!
//! A fault is a value: what was asked ([`asked`], from [`words`]), the steps that make it and those that undo it
//! ([`mod@course`]), and when it ends. All of that is on the disk ([`record`]) before the first step is done, so whatever
//! crashes, how it is undone is known. Steps are done by [`hands`]; what ends by itself is ended by a process of its own
//! ([`keeper`]), which decides by [`agenda`].
//!
//! *Architecture invariants:* all but `hands`, `site`, `keeper` and `gather` is pure. Every step may be done twice. No
//! step has to be answered by a machine that is to be broken, unless what is to be broken is inside it ([`inside`]); then
//! the machine undoes it by itself too.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use self::agenda::Why;
use self::asked::{Asked, Ends, Span};
use self::course::course;
use self::list::{Listing, View};
use self::moment::Moment;
use self::record::{Entry, FaultId, Folder, Record};
use self::site::{MakeFailure, Site};
use self::words::{Wish, by_hand, understand};
use crate::cli::fault::Fault;
use crate::deployment::{Deployment, Directory, MachineRecord};
use crate::exit::{Code, Failure, OrFail as _};
use crate::progress::Reporter;
use crate::ssh::Host;
use crate::verbs::Context;

pub mod agenda;
pub mod asked;
pub mod course;
mod gather;
pub mod hands;
pub mod inside;
pub mod keeper;
pub mod list;
pub mod moment;
pub mod overlap;
pub mod record;
pub mod scene;
pub mod site;
pub mod step;
pub mod words;

/// An end that is overdue by so much does not come by itself.
const LATE: Duration = Duration::from_mins(3);
/// Whoever waits for an end says so often how long that still is.
const INTERVAL: Duration = Duration::from_secs(1);

/// What became of what was asked.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Made {
    fault: View,
}

/// What was undone.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Cleared {
    /// The faults that are no more.
    cleared: Vec<String>,
}

/// Does what the words say to the deployment.
///
/// # Errors
///
/// What is wrong with the words, what stands in the way, or what could not be done.
pub async fn run(context: &Context, words: &Fault, reporter: &Reporter) -> Result<(), Failure> {
    let directory = &context.directory;
    let deployment = directory.require()?;
    tend(directory, reporter).await;
    match words {
        Fault::List => {
            let entries = Folder::of(directory).read().or_fail(Code::Io)?;
            let listing = Listing::new(&entries, &Moment::now()?);
            reporter.result(&listing, &listing.table());
            Ok(())
        }
        Fault::Clear { ids, all, forget } => clear(directory, ids, *all, *forget, reporter).await,
        Fault::Keep => Ok(keeper::run(directory).await?),
        Fault::Link(_)
        | Fault::Node(_)
        | Fault::Partition { .. }
        | Fault::Service { .. }
        | Fault::Clock { .. }
        | Fault::Disk { .. } => match wish(context, &deployment, words).await? {
            Wish::Heal(cable) => heal(directory, &cable, reporter).await,
            Wish::Thaw(machine) => thaw(directory, &machine, reporter).await,
            Wish::Make { asked, lasts, wait } => {
                let record = make(context, &deployment, asked, lasts).await?;
                tell(directory, &record, wait, reporter).await
            }
        },
    }
}

/// Sees to it that faults end whose time is over, should the process that ends them be gone. Verbs that look at a deployment
/// begin with it, and do not fail for it.
pub async fn tend(directory: &Directory, reporter: &Reporter) {
    if let Err(error) = keeper::tend(directory).await {
        reporter.warn(&format!("faults whose time is over may stand: {error:#}"));
    }
}

/// What the words ask of this deployment.
///
/// # Errors
///
/// All that is wrong with them, or what has to be done by hand.
pub async fn wish(context: &Context, deployment: &Deployment, words: &Fault) -> Result<Wish, Failure> {
    if deployment.stick.is_some()
        && let Some(next) = by_hand(words)
    {
        let message = "these machines are real: nothing on this computer can do that to them";
        return Err(Failure::new(Code::Unavailable, message).next(next));
    }
    let scene = gather::scene(deployment, &context.directory).await?;
    let wish = understand(words, &scene).or_fail(Code::Usage)?;
    wish.ok_or_else(|| Failure::new(Code::Software, "these words ask for no fault"))
}

/// Makes a fault.
///
/// # Errors
///
/// Another one stands in the way, something is missing, or it could not be done; then nothing is left of it, or the failure
/// says what is.
pub async fn make(
    context: &Context,
    deployment: &Deployment,
    asked: Asked,
    lasts: Option<Duration>,
) -> Result<Record, Failure> {
    let directory = &context.directory;
    let scene = gather::scene(deployment, directory).await?;
    let facts = gather::facts(&asked, deployment, context).await?;
    let site = Site::new(directory);
    let (record, _held) = {
        let locked = site.folder.lock().or_fail(Code::TryAgain)?;
        stands_in_the_way(&site.folder, &asked)?;
        let id = site.folder.next_id(&locked).or_fail(Code::Io)?;
        let course = course(&asked, &scene, &facts, id, lasts).or_fail(Code::Unavailable)?;
        let record = Record::new(id, asked, lasts, (course.apply, course.undo), Moment::now()?);
        let held = site.folder.hold(id, Duration::ZERO).or_fail(Code::Io)?;
        site.folder.begin(&locked, &record).or_fail(Code::Io)?;
        (record, held)
    };
    let id = record.id;
    if record.needs_keeping()
        && let Err(error) = keeper::ensure(directory, &site.folder).await
    {
        site.folder.remove(id).or_fail(Code::Io)?;
        return Err(error).or_fail(Code::Unavailable);
    }
    site.make(record).await.map_err(|failure| match failure {
        MakeFailure::Undone(error) => Failure { code: Code::Unavailable, error, next: None },
        MakeFailure::Left(id, error) => Failure { code: Code::Unavailable, error, next: None }
            .next(format!("meshboot fault clear {id}, which undoes what is left of it")),
    })
}

/// Undoes one fault.
///
/// # Errors
///
/// It could not be undone; then it is remembered, and tried again.
pub async fn end(directory: &Directory, id: FaultId) -> Result<bool, Failure> {
    let site = Site::new(directory);
    match site.end(id, Why::Asked).await {
        Ok(was_there) => Ok(was_there),
        Err(error) => {
            let next = match keeper::ensure(directory, &site.folder).await {
                Ok(()) => "it is tried again by itself: `meshboot fault list` tells how that goes",
                Err(_) => "try again; `meshboot fault list` tells what stands",
            };
            Err(Failure { code: Code::TryAgain, error, next: Some(next.to_owned()) })
        }
    }
}

/// Forgets what was done to a machine that is about to be removed, and to its cables.
///
/// # Errors
///
/// What of it would outlive the machine.
pub async fn forget_machine(
    directory: &Directory,
    deployment: &Deployment,
    machine: &MachineRecord,
) -> Result<(), Failure> {
    let site = Site::new(directory);
    let cables = deployment.cables_of(machine.number);
    let taps: Vec<String> =
        cables.flat_map(hardware::Cable::ends).map(|end| deployment.id.tap(end)).collect();
    let stays = |host: &Host| host.name != machine.name.as_str();
    for record in site.folder.records().or_fail(Code::Io)? {
        if !record.asked.machines().iter().any(|name| name == machine.name.as_str()) {
            continue;
        }
        // The other cables of a partition stay cut.
        let done = if matches!(record.asked, Asked::Partition { .. }) {
            site.shrink(record.id, &taps).await
        } else {
            site.abandon(record.id, "its machine was removed", stays).await
        };
        done.or_fail(Code::Unavailable)?;
    }
    Ok(())
}

/// Forgets every fault of a deployment that is about to be removed.
///
/// # Errors
///
/// What of them would outlive it.
pub async fn abandon(directory: &Directory) -> Result<(), Failure> {
    let site = Site::new(directory);
    for entry in site.folder.read().or_fail(Code::Io)? {
        site.abandon(entry.id(), "its deployment was removed", |_| false).await.or_fail(Code::Unavailable)?;
    }
    Ok(())
}

/// Takes note that a machine was switched on: by whom does not matter, it is not without power any more, and what was done
/// to its cables is done again. Its start does not fail for it.
pub async fn switched_on(directory: &Directory, machine: &str, domain: &str, reporter: &Reporter) {
    let site = Site::new(directory);
    if let Err(error) = site.switched_on(machine, domain).await {
        reporter.warn(&format!("what was done to cables of {machine} was not done again: {error:#}"));
    }
}

/// Whether nothing is broken, for those who cannot do their work while something is.
///
/// # Errors
///
/// What stands.
pub fn require_none(directory: &Directory, why: &str) -> Result<(), Failure> {
    let standing = Folder::of(directory).read().or_fail(Code::Io)?;
    let Some(first) = standing.first() else { return Ok(()) };
    let ids: Vec<String> = standing.iter().map(|entry| entry.id().to_string()).collect();
    let text = match first {
        Entry::Known(record) => record.asked.to_string(),
        Entry::Unknown { reason, .. } => reason.clone(),
    };
    let message = format!("{why}: {} ({text})", ids.join(", "));
    Err(Failure::new(Code::Unavailable, message).next("meshboot fault clear --all"))
}

fn stands_in_the_way(folder: &Folder, asked: &Asked) -> Result<(), Failure> {
    for entry in folder.read().or_fail(Code::Io)? {
        let (id, reason) = match entry {
            Entry::Known(record) => match overlap::conflict(asked, &record.asked) {
                Some(reason) => (record.id, reason),
                None => continue,
            },
            // What it holds nobody knows.
            Entry::Unknown { id, reason } => (id, reason),
        };
        let failure = Failure::new(Code::CannotCreate, format!("fault {id} stands in the way: {reason}"));
        return Err(failure.next(format!("meshboot fault clear {id}")));
    }
    Ok(())
}

async fn tell(
    directory: &Directory,
    record: &Record,
    wait: bool,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let (id, asked) = (record.id, &record.asked);
    let fault = View::of(record, &Moment::now()?);
    let text = match record.stands_for() {
        _ if record.asked.is_momentary() => format!("{id}: {asked}"),
        Some(time) => format!("{id}: {asked}; ends in {}", Span(time)),
        None => format!("{id}: {asked}; until `meshboot fault clear {id}`"),
    };
    let partition = left_out(directory, asked)?;
    reporter.result(&Made { fault }, &format!("{text}{partition}"));
    if wait { wait_for_end(directory, record, reporter).await } else { Ok(()) }
}

/// What a partition leaves as it was.
fn left_out(directory: &Directory, asked: &Asked) -> Result<String, Failure> {
    let Asked::Partition { sides, .. } = asked else { return Ok(String::new()) };
    let deployment = directory.require()?;
    let names = deployment.machines.iter().map(|machine| machine.name.to_string());
    let others: Vec<String> = names.filter(|name| !sides.concat().contains(name)).collect();
    if others.is_empty() {
        return Ok(String::new());
    }
    Ok(format!("\non no side, with all their cables, and perhaps a way round: {}", others.join(", ")))
}

async fn wait_for_end(directory: &Directory, record: &Record, reporter: &Reporter) -> Result<(), Failure> {
    let folder = Folder::of(directory);
    let limit = record.stands_for().unwrap_or_default() + LATE;
    reporter.stage(&format!("waiting for the end of {}", record.id));
    let changed = keeper::watch(folder.path()).or_fail(Code::Io)?;
    while let Some(entry) = folder.entry(record.id) {
        let now = Moment::now()?;
        let left = record.begun.left(limit, &now);
        if left.is_zero() {
            let reason = entry.known().and_then(|record| record.trouble).map(|trouble| trouble.reason);
            let reason = reason.unwrap_or_else(|| "nobody ends it".to_owned());
            let message = format!("{} still stands: {reason}", record.id);
            return Err(Failure::new(Code::TryAgain, message).next("meshboot fault list"));
        }
        reporter.waiting(&record.asked.to_string(), left);
        // Whichever comes first.
        let _ = tokio::time::timeout(INTERVAL.min(left), changed.notified()).await;
    }
    reporter.finish();
    Ok(())
}

async fn clear(
    directory: &Directory,
    words: &[String],
    all: bool,
    forget: bool,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let site = Site::new(directory);
    let entries = site.folder.read().or_fail(Code::Io)?;
    let there: Vec<FaultId> = entries.iter().map(Entry::id).collect();
    let chosen = if all { there } else { chosen(words, &there)? };
    // The last one first, as with the steps of one.
    let (mut cleared, mut failed) = (Vec::new(), Vec::new());
    for id in chosen.into_iter().rev() {
        let done = match forget {
            true => site.forget(id, "it was forgotten").await.or_fail(Code::Io),
            false => end(directory, id).await,
        };
        match done {
            Ok(true) => cleared.push(id.to_string()),
            Ok(false) => {}
            Err(failure) => failed.push(failure),
        }
    }
    let text = match cleared.as_slice() {
        [] if failed.is_empty() => "nothing is broken".to_owned(),
        [] => String::new(),
        ids => format!("{} {}", if forget { "forgotten:" } else { "undone:" }, ids.join(", ")),
    };
    if !text.is_empty() {
        reporter.result(&Cleared { cleared }, &text);
    }
    let others = failed.len().saturating_sub(1);
    match failed.into_iter().next() {
        None => Ok(()),
        Some(first) if others == 0 => Err(first),
        Some(first) => {
            let error = first.error.context(format!("{} faults could not be undone; the first", others + 1));
            Err(Failure { error, ..first })
        }
    }
}

/// Those that are named, or every name that is none.
fn chosen(words: &[String], there: &[FaultId]) -> Result<Vec<FaultId>, Failure> {
    let (mut chosen, mut wrong) = (Vec::new(), Vec::new());
    for word in words {
        match word.parse::<FaultId>() {
            Ok(id) if there.contains(&id) => chosen.push(id),
            Ok(_) => wrong.push(format!("there is no fault {word}")),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    if wrong.is_empty() {
        chosen.sort_unstable();
        chosen.dedup();
        return Ok(chosen);
    }
    let known: Vec<String> = there.iter().map(FaultId::to_string).collect();
    let known = if known.is_empty() { "nothing is broken".to_owned() } else { known.join(", ") };
    Err(Failure::new(Code::Usage, words::Mistakes(wrong)).next(format!("meshboot fault list: {known}")))
}

/// Undoes what was done to one cable alone. One that a partition cut stays cut: its other cables are.
async fn heal(directory: &Directory, cable: &Ends, reporter: &Reporter) -> Result<(), Failure> {
    let records = Folder::of(directory).records().or_fail(Code::Io)?;
    let concerns = |record: &&Record| record.asked.cables().contains(&cable);
    let (whole, alone): (Vec<&Record>, Vec<&Record>) =
        records.iter().filter(concerns).partition(|record| matches!(record.asked, Asked::Partition { .. }));
    if let (Some(partition), true) = (whole.first(), alone.is_empty()) {
        let message = format!("cable {cable} is one of those that {} cut: {}", partition.id, partition.asked);
        return Err(Failure::new(Code::Usage, message).next(format!("meshboot fault clear {}", partition.id)));
    }
    undo_all(directory, &alone, &format!("nothing was done to cable {cable}"), reporter).await
}

async fn thaw(directory: &Directory, machine: &str, reporter: &Reporter) -> Result<(), Failure> {
    let records = Folder::of(directory).records().or_fail(Code::Io)?;
    let frozen = Asked::NodeFreeze { machine: machine.to_owned() };
    let those: Vec<&Record> = records.iter().filter(|record| record.asked == frozen).collect();
    undo_all(directory, &those, &format!("{machine} was not frozen"), reporter).await
}

async fn undo_all(
    directory: &Directory,
    records: &[&Record],
    nothing: &str,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let mut cleared = Vec::new();
    for record in records.iter().rev() {
        if end(directory, record.id).await? {
            cleared.push(record.id.to_string());
        }
    }
    let text =
        if cleared.is_empty() { nothing.to_owned() } else { format!("undone: {}", cleared.join(", ")) };
    reporter.result(&Cleared { cleared }, &text);
    Ok(())
}

#[cfg(test)]
mod tests;
