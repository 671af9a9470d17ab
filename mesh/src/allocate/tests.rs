use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::Store as _;
use crate::store::{MemoryStore, Revision};

fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, number])
}

fn claim(macs: &[u8]) -> Claim {
    Claim {
        uuid: None,
        boot_mac: mac(macs[0]),
        ports: macs.iter().map(|number| (mac(*number), format!("enp{number}s0"))).collect(),
        role: Role::Node,
        preferred_name: None,
    }
}

fn plan(machines: &str) -> AddressPlan {
    AddressPlan { machines: machines.parse().unwrap(), ..AddressPlan::default() }
}

/// Admits as a store would, and checks every promise on the way.
fn take(ledger: &mut Ledger, plan: &AddressPlan, claim: &Claim) -> Machine {
    let admission = admit(ledger, plan, claim).unwrap();
    if let Some(change) = &admission.change {
        let before = ledger.clone();
        ledger.apply(change).unwrap();
        promises::nothing_moved(&before, ledger, change);
    }
    promises::hold_in(ledger, plan);
    assert_eq!(ledger.machine(admission.machine.id), Some(&admission.machine));
    let again = admit(ledger, plan, claim).unwrap();
    assert_eq!((again.change, &again.machine), (None, &admission.machine));
    admission.machine
}

#[test]
fn a_new_machine_gets_what_its_boot_port_says() {
    let (mut ledger, plan) = (Ledger::default(), AddressPlan::default());
    let uuid: Uuid = "4c4c4544-0042-3010-8048-b9c04f4d4d32".parse().unwrap();
    let machine = take(&mut ledger, &plan, &Claim { uuid: Some(uuid), ..claim(&[5, 1, 9]) });
    assert_eq!(machine.id, MachineId(uuid));
    assert_eq!(machine.block, BlockNumber(0x0200_0000_0005));
    assert_eq!(machine.name.as_str(), "node1");
    assert_eq!(machine.router_id.get(), 1);
    let ports: Vec<_> = machine.ports.iter().map(|port| (port.index.get(), port.mac)).collect();
    assert_eq!(ports, [(0, mac(5)), (1, mac(1)), (2, mac(9))]);
}

#[test]
fn a_machine_is_known_by_any_port_and_keeps_all_it_has() {
    let (mut ledger, plan) = (Ledger::default(), AddressPlan::default());
    let first = take(&mut ledger, &plan, &claim(&[1, 2]));
    let seed = Claim { role: Role::Seed, preferred_name: "other".parse().ok(), ..claim(&[2, 3]) };
    let again = take(&mut ledger, &plan, &seed);
    assert_eq!(
        (again.id, again.block, &again.name, again.role),
        (first.id, first.block, &first.name, Role::Node)
    );
    assert_eq!(again.ports.len(), 3);
    assert_eq!(again.port(mac(3)).map(|port| port.index.get()), Some(2));
}

#[test]
fn a_ports_new_name_is_kept_and_a_missing_one_changes_nothing() {
    let (mut ledger, plan) = (Ledger::default(), AddressPlan::default());
    take(&mut ledger, &plan, &claim(&[1]));
    let nameless = Claim { ports: Vec::new(), ..claim(&[1]) };
    assert_eq!(admit(&ledger, &plan, &nameless).unwrap().change, None);
    let renamed = Claim { ports: vec![(mac(1), "eth0".to_owned())], ..claim(&[1]) };
    let machine = take(&mut ledger, &plan, &renamed);
    assert_eq!(machine.ports[0].name, "eth0");
}

#[test]
fn boards_with_one_uuid_are_two_machines() {
    let (mut ledger, plan) = (Ledger::default(), AddressPlan::default());
    let uuid = Some("4c4c4544-0042-3010-8048-b9c04f4d4d32".parse().unwrap());
    let first = take(&mut ledger, &plan, &Claim { uuid, ..claim(&[1]) });
    let second = take(&mut ledger, &plan, &Claim { uuid, ..claim(&[2]) });
    assert_eq!(second.id, MachineId::from_mac(mac(2)));
    assert_ne!((first.block, &first.name), (second.block, &second.name));
    let nil = take(&mut ledger, &plan, &Claim { uuid: Some(Uuid::nil()), ..claim(&[3]) });
    assert_eq!(nil.id, MachineId::from_mac(mac(3)));
}

