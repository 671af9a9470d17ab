//! Links: one cable, two ends.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{LinkPrefix, Mac, MachineId, PortIndex};

/// A link is named by its near end: the machine that serves, and the port it serves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LinkId {
    /// The machine at the near end.
    pub near: MachineId,
    /// Its port.
    pub port: PortIndex,
}

/// Who was last seen at the far end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Far {
    /// The Ethernet address that asked.
    pub mac: Mac,
    /// The machine, once its request for a configuration said which.
    pub machine: Option<MachineId>,
}

/// A link that the ledger knows: a /126 that was spoken of on a cable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The near end.
    pub id: LinkId,
    /// Its addresses.
    pub prefix: LinkPrefix,
    /// The far end.
    pub far: Far,
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.near, self.port)
    }
}
