//! Machines and links as objects.

use std::collections::BTreeMap;

use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, Resource};
use mesh::{AddressPlan, Ledger, Link, Machine, Revision, StoreError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::debug;

use super::access::unavailable;
use super::head::Head;
use crate::store::crds::{LinkObject, LinkSpec, MachineObject, MachineSpec};

/// How often a write that another writer was faster with is tried again.
const MAX_ATTEMPTS: usize = 8;

/// All objects, as they were found.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) machines: BTreeMap<String, MachineSpec>,
    pub(super) links: BTreeMap<String, LinkSpec>,
}

/// A spec that says which revision wrote it.
pub(super) trait Spec: Serialize + DeserializeOwned {
    type Object: Resource<DynamicType = ()>;

    fn revision(&self) -> i64;
}

// === impl Spec ===

impl Spec for MachineSpec {
    type Object = MachineObject;

    fn revision(&self) -> i64 {
        self.revision
    }
}

impl Spec for LinkSpec {
    type Object = LinkObject;

    fn revision(&self) -> i64 {
        self.revision
    }
}

// === impl Listed ===

impl Listed {
    /// The ledger that the objects are, with the head's change made.
    pub(super) fn ledger(mut self, head: &Head, plan: &AddressPlan) -> Result<Ledger, StoreError> {
        lay_over(&mut self.machines, &head.pending.machines);
        lay_over(&mut self.links, &head.pending.links);
        self.machines.retain(|_, spec| !head.is_removed(&spec.id, spec.revision));
        self.links.retain(|_, spec| !head.is_removed(&spec.near.machine, spec.revision));
        self.restore(plan)
    }

    /// The ledger that the objects are, whatever the head says.
    pub(super) fn restore(&self, plan: &AddressPlan) -> Result<Ledger, StoreError> {
        let corrupt = |place: String, reason| StoreError::Corrupt { place, reason };
        let mut machines: Vec<Machine> = Vec::with_capacity(self.machines.len());
        for (name, spec) in &self.machines {
            machines.push(spec.machine(name).map_err(|reason| corrupt(format!("Machine {name}"), reason))?);
        }
        let known = |id| machines.iter().find(|machine| machine.id == id);
        let mut links: Vec<Link> = Vec::with_capacity(self.links.len());
        for (name, spec) in &self.links {
            let mut link = spec.link().map_err(|reason| corrupt(format!("Link {name}"), reason))?;
            // An operator deleted the Machine and not what hung on it; perhaps it came again, to another block.
            let block = known(link.id.near).and_then(|near| plan.block(near.block));
            if block.is_none_or(|block| block.link(link.id.port) != link.prefix) {
                debug!(link = name, "its near end does not have it any more: taken for removed");
                continue;
            }
            link.far.machine = link.far.machine.filter(|far| known(*far).is_some());
            links.push(link);
        }
        Ledger::restore(machines, links)
            .map_err(|error| corrupt("the Machine and Link objects".to_owned(), error.to_string()))
    }

    /// The newest revision that wrote one of the objects, or none if there are none.
    pub(super) fn revision(&self) -> Option<Revision> {
        let machines = self.machines.values().map(|spec| spec.revision);
        let newest = machines.chain(self.links.values().map(|spec| spec.revision)).max()?;
        u64::try_from(newest).ok().map(Revision)
    }
}

fn lay_over<S: Spec + Clone>(listed: &mut BTreeMap<String, S>, pending: &BTreeMap<String, S>) {
    for (name, spec) in pending {
        if listed.get(name).is_none_or(|known| known.revision() < spec.revision()) {
            listed.insert(name.clone(), spec.clone());
        }
    }
}

/// Reads all objects.
pub(super) async fn list(client: &Client) -> Result<Listed, StoreError> {
    Ok(Listed { machines: list_of(client).await?, links: list_of(client).await? })
}

async fn list_of<S: Spec>(client: &Client) -> Result<BTreeMap<String, S>, StoreError> {
    let found = api::<S>(client).list(&ListParams::default()).await.map_err(|error| unavailable(&error))?;
    let mut specs = BTreeMap::new();
    for object in found.items {
        let name = object.metadata.name.clone().unwrap_or_default();
        let spec = spec(&object).map_err(|error| StoreError::Corrupt {
            place: format!("{} {name}", S::Object::kind(&())),
            reason: error.to_string(),
        })?;
        specs.insert(name, spec);
    }
    Ok(specs)
}

