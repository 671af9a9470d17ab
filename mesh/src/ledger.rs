//! The ledger: what has been given to whom.
//!
//! A [`Ledger`] is a value; it changes only by [`Ledger::apply`], which refuses a change that would give
//! anything twice or move a living allocation. Replaying the same changes gives the same ledger.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    BlockNumber, Far, Link, LinkId, LinkPrefix, Mac, Machine, MachineId, NodeName, Port, PortIndex, RouterId,
};

/// Machines and links of one site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    machines: BTreeMap<MachineId, Machine>,
    links: BTreeMap<LinkId, Link>,
}

/// One step from a ledger to the next. It is durable before a packet speaks of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A machine is known from now on, with all that it was given.
    Admit(Machine),
    /// A known machine has these ports as well, or calls them by these names.
    Extend {
        /// The machine.
        machine: MachineId,
        /// New ports, and known ports under their new name.
        ports: Vec<Port>,
    },
    /// A link is spoken of; or its far end is another than before.
    Attach(Link),
    /// A machine is gone for good, and its links with it.
    Remove(MachineId),
}

/// A change that would break what the ledger promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The machine is known already.
    #[error("machine {0} is known already")]
    Known(MachineId),
    /// No such machine.
    #[error("machine {0} is not known")]
    Unknown(MachineId),
    /// Another machine has the name.
    #[error("the name {name} belongs to machine {owner}")]
    NameTaken {
        /// The name.
        name: NodeName,
        /// Who has it.
        owner: MachineId,
    },
    /// Another machine has the block.
    #[error("block {} belongs to machine {owner}", number.0)]
    BlockTaken {
        /// The block's number.
        number: BlockNumber,
        /// Who has it.
        owner: MachineId,
    },
    /// Another machine has the router id.
    #[error("router id {router_id} belongs to machine {owner}")]
    RouterIdTaken {
        /// The router id.
        router_id: RouterId,
        /// Who has it.
        owner: MachineId,
    },
    /// The Ethernet address is another port's.
    #[error("{mac} is port {port} of machine {owner}")]
    MacTaken {
        /// The address.
        mac: Mac,
        /// Who has it.
        owner: MachineId,
        /// At which port.
        port: PortIndex,
    },
    /// The port number has another Ethernet address.
    #[error("port {port} of machine {machine} has another Ethernet address")]
    PortTaken {
        /// The machine.
        machine: MachineId,
        /// The port.
        port: PortIndex,
    },
    /// The near end has no such port.
    #[error("link {0} has no near end: the machine has no such port")]
    NoPort(LinkId),
    /// The link was given other addresses before.
    #[error("link {0} has other addresses already")]
    LinkMoved(LinkId),
    /// Another link has the addresses.
    #[error("{prefix} belongs to link {owner}")]
    PrefixTaken {
        /// The addresses.
        prefix: LinkPrefix,
        /// Which link has them.
        owner: LinkId,
    },
}

// === impl Ledger ===

impl Ledger {
    /// The ledger that holds these machines and links, as a store found them.
    ///
    /// # Errors
    ///
    /// The first clash between two of them.
    pub fn restore(
        machines: impl IntoIterator<Item = Machine>,
        links: impl IntoIterator<Item = Link>,
    ) -> Result<Self, ApplyError> {
        let mut ledger = Self::default();
        for machine in machines {
            ledger.apply(&Change::Admit(machine))?;
        }
        for link in links {
            ledger.apply(&Change::Attach(link))?;
        }
        Ok(ledger)
    }

