use mesh::{LinkPrefix, MachineId};
use proptest::prelude::*;

use super::*;
use crate::services::DomainName;
use crate::wire::dhcp6::{Answer, AnswerKind, AssociationKind, Granted, Lifetimes};
use crate::wire::heard::{information_request, router_solicitation};
use crate::wire::icmp6::{PrefixInformation, RouterAdvertisement, RouterPreference};
use crate::wire::tftp::{ErrorCode, error, oack};
use crate::wire::walk::tests::edk2_solicit;

fn value(said: &Description, code: u16) -> &str {
    &said.option(code).unwrap_or_else(|| panic!("no option {code} in {said}")).value
}

#[test]
fn our_answer_is_told_option_by_option() {
    let prefix = LinkPrefix::new("2001:db8::10/126".parse().unwrap()).unwrap();
    let mut answer = Answer::new(AnswerKind::Advertise, [1, 2, 3]);
    answer.client_id(&[0, 3, 0, 1, 2, 0, 0, 0, 0, 2]);
    let machine = MachineId::from_mac(Mac([2, 0, 0, 0, 0, 1]));
    answer.server_id(crate::dhcp6::ServerId::of_machine(machine).as_bytes());
    answer.preference(255);
    answer.servers(23, &["2001:db8::53".parse().unwrap()]);
    answer.search(&["mesh.example".parse::<DomainName>().unwrap(), "a.b".parse().unwrap()]);
    answer.ntp_server("2001:db8::123".parse().unwrap());
    answer.bootfile_url("tftp://[2001:db8::11]/node.efi");
    answer.architecture(7);
    answer.vendor_class(343, b"HTTPClient");
    answer.seconds(82, 60);
    answer.associations(&[Granted {
        kind: AssociationKind::Addresses,
        iaid: 0x0a0b_0c0d,
        addresses: vec![(prefix.far(), Lifetimes { preferred: 3600, valid: u32::MAX })],
        status: None,
    }]);
    let said = dhcp6(&answer.emit());
    assert_eq!(said.name, "DHCPv6 Advertise");
    assert_eq!(value(&said, 1), "DUID-LL, Ethernet, 02:00:00:00:00:02");
    assert_eq!(value(&said, 2), format!("DUID-UUID, {machine}"));
    assert_eq!(value(&said, 3), "IAID 0x0a0b0c0d, T1 1800 s, T2 2880 s");
    assert_eq!(value(&said, 5), "2001:db8::12, preferred 3600 s, valid infinity");
    assert_eq!(value(&said, 7), "255");
    assert_eq!(value(&said, 16), "enterprise 343 (Intel): HTTPClient");
    assert_eq!(value(&said, 23), "2001:db8::53");
    assert_eq!(value(&said, 24), "mesh.example, a.b");
    assert_eq!(value(&said, 59), "tftp://[2001:db8::11]/node.efi");
    assert_eq!(value(&said, 61), "7 (x64 UEFI)");
    assert_eq!(value(&said, 82), "60 s");
    let ntp = &said.option(56).unwrap().fields[0];
    assert_eq!((&*ntp.name, &*ntp.value), ("NTP_SUBOPTION_SRV_ADDR", "2001:db8::123"));
    let text = said.to_string();
    assert!(text.contains("\n  3 OPTION_IA_NA: IAID 0x0a0b0c0d"), "{text}");
    assert!(text.contains("\n    5 OPTION_IAADDR: 2001:db8::12"), "{text}");
}

#[test]
fn a_suboption_that_comes_twice_is_told_twice() {
    let body = [0, 3, 0, 3, 1, b'a', 0, 0, 3, 0, 3, 1, b'b', 0, 0, 9, 0, 1, 7, 0, 1];
    let bytes = [&[7, 0, 0, 1, 0, 56, 0, 21][..], &body].concat();
    let fields = &dhcp6(&bytes).fields[1].fields;
    let told: Vec<(&str, &str)> = fields.iter().map(|field| (&*field.name, &*field.value)).collect();
    assert_eq!(
        told,
        [
            ("NTP_SUBOPTION_SRV_FQDN", "a"),
            ("NTP_SUBOPTION_SRV_FQDN", "b"),
            ("unknown", "07"),
            ("options that do not add up", "0001"),
        ]
    );
}

