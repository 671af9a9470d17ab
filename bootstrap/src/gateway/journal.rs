//! Makes durable what the netboot servers are about to speak of.

use std::sync::Arc;

use mesh::store::{TransactError, transact};
use mesh::{AddressPlan, Change, allocate};
use netboot_server::{CommitError, Journal};

use crate::store::journal::MeshStore;

/// The mesh's ledger, as the netboot servers see it.
#[derive(Debug, Clone)]
pub struct MeshJournal {
    store: Arc<MeshStore>,
    plan: Arc<AddressPlan>,
}

// === impl MeshJournal ===

impl MeshJournal {
    /// A journal in this store.
    #[must_use]
    pub fn new(store: Arc<MeshStore>, plan: Arc<AddressPlan>) -> Self {
        Self { store, plan }
    }
}

impl Journal for MeshJournal {
    async fn commit(&self, change: Change) -> Result<(), CommitError> {
        let this = self.clone();
        let write = move || match change {
            // Decided again on the newest ledger: another writer may know more of the far end.
            Change::Attach(link) => transact(&*this.store, |ledger| {
                Ok(((), allocate::attach(ledger, &this.plan, link.id, link.far).map_err(anyhow::Error::new)?))
            }),
            other @ (Change::Admit(_) | Change::Extend { .. } | Change::Remove(_)) => {
                transact(&*this.store, |_| Ok::<_, anyhow::Error>(((), Some(other.clone()))))
            }
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(TransactError::Decide(error))) => Err(CommitError { reason: format!("{error:#}") }),
            Ok(Err(TransactError::Store(error))) => {
                Err(CommitError { reason: format!("{:#}", anyhow::Error::new(error)) })
            }
            Err(error) => Err(CommitError { reason: format!("the ledger's task ended: {error}") }),
        }
    }
}
