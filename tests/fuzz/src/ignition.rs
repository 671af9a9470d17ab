//! A machine's request for its configuration: who asks, in which words, and who is configured by that.

use std::sync::Arc;

use mesh::Mac;
use netboot_server::{DetachedHttp, IgnitionRequest, RefusalStatus};

use crate::Input;
use crate::http::{Answer, Files, exchange, peer};
use crate::place::{NEAR, STATIONS, link, prefix};

const MAX_PORTS: usize = 64;
const MAX_NAME: usize = 15;
const REFUSALS: [Option<RefusalStatus>; 4] =
    [None, Some(RefusalStatus::NotReady), Some(RefusalStatus::Forbidden), Some(RefusalStatus::Conflict)];

/// Asks for a configuration by GET, with any query and any headers.
pub(crate) fn run(octets: &[u8]) {
    let mut input = Input::new(octets);
    let (kind, known) = (input.octet(), input.octet());
    let refusal = REFUSALS[usize::from(kind >> 2) % REFUSALS.len()];
    let files = Arc::new(Files::refusing(refusal));
    let http = DetachedHttp::new(link(), prefix(), NEAR, Arc::clone(&files));
    let peer = peer(kind);
    // What the kernel says of who asks: a station, or nothing.
    let known = STATIONS.get(usize::from(known % 8)).copied();
    if let Some(mac) = known {
        http.learn(*peer.ip(), mac);
    }
    let text = |octet: &u8| matches!(octet, b' '..=b'~');
    let query: Vec<u8> = input.blob().iter().copied().filter(|octet| text(octet) && *octet != b' ').collect();
    let headers: Vec<u8> =
        input.rest().iter().copied().filter(|octet| text(octet) || *octet == b'\n').collect();
    let said = [b"GET /ignition?", &query[..], b" HTTP/1.1\nConnection: close\n", &headers, b"\n\n"].concat();
    let heard = exchange(&http, peer, &said, usize::MAX);
    let asked = files.asked();
    let answer = Answer::read(&heard, false).expect("an answer that is whole");
    assert!(asked.len() <= 1, "asked {} times", asked.len());
    let behind = *peer.ip() != prefix().far() && !peer.ip().is_unicast_link_local();
    match (asked.first(), answer.status) {
        (Some(request), status) => {
            assert!(!behind, "who is behind the far end is configured");
            assert_eq!(status, refusal.map_or(200, RefusalStatus::code));
            let is_json = answer.header("content-type") == Some("application/json");
            assert_eq!(is_json, refusal.is_none());
            judge(request, known, &query);
        }
        (None, 403) => assert!(behind),
        // A word that is none of ours, a station that nobody knows, or no head of HTTP.
        (None, 400 | 414 | 431 | 503) => {}
        (None, status) => panic!("status {status} for {}", said.escape_ascii()),
    }
    let again = answer.header("retry-after").is_some();
    assert_eq!(again, answer.status == 503, "who may ask again is told so");
}

/// What the content is asked for is what the port says and well-formed words.
fn judge(request: &IgnitionRequest, known: Option<Mac>, query: &[u8]) {
    assert_eq!((request.link, &*request.near_port), (link(), "detached"));
    assert!(request.ports.len() <= MAX_PORTS, "{} ports", request.ports.len());
    assert!(request.far_mac.is_unicast(), "{} is no station", request.far_mac);
    let of_address = Mac::from_eui64(*request.peer.ip());
    let only = || matches!(request.ports.as_slice(), [(_, mac)] if *mac == request.far_mac);
    match known.or(of_address).filter(|mac| mac.is_unicast()) {
        Some(mac) => assert_eq!(request.far_mac, mac, "a machine's word is believed before the kernel's"),
        None => assert!(only(), "{} out of nothing", request.far_mac),
    }
    for (name, _) in &request.ports {
        assert!((1..=MAX_NAME).contains(&name.len()), "{name}");
        assert!(name.chars().all(|c| c.is_ascii_graphic() && c != '/'), "{name}");
    }
    let plain = !query.iter().any(|octet| matches!(octet, b'%' | b'+'));
    if let Some(uuid) = request.uuid.filter(|_| plain) {
        let digits = |text: &[u8]| -> Vec<u8> {
            text.iter().filter(|octet| octet.is_ascii_hexdigit()).map(u8::to_ascii_lowercase).collect()
        };
        let said = digits(query);
        let read = digits(uuid.to_string().as_bytes());
        assert!(said.windows(read.len()).any(|window| window == read), "{uuid} was not said");
    }
}
