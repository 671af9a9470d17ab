use proptest::prelude::*;

use super::*;

#[test]
fn ranges_are_read_as_the_rfc_has_them() {
    let part = |from, to| Wanted::Part { from, to };
    let cases = [
        (None, Wanted::All),
        (Some("bytes=0-"), part(0, 100)),
        (Some("bytes=10-19"), part(10, 20)),
        (Some("bytes=90-1000"), part(90, 100)),
        (Some("bytes=-10"), part(90, 100)),
        (Some("bytes=-1000"), part(0, 100)),
        (Some("bytes=-0"), Wanted::Impossible),
        (Some("bytes=100-"), Wanted::Impossible),
        (Some("bytes=99999999999999999999999-"), Wanted::Impossible),
        (Some("bytes=5-99999999999999999999999"), part(5, 100)),
        (Some("bytes=9-5"), Wanted::All),
        (Some("bytes=0-1,5-6"), Wanted::All),
        (Some("bytes=-"), Wanted::All),
        (Some("octets=0-1"), Wanted::All),
        (Some("bytes=+1-2"), Wanted::All),
    ];
    for (header, expected) in cases {
        assert_eq!(wanted(header, 100), expected, "{header:?}");
    }
    assert_eq!(wanted(Some("bytes=-5"), 0), Wanted::Impossible);
}

#[test]
fn tags_are_compared_by_digest() {
    for yes in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*"] {
        assert!(names(yes, &TAG), "{yes}");
    }
    for no in ["", "a", "\"b\"", "\"aa\""] {
        assert!(!names(no, &TAG), "{no}");
    }
}

const TAG: HeaderValue = HeaderValue::from_static("\"a\"");

proptest! {
    #[test]
    fn a_part_lies_within_the_file(header in "bytes=[0-9]{0,22}-[0-9]{0,22}", size in 0_u64..50) {
        if let Wanted::Part { from, to } = wanted(Some(&header), size) {
            prop_assert!(from < to && to <= size);
        }
    }

    #[test]
    fn headers_never_panic(header in "\\PC*", size: u64) {
        let _ = wanted(Some(&header), size);
        let _ = names(&header, &TAG);
    }
}
