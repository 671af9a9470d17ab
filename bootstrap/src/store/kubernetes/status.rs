//! What near ends see of the boots on their links: status, which is no part of the ledger.

use kube::Client;
use kube::api::{ListParams, Patch, PatchParams};
use mesh::{LinkStatus, StoreError};

use super::access::unavailable;
use super::objects::{Spec, api, spec};
use super::{KubernetesStore, OPERATION};
use crate::store::crds::{BootStatus, LinkSpec, MachineSpec};

// === impl KubernetesStore ===

impl KubernetesStore {
    /// Shows how far a boot has come, at the link and at the machine at its far end. It makes no revision of the
    /// ledger. Returns false if the ledger has no such link yet, so that there is nothing to show it at.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub fn update_link_status(&self, status: &LinkStatus) -> Result<bool, StoreError> {
        let Some((ledger, _)) = self.seen() else { return Ok(false) };
        let Some(name) = LinkSpec::name(&ledger, status.link) else { return Ok(false) };
        let far = status.far_machine.and_then(|far| ledger.machine(far));
        let report = BootStatus::new(status, &name);
        self.access.run(OPERATION, "update a status", async |client| {
            let known = patch::<LinkSpec>(&client, &name, &report).await?;
            if let Some(far) = far {
                patch::<MachineSpec>(&client, far.name.as_str(), &report).await?;
            }
            Ok(known)
        })
    }

    /// What all near ends have reported of their links.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub fn link_statuses(&self) -> Result<Vec<LinkStatus>, StoreError> {
        self.access.run(OPERATION, "read the links' statuses", async |client| {
            let found = api::<LinkSpec>(&client).list(&ListParams::default()).await;
            let found = found.map_err(|error| unavailable(&error))?;
            let reports = found.items.iter().filter_map(|object| {
                let spec: LinkSpec = spec(object).ok()?;
                let status: BootStatus = serde_json::from_value(object.data.get("status")?.clone()).ok()?;
                status.report(&spec.link().ok()?, &spec)
            });
            Ok(reports.collect())
        })
    }
}

async fn patch<S: Spec>(client: &Client, name: &str, report: &BootStatus) -> Result<bool, StoreError> {
    // In a merge patch, null takes away what was there.
    let status = serde_json::json!({
        "stage": report.stage,
        "reason": report.reason,
        "since": report.since,
        "bytes": report.bytes,
        "link": report.link,
        "port": report.port,
    });
    let patch = Patch::Merge(serde_json::json!({ "status": status }));
    let params = PatchParams { field_manager: Some("meshboot".to_owned()), ..PatchParams::default() };
    match api::<S>(client).patch_status(name, &params, &patch).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
        Err(error) => Err(unavailable(&error)),
    }
}