#[test]
fn what_firmware_asks_is_told_by_iana_s_names() {
    let said = dhcp6(&information_request([9, 8, 7], &[0, 1, 0, 1, 0, 0, 0, 9, 2, 0, 0, 0, 0, 5]));
    assert_eq!(said.name, "DHCPv6 Information-request");
    assert_eq!(value(&said, 1), "DUID-LLT, Ethernet, 02:00:00:00:00:05, made 9 s after the year 2000 began");
    assert_eq!(value(&said, 6), "23 OPTION_DNS_SERVERS, 82 OPTION_SOL_MAX_RT");
    assert_eq!(value(&said, 8), "0.00 s");
    let mut solicit = vec![1, 0, 0, 1];
    for (code, body) in [
        (61_u8, &[0, 9, 0, 16, 9, 9][..]),
        (62, &[1, 3, 16]),
        (16, &[0, 0, 1, 0x57, 0, 3, b'P', b'X', b'E']),
        (15, &[0, 4, b'i', b'P', b'X', b'E', 0, 1, 7]),
        (13, &[0, 2, b'n', b'o']),
        (14, &[]),
        (200, &[0xab]),
    ] {
        solicit.extend([0, code, 0, u8::try_from(body.len()).unwrap()]);
        solicit.extend(body);
    }
    let said = dhcp6(&solicit);
    assert_eq!(value(&said, 61), "9 (EBC), 16 (x64 uefi boot from http), 2313");
    assert_eq!(value(&said, 62), "UNDI 3.16");
    assert_eq!(value(&said, 16), "enterprise 343 (Intel): PXE");
    assert_eq!(value(&said, 15), "iPXE, 07");
    assert_eq!(value(&said, 13), "NoAddrsAvail, \"no\"");
    assert_eq!(value(&said, 14), "");
    assert_eq!((&*said.option(200).unwrap().name, value(&said, 200)), ("unknown", "ab"));
}

#[test]
fn what_was_relayed_is_told_with_its_relay() {
    let mut relayed = vec![12, 1];
    relayed.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
    relayed.extend("fe80::2".parse::<Ipv6Addr>().unwrap().octets());
    relayed.extend([0, 9, 0, 10, 1, 0, 0, 1, 0, 8, 0, 2, 0, 100]);
    let said = dhcp6(&relayed);
    assert_eq!(said.name, "DHCPv6 Relay-forward");
    assert_eq!((value(&said, 9), value(&said, 8)), ("DHCPv6 Solicit", "1.00 s"));
}

#[test]
fn what_does_not_add_up_is_told_as_far_as_it_does() {
    let said = dhcp6(&[1, 0, 0, 1, 0, 8, 0, 2, 0, 1, 0, 6, 0, 9, 1]);
    assert_eq!(value(&said, 8), "0.01 s");
    let last = said.fields.last().unwrap();
    assert_eq!((&*last.name, &*last.value), ("options that do not add up", "0006000901"));
    let said = dhcp6(&[1, 0, 0, 1, 0, 6, 0, 1, 7]);
    assert_eq!(value(&said, 6), "malformed: 07");
    assert_eq!(dhcp6(&[1, 2]).fields[0].value, "malformed: 02");
    assert_eq!(dhcp6(&[]).name, "DHCPv6: nothing");
    // What a terminal would obey is octets.
    let said = dhcp6(&[1, 0, 0, 1, 0, 59, 0, 4, b'a', 0x1b, b'[', b'm']);
    assert_eq!(value(&said, 59), "611b5b6d");
}

