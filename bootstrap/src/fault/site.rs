//! One deployment's faults while something is done to them: the records, the hands, the journal.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use super::agenda::Why;
use super::asked::Asked;
use super::hands::Hands;
use super::moment::Moment;
use super::record::{Entry, FaultId, Folder, Record, State, Trouble};
use super::step::Step;
use crate::deployment::Directory;
use crate::ssh::Host;
use crate::timeline::journal::{self, Act, Journal};

/// Whoever does a fault's steps has limits of his own, which are shorter.
const HOLD_PATIENCE: Duration = Duration::from_mins(5);

/// The faults of one deployment.
#[derive(Debug, Clone)]
pub struct Site {
    /// Where the deployment is.
    pub directory: Directory,
    /// What is remembered of its faults.
    pub folder: Folder,
    hands: Hands,
}

/// Why a fault was not made.
#[derive(Debug)]
pub enum MakeFailure {
    /// Nothing is left of it.
    Undone(anyhow::Error),
    /// Something may be left, which is tried to be undone.
    Left(FaultId, anyhow::Error),
}

// === impl Site ===

impl Site {
    /// The faults of the deployment in this directory.
    #[must_use]
    pub fn new(directory: &Directory) -> Self {
        Self { directory: directory.clone(), folder: Folder::of(directory), hands: Hands::new(directory) }
    }

    /// Does the steps of a fault whose record is written and held, and says from when on it stands.
    ///
    /// # Errors
    ///
    /// What could not be done. Then all of it is undone.
    pub async fn make(&self, mut record: Record) -> Result<Record, MakeFailure> {
        let id = record.id;
        for step in &record.apply {
            if let Err(error) = self.hands.run(step).await {
                return Err(match self.undo(record, Why::Failed).await {
                    Ok(()) => MakeFailure::Undone(error),
                    Err(left) => MakeFailure::Left(id, error.context(format!("{left:#}; before that"))),
                });
            }
        }
        self.renew_all(&record.apply).await;
        let stands = || -> Result<Record> {
            record.begun = Moment::now()?;
            record.state = State::Standing;
            self.folder.write(&record)?;
            Ok(record)
        };
        // Its record still says that it is being made, so it will be undone.
        let record = stands().map_err(|error| MakeFailure::Left(id, error))?;
        self.note(Act::FaultInjected(in_journal(&record)));
        if record.asked.is_momentary() {
            let done = self.folder.remove(id);
            done.map_err(|error| MakeFailure::Left(id, error))?;
            self.note(Act::FaultUndone {
                id: id.to_string(),
                why: "it is over as soon as it is done".to_owned(),
            });
        }
        Ok(record)
    }

    /// Undoes a fault and forgets it. Whether it was there.
    ///
    /// # Errors
    ///
    /// What could not be undone: it is remembered, and tried again.
    pub async fn end(&self, id: FaultId, why: Why) -> Result<bool> {
        let Some(_held) = self.hold(id).await? else { return Ok(false) };
        let record = match self.folder.entry(id) {
            None => return Ok(false),
            Some(Entry::Known(record)) => *record,
            Some(Entry::Unknown { reason, .. }) => anyhow::bail!("nobody knows how {id} is undone: {reason}"),
        };
        // Between two looks at it somebody else may have made it stand.
        let is_other = why == Why::CutOff && record.state != State::Applying;
        if is_other {
            return Ok(false);
        }
        self.undo(record, why).await.map(|()| true)
    }

    /// Forgets a fault without undoing it. Whether it was there.
    ///
    /// # Errors
    ///
    /// Its record cannot be removed.
    pub async fn forget(&self, id: FaultId, why: &str) -> Result<bool> {
        let Some(_held) = self.hold(id).await? else { return Ok(false) };
        if self.folder.entry(id).is_none() {
            return Ok(false);
        }
        self.folder.remove(id)?;
        self.note(Act::FaultUndone { id: id.to_string(), why: why.to_owned() });
        Ok(true)
    }

    /// Forgets a fault of machines that are about to be removed, and takes away what would outlive them: on this computer,
    /// and as far as they can be reached on those machines that `stay`.
    ///
    /// # Errors
    ///
    /// What could not be taken away from this computer, or a record that cannot be removed.
    pub async fn abandon(&self, id: FaultId, why: &str, stays: impl Fn(&Host) -> bool) -> Result<()> {
        let Some(_held) = self.hold(id).await? else { return Ok(()) };
        if let Some(Entry::Known(record)) = self.folder.entry(id) {
            // A tap outlives its cable: the port has the next one in it some time.
            let is_here = |step: &Step| matches!(step, Step::Pass { .. } | Step::Unshape { .. });
            let (here, others): (Vec<Step>, Vec<Step>) = record.undo.into_iter().partition(is_here);
            self.hands.run_all(&here).await?;
            let is_left = |step: &Step| matches!(step, Step::Inside { host, .. } if stays(host));
            let left: Vec<Step> = others.into_iter().filter(is_left).collect();
            if let Err(error) = self.hands.run_all(&left).await {
                tracing::warn!("{error:#}");
            }
        }
        self.note(Act::FaultUndone { id: id.to_string(), why: why.to_owned() });
        self.folder.remove(id)
    }

