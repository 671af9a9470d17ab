use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{LinkPrefix, Role};

fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, number])
}

fn port(index: u8, number: u8) -> Port {
    Port { index: index.try_into().unwrap(), mac: mac(number), name: format!("enp{number}s0") }
}

fn id(number: u8) -> MachineId {
    MachineId(Uuid::from_u128(number.into()))
}

fn prefix(number: u8) -> LinkPrefix {
    let bits = 0x2001_0db8 << 96 | u128::from(number) << 2;
    LinkPrefix::new(Ipv6Net::new(Ipv6Addr::from_bits(bits), 126).unwrap()).unwrap()
}

/// Everything of it is its number.
fn machine(number: u8) -> Machine {
    Machine {
        id: id(number),
        name: format!("node{number}").parse().unwrap(),
        role: Role::Node,
        block: BlockNumber(number.into()),
        router_id: u32::from(number).try_into().unwrap(),
        ports: vec![port(0, number)],
    }
}

fn link(near: u8, index: u8, number: u8, far: Option<u8>) -> Link {
    Link {
        id: LinkId { near: id(near), port: index.try_into().unwrap() },
        prefix: prefix(number),
        far: Far { mac: mac(100 + number), machine: far.map(id) },
    }
}

fn ledger(machines: &[u8]) -> Ledger {
    Ledger::restore(machines.iter().copied().map(machine), []).unwrap()
}

#[test]
fn nothing_of_a_living_machine_is_given_again() {
    let mut ledger = ledger(&[1, 2]);
    let cases = [
        (Machine { id: id(1), ..machine(3) }, ApplyError::Known(id(1))),
        (
            Machine { name: machine(1).name, ..machine(3) },
            ApplyError::NameTaken { name: machine(1).name, owner: id(1) },
        ),
        (
            Machine { block: BlockNumber(2), ..machine(3) },
            ApplyError::BlockTaken { number: BlockNumber(2), owner: id(2) },
        ),
        (
            Machine { router_id: machine(2).router_id, ..machine(3) },
            ApplyError::RouterIdTaken { router_id: machine(2).router_id, owner: id(2) },
        ),
        (
            Machine { ports: vec![port(0, 3), port(1, 2)], ..machine(3) },
            ApplyError::MacTaken { mac: mac(2), owner: id(2), port: 0.try_into().unwrap() },
        ),
        (
            Machine { ports: vec![port(0, 3), port(1, 3)], ..machine(3) },
            ApplyError::MacTaken { mac: mac(3), owner: id(3), port: 0.try_into().unwrap() },
        ),
        (
            Machine { ports: vec![port(0, 3), port(0, 4)], ..machine(3) },
            ApplyError::PortTaken { machine: id(3), port: 0.try_into().unwrap() },
        ),
    ];
    let before = ledger.clone();
    for (machine, error) in cases {
        assert_eq!(ledger.apply(&Change::Admit(machine)), Err(error));
        assert_eq!(ledger, before);
    }
    assert_eq!(ledger.apply(&Change::Admit(machine(3))), Ok(()));
}

#[test]
fn ports_are_added_and_renamed_but_never_moved() {
    let mut ledger = ledger(&[1, 2]);
    let extend = |ports: &[Port]| Change::Extend { machine: id(1), ports: ports.to_vec() };
    let before = ledger.clone();
    let taken = |number, owner, port: u8| ApplyError::MacTaken {
        mac: mac(number),
        owner: id(owner),
        port: port.try_into().unwrap(),
    };
    let other = ApplyError::PortTaken { machine: id(1), port: 0.try_into().unwrap() };
    let cases = [
        (vec![port(1, 2)], taken(2, 2, 0)),
        (vec![port(1, 1)], taken(1, 1, 0)),
        (vec![port(0, 9)], other),
        (vec![port(1, 9), port(2, 9)], taken(9, 1, 1)),
    ];
    for (ports, error) in cases {
        assert_eq!(ledger.apply(&extend(&ports)), Err(error));
        assert_eq!(ledger, before);
    }
    let unknown = Change::Extend { machine: id(7), ports: vec![port(0, 7)] };
    assert_eq!(ledger.apply(&unknown), Err(ApplyError::Unknown(id(7))));

    let renamed = Port { name: "eth0".to_owned(), ..port(0, 1) };
    let ports = [port(3, 33), port(1, 31), renamed.clone()];
    ledger.apply(&extend(&ports)).unwrap();
    assert_eq!(ledger.machine(id(1)).unwrap().ports, [renamed, port(1, 31), port(3, 33)]);
}

