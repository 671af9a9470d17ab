//! A timeline for people: a line for each entry, with the time since something was last broken or mended.
//!
//! ```text
//! Sunday 2026-11-29, +01:00
//! 20:02:11.123            -      FAULT f1: cut the cable node1-node3
//! 20:02:11.291    +0.168  node1  enp2s0: no carrier (to node3)
//! 20:02:11.310    +0.187  node1  no routes to node3, node4 any more
//! 20:02:52        +41     node3  node NotReady: Kubelet stopped posting node status.
//! ```

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::clock::TOLERATED;
use super::entry::Entry;
use super::{Timeline, Witness};

/// Routes that change within so many microseconds of each other, in the same way and on the same machine, are one line.
const TOGETHER: u64 = 100_000;
const SECOND: u64 = 1_000_000;

/// One line: an entry, with those that are told with it.
struct Line<'a> {
    entry: &'a Entry,
    text: String,
}

/// The whole timeline.
#[must_use]
pub fn text(timeline: &Timeline, zone: &TimeZone) -> String {
    let lines = lines(timeline);
    if lines.is_empty() {
        return format!("nothing is known to have happened\n{}", remarks(timeline, zone));
    }
    let machine = |entry: &Entry| match &entry.machines[..] {
        [one] => one.clone(),
        _ => "-".to_owned(),
    };
    let widest = lines.iter().map(|line| machine(line.entry).chars().count()).max().unwrap_or_default();
    let mut out = String::new();
    let mut day: Option<Date> = None;
    let mut turn: Option<u64> = None;
    for Line { entry, text } in &lines {
        let local = timestamp(entry.at).to_zoned(zone.clone());
        if day.replace(local.date()) != Some(local.date()) {
            // Writing to a String cannot fail.
            let _infallible = writeln!(out, "{}", local.strftime("%A %Y-%m-%d, %:z"));
        }
        let is_coarse = entry.within >= SECOND;
        let clock = local.strftime(if is_coarse { "%H:%M:%S" } else { "%H:%M:%S.%3f" }).to_string();
        let after = match turn {
            Some(turn) if !entry.is_turn() => after(turn, entry.at, is_coarse),
            Some(_) | None => String::new(),
        };
        let machine = machine(entry);
        let _infallible = writeln!(out, "{clock:<12}  {after:<10}  {machine:<widest$}  {text}");
        if entry.is_turn() {
            turn = Some(entry.at);
        }
    }
    out.push_str(&remarks(timeline, zone));
    out
}

/// A time for programs.
#[must_use]
pub fn rfc3339(at: u64) -> String {
    format!("{:.6}", timestamp(at))
}

/// What whoever reads the times should know of them.
fn remarks(timeline: &Timeline, zone: &TimeZone) -> String {
    let mut out = String::new();
    let first = timeline.entries.first().map(|entry| entry.at);
    for Witness { machine, since, ahead, within } in &timeline.witnesses {
        if *within > TOLERATED {
            let _infallible = writeln!(out, "{machine}: its times may be off by {} ms", within / 1000);
        }
        if ahead.unsigned_abs() > TOLERATED.max(*within) {
            let (seconds, word) =
                (seconds(ahead.unsigned_abs()), if *ahead > 0 { "ahead" } else { "behind" });
            let _infallible =
                writeln!(out, "{machine}: its clock is {seconds} s {word}; that is corrected here");
        }
        if first.is_some_and(|first| first < *since) {
            let since = timestamp(*since).to_zoned(zone.clone()).strftime("%H:%M:%S").to_string();
            let _infallible = writeln!(out, "{machine}: what it noted before {since} is lost");
        }
    }
    for silent in &timeline.silent {
        let _infallible = writeln!(out, "{silent}");
    }
    if out.is_empty() { out } else { format!("\n{out}") }
}

fn lines(timeline: &Timeline) -> Vec<Line<'_>> {
    let (entries, names) = (&timeline.entries, &timeline.names);
    let mut told = vec![false; entries.len()];
    let mut lines = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        if told.get(at).copied().unwrap_or(true) {
            continue;
        }
        let Some((to, fate)) = entry.route(names) else {
            lines.push(Line { entry, text: entry.text(names) });
            continue;
        };
        let mut destinations = vec![to];
        let following = entries.iter().zip(&mut told).skip(at + 1);
        for (other, told) in following
            .take_while(|(other, _)| other.at <= entry.at.saturating_add(TOGETHER) && !other.is_turn())
        {
            if let Some((to, same)) = other.route(names)
                && same == fate
                && other.machines == entry.machines
                && !*told
                && !destinations.contains(&to)
            {
                destinations.push(to);
                *told = true;
            }
        }
        destinations.sort_by_key(|name| natural(name));
        lines.push(Line { entry, text: fate.text(&destinations) });
    }
    lines
}

/// `node2` before `node10`.
pub(super) fn natural(name: &str) -> (String, u64, String) {
    let word = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let number = name.strip_prefix(word).and_then(|digits| digits.parse().ok()).unwrap_or_default();
    (word.to_owned(), number, name.to_owned())
}

fn after(turn: u64, at: u64, is_coarse: bool) -> String {
    if is_coarse {
        // Both were cut to the second.
        return format!("+{}", (at / SECOND).saturating_sub(turn / SECOND));
    }
    let sign = if at < turn { '-' } else { '+' };
    format!("{sign}{}", seconds(at.abs_diff(turn)))
}

fn seconds(micros: u64) -> String {
    format!("{}.{:03}", micros / SECOND, micros % SECOND / 1000)
}

/// A time that is none was never; nobody tells of one.
fn timestamp(at: u64) -> Timestamp {
    let micros = i64::try_from(at).ok();
    micros.and_then(|at| Timestamp::from_microsecond(at).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
