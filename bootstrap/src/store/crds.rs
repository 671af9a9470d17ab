//! The objects in which Kubernetes holds a ledger: `kubectl get machines,links` is the user's view of the mesh.
//!
//! A spec is what the ledger says; it names the revision that wrote it, so that a writer that was delayed never
//! puts an old state over a new one. A status is what a near end has seen of a boot; it is no part of the
//! ledger and has no revision.
//!
//! The schemas keep to what Kubernetes 1.20 knows: structural, with patterns and bounds, no rules in CEL.

#![expect(clippy::duplicated_attributes, reason = "columns of one type are no duplicates")]

use jiff::Timestamp;
use kube::CustomResource;
use mesh::{
    AddressPlan, BlockNumber, Far, Ledger, Link, LinkId, LinkStatus, Machine, MachineId, Port, Revision,
    Role, RouterId, Stage,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::reservation::{ReservationObject, ReservationSpec, Which};

mod reservation;

/// The API group of all objects here.
pub const GROUP: &str = "meshboot.io";

/// A machine that the ledger knows. The object's name is its node's.
#[derive(CustomResource, Serialize, Deserialize, Debug, Clone, PartialEq, JsonSchema)]
#[kube(
    group = "meshboot.io",
    version = "v1alpha1",
    kind = "Machine",
    root = "MachineObject",
    singular = "machine",
    plural = "machines",
    status = "BootStatus",
    derive = "PartialEq",
    category = "meshboot",
    doc = "A machine of the mesh and what it was given. Written by meshboot; to delete it removes the machine.",
    printcolumn(name = "Role", type_ = "string", json_path = ".spec.role"),
    printcolumn(name = "Block", type_ = "string", json_path = ".spec.block"),
    printcolumn(name = "RouterId", type_ = "string", json_path = ".spec.routerId"),
    printcolumn(name = "Stage", type_ = "string", json_path = ".status.stage"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason")
)]
#[serde(rename_all = "camelCase")]
pub struct MachineSpec {
    /// What the machine is known by: its SMBIOS UUID, or one made of an Ethernet address.
    #[schemars(regex(pattern = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"))]
    pub id: String,
    /// What it does in the site: `seed` or `node`.
    #[schemars(regex(pattern = r"^(seed|node)$"))]
    pub role: String,
    /// The /119 that its addresses, its links and its pods are in.
    pub block: String,
    /// The block's number in the site's machine prefix.
    #[schemars(range(min = 0, max = 281_474_976_710_655_i64))]
    pub block_number: i64,
    /// Its number in the routing protocol, dotted.
    #[schemars(regex(pattern = r"^[0-9]{1,3}(\.[0-9]{1,3}){3}$"))]
    pub router_id: String,
    /// Its Ethernet ports, by number.
    pub ports: Vec<PortSpec>,
    /// The revision of the ledger that wrote this.
    #[schemars(range(min = 0))]
    pub revision: i64,
}

/// An Ethernet port of a machine.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, JsonSchema)]
pub struct PortSpec {
    /// Its number in the machine's block.
    #[schemars(range(min = 0, max = 59))]
    pub index: u8,
    /// Its Ethernet address.
    #[schemars(regex(pattern = r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$"))]
    pub mac: String,
    /// The name that the machine's kernel gave it when it last booted.
    pub name: String,
}

/// A link that the ledger knows. The object's name is `<near node>-p<port>`.
#[derive(CustomResource, Serialize, Deserialize, Debug, Clone, PartialEq, JsonSchema)]
#[kube(
    group = "meshboot.io",
    version = "v1alpha1",
    kind = "Link",
    root = "LinkObject",
    singular = "link",
    plural = "links",
    status = "BootStatus",
    derive = "PartialEq",
    category = "meshboot",
    doc = "A cable between two machines, named by the end that serves. Written by meshboot.",
    printcolumn(name = "Near", type_ = "string", json_path = ".spec.near.node"),
    printcolumn(name = "Port", type_ = "integer", json_path = ".spec.near.port"),
    printcolumn(name = "Prefix", type_ = "string", json_path = ".spec.prefix"),
    printcolumn(name = "Far", type_ = "string", json_path = ".spec.far.node"),
    printcolumn(name = "Stage", type_ = "string", json_path = ".status.stage"),
    printcolumn(name = "Far-MAC", type_ = "string", json_path = ".spec.far.mac", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason")
)]
#[serde(rename_all = "camelCase")]
pub struct LinkSpec {
    /// The end that serves.
    pub near: NearSpec,
    /// The link's /126.
    pub prefix: String,
    /// Who was last seen at the other end.
    pub far: FarSpec,
    /// The revision of the ledger that wrote this.
    #[schemars(range(min = 0))]
    pub revision: i64,
}

/// The end of a link that serves.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, JsonSchema)]
pub struct NearSpec {
    /// The machine.
    #[schemars(regex(pattern = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"))]
    pub machine: String,
    /// Its node's name.
    pub node: String,
    /// Its port.
    #[schemars(range(min = 0, max = 59))]
    pub port: u8,
}

/// The end of a link that is served.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, JsonSchema)]
pub struct FarSpec {
    /// The Ethernet address that asked.
    #[schemars(regex(pattern = r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$"))]
    pub mac: String,
    /// The machine, once its request for a configuration said which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The machine's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// How far a boot has come, as the near end of its link sees it.
#[derive(Serialize, Deserialize, Debug, Clone, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BootStatus {
    /// The stage that it has reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Why it has not come further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it reached the stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub since: Option<String>,
    /// Octets sent to it since the carrier came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// The link that it boots over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// The near port's name in its kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
}

// === impl MachineSpec ===

