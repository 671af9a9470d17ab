//! The node's log of events, which everything that runs on it writes to and its status page shows.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use mesh::{EventPage, EventRing, Happening, Moment};
use rustix::time::{ClockId, clock_gettime};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What happened on this node since the service was started. Copies are the same log.
#[derive(Debug, Clone)]
pub struct EventLog {
    ring: Arc<Mutex<EventRing>>,
    boot_id: Arc<str>,
    started: u64,
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new()
    }
}

// === impl EventLog ===

impl EventLog {
    /// An empty log, of a service that starts now.
    #[must_use]
    pub fn new() -> Self {
        // A kernel without it is told from others by when the service was started.
        let boot_id = fs::read_to_string(BOOT_ID).unwrap_or_default();
        Self { ring: Arc::default(), boot_id: boot_id.trim().into(), started: moment().at }
    }

    /// Something happened just now.
    pub fn note(&self, what: Happening) {
        self.note_at(moment(), what);
    }

    /// Something happened at this [`moment`].
    pub fn note_at(&self, moment: Moment, what: Happening) {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).push(moment, what);
    }

    /// The events after the one of this number.
    #[must_use]
    pub fn page(&self, after: u64) -> EventPage {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let Moment { at, up } = moment();
        EventPage {
            now: at,
            up,
            boot_id: self.boot_id.to_string(),
            started: self.started,
            oldest: ring.oldest(),
            next: ring.next(),
            events: ring.after(after),
        }
    }
}

/// This moment by both clocks.
#[must_use]
pub fn moment() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let up = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(up.tv_sec).unwrap_or_default();
    let micros = u64::try_from(up.tv_nsec / 1000).unwrap_or_default();
    Moment {
        at: u64::try_from(since.as_micros()).unwrap_or(u64::MAX),
        up: seconds.saturating_mul(1_000_000).saturating_add(micros),
    }
}
