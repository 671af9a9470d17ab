use proptest::prelude::*;

use super::*;

fn wanted(path: &str) -> bool {
    path.starts_with("/boot/") || path.starts_with("/artefacts/")
}

fn plain(text: &str) -> Option<(Box<Request<()>>, bool)> {
    match parse(text.as_bytes(), wanted) {
        Parsed::Plain { request, keep, len } => {
            assert_eq!(text.get(len - 4..len), Some("\r\n\r\n"));
            Some((request, keep))
        }
        Parsed::Other => None,
        Parsed::Partial => panic!("a whole head is no part of one: {text:?}"),
    }
}

#[test]
fn a_plain_request_is_for_a_file_and_nothing_else() {
    let (request, keep) =
        plain("GET /boot/node.efi HTTP/1.1\r\nHost: x\r\nRange: bytes=1-2\r\n\r\nGET").unwrap();
    assert_eq!((request.method(), request.uri().path(), keep), (&Method::GET, "/boot/node.efi", true));
    assert_eq!(request.headers().get("range").unwrap(), "bytes=1-2");
    let (request, keep) =
        plain("HEAD /artefacts/00 HTTP/1.1\r\nhost: x\r\nconnection: Close\r\n\r\n").unwrap();
    assert_eq!((request.method(), keep), (&Method::HEAD, false));
    for other in [
        "GET /ignition HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://x/boot/node.efi HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /boot/node.efi HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /boot/node.efi HTTP/1.0\r\nHost: x\r\n\r\n",
        "GET /boot/node.efi HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        "GET /boot/node.efi HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET /boot/node.efi HTTP/1.1\r\nExpect: 100-continue\r\n\r\n",
        "GET /boot/node.efi HTTP/1.1\r\nConnection: Upgrade\r\n\r\n",
        "GET /boot/node.efi HTTP/1.1\r\nConnection: close, TE\r\n\r\n",
        "GET /boot/no de.efi HTTP/1.1\r\nHost: x\r\n\r\n",
        "\u{1}\r\n\r\n",
    ] {
        assert!(plain(other).is_none(), "{other:?}");
    }
    let many = format!("GET /boot/x HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
    assert!(plain(&many).is_none(), "too many headers are the library's to refuse");
}

#[test]
fn a_head_that_is_not_whole_is_waited_for() {
    let text = "GET /boot/node.efi HTTP/1.1\r\nHost: x\r\n\r\n";
    for len in 0..text.len() {
        assert!(matches!(parse(&text.as_bytes()[..len], wanted), Parsed::Partial), "{len}");
    }
}

proptest! {
    #[test]
    fn octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _any = parse(&octets, wanted);
        let _any = parse(&[b"GET /boot/".as_slice(), &octets, b"\r\n\r\n"].concat(), wanted);
    }
}
