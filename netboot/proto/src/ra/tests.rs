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

fn config() -> Config {
    Config {
        prefix: prefix(),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        lifetimes: Lifetimes { preferred: 3600, valid: 7200 },
        services: Services::default(),
    }
}

fn advertiser(drawn: u32) -> Advertiser<Fixed> {
    Advertiser::new(config(), Fixed(drawn))
}

/// One that has said its first word at `now`, which nobody looks at.
fn running(drawn: u32, now: Instant) -> Advertiser<Fixed> {
    let mut router = advertiser(drawn);
    router.handle_carrier(true, now);
    sent(&mut router);
    router
}

/// Everything that is sent until `end`, with the time at which it is.
fn until(router: &mut Advertiser<Fixed>, end: Instant) -> Vec<(Instant, Occasion, Ipv6Addr)> {
    let mut all = Vec::new();
    while let Some(at) = router.next_deadline().filter(|at| *at <= end) {
        router.handle_timeout(at);
        all.extend(sent(router).into_iter().map(|(why, to)| (at, why, to)));
    }
    all
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
                assert_eq!(to.port(), 0, "a datagram of ICMPv6 has no port");
                assert!(bytes.len() <= 1280 - 40);
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
        gaps.push(next - now);
        now = next;
        router.handle_timeout(now);
        occasions.extend(sent(&mut router));
    }
    assert_eq!(gaps, [MIN_RTR_ADV_INTERVAL; 4]);
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
fn the_times_are_within_what_the_rfc_allows() {
    assert!((Duration::from_secs(4)..=Duration::from_secs(1800)).contains(&MAX_RTR_ADV_INTERVAL));
    assert!(MIN_RTR_ADV_INTERVAL >= Duration::from_secs(3));
    assert!(MIN_RTR_ADV_INTERVAL * 4 <= MAX_RTR_ADV_INTERVAL * 3);
    assert!(MAX_RTR_ADV_INTERVAL <= Duration::from_secs(16), "MAX_INITIAL_RTR_ADVERT_INTERVAL");
    let lifetime = Duration::from_secs(ROUTER_LIFETIME.into());
    assert!((MAX_RTR_ADV_INTERVAL..=Duration::from_secs(9000)).contains(&lifetime));
}

#[test]
fn a_station_is_answered_after_a_moment_and_once() {
    let now = epoch();
    let mut router = running(u32::MAX / 2, now);
    let host = solicitor("fe80::9");
    for _ in 0..1000 {
        router.handle_datagram(&host, &SOLICITATION, now);
    }
    assert_eq!(sent(&mut router), [], "not at once");
    let second = now + Duration::from_secs(1);
    let at = now + Duration::from_millis(249);
    assert_eq!(until(&mut router, second), [(at, Occasion::Solicited, *host.address.ip())]);
}

#[test]
fn who_has_no_address_yet_is_answered_with_all_others() {
    let begun = epoch();
    let mut router = running(0, begun);
    // Long enough after the last one.
    let now = begun + Duration::from_millis(2900);
    router.handle_datagram(&solicitor("::"), &SOLICITATION, now);
    let at = begun + MIN_DELAY_BETWEEN_RAS;
    assert_eq!(until(&mut router, at), [(at, Occasion::Solicited, ALL_NODES)]);
    // The next one is counted from this one.
    assert_eq!(router.next_deadline(), Some(at + MIN_RTR_ADV_INTERVAL));
}

#[test]
fn a_solicitation_pulls_the_next_one_forward_as_far_as_it_may() {
    let begun = epoch();
    // Drawn so that the interval is 4 s and the delay half a second.
    let mut router = running(u32::MAX, begun);
    assert_eq!(router.next_deadline(), Some(begun + MAX_RTR_ADV_INTERVAL));
    router.handle_datagram(&solicitor("::"), &SOLICITATION, begun + Duration::from_millis(100));
    let at = begun + MIN_DELAY_BETWEEN_RAS + MAX_RA_DELAY_TIME;
    assert_eq!(router.next_deadline(), Some(at));
    // One that comes when the next is due anyway has that one.
    router.handle_datagram(&solicitor("fe80::9"), &SOLICITATION, at - Duration::from_millis(1));
    assert_eq!(until(&mut router, at), [(at, Occasion::Solicited, ALL_NODES)]);
}

#[test]
fn who_waits_while_all_nodes_are_told_is_not_told_again() {
    let begun = epoch();
    let mut router = running(u32::MAX, begun);
    let host = solicitor("fe80::9");
    let now = begun + Duration::from_millis(3200);
    router.handle_datagram(&host, &SOLICITATION, now);
    router.handle_client(host.address, now);
    assert_eq!(sent(&mut router), [(Occasion::Client, ALL_NODES)]);
    assert_eq!(until(&mut router, now + MIN_DELAY_BETWEEN_RAS), []);
}

