//! What is wrong with a link as such, whoever boots on it: the vocabulary of its judgement.
//!
//! A mesh port is meant to have one cable with one machine at its far end. Where that is not so, serving does harm: two
//! machines would get one address, and somebody else's hosts would take the near end for their router.

use std::fmt;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use crate::Mac;

/// What is wrong with a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum LinkFault {
    /// What one of this machine's ports sends arrives on this one.
    Looped {
        /// The name of the port that sends: this one, or another.
        port: String,
    },
    /// More than one machine speaks on the link.
    TwoMachines {
        /// Their Ethernet addresses, in order.
        macs: Vec<Mac>,
    },
    /// Another DHCPv6 server answers on the link.
    SecondDhcpServer {
        /// Its address, if it was heard itself and not only spoken to.
        server: Option<Ipv6Addr>,
        /// Its DUID, in hexadecimal.
        duid: String,
    },
    /// Somebody advertises addresses that are not this mesh's.
    ForeignPrefix {
        /// Who advertises them.
        router: Ipv6Addr,
        /// The addresses.
        #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::net"))]
        net: Ipv6Net,
    },
    /// A router that is no node of this mesh advertises itself.
    SecondRouter {
        /// Its address.
        router: Ipv6Addr,
    },
}

/// A fault without its particulars, the one that explains the others first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// [`LinkFault::Looped`].
    Looped,
    /// [`LinkFault::TwoMachines`].
    TwoMachines,
    /// [`LinkFault::SecondDhcpServer`].
    SecondDhcpServer,
    /// [`LinkFault::ForeignPrefix`].
    ForeignPrefix,
    /// [`LinkFault::SecondRouter`].
    SecondRouter,
}

// === impl LinkFault ===

impl LinkFault {
    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> FaultKind {
        match self {
            Self::Looped { .. } => FaultKind::Looped,
            Self::TwoMachines { .. } => FaultKind::TwoMachines,
            Self::SecondDhcpServer { .. } => FaultKind::SecondDhcpServer,
            Self::ForeignPrefix { .. } => FaultKind::ForeignPrefix,
            Self::SecondRouter { .. } => FaultKind::SecondRouter,
        }
    }
}

impl fmt::Display for LinkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Looped { port } => {
                write!(f, "what port {port} of this machine sends comes back here: pull one end of the cable")
            }
            Self::TwoMachines { macs } => {
                f.write_str("more than one machine speaks here (")?;
                for (at, mac) in macs.iter().enumerate() {
                    write!(f, "{}{mac}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str(
                    "): take out the switch, or turn off the management controller that shares the port",
                )
            }
            Self::SecondDhcpServer { server: Some(server), .. } => {
                write!(
                    f,
                    "another DHCPv6 server, {server}, answers here: this cable belongs to another network"
                )
            }
            Self::SecondDhcpServer { server: None, duid } => {
                write!(
                    f,
                    "a machine here was answered by another DHCPv6 server (DUID {duid}): take out the switch"
                )
            }
            Self::ForeignPrefix { router, net } => {
                write!(
                    f,
                    "{router} advertises {net}, which is not of this mesh: this cable belongs to another network"
                )
            }
            Self::SecondRouter { router } => {
                write!(
                    f,
                    "another router, {router}, advertises itself: this cable belongs to another network"
                )
            }
        }
    }
}

// === impl FaultKind ===

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Looped, Self::TwoMachines, Self::SecondDhcpServer, Self::ForeignPrefix, Self::SecondRouter];

    /// Its name, as in a [`LinkFault`] written as JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Looped => "looped",
            Self::TwoMachines => "two-machines",
            Self::SecondDhcpServer => "second-dhcp-server",
            Self::ForeignPrefix => "foreign-prefix",
            Self::SecondRouter => "second-router",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_written_with_the_name_of_its_kind() {
        let router = Ipv6Addr::LOCALHOST;
        let faults = [
            LinkFault::Looped { port: "eth0".to_owned() },
            LinkFault::TwoMachines { macs: vec![Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])] },
            LinkFault::SecondDhcpServer { server: None, duid: "0001".to_owned() },
            LinkFault::ForeignPrefix { router, net: "fd00::/64".parse().unwrap() },
            LinkFault::SecondRouter { router },
        ];
        assert_eq!(faults.each_ref().map(LinkFault::kind), FaultKind::ALL);
        for fault in faults {
            let json = serde_json::to_value(&fault).unwrap();
            assert_eq!(json["kind"], fault.kind().name());
            assert_eq!(serde_json::from_value::<LinkFault>(json).unwrap(), fault);
        }
    }
}