#[test]
fn a_firmware_cannot_take_the_identity_that_another_port_will_make() {
    let (mut ledger, plan) = (Ledger::default(), AddressPlan::default());
    let uuid = Some(MachineId::from_mac(mac(2)).0);
    assert_eq!(take(&mut ledger, &plan, &Claim { uuid, ..claim(&[1]) }).id, MachineId::from_mac(mac(1)));
    assert_eq!(take(&mut ledger, &plan, &claim(&[2])).id, MachineId::from_mac(mac(2)));
}

#[test]
fn ports_of_two_machines_are_no_machine() {
    let (mut ledger, plan) = (Ledger::default(), AddressPlan::default());
    let first = take(&mut ledger, &plan, &claim(&[1])).id;
    let second = take(&mut ledger, &plan, &claim(&[2])).id;
    assert_eq!(admit(&ledger, &plan, &claim(&[1, 2])), Err(AdmitError::TwoMachines { first, second }));
    assert_eq!(
        admit(&ledger, &plan, &claim(&[3, 2, 1])),
        Err(AdmitError::TwoMachines { first: second, second: first })
    );
}

#[test]
fn a_group_address_is_no_station() {
    let (ledger, plan) = (Ledger::default(), AddressPlan::default());
    let group = Mac([0x33, 0x33, 0, 0, 0, 1]);
    let asked = Claim { boot_mac: group, ..claim(&[1]) };
    assert_eq!(admit(&ledger, &plan, &asked), Err(AdmitError::NotAStation(group)));
    let mut listed = claim(&[1]);
    listed.ports.push((group, "bond0".to_owned()));
    assert_eq!(admit(&ledger, &plan, &listed).unwrap().machine.ports.len(), 1);
}

#[test]
fn names_are_kept_or_the_next_number() {
    let (mut ledger, plan) = (Ledger::default(), AddressPlan::default());
    let named = |macs: &[u8], name: &str| Claim { preferred_name: name.parse().ok(), ..claim(macs) };
    assert_eq!(take(&mut ledger, &plan, &named(&[1], "node2")).name.as_str(), "node2");
    assert_eq!(take(&mut ledger, &plan, &named(&[2], "node2")).name.as_str(), "node1");
    assert_eq!(take(&mut ledger, &plan, &claim(&[3])).name.as_str(), "node3");
    let seed = Claim { role: Role::Seed, ..claim(&[4]) };
    assert_eq!(take(&mut ledger, &plan, &seed).name.as_str(), "seed1");
}

#[test]
fn a_full_plan_says_so_and_takes_again_after_a_removal() {
    let (mut ledger, plan) = (Ledger::default(), plan("2001:db8::/117"));
    let ids: Vec<_> = (1..=4).map(|number| take(&mut ledger, &plan, &claim(&[number])).id).collect();
    let error = admit(&ledger, &plan, &claim(&[5])).unwrap_err();
    assert_eq!(error, AdmitError::NoBlock { last: BlockNumber(3) });
    assert!(error.to_string().starts_with("all 4 blocks"), "{error}");
    ledger.apply(&Change::Remove(ids[2])).unwrap();
    take(&mut ledger, &plan, &claim(&[5]));
}

#[test]
fn a_machine_has_60_ports_at_most() {
    let (mut ledger, plan) = (Ledger::default(), AddressPlan::default());
    let all: Vec<u8> = (1..=61).collect();
    let id = MachineId::from_mac(mac(1));
    assert_eq!(admit(&ledger, &plan, &claim(&all)), Err(AdmitError::TooManyPorts { machine: id }));
    assert_eq!(take(&mut ledger, &plan, &claim(&all[..60])).ports.len(), 60);
    assert_eq!(admit(&ledger, &plan, &claim(&[60, 61])), Err(AdmitError::TooManyPorts { machine: id }));
}

