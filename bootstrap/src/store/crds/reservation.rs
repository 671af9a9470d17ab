//! What the operator wants of a machine that may come.

use std::collections::BTreeMap;

use ignition::{ImageId, NodeSpec};
use kube::CustomResource;
use mesh::Mac;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::gateway::settings::{Artefact, BootArtefacts, Reservation};

/// A name, and what is wanted of the node of that name, for one machine. The object's name is the node's.
#[derive(CustomResource, Serialize, Deserialize, Debug, Clone, Default, PartialEq, JsonSchema)]
#[kube(
    group = "meshboot.io",
    version = "v1alpha1",
    kind = "Reservation",
    root = "ReservationObject",
    singular = "reservation",
    plural = "reservations",
    derive = "PartialEq",
    category = "meshboot",
    doc = "What is wanted of a machine that may come: whoever serves it looks here. Written by operators.",
    printcolumn(name = "UUID", type_ = "string", json_path = ".spec.uuid"),
    printcolumn(name = "MAC", type_ = "string", json_path = ".spec.mac"),
    printcolumn(name = "Control-Plane", type_ = "boolean", json_path = ".spec.controlPlane"),
    printcolumn(name = "Images", type_ = "string", json_path = ".spec.images.id"),
    printcolumn(name = "Kubelet", type_ = "string", json_path = ".spec.kubernetesVersion"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
// Applied as a whole: of labels or images that are not wanted any more Kubernetes 1.20 leaves fields with null in them
// else, and refuses these itself.
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[serde(rename_all = "camelCase")]
pub struct ReservationSpec {
    /// The machine's SMBIOS UUID; without it `mac` says which machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"))]
    pub uuid: Option<String>,
    /// The Ethernet address of any of the machine's ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$"))]
    pub mac: Option<String>,
    /// Whether its node is to be a control plane.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub control_plane: bool,
    /// The images that it boots from; without them the mesh's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ImagesSpec>,
    /// The version of its kubelet; without it the mesh's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^v[0-9]+\.[0-9]+\.[0-9]+$"))]
    pub kubernetes_version: Option<String>,
    /// Labels of its node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Taints of its node, as kubectl writes them: `key=value:NoSchedule`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<String>,
    /// Feature gates of its kubelet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub feature_gates: BTreeMap<String, bool>,
    /// Further arguments of its kubelet, without dashes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kubelet: BTreeMap<String, String>,
}

/// The images that a machine boots from: a set of files that belong together.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImagesSpec {
    /// The set's name, as `meshboot image list` shows it.
    #[schemars(regex(pattern = r"^[0-9a-f]{16}$"))]
    pub id: String,
    /// What firmware loads, by processor architecture.
    pub uki: BTreeMap<String, FileSpec>,
    /// The root image.
    pub root: FileSpec,
    /// The layer over it.
    pub layer: FileSpec,
}

/// A file that is known by its digest.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, JsonSchema)]
pub struct FileSpec {
    /// Its SHA-256.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: String,
    /// Its size in octets.
    #[schemars(range(min = 1, max = 1_099_511_627_776_i64))]
    pub size: i64,
}

/// The machine that a reservation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one with this SMBIOS UUID.
    Uuid(Uuid),
    /// The one that has this Ethernet address.
    Mac(Mac),
}

// === impl ReservationSpec ===

impl ReservationSpec {
    /// What is wanted of a machine, as an object says it.
    #[must_use]
    pub fn new(which: Which, wanted: &Reservation) -> Self {
        let spec = &wanted.spec;
        let (uuid, mac) = match which {
            Which::Uuid(uuid) => (Some(uuid.to_string()), None),
            Which::Mac(mac) => (None, Some(mac.to_string())),
        };
        Self {
            uuid,
            mac,
            control_plane: spec.control_plane,
            images: spec.image.as_ref().zip(wanted.boot.as_ref()).map(|(id, boot)| ImagesSpec::new(id, boot)),
            kubernetes_version: spec.kubernetes_version.map(|version| version.to_string()),
            labels: spec.labels.clone(),
            taints: spec.taints.iter().map(ToString::to_string).collect(),
            feature_gates: spec.feature_gates.clone(),
            kubelet: spec.kubelet.clone(),
        }
    }

    /// Whether it is for the machine with this UUID and these ports.
    #[must_use]
    pub fn is_for(&self, uuid: Option<Uuid>, ports: &[Mac]) -> bool {
        let is_it = |wanted: &str| uuid.is_some_and(|uuid| wanted.parse() == Ok(uuid));
        let has = |wanted: &str| wanted.parse().is_ok_and(|mac: Mac| ports.contains(&mac));
        match (&self.uuid, &self.mac) {
            (Some(wanted), _) => is_it(wanted),
            (None, Some(wanted)) => has(wanted),
            (None, None) => false,
        }
    }

    /// The files that its machine boots, if they are not the mesh's.
    #[must_use]
    pub fn boot(&self) -> Option<BootArtefacts> {
        self.images.as_ref().map(ImagesSpec::files)
    }

