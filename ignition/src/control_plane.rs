//! What the operator wants of the control plane's components: arguments that kubeadm passes on to them.
//!
//! kubeadm keeps them in the cluster, so every control plane has them, whenever it joins.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::member::{SpecError, is_argument};

/// Arguments that the mesh's own addresses and keys depend on, by component.
const TAKEN: [(&str, &[&str]); 4] = [
    (
        "apiserver",
        &[
            "advertise-address",
            "bind-address",
            "client-ca-file",
            "etcd-servers",
            "secure-port",
            "service-cluster-ip-range",
        ],
    ),
    (
        "controllerManager",
        &["allocate-node-cidrs", "bind-address", "cluster-cidr", "kubeconfig", "service-cluster-ip-range"],
    ),
    ("scheduler", &["bind-address", "kubeconfig"]),
    (
        "etcd",
        &[
            "advertise-client-urls",
            "data-dir",
            "initial-advertise-peer-urls",
            "initial-cluster",
            "initial-cluster-state",
            "listen-client-urls",
            "listen-peer-urls",
            "name",
        ],
    ),
];

/// Arguments of the control plane's components, without dashes: `max-requests-inflight` = `200`. They stand over those
/// that meshboot gives them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ControlPlaneSpec {
    /// The API servers'.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub apiserver: BTreeMap<String, String>,
    /// The controller managers'.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub controller_manager: BTreeMap<String, String>,
    /// The schedulers'.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub scheduler: BTreeMap<String, String>,
    /// etcd's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub etcd: BTreeMap<String, String>,
}

// === impl ControlPlaneSpec ===

impl ControlPlaneSpec {
    /// Each component, by the name that it has here, with its arguments.
    #[must_use]
    pub fn components(&self) -> [(&'static str, &BTreeMap<String, String>); 4] {
        [
            ("apiserver", &self.apiserver),
            ("controllerManager", &self.controller_manager),
            ("scheduler", &self.scheduler),
            ("etcd", &self.etcd),
        ]
    }

    /// Everything that is wrong with it.
    #[must_use]
    pub fn mistakes(&self) -> Vec<SpecError> {
        let all = self.components().into_iter().flat_map(|(component, arguments)| {
            arguments.iter().map(move |(name, value)| Self::argument(component, name, value))
        });
        all.filter_map(Result::err).collect()
    }

    /// Checks an argument of a component.
    ///
    /// # Errors
    ///
    /// [`SpecError::ComponentArgument`], [`SpecError::ComponentTaken`] or [`SpecError::ComponentValue`].
    pub fn argument(component: &'static str, name: &str, value: &str) -> Result<(), SpecError> {
        let named = name.to_owned();
        if !is_argument(name) {
            return Err(SpecError::ComponentArgument { component, name: named });
        }
        if TAKEN.iter().any(|(known, taken)| *known == component && taken.contains(&name)) {
            return Err(SpecError::ComponentTaken { component, name: named });
        }
        if value.contains(['\n', '\r', '\0']) {
            return Err(SpecError::ComponentValue { component, name: named });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_mesh_depends_on_is_not_free() {
        let argument = ControlPlaneSpec::argument;
        assert_eq!(argument("apiserver", "max-requests-inflight", "200"), Ok(()));
        assert_eq!(argument("scheduler", "v", "4"), Ok(()));
        let taken = |component, name: &str| SpecError::ComponentTaken { component, name: name.to_owned() };
        assert_eq!(argument("etcd", "data-dir", "/x"), Err(taken("etcd", "data-dir")));
        assert_eq!(
            argument("apiserver", "data-dir", "/x"),
            Ok(()),
            "another component's is no concern of it"
        );
        assert!(argument("apiserver", "--v", "4").is_err() && argument("apiserver", "v", "4\n5").is_err());
        let spec = ControlPlaneSpec {
            etcd: BTreeMap::from([("name".to_owned(), "x".to_owned()), ("V".to_owned(), String::new())]),
            ..ControlPlaneSpec::default()
        };
        assert_eq!(spec.mistakes().len(), 2);
    }
}