#[test]
fn a_link_keeps_the_name_of_its_far_end_while_the_port_is_the_same() {
    let (mut ledger, plan) = (Ledger::default(), AddressPlan::default());
    let near = take(&mut ledger, &plan, &claim(&[1, 2])).id;
    let far = take(&mut ledger, &plan, &claim(&[3, 4])).id;
    let id = LinkId { near, port: 1.try_into().unwrap() };
    let mut seen = |number, machine| {
        let change = attach(&ledger, &plan, id, Far { mac: mac(number), machine }).unwrap();
        if let Some(change) = &change {
            ledger.apply(change).unwrap();
        }
        promises::hold_in(&ledger, &plan);
        (change.is_some(), ledger.link(id).unwrap().far.machine)
    };
    assert_eq!(seen(3, None), (true, None));
    assert_eq!(seen(3, Some(far)), (true, Some(far)));
    // It boots again, and its firmware says nothing of who it is.
    assert_eq!(seen(3, None), (false, Some(far)));
    // Another machine was plugged in.
    assert_eq!(seen(9, None), (true, None));
}

#[test]
fn a_near_end_without_a_block_serves_nobody() {
    let (mut ledger, plan) = (Ledger::default(), AddressPlan::default());
    let near = take(&mut ledger, &plan, &claim(&[1])).id;
    let id = LinkId { near, port: 0.try_into().unwrap() };
    let far = Far { mac: mac(2), machine: None };
    let (number, last) = (BlockNumber(0x0200_0000_0001), BlockNumber(1));
    assert_eq!(
        attach(&ledger, &self::plan("2001:db8::/118"), id, far),
        Err(AttachError::OutsidePlan { machine: near, number, last })
    );
    ledger.apply(&Change::Remove(near)).unwrap();
    assert_eq!(attach(&ledger, &plan, id, far), Err(AttachError::Unknown(near)));
}

/// What may come over the wires of a site whose firmware cannot be trusted.
#[derive(Debug, Clone)]
enum Event {
    Claim(Claim),
    Attach { near: Index, port: u8, mac: u8, far: Option<Index> },
    Remove(Index),
}

/// Few Ethernet addresses, some of them no station's, and few UUIDs, some of them shared: so they clash.
fn any_claim() -> impl Strategy<Value = Claim> {
    let mac = prop_oneof![
        20 => (0_u8..40).prop_map(mac),
        1 => Just(Mac([0; 6])),
        1 => Just(Mac([0x33, 0x33, 0, 0, 0, 1])),
    ];
    let uuid = prop_oneof![
        3 => Just(None),
        3 => (1_u128..6).prop_map(|number| Some(Uuid::from_u128(number))),
        1 => Just(Some(Uuid::max())),
        1 => (0_u8..40).prop_map(|number| Some(MachineId::from_mac(self::mac(number)).0)),
    ];
    let ports = prop::collection::vec((mac.clone(), "(|eth[0-3])"), 0..4);
    let name = prop::option::of((1_u8..5).prop_map(|number| format!("node{number}").parse().unwrap()));
    (uuid, mac, ports, prop::bool::weighted(0.1), name).prop_map(
        |(uuid, boot_mac, ports, seed, preferred_name)| Claim {
            uuid,
            boot_mac,
            ports,
            role: if seed { Role::Seed } else { Role::Node },
            preferred_name,
        },
    )
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => any_claim().prop_map(Event::Claim),
        4 => (any::<Index>(), 0_u8..6, 0_u8..40, prop::option::of(any::<Index>()))
            .prop_map(|(near, port, mac, far)| Event::Attach { near, port, mac, far }),
        1 => any::<Index>().prop_map(Event::Remove),
    ]
}

fn any_plan() -> impl Strategy<Value = AddressPlan> {
    prop_oneof![2 => Just(71_u8), 1 => 48_u8..=118, 2 => 115_u8..=118].prop_map(|len| {
        let machines = ipnet::Ipv6Net::new("2001:db8::".parse().unwrap(), len).unwrap();
        AddressPlan { machines, ..AddressPlan::default() }
    })
}