    /// What an object of this name says.
    ///
    /// # Errors
    ///
    /// What cannot be read, in words.
    pub fn reservation(&self, name: &str) -> Result<Reservation, String> {
        let taints = self.taints.iter().map(|taint| taint.parse());
        let images = self.images.as_ref().map(|images| images.id.parse::<ImageId>());
        let version = self.kubernetes_version.as_ref().map(|version| version.parse());
        let spec = NodeSpec {
            control_plane: self.control_plane,
            image: images.transpose().map_err(super::text("spec.images.id"))?,
            kubernetes_version: version.transpose().map_err(super::text("spec.kubernetesVersion"))?,
            labels: self.labels.clone(),
            taints: taints.collect::<Result<_, _>>().map_err(super::text("spec.taints"))?,
            feature_gates: self.feature_gates.clone(),
            kubelet: self.kubelet.clone(),
        };
        if let Some(mistake) = spec.mistakes().first() {
            return Err(mistake.to_string());
        }
        Ok(Reservation { name: name.parse().map_err(super::text("metadata.name"))?, spec, boot: self.boot() })
    }
}

// === impl ImagesSpec ===

impl ImagesSpec {
    fn new(id: &ImageId, boot: &BootArtefacts) -> Self {
        let uki = boot.uki.iter().map(|(arch, uki)| (arch.clone(), uki.into()));
        Self {
            id: id.to_string(),
            uki: uki.collect(),
            root: (&boot.root).into(),
            layer: (&boot.layer).into(),
        }
    }

    fn files(&self) -> BootArtefacts {
        let uki = self.uki.iter().map(|(arch, uki)| (arch.clone(), uki.into()));
        BootArtefacts { uki: uki.collect(), root: (&self.root).into(), layer: (&self.layer).into() }
    }
}

impl From<&Artefact> for FileSpec {
    fn from(artefact: &Artefact) -> Self {
        let size = i64::try_from(artefact.size).unwrap_or(i64::MAX);
        Self { sha256: artefact.sha256.clone(), size }
    }
}

impl From<&FileSpec> for Artefact {
    fn from(file: &FileSpec) -> Self {
        // The API server takes none that is less than one.
        Self { sha256: file.sha256.clone(), size: file.size.unsigned_abs() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot() -> BootArtefacts {
        let file = |digit: &str, size| Artefact { sha256: digit.repeat(64), size };
        let uki = BTreeMap::from([("x64".to_owned(), file("a", 1))]);
        BootArtefacts { uki, root: file("b", 2), layer: file("c", 3) }
    }

    #[test]
    fn what_was_wanted_comes_back() {
        let json = r#"{"labels":{"rack":"2"},"taints":["slow:NoExecute"],"featureGates":{"A":true},"kubelet":{"v":"4"},"controlPlane":true,"kubernetesVersion":"v1.33.7","image":"0123456789abcdef"}"#;
        let wanted: NodeSpec = serde_json::from_str(json).unwrap();
        let uuid = Uuid::from_u128(7);
        let wanted = Reservation { name: "rack2-1".parse().unwrap(), spec: wanted, boot: Some(boot()) };
        let object = ReservationSpec::new(Which::Uuid(uuid), &wanted);
        let read = object.reservation("rack2-1").unwrap();
        assert_eq!(read, wanted);
        assert!(object.is_for(Some(uuid), &[]) && !object.is_for(None, &[]));
    }

    #[test]
    fn a_machine_is_known_by_its_uuid_or_by_any_port() {
        let [one, other] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
        let wanted = Reservation { name: "a".parse().unwrap(), spec: NodeSpec::default(), boot: None };
        let by_port = ReservationSpec::new(Which::Mac(other), &wanted);
        assert!(by_port.is_for(None, &[one, other]) && !by_port.is_for(Some(Uuid::nil()), &[one]));
        assert!(!ReservationSpec::default().is_for(Some(Uuid::nil()), &[one]), "for nobody");
    }

    #[test]
    fn what_somebody_mistyped_is_named() {
        let spoilt = ReservationSpec { taints: vec!["slow".to_owned()], ..ReservationSpec::default() };
        assert!(spoilt.reservation("a").unwrap_err().starts_with("spec.taints: `slow`"));
        let labels = BTreeMap::from([("kubernetes.io/os".to_owned(), "x".to_owned())]);
        let spoilt = ReservationSpec { labels, ..ReservationSpec::default() };
        assert!(spoilt.reservation("a").unwrap_err().contains("Kubernetes' own"));
        let spoilt =
            ReservationSpec { kubernetes_version: Some("1.33".to_owned()), ..ReservationSpec::default() };
        assert!(spoilt.reservation("a").unwrap_err().starts_with("spec.kubernetesVersion: `1.33`"));
        assert!(ReservationSpec::default().reservation("A").unwrap_err().starts_with("metadata.name"));
    }
}
