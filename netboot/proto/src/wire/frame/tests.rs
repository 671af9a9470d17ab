use proptest::prelude::*;

use super::*;

const SENDER: Mac = Mac([2, 0, 0, 0, 9, 1]);

fn datagram(next: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    packet.extend([next, 255]);
    packet.extend("fe80::1".parse::<Ipv6Addr>().unwrap().octets());
    packet.extend("ff02::1:2".parse::<Ipv6Addr>().unwrap().octets());
    packet.extend(body);
    packet
}

fn over_ethernet(tags: &[u8], packet: &[u8]) -> Vec<u8> {
    let mut frame = [[0x33, 0x33, 0, 1, 0, 2], SENDER.0].concat();
    frame.extend(tags);
    frame.extend([0x86, 0xdd]);
    frame.extend(packet);
    frame
}

fn solicit() -> Vec<u8> {
    let mut body = vec![2, 34, 2, 35, 0, 12, 0, 0];
    body.extend([1, 2, 3, 4]);
    body
}

#[test]
fn a_datagram_is_found_behind_every_framing() {
    let packet = datagram(17, &solicit());
    let expected = Payload::Udp { from: 546, to: 547, bytes: &[1, 2, 3, 4] };
    let cooked = [&[0, 4, 0, 1, 0, 6][..], &SENDER.0, &[0, 0, 0x86, 0xdd], &packet].concat();
    let cooked2 = [&[0x86, 0xdd, 0, 0, 0, 0, 0, 3, 0, 1, 4, 6][..], &SENDER.0, &[0, 0], &packet].concat();
    let mut padded = over_ethernet(&[], &packet);
    padded.extend([0; 9]);
    let tagged = over_ethernet(&[0x88, 0xa8, 0, 1, 0x81, 0, 0, 7], &packet);
    for (framing, bytes, mac) in [
        (Framing::Ethernet, over_ethernet(&[], &packet), Some(SENDER)),
        (Framing::Ethernet, padded, Some(SENDER)),
        (Framing::Ethernet, tagged, Some(SENDER)),
        (Framing::Cooked, cooked, Some(SENDER)),
        (Framing::Cooked2, cooked2, Some(SENDER)),
        (Framing::Bare, packet.clone(), None),
    ] {
        let frame = Frame::parse(framing, &bytes).unwrap();
        assert_eq!((frame.mac, frame.payload, frame.hop_limit), (mac, expected, 255), "{framing:?}");
        assert_eq!(frame.destination, "ff02::1:2".parse::<Ipv6Addr>().unwrap());
    }
}

#[test]
fn extension_headers_are_passed_over_and_fragments_are_not() {
    let hop_by_hop = [&[17, 0, 5, 2, 0, 0, 1, 0][..], &solicit()].concat();
    let frame = datagram(0, &hop_by_hop);
    assert!(matches!(Frame::parse(Framing::Bare, &frame).unwrap().payload, Payload::Udp { to: 547, .. }));
    let fragment = datagram(44, &[17, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(Frame::parse(Framing::Bare, &fragment), Err(FrameError::Fragment));
    let tcp = datagram(6, &[0; 20]);
    assert_eq!(Frame::parse(Framing::Bare, &tcp).unwrap().payload, Payload::Other(6));
}

#[test]
fn what_is_no_ipv6_or_is_cut_says_so() {
    let arp = [&[0xff; 6][..], &SENDER.0, &[8, 6, 0, 1]].concat();
    assert_eq!(Frame::parse(Framing::Ethernet, &arp), Err(FrameError::NotIpv6(0x0806)));
    let whole = over_ethernet(&[], &datagram(17, &solicit()));
    for len in 0..whole.len() {
        assert_eq!(Frame::parse(Framing::Ethernet, &whole[..len]), Err(FrameError::Short), "{len}");
    }
}

proptest! {
    #[test]
    fn no_frame_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..4) {
        let framing = [Framing::Ethernet, Framing::Cooked, Framing::Cooked2, Framing::Bare][at];
        let _read = Frame::parse(framing, &bytes);
    }

    #[test]
    fn no_datagram_panics(next in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _read = Frame::parse(Framing::Ethernet, &over_ethernet(&[], &datagram(next, &body)));
    }
}
