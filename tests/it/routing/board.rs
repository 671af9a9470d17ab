//! What the kernels' routing tables are at this moment, all in one place.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tests::netlink::{Routes, Watcher};

use super::truth::{Place, difference};

/// The tables of all machines that are on.
#[derive(Debug, Default)]
pub(crate) struct Board {
    tables: Mutex<BTreeMap<Place, (Instant, Routes)>>,
    changed: Condvar,
}

/// The tables did not become what they must be, or did not stay so.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) differences: Vec<String>,
}

impl Board {
    /// Waits until all tables are as expected and have been so for `hold`; says when they became so.
    pub(crate) fn settle(
        &self,
        expected: &BTreeMap<Place, Routes>,
        since: Instant,
        limit: Duration,
        hold: Duration,
    ) -> Result<Instant, Wrong> {
        let deadline = since + limit;
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let mut right_from: Option<Instant> = None;
        loop {
            let now = Instant::now();
            let differences: Vec<String> = expected
                .iter()
                .flat_map(|(place, routes)| match tables.get(place) {
                    Some((_, seen)) => difference(*place, routes, seen),
                    None => vec![format!("place {place}: nothing is known")],
                })
                .collect();
            if differences.is_empty() {
                let changed = tables.values().map(|(at, _)| *at).max().unwrap_or(now);
                right_from.get_or_insert_with(|| changed.max(since));
            } else {
                right_from = None;
            }
            let wait = match right_from {
                Some(from) if now >= from + hold => return Ok(from),
                Some(from) => from + hold - now,
                None if now >= deadline => return Err(Wrong { differences }),
                None => deadline - now,
            };
            tables = self.changed.wait_timeout(tables, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(crate) fn forget(&self, place: Place) {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
    }
}

/// Writes one machine's table on the board.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) board: Arc<Board>,
    pub(crate) place: Place,
}

impl Watcher for Writer {
    fn handle_routes(&self, routes: Routes) {
        let mut tables = self.board.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.insert(self.place, (Instant::now(), routes));
        self.board.changed.notify_all();
    }
}
