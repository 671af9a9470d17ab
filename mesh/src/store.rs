//! Where a ledger is kept.
//!
//! The trait stands here, with those who need it; its backends on disk and in Kubernetes stand on the top
//! floor. [`MemoryStore`] is the model that they are tested against.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::{ApplyError, Change, Ledger};

/// How often a writer that lost a race looks at the new ledger and decides again.
const MAX_ATTEMPTS: usize = 16;

/// Counts the changes of a ledger. A writer names the one it decided on; the store refuses if it is stale.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// A durable ledger. Calls block; a caller on an async runtime decides on which thread.
pub trait Store: Send + Sync {
    /// The ledger as it stands, and its revision.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] or [`StoreError::Corrupt`].
    fn load(&self) -> Result<(Ledger, Revision), StoreError>;

    /// Makes one change durable and returns the revision that it made. When this returns, a crash at any
    /// point later does not lose the change; when it fails, the change may or may not have been made, and
    /// [`load`](Self::load) tells.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if another writer was faster: load again and decide again.
    fn append(&self, expected: Revision, change: &Change) -> Result<Revision, StoreError>;
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another writer was faster.
    #[error("the ledger is at revision {} and not at {}: another writer was faster", actual.0, expected.0)]
    Conflict {
        /// What the writer had seen.
        expected: Revision,
        /// What the store holds.
        actual: Revision,
    },
    /// The store cannot be reached; to try again later may help.
    #[error("the ledger cannot be reached: {reason}")]
    Unavailable {
        /// What was attempted on what, and how it failed.
        reason: String,
    },
    /// The store holds something that is no ledger.
    #[error("the ledger in {place} is damaged: {reason}")]
    Corrupt {
        /// The file or object.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The change would break the ledger.
    #[error("the change was refused")]
    Refused(#[from] ApplyError),
}

/// Why a [`transact`]ion did not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum TransactError<E> {
    /// The decision itself failed.
    #[error(transparent)]
    Decide(E),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Decides on the newest ledger, makes the decision durable, and only then returns it. A lost race is decided
/// again, a few times.
///
/// # Errors
///
/// The decision's error, or the store's.
pub fn transact<T, E>(
    store: &dyn Store,
    mut decide: impl FnMut(&Ledger) -> Result<(T, Option<Change>), E>,
) -> Result<T, TransactError<E>> {
    let mut attempt = 1;
    loop {
        let (ledger, revision) = store.load()?;
        let (decision, change) = decide(&ledger).map_err(TransactError::Decide)?;
        let Some(change) = change else { return Ok(decision) };
        match store.append(revision, &change) {
            Ok(_) => return Ok(decision),
            Err(StoreError::Conflict { .. }) if attempt < MAX_ATTEMPTS => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// A store in memory: the model for tests.
#[derive(Debug, Default)]
pub struct MemoryStore {
    held: Mutex<(Ledger, Revision)>,
}

// === impl MemoryStore ===

impl Store for MemoryStore {
    fn load(&self) -> Result<(Ledger, Revision), StoreError> {
        Ok(self.held.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn append(&self, expected: Revision, change: &Change) -> Result<Revision, StoreError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let actual = held.1;
        if actual != expected {
            return Err(StoreError::Conflict { expected, actual });
        }
        held.0.apply(change)?;
        held.1 = Revision(actual.0 + 1);
        Ok(held.1)
    }
}

#[cfg(test)]
mod tests;
