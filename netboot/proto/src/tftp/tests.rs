use super::*;
use crate::testing::epoch;

mod model;
mod opening;

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
fn windows_follow_acknowledgements() {
    let mut transfer = transfer("blksize 1000 windowsize 4 ", 9500);
    outputs(&mut transfer);
    let first = Burst { first: 1, offset: 0, len: 4000, block: 1000, blocks: 4 };
    assert_eq!(transfer.expected(), Some(first));
    transfer.handle_datagram(peer(), &ack(0), epoch());
    assert_eq!(burst(&mut transfer), first);
    assert_eq!(transfer.expected(), Some(Burst { first: 5, offset: 4000, ..first }));
    // A gap: block 2 is the last that came in order.
    transfer.handle_datagram(peer(), &ack(2), epoch());
    assert_eq!(burst(&mut transfer), Burst { first: 3, offset: 2000, ..first });
    transfer.handle_datagram(peer(), &ack(6), epoch());
    assert_eq!(burst(&mut transfer), Burst { first: 7, offset: 6000, len: 3500, ..first });
    assert_eq!(transfer.expected(), None, "the end of it is on its way");
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
fn a_stranger_is_told_and_the_transfer_goes_on() {
    let mut transfer = transfer("blksize 1000 ", 5000);
    outputs(&mut transfer);
    let address: std::net::Ipv6Addr = "fe80::9".parse().unwrap();
    let strangers =
        [SocketAddrV6::new(address, 2001, 0, 3), SocketAddrV6::new("fe80::8".parse().unwrap(), 2000, 0, 3)];
    for stranger in strangers {
        for bytes in [&ack(0)[..], b"\0\x01x\0octet\0", b"\0\x03\0\x01data", b"\0\x09", b""] {
            let deadline = transfer.next_deadline();
            transfer.handle_datagram(stranger, bytes, epoch());
            let bytes = error(ErrorCode::UnknownTransfer, "unknown transfer");
            assert_eq!(outputs(&mut transfer), [Output::Send { to: stranger, bytes }]);
            assert_eq!(transfer.next_deadline(), deadline);
        }
        transfer.handle_datagram(stranger, b"\0\x05\0\0\0", epoch());
        assert_eq!(outputs(&mut transfer), [], "an ERROR is not answered");
    }
    assert!(!transfer.heard());
    transfer.handle_datagram(peer(), &ack(0), epoch());
    assert_eq!(burst(&mut transfer).first, 1);
    assert!(transfer.heard());
}

#[test]
fn a_clients_error_ends_the_transfer_at_once() {
    for acked in [None, Some(0), Some(1)] {
        let mut transfer = transfer("blksize 1000 ", 5000);
        for block in 0..=acked.unwrap_or(0) {
            acked.iter().for_each(|_| transfer.handle_datagram(peer(), &ack(block), epoch()));
        }
        outputs(&mut transfer);
        transfer.handle_datagram(peer(), b"\0\x05\0\x03Disk full\0", epoch());
        let probe = acked.is_none();
        let aborted = Outcome::Aborted { code: 3, message: "Disk full".to_owned(), probe };
        assert_eq!(outputs(&mut transfer), [Output::Finished(aborted)]);
        transfer.handle_datagram(peer(), &ack(2), epoch());
        assert_eq!((outputs(&mut transfer), transfer.next_deadline()), (vec![], None));
    }
}

#[test]
fn what_no_delay_explains_ends_the_transfer() {
    for bytes in [&b"\0\x02x\0octet\0"[..], b"\0\x03\0\x01data", b"\0\x06tsize\x000\0", b"\0\x09", b"\0\x04"]
    {
        let mut transfer = transfer("", 5000);
        outputs(&mut transfer);
        transfer.handle_datagram(peer(), bytes, epoch());
        match outputs(&mut transfer).as_slice() {
            [
                Output::Send { to, bytes },
                Output::Finished(Outcome::Aborted { code: 4, probe: false, .. }),
            ] => {
                assert_eq!((*to, &bytes[..4]), (peer(), &[0, 5, 0, 4][..]));
            }
            other => panic!("{bytes:?}: {other:?}"),
        }
    }
}

#[test]
fn a_request_that_comes_again_sends_nothing() {
    for options in ["", "tsize 0 "] {
        let mut transfer = transfer(options, 5000);
        outputs(&mut transfer);
        let again = b"\0\x01/node.efi\0octet\0";
        transfer.handle_datagram(peer(), again, epoch());
        assert_eq!(outputs(&mut transfer), []);
        assert!(!transfer.heard() && transfer.next_deadline().is_some());
    }
}

#[test]
fn options_are_offered_again_until_they_are_acknowledged() {
    let mut transfer = transfer("tsize 0 ", 5000);
    let offer = outputs(&mut transfer);
    assert_eq!(transfer.next_deadline(), Some(epoch_of(&transfer) + INITIAL_RTO));
    let deadline = transfer.next_deadline().unwrap();
    transfer.handle_timeout(deadline);
    assert_eq!(outputs(&mut transfer), offer);
    // Of block 0 alone: data has not been sent.
    transfer.handle_datagram(peer(), &ack(1), deadline);
    assert_eq!(outputs(&mut transfer), []);
    transfer.handle_datagram(peer(), &ack(0), deadline);
    assert_eq!(burst(&mut transfer).first, 1);
    transfer.handle_datagram(peer(), &ack(0), deadline);
    assert_eq!(outputs(&mut transfer), [], "a duplicate");
}

fn epoch_of(transfer: &Transfer) -> Instant {
    transfer.clock.sent_at.unwrap()
}

#[test]
fn the_wait_follows_the_round_trip_and_doubles() {
    let mut transfer = transfer("", 512 * 100);
    outputs(&mut transfer);
    let mut now = epoch_of(&transfer);
    for block in 1..=20 {
        now += Duration::from_millis(300);
        transfer.handle_datagram(peer(), &ack(block), now);
    }
    let wait = transfer.next_deadline().unwrap() - now;
    assert!((Duration::from_millis(300)..Duration::from_millis(400)).contains(&wait), "{wait:?}");
    let deadline = transfer.next_deadline().unwrap();
    transfer.handle_timeout(deadline);
    assert_eq!(transfer.next_deadline().unwrap() - deadline, wait * 2);
    // What was sent twice says nothing of the round trip.
    transfer.handle_datagram(peer(), &ack(21), deadline + Duration::from_millis(1));
    let after = transfer.next_deadline().unwrap() - (deadline + Duration::from_millis(1));
    assert_eq!(after, wait);
}

#[test]
fn an_empty_file_is_one_empty_block() {
    let mut transfer = transfer("", 0);
    assert_eq!(burst(&mut transfer), Burst { first: 1, offset: 0, len: 0, block: 512, blocks: 1 });
    transfer.handle_datagram(peer(), &ack(1), epoch());
    assert_eq!(outputs(&mut transfer), [Output::Finished(Outcome::Complete)]);
}

#[test]
fn three_hundred_megabytes_go_in_blocks_of_512_octets() {
    let size = 300_u64 << 20;
    let mut transfer = transfer("", size);
    let (mut sent, mut block) = (0, 0_u64);
    loop {
        match outputs(&mut transfer).as_slice() {
            [Output::Data(burst)] => {
                block += 1;
                assert_eq!((burst.first, burst.offset), (block, sent));
                sent += u64::try_from(burst.len).unwrap();
            }
            [Output::Finished(outcome)] => break assert_eq!(*outcome, Outcome::Complete),
            other => panic!("{other:?}"),
        }
        let [.., high, low] = block.to_be_bytes();
        transfer.handle_datagram(peer(), &ack(u16::from_be_bytes([high, low])), epoch());
    }
    assert_eq!((sent, block), (size, size / 512 + 1));
    assert!(block > 9 * 65536, "and the number wraps");
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
