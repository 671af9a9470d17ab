//! Neighbours that may have what is missing.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Url;

use super::{UpstreamError, with_causes};

/// How long a neighbour that failed is left alone. Each is asked once in that time at most, so that requests in a mesh
/// without a way out do not multiply from hop to hop.
const REST: Duration = Duration::from_secs(5);
/// How long a neighbour may take to begin its answer as long as there is another one. What it has begun to fetch meanwhile
/// it goes on with, and further up it is one and the same fetch: only the way is another.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the last one may take: it asks the registry itself, and may have to wait for its turn there.
const LAST_PATIENCE: Duration = Duration::from_secs(240);

/// A neighbour.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) url: Url,
    /// How long it may take to begin its answer.
    pub(super) patience: Duration,
    failed: Mutex<Option<(Instant, String)>>,
}

// === impl Place ===

impl Place {
    /// Neighbours, nearest first.
    pub(super) fn row(urls: Vec<Url>) -> Vec<Self> {
        let last = urls.len().saturating_sub(1);
        let patience = |at| if at == last { LAST_PATIENCE } else { PATIENCE };
        let urls = urls.into_iter().enumerate();
        urls.map(|(at, url)| Self { url, patience: patience(at), failed: Mutex::default() }).collect()
    }

    /// Why it is left alone, if it is.
    pub(super) fn rests(&self) -> Option<String> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.as_ref().filter(|(at, _)| at.elapsed() < REST).map(|(_, reason)| reason.clone())
    }

    /// It failed, and is left alone from now on.
    pub(super) fn fail(&self, error: &UpstreamError) -> String {
        let reason = with_causes(error);
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        *failed = Some((Instant::now(), reason.clone()));
        reason
    }
}
