//! Who is it that asks for a configuration, and may it have one?
//!
//! A request is trusted by the link that it comes in on, not by what it says of itself.

use std::net::Ipv6Addr;

use ignition::ImageId;
use mesh::allocate::AttachError;
use mesh::{AddressPlan, Change, Claim, Far, Ledger, LinkId, Mac, Machine, NodeName, Role, allocate};
use uuid::Uuid;

use crate::join::NodeState;

/// A request for a configuration, as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The link that it came in on.
    pub link: LinkId,
    /// The address that it came from.
    pub peer: Ipv6Addr,
    /// The Ethernet address behind it, as the kernel's neighbour table has it.
    pub far_mac: Mac,
    /// The SMBIOS UUID that the machine says it has.
    pub uuid: Option<Uuid>,
    /// The Ethernet ports that it says it has.
    pub ports: Vec<(Mac, String)>,
    /// The images that it says it was started from.
    pub image: Option<String>,
}

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It did not come from the far end of the link itself, but through it.
    #[error(
        "the request came from {peer}, which is not the far end of the link: only the machine itself may ask"
    )]
    NotTheFarEnd {
        /// Where it came from.
        peer: Ipv6Addr,
    },
    /// The port that asks is not one of those that the machine says it has.
    #[error("the request came from {mac}, which is not among the ports that it names")]
    NotItsPort {
        /// The Ethernet address on the link.
        mac: Mac,
    },
    /// It says that it is a seed.
    #[error("machine {name} is a seed: it boots from its own disk and is not served")]
    Seed {
        /// The seed's name.
        name: NodeName,
    },
    /// It was started from other images than the operator wants.
    #[error("it was started from the images {booted}, and is to be from {wanted}: it starts over")]
    OtherImages {
        /// Those that it was started from.
        booted: String,
        /// Those that it is to be started from.
        wanted: ImageId,
    },
    /// The machine is alive behind another link.
    #[error("node {name} is alive behind another link: turn it off, or wait until Kubernetes finds it gone")]
    Alive {
        /// The node.
        name: NodeName,
    },
}

/// Whether a machine was started from the images that the operator wants for it. Who served it may not have known yet what
/// machine it is; now the ledger knows its ports. One that does not say what it was started from is believed.
///
/// # Errors
///
/// [`Refusal::OtherImages`].
pub fn check_images(request: &Request, wanted: Option<&ImageId>) -> Result<(), Refusal> {
    match (&request.image, wanted) {
        (Some(booted), Some(wanted)) if booted != wanted.as_str() => {
            Err(Refusal::OtherImages { booted: booted.clone(), wanted: wanted.clone() })
        }
        _ => Ok(()),
    }
}

/// What the ledger alone says of a request: the claim to be admitted.
///
/// # Errors
///
/// See [`Refusal`]; nothing was given.
pub fn claim(
    plan: &AddressPlan,
    ledger: &Ledger,
    request: &Request,
    name: Option<NodeName>,
) -> Result<Claim, Refusal> {
    let near = ledger.machine(request.link.near).and_then(|near| plan.block(near.block));
    let far = near.map(|block| block.link(request.link.port).far());
    if far != Some(request.peer) {
        return Err(Refusal::NotTheFarEnd { peer: request.peer });
    }
    if request.ports.iter().all(|(port, _)| *port != request.far_mac) {
        return Err(Refusal::NotItsPort { mac: request.far_mac });
    }
    let known = request.ports.iter().find_map(|(mac, _)| ledger.machine_with_mac(*mac));
    if let Some(seed) = known.filter(|machine| machine.role == Role::Seed) {
        return Err(Refusal::Seed { name: seed.name.clone() });
    }
    Ok(Claim {
        uuid: request.uuid,
        boot_mac: request.far_mac,
        ports: request.ports.clone(),
        role: Role::Node,
        preferred_name: name,
    })
}

/// Whether a machine that the ledger knows may boot through this link now. A machine that was moved from one
/// port to another may, but not while its node lives elsewhere: then somebody pretends.
///
/// # Errors
///
/// [`Refusal::Alive`].
pub fn check_alive(
    ledger: &Ledger,
    machine: &Machine,
    link: LinkId,
    node: Option<&NodeState>,
) -> Result<(), Refusal> {
    let mut served = ledger.links().filter(|known| known.far.machine == Some(machine.id)).peekable();
    let elsewhere = served.peek().is_some() && served.all(|known| known.id != link);
    if elsewhere && node.is_some_and(|node| node.ready) {
        return Err(Refusal::Alive { name: machine.name.clone() });
    }
    Ok(())
}

/// The change that ties an admitted machine to the link that it booted through.
///
/// # Errors
///
/// The near end is not in the ledger any more.
pub fn tie(
    plan: &AddressPlan,
    ledger: &Ledger,
    machine: &Machine,
    claim: &Claim,
    link: LinkId,
) -> Result<Option<Change>, AttachError> {
    allocate::attach(ledger, plan, link, Far { mac: claim.boot_mac, machine: Some(machine.id) })
}

#[cfg(test)]
mod tests;
