//! Which images a machine boots: the mesh's, unless the operator wants others for it.
//!
//! What he wants is reserved before the machine comes, in the settings or in Kubernetes, for a UUID or an Ethernet address.
//! A machine that asks for its boot file has said little of itself: the port that it asks through, and its UUID if its DUID
//! is made of that. The ledger knows the rest of one that was here before. Whoever is taken for another machine all the same is
//! found out when it asks for its configuration ([`check_images`](super::admit::check_images)), and starts over.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use anyhow::{Error, anyhow};
use futures::StreamExt as _;
use kube::Api as Objects;
use kube::runtime::{reflector, watcher};
use mesh::{Ledger, Mac, MachineId};
use netboot_server::Client;
use tokio::sync::watch;
use uuid::Uuid;

use super::api::Api;
use super::approver::{Right, keep};
use super::settings::{BootArtefacts, Reservation};
use crate::join::{Cluster, WATCH};
use crate::store::crds::ReservationObject;
use crate::store::journal::MeshStore;

#[cfg(test)]
mod tests;

/// The reservations of a cluster, as they are now.
type Later = Option<reflector::Store<ReservationObject>>;

/// What is wanted of machines, as far as it is known here.
#[derive(Debug, Clone)]
pub struct Choice {
    first: Arc<BTreeMap<Uuid, Reservation>>,
    later: watch::Receiver<Later>,
    store: Arc<MeshStore>,
}

/// Keeps a [`Choice`] up to date.
#[derive(Debug)]
pub struct Reserved(watch::Sender<Later>);

// === impl Choice ===

impl Choice {
    /// What the settings say; the rest comes with whoever follows the cluster.
    #[must_use]
    pub fn new(first: BTreeMap<Uuid, Reservation>, store: Arc<MeshStore>) -> (Self, Reserved) {
        let (sender, later) = watch::channel(None);
        (Self { first: Arc::new(first), later, store }, Reserved(sender))
    }

    /// The files that a machine boots, if they are not the mesh's.
    #[must_use]
    pub fn of(&self, client: &Client) -> Option<BootArtefacts> {
        of(&self.first, &self.later(), &self.store.cached(), client)
    }

    /// All files that some machine boots and others do not.
    #[must_use]
    pub fn all(&self) -> Vec<BootArtefacts> {
        let later = self.later();
        let later = later.iter().filter_map(|object| object.spec.boot());
        self.first.values().filter_map(|first| first.boot.clone()).chain(later).collect()
    }

    fn later(&self) -> Vec<Arc<ReservationObject>> {
        self.later.borrow().as_ref().map(reflector::Store::state).unwrap_or_default()
    }
}

/// What is wanted for the machine that asks: what the operator said last is in Kubernetes.
fn of(
    first: &BTreeMap<Uuid, Reservation>,
    later: &[Arc<ReservationObject>],
    ledger: &Ledger,
    client: &Client,
) -> Option<BootArtefacts> {
    let known = client.mac.and_then(|mac| ledger.machine_with_mac(mac));
    let macs: Vec<Mac> = match known {
        Some(machine) => machine.ports.iter().map(|port| port.mac).collect(),
        None => client.mac.into_iter().collect(),
    };
    let said = client.uuids().into_iter().flatten().map(Uuid::from_bytes);
    let uuids = known.map(|machine| machine.id.0).into_iter().chain(said);
    let uuids: Vec<Uuid> = uuids.filter(|uuid| !MachineId(*uuid).is_shared()).collect();
    let is_for = |object: &&Arc<ReservationObject>| {
        object.spec.is_for(None, &macs) || uuids.iter().any(|uuid| object.spec.is_for(Some(*uuid), &macs))
    };
    if let Some(object) = later.iter().find(is_for) {
        return object.spec.boot();
    }
    uuids.iter().find_map(|uuid| first.get(uuid)).and_then(|first| first.boot.clone())
}

// === impl Reserved ===

impl Reserved {
    /// Follows the reservations in Kubernetes, until the API server's watcher ends. What was known stays known while nothing
    /// is heard.
    pub async fn follow(self, api: Api) {
        let lack = "machines that are to boot images of their own are not known";
        keep(&api, Right::Node, lack, |cluster| self.attend(cluster)).await;
    }

    /// Until something goes wrong; returns what.
    pub async fn attend(&self, cluster: Cluster) -> Error {
        let objects: Objects<ReservationObject> = Objects::all(cluster.client().clone());
        let (known, writer) = reflector::store();
        let config = watcher::Config::default().timeout(WATCH);
        let mut events = pin!(reflector(writer, watcher(objects, config)));
        loop {
            match events.next().await {
                // Before that it is less than what was known.
                Some(Ok(watcher::Event::InitDone)) => drop(self.0.send_replace(Some(known.clone()))),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Error::new(error).context("cannot watch reservations"),
                None => return anyhow!("the watch on reservations ended"),
            }
        }
    }
}
