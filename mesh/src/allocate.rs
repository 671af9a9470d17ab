//! Who gets what next: pure functions from a ledger and a request to the changes that answer it.

use uuid::Uuid;

use crate::{
    AddressPlan, BlockNumber, Change, Far, Ledger, Link, LinkId, Mac, Machine, MachineId, NodeName, Port,
    PortIndex, Role, RouterId,
};

/// What a machine says of itself when it asks for its configuration. It is believed as far as the link that
/// it came in on makes it believable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The SMBIOS UUID, where the firmware has one.
    pub uuid: Option<Uuid>,
    /// The Ethernet address that asked on the link: the port the machine boots from.
    pub boot_mac: Mac,
    /// All its Ethernet ports with their kernel's names, in the kernel's order.
    pub ports: Vec<(Mac, String)>,
    /// What it shall do.
    pub role: Role,
    /// The name that the operator wants for it, if it is free.
    pub preferred_name: Option<NodeName>,
}

/// How a claim was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The machine that the claim is of, with all that it has after [`change`](Self::change).
    pub machine: Machine,
    /// What must be made durable before the machine hears of it; none if all of it was known.
    pub change: Option<Change>,
}

/// A claim that cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// The port that asks is not an Ethernet station.
    #[error("{0} is no station's Ethernet address")]
    NotAStation(Mac),
    /// Its ports belong to two machines that the ledger knows.
    #[error("its ports are those of two machines, {first} and {second}: remove the one that is gone")]
    TwoMachines {
        /// One of them.
        first: MachineId,
        /// The other.
        second: MachineId,
    },
    /// Every block of the plan is given.
    #[error("all {} blocks of the plan are given: remove machines that are gone, or use a shorter prefix", last.0 + 1)]
    NoBlock {
        /// The plan's last block number.
        last: BlockNumber,
    },
    /// Every router id is given.
    #[error("all router ids are given: remove machines that are gone")]
    NoRouterId,
    /// More ports than a block has links.
    #[error("machine {machine} has more Ethernet ports than the {max} that a block has links for", max = crate::block::MAX_PORTS)]
    TooManyPorts {
        /// The machine.
        machine: MachineId,
    },
}

/// A link that has no addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// The near end was removed from the ledger, or was never in it: its block may be another's by now.
    #[error("machine {0} is not known (any more): it must claim its place before it serves others")]
    Unknown(MachineId),
    /// The near end's block was given under another plan.
    #[error("block {} of machine {machine} is not one of the plan's {}", number.0, last.0 + 1)]
    OutsidePlan {
        /// The machine.
        machine: MachineId,
        /// Its block.
        number: BlockNumber,
        /// The plan's last block number.
        last: BlockNumber,
    },
}

/// Finds or makes the machine that a claim is of.
///
/// A machine is the one that has one of the claim's Ethernet addresses. The UUID only names a new machine:
/// boards are sold with the same UUID, and two boards must never share a block.
///
/// # Errors
///
/// See [`AdmitError`]; nothing was given.
pub fn admit(ledger: &Ledger, plan: &AddressPlan, claim: &Claim) -> Result<Admission, AdmitError> {
    if !claim.boot_mac.is_unicast() {
        return Err(AdmitError::NotAStation(claim.boot_mac));
    }
    let mut ports: Vec<(Mac, &str)> = Vec::new();
    for (mac, name) in &claim.ports {
        if mac.is_unicast() && !ports.iter().any(|(known, _)| known == mac) {
            ports.push((*mac, name));
        }
    }
    if !ports.iter().any(|(mac, _)| *mac == claim.boot_mac) {
        ports.push((claim.boot_mac, ""));
    }

    let mut known: Option<&Machine> = None;
    for (mac, _) in &ports {
        match (known, ledger.machine_with_mac(*mac)) {
            (Some(first), Some(second)) if first.id != second.id => {
                return Err(AdmitError::TwoMachines { first: first.id, second: second.id });
            }
            (None, found) => known = found,
            (Some(_), _) => {}
        }
    }
    match known {
        Some(machine) => extend(machine, &ports),
        None => admit_new(ledger, plan, claim, &ports),
    }
}

