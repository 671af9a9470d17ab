//! Who passed a request on until it came here.

use std::fmt;

use reqwest::header::{HeaderMap, HeaderValue, VIA};

/// No mesh is so deep: a longer trail goes in a circle, by way of somebody who does not say so.
const MAX_HOPS: usize = 64;

/// The mirrors that passed a request on, the first one first: its `Via` [RFC 9110 § 7.6.3].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail(Vec<String>);

// === impl Trail ===

impl Trail {
    /// The trail of a request.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(VIA).iter().filter_map(|line| line.to_str().ok());
        let hops = lines.flat_map(|line| line.split(','));
        // A protocol, who received it, and perhaps a comment.
        let names = hops.filter_map(|hop| hop.split_ascii_whitespace().nth(1));
        Self(names.take(MAX_HOPS).map(ToOwned::to_owned).collect())
    }

    /// Whether the one of this name would pass on what it asked for itself.
    pub(crate) fn comes_back_to(&self, name: &str) -> bool {
        self.0.len() >= MAX_HOPS || self.0.iter().any(|hop| hop == name)
    }

    /// The header of a request that the one of this name passes on.
    pub(super) fn passed_on_by(&self, name: &str) -> Option<HeaderValue> {
        let hops = self.0.iter().map(String::as_str).chain([name]);
        let hops: Vec<String> = hops.map(|hop| format!("1.1 {hop}")).collect();
        HeaderValue::from_str(&hops.join(", ")).ok()
    }
}

impl fmt::Display for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(lines: &[&str]) -> Trail {
        let lines = lines.iter().map(|line| (VIA, HeaderValue::from_str(line).unwrap()));
        Trail::of(&lines.collect())
    }

    #[test]
    fn a_trail_is_read_as_it_is_written() {
        let begun = Trail::default().passed_on_by("node4").unwrap();
        let there = trail(&[begun.to_str().unwrap()]).passed_on_by("node3").unwrap();
        assert_eq!(there, "1.1 node4, 1.1 node3");
        let read = trail(&["HTTP/1.0 proxy.example:3128 (squid), 1.1 node4", "1.1 node3"]);
        assert_eq!(read.to_string(), "proxy.example:3128, node4, node3");
        assert!(read.comes_back_to("node4") && !read.comes_back_to("node"));
        assert_eq!(trail(&["", ",,", "1.1"]), Trail::default());
    }

    #[test]
    fn a_trail_without_end_comes_back() {
        assert!(trail(&["1.1 a,"; 1000].map(|_| "1.1 a")).comes_back_to("b"));
    }
}
