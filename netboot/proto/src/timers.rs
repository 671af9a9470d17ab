//! One table of deadlines in place of scattered sleeps.

use std::collections::BTreeMap;
use std::time::Instant;

/// The deadlines of one core, by the names that it gives them.
#[derive(Debug, Clone)]
pub struct TimerTable<T> {
    deadlines: BTreeMap<T, Instant>,
}

// === impl TimerTable ===

impl<T: Ord + Copy> TimerTable<T> {
    /// Sets or moves a deadline.
    pub fn set(&mut self, timer: T, at: Instant) {
        self.deadlines.insert(timer, at);
    }

    /// Forgets a deadline.
    pub fn stop(&mut self, timer: T) {
        self.deadlines.remove(&timer);
    }

    /// Forgets every deadline.
    pub fn clear(&mut self) {
        self.deadlines.clear();
    }

    /// One deadline, if it is set.
    #[must_use]
    pub fn get(&self, timer: T) -> Option<Instant> {
        self.deadlines.get(&timer).copied()
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.values().min().copied()
    }

    /// Takes the earliest deadline that has passed.
    pub fn expire(&mut self, now: Instant) -> Option<T> {
        let passed = self.deadlines.iter().filter(|(_, at)| **at <= now);
        let timer = passed.min_by_key(|(_, at)| **at).map(|(timer, _)| *timer)?;
        self.deadlines.remove(&timer);
        Some(timer)
    }
}

impl<T: Ord + Copy> Default for TimerTable<T> {
    fn default() -> Self {
        Self { deadlines: BTreeMap::new() }
    }
}
