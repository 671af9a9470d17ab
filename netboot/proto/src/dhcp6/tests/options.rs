//! What is told to those who ask `[RFC 9915 § 21]`, and what firmware needs `[RFC 5970]`.

use super::*;
use crate::boot::{BootRefusal, Decision};

fn address(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
}

/// A server of a site that has everything.
fn rich() -> Server {
    let domain = "mesh.example".parse().unwrap();
    let services = Services::new(vec![address(1), address(2)], vec![domain], vec![address(3), address(4)]);
    let far = Far { mac: client(1).mac.unwrap(), machine: None };
    let catalogue = Catalogue {
        x64: FileName::try_from("x64.efi".to_owned()).ok(),
        arm64: FileName::try_from("arm64.efi".to_owned()).ok(),
        ..Catalogue::default()
    };
    Server::new(Config { services: services.unwrap(), ..config() }, catalogue, Some(far))
}

/// What a firmware hears that says of itself the architecture's number and the class.
fn booting(server: &mut Server, number: u16, name: &str) -> Heard {
    let further = vec![(code::VENDOR_CLASS, class(&[0, 0, 1, 0x57], name.as_bytes()))];
    let solicit = Ask { architecture: Some(number), further, requested: vec![59, 60, 23, 16], ..Ask::new(1) };
    ask(server, &client(1), &solicit).remove(0)
}

#[test]
fn what_was_not_asked_for_is_not_sent() {
    let bare = Ask { requested: vec![], architecture: Some(7), ..Ask::new(1) };
    let heard = ask(&mut server(), &client(1), &bare).remove(0);
    let codes: Vec<u16> = heard.options.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [code::CLIENTID, code::SERVERID, code::IA_NA, code::PREFERENCE]);
}

#[test]
fn services_are_told_to_those_who_ask_where_there_are_some() {
    let requested = vec![code::DNS_SERVERS, code::DOMAIN_LIST, code::SNTP_SERVERS, code::NTP_SERVER];
    let renewing = [(1, None), (3, Some(server_id())), (5, Some(server_id())), (6, None)];
    for (kind, server_id) in renewing {
        let asking = Ask { requested: requested.clone(), ..Ask::new(1) }.again(kind, server_id);
        let heard = ask(&mut rich(), &client(1), &asking).remove(0);
        let two = |one: Ipv6Addr, other: Ipv6Addr| Some([one.octets(), other.octets()].concat());
        assert_eq!(heard.option(code::DNS_SERVERS), two(address(1), address(2)));
        assert_eq!(heard.option(code::DOMAIN_LIST), Some(b"\x04mesh\x07example\0".to_vec()));
        assert_eq!(heard.option(code::SNTP_SERVERS), two(address(3), address(4)));
        let clocks = heard.options.iter().filter(|(known, _)| *known == code::NTP_SERVER);
        let clocks: Vec<Vec<u8>> = clocks.map(|(_, body)| body.clone()).collect();
        let clock = |server: Ipv6Addr| [&[0, 1, 0, 16][..], &server.octets()].concat();
        assert_eq!(clocks, [clock(address(3)), clock(address(4))], "one option for one server");
        // Nothing is made up, and nothing is told to who does not ask.
        let codes = ask_known(&asking).codes();
        assert!(requested.iter().all(|code| !codes.contains(code)), "{codes:?}");
        let silent = Ask { requested: vec![], ..asking };
        let codes = ask(&mut rich(), &client(1), &silent).remove(0).codes();
        assert!(requested.iter().all(|code| !codes.contains(code)), "{codes:?}");
    }
}

#[test]
fn the_longest_waits_are_within_their_range() {
    let asking = Ask { requested: vec![code::SOL_MAX_RT, code::INF_MAX_RT], ..Ask::new(1) };
    let information = Ask { kind: 11, iaids: vec![], ..asking.clone() };
    for ask in [asking.clone(), asking.again(3, Some(server_id())), information] {
        let heard = ask_known(&ask);
        for code in [code::SOL_MAX_RT, code::INF_MAX_RT] {
            let seconds = u32::from_be_bytes(*heard.option(code).unwrap().first_chunk().unwrap());
            assert!((60..=86400).contains(&seconds));
        }
    }
}