fn pick(ledger: &Ledger, index: Index) -> Option<MachineId> {
    let ids: Vec<_> = ledger.machines().map(|machine| machine.id).collect();
    (!ids.is_empty()).then(|| *index.get(&ids))
}

/// What the event leads to; none if nothing has to be written.
fn decide(ledger: &Ledger, plan: &AddressPlan, event: &Event) -> Option<Change> {
    match event {
        Event::Claim(claim) => match admit(ledger, plan, claim) {
            Ok(admission) => {
                let machine = &admission.machine;
                assert!(machine.port(claim.boot_mac).is_some());
                admission.change
            }
            Err(AdmitError::NoBlock { last }) => {
                assert_eq!(ledger.machines().count() as u64, last.0 + 1);
                None
            }
            Err(AdmitError::NotAStation(mac)) => {
                assert!(!mac.is_unicast());
                None
            }
            Err(AdmitError::TwoMachines { first, second }) => {
                assert_ne!(first, second);
                None
            }
            Err(error @ (AdmitError::TooManyPorts { .. } | AdmitError::NoRouterId)) => {
                panic!("there are too few ports and machines for: {error}")
            }
        },
        Event::Attach { near, port, mac: number, far } => {
            let near = ledger.machine(pick(ledger, *near)?)?;
            let port = near.ports.get(usize::from(*port))?.index;
            let machine = far.and_then(|far| pick(ledger, far));
            attach(ledger, plan, LinkId { near: near.id, port }, Far { mac: mac(*number), machine }).unwrap()
        }
        Event::Remove(index) => pick(ledger, *index).map(Change::Remove),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_comes_nothing_is_given_twice_and_nothing_moves(
        plan in any_plan(),
        events in prop::collection::vec(any_event(), 1..80),
    ) {
        let store = MemoryStore::default();
        let mut log = Vec::new();
        for event in &events {
            let (before, revision) = store.load().unwrap();
            let Some(change) = decide(&before, &plan, event) else { continue };
            // What the allocator decides, the ledger takes.
            prop_assert_eq!(store.append(revision, &change).unwrap(), Revision(revision.0 + 1));
            let (after, _) = store.load().unwrap();
            promises::hold_in(&after, &plan);
            promises::nothing_moved(&before, &after, &change);
            // Decided once, it need not be decided again.
            if !matches!(event, Event::Remove(_) | Event::Attach { .. }) {
                prop_assert_eq!(decide(&after, &plan, event), None);
            }
            log.push(change);
        }
        let (ledger, revision) = store.load().unwrap();
        prop_assert_eq!(revision, Revision(log.len() as u64));
        let mut replayed = Ledger::default();
        for change in &log {
            replayed.apply(change).unwrap();
        }
        prop_assert_eq!(replayed, ledger);
    }

    #[test]
    fn a_lost_ledger_gives_every_machine_its_block_again(
        numbers in prop::collection::btree_set(any::<[u8; 5]>(), 1..12).prop_map(Vec::from_iter),
        order in Just((0..12_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let plan = AddressPlan::default();
        let claims: Vec<_> = numbers
            .iter()
            .map(|[a, b, c, d, e]| Mac([2, *a, *b, *c, *d, *e]))
            .map(|boot_mac| Claim { boot_mac, ports: Vec::new(), ..claim(&[1]) })
            .collect();
        let blocks = |order: &mut dyn Iterator<Item = &Claim>| {
            let mut ledger = Ledger::default();
            let mut blocks: Vec<_> =
                order.map(|claim| (claim.boot_mac, take(&mut ledger, &plan, claim).block)).collect();
            blocks.sort();
            blocks
        };
        let first = blocks(&mut claims.iter());
        let second = blocks(&mut order.iter().filter_map(|at| claims.get(*at)));
        prop_assert_eq!(first, second);
    }
}