#[test]
fn a_link_has_its_addresses_for_good_and_alone() {
    let mut ledger = ledger(&[1, 2]);
    let cases = [
        (link(7, 0, 1, None), ApplyError::Unknown(id(7))),
        (link(1, 1, 1, None), ApplyError::NoPort(link(1, 1, 1, None).id)),
        (link(1, 0, 1, Some(7)), ApplyError::Unknown(id(7))),
    ];
    for (link, error) in cases {
        assert_eq!(ledger.apply(&Change::Attach(link)), Err(error));
    }
    ledger.apply(&Change::Attach(link(1, 0, 1, None))).unwrap();
    ledger.apply(&Change::Attach(link(1, 0, 1, Some(2)))).unwrap();
    let moved = link(1, 0, 2, None);
    assert_eq!(ledger.apply(&Change::Attach(moved.clone())), Err(ApplyError::LinkMoved(moved.id)));
    let taken = ApplyError::PrefixTaken { prefix: prefix(1), owner: moved.id };
    assert_eq!(ledger.apply(&Change::Attach(link(2, 0, 1, None))), Err(taken));
    assert_eq!(ledger.links().collect::<Vec<_>>(), [&link(1, 0, 1, Some(2))]);
}

#[test]
fn a_removed_machine_takes_its_links_with_it_and_is_nobodys_far_end() {
    let mut ledger = ledger(&[1, 2]);
    for link in [link(1, 0, 1, Some(2)), link(2, 0, 2, Some(1))] {
        ledger.apply(&Change::Attach(link)).unwrap();
    }
    ledger.apply(&Change::Remove(id(2))).unwrap();
    assert_eq!(ledger.machine(id(2)), None);
    assert_eq!(ledger.links().collect::<Vec<_>>(), [&link(1, 0, 1, None)]);
    assert_eq!(ledger.apply(&Change::Remove(id(2))), Err(ApplyError::Unknown(id(2))));
}

#[test]
fn finds_machines_by_name_and_address() {
    let ledger = ledger(&[1, 2]);
    assert_eq!(ledger.machine_named("node2"), Some(&machine(2)));
    assert_eq!(ledger.machine_with_mac(mac(1)), Some(&machine(1)));
    assert_eq!(ledger.machine_named("node3"), None);
    assert_eq!(ledger.machine_with_mac(mac(3)), None);
}

#[test]
fn changes_have_this_form_in_json() {
    let changes = [
        (Change::Admit(machine(1)), "admit"),
        (Change::Extend { machine: id(1), ports: vec![port(1, 7)] }, "extend"),
        (Change::Attach(link(1, 0, 1, Some(2))), "attach"),
        (Change::Remove(id(1)), "remove"),
    ];
    for (change, tag) in changes {
        let json = serde_json::to_value(&change).unwrap();
        assert!(json.get(tag).is_some(), "{json}");
        assert_eq!(serde_json::from_value::<Change>(json).unwrap(), change);
    }
    let json = serde_json::json!({ "attach": {
        "id": { "near": "00000000-0000-0000-0000-000000000001", "port": 0 },
        "prefix": "2001:db8::4/126",
        "far": { "mac": "02:00:00:00:00:65", "machine": "00000000-0000-0000-0000-000000000002" },
    }});
    assert_eq!(serde_json::to_value(Change::Attach(link(1, 0, 1, Some(2)))).unwrap(), json);
}

/// Few values of each kind, so that they clash.
fn any_change() -> impl Strategy<Value = Change> {
    let number = 1_u8..6;
    let ports = prop::collection::vec((0_u8..4, 1_u8..9).prop_map(|(index, mac)| port(index, mac)), 0..4);
    let machine = (number.clone(), number.clone(), number.clone(), number.clone(), ports.clone());
    prop_oneof![
        4 => machine.prop_map(|(one, two, three, four, ports)| Change::Admit(Machine {
            id: id(one),
            name: machine_name(two),
            block: BlockNumber(three.into()),
            router_id: u32::from(four).try_into().unwrap(),
            ports,
            role: Role::Node,
        })),
        3 => (number.clone(), ports).prop_map(|(of, ports)| Change::Extend { machine: id(of), ports }),
        3 => (number.clone(), 0_u8..4, 0_u8..6, prop::option::of(number.clone()))
            .prop_map(|(near, index, prefix, far)| Change::Attach(link(near, index, prefix, far))),
        1 => number.prop_map(|of| Change::Remove(id(of))),
    ]
}

fn machine_name(number: u8) -> NodeName {
    format!("node{number}").parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whoever sends the changes, and whatever they are.
    #[test]
    fn no_change_breaks_a_promise(changes in prop::collection::vec(any_change(), 1..40)) {
        let mut ledger = Ledger::default();
        let mut taken = Vec::new();
        for change in changes {
            let before = ledger.clone();
            match ledger.apply(&change) {
                Ok(()) => taken.push(change.clone()),
                Err(_) => prop_assert_eq!(&ledger, &before),
            }
            crate::allocate::promises::hold(&ledger);
            crate::allocate::promises::nothing_moved(&before, &ledger, &change);
        }
        let mut replayed = Ledger::default();
        for change in &taken {
            let json = serde_json::to_string(change).unwrap();
            replayed.apply(&serde_json::from_str(&json).unwrap()).unwrap();
        }
        prop_assert_eq!(&replayed, &ledger);
        let restored = Ledger::restore(ledger.machines().cloned(), ledger.links().cloned());
        prop_assert_eq!(restored, Ok(ledger));
    }
}