#[test]
fn a_crowd_of_stations_is_answered_as_one() {
    let begun = epoch();
    let mut router = running(u32::MAX, begun);
    let now = begun + Duration::from_millis(1);
    for station in 1..=100 {
        router.handle_datagram(&solicitor(&format!("fe80::{station:x}")), &SOLICITATION, now);
    }
    let heard = until(&mut router, begun + MAX_RTR_ADV_INTERVAL);
    let all = heard.iter().filter(|(_, _, to)| *to == ALL_NODES).count();
    assert_eq!((all, heard.len() - all), (1, usize::try_from(UNICAST_BURST).unwrap()));
}

#[test]
fn a_source_that_is_not_link_local_is_answered_with_all_others() {
    let begun = epoch();
    let mut router = running(0, begun);
    router.handle_datagram(&solicitor("2001:db8::12"), &SOLICITATION, begun);
    let at = begun + MIN_DELAY_BETWEEN_RAS;
    assert_eq!(until(&mut router, at), [(at, Occasion::Solicited, ALL_NODES)]);
}

#[test]
fn who_is_not_on_the_link_hears_nothing() {
    let now = epoch();
    let far_away = Peer { hop_limit: Some(254), ..solicitor("fe80::9") };
    let unknown = Peer { hop_limit: None, ..solicitor("fe80::9") };
    for peer in [far_away, unknown] {
        let mut router = running(0, now);
        let next = router.next_deadline();
        router.handle_datagram(&peer, &SOLICITATION, now);
        let note = Event::Ignored { from: peer.address, reason: Ignored::HopLimit };
        assert_eq!(router.poll_effect(), Some(Effect::Note(note)));
        assert_eq!(router.next_deadline(), next);
    }
}

#[test]
fn a_router_that_is_none_is_not_found() {
    let now = epoch();
    let host = solicitor("fe80::9");
    let mut stopped = running(0, now);
    stopped.handle_stop(now);
    sent(&mut stopped);
    for mut router in [advertiser(0), stopped] {
        router.handle_datagram(&host, &SOLICITATION, now);
        let note = Event::Ignored { from: host.address, reason: Ignored::NotAdvertising };
        assert_eq!(router.poll_effect(), Some(Effect::Note(note)));
        assert_eq!(router.next_deadline(), None);
    }
}

#[test]
fn a_client_hears_one_before_its_answer() {
    let now = epoch();
    let client = solicitor("fe80::9").address;
    let mut router = advertiser(7);
    router.handle_client(client, now);
    assert_eq!(sent(&mut router), [(Occasion::Client, ALL_NODES)], "faster than the word of the carrier");
    router.handle_carrier(true, now);
    assert_eq!(sent(&mut router), []);
    assert_eq!(router.next_deadline(), Some(now + MIN_DELAY_BETWEEN_RAS));
    // All nodes may not be told again, and this one may have come later than they were.
    let client = SocketAddrV6::new(*client.ip(), 546, 0, 3);
    router.handle_client(client, now + Duration::from_secs(2));
    assert_eq!(sent(&mut router), [(Occasion::Client, *client.ip())]);
    router.handle_client(client, now + Duration::from_secs(2));
    assert_eq!(sent(&mut router), [], "it has just heard one");
}

#[test]
fn the_last_one_says_that_it_is_no_router() {
    let now = epoch();
    let mut router = advertiser(7);
    router.handle_stop(now);
    assert_eq!(sent(&mut router), [], "nobody was told that there is a router");
    let mut router = running(7, now);
    router.handle_stop(now);
    assert_eq!(sent(&mut router), [(Occasion::Final, ALL_NODES)]);
    // And it is the last one, whatever comes.
    router.handle_stop(now);
    router.handle_carrier(true, now);
    router.handle_client(solicitor("fe80::9").address, now);
    assert_eq!((sent(&mut router), router.next_deadline()), (vec![], None));
}

#[test]
fn a_router_that_was_withdrawn_comes_back_when_it_may() {
    let now = epoch();
    let mut router = running(7, now);
    router.handle_withdrawal(now);
    assert_eq!(sent(&mut router), [(Occasion::Final, ALL_NODES)]);
    // Until then it is none, whatever comes.
    router.handle_withdrawal(now);
    router.handle_client(solicitor("fe80::9").address, now);
    assert_eq!((sent(&mut router), router.next_deadline()), (vec![], None));
    router.handle_carrier(true, now);
    let back = now + MIN_DELAY_BETWEEN_RAS;
    assert_eq!(
        (sent(&mut router), router.next_deadline()),
        (vec![], Some(back)),
        "nodes were just told otherwise"
    );
    router.handle_timeout(back);
    assert_eq!(sent(&mut router), [(Occasion::Initial, ALL_NODES)]);
    // Who has stopped for good does not.
    router.handle_stop(back);
    router.handle_withdrawal(back);
    router.handle_carrier(true, back);
    assert_eq!((sent(&mut router), router.next_deadline()), (vec![(Occasion::Final, ALL_NODES)], None));
}