    /// Every machine, by identity.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.machines.values()
    }

    /// Every link, by near end.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// The machine of this identity.
    #[must_use]
    pub fn machine(&self, id: MachineId) -> Option<&Machine> {
        self.machines.get(&id)
    }

    /// The link of this near end.
    #[must_use]
    pub fn link(&self, id: LinkId) -> Option<&Link> {
        self.links.get(&id)
    }

    /// The machine of this name.
    #[must_use]
    pub fn machine_named(&self, name: &str) -> Option<&Machine> {
        self.machines().find(|machine| machine.name.as_str() == name)
    }

    /// The machine that has a port with this Ethernet address.
    #[must_use]
    pub fn machine_with_mac(&self, mac: Mac) -> Option<&Machine> {
        self.machines().find(|machine| machine.port(mac).is_some())
    }

    /// Takes one step, or none at all.
    ///
    /// # Errors
    ///
    /// What the change would have broken; the ledger is as it was.
    pub fn apply(&mut self, change: &Change) -> Result<(), ApplyError> {
        match change {
            Change::Admit(machine) => self.admit(machine),
            Change::Extend { machine, ports } => self.extend(*machine, ports),
            Change::Attach(link) => self.attach(link),
            Change::Remove(id) => self.remove(*id),
        }
    }

    fn admit(&mut self, new: &Machine) -> Result<(), ApplyError> {
        for known in self.machines.values() {
            let owner = known.id;
            if owner == new.id {
                return Err(ApplyError::Known(owner));
            }
            if known.name == new.name {
                return Err(ApplyError::NameTaken { name: new.name.clone(), owner });
            }
            if known.block == new.block {
                return Err(ApplyError::BlockTaken { number: new.block, owner });
            }
            if known.router_id == new.router_id {
                return Err(ApplyError::RouterIdTaken { router_id: new.router_id, owner });
            }
        }
        self.check_ports(new.id, &new.ports)?;
        for (at, port) in new.ports.iter().enumerate() {
            let before = new.ports.get(..at).unwrap_or_default();
            if before.iter().any(|other| other.index == port.index) {
                return Err(ApplyError::PortTaken { machine: new.id, port: port.index });
            }
            if let Some(other) = before.iter().find(|other| other.mac == port.mac) {
                return Err(ApplyError::MacTaken { mac: port.mac, owner: new.id, port: other.index });
            }
        }
        self.machines.insert(new.id, new.clone());
        Ok(())
    }

    fn extend(&mut self, id: MachineId, ports: &[Port]) -> Result<(), ApplyError> {
        self.check_ports(id, ports)?;
        let machine = self.machines.get(&id).ok_or(ApplyError::Unknown(id))?;
        let mut extended = machine.clone();
        for port in ports {
            match extended.ports.iter_mut().find(|known| known.index == port.index || known.mac == port.mac) {
                None => extended.ports.push(port.clone()),
                Some(known) if known.index == port.index && known.mac == port.mac => {
                    known.name.clone_from(&port.name);
                }
                Some(known) if known.index == port.index => {
                    return Err(ApplyError::PortTaken { machine: id, port: port.index });
                }
                Some(known) => {
                    return Err(ApplyError::MacTaken { mac: port.mac, owner: id, port: known.index });
                }
            }
        }
        extended.ports.sort_by_key(|port| port.index);
        self.machines.insert(id, extended);
        Ok(())
    }

    fn check_ports(&self, id: MachineId, ports: &[Port]) -> Result<(), ApplyError> {
        for port in ports {
            let owner = self.machine_with_mac(port.mac).filter(|owner| owner.id != id);
            if let Some((owner, taken)) =
                owner.and_then(|owner| Some((owner.id, owner.port(port.mac)?.index)))
            {
                return Err(ApplyError::MacTaken { mac: port.mac, owner, port: taken });
            }
        }
        Ok(())
    }

    fn attach(&mut self, link: &Link) -> Result<(), ApplyError> {
        let near = self.machine(link.id.near).ok_or(ApplyError::Unknown(link.id.near))?;
        if !near.ports.iter().any(|port| port.index == link.id.port) {
            return Err(ApplyError::NoPort(link.id));
        }
        if let Some(machine) = link.far.machine
            && self.machine(machine).is_none()
        {
            return Err(ApplyError::Unknown(machine));
        }
        if self.links.get(&link.id).is_some_and(|known| known.prefix != link.prefix) {
            return Err(ApplyError::LinkMoved(link.id));
        }
        let same = self.links.values().find(|known| known.prefix == link.prefix && known.id != link.id);
        if let Some(owner) = same {
            return Err(ApplyError::PrefixTaken { prefix: link.prefix, owner: owner.id });
        }
        self.links.insert(link.id, link.clone());
        Ok(())
    }

    fn remove(&mut self, id: MachineId) -> Result<(), ApplyError> {
        self.machines.remove(&id).ok_or(ApplyError::Unknown(id))?;
        self.links.retain(|link, _| link.near != id);
        for link in self.links.values_mut() {
            if link.far.machine == Some(id) {
                link.far = Far { machine: None, ..link.far };
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
