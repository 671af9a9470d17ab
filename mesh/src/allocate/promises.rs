//! What a ledger promises, as checks that any test can call after each step.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use crate::{AddressPlan, Change, Ledger};

/// Nothing is given twice, and nothing points at nobody.
pub(crate) fn hold(ledger: &Ledger) {
    let machines = || ledger.machines();
    unique("block", machines().map(|machine| machine.block));
    unique("name", machines().map(|machine| &machine.name));
    unique("router id", machines().map(|machine| machine.router_id));
    unique("Ethernet address", machines().flat_map(|machine| &machine.ports).map(|port| port.mac));
    for machine in machines() {
        unique("port", machine.ports.iter().map(|port| port.index));
    }
    unique("/126", ledger.links().map(|link| link.prefix));
    for link in ledger.links() {
        let near = ledger.machine(link.id.near).expect("a link has a near end");
        assert!(near.ports.iter().any(|port| port.index == link.id.port), "{} has no port", link.id);
        if let Some(far) = link.far.machine {
            assert!(ledger.machine(far).is_some(), "{} has an unknown far end", link.id);
        }
    }
}

/// Every address lies where the plan says, in the block of the machine that it was given to.
pub(crate) fn hold_in(ledger: &Ledger, plan: &AddressPlan) {
    hold(ledger);
    for machine in ledger.machines() {
        assert!(machine.block <= plan.last_number(), "block {:?} is not of the plan", machine.block);
    }
    for link in ledger.links() {
        let near = ledger.machine(link.id.near).expect("a link has a near end");
        let block = plan.block(near.block).expect("checked above");
        assert_eq!(link.prefix, block.link(link.id.port));
    }
}

/// What a machine or a link was given stays what it was until the machine is removed.
pub(crate) fn nothing_moved(before: &Ledger, after: &Ledger, change: &Change) {
    let removed = if let Change::Remove(id) = change { Some(*id) } else { None };
    for old in before.machines().filter(|machine| Some(machine.id) != removed) {
        let new = after.machine(old.id).expect("only a removal takes a machine");
        assert_eq!((old.block, &old.name, old.router_id), (new.block, &new.name, new.router_id));
        assert_eq!(old.role, new.role);
        for port in &old.ports {
            let same = new.port(port.mac).expect("a port is never taken away");
            assert_eq!(port.index, same.index);
        }
    }
    for old in before.links().filter(|link| Some(link.id.near) != removed) {
        let new = after.link(old.id).expect("only a removal takes a link");
        assert_eq!(old.prefix, new.prefix);
    }
}

fn unique<T: Ord + Debug>(what: &str, values: impl Iterator<Item = T>) {
    let mut seen = BTreeSet::new();
    let mut twice = BTreeMap::new();
    for value in values {
        if let Some(value) = seen.replace(value) {
            *twice.entry(value).or_insert(1) += 1;
        }
    }
    assert!(twice.is_empty(), "{what} given more than once: {twice:?}");
}
