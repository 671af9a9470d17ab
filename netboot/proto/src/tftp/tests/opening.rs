//! What a datagram to port 69 opens, and what is agreed on.

use super::*;

/// The number of the ERROR that a datagram is answered with.
fn refused(bytes: &[u8]) -> u16 {
    let Opening::Refuse { bytes: answer, .. } = open(bytes) else { panic!("{bytes:?}") };
    assert_eq!((&answer[..2], answer.last()), (&[0, 5][..], Some(&0)));
    u16::from_be_bytes([answer[2], answer[3]])
}

#[test]
fn only_reading_inside_the_catalogue_is_opened() {
    let opening = |file: &str| open(format!("\0\u{1}{file}\0octet\0").as_bytes());
    for (file, path) in [("/node.efi", "node.efi"), ("//a/./b", "a/b"), ("node.efi", "node.efi")] {
        let Opening::Serve(request) = opening(file) else { panic!("{file}") };
        assert_eq!(request.path, path);
    }
    for bad in [
        "../../etc/passwd",
        "/a/../b",
        "",
        "/",
        "a\\b",
        "a b",
        "a\u{7}",
        "ä",
        "..",
        "a/..",
        "\\\\x\\y",
        &"a".repeat(300),
    ] {
        assert_eq!(refused(format!("\0\u{1}{bad}\0octet\0").as_bytes()), 2, "{bad:?}");
    }
}

#[test]
fn nothing_can_be_written() {
    assert_eq!(refused(b"\0\x02node.efi\0octet\0"), 2, "access violation");
    assert_eq!(refused(b"\0\x02"), 2);
}

#[test]
fn only_mode_octet_is_served_in_whatever_case() {
    for mode in ["octet", "OCTET", "Octet"] {
        assert!(matches!(open(format!("\0\u{1}x\0{mode}\0").as_bytes()), Opening::Serve(_)), "{mode}");
    }
    for mode in ["netascii", "NetASCII", "mail", "", "binary"] {
        assert_eq!(refused(format!("\0\u{1}x\0{mode}\0").as_bytes()), 4, "{mode}");
    }
}

#[test]
fn what_belongs_to_no_transfer_is_told_so_and_an_error_is_not() {
    assert_eq!(refused(&ack(1)), 5);
    assert_eq!(refused(b"\0\x03\0\x01data"), 5);
    assert_eq!(refused(b"\0\x06tsize\x000\0"), 5);
    for malformed in [&b""[..], b"\0", b"\0\x01", b"\0\x01x\0octet", b"\0\x01\xff\0octet\0", b"\0\x09xx"] {
        assert_eq!(refused(malformed), 4, "{malformed:?}");
    }
    for error in [&b"\0\x05\0\0\0"[..], b"\0\x05"] {
        assert_eq!(open(error), Opening::Ignore);
    }
}

#[test]
fn options_are_capped_and_nonsense_is_passed_over() {
    let mut capped = transfer("blksize 65464 windowsize 65535 timeout 3 ", 1);
    assert_eq!(oacked(&mut capped), "blksize 1428 windowsize 64 timeout 3 ");
    let strange =
        ["blksize 7 ", "blksize 65465 ", "windowsize 0 ", "windowsize 65536 ", "timeout 0 ", "timeout 256 "];
    let no_numbers =
        ["blksize +512 ", "blksize 5x ", "tsize  ", "timeout -1 ", "tsize 99999999999999999999999 "];
    for nonsense in strange.into_iter().chain(no_numbers).chain(["x 1 ", "multicast  "]) {
        let mut transfer = transfer(nonsense, 1);
        assert_eq!(burst(&mut transfer).block, 512, "{nonsense}");
    }
}

#[test]
fn blocks_are_as_long_as_the_link_takes_in_one_piece() {
    for (mtu, block) in [(1280, 1228), (1500, 1448), (9000, 8948), (0, 1228), (u32::MAX, 65464)] {
        assert_eq!(Limits::for_mtu(mtu).block, block, "{mtu}");
    }
}

#[test]
fn options_are_read_in_any_order_and_case_and_the_first_of_a_name_counts() {
    let mut shuffled = transfer("WindowSize 4 unknown 7 TSIZE 0 BlkSize 1000 TimeOut 2 blksize 8 ", 5000);
    // None that was not asked for, each as it was asked or less.
    assert_eq!(oacked(&mut shuffled), "windowsize 4 tsize 5000 blksize 1000 timeout 2 ");
    shuffled.handle_datagram(peer(), &ack(0), epoch());
    assert_eq!(burst(&mut shuffled), Burst { first: 1, offset: 0, len: 4000, block: 1000, blocks: 4 });
    let mut size = transfer("tsize 77 ", 5000);
    assert_eq!(oacked(&mut size), "tsize 5000 ", "what the client says of the size is no matter");
    let bare = &mut transfer("", 5000);
    assert_eq!(burst(bare), Burst { first: 1, offset: 0, len: 512, block: 512, blocks: 1 });
}