#[test]
fn the_refresh_time_is_of_information_requests_alone() {
    let requested = vec![code::INFORMATION_REFRESH_TIME];
    let asking = Ask { kind: 11, iaids: vec![], requested: requested.clone(), ..Ask::new(1) };
    let time = ask_known(&asking).option(code::INFORMATION_REFRESH_TIME).unwrap();
    assert!(u32::from_be_bytes(*time.first_chunk().unwrap()) >= 600, "IRT_MINIMUM");
    let solicit = Ask { requested, ..Ask::new(1) };
    assert_eq!(ask_known(&solicit).option(code::INFORMATION_REFRESH_TIME), None);
}

#[test]
fn what_does_harm_is_never_sent() {
    // Server Unicast is obsolete, Reconfigure Accept and Authentication promise what there is not, and a boot file
    // has no parameters.
    let requested = (1..=150).collect();
    let heard =
        ask(&mut rich(), &client(1), &Ask { requested, architecture: Some(7), ..Ask::new(1) }).remove(0);
    for never in [11, 12, 17, 19, 20, 60, 62] {
        assert_eq!(heard.option(never), None, "{never}");
    }
    assert!(heard.option(code::BOOTFILE_URL).is_some());
}

#[test]
fn each_firmware_gets_the_file_of_its_architecture() {
    let cases = [
        (7, "PXEClient:Arch:00007:UNDI:003000", "tftp://[2001:db8::11]/x64.efi"),
        (9, "PXEClient:Arch:00009:UNDI:003000", "tftp://[2001:db8::11]/x64.efi"),
        (11, "PXEClient:Arch:00011:UNDI:003000", "tftp://[2001:db8::11]/arm64.efi"),
        (16, "HTTPClient:Arch:00016:UNDI:003000", "http://[2001:db8::11]/boot/x64.efi"),
        (19, "HTTPClient:Arch:00019:UNDI:003000", "http://[2001:db8::11]/boot/arm64.efi"),
    ];
    for (number, name, url) in cases {
        let heard = booting(&mut rich(), number, name);
        assert_eq!(heard.url().as_deref(), Some(url));
        assert_eq!(heard.option(code::CLIENT_ARCH_TYPE), Some(number.to_be_bytes().to_vec()));
        // Only HTTP boot wants to hear its class again, and once; PXE takes it for a boot server discovery.
        let echoed = name.starts_with("HTTP").then(|| class(&[0, 0, 1, 0x57], b"HTTPClient"));
        assert_eq!(heard.option(code::VENDOR_CLASS), echoed);
    }
}

#[test]
fn a_user_class_of_ipxe_loads_by_http() {
    let further = vec![(code::USER_CLASS, class(&[], b"iPXE"))];
    let solicit = Ask { architecture: Some(7), further, ..Ask::new(1) };
    let heard = ask(&mut rich(), &client(1), &solicit).remove(0);
    assert_eq!(heard.url().as_deref(), Some("http://[2001:db8::11]/boot/x64.efi"));
}

#[test]
fn an_architecture_without_a_file_gets_its_address_and_a_reason_with_its_number() {
    for number in [0, 6, 10, 15, 27, 0x25] {
        let mut server = rich();
        let solicit = Ask { architecture: Some(number), ..Ask::new(1) };
        server.handle_datagram(&client(1), &solicit.bytes(), epoch());
        let effects = drain(&mut server);
        let heard = answers(&effects).remove(0);
        assert_eq!((heard.url(), heard.addresses()), (None, vec![(1, prefix().far(), 7200)]));
        let told = effects.iter().find_map(|effect| match effect {
            Effect::Note(Event::Answered(Answered { boot: Decision::Refuse(refusal), .. })) => Some(*refusal),
            Effect::Note(_) | Effect::Send { .. } | Effect::Commit(_) => None,
        });
        assert_eq!(told, Some(BootRefusal::UnknownArchitecture(number)));
        assert!(told.unwrap().to_string().contains(&number.to_string()));
    }
}
