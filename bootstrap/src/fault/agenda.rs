//! What is to be done now for the faults that stand, and when to look again.
//!
//! Pure: the records, what was done before, and the moment come in as values.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::moment::Moment;
use super::record::{FaultId, Record, State};

/// The first wait after an undoing that failed; each further one is twice as long.
pub const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// A fault that is being made is looked at so often: that its maker dies is no event.
const WATCH: Duration = Duration::from_secs(1);

/// Why a fault is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Somebody asked.
    Asked,
    /// Its time is over.
    Over,
    /// Whoever made it was cut off.
    CutOff,
    /// Not all of it could be made.
    Failed,
}

/// Something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Undo a fault.
    Undo(FaultId, Why),
    /// Cut a flapping cable, or mend it.
    Turn {
        /// The fault.
        id: FaultId,
        /// Which half of a period it is, counted from the beginning: even ones are down.
        half: u64,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Agenda {
    /// Now, in this order.
    pub duties: Vec<Duty>,
    /// When to look again, if nothing happens before; none if there is nothing to look after.
    pub wake: Option<Duration>,
}

/// The agenda at this moment. `turned` is in which half of its period each flapping cable was left; `cut_off` are the
/// faults that are half made and that nobody makes.
#[must_use]
pub fn agenda(
    records: &[Record],
    turned: &BTreeMap<FaultId, u64>,
    cut_off: &BTreeSet<FaultId>,
    now: &Moment,
) -> Agenda {
    let mut agenda = Agenda::default();
    for record in records {
        let (duty, wake) = look(record, turned.get(&record.id).copied(), cut_off.contains(&record.id), now);
        agenda.duties.extend(duty);
        agenda.wake = agenda.wake.into_iter().chain(wake).min();
    }
    agenda
}

/// How long an undoing that failed so often is left alone.
#[must_use]
pub fn wait_after(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT)
}

fn look(
    record: &Record,
    turned: Option<u64>,
    cut_off: bool,
    now: &Moment,
) -> (Option<Duty>, Option<Duration>) {
    let undo = |why| {
        let wait = record.trouble.as_ref().map(|trouble| trouble.at.left(wait_after(trouble.attempts), now));
        match wait.filter(|wait| !wait.is_zero()) {
            Some(wait) => (None, Some(wait)),
            None => (Some(Duty::Undo(record.id, why)), None),
        }
    };
    match record.state {
        State::Applying if cut_off => undo(Why::CutOff),
        State::Applying => (None, Some(WATCH)),
        State::Ending => undo(record.trouble.as_ref().map_or(Why::Over, |trouble| trouble.why)),
        State::Standing => match (record.left(now), record.pulse()) {
            (Some(Duration::ZERO), _) => undo(Why::Over),
            (left, None) => (None, left),
            (left, Some((period, _))) => {
                let (half, rest) = half_of(period, record.begun.until(now).unwrap_or_default());
                let turn = Duty::Turn { id: record.id, half };
                let wake = left.map_or(rest, |left| left.min(rest));
                ((turned != Some(half)).then_some(turn), Some(wake))
            }
        },
    }
}

/// Which half of a period it is after this time, and how long it still is.
fn half_of(period: Duration, past: Duration) -> (u64, Duration) {
    let half = (period.as_millis() / 2).max(1);
    let past = past.as_millis();
    let rest = half - past % half;
    (
        u64::try_from(past / half).unwrap_or(u64::MAX),
        Duration::from_millis(u64::try_from(rest).unwrap_or(u64::MAX)),
    )
}

// === impl Why ===

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Asked => "asked to",
            Self::Over => "its time was over",
            Self::CutOff => "whoever made it was cut off",
            Self::Failed => "not all of it could be done",
        })
    }
}
