//! Reservations in Kubernetes: what an operator wants of machines that may come.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use ignition::NodeSpec;
use kube::api::{Api, ListParams, Patch, PatchParams};
use mesh::{Mac, NodeName};
use uuid::Uuid;

use super::Cluster;
use crate::gateway::settings::Reservation;
use crate::store::crds::{ReservationObject, ReservationSpec, Which};

// === impl Cluster ===

impl Cluster {
    /// What is wanted of the machine with this UUID and these ports, if somebody reserved a name for it.
    ///
    /// # Errors
    ///
    /// The API server refused or did not answer, or the reservation cannot be read: the operator meant something with it.
    pub async fn reservation(&self, uuid: Option<Uuid>, ports: &[Mac]) -> Result<Option<Reservation>> {
        let Some(found) = self.listed().await?.into_iter().find(|object| object.spec.is_for(uuid, ports))
        else {
            return Ok(None);
        };
        let name = found.metadata.name.unwrap_or_default();
        let read = found.spec.reservation(&name).map_err(|reason| anyhow!(reason));
        read.with_context(|| format!("the reservation {name} cannot be used")).map(Some)
    }

    /// What is wanted of nodes, by their names. What cannot be read is left out: whoever is served with it is told.
    ///
    /// # Errors
    ///
    /// The API server refused or did not answer.
    pub async fn reservations_by_name(&self) -> Result<BTreeMap<NodeName, NodeSpec>> {
        let read = self.listed().await?.into_iter().filter_map(|object| {
            let name = object.metadata.name.as_deref().unwrap_or_default();
            object.spec.reservation(name).ok().map(|read| (read.name, read.spec))
        });
        Ok(read.collect())
    }

    /// Reserves a name for a machine, or says anew what is wanted of it.
    ///
    /// # Errors
    ///
    /// The API server refused or did not answer.
    pub async fn reserve(&self, which: Which, wanted: &Reservation) -> Result<()> {
        let name = &wanted.name;
        let object = ReservationObject::new(name.as_str(), ReservationSpec::new(which, wanted));
        let params = PatchParams::apply("meshboot").force();
        let applied = self.reservations().patch(name.as_str(), &params, &Patch::Apply(&object)).await;
        applied.map(drop).with_context(|| format!("cannot reserve the name {name}"))
    }

    /// Gives a reserved name back; that nobody had reserved it is no error.
    ///
    /// # Errors
    ///
    /// The API server refused or did not answer.
    pub async fn release(&self, name: &NodeName) -> Result<()> {
        let deleted = super::delete(self.reservations(), name).await;
        deleted.map(drop).with_context(|| format!("cannot give the name {name} back"))
    }

    async fn listed(&self) -> Result<Vec<ReservationObject>> {
        match self.reservations().list(&ListParams::default()).await {
            Ok(listed) => Ok(listed.items),
            // The definition is not there yet.
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error).context("cannot ask for reservations"),
        }
    }

    fn reservations(&self) -> Api<ReservationObject> {
        Api::all(self.client.clone())
    }
}
