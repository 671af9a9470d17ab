//! Whose a libvirt object is: the element that every object of ours carries in its metadata.
//!
//! An object is ours if its owner element names this deployment, or if it names this deployment's directory:
//! the second finds the objects of a deployment whose files were lost.

use std::fmt;

use mesh::Mac;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::{NsReader, XmlVersion};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::topology::{Cable, End, MachineNumber};

/// The XML namespace of the owner element.
pub const NAMESPACE: &str = "https://meshboot.io/libvirt/1";
/// The local name of the owner element.
const OWNER: &str = "owner";
/// The port number, in Ethernet addresses, of the seed's way out.
const UPLINK_PORT: u8 = 0xf;

/// What a deployment is known by: a random UUID. All names and addresses of its objects are made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeploymentId(pub Uuid);

/// Whose an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The directory of the deployment's files, absolute.
    pub directory: String,
}

/// An owner element that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadOwnerError {
    /// libvirt's answer is not XML.
    #[error("libvirt's description of the object is not XML: {reason}")]
    NotXml {
        /// What the parser said.
        reason: String,
    },
    /// An attribute is missing or wrong.
    #[error("the object's owner element has no valid `{attribute}`")]
    Attribute {
        /// The attribute.
        attribute: &'static str,
    },
}

// === impl DeploymentId ===

impl DeploymentId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// Four hexadecimal digits that stand in every name of the deployment's objects.
    #[must_use]
    pub fn tag(self) -> String {
        let [a, b, ..] = *self.0.as_bytes();
        format!("{a:02x}{b:02x}")
    }

    /// The beginning of the names of its domains and networks.
    #[must_use]
    pub fn object_prefix(self) -> String {
        format!("meshboot-{}-", self.tag())
    }

    /// The beginning of the names of its network interfaces on this computer.
    #[must_use]
    pub fn interface_prefix(self) -> String {
        format!("mb{}", self.tag())
    }

    /// The name of a machine's domain.
    #[must_use]
    pub fn domain(self, machine: &str) -> String {
        format!("{}{machine}", self.object_prefix())
    }

    /// The name of a cable's network: it says which machines the cable joins, and by its number which of theirs it is.
    #[must_use]
    pub fn network(self, cable: u16, near: &str, far: &str) -> String {
        format!("{}c{cable}-{near}-{far}", self.object_prefix())
    }

    /// The name of the network between this computer and the seed.
    #[must_use]
    pub fn uplink_network(self) -> String {
        format!("{}uplink", self.object_prefix())
    }

    /// The name of the network that ports without a cable lie on.
    #[must_use]
    pub fn loose_network(self) -> String {
        format!("{}loose", self.object_prefix())
    }

    /// The bridge that is a cable.
    #[must_use]
    pub fn cable_bridge(self, cable: &Cable) -> String {
        format!("{}c{}", self.interface_prefix(), cable.number)
    }

    /// The bridge between this computer and the seed.
    #[must_use]
    pub fn uplink_bridge(self) -> String {
        format!("{}up", self.interface_prefix())
    }

    /// The bridge of the ports without a cable.
    #[must_use]
    pub fn loose_bridge(self) -> String {
        format!("{}no", self.interface_prefix())
    }

    /// The tap interface of a machine's port: the argument of `virsh domif-setlink`.
    #[must_use]
    pub fn tap(self, end: End) -> String {
        format!("{}m{}p{}", self.interface_prefix(), end.machine.0, end.port)
    }

    /// The tap interface of the seed's way out.
    #[must_use]
    pub fn uplink_tap(self) -> String {
        format!("{}m0up", self.interface_prefix())
    }

    /// The Ethernet address of a machine's mesh port: locally administered, unique on this computer.
    #[must_use]
    pub fn mac(self, end: End) -> Mac {
        self.numbered_mac(end.machine, end.port)
    }

    /// The Ethernet address of the seed's way out.
    #[must_use]
    pub fn uplink_mac(self) -> Mac {
        self.numbered_mac(MachineNumber::SEED, UPLINK_PORT)
    }

    /// The machine's SMBIOS UUID: the deployment's with the machine's number as its last two octets.
    #[must_use]
    pub fn machine_uuid(self, machine: MachineNumber) -> Uuid {
        let mut octets = *self.0.as_bytes();
        let [.., high, low] = &mut octets;
        [*high, *low] = machine.0.to_be_bytes();
        Uuid::from_bytes(octets)
    }

    fn numbered_mac(self, machine: MachineNumber, port: u8) -> Mac {
        let [a, b, c, ..] = *self.0.as_bytes();
        let [high, low] = (machine.0 << 4 | u16::from(port & 0xf)).to_be_bytes();
        Mac([0x02, a, b, c, high, low])
    }
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

// === impl Owner ===

impl Owner {
    /// Whether an object with the owner `other` is to be removed with this deployment.
    #[must_use]
    pub fn owns(&self, other: &Self) -> bool {
        self.deployment == other.deployment || self.directory == other.directory
    }

    /// Reads the owner of a domain or network from libvirt's description of it; none if it is not ours.
    ///
    /// # Errors
    ///
    /// [`ReadOwnerError`]; an object that cannot be read is nobody's to remove.
    pub fn read(xml: &str) -> Result<Option<Self>, ReadOwnerError> {
        let not_xml = |reason: String| ReadOwnerError::NotXml { reason };
        let mut reader = NsReader::from_str(xml);
        loop {
            let (namespace, event) =
                reader.read_resolved_event().map_err(|error| not_xml(error.to_string()))?;
            #[expect(clippy::wildcard_enum_match_arm, reason = "every other event is passed over alike")]
            match event {
                Event::Eof => return Ok(None),
                Event::Start(element) | Event::Empty(element) => {
                    let ours =
                        matches!(namespace, ResolveResult::Bound(uri) if uri.into_inner() == NAMESPACE);
                    if ours && element.local_name().into_inner() == OWNER {
                        return Self::from_element(&element).map(Some);
                    }
                }
                _ => {}
            }
        }
    }

    fn from_element(element: &BytesStart<'_>) -> Result<Self, ReadOwnerError> {
        let attribute = |name: &'static str| {
            let missing = || ReadOwnerError::Attribute { attribute: name };
            let found = element.try_get_attribute(name).ok().flatten().ok_or_else(missing)?;
            found.normalized_value(XmlVersion::Implicit1_0).map(String::from).map_err(|_| missing())
        };
        let deployment = attribute("deployment")?;
        let deployment =
            deployment.parse().map_err(|_| ReadOwnerError::Attribute { attribute: "deployment" })?;
        Ok(Self { deployment: DeploymentId(deployment), directory: attribute("directory")? })
    }
}

#[cfg(test)]
mod tests;