#[test]
fn an_advertisement_is_told_flag_by_flag() {
    let said = RouterAdvertisement {
        cur_hop_limit: 64,
        managed: true,
        other: false,
        preference: RouterPreference::High,
        router_lifetime: 1800,
        source_mac: Some(Mac([2, 0, 0, 0, 0, 1])),
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
        dns_lifetime: 60,
    };
    let expected = "\
Router Advertisement
  Cur Hop Limit: 64
  M (addresses by DHCPv6): yes
  O (other things by DHCPv6): no
  Prf (default router preference): high
  Router Lifetime: 1800 s
  Reachable Time: the host's own
  Retrans Timer: the host's own
  1 Source Link-layer Address: 02:00:00:00:00:01
  5 MTU: 1500
  3 Prefix Information: 2001:db8::10/126, L (on-link) yes, A (autonomous) no, valid 7200 s, preferred 3600 s
  25 Recursive DNS Server: 2001:db8::53, for 60 s
  31 DNS Search List: mesh.example, for 60 s";
    assert_eq!(icmp6(&said.emit()).unwrap().to_string(), expected);
    let solicitation = icmp6(&router_solicitation(Mac([2, 0, 0, 0, 0, 7]))).unwrap();
    assert_eq!(
        solicitation.to_string(),
        "Router Solicitation\n  1 Source Link-layer Address: 02:00:00:00:00:07"
    );
    assert_eq!(icmp6(&[135, 0, 0, 0]), None);
}

#[test]
fn tftp_is_told_packet_by_packet() {
    let request = tftp(b"\0\x01node.efi\0octet\0blksize\x001428\0tsize\x000\0");
    let expected =
        "TFTP RRQ (read request)\n  file: node.efi\n  mode: octet\n  option: blksize 1428\n  option: tsize 0";
    assert_eq!(request.to_string(), expected);
    let said = tftp(&error(ErrorCode::FileNotFound, "no such boot file"));
    assert_eq!(said.to_string(), "TFTP ERROR\n  code: 1\n  message: no such boot file");
    assert_eq!(tftp(&oack(&[("tsize", 9)])).to_string(), "TFTP OACK\n  option: tsize 9");
    assert_eq!(tftp(&[0, 3, 0, 7, 1, 2]).to_string(), "TFTP DATA\n  block: 7\n  octets: 2");
    assert_eq!(tftp(&[0, 4, 0, 7]).to_string(), "TFTP ACK\n  block: 7");
    assert_eq!(tftp(&[9]).to_string(), "TFTP: no packet of it\n  packet: malformed: 09");
}

proptest! {
    #[test]
    fn no_octets_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _told = (dhcp6(&bytes).to_string(), tftp(&bytes).to_string(), icmp6(&bytes));
    }

    #[test]
    fn a_mutated_solicit_is_told_without_control_characters(
        at in 0_usize..200,
        octet in any::<u8>(),
        cut in 0_usize..200,
    ) {
        let mut bytes = edk2_solicit();
        let at = at % bytes.len();
        bytes[at] = octet;
        bytes.truncate(bytes.len().saturating_sub(cut % 100));
        let told = dhcp6(&bytes).to_string();
        prop_assert!(!told.contains(|c: char| c.is_control() && c != '\n'), "{told}");
    }

    #[test]
    fn no_option_of_any_number_panics(code in 0_u8..130, body in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut bytes = vec![1, 0, 0, 1, 0, code, 0, u8::try_from(body.len()).unwrap()];
        bytes.extend(&body);
        let said = dhcp6(&bytes);
        prop_assert_eq!(said.fields[1].code, Some(u16::from(code)));
        let mut advertisement = vec![134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let units = u8::try_from(body.len().div_ceil(8) + 1).unwrap();
        advertisement.extend([code, units]);
        advertisement.extend(&body);
        advertisement.resize(16 + usize::from(units) * 8, 0);
        let said = icmp6(&advertisement).map(|said| said.fields.len());
        prop_assert_eq!(said, Some(8));
    }
}
