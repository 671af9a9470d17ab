use proptest::prelude::*;

use super::*;
use crate::testing::{epoch, prefix};
use crate::wire::icmp6::ROUTER_ADVERTISEMENT;

/// Draws the same number for ever.
struct Fixed(u32);

impl rand_core::RngCore for Fixed {
    fn next_u32(&mut self) -> u32 {
        self.0
    }

    fn next_u64(&mut self) -> u64 {
        u64::from(self.0)
    }

    fn fill_bytes(&mut self, octets: &mut [u8]) {
        octets.fill(0);
    }
}

const SOLICITATION: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];

fn advertiser(drawn: u32) -> Advertiser<Fixed> {
    let config = Config {
        prefix: prefix(),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        lifetimes: Lifetimes { preferred: 3600, valid: 7200 },
        dns: Vec::new(),
    };
    Advertiser::new(config, Fixed(drawn))
}

fn solicitor(address: &str) -> Peer {
    let ip = address.parse().unwrap();
    Peer {
        address: SocketAddrV6::new(ip, 0, 0, 3),
        mac: None,
        destination: "ff02::2".parse().unwrap(),
        hop_limit: Some(255),
    }
}

/// The occasions and destinations of what is sent, each checked for its flags.
fn sent(advertiser: &mut Advertiser<Fixed>) -> Vec<(Occasion, Ipv6Addr)> {
    let mut sent = Vec::new();
    let mut occasion = None;
    while let Some(effect) = advertiser.poll_effect() {
        match &effect {
            Effect::Note(Event::Advertised(why)) => occasion = Some(*why),
            Effect::Send { to, bytes } => {
                let why = occasion.take().unwrap();
                assert_eq!(bytes[0], ROUTER_ADVERTISEMENT);
                assert_eq!(bytes[5], 0b1100_0000, "M=1 O=1 prf=medium");
                let lifetime = u16::from_be_bytes([bytes[6], bytes[7]]);
                assert_eq!(lifetime == 0, why == Occasion::Final);
                assert_eq!(bytes[32..36], [3, 4, 126, 0b1000_0000], "L=1 A=0");
                sent.push((why, *to.ip()));
            }
            Effect::Note(Event::Ignored { .. }) => {}
            Effect::Note(_) | Effect::Commit(_) => panic!("{effect:?}"),
        }
    }
    sent
}

#[test]
fn the_carrier_starts_a_burst_and_then_a_steady_rhythm() {
    let mut now = epoch();
    let mut router = advertiser(0);
    assert_eq!(router.next_deadline(), None);
    router.handle_carrier(true, now);
    let mut gaps = Vec::new();
    let mut occasions = sent(&mut router);
    for _ in 0..4 {
        let next = router.next_deadline().unwrap();
        gaps.push((next - now).as_secs());
        now = next;
        router.handle_timeout(now);
        occasions.extend(sent(&mut router));
    }
    let (burst, steady) = (INITIAL_INTERVAL.as_secs(), MIN_RTR_ADV_INTERVAL.as_secs());
    assert_eq!(gaps, [burst, burst, steady, steady]);
    let why: Vec<Occasion> = occasions.iter().map(|(why, _)| *why).collect();
    let (initial, periodic) = (Occasion::Initial, Occasion::Periodic);
    assert_eq!(why, [initial, initial, initial, periodic, periodic]);
    assert!(occasions.iter().all(|(_, to)| *to == ALL_NODES));

    router.handle_carrier(false, now);
    assert_eq!(router.next_deadline(), None);
    router.handle_carrier(true, now);
    assert_eq!(sent(&mut router), [(initial, ALL_NODES)], "a new carrier is a new beginning");
}

#[test]
fn solicitations_are_answered_at_once_up_to_a_rate() {
    let now = epoch();
    let mut router = advertiser(7);
    router.handle_carrier(true, now);
    sent(&mut router);
    router.handle_datagram(&solicitor("::"), &SOLICITATION, now);
    assert_eq!(sent(&mut router), [(Occasion::Solicited, ALL_NODES)]);
    let host = solicitor("fe80::9");
    router.handle_datagram(&host, &SOLICITATION, now);
    assert_eq!(sent(&mut router), [(Occasion::Solicited, *host.address.ip())]);
    for _ in 0..1000 {
        router.handle_datagram(&host, &SOLICITATION, now);
    }
    assert_eq!(sent(&mut router).len(), 8);
    router.handle_datagram(&host, &SOLICITATION, now + Duration::from_millis(501));
    assert_eq!(sent(&mut router).len(), 1);
}

#[test]
fn who_is_not_on_the_link_hears_nothing() {
    let mut router = advertiser(7);
    let far_away = Peer { hop_limit: Some(254), ..solicitor("fe80::9") };
    let unknown = Peer { hop_limit: None, ..solicitor("fe80::9") };
    for peer in [far_away, unknown] {
        router.handle_datagram(&peer, &SOLICITATION, epoch());
        let note = Event::Ignored { from: peer.address, reason: Ignored::HopLimit };
        assert_eq!(router.poll_effect(), Some(Effect::Note(note)));
        assert_eq!(router.poll_effect(), None);
    }
}

#[test]
fn a_client_hears_one_before_its_answer() {
    let now = epoch();
    let mut router = advertiser(7);
    router.handle_client(now);
    assert_eq!(sent(&mut router), [(Occasion::Client, ALL_NODES)]);
    router.handle_client(now + Duration::from_secs(2));
    assert_eq!(sent(&mut router), []);
}

#[test]
fn the_last_one_says_that_it_is_no_router() {
    let mut router = advertiser(7);
    router.handle_stop(epoch());
    assert_eq!(sent(&mut router), [], "nobody was told that there is a router");
    router.handle_carrier(true, epoch());
    sent(&mut router);
    router.handle_stop(epoch());
    assert_eq!(sent(&mut router), [(Occasion::Final, ALL_NODES)]);
    assert_eq!(router.next_deadline(), None);
}

proptest! {
    #[test]
    fn intervals_are_within_their_bounds(drawn in any::<u32>()) {
        let interval = advertiser(drawn).interval();
        prop_assert!((MIN_RTR_ADV_INTERVAL..=MAX_RTR_ADV_INTERVAL).contains(&interval));
    }

    #[test]
    fn octets_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut router = advertiser(1);
        router.handle_datagram(&solicitor("fe80::9"), &bytes, epoch());
    }
}
