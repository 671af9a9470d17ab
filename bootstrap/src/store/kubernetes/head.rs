//! The head: the ConfigMap that puts all changes into one order.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use mesh::{AddressPlan, Change, Ledger, MachineId, Revision, StoreError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::access::unavailable;
use super::{HEAD, NAMESPACE};
use crate::store::crds::{LinkSpec, MachineSpec};

/// How many removals the head remembers. A writer cannot sleep through so many.
const MAX_REMOVED: usize = 1024;

const REVISION: &str = "revision";
const IMPORTED_FROM: &str = "imported-from";
const IMPORTING_FROM: &str = "importing-from";
const PENDING: &str = "pending";
const REMOVED: &str = "removed";

/// What the head says.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// The newest revision.
    pub(super) revision: Revision,
    /// Whose ledger this was before.
    pub(super) origin: Origin,
    /// What the newest change makes of the objects; they may not be written yet.
    pub(super) pending: Pending,
    /// When machines were removed: an object of theirs that is not younger is none.
    pub(super) removed: BTreeMap<MachineId, Revision>,
    /// The version of the ConfigMap that this was read from.
    pub(super) version: String,
}

/// Whose ledger this was before Kubernetes had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// Objects are being written; nobody may use them yet.
    Importing(String),
    /// All are there.
    Imported(String),
}

/// The objects that a change touches, as they are after it, by name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Pending {
    /// Machines to be written.
    pub(super) machines: BTreeMap<String, MachineSpec>,
    /// Links to be written.
    pub(super) links: BTreeMap<String, LinkSpec>,
    /// The machine that is gone.
    pub(super) removed: Option<MachineId>,
    /// Machines to be deleted.
    pub(super) no_machines: Vec<String>,
    /// Links to be deleted.
    pub(super) no_links: Vec<String>,
}

// === impl Head ===

impl Head {
    /// Reads the head, if there is one.
    pub(super) async fn read(client: &Client) -> Result<Option<Self>, StoreError> {
        let found = api(client).get_opt(HEAD).await.map_err(|error| unavailable(&error))?;
        found.map(Self::parse).transpose()
    }

