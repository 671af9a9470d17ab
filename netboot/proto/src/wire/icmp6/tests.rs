use proptest::prelude::*;

use super::*;

fn some_host() -> Ipv6Addr {
    "fe80::1".parse().unwrap()
}

#[test]
fn an_advertisement_has_the_formats_of_the_rfcs() {
    let advertisement = RouterAdvertisement {
        cur_hop_limit: 64,
        managed: true,
        other: true,
        preference: RouterPreference::High,
        router_lifetime: 1800,
        source_mac: Some(Mac([2, 0, 0x5e, 0x10, 0, 1])),
        mtu: Some(1500),
        prefix: Some(PrefixInformation {
            net: "2001:db8::10/126".parse().unwrap(),
            on_link: true,
            autonomous: false,
            valid: 7200,
            preferred: 3600,
        }),
        dns: vec!["2001:db8::53".parse().unwrap()],
        search: vec!["mesh.example".parse().unwrap()],
        dns_lifetime: 3600,
    };
    let bytes = advertisement.emit();
    assert_eq!(bytes[..8], [134, 0, 0, 0, 64, 0b1100_1000, 0x07, 0x08]);
    assert_eq!(bytes[8..16], [0; 8]);
    assert_eq!(bytes[16..24], [1, 1, 2, 0, 0x5e, 0x10, 0, 1]);
    assert_eq!(bytes[24..32], [5, 1, 0, 0, 0, 0, 0x05, 0xdc]);
    assert_eq!(bytes[32..48], [3, 4, 126, 0b1000_0000, 0, 0, 0x1c, 0x20, 0, 0, 0x0e, 0x10, 0, 0, 0, 0]);
    assert_eq!(bytes[48..64], "2001:db8::10".parse::<Ipv6Addr>().unwrap().octets());
    assert_eq!(bytes[64..72], [25, 3, 0, 0, 0, 0, 0x0e, 0x10]);
    assert_eq!(bytes[72..88], "2001:db8::53".parse::<Ipv6Addr>().unwrap().octets());
    // Domains are filled up to whole units.
    assert_eq!(bytes[88..96], [31, 3, 0, 0, 0, 0, 0x0e, 0x10]);
    assert_eq!(bytes[96..], *b"\x04mesh\x07example\0\0\0");

    let bare = RouterAdvertisement { dns: vec![], search: vec![], mtu: None, ..advertisement.clone() };
    assert_eq!(bare.emit().len(), 16 + 8 + 32);
    let last = RouterAdvertisement { router_lifetime: 0, ..advertisement };
    assert_eq!(last.emit()[5], 0b1100_0000, "a router that is none has no preference");
}

#[test]
fn solicitations_are_judged() {
    let bare = [133, 0, 0, 0, 0, 0, 0, 0];
    let with_mac = [&bare[..], &[1, 1, 2, 0, 0, 0, 0, 9]].concat();
    assert_eq!(
        RouterSolicitation::parse(Ipv6Addr::UNSPECIFIED, &bare),
        Some(RouterSolicitation { source_mac: None })
    );
    let mac = Some(Mac([2, 0, 0, 0, 0, 9]));
    assert_eq!(
        RouterSolicitation::parse(some_host(), &with_mac),
        Some(RouterSolicitation { source_mac: mac })
    );
    // What is reserved, and options that are not known, are passed over.
    let strange = [&[133, 0, 0, 0, 9, 9, 9, 9][..], &[200, 1, 1, 2, 3, 4, 5, 6]].concat();
    assert!(RouterSolicitation::parse(Ipv6Addr::UNSPECIFIED, &strange).is_some());
    let bad: [Vec<u8>; 5] = [
        bare[..7].to_vec(),
        [133, 1, 0, 0, 0, 0, 0, 0].to_vec(),
        [134, 0, 0, 0, 0, 0, 0, 0].to_vec(),
        [&bare[..], &[1, 0, 2, 0, 0, 0, 0, 9]].concat(),
        [&bare[..], &[1, 2, 2, 0, 0, 0, 0, 9]].concat(),
    ];
    for bytes in bad {
        assert_eq!(RouterSolicitation::parse(some_host(), &bytes), None, "{bytes:?}");
    }
    assert_eq!(RouterSolicitation::parse(Ipv6Addr::UNSPECIFIED, &with_mac), None);
}

proptest! {
    #[test]
    fn octets_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = RouterSolicitation::parse(some_host(), &bytes);
        let solicitation = [&[133, 0, 0, 0, 0, 0, 0, 0][..], &bytes].concat();
        let _ = RouterSolicitation::parse(some_host(), &solicitation);
    }
}