    /// Has a fault do nothing more to these ports, whose cables are about to be removed.
    ///
    /// # Errors
    ///
    /// What would outlive them could not be taken away, or the record cannot be written.
    pub async fn shrink(&self, id: FaultId, taps: &[String]) -> Result<()> {
        let Some(_held) = self.hold(id).await? else { return Ok(()) };
        let Some(Entry::Known(mut record)) = self.folder.entry(id) else { return Ok(()) };
        let (gone, apply): (Vec<Step>, Vec<Step>) =
            record.apply.into_iter().partition(|step| step.tap().is_some_and(|tap| taps.contains(tap)));
        let tables: Vec<Step> = gone.iter().filter_map(Step::passing).collect();
        self.hands.run_all(&tables).await?;
        record.apply = apply;
        let concerns =
            |step: &Step| tables.contains(step) || step.tap().is_some_and(|tap| taps.contains(tap));
        record.undo.retain(|step| !concerns(step));
        self.folder.write(&record)
    }

    /// Takes note that a machine was switched on by somebody.
    ///
    /// # Errors
    ///
    /// A record cannot be removed, or a step cannot be done.
    pub async fn switched_on(&self, machine: &str, domain: &str) -> Result<()> {
        let killed = Asked::NodeKill { machine: machine.to_owned() };
        for record in self.folder.records()?.into_iter().filter(|record| record.asked == killed) {
            self.forget(record.id, "it was switched on").await?;
        }
        self.renew(domain).await
    }

    /// Cuts a flapping cable in the even halves of its periods, and mends it in the odd ones.
    ///
    /// # Errors
    ///
    /// What could not be done.
    pub async fn turn(&self, id: FaultId, half: u64) -> Result<()> {
        let Some(_held) = self.hold(id).await? else { return Ok(()) };
        let Some(Entry::Known(record)) = self.folder.entry(id) else { return Ok(()) };
        if record.state != State::Standing {
            return Ok(());
        }
        let steps = if half.is_multiple_of(2) { &record.apply } else { &record.undo };
        self.hands.run_all(steps).await
    }

    /// Does again what a machine lost with its power.
    ///
    /// # Errors
    ///
    /// What could not be done.
    pub async fn renew(&self, domain: &str) -> Result<()> {
        for Record { id, state, .. } in self.folder.records()? {
            // Who is at work at one may be who asks for this, and is not standing then.
            if state != State::Standing {
                continue;
            }
            let Some(_held) = self.hold(id).await? else { continue };
            // Between the two looks somebody may have ended it.
            if let Some(Entry::Known(record)) = self.folder.entry(id)
                && record.state == State::Standing
            {
                self.hands.renew(domain, &record).await?;
            }
        }
        Ok(())
    }

    /// Holds a fault, unless there is none: a lock that nobody needs any more must not be left behind.
    async fn hold(&self, id: FaultId) -> Result<Option<std::fs::File>> {
        if self.folder.entry(id).is_none() {
            return Ok(None);
        }
        let folder = self.folder.clone();
        let held = tokio::task::spawn_blocking(move || folder.hold(id, HOLD_PATIENCE)).await;
        let held = held.context("waiting for a lock")??;
        if self.folder.entry(id).is_none() {
            self.folder.remove(id)?;
            return Ok(None);
        }
        Ok(Some(held))
    }

    async fn undo(&self, mut record: Record, why: Why) -> Result<()> {
        let id = record.id;
        if record.state == State::Standing {
            record.state = State::Ending;
            self.folder.write(&record)?;
        }
        if let Err(error) = self.hands.run_all(&record.undo).await {
            let attempts = record.trouble.as_ref().map_or(0, |trouble| trouble.attempts).saturating_add(1);
            let reason = format!("{error:#}");
            record.state = State::Ending;
            record.trouble = Some(Trouble { attempts, reason, at: Moment::now()?, why });
            self.folder.write(&record)?;
            return Err(error.context(format!("cannot undo {id}, {}", record.asked)));
        }
        self.renew_all(&record.undo).await;
        // What never stood was never told of.
        if why != Why::Failed && why != Why::CutOff {
            self.note(Act::FaultUndone { id: id.to_string(), why: why.to_string() });
        }
        self.folder.remove(id)
    }

    /// What stands at cables of machines that these steps gave power is done again.
    async fn renew_all(&self, done: &[Step]) {
        for step in done {
            if let Step::PowerOn { domain } = step
                && let Err(error) = self.renew(domain).await
            {
                tracing::warn!("{error:#}");
            }
        }
    }

    /// Writes an act down. That it could not be written changes nothing of what was done.
    fn note(&self, act: Act) {
        if let Err(error) = Journal::append(&self.directory, journal::Entry::now(act)) {
            tracing::warn!("{error:#}");
        }
    }
}

fn in_journal(record: &Record) -> journal::Fault {
    let until = record.stands_for().map(|time| {
        let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + time;
        u64::try_from(end.as_micros()).unwrap_or(u64::MAX)
    });
    let asked: &Asked = &record.asked;
    journal::Fault {
        id: record.id.to_string(),
        kind: asked.kind(),
        machines: asked.machines(),
        text: asked.to_string(),
        until,
    }
}
