//! Whether a link is served, for those of its servers that run beside the port's own loop.

use std::sync::{PoisonError, RwLock};

/// Open as long as nothing is wrong with the link. What has begun goes on behind a gate that closes.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    closed: RwLock<Option<String>>,
}

// === impl Gate ===

impl Gate {
    /// Opens it, or closes it for a reason.
    pub(crate) fn set(&self, closed: Option<String>) {
        *self.closed.write().unwrap_or_else(PoisonError::into_inner) = closed;
    }

    /// Why it is closed, if it is.
    pub(crate) fn closed(&self) -> Option<String> {
        self.closed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
