//! `meshboot fault list`: what stands, since when, and for how long still.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::agenda::wait_after;
use super::asked::Span;
use super::moment::Moment;
use super::record::{Entry, Record, State};
use crate::status::columns;

/// The faults of a deployment.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Listing {
    /// Each of them, in the order of their making.
    pub faults: Vec<View>,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct View {
    /// Its name.
    pub id: String,
    /// Which kind it is, in the words of the command line; none if its record cannot be read.
    pub kind: Option<String>,
    /// What was done, in a few words.
    pub text: String,
    /// The machines that it is about.
    pub machines: Vec<String>,
    /// `applying`, `standing` or `ending`; `unknown` if its record cannot be read.
    pub state: &'static str,
    /// For how many milliseconds it has stood.
    pub stands: Option<u64>,
    /// In how many milliseconds it will end; none if somebody has to end it.
    pub left: Option<u64>,
    /// Why it could not be undone, or why nobody knows what it is.
    pub reason: Option<String>,
    /// In how many milliseconds it will be tried again to undo it.
    pub again: Option<u64>,
}

// === impl Listing ===

impl Listing {
    /// The listing at this moment.
    #[must_use]
    pub fn new(entries: &[Entry], now: &Moment) -> Self {
        Self { faults: entries.iter().map(|entry| View::new(entry, now)).collect() }
    }

    /// The listing for people.
    #[must_use]
    pub fn table(&self) -> String {
        if self.faults.is_empty() {
            return "nothing is broken".to_owned();
        }
        let header = ["ID", "FAULT", "SINCE", "ENDS", "REMARK"].map(str::to_owned);
        let span = |millis: Option<u64>| millis.map(|millis| Span(Duration::from_millis(millis)).to_string());
        let rows = self.faults.iter().map(|fault| {
            let ends = match (fault.state, fault.left) {
                ("ending", _) => "is to end".to_owned(),
                (_, Some(0)) => "now".to_owned(),
                (_, left) => {
                    span(left).map_or_else(|| "when cleared".to_owned(), |left| format!("in {left}"))
                }
            };
            let again = span(fault.again).map(|again| format!(" (again in {again})")).unwrap_or_default();
            let remark = fault.reason.as_ref().map(|reason| format!("{reason}{again}"));
            let remark = remark.or_else(|| (fault.state == "applying").then(|| "is being made".to_owned()));
            let since = span(fault.stands).map_or_else(|| "-".to_owned(), |since| format!("{since} ago"));
            [fault.id.clone(), fault.text.clone(), since, ends, remark.unwrap_or_default()]
        });
        columns(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
    }
}

// === impl View ===

impl View {
    fn new(entry: &Entry, now: &Moment) -> Self {
        match entry {
            Entry::Known(record) => Self::of(record, now),
            Entry::Unknown { id, reason } => Self {
                id: id.to_string(),
                kind: None,
                text: "?".to_owned(),
                machines: Vec::new(),
                state: "unknown",
                stands: None,
                left: None,
                reason: Some(reason.clone()),
                again: None,
            },
        }
    }

    /// What is to be known of a fault at this moment.
    #[must_use]
    pub fn of(record: &Record, now: &Moment) -> Self {
        let trouble = record.trouble.as_ref();
        Self {
            id: record.id.to_string(),
            kind: Some(record.asked.kind()),
            text: record.asked.to_string(),
            machines: record.asked.machines(),
            state: match record.state {
                State::Applying => "applying",
                State::Standing => "standing",
                State::Ending => "ending",
            },
            stands: record.begun.until(now).map(millis),
            left: record.left(now).map(millis),
            reason: trouble.map(|trouble| trouble.reason.clone()),
            again: trouble.map(|trouble| millis(trouble.at.left(wait_after(trouble.attempts), now))),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
