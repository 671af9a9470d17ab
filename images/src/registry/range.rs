//! Byte ranges: one, as registry clients resume with [RFC 9110 § 14].

use std::ops::RangeInclusive;

/// What part of a blob was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it. A header that is malformed, of another unit, or of several ranges counts as none
    /// [RFC 9110 § 14.2].
    Whole,
    /// These bytes.
    Part(RangeInclusive<u64>),
    /// Bytes that there are not.
    Unsatisfiable,
}

/// Reads a `Range` header for a blob of `size` bytes.
pub(super) fn parse(header: &str, size: u64) -> Wanted {
    let Some(("bytes", set)) = header.split_once('=').map(|(unit, set)| (unit.trim(), set.trim())) else {
        return Wanted::Whole;
    };
    let Some((first, last)) = set.split_once('-').map(|(first, last)| (first.trim(), last.trim())) else {
        return Wanted::Whole;
    };
    // A number too large for 64 bits is still a number, and past any end.
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let end = size.checked_sub(1);
    match (first, last) {
        ("", last) => match (number(last), end) {
            (None, _) => Wanted::Whole,
            (Some(0), _) | (_, None) => Wanted::Unsatisfiable,
            (Some(count), Some(end)) => Wanted::Part(size.saturating_sub(count)..=end),
        },
        (first, "") => match (number(first), end) {
            (None, _) => Wanted::Whole,
            (Some(first), Some(end)) if first <= end => Wanted::Part(first..=end),
            (Some(_), _) => Wanted::Unsatisfiable,
        },
        (first, last) => match (number(first), number(last), end) {
            (Some(first), Some(last), _) if last < first => Wanted::Whole,
            (Some(first), Some(last), Some(end)) if first <= end => Wanted::Part(first..=last.min(end)),
            (Some(_), Some(_), _) => Wanted::Unsatisfiable,
            _ => Wanted::Whole,
        },
    }
}