/// Writes the objects of the head's change, as often as one likes and however late.
pub(super) async fn materialise(client: &Client, head: &Head) -> Result<(), StoreError> {
    let pending = &head.pending;
    for (name, spec) in &pending.machines {
        put(client, name, spec).await?;
    }
    for (name, spec) in &pending.links {
        put(client, name, spec).await?;
    }
    for name in &pending.no_links {
        sweep::<LinkSpec>(client, name, |spec| head.is_removed(&spec.near.machine, spec.revision)).await?;
    }
    for name in &pending.no_machines {
        sweep::<MachineSpec>(client, name, |spec| head.is_removed(&spec.id, spec.revision)).await?;
    }
    Ok(())
}

/// Deletes what was removed from the ledger and is still there.
pub(super) async fn sweep_all(client: &Client, head: &Head) -> Result<(), StoreError> {
    let listed = list(client).await?;
    for name in listed.links.keys() {
        sweep::<LinkSpec>(client, name, |spec| head.is_removed(&spec.near.machine, spec.revision)).await?;
    }
    for name in listed.machines.keys() {
        sweep::<MachineSpec>(client, name, |spec| head.is_removed(&spec.id, spec.revision)).await?;
    }
    Ok(())
}

/// Makes an object say this, unless it says something younger.
pub(super) async fn put<S: Spec>(client: &Client, name: &str, new: &S) -> Result<(), StoreError> {
    let api = api::<S>(client);
    let data = serde_json::json!({ "spec": new });
    let params = PostParams { field_manager: Some("meshboot".to_owned()), ..PostParams::default() };
    for _ in 0..MAX_ATTEMPTS {
        let found = api.get_opt(name).await.map_err(|error| unavailable(&error))?;
        let written = match found {
            None => {
                let object = DynamicObject::new(name, &resource::<S>()).data(data.clone());
                api.create(&params, &object).await
            }
            Some(mut object) => {
                // What cannot be read was written by somebody else and has no revision.
                if spec::<S>(&object).is_ok_and(|known| known.revision() >= new.revision()) {
                    return Ok(());
                }
                object.data = data.clone();
                api.replace(name, &params, &object).await
            }
        };
        match written {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status))
                if status.is_conflict() || status.is_already_exists() || status.is_not_found() => {}
            Err(error) => return Err(unavailable(&error)),
        }
    }
    Err(busy::<S>(name))
}

/// Deletes an object if it is one that shall go. A relay may not; then it stays for who may.
pub(super) async fn sweep<S: Spec>(
    client: &Client,
    name: &str,
    gone: impl Fn(&S) -> bool,
) -> Result<(), StoreError> {
    let api = api::<S>(client);
    for _ in 0..MAX_ATTEMPTS {
        let found = api.get_opt(name).await.map_err(|error| unavailable(&error))?;
        let Some(object) = found.filter(|object| spec(object).is_ok_and(|spec| gone(&spec))) else {
            return Ok(());
        };
        let same =
            Preconditions { resource_version: object.metadata.resource_version, uid: object.metadata.uid };
        match api.delete(name, &DeleteParams::default().preconditions(same)).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_forbidden() => return Ok(()),
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(error) => return Err(unavailable(&error)),
        }
    }
    Err(busy::<S>(name))
}

pub(super) fn api<S: Spec>(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &resource::<S>())
}

fn resource<S: Spec>() -> ApiResource {
    ApiResource::erase::<S::Object>(&())
}

pub(super) fn spec<S: Spec>(object: &DynamicObject) -> Result<S, serde_json::Error> {
    S::deserialize(object.data.get("spec").unwrap_or(&serde_json::Value::Null))
}

fn busy<S: Spec>(name: &str) -> StoreError {
    let kind = S::Object::kind(&());
    StoreError::Unavailable {
        reason: format!("{kind} {name} changed {MAX_ATTEMPTS} times while it was written"),
    }
}
