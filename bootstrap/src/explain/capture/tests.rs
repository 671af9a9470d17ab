use std::io::{Seek as _, Write as _};

use proptest::prelude::*;

use super::*;

/// A packet of three octets that was recorded two and a half seconds after 1000.
const AT: Duration = Duration::from_millis(1_002_500);
const PACKET: [u8; 3] = [1, 2, 3];

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn read_all(bytes: &[u8]) -> (Vec<Recorded>, Result<(), CaptureError>) {
    let mut packets = Vec::new();
    let result = read(file(bytes), |packet| packets.push(packet));
    (packets, result)
}

/// A pcap file, little end first, with as many packets as it is told.
pub(in crate::explain) fn pcap(kind: u32, packets: &[(Duration, &[u8])]) -> Vec<u8> {
    let mut out = 0xa1b2_3c4d_u32.to_le_bytes().to_vec();
    out.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0]);
    out.extend(kind.to_le_bytes());
    for (at, packet) in packets {
        let len = u32::try_from(packet.len()).unwrap();
        for number in [u32::try_from(at.as_secs()).unwrap(), at.subsec_nanos(), len, len] {
            out.extend(number.to_le_bytes());
        }
        out.extend(*packet);
    }
    out
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 12).unwrap().to_le_bytes();
    [&kind.to_le_bytes()[..], &len, body, &len].concat()
}

fn pcapng(resolution: &[u8], packets: &[Vec<u8>]) -> Vec<u8> {
    let section =
        block(0x0a0d_0d0a, &[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    let wireless = block(1, &[105, 0, 0, 0, 0, 0, 4, 0]);
    let ethernet = block(1, &[&[1, 0, 0, 0, 0, 0, 4, 0][..], resolution].concat());
    [section, ethernet, wireless, packets.concat()].concat()
}

fn enhanced(interface: u32, units: u64) -> Vec<u8> {
    let [low, high] = [units & 0xffff_ffff, units >> 32].map(|half| u32::try_from(half).unwrap());
    let head = [interface, high, low, 3, 9].map(u32::to_le_bytes).concat();
    block(6, &[&head[..], &PACKET, &[0]].concat())
}

#[test]
fn pcap_of_either_byte_order_is_read() {
    let little = pcap(1, &[(AT, &PACKET), (AT, &[])]);
    let (packets, result) = read_all(&little);
    assert!(result.is_ok(), "{result:?}");
    let first = Recorded { at: AT, framing: Framing::Ethernet, bytes: PACKET.to_vec(), missing: 0 };
    assert_eq!((packets.len(), &packets[0]), (2, &first));
    // Microseconds, big end first, and a packet of which two octets were not kept.
    let mut big = vec![0xa1, 0xb2, 0xc3, 0xd4, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 1, 20];
    for number in [1002_u32, 500_000, 3, 5] {
        big.extend(number.to_be_bytes());
    }
    big.extend(PACKET);
    let (packets, result) = read_all(&big);
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(packets, [Recorded { framing: Framing::Cooked2, missing: 2, ..first }]);
}

#[test]
fn pcapng_is_read_with_the_clock_of_each_interface() {
    let plain = pcapng(&[], &[enhanced(0, 1_002_500_000), block(3, &[3, 0, 0, 0, 1, 2, 3, 0])]);
    let (packets, result) = read_all(&plain);
    assert!(result.is_ok(), "{result:?}");
    let packet = Recorded { at: AT, framing: Framing::Ethernet, bytes: PACKET.to_vec(), missing: 6 };
    assert_eq!(packets, [packet.clone(), Recorded { missing: 0, ..packet.clone() }]);
    // Resolutions of powers of ten and of two, and a clock that cannot be.
    for (resolution, units) in [(9, 1_002_500_000_000), (0x80 | 10, 1002 * 1024 + 512)] {
        let option = [9, 0, 1, 0, resolution, 0, 0, 0, 0, 0, 0, 0];
        let (packets, result) = read_all(&pcapng(&option, &[enhanced(0, units)]));
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(packets, std::slice::from_ref(&packet), "{resolution}");
    }
    let option = [9, 0, 1, 0, 77, 0, 0, 0, 0, 0, 0, 0];
    assert!(matches!(read_all(&pcapng(&option, &[])).1, Err(CaptureError::Damaged(0))));
}

#[test]
fn what_cannot_be_read_says_why() {
    assert!(matches!(read_all(b"").1, Err(CaptureError::Foreign)));
    assert!(matches!(
        read_all(b"{ \"not\": \"a recording\", \"but\": \"of JSON\" }").1,
        Err(CaptureError::Foreign)
    ));
    let wireless = read_all(&pcap(105, &[(AT, &PACKET)])).1.unwrap_err().to_string();
    assert!(wireless.contains("105") && wireless.contains("Ethernet"), "{wireless}");
    // Another interface of the same file does no harm before it has packets.
    assert!(matches!(read_all(&pcapng(&[], &[enhanced(1, 0)])).1, Err(CaptureError::LinkType(_))));
    assert!(matches!(read_all(&pcapng(&[], &[enhanced(2, 0)])).1, Err(CaptureError::Damaged(0))));
    let mut large = pcap(1, &[]);
    large.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0x40]);
    assert!(matches!(read_all(&large).1, Err(CaptureError::Large(0) | CaptureError::Truncated(0))));
    let folder = tempfile::tempdir().unwrap();
    let result = read(File::open(folder.path()).unwrap(), drop);
    assert!(matches!(result, Err(CaptureError::Read(_))), "{result:?}");
}

#[test]
fn a_truncated_file_is_told_from_a_whole_one() {
    for whole in [pcap(1, &[(AT, &PACKET), (AT, &PACKET)]), pcapng(&[], &[enhanced(0, 0), enhanced(0, 1)])] {
        let record = if whole[0] == 0x4d { 19 } else { 36 };
        for len in 24..whole.len() {
            let (packets, result) = read_all(&whole[..len]);
            let boundary = (whole.len() - len).is_multiple_of(record);
            let read = 2 - (whole.len() - len).div_ceil(record).min(2);
            assert_eq!(packets.len(), read, "{len}");
            // The blocks in front of the packets have ends of their own.
            if read > 0 || (whole.len() - len) < 2 * record {
                assert_eq!(result.is_ok(), boundary, "{len}: {result:?}");
            }
            if let Err(error) = result {
                assert!(
                    matches!(error, CaptureError::Truncated(count) if count == read) || read == 0,
                    "{error}"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn no_file_panics(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        at in 0_usize..200,
        octet in any::<u8>(),
        is_pcap in any::<bool>(),
    ) {
        let _read = read_all(&bytes);
        let mut good = if is_pcap { pcap(1, &[(AT, &PACKET)]) } else { pcapng(&[], &[enhanced(0, 9)]) };
        let at = at % good.len();
        good[at] = octet;
        let _read = read_all(&good);
        good.extend(bytes);
        let _read = read_all(&good);
    }
}
