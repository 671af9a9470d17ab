//! Where changes are made durable.

use std::future::Future;

use mesh::Change;

/// Makes changes durable, on behalf of the caller's store.
pub trait Journal: Send + Sync + 'static {
    /// Makes one change durable. When this returns without an error, a crash does not lose the change.
    ///
    /// The servers hand over [`Change::Attach`] only, decided on what they last knew of the link. An implementation
    /// should decide again on the newest ledger, by [`mesh::allocate::attach`] with the same link and far
    /// Ethernet address: it keeps the name of a machine that is known at that port, and finds nothing to do if
    /// another writer was faster.
    fn commit(&self, change: Change) -> impl Future<Output = Result<(), CommitError>> + Send;
}

/// A change that may not be durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct CommitError {
    /// What was attempted on what, and how it failed; shown in the status.
    pub reason: String,
}