#[test]
fn what_is_advertised_is_what_the_link_has() {
    let dns: Ipv6Addr = "2001:db8::53".parse().unwrap();
    let services = Services::new(vec![dns], vec!["mesh.example".parse().unwrap()], vec![]).unwrap();
    let router = Advertiser::new(Config { services: services.clone(), ..config() }, Fixed(0));
    let said = router.advertisement(Occasion::Periodic);
    let prefix = said.prefix.unwrap();
    assert_eq!((prefix.net, prefix.on_link, prefix.autonomous), (router.config.prefix.net(), true, false));
    assert!(prefix.preferred <= prefix.valid);
    assert_eq!((said.source_mac, said.mtu), (Some(Mac([2, 0, 0, 0, 0, 1])), Some(1500)));
    assert_eq!((said.dns, said.search), (vec![dns], services.search().to_vec()));
    assert!(Duration::from_secs(said.dns_lifetime.into()) >= MAX_RTR_ADV_INTERVAL * 3);
    // An MTU that no link of IPv6 has is not told.
    let mut small = advertiser(0);
    small.handle_mtu(0);
    assert_eq!(small.advertisement(Occasion::Periodic).mtu, None);
}

/// What can happen to a router in the model, and after how many milliseconds.
#[derive(Debug, Clone)]
enum Step {
    Solicit { source: Ipv6Addr },
    Client { source: Ipv6Addr },
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let sources = ["::", "fe80::9", "fe80::8", "2001:db8::12"];
    let source = proptest::sample::select(sources.to_vec()).prop_map(|text| text.parse().unwrap());
    let step = prop_oneof![
        3 => source.clone().prop_map(|source| Step::Solicit { source }),
        1 => source.prop_map(|source| Step::Client { source }),
        1 => Just(Step::Wait),
    ];
    proptest::collection::vec((0_u64..2500, step), 0..40)
}

proptest! {
    #[test]
    fn intervals_are_within_their_bounds(drawn in any::<u32>()) {
        let now = epoch();
        let interval = running(drawn, now).next_deadline().unwrap() - now;
        prop_assert!((MIN_RTR_ADV_INTERVAL..=MAX_RTR_ADV_INTERVAL).contains(&interval));
    }

    /// The limit of all nodes holds whatever comes, nobody waits for long, and a client is never answered before it
    /// could hear of the router.
    #[test]
    fn all_nodes_are_told_in_time_and_not_too_often(drawn in any::<u32>(), steps in steps()) {
        let mut now = epoch();
        let mut router = advertiser(drawn);
        router.handle_carrier(true, now);
        let mut heard: Vec<(Instant, Ipv6Addr)> =
            sent(&mut router).into_iter().map(|(_, to)| (now, to)).collect();
        let mut asked: Vec<(Instant, Ipv6Addr)> = Vec::new();
        for (wait, step) in steps {
            now += Duration::from_millis(wait);
            heard.extend(until(&mut router, now).into_iter().map(|(at, _, to)| (at, to)));
            match step {
                Step::Solicit { source } => {
                    router.handle_datagram(&solicitor(&source.to_string()), &SOLICITATION, now);
                    asked.push((now, source));
                }
                Step::Client { source } => {
                    router.handle_client(SocketAddrV6::new(source, 546, 0, 3), now);
                    heard.extend(sent(&mut router).into_iter().map(|(_, to)| (now, to)));
                    let told = |(at, to): &(Instant, Ipv6Addr)| {
                        (*to == source || *to == ALL_NODES) && now - *at < MIN_DELAY_BETWEEN_RAS
                    };
                    prop_assert!(heard.iter().any(told));
                }
                Step::Wait => {}
            }
        }
        heard.extend(until(&mut router, now + MAX_RTR_ADV_INTERVAL).into_iter().map(|(at, _, to)| (at, to)));
        let all: Vec<Instant> = heard.iter().filter(|(_, to)| *to == ALL_NODES).map(|(at, _)| *at).collect();
        for pair in all.windows(2) {
            prop_assert!(pair[1] - pair[0] >= MIN_DELAY_BETWEEN_RAS);
            prop_assert!(pair[1] - pair[0] <= MAX_RTR_ADV_INTERVAL);
        }
        for (when, source) in asked {
            let latest = when + MIN_DELAY_BETWEEN_RAS + MAX_RA_DELAY_TIME;
            let answer = |(at, to): &(Instant, Ipv6Addr)| {
                (when..=latest).contains(at) && (*to == source || *to == ALL_NODES)
            };
            prop_assert!(heard.iter().any(answer), "{source} heard nothing");
        }
    }

    #[test]
    fn octets_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut router = running(1, epoch());
        router.handle_datagram(&solicitor("fe80::9"), &bytes, epoch());
    }
}