impl MachineSpec {
    /// The spec of a machine. Its block's addresses are the plan's; they are there to be read by people.
    #[must_use]
    pub fn new(machine: &Machine, plan: &AddressPlan, revision: Revision) -> Self {
        let port = |port: &Port| PortSpec {
            index: port.index.get(),
            mac: port.mac.to_string(),
            name: port.name.clone(),
        };
        Self {
            id: machine.id.to_string(),
            role: machine.role.to_string(),
            block: plan.block(machine.block).map(|block| block.to_string()).unwrap_or_default(),
            block_number: signed(machine.block.0),
            router_id: machine.router_id.dotted().to_string(),
            ports: machine.ports.iter().map(port).collect(),
            revision: signed(revision.0),
        }
    }

    /// The machine that the spec is of; `name` is the object's.
    ///
    /// # Errors
    ///
    /// What cannot be read, in words.
    pub fn machine(&self, name: &str) -> Result<Machine, String> {
        let role = [Role::Seed, Role::Node].into_iter().find(|role| role.to_string() == self.role);
        let ports = self.ports.iter().map(|port| {
            let index = port.index.try_into().map_err(text("spec.ports.index"))?;
            Ok(Port {
                index,
                mac: port.mac.parse().map_err(text("spec.ports.mac"))?,
                name: port.name.clone(),
            })
        });
        let dotted: std::net::Ipv4Addr = self.router_id.parse().map_err(text("spec.routerId"))?;
        Ok(Machine {
            id: machine_id(&self.id, "spec.id")?,
            name: name.parse().map_err(text("metadata.name"))?,
            role: role.ok_or_else(|| format!("spec.role: `{}` is neither seed nor node", self.role))?,
            block: BlockNumber(self.block_number.try_into().map_err(text("spec.blockNumber"))?),
            router_id: RouterId::try_from(dotted.to_bits()).map_err(text("spec.routerId"))?,
            ports: ports.collect::<Result<_, String>>()?,
        })
    }
}

// === impl LinkSpec ===

impl LinkSpec {
    /// The name of a link's object: its near node and port.
    #[must_use]
    pub fn name(ledger: &Ledger, id: LinkId) -> Option<String> {
        ledger.machine(id.near).map(|near| format!("{}-p{}", near.name, id.port))
    }

    /// The spec of a link of a ledger, or none if its near end is not of the ledger.
    #[must_use]
    pub fn new(link: &Link, ledger: &Ledger, revision: Revision) -> Option<Self> {
        let near = ledger.machine(link.id.near)?;
        let far = link.far.machine.and_then(|far| ledger.machine(far));
        Some(Self {
            near: NearSpec {
                machine: near.id.to_string(),
                node: near.name.to_string(),
                port: link.id.port.get(),
            },
            prefix: link.prefix.to_string(),
            far: FarSpec {
                mac: link.far.mac.to_string(),
                machine: far.map(|far| far.id.to_string()),
                node: far.map(|far| far.name.to_string()),
            },
            revision: signed(revision.0),
        })
    }

    /// The link that the spec is of.
    ///
    /// # Errors
    ///
    /// What cannot be read, in words.
    pub fn link(&self) -> Result<Link, String> {
        let net: ipnet::Ipv6Net = self.prefix.parse().map_err(text("spec.prefix"))?;
        let machine = self.far.machine.as_deref().map(|far| machine_id(far, "spec.far.machine"));
        Ok(Link {
            id: LinkId {
                near: machine_id(&self.near.machine, "spec.near.machine")?,
                port: self.near.port.try_into().map_err(text("spec.near.port"))?,
            },
            prefix: net.try_into().map_err(text("spec.prefix"))?,
            far: Far {
                mac: self.far.mac.parse().map_err(text("spec.far.mac"))?,
                machine: machine.transpose()?,
            },
        })
    }
}

// === impl BootStatus ===

impl BootStatus {
    /// What a near end reports; `name` is its link object's.
    #[must_use]
    pub fn new(status: &LinkStatus, name: &str) -> Self {
        let since = i64::try_from(status.since).ok().and_then(|since| Timestamp::from_second(since).ok());
        Self {
            stage: Some(status.stage.to_string()),
            reason: status.reason.clone(),
            since: since.map(|since| since.to_string()),
            bytes: Some(signed(status.bytes)),
            link: Some(name.to_owned()),
            port: Some(status.port.clone()),
        }
    }

    /// The report, or none if nobody made one.
    #[must_use]
    pub fn report(&self, link: &Link, spec: &LinkSpec) -> Option<LinkStatus> {
        let stage = self.stage.as_ref()?;
        let since = self.since.as_deref().and_then(|since| since.parse::<Timestamp>().ok());
        Some(LinkStatus {
            link: link.id,
            port: self.port.clone().unwrap_or_default(),
            address: link.prefix.near(),
            stage: stage_named(stage)?,
            since: since.and_then(|since| u64::try_from(since.as_second()).ok()).unwrap_or_default(),
            reason: self.reason.clone(),
            far_mac: Some(link.far.mac),
            far_machine: link.far.machine,
            far_node: spec.far.node.as_deref().and_then(|node| node.parse().ok()),
            bytes: self.bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default(),
            // Kubernetes shows the reason, which names them; the status page has the particulars.
            faults: Vec::new(),
            forced: false,
            neighbour: false,
        })
    }
}

fn stage_named(name: &str) -> Option<Stage> {
    serde_json::from_value(name.into()).ok()
}

fn machine_id(id: &str, field: &str) -> Result<MachineId, String> {
    id.parse().map(MachineId).map_err(text(field))
}

fn text<E: std::fmt::Display>(field: &str) -> impl Fn(E) -> String {
    move |error| format!("{field}: {error}")
}

/// JSON schemas of Kubernetes have signed integers only. No number here comes near their end.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
