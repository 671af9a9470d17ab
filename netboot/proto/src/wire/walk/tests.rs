use proptest::prelude::*;

use super::*;
use crate::wire::dhcp6::Message;

fn option(code: u16, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap();
    [&code.to_be_bytes()[..], &len.to_be_bytes(), body].concat()
}

fn message(options: &[Vec<u8>]) -> Vec<u8> {
    [&[1, 0xaa, 0xbb, 0xcc][..], &options.concat()].concat()
}

/// What EDK2 sends, as captured, with an identity association and every boot option.
pub(crate) fn edk2_solicit() -> Vec<u8> {
    let class = [&343_u32.to_be_bytes()[..], &[0, 33], b"HTTPClient:Arch:00016:UNDI:003000"].concat();
    message(&[
        option(1, &[0, 4, 0x44, 0x33, 0x22, 0x11, 0x66, 0x55, 0x88, 0x77, 1, 2, 3, 4, 5, 6, 7, 8]),
        option(8, &[0, 0]),
        option(3, &[&[0xde, 0xad, 0xbe, 0xef][..], &[0xff; 8]].concat()),
        option(6, &[0, 59, 0, 60, 0, 23, 0, 16]),
        option(62, &[1, 3, 0]),
        option(61, &[0, 16]),
        option(16, &class),
    ])
}

#[test]
fn a_firmwares_solicit_is_walked_in_order() {
    let solicit = edk2_solicit();
    let walked = walk(&solicit).unwrap();
    let codes: Vec<u16> = walked.options.iter().map(|option| option.code).collect();
    assert_eq!(codes, [1, 8, 3, 6, 62, 61, 16]);
}

#[test]
fn bad_lengths_are_refused() {
    let cases: [(Vec<u8>, WalkError); 12] = [
        (vec![1, 2, 3], WalkError::Short(3)),
        (message(&[vec![0, 1, 0]]), WalkError::Trailing(3)),
        (message(&[vec![0, 1, 0, 9, 1]]), WalkError::Overrun { code: 1, said: 9, left: 1 }),
        (message(&[option(1, &[0, 1])]), WalkError::Length { code: 1, len: 2 }),
        (message(&[option(1, &[0; 131])]), WalkError::Length { code: 1, len: 131 }),
        (message(&[option(13, &[0])]), WalkError::Length { code: 13, len: 1 }),
        (message(&[option(16, &[0, 0, 1])]), WalkError::Length { code: 16, len: 3 }),
        (message(&[option(15, &[0, 9, 1])]), WalkError::Length { code: 15, len: 3 }),
        (message(&[option(7, &[0, 1])]), WalkError::Length { code: 7, len: 2 }),
        (message(&[option(6, &[0])]), WalkError::Length { code: 6, len: 1 }),
        (message(&[option(3, &[0; 11])]), WalkError::Length { code: 3, len: 11 }),
        (
            message(&[option(3, &[&[0; 12][..], &option(5, &[0; 23])].concat())]),
            WalkError::Length { code: 5, len: 23 },
        ),
    ];
    for (bytes, error) in cases {
        assert_eq!(walk(&bytes), Err(error), "{bytes:?}");
    }
}

#[test]
fn options_may_not_repeat_nor_nest_without_end() {
    let id = option(1, &[0, 1, 2]);
    assert_eq!(walk(&message(&[id.clone(), id])), Err(WalkError::Twice(1)));
    let mut nested = option(3, &[0; 12]);
    for _ in 0..4 {
        nested = option(3, &[&[0; 12][..], &nested].concat());
    }
    assert_eq!(walk(&message(&[nested])), Err(WalkError::Deep(3)));
    let many = vec![option(200, &[]); 1000];
    assert_eq!(walk(&message(&many)).map(|walked| walked.options.len()), Ok(1000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn random_octets_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Message::parse(&bytes);
    }

    #[test]
    fn plausible_options_never_panic(
        kind in 0_u8..14,
        options in proptest::collection::vec((0_u16..90, proptest::collection::vec(any::<u8>(), 0..40)), 0..12),
    ) {
        let options: Vec<Vec<u8>> = options.iter().map(|(code, body)| option(*code, body)).collect();
        let mut bytes = message(&options);
        bytes[0] = kind;
        let _ = Message::parse(&bytes);
    }

    #[test]
    fn a_mutated_solicit_never_panics(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = edk2_solicit();
        for (at, octet) in edits {
            let at = at.index(bytes.len());
            bytes[at] = octet;
        }
        let _ = Message::parse(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        let _ = Message::parse(&bytes);
    }

    #[test]
    fn a_walk_covers_every_octet(
        options in proptest::collection::vec((100_u16..9000, proptest::collection::vec(any::<u8>(), 0..40)), 0..12),
    ) {
        let encoded: Vec<Vec<u8>> = options.iter().map(|(code, body)| option(*code, body)).collect();
        let bytes = message(&encoded);
        let walked = walk(&bytes).unwrap();
        let seen: Vec<(u16, Vec<u8>)> =
            walked.options.iter().map(|option| (option.code, option.body.to_vec())).collect();
        prop_assert_eq!(seen, options);
    }
}
