use ignition::NodeSpec;
use mesh::{Change, Claim, Role, allocate};

use super::*;
use crate::gateway::settings::Artefact;
use crate::store::crds::{ReservationSpec, Which};

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

/// Images whose root has this digit.
fn boot(digit: char) -> BootArtefacts {
    let file = |digit: char| Artefact { sha256: digit.to_string().repeat(64), size: 1 };
    BootArtefacts { uki: [("x64".to_owned(), file(digit))].into(), root: file(digit), layer: file('f') }
}

fn reserved(boot: Option<BootArtefacts>) -> Reservation {
    let image = boot.as_ref().map(|_| "0123456789abcdef".parse().unwrap());
    Reservation { name: "a".parse().unwrap(), spec: NodeSpec { image, ..NodeSpec::default() }, boot }
}

fn later(which: Which, boot: Option<BootArtefacts>) -> Arc<ReservationObject> {
    Arc::new(ReservationObject::new("a", ReservationSpec::new(which, &reserved(boot))))
}

/// A machine that was here with these ports.
fn known(uuid: Uuid, ports: [u8; 2]) -> Ledger {
    let claim = Claim {
        uuid: Some(uuid),
        boot_mac: mac(ports[0]),
        ports: ports.map(|last| (mac(last), format!("enp{last}s0"))).into(),
        role: Role::Node,
        preferred_name: None,
    };
    let mut ledger = Ledger::default();
    let admission = allocate::admit(&ledger, &mesh::AddressPlan::default(), &claim).unwrap();
    ledger.apply(&Change::Admit(admission.machine)).unwrap();
    ledger
}

/// One that says this of itself.
fn client(last: u8, uuid: Option<[u8; 16]>) -> Client {
    Client { mac: Some(mac(last)), uuid }
}

#[test]
fn a_machine_is_known_by_its_uuid_in_either_order() {
    let uuid = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
    let first = BTreeMap::from([(uuid, reserved(Some(boot('a'))))]);
    let ledger = Ledger::default();
    for octets in [*uuid.as_bytes(), uuid.to_bytes_le()] {
        assert_eq!(of(&first, &[], &ledger, &client(1, Some(octets))), Some(boot('a')));
    }
    assert_eq!(of(&first, &[], &ledger, &client(1, Some([7; 16]))), None);
    assert_eq!(of(&first, &[], &ledger, &client(1, None)), None);
    // What was said last holds, also if it is that the machine boots what all do.
    let others = later(Which::Uuid(uuid), Some(boot('b')));
    assert_eq!(of(&first, &[others], &ledger, &client(1, Some(*uuid.as_bytes()))), Some(boot('b')));
    let none = later(Which::Uuid(uuid), None);
    assert_eq!(of(&first, &[none], &ledger, &client(1, Some(*uuid.as_bytes()))), None);
}

#[test]
fn one_that_was_here_is_known_by_any_port() {
    let uuid = Uuid::from_u128(9);
    let ledger = known(uuid, [1, 2]);
    let first = BTreeMap::from([(uuid, reserved(Some(boot('a'))))]);
    // iPXE and operating systems have DUIDs of their own.
    assert_eq!(of(&first, &[], &ledger, &client(2, None)), Some(boot('a')));
    assert_eq!(of(&first, &[], &ledger, &client(3, None)), None);
    let by_port = [later(Which::Mac(mac(1)), Some(boot('b')))];
    assert_eq!(of(&BTreeMap::new(), &by_port, &ledger, &client(2, None)), Some(boot('b')));
    assert_eq!(of(&BTreeMap::new(), &by_port, &Ledger::default(), &client(2, None)), None);
    assert_eq!(of(&BTreeMap::new(), &by_port, &Ledger::default(), &client(1, None)), Some(boot('b')));
}

#[test]
fn nobody_is_known_by_a_uuid_that_boards_share() {
    let first = BTreeMap::from([(Uuid::max(), reserved(Some(boot('a'))))]);
    let by_uuid = [later(Which::Uuid(Uuid::max()), Some(boot('b')))];
    for later in [&by_uuid[..], &[]] {
        assert_eq!(of(&first, later, &Ledger::default(), &client(1, Some([0xff; 16]))), None);
    }
}
