use proptest::prelude::*;

use super::*;

#[test]
fn a_request_is_read_with_its_options() {
    let bytes = b"\0\x01/node.efi\0OCTET\0tsize\x000\0BlkSize\x001228\0windowsize\x004\0blksize\x008\0";
    let Packet::Read(request) = Packet::parse(bytes) else { panic!("no request") };
    assert_eq!((request.file.as_str(), request.mode.as_str()), ("/node.efi", "octet"));
    let options = [("tsize", "0"), ("blksize", "1228"), ("windowsize", "4")];
    assert_eq!(request.options, options.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn what_is_no_packet_is_malformed() {
    let bad: [&[u8]; 7] =
        [b"", b"\0", b"\0\x01", b"\0\x01file\0", b"\0\x01file\0octet", b"\0\x04\0", b"\0\x09xx"];
    for bytes in bad {
        assert_eq!(Packet::parse(bytes), Packet::Malformed, "{bytes:?}");
    }
    let long = [b"\0\x01", &[b'a'; 2000][..], b"\0octet\0"].concat();
    assert_eq!(Packet::parse(&long), Packet::Malformed);
    for error in [&b"\0\x05"[..], b"\0\x05\0", b"\0\x05\0\x08"] {
        assert!(matches!(Packet::parse(error), Packet::Error { .. }), "an ERROR is one however short");
    }
}

#[test]
fn answers_have_the_formats_of_the_rfcs() {
    assert_eq!(error(ErrorCode::FileNotFound, "no")[..], *b"\0\x05\0\x01no\0");
    assert_eq!(oack(&[("blksize", 1428), ("tsize", 9)])[..], *b"\0\x06blksize\x001428\0tsize\x009\0");
    assert_eq!(data_header(258), [0, 3, 1, 2]);
}

proptest! {
    #[test]
    fn octets_never_panic(opcode in 0_u8..8, bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = Packet::parse(&[&[0, opcode][..], &bytes].concat());
        let _ = Packet::parse(&bytes);
    }
}
