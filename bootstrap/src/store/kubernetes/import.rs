//! Taking over the ledger that a seed kept in a file until there was an API.

use std::time::Duration;

use kube::Client;
use mesh::{ApplyError, Change, Ledger, Revision, StoreError};
use tracing::warn;

use super::head::{Head, Origin};
use super::objects::{self, put, sweep};
use super::{HEAD, KubernetesStore, NAMESPACE};
use crate::store::crds::{LinkSpec, MachineSpec};

/// A ledger of hundreds of machines takes seconds.
const LIMIT: Duration = Duration::from_secs(60);
/// How often a step that another process was faster with is taken again.
const MAX_ATTEMPTS: usize = 8;

/// How an import ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Import {
    /// This call finished it: Kubernetes has the ledger from now on.
    Done,
    /// Kubernetes had a ledger already; the one that was offered is not used.
    Known {
        /// Who imported it.
        from: String,
    },
}

// === impl KubernetesStore ===

impl KubernetesStore {
    /// Makes a ledger the one of this Kubernetes, unless it has one; `origin` says whose it is. An import that
    /// was interrupted is finished by the next call of the same origin. Whoever calls must not write the
    /// old ledger any more, from before the first call on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]: whether the import was done is not known. Call again.
    pub fn import(&self, ledger: &Ledger, revision: Revision, origin: &str) -> Result<Import, StoreError> {
        self.access.run(LIMIT, "import the ledger", async |client| {
            for _ in 0..MAX_ATTEMPTS {
                if let Some(import) = self.try_import(&client, ledger, revision, origin).await? {
                    return Ok(import);
                }
            }
            let reason = format!("ConfigMap {NAMESPACE}/{HEAD} changed {MAX_ATTEMPTS} times");
            Err(StoreError::Unavailable { reason })
        })
    }

    pub(super) async fn try_import(
        &self,
        client: &Client,
        ledger: &Ledger,
        revision: Revision,
        origin: &str,
    ) -> Result<Option<Import>, StoreError> {
        let head = match Head::read(client).await? {
            Some(head) => head,
            None => match Head::create(client, Origin::Importing(origin.to_owned()), revision).await? {
                Some(head) => head,
                None => return Ok(None),
            },
        };
        match &head.origin {
            Origin::Imported(from) => {
                objects::sweep_all(client, &head).await?;
                return Ok(Some(Import::Known { from: from.clone() }));
            }
            Origin::Importing(from) if from != origin => {
                let reason = format!(
                    "{from} has begun to import its ledger; if it is gone for good, delete ConfigMap {NAMESPACE}/{HEAD}"
                );
                return Err(StoreError::Unavailable { reason });
            }
            Origin::Importing(_) => {}
        }
        let revision = self.write_all(client, ledger, revision).await?;
        let imported = head.imported(client, origin, revision).await?;
        Ok(imported.map(|_| Import::Done))
    }

    /// Writes every object, under the revision that it returns.
    ///
    /// There may be objects already: of an attempt that was interrupted, or of a ledger whose head an operator
    /// deleted. Those may be younger than what is offered, so nothing that was given is dropped.
    async fn write_all(
        &self,
        client: &Client,
        offered: &Ledger,
        revision: Revision,
    ) -> Result<Revision, StoreError> {
        let listed = objects::list(client).await?;
        let (ledger, revision) = match listed.revision() {
            None => (offered.clone(), revision),
            Some(found) => {
                let there = listed.restore(&self.plan)?;
                let merged =
                    if found > revision { merge(there, offered) } else { merge(offered.clone(), &there) };
                // The lost head may have been one revision ahead of the objects.
                (merged, Revision(found.max(revision).0 + 2))
            }
        };
        for name in listed.links.keys() {
            let known = ledger.links().any(|link| LinkSpec::name(&ledger, link.id).as_ref() == Some(name));
            sweep::<LinkSpec>(client, name, |_| !known).await?;
        }
        for name in listed.machines.keys() {
            let known = ledger.machine_named(name).is_some();
            sweep::<MachineSpec>(client, name, |_| !known).await?;
        }
        for machine in ledger.machines() {
            put(client, machine.name.as_str(), &MachineSpec::new(machine, &self.plan, revision)).await?;
        }
        for link in ledger.links() {
            let named = LinkSpec::name(&ledger, link.id).zip(LinkSpec::new(link, &ledger, revision));
            if let Some((name, spec)) = named {
                put(client, &name, &spec).await?;
            }
        }
        Ok(revision)
    }
}

/// The younger ledger and what else the older one has, as far as it fits.
fn merge(mut younger: Ledger, older: &Ledger) -> Ledger {
    let machines = older.machines().cloned().map(Change::Admit);
    let links = older.links().filter(|link| younger.link(link.id).is_none()).cloned().map(Change::Attach);
    for change in machines.chain(links).collect::<Vec<_>>() {
        match younger.apply(&change) {
            Ok(()) | Err(ApplyError::Known(_)) => {}
            Err(error) => warn!(%error, "an allocation of an older copy of the ledger does not fit any more"),
        }
    }
    younger
}
