use super::*;
use proptest::prelude::*;

fn machine() -> Machine {
    Machine {
        id: MachineId::from_mac(Mac([2, 0, 0, 0, 0, 1])),
        name: "seed1".parse().unwrap(),
        role: Role::Seed,
        block: BlockNumber(0x0200_0000_0001),
        router_id: 1.try_into().unwrap(),
        ports: vec![Port {
            index: 0.try_into().unwrap(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            name: "enp1s0".to_owned(),
        }],
    }
}

#[test]
fn node_names_are_labels() {
    let longest = "a".repeat(63);
    for text in ["a", "0", "node1", "a-b", "a--b", &longest] {
        assert_eq!(text.parse::<NodeName>().unwrap().as_str(), text);
    }
    let too_long = "a".repeat(64);
    for text in ["", "-", "-a", "a-", "A", "a.b", "a_b", "a b", "nöde", "a\n", &too_long] {
        assert_eq!(text.parse::<NodeName>(), Err(NodeNameError(text.to_owned())));
        assert!(serde_json::from_value::<NodeName>(text.into()).is_err(), "{text}");
    }
}

#[test]
fn router_ids_have_private_system_numbers_at_both_ends() {
    let first = RouterId::try_from(1).unwrap();
    let last = RouterId::try_from(RouterId::MAX).unwrap();
    assert_eq!(first.asn(), 4_200_000_001);
    assert_eq!(last.asn(), 4_294_967_294);
    assert_eq!(RouterId::try_from(0), Err(RouterIdError(0)));
    assert_eq!(RouterId::try_from(RouterId::MAX + 1), Err(RouterIdError(RouterId::MAX + 1)));
    assert!(serde_json::from_str::<RouterId>("0").is_err());
    assert_eq!(RouterId::try_from(258).unwrap().to_string(), "0.0.1.2");
}

#[test]
fn knows_the_identities_that_boards_share() {
    for uuid in [
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "03000200-0400-0500-0006-000700080009",
    ] {
        assert!(MachineId(uuid.parse().unwrap()).is_shared(), "{uuid}");
    }
    assert!(!machine().id.is_shared());
}

#[test]
fn tells_its_own_identities_from_a_firmwares() {
    let uuid = "4c4c4544-0042-3010-8048-b9c04f4d4d32".parse().unwrap();
    assert!(!MachineId(uuid).is_from_mac());
    assert_eq!(machine().id.0.get_version_num(), 8);
}

#[test]
fn has_this_form_in_json() {
    let json = serde_json::json!({
        "id": "6d657368-0000-8000-8000-020000000001",
        "name": "seed1",
        "role": "seed",
        "block": 2_199_023_255_553_u64,
        "router_id": 1,
        "ports": [{ "index": 0, "mac": "02:00:00:00:00:01", "name": "enp1s0" }],
    });
    assert_eq!(serde_json::to_value(machine()).unwrap(), json);
    assert_eq!(serde_json::from_value::<Machine>(json).unwrap(), machine());
}

proptest! {
    #[test]
    fn an_identity_from_a_mac_is_that_macs_alone(a: [u8; 6], b: [u8; 6]) {
        prop_assert_eq!(MachineId::from_mac(Mac(a)) == MachineId::from_mac(Mac(b)), a == b);
        prop_assert!(MachineId::from_mac(Mac(a)).is_from_mac());
        prop_assert!(!MachineId::from_mac(Mac(a)).is_shared());
    }

    #[test]
    fn a_name_is_read_as_it_is_or_refused(text in "[-a-zA-Z0-9._]{0,66}") {
        match text.parse::<NodeName>() {
            Ok(name) => prop_assert_eq!(name.to_string(), text),
            Err(NodeNameError(refused)) => prop_assert_eq!(refused, text),
        }
    }
}
