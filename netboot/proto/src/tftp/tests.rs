use proptest::prelude::*;

use super::*;
use crate::testing::epoch;

const LIMITS: Limits = Limits { block: 1428, window: 64 };

fn peer() -> SocketAddrV6 {
    SocketAddrV6::new("fe80::9".parse().unwrap(), 2000, 0, 3)
}

fn request(options: &str) -> Request {
    let bytes = format!("\0\u{1}/node.efi\0octet\0{}", options.replace(' ', "\0"));
    let Opening::Serve(request) = open(bytes.as_bytes()) else { panic!("{options}") };
    request
}

fn transfer(options: &str, size: u64) -> Transfer {
    Transfer::new(peer(), &request(options), size, &LIMITS, epoch())
}

fn ack(block: u16) -> Vec<u8> {
    [&[0, 4][..], &block.to_be_bytes()].concat()
}

fn outputs(transfer: &mut Transfer) -> Vec<Output> {
    std::iter::from_fn(|| transfer.poll_effect()).collect()
}

fn burst(transfer: &mut Transfer) -> Burst {
    match outputs(transfer).as_slice() {
        [Output::Data(burst)] => *burst,
        other => panic!("{other:?}"),
    }
}

fn oacked(transfer: &mut Transfer) -> String {
    match outputs(transfer).as_slice() {
        [Output::Send { to, bytes }] => {
            assert_eq!((*to, &bytes[..2]), (peer(), &[0, 6][..]));
            String::from_utf8_lossy(&bytes[2..]).replace('\0', " ")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_firmwares_size_probe_ends_at_once() {
    let mut transfer = transfer("tsize 0 blksize 1228 windowsize 4 ", 5000);
    assert_eq!(oacked(&mut transfer), "tsize 5000 blksize 1228 windowsize 4 ");
    transfer.handle_datagram(peer(), b"\0\x05\0\x08User aborted the transfer\0", epoch());
    let aborted = Outcome::Aborted { code: 8, message: "User aborted the transfer".to_owned(), probe: true };
    assert_eq!(outputs(&mut transfer), [Output::Finished(aborted)]);
    assert_eq!(transfer.next_deadline(), None);
    transfer.handle_timeout(epoch() + Duration::from_secs(60));
    assert_eq!(outputs(&mut transfer), []);
}

#[test]
fn options_are_capped_and_nonsense_is_passed_over() {
    let mut capped = transfer("blksize 65464 windowsize 65535 timeout 3 ", 1);
    assert_eq!(oacked(&mut capped), "blksize 1428 windowsize 64 timeout 3 ");
    for nonsense in ["blksize 7 ", "blksize 70000 ", "windowsize 0 ", "timeout 0 ", "timeout 256 ", "x 1 "] {
        let mut transfer = transfer(nonsense, 1);
        assert_eq!(burst(&mut transfer).block, 512, "{nonsense}");
    }
    assert_eq!(Limits::for_mtu(1500).block, 1428);
    assert_eq!(Limits::for_mtu(1280).block, 1228);
    assert_eq!(Limits::for_mtu(9000).block, 1428);
}

#[test]
fn windows_follow_acknowledgements() {
    let mut transfer = transfer("blksize 1000 windowsize 4 ", 9500);
    outputs(&mut transfer);
    transfer.handle_datagram(peer(), &ack(0), epoch());
    let first = Burst { first: 1, offset: 0, len: 4000, block: 1000, blocks: 4 };
    assert_eq!(burst(&mut transfer), first);
    // A gap: block 2 is the last that came in order.
    transfer.handle_datagram(peer(), &ack(2), epoch());
    assert_eq!(burst(&mut transfer), Burst { first: 3, offset: 2000, ..first });
    transfer.handle_datagram(peer(), &ack(6), epoch());
    assert_eq!(burst(&mut transfer), Burst { first: 7, offset: 6000, len: 3500, ..first });
    transfer.handle_datagram(peer(), &ack(10), epoch());
    assert_eq!(outputs(&mut transfer), [Output::Finished(Outcome::Complete)]);
}

#[test]
fn duplicates_and_strangers_acknowledgements_send_no_data() {
    let mut transfer = transfer("", 5000);
    burst(&mut transfer);
    transfer.handle_datagram(peer(), &ack(1), epoch());
    burst(&mut transfer);
    for block in [1, 0, 3, 65535] {
        transfer.handle_datagram(peer(), &ack(block), epoch());
        assert_eq!(outputs(&mut transfer), [], "ACK {block}");
    }
    let stranger = SocketAddrV6::new("fe80::9".parse().unwrap(), 2001, 0, 3);
    transfer.handle_datagram(stranger, &ack(2), epoch());
    let bytes = error(ErrorCode::UnknownTransfer, "unknown transfer");
    assert_eq!(outputs(&mut transfer), [Output::Send { to: stranger, bytes }]);
    transfer.handle_datagram(stranger, b"\0\x05\0\0\0", epoch());
    assert_eq!(outputs(&mut transfer), [], "an ERROR is not answered");
    transfer.handle_datagram(peer(), &ack(2), epoch());
    assert_eq!(burst(&mut transfer).first, 3);
}

#[test]
fn silence_is_answered_by_the_same_window_and_then_by_the_end() {
    let mut transfer = transfer("blksize 1000 windowsize 2 ", 5000);
    outputs(&mut transfer);
    let mut now = epoch();
    transfer.handle_datagram(peer(), &ack(0), now);
    let first = burst(&mut transfer);
    let mut waits = Vec::new();
    loop {
        let deadline = transfer.next_deadline().unwrap();
        waits.push((deadline - now).as_millis());
        now = deadline;
        transfer.handle_timeout(now);
        match outputs(&mut transfer).as_slice() {
            [Output::Data(again)] => assert_eq!(*again, first),
            [Output::Finished(outcome)] => {
                assert_eq!(*outcome, Outcome::TimedOut { acknowledged: 0 });
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 4000]);
}

#[test]
fn a_clients_own_timeout_is_kept() {
    let mut transfer = transfer("timeout 20 ", 5000);
    let now = epoch();
    outputs(&mut transfer);
    transfer.handle_datagram(peer(), &ack(0), now);
    assert_eq!(transfer.next_deadline(), Some(now + Duration::from_secs(20)));
    assert_eq!(transfer.clock.max_retransmits(), 3);
}

#[test]
fn the_block_number_wraps_to_zero() {
    let mut transfer = transfer("blksize 8 ", 8 * 70_000);
    outputs(&mut transfer);
    transfer.handle_datagram(peer(), &ack(0), epoch());
    for block in 1..=70_000_u64 {
        let burst = burst(&mut transfer);
        assert_eq!(burst.first, block);
        let [.., high, low] = block.to_be_bytes();
        assert_eq!(burst.frame(&[7; 8])[..4], [0, 3, high, low]);
        transfer.handle_datagram(peer(), &ack(u16::from_be_bytes([high, low])), epoch());
    }
    assert_eq!(burst(&mut transfer).len, 0, "a full last block is followed by an empty one");
}

#[test]
fn frames_carry_headers_between_blocks() {
    let burst = Burst { first: 65535, offset: 0, len: 5, block: 2, blocks: 3 };
    assert_eq!(burst.frame(b"abcde")[..], *b"\0\x03\xff\xffab\0\x03\0\0cd\0\x03\0\x01e");
    assert_eq!(burst.segment(), 6);
}

#[test]
fn only_reading_inside_the_catalogue_is_opened() {
    let opening = |file: &str| open(format!("\0\u{1}{file}\0octet\0").as_bytes());
    for (file, path) in [("/node.efi", "node.efi"), ("//a/./b", "a/b"), ("node.efi", "node.efi")] {
        let Opening::Serve(request) = opening(file) else { panic!("{file}") };
        assert_eq!(request.path, path);
    }
    for bad in ["../../etc/passwd", "/a/../b", "", "/", "a\\b", "a b", "a\u{7}", "ä", &"a".repeat(300)] {
        assert!(matches!(opening(bad), Opening::Refuse { .. }), "{bad:?}");
    }
    assert!(matches!(open(b"\0\x01node.efi\0netascii\0"), Opening::Refuse { .. }));
    assert!(matches!(open(b"\0\x02node.efi\0octet\0"), Opening::Refuse { .. }));
    assert_eq!(open(&ack(1)), Opening::Ignore);
    assert_eq!(open(b"\0\x05\0\0\0"), Opening::Ignore);
}

/// A client that keeps what comes in order, over a cable that loses packets.
fn fetch(content: &[u8], options: &str, block: usize, window: u64, losses: &[bool]) -> Option<Vec<u8>> {
    let size = u64::try_from(content.len()).unwrap();
    let mut transfer = transfer(options, size);
    let mut losses = losses.iter().copied().chain(std::iter::repeat(false));
    let mut now = epoch();
    let (mut got, mut have, mut since_ack) = (Vec::new(), 0_u64, 0);
    loop {
        let Some(output) = transfer.poll_effect() else {
            now = transfer.next_deadline()?;
            transfer.handle_timeout(now);
            continue;
        };
        let mut replies = Vec::new();
        match output {
            Output::Finished(outcome) => return (outcome == Outcome::Complete).then_some(got),
            Output::Send { .. } => replies.push(0),
            Output::Data(burst) => {
                let at = usize::try_from(burst.offset).unwrap();
                let packets = burst.frame(&content[at..at + burst.len]);
                for packet in packets.chunks(burst.segment()) {
                    if losses.next() == Some(true) {
                        continue;
                    }
                    let number = u16::from_be_bytes([packet[2], packet[3]]);
                    let [.., high, low] = (have + 1).to_be_bytes();
                    let in_order = number == u16::from_be_bytes([high, low]);
                    if in_order {
                        got.extend(&packet[4..]);
                        have += 1;
                        since_ack += 1;
                    }
                    if !in_order || since_ack == window || packet.len() < block + 4 {
                        since_ack = 0;
                        replies.push(have);
                    }
                }
            }
        }
        for reply in replies {
            let [.., high, low] = reply.to_be_bytes();
            if losses.next() != Some(true) {
                transfer.handle_datagram(peer(), &ack(u16::from_be_bytes([high, low])), now);
            }
        }
    }
}

proptest! {
    #[test]
    fn a_file_arrives_whole_over_a_bad_cable(
        len in 0_usize..6000,
        block in 8_usize..600,
        window in 1_u64..20,
        losses in proptest::collection::vec(proptest::bool::weighted(0.2), 0..200),
    ) {
        let content: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let options = format!("blksize {block} windowsize {window} ");
        // Six losses of one packet in a row end a transfer; anything else must not.
        if let Some(got) = fetch(&content, &options, block, window, &losses) {
            prop_assert_eq!(got, content);
        } else {
            prop_assert!(losses.iter().filter(|lost| **lost).count() > 6);
        }
    }

    #[test]
    fn octets_never_panic(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..20)) {
        let mut transfer = transfer("blksize 8 windowsize 3 ", 100);
        for bytes in &packets {
            let _ = open(bytes);
            transfer.handle_datagram(peer(), bytes, epoch());
        }
    }
}
