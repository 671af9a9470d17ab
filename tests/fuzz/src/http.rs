//! HTTP: a connection's octets, in pieces, through the whole of the server down to the file.

mod exchange;
mod files;

use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;

use netboot_server::DetachedHttp;

use crate::Input;
use crate::place::{NEAR, STATIONS, link, prefix};

pub(crate) use exchange::{Answer, exchange};
pub(crate) use files::{Files, digest, file};

/// Whatever a request asks for, a head and a reason are no longer than this.
const MAX_HEAD: usize = 4096;

/// Sends any octets.
pub(crate) fn run(octets: &[u8]) {
    let mut input = Input::new(octets);
    let kind = input.octet();
    let piece = usize::from(input.octet()) + 1;
    let files = Arc::new(Files::default());
    let http = DetachedHttp::new(link(), prefix(), NEAR, Arc::clone(&files));
    if kind & 1 != 0 {
        http.close(Some("this link is not served: a fault".to_owned()));
    }
    let said = input.rest();
    let heard = exchange(&http, peer(kind >> 1), said, piece);
    assert!(kind & 1 == 0 || files.served() == 0, "a link that is closed is served");
    judge(said, &heard, kind & 1 != 0);
}

/// Who asks: the far end, a station's link-local address, or somebody behind them.
pub(crate) fn peer(kind: u8) -> SocketAddrV6 {
    let ip = match kind % 4 {
        0 => prefix().far(),
        1 => STATIONS[0].link_local(),
        2 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9),
        _ => Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9),
    };
    SocketAddrV6::new(ip, 1024, 0, 3)
}

/// The first request decides what the first answer may be; all of them together bound how much is said.
fn judge(said: &[u8], heard: &[u8], closed: bool) {
    // Heads end with two line ends, which may be two octets.
    let requests = said.windows(2).filter(|two| matches!(*two, b"\n\n" | b"\n\r")).count() + 1;
    let most = requests * (MAX_HEAD + file().len());
    assert!(heard.len() <= most, "{} octets for {requests} requests", heard.len());
    let (method, path) = first_line(said);
    let Some(answer) = Answer::read(heard, method == b"HEAD") else {
        assert!(heard.is_empty(), "{}", heard.escape_ascii());
        return;
    };
    let known = [200, 206, 304, 400, 403, 404, 405, 412, 414, 416, 431, 500, 501, 503, 505];
    assert!(known.contains(&answer.status), "status {}", answer.status);
    assert_eq!(answer.header("transfer-encoding"), None, "firmware cannot read that");
    let tag = format!("\"{}\"", digest());
    match answer.status {
        200 | 206 | 304 | 412 | 416 => {
            assert!(!closed, "a link that is closed is served");
            let paths = ["/boot/node.efi".to_owned(), format!("/artefacts/{}", digest())];
            let path = path.split(|octet| matches!(octet, b'?' | b'#')).next().unwrap_or_default();
            // A whole URL is a target as well.
            let is = |known: &[u8]| path == known || (!path.starts_with(b"/") && path.ends_with(known));
            let is_file = paths.iter().any(|known| is(known.as_bytes()));
            let is_ignition = is(b"/ignition") && answer.status == 200;
            assert!(is_file || is_ignition, "{} is served", path.escape_ascii());
            if is_file {
                judge_file(&answer, method == b"HEAD", &tag);
            }
        }
        500 => panic!("the file is there"),
        _ => assert!(answer.body.ends_with(b"\n") || method == b"HEAD" || answer.body.is_empty()),
    }
}

fn judge_file(answer: &Answer<'_>, is_head: bool, tag: &str) {
    let file = file();
    let length = answer.header("content-length").map(|text| text.parse::<usize>().unwrap());
    let range = answer.header("content-range");
    match answer.status {
        200 => {
            assert_eq!((length, range), (Some(file.len()), None));
            assert!(is_head || answer.body == file, "another file");
        }
        206 => {
            let text = range.and_then(|text| text.strip_prefix("bytes ")).unwrap();
            let (part, size) = text.split_once('/').unwrap();
            let (from, to) = part.split_once('-').unwrap();
            let [from, to, size] = [from, to, size].map(|text| text.parse::<usize>().unwrap());
            assert!(from <= to && to < size && size == file.len(), "{text}");
            assert_eq!(length, Some(to + 1 - from));
            assert!(is_head || answer.body == &file[from..=to], "another part");
        }
        416 => assert_eq!(range, Some(&*format!("bytes */{}", file.len()))),
        304 => assert!(answer.body.is_empty() && length.is_none_or(|length| length == 0)),
        _ => {}
    }
    if matches!(answer.status, 200 | 206 | 304) {
        assert_eq!(answer.header("etag"), Some(tag));
    }
}

/// Method and target, as the octets have them.
fn first_line(said: &[u8]) -> (&[u8], &[u8]) {
    // Empty lines in front are passed over.
    let start = said.iter().position(|octet| !matches!(octet, b'\r' | b'\n')).unwrap_or(said.len());
    let mut words = said[start..].split(|octet| matches!(octet, b' ' | b'\r' | b'\n'));
    (words.next().unwrap_or_default(), words.next().unwrap_or_default())
}
