//! Where blobs came from.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What a blob that was here already came from.
pub(super) const STORE: &str = "store";

/// What came from one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// A host's name or address, or `store` for what was here already.
    pub source: String,
    /// How many answers came to their end.
    pub blobs: u64,
    /// How many bytes; what was here counts as often as it was asked for, as a whole.
    pub bytes: u64,
}

/// Where blobs came from. There are as many places as the settings name, and as many as nodes name registries.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<BTreeMap<String, (u64, u64)>>);

/// Places that are told apart.
const MAX_PLACES: usize = 256;
/// All others.
const OTHERS: &str = "others";

// === impl Tally ===

impl Tally {
    /// An answer came to its end, with so many bytes that were not [added](Self::add) yet.
    pub(super) fn count(&self, source: &str, bytes: u64) {
        self.change(source, 1, bytes);
    }

    /// Bytes came.
    pub(super) fn add(&self, source: &str, bytes: u64) {
        self.change(source, 0, bytes);
    }

    fn change(&self, source: &str, blobs: u64, bytes: u64) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let source = if places.len() < MAX_PLACES || places.contains_key(source) { source } else { OTHERS };
        let place = match places.get_mut(source) {
            Some(place) => place,
            None => places.entry(source.to_owned()).or_default(),
        };
        *place = (place.0 + blobs, place.1 + bytes);
    }

    pub(super) fn counts(&self) -> Vec<Count> {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let places = places.iter();
        places
            .map(|(source, (blobs, bytes))| Count { source: source.clone(), blobs: *blobs, bytes: *bytes })
            .collect()
    }
}
