use super::*;
use proptest::prelude::*;

fn plan(machines: &str) -> AddressPlan {
    AddressPlan { machines: machines.parse().unwrap(), ..AddressPlan::default() }
}

#[test]
fn the_defaults_are_kubermeshs() {
    let plan = AddressPlan::default();
    assert_eq!(plan.check(), []);
    assert_eq!(plan.anycast, "fd65:7b9c:569:680::/64".parse().unwrap());
    assert_eq!(plan.apiserver, "fd65:7b9c:569:680:98eb:c508:eb8c:1b80".parse::<Ipv6Addr>().unwrap());
    assert_eq!(plan.etcd, "fd65:7b9c:569:680:98eb:c508:ea6b:b0b2".parse::<Ipv6Addr>().unwrap());
    assert_eq!(plan.boot, "fd65:7b9c:569:680::b007".parse::<Ipv6Addr>().unwrap());
    assert_eq!(plan.machines, "2001:db8::/71".parse().unwrap());
    for (registry, address, port) in [
        ("docker.io", "fd65:7b9c:569:680:98e8:1762:7b6e:83f6", 5000),
        ("quay.io", "fd65:7b9c:569:680:98e8:1762:7abd:e0b7", 5001),
        ("gcr.io", "fd65:7b9c:569:680:98e8:1762:7b6e:61d3", 5002),
    ] {
        let mirror = plan.mirror(registry).unwrap();
        assert_eq!((mirror.address, mirror.port), (address.parse().unwrap(), port));
    }
    assert!(plan.mirror("registry.k8s.io").is_some_and(|mirror| mirror.port >= 5003));
    assert_eq!(plan.mirror("example.org"), None);
}

#[test]
fn a_48_bit_number_is_the_ethernet_address() {
    let plan = AddressPlan::default();
    let mac = Mac([0x52, 0x54, 0x00, 0x12, 0x34, 0x56]);
    assert_eq!(plan.number_bits(), 48);
    assert_eq!(plan.preferred_number(mac), BlockNumber(0x5254_0012_3456));
    let block = plan.block(BlockNumber(0x5254_0012_3456)).unwrap();
    assert_eq!(block.to_string(), "2001:db8::a4:a800:2468:ac00/119");
}

#[test]
fn a_longer_prefix_has_fewer_numbers_and_no_more() {
    let small = plan("2001:db8::/116");
    assert_eq!(small.last_number(), BlockNumber(7));
    assert_eq!(small.preferred_number(Mac([2, 0, 0, 0, 0, 0xff])), BlockNumber(7));
    assert_eq!(small.block(BlockNumber(7)).unwrap().to_string(), "2001:db8::e00/119");
    assert_eq!(small.block(BlockNumber(8)), None);
    assert_eq!(plan("2001:db8::/118").last_number(), BlockNumber(1));
}

#[test]
fn a_further_mirror_fits_into_the_plan() {
    let mut plan = AddressPlan::default();
    for registry in ["example.org", "registry.example.com"] {
        plan.mirrors.push(plan.further_mirror(registry));
    }
    assert_eq!(plan.check(), []);
}

#[test]
fn every_mistake_is_found_at_once() {
    let mut plan = AddressPlan {
        anycast: "fd00::1/60".parse().unwrap(),
        machines: "2001:db8::/119".parse().unwrap(),
        services: "2001:db8::/100".parse().unwrap(),
        apiserver: "2001:db8:1::1".parse().unwrap(),
        etcd: "2001:db8:1::1".parse().unwrap(),
        boot: "fd00::b007".parse().unwrap(),
        mirrors: Vec::new(),
    };
    for _ in 0..2 {
        plan.mirrors.push(Mirror {
            registry: "docker.io".to_owned(),
            address: "fd00::b007".parse().unwrap(),
            port: 5000,
        });
    }
    let anycast = plan.anycast;
    let outside =
        |name: &str| PlanError::OutsideAnycast { name: name.to_owned(), address: plan.etcd, anycast };
    let same = |first: &str, second: &str, address| PlanError::SameAddress {
        first: first.to_owned(),
        second: second.to_owned(),
        address,
    };
    let expected = [
        PlanError::HostBits { name: "anycast", net: anycast },
        PlanError::PrefixLength { name: "anycast", net: anycast, least: 64, most: 64 },
        PlanError::PrefixLength { name: "machines", net: plan.machines, least: 48, most: 118 },
        PlanError::PrefixLength { name: "services", net: plan.services, least: 108, most: 120 },
        PlanError::Overlap {
            first: "machines",
            first_net: plan.machines,
            second: "services",
            second_net: plan.services,
        },
        outside("apiserver"),
        outside("etcd"),
        same("apiserver", "etcd", plan.etcd),
        same("boot", "mirror docker.io", plan.boot),
        same("boot", "mirror docker.io", plan.boot),
        PlanError::SameMirror { what: "port", value: "5000".to_owned() },
        PlanError::SameMirror { what: "registry", value: "docker.io".to_owned() },
    ];
    assert_eq!(plan.check(), expected);
}

