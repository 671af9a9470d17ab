//! Times as people write them: `-10m`, `20:02`, `2026-11-29 20:02:11`, or with a zone.

use jiff::civil::{DateTime, Time};
use jiff::{SignedDuration, Timestamp, Zoned};

/// The time that a text means, in microseconds since 1970. One without a date is today's, one without a zone is of
/// this computer's.
///
/// # Errors
///
/// It means none; the text says what would.
pub fn since(text: &str) -> Result<u64, String> {
    since_from(text, &Zoned::now())
}

fn since_from(text: &str, now: &Zoned) -> Result<u64, String> {
    let text = text.trim();
    // 18:30:05 would be a duration as well.
    let time = moment(text, now).or_else(|| ago(text, now)).ok_or_else(|| {
        format!("`{text}` is no time: write -10m, 20:02, 2026-11-29T20:02:11 or 2026-11-29T20:02:11Z")
    })?;
    u64::try_from(time.as_microsecond()).map_err(|_| format!("`{text}` is before 1970"))
}

/// A duration, with a sign or without: so long ago.
fn ago(text: &str, now: &Zoned) -> Option<Timestamp> {
    let duration: SignedDuration = text.parse().ok()?;
    now.timestamp().checked_sub(duration.abs()).ok()
}

fn moment(text: &str, now: &Zoned) -> Option<Timestamp> {
    if let Ok(timestamp) = text.parse() {
        return Some(timestamp);
    }
    // A word alone is a date or a time, and a time may do without its date.
    let time = text.parse::<Time>().ok().filter(|_| text.contains(':') && !text.contains('-'));
    let local = match time {
        Some(time) => now.date().to_datetime(time),
        None => text.parse::<DateTime>().ok()?,
    };
    local.to_zoned(now.time_zone().clone()).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_write_them() {
        let now: Zoned = "2026-11-29T20:02:11+01:00[+01:00]".parse().unwrap();
        for (text, meant) in [
            ("-10m", "2026-11-29T18:52:11Z"),
            ("10m", "2026-11-29T18:52:11Z"),
            ("1h30m", "2026-11-29T17:32:11Z"),
            ("90s", "2026-11-29T19:00:41Z"),
            ("18:30", "2026-11-29T17:30:00Z"),
            ("18:30:05.5", "2026-11-29T17:30:05.5Z"),
            ("2026-11-28 18:30", "2026-11-28T17:30:00Z"),
            ("2026-11-28T18:30:07", "2026-11-28T17:30:07Z"),
            ("2026-11-28T18:30:07Z", "2026-11-28T18:30:07Z"),
            ("2026-11-28", "2026-11-27T23:00:00Z"),
        ] {
            let meant: Timestamp = meant.parse().unwrap();
            assert_eq!(since_from(text, &now), Ok(u64::try_from(meant.as_microsecond()).unwrap()), "{text}");
        }
        for text in ["", "yesterday", "25:00", "-", "1969-01-01T00:00:00Z"] {
            assert!(since_from(text, &now).is_err(), "{text}");
        }
    }
}
