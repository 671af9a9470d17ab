//! Moments of this computer, told by two clocks.
//!
//! How long a fault has stood must not depend on somebody setting the clock. So it is counted by the time since the
//! kernel started, which nobody can set and which goes on while a computer sleeps; only where that was another start of
//! the kernel does the wall's clock decide.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const UPTIME: &str = "/proc/uptime";

/// A moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Milliseconds since 1970, by this computer's clock.
    pub wall: u64,
    /// Milliseconds since the kernel started.
    pub uptime: u64,
    /// Which start of the kernel that was.
    pub boot: String,
}

// === impl Moment ===

impl Moment {
    /// This one.
    ///
    /// # Errors
    ///
    /// The kernel does not tell.
    pub fn now() -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        let uptime = uptime_in(&read(UPTIME)?).with_context(|| format!("{UPTIME} does not tell the time"))?;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        Ok(Self { wall, uptime, boot: read(BOOT_ID)?.trim().to_owned() })
    }

    /// How much later `now` is; none if no clock can tell, because this computer was restarted and its clock is before
    /// what it was.
    #[must_use]
    pub fn until(&self, now: &Self) -> Option<Duration> {
        let millis = if self.boot == now.boot {
            now.uptime.saturating_sub(self.uptime)
        } else {
            now.wall.checked_sub(self.wall)?
        };
        Some(Duration::from_millis(millis))
    }

    /// How much of `time` that began at this moment is left; nothing if no clock can tell.
    #[must_use]
    pub fn left(&self, time: Duration, now: &Self) -> Duration {
        self.until(now).map_or(Duration::ZERO, |past| time.saturating_sub(past))
    }
}

/// `12345.67 54321.00`: seconds with hundredths.
fn uptime_in(text: &str) -> Option<u64> {
    let (seconds, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    let hundredths: u64 = if hundredths.len() == 2 { hundredths.parse().ok()? } else { return None };
    seconds.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(hundredths * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot: &str, uptime: u64, wall: u64) -> Moment {
        Moment { wall, uptime, boot: boot.to_owned() }
    }

    #[test]
    fn a_clock_that_is_set_ends_nothing_and_lengthens_nothing() {
        let minute = Duration::from_mins(1);
        let begun = at("a", 100_000, 5_000_000);
        for wall in [0, 5_000_000, u64::MAX] {
            assert_eq!(begun.left(minute, &at("a", 110_000, wall)), Duration::from_secs(50));
            assert_eq!(begun.left(minute, &at("a", 160_000, wall)), Duration::ZERO);
        }
    }

    #[test]
    fn after_a_restart_the_clock_on_the_wall_decides() {
        let minute = Duration::from_mins(1);
        let begun = at("a", 100_000, 5_000_000);
        assert_eq!(begun.left(minute, &at("b", 1, 5_010_000)), Duration::from_secs(50));
        assert_eq!(begun.left(minute, &at("b", 1, 5_060_000)), Duration::ZERO);
        // It was set back: nobody knows, and a fault must not stand for ever.
        assert_eq!(begun.left(minute, &at("b", 1, 4_000_000)), Duration::ZERO);
    }

    #[test]
    fn the_kernel_tells() {
        assert_eq!(uptime_in("12345.67 54321.00\n"), Some(12_345_670));
        assert_eq!(uptime_in("x"), None);
        let (one, other) = (Moment::now().unwrap(), Moment::now().unwrap());
        assert!(one.until(&other).unwrap() < Duration::from_secs(5));
        assert!(!one.boot.is_empty());
    }
}