#[test]
fn prefixes_must_be_unicast_and_apart() {
    for machines in ["ff00::/71", "::/71", "fe80::/71"] {
        let errors = plan(machines).check();
        assert!(matches!(errors.as_slice(), [PlanError::NotUnicast { name: "machines", .. }]), "{errors:?}");
    }
    // The first lies in the anycast /64, the second around it.
    for machines in ["fd65:7b9c:569:680::/71", "fd65:7b9c:569::/48"] {
        let errors = plan(machines).check();
        assert!(
            errors.iter().any(|error| matches!(
                error,
                PlanError::Overlap { first: "anycast", second: "machines", .. }
            )),
            "{errors:?}"
        );
    }
}

#[test]
fn settings_may_name_a_part_and_no_unknown_key() {
    let plan: AddressPlan = serde_json::from_str(r#"{"machines": "2001:db8:5::/71"}"#).unwrap();
    assert_eq!(plan.machines, "2001:db8:5::/71".parse().unwrap());
    assert_eq!(plan.anycast, AddressPlan::default().anycast);
    assert!(serde_json::from_str::<AddressPlan>(r#"{"machine": "2001:db8:5::/71"}"#).is_err());
}

/// One mistake each, and how to see that it was found; none hides another.
type Mistake = (fn(&mut AddressPlan), fn(&PlanError) -> bool);

const MISTAKES: [Mistake; 8] = [
    (
        |plan| plan.apiserver = Ipv6Addr::LOCALHOST,
        |error| matches!(error, PlanError::OutsideAnycast { name, .. } if name == "apiserver"),
    ),
    (
        |plan| plan.etcd = plan.boot,
        |error| matches!(error, PlanError::SameAddress { first, second, .. } if first == "etcd" && second == "boot"),
    ),
    (
        |plan| plan.machines = Ipv6Net::new(plan.machines.network(), 47).unwrap(),
        |error| matches!(error, PlanError::PrefixLength { name: "machines", .. }),
    ),
    (
        |plan| plan.services = Ipv6Net::new(plan.services.network(), 107).unwrap(),
        |error| matches!(error, PlanError::PrefixLength { name: "services", .. }),
    ),
    (
        |plan| plan.anycast = Ipv6Net::new(plan.boot, 64).unwrap(),
        |error| matches!(error, PlanError::HostBits { name: "anycast", .. }),
    ),
    (
        |plan| plan.mirrors[1].port = plan.mirrors[0].port,
        |error| matches!(error, PlanError::SameMirror { what: "port", .. }),
    ),
    (
        |plan| plan.mirrors[3].registry = plan.mirrors[2].registry.clone(),
        |error| matches!(error, PlanError::SameMirror { what: "registry", .. }),
    ),
    (
        |plan| plan.mirrors[4].address = plan.mirrors[5].address,
        |error| matches!(error, PlanError::SameAddress { first, .. } if first.starts_with("mirror ")),
    ),
];

proptest! {
    #[test]
    fn no_mistake_hides_another(made: [bool; MISTAKES.len()]) {
        let mut plan = AddressPlan::default();
        for ((make, _), _) in MISTAKES.iter().zip(made).filter(|(_, made)| *made) {
            make(&mut plan);
        }
        let errors = plan.check();
        for (at, ((_, is_it), made)) in MISTAKES.iter().zip(made).enumerate() {
            prop_assert_eq!(errors.iter().any(is_it), made, "mistake {} in {:?}", at, errors);
        }
    }

    #[test]
    fn blocks_are_inside_the_plan_and_apart(len in 48_u8..=118, bits: u128, a: u64, b: u64) {
        let machines = Ipv6Net::new(Ipv6Addr::from_bits(bits), len).unwrap().trunc();
        let plan = AddressPlan { machines, ..AddressPlan::default() };
        let last = plan.last_number();
        prop_assert_eq!(last.0.count_ones(), u32::from(119 - len).min(48));
        prop_assert_eq!(plan.block(BlockNumber(last.0 + 1)), None);
        let (a, b) = (BlockNumber(a & last.0), BlockNumber(b & last.0));
        for number in [a, b, last, BlockNumber(0)] {
            let block = plan.block(number).unwrap();
            prop_assert!(machines.contains(&block.net()));
            prop_assert!(machines.contains(&block.pods()));
        }
        prop_assert_eq!(plan.block(a) == plan.block(b), a == b);
    }

    #[test]
    fn a_preferred_number_is_one_of_the_plan(len in 48_u8..=118, octets: [u8; 6]) {
        let machines = Ipv6Net::new("2001:db8::".parse().unwrap(), len).unwrap();
        let plan = AddressPlan { machines, ..AddressPlan::default() };
        prop_assert!(plan.block(plan.preferred_number(Mac(octets))).is_some());
    }

    #[test]
    fn other_prefixes_make_a_good_plan(anycast: u64, machines: u64) {
        // Any two /48 of unicast space that are apart.
        let anycast = u128::from(anycast >> 16 & 0x00ff_ffff_ffff | 0xfd00_0000_0000) << 80;
        let machines = u128::from(machines >> 16 & 0x0fff_ffff_ffff | 0x2000_0000_0000) << 80;
        let net = |bits, len| Ipv6Net::new(Ipv6Addr::from_bits(bits), len).unwrap();
        let plan = AddressPlan::in_prefixes(net(anycast, 64), net(machines, 71));
        prop_assert_eq!(plan.check(), []);
        let json = serde_json::to_string(&plan).unwrap();
        prop_assert_eq!(serde_json::from_str::<AddressPlan>(&json).unwrap(), plan);
    }
}