    /// Makes the first head. Returns none if there is one already.
    pub(super) async fn create(
        client: &Client,
        origin: Origin,
        revision: Revision,
    ) -> Result<Option<Self>, StoreError> {
        let head = Self {
            revision,
            origin,
            pending: Pending::default(),
            removed: BTreeMap::new(),
            version: String::new(),
        };
        match api(client).create(&PostParams::default(), &head.config_map()?).await {
            Ok(made) => Self::parse(made).map(Some),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Puts the next head in this one's place. Returns none if another writer was faster.
    pub(super) async fn succeed(
        mut self,
        client: &Client,
        revision: Revision,
        pending: Pending,
    ) -> Result<Option<Self>, StoreError> {
        if let Some(id) = pending.removed {
            self.removed.insert(id, revision);
        }
        while self.removed.len() > MAX_REMOVED {
            let oldest = self.removed.iter().min_by_key(|(_, revision)| **revision).map(|(id, _)| *id);
            oldest.map(|id| self.removed.remove(&id));
        }
        Self { revision, pending, ..self }.replace(client).await
    }

    /// The same head with all objects there.
    pub(super) async fn imported(
        self,
        client: &Client,
        from: &str,
        revision: Revision,
    ) -> Result<Option<Self>, StoreError> {
        Self { origin: Origin::Imported(from.to_owned()), revision, ..self }.replace(client).await
    }

    async fn replace(self, client: &Client) -> Result<Option<Self>, StoreError> {
        match api(client).replace(HEAD, &PostParams::default(), &self.config_map()?).await {
            Ok(made) => Self::parse(made).map(Some),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(None),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Whether the ledger does not hold this object any more: its machine was removed after it was written.
    pub(super) fn is_removed(&self, id: &str, revision: i64) -> bool {
        let removed = id.parse().ok().and_then(|id| self.removed.get(&MachineId(id)));
        removed.is_some_and(|removed| u64::try_from(revision).unwrap_or_default() <= removed.0)
    }

    fn parse(map: ConfigMap) -> Result<Self, StoreError> {
        let mut data = map.data.unwrap_or_default();
        let revision = data.get(REVISION).and_then(|text| text.parse().ok()).map(Revision);
        let origin = match (data.remove(IMPORTED_FROM), data.remove(IMPORTING_FROM)) {
            (Some(from), _) => Some(Origin::Imported(from)),
            (None, Some(from)) => Some(Origin::Importing(from)),
            (None, None) => None,
        };
        Ok(Self {
            revision: revision.ok_or_else(|| corrupt(REVISION, "not there, or no number"))?,
            origin: origin.ok_or_else(|| corrupt(IMPORTED_FROM, "not there"))?,
            pending: json(&data, PENDING)?,
            removed: json(&data, REMOVED)?,
            version: map.metadata.resource_version.unwrap_or_default(),
        })
    }

    fn config_map(&self) -> Result<ConfigMap, StoreError> {
        let (origin, from) = match &self.origin {
            Origin::Importing(from) => (IMPORTING_FROM, from.clone()),
            Origin::Imported(from) => (IMPORTED_FROM, from.clone()),
        };
        let text = |key, value: Result<String, serde_json::Error>| {
            value.map_err(|error| corrupt(key, &error.to_string()))
        };
        let data = [
            (REVISION, self.revision.0.to_string()),
            (origin, from),
            (PENDING, text(PENDING, serde_json::to_string(&self.pending))?),
            (REMOVED, text(REMOVED, serde_json::to_string(&self.removed))?),
        ];
        let version = (!self.version.is_empty()).then(|| self.version.clone());
        let label = ("app.kubernetes.io/managed-by".to_owned(), "meshboot".to_owned());
        Ok(ConfigMap {
            metadata: ObjectMeta {
                name: Some(HEAD.to_owned()),
                namespace: Some(NAMESPACE.to_owned()),
                resource_version: version,
                labels: Some(BTreeMap::from([label])),
                ..ObjectMeta::default()
            },
            data: Some(data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            ..ConfigMap::default()
        })
    }
}

// === impl Pending ===

impl Pending {
    /// What a change makes of the objects.
    pub(super) fn new(
        change: &Change,
        before: &Ledger,
        after: &Ledger,
        plan: &AddressPlan,
        revision: Revision,
    ) -> Self {
        let mut pending = Self::default();
        if let Change::Remove(id) = change {
            pending.removed = Some(*id);
        }
        for machine in after.machines().filter(|machine| before.machine(machine.id) != Some(machine)) {
            pending.machines.insert(machine.name.to_string(), MachineSpec::new(machine, plan, revision));
        }
        for link in after.links().filter(|link| before.link(link.id) != Some(link)) {
            let named = LinkSpec::name(after, link.id).zip(LinkSpec::new(link, after, revision));
            pending.links.extend(named);
        }
        let gone = before.machines().filter(|machine| after.machine(machine.id).is_none());
        pending.no_machines.extend(gone.map(|machine| machine.name.to_string()));
        let gone = before.links().filter(|link| after.link(link.id).is_none());
        pending.no_links.extend(gone.filter_map(|link| LinkSpec::name(before, link.id)));
        pending
    }
}

fn api(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), NAMESPACE)
}

fn json<T: DeserializeOwned + Default>(data: &BTreeMap<String, String>, key: &str) -> Result<T, StoreError> {
    let Some(text) = data.get(key) else { return Ok(T::default()) };
    serde_json::from_str(text).map_err(|error| corrupt(key, &error.to_string()))
}

fn corrupt(key: &str, reason: &str) -> StoreError {
    StoreError::Corrupt {
        place: format!("ConfigMap {NAMESPACE}/{HEAD}, key {key}"),
        reason: reason.to_owned(),
    }
}
