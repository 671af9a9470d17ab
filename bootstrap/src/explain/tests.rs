use std::net::Ipv6Addr;
use std::time::Duration;

use mesh::{Far, Mac};
use netboot_proto::wire::dhcp6::{ALL_SERVERS, CLIENT_PORT, SERVER_PORT};
use netboot_proto::wire::frame::Framing;
use netboot_proto::wire::heard::router_solicitation;
use netboot_proto::wire::icmp6::ALL_ROUTERS;

use super::ask::FIRMWARES;
use super::capture::Recorded;
use super::cores::Happening;
use super::replay::{Entry, Player, Replay};
use super::scene::Scene;
use super::verdict::{Outcome, Verdict};

const CLIENT: Mac = Mac([2, 0, 0, 0, 9, 1]);
const OTHER: Mac = Mac([2, 0, 0, 0, 9, 2]);

fn recorded(seconds: u64, mac: Mac, to: Ipv6Addr, next: u8, body: &[u8]) -> Recorded {
    let mut bytes = [&[0x33, 0x33, 0, 0, 0, 1][..], &mac.0, &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend([next, 255]);
    bytes.extend(mac.link_local().octets());
    bytes.extend(to.octets());
    bytes.extend(body);
    Recorded { at: Duration::from_secs(seconds), framing: Framing::Ethernet, bytes, missing: 0 }
}

fn udp(seconds: u64, mac: Mac, to: Ipv6Addr, ports: [u16; 2], body: &[u8]) -> Recorded {
    let len = u16::try_from(body.len() + 8).unwrap();
    let header = [ports[0], ports[1], len, 0].map(u16::to_be_bytes).concat();
    recorded(seconds, mac, to, 17, &[&header[..], body].concat())
}

fn solicit(seconds: u64, at: usize) -> Recorded {
    udp(seconds, CLIENT, ALL_SERVERS, [CLIENT_PORT, SERVER_PORT], &FIRMWARES[at].solicit(CLIENT))
}

/// An advertisement of another network's router.
fn foreign_router(seconds: u64) -> Recorded {
    let mut body = vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    body.extend([3, 4, 64, 0xc0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
    body.extend("fd00:99::".parse::<Ipv6Addr>().unwrap().octets());
    recorded(seconds, OTHER, "ff02::1".parse().unwrap(), 58, &body)
}

fn replay(packets: &[Recorded]) -> Replay {
    let mut player = Player::new(Scene::example(), true);
    for packet in packets {
        player.hear(packet);
    }
    player.finish()
}

fn verdicts(replay: &Replay) -> Vec<&Verdict> {
    let entries = replay.entries.iter();
    entries
        .filter_map(|entry| match entry {
            Entry::Packet { verdict, .. } => Some(verdict),
            Entry::Happening { .. } => None,
        })
        .collect()
}

#[test]
fn firmware_of_any_network_is_told_what_it_would_boot() {
    let packets: Vec<Recorded> =
        (0..).zip(0..FIRMWARES.len()).map(|(seconds, at)| solicit(seconds, at)).collect();
    let replay = replay(&packets);
    let verdicts = verdicts(&replay);
    let boots: Vec<Option<&str>> =
        verdicts.iter().map(|verdict| verdict.boot.as_ref().unwrap().url.as_deref()).collect();
    let (tftp, http) = ("tftp://[2001:db8::11]/", "http://[2001:db8::11]/boot/");
    let url = |way: &str, file: &str| Some(format!("{way}{file}"));
    let expected = [
        url(tftp, "node-x64.efi"),
        url(tftp, "node-x64.efi"),
        url(http, "node-x64.efi"),
        url(tftp, "node-arm64.efi"),
        url(http, "node-arm64.efi"),
        None,
    ];
    assert_eq!(boots, expected.each_ref().map(Option::as_deref));
    for verdict in &verdicts {
        assert_eq!(verdict.outcome, Outcome::Answered);
        let answer = &verdict.answers[0];
        assert_eq!((answer.to, &*answer.says.name), (CLIENT.link_local(), "DHCPv6 Advertise"));
        assert!(answer.says.option(5).unwrap().value.starts_with("2001:db8::12, "));
    }
    assert!(verdicts[0].reasons[0].contains("the ledger is told first that 02:00:00:00:09:01"));
    assert!(verdicts[1].reasons.iter().all(|reason| !reason.contains("ledger")));
    let boot = verdicts[2].boot.as_ref().unwrap();
    assert!(boot.reason.contains("16 (x64 uefi boot from http)") && boot.reason.contains("HTTPClient"));
    assert!(verdicts[5].boot.as_ref().unwrap().reason.contains("no boot files for architecture number 6"));
    let text = replay.text();
    for line in [
        "as on this example link",
        "link 2001:db8::10/126: near 2001:db8::11, far 2001:db8::12",
        "packet 1: fe80::ff:fe00:901 (02:00:00:00:09:01) to ff02::1:2",
        "6 OPTION_ORO: 59 OPT_BOOTFILE_URL, 23 OPTION_DNS_SERVERS, 16 OPTION_VENDOR_CLASS",
        "59 OPT_BOOTFILE_URL: tftp://[2001:db8::11]/node-x64.efi",
        "M (addresses by DHCPv6): yes",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
}

#[test]
fn another_network_is_not_served_and_what_would_be_answered_is_told() {
    let request = b"\0\x01node-x64.efi\0octet\0blksize\x001432\0";
    let tftp = udp(3, CLIENT, "2001:db8::11".parse().unwrap(), [2000, 69], request);
    let replay = replay(&[foreign_router(0), solicit(2, 0), tftp, solicit(200, 0)]);
    let verdicts = verdicts(&replay);
    assert_eq!(verdicts[0].outcome, Outcome::Heard);
    assert!(verdicts[0].reasons[0].contains("not served") && verdicts[0].reasons[1].contains("fd00:99::/64"));
    for verdict in &verdicts[1..3] {
        assert_eq!(verdict.outcome, Outcome::NotServed);
        assert!(verdict.reasons[0].contains("fd00:99::/64") && !verdict.answers.is_empty(), "{verdict:?}");
    }
    assert!(verdicts[1].boot.as_ref().unwrap().url.is_some());
    // The hold-down is over.
    assert_eq!(verdicts[3].outcome, Outcome::Answered);
    let judged: Vec<bool> = replay
        .entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Happening { happening: Happening::Judged { serves, .. }, .. } => Some(*serves),
            Entry::Happening { .. } | Entry::Packet { .. } => None,
        })
        .collect();
    assert_eq!(judged, [false, true]);
}

#[test]
fn a_solicitation_is_answered_after_a_moment() {
    let asked = recorded(9, CLIENT, ALL_ROUTERS, 58, &router_solicitation(CLIENT));
    let mut cheat = asked.clone();
    // The hop limit of somebody behind a router.
    cheat.bytes[21] = 64;
    let replay = replay(&[solicit(0, 0), asked, cheat]);
    let verdicts = verdicts(&replay);
    assert!(verdicts[1].reasons[0].contains("after a moment"), "{:?}", verdicts[1]);
    assert_eq!(
        (verdicts[2].outcome, &*verdicts[2].reasons[0]),
        (Outcome::Ignored, "its hop limit is not 255")
    );
    let solicited = replay.entries.iter().any(|entry| {
        matches!(entry, Entry::Happening { happening: Happening::Advertised { occasion, .. }, .. }
            if *occasion == "somebody solicited it")
    });
    assert!(solicited && replay.periodic_advertisements > 0);
}

#[test]
fn a_transfer_is_opened_as_far_as_the_first_blocks() {
    let near = "2001:db8::11".parse().unwrap();
    let ask = |to, request: &[u8]| udp(0, CLIENT, to, [2000, 69], request);
    let replay = replay(&[
        ask(near, b"\0\x01node-x64.efi\0octet\0tsize\x000\0blksize\x009000\0"),
        ask(near, b"\0\x01other.efi\0octet\0"),
        ask(near, b"\0\x02node-x64.efi\0octet\0"),
        ask("fd00::1".parse().unwrap(), b"\0\x01node-x64.efi\0octet\0"),
        ask("ff02::1".parse().unwrap(), b"\0\x01node-x64.efi\0octet\0"),
    ]);
    let outcomes: Vec<Outcome> = verdicts(&replay).iter().map(|verdict| verdict.outcome).collect();
    let expected =
        [Outcome::Answered, Outcome::Refused, Outcome::Refused, Outcome::NotForUs, Outcome::Ignored];
    assert_eq!(outcomes, expected);
    let text = replay.text();
    for line in [
        "option: tsize 67108864",
        "option: blksize 1448",
        "blocks of 1448 octets, 1 of them at a time",
        "message: no such boot file",
        "sent to fd00::1, which is not this machine",
        "otherwise it would be answered: a boot file of 67108864 octets; it is sent in blocks of 512 octets",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
}

#[test]
fn what_is_not_ours_is_counted_and_what_is_our_own_is_not_heard() {
    let near = Scene::example().mac;
    let tcp = recorded(0, CLIENT, "2001:db8::11".parse().unwrap(), 6, &[0; 20]);
    let neighbour = recorded(0, CLIENT, ALL_ROUTERS, 58, &[135, 0, 0, 0]);
    let cut = Recorded { bytes: solicit(0, 0).bytes[..60].to_vec(), missing: 70, ..solicit(0, 0) };
    let own = udp(0, near, CLIENT.link_local(), [SERVER_PORT, CLIENT_PORT], &[7, 0, 0, 1]);
    let others = udp(0, OTHER, CLIENT.link_local(), [SERVER_PORT, CLIENT_PORT], &[7, 0, 0, 1]);
    let replay = replay(&[tcp.clone(), tcp, neighbour, cut, own, others]);
    let kinds: Vec<(&str, usize)> =
        replay.passed_over.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(kinds[0], ("ICMPv6 type 135", 1));
    assert_eq!(kinds[1], ("TCP", 2));
    assert!(kinds[2].0.starts_with("cut short by the recording"));
    let outcomes: Vec<Outcome> = verdicts(&replay).iter().map(|verdict| verdict.outcome).collect();
    assert_eq!(outcomes, [Outcome::Ours, Outcome::NotForUs]);
}

#[test]
fn a_clock_that_jumps_is_no_clock_to_wait_for() {
    let years = u64::from(u32::MAX);
    let replay = replay(&[solicit(0, 0), solicit(years, 0), solicit(5, 0), solicit(years, 0)]);
    assert_eq!(verdicts(&replay).len(), 4);
    assert!(replay.periodic_advertisements < 5000);
}

#[test]
fn who_is_known_is_answered_without_the_ledger() {
    let mut scene = Scene::example();
    scene.far = Some(Far { mac: CLIENT, machine: None });
    let mut player = Player::new(scene, false);
    player.hear(&solicit(0, 0));
    let replay = player.finish();
    assert!(verdicts(&replay)[0].reasons.iter().all(|reason| !reason.contains("ledger")));
    let json = serde_json::to_value(&replay).unwrap();
    assert_eq!(json["link"]["far"], "2001:db8::12");
    assert_eq!(json["entries"][0]["kind"], "happening");
    let packet = json["entries"].as_array().unwrap().iter().find(|entry| entry["kind"] == "packet").unwrap();
    assert_eq!(packet["verdict"]["outcome"], "answered");
    assert_eq!(packet["says"]["fields"][1]["code"], 1);
    assert!(json["entries"].as_array().unwrap().iter().all(|entry| entry["seconds"].is_number()));
}
