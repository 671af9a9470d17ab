//! A token bucket: so many at once, then one every so often.

use std::time::{Duration, Instant};

/// A token bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    capacity: u32,
    every: Duration,
    left: u32,
    since: Option<Instant>,
}

// === impl Bucket ===

impl Bucket {
    /// A full bucket of `capacity` tokens that gains one `every` so often.
    #[must_use]
    pub fn new(capacity: u32, every: Duration) -> Self {
        Self { capacity, every, left: capacity, since: None }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let nanos = now.saturating_duration_since(since).as_nanos();
        let gained = u32::try_from(nanos / self.every.as_nanos().max(1)).unwrap_or(u32::MAX);
        if gained > 0 {
            self.left = self.left.saturating_add(gained).min(self.capacity);
            // What is left of the current interval counts for the next token.
            self.since =
                if self.left == self.capacity { Some(now) } else { Some(since + self.every * gained) };
        }
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        true
    }
}