/// The change that a link needs before its addresses are spoken of, or none if the ledger has it as it is.
///
/// # Errors
///
/// See [`AttachError`]; the link has no addresses that could be spoken of.
pub fn attach(
    ledger: &Ledger,
    plan: &AddressPlan,
    id: LinkId,
    far: Far,
) -> Result<Option<Change>, AttachError> {
    let number = ledger.machine(id.near).ok_or(AttachError::Unknown(id.near))?.block;
    let outside = AttachError::OutsidePlan { machine: id.near, number, last: plan.last_number() };
    let block = plan.block(number).ok_or(outside)?;
    let known = ledger.link(id);
    // An address alone does not say that another machine came: keep the name until one claims the link.
    let same_port = known.filter(|link| link.far.mac == far.mac).and_then(|link| link.far.machine);
    let link =
        Link { id, prefix: block.link(id.port), far: Far { machine: far.machine.or(same_port), ..far } };
    Ok((known != Some(&link)).then_some(Change::Attach(link)))
}

fn admit_new(
    ledger: &Ledger,
    plan: &AddressPlan,
    claim: &Claim,
    ports: &[(Mac, &str)],
) -> Result<Admission, AdmitError> {
    let usable = |id: &MachineId| !id.is_shared() && !id.is_from_mac() && ledger.machine(*id).is_none();
    let named = claim.uuid.map(MachineId).filter(usable);
    let id = named.unwrap_or_else(|| MachineId::from_mac(claim.boot_mac));
    let machine = Machine {
        id,
        name: free_name(ledger, claim),
        role: claim.role,
        block: free_block(ledger, plan, claim.boot_mac)?,
        router_id: free_router_id(ledger)?,
        ports: number_ports(id, &[], ports)?,
    };
    Ok(Admission { change: Some(Change::Admit(machine.clone())), machine })
}

fn extend(machine: &Machine, ports: &[(Mac, &str)]) -> Result<Admission, AdmitError> {
    let numbered = number_ports(machine.id, &machine.ports, ports)?;
    let news: Vec<Port> = numbered.iter().filter(|port| !machine.ports.contains(port)).cloned().collect();
    let change = (!news.is_empty()).then_some(Change::Extend { machine: machine.id, ports: news });
    Ok(Admission { machine: Machine { ports: numbered, ..machine.clone() }, change })
}

/// Known ports keep their numbers; new ones take the lowest free in the order in which they were named.
fn number_ports(id: MachineId, known: &[Port], ports: &[(Mac, &str)]) -> Result<Vec<Port>, AdmitError> {
    let mut numbered = known.to_vec();
    for (mac, name) in ports {
        if let Some(port) = numbered.iter_mut().find(|port| port.mac == *mac) {
            if !name.is_empty() {
                (*name).clone_into(&mut port.name);
            }
            continue;
        }
        let free = PortIndex::all().find(|index| !numbered.iter().any(|port| port.index == *index));
        let index = free.ok_or(AdmitError::TooManyPorts { machine: id })?;
        numbered.push(Port { index, mac: *mac, name: (*name).to_owned() });
    }
    numbered.sort_by_key(|port| port.index);
    Ok(numbered)
}

fn free_block(ledger: &Ledger, plan: &AddressPlan, mac: Mac) -> Result<BlockNumber, AdmitError> {
    let taken = |number: BlockNumber| ledger.machines().any(|machine| machine.block == number);
    let preferred = plan.preferred_number(mac);
    if !taken(preferred) {
        return Ok(preferred);
    }
    let last = plan.last_number();
    (0..=last.0).map(BlockNumber).find(|number| !taken(*number)).ok_or(AdmitError::NoBlock { last })
}

fn free_router_id(ledger: &Ledger) -> Result<RouterId, AdmitError> {
    let taken = |id: RouterId| ledger.machines().any(|machine| machine.router_id == id);
    (1..=RouterId::MAX)
        .filter_map(|number| RouterId::try_from(number).ok())
        .find(|id| !taken(*id))
        .ok_or(AdmitError::NoRouterId)
}

fn free_name(ledger: &Ledger, claim: &Claim) -> NodeName {
    let free = |name: &NodeName| ledger.machine_named(name.as_str()).is_none();
    if let Some(name) = claim.preferred_name.as_ref().filter(|name| free(name)) {
        return name.clone();
    }
    (1_u64..)
        .filter_map(|number| format!("{}{number}", claim.role).parse().ok())
        .find(free)
        .expect("a ledger holds fewer machines than there are numbers")
}

#[cfg(test)]
pub(crate) mod promises;
#[cfg(test)]
mod tests;
