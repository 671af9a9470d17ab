//! One range of a file, and tags that name it `[RFC 9110 § 13, § 14]`.
//!
//! The ready-made file services tag a file by its date and size; a boot file is known by its digest, on every
//! machine that serves it, and a client may go on at another one.

use hyper::header::HeaderValue;

/// What a client wants of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    All,
    /// From one octet up to, and without, another.
    Part { from: u64, to: u64 },
    /// A part that the file has not got.
    Impossible,
}

/// Reads a Range header. What is not understood, and several ranges at once, may be answered with all of it.
pub(super) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some((first, last)) = header.and_then(single) else { return Wanted::All };
    match (first, last) {
        (None, None) => Wanted::All,
        (None, Some(0)) => Wanted::Impossible,
        (None, Some(_)) if size == 0 => Wanted::Impossible,
        (None, Some(suffix)) => Wanted::Part { from: size.saturating_sub(suffix), to: size },
        (Some(first), Some(last)) if last < first => Wanted::All,
        (Some(first), _) if first >= size => Wanted::Impossible,
        (Some(first), None) => Wanted::Part { from: first, to: size },
        (Some(first), Some(last)) => Wanted::Part { from: first, to: last.saturating_add(1).min(size) },
    }
}

/// Whether a list of tags names this one. A weak tag is as good: the digest is strong.
pub(super) fn names(tags: &str, tag: &HeaderValue) -> bool {
    tags.split(',').map(str::trim).any(|known| known == "*" || known.trim_start_matches("W/") == *tag)
}

fn single(header: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (first, last) = header.trim().strip_prefix("bytes=")?.trim().split_once('-')?;
    Some((number(first)?, number(last)?))
}

/// A number or nothing; none if it is neither.
fn number(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    let digits = text.bytes().all(|digit| digit.is_ascii_digit());
    digits.then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests;
