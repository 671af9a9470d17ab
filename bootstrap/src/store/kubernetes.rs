//! A ledger in the site's Kubernetes API.
//!
//! Machines and links are objects ([`crds`](super::crds)); what makes them one ledger with one order of
//! changes is a single object, the **head**: a ConfigMap with the revision and the change that made it. Every
//! writer takes the same steps:
//!
//! 1. Read the head. Another revision than the one that was decided on is a conflict.
//! 2. Write the objects of the change that it holds: whoever made it may have died before that.
//! 3. Replace the head by one with the next revision and the new change, on condition that its
//!    `resourceVersion` is the one that was read. This is the commit: of two writers one gets a conflict.
//! 4. Write the objects of the new change. If this fails nothing is lost: see 2.
//!
//! A reader reads the head, the objects, and the head once more; if it is the same, the objects with the head's
//! change laid over them are the ledger at the head's revision.
//!
//! A writer that slept between 3 and 4 writes late. So each object names the revision that wrote it and is never
//! replaced by an older one, and the head remembers which machines were removed at which revision: an
//! object of such a machine that is not younger is none. That also lets a relay remove a machine, which has no
//! right to delete objects; who has it sweeps.
//!
//! An operator who deletes a `Machine` by hand removes the machine and its links from the ledger, unless the newest change
//! is the one that wrote it: then readers still see it, and the next writer writes it again. `meshboot node delete` makes a
//! change of it instead.
//!
//! Calls block for at most twenty seconds and belong on a thread that may block, not on one that drives a runtime.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use mesh::{AddressPlan, Change, Ledger, Revision, Store, StoreError};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tracing::debug;

use self::access::Access;
use self::head::{Head, Origin, Pending};

mod access;
mod head;
mod import;
mod install;
mod objects;
mod status;

pub use self::import::Import;

/// The namespace of the head.
pub const NAMESPACE: &str = "meshboot";
/// The head's name.
pub const HEAD: &str = "meshboot-ledger";

/// Whoever waits for the ledger waits no longer than this.
const OPERATION: Duration = Duration::from_secs(20);
/// The commit was made; its objects can wait for the next writer.
const MATERIALISE: Duration = Duration::from_secs(5);
/// How often a reader that was overtaken by writers reads again.
const MAX_READS: usize = 20;

/// A ledger in Kubernetes.
#[derive(Debug)]
pub struct KubernetesStore {
    access: Access,
    plan: AddressPlan,
    seen: Mutex<Option<(Arc<Ledger>, Revision)>>,
    /// The last revision whose objects are known to be written.
    materialised: AtomicU64,
}

// === impl KubernetesStore ===

impl KubernetesStore {
    /// A store for the API that a kubeconfig names: an administrator's on a seed, the kubelet's on a relay.
    /// Nothing is read yet; the file is read at the first call, after each failure and every few minutes,
    /// for a kubelet's certificate is renewed under its hands.
    #[must_use]
    pub fn new(kubeconfig: impl Into<PathBuf>, plan: AddressPlan, runtime: Handle) -> Self {
        Self {
            access: Access::new(kubeconfig.into(), runtime),
            plan,
            seen: Mutex::default(),
            materialised: AtomicU64::default(),
        }
    }

    /// The newest ledger that a call of this store has read or made.
    #[must_use]
    pub fn seen(&self) -> Option<(Arc<Ledger>, Revision)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notifies one when the watch begins and whenever somebody has changed the ledger; returns when the watch
    /// breaks, and why it did.
    pub async fn watch(&self, changed: &Notify) -> StoreError {
        self.access.watch(changed).await
    }

    async fn read(&self, client: &Client) -> Result<(Arc<Ledger>, Head), StoreError> {
        let mut head = ready(Head::read(client).await?)?;
        for _ in 0..MAX_READS {
            let listed = objects::list(client).await?;
            let again = ready(Head::read(client).await?)?;
            if again.version == head.version {
                let ledger = Arc::new(listed.ledger(&head, &self.plan)?);
                self.see(&ledger, head.revision);
                return Ok((ledger, head));
            }
            head = again;
        }
        Err(StoreError::Unavailable {
            reason: format!("it changed {MAX_READS} times while it was read: other writers are busy"),
        })
    }

    async fn commit(
        &self,
        client: &Client,
        expected: Revision,
        change: &Change,
    ) -> Result<(Head, Arc<Ledger>), StoreError> {
        let seen = self.seen().filter(|(_, revision)| *revision == expected);
        let (ledger, head) = match seen {
            Some((ledger, _)) => (ledger, ready(Head::read(client).await?)?),
            None => self.read(client).await?,
        };
        if head.revision != expected {
            return Err(StoreError::Conflict { expected, actual: head.revision });
        }
        let mut next = Ledger::clone(&ledger);
        next.apply(change)?;
        if self.materialised.load(Ordering::Acquire) < head.revision.0 {
            objects::materialise(client, &head).await?;
            self.materialised.fetch_max(head.revision.0, Ordering::AcqRel);
        }
        let revision = Revision(expected.0 + 1);
        let pending = Pending::new(change, &ledger, &next, &self.plan, revision);
        let Some(head) = head.succeed(client, revision, pending).await? else {
            let actual = Head::read(client).await?.map_or(revision, |head| head.revision);
            return Err(StoreError::Conflict { expected, actual });
        };
        let next = Arc::new(next);
        self.see(&next, revision);
        Ok((head, next))
    }

    fn see(&self, ledger: &Arc<Ledger>, revision: Revision) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // What an operator deleted by hand changes the ledger at the same revision.
        if seen.as_ref().is_none_or(|(_, known)| *known <= revision) {
            *seen = Some((Arc::clone(ledger), revision));
        }
    }
}

impl Store for KubernetesStore {
    fn load(&self) -> Result<(Ledger, Revision), StoreError> {
        let (ledger, head) =
            self.access.run(OPERATION, "read the ledger", async |client| self.read(&client).await)?;
        Ok((Ledger::clone(&ledger), head.revision))
    }

    fn append(&self, expected: Revision, change: &Change) -> Result<Revision, StoreError> {
        let (head, _) = self.access.run(OPERATION, "write the ledger", async |client| {
            self.commit(&client, expected, change).await
        })?;
        let written = self.access.run(MATERIALISE, "write a change's objects", async |client| {
            objects::materialise(&client, &head).await
        });
        match written {
            Ok(()) => {
                self.materialised.fetch_max(head.revision.0, Ordering::AcqRel);
            }
            // The next writer does it, and every reader reads as if it were done.
            Err(error) => {
                debug!(revision = head.revision.0, %error, "left a change's objects to the next writer")
            }
        }
        Ok(head.revision)
    }
}

/// A head that ledgers are read and written by.
fn ready(head: Option<Head>) -> Result<Head, StoreError> {
    let reason = match head {
        Some(head) => match head.origin {
            Origin::Imported(_) => return Ok(head),
            Origin::Importing(from) => format!("{from} is still importing it into Kubernetes"),
        },
        None => {
            format!("Kubernetes has no ConfigMap {NAMESPACE}/{HEAD}: no seed has imported its ledger yet")
        }
    };
    Err(StoreError::Unavailable { reason })
}

#[cfg(test)]
mod tests;
