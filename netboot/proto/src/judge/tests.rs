use proptest::prelude::*;

use super::*;
use crate::testing::{epoch, link, prefix};
use crate::wire::icmp6::{RouterAdvertisement, RouterPreference};

const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OURS_TOO: Mac = Mac([2, 0, 0, 0, 1, 1]);
const SOLICITATION: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];
const HOLD_DOWN: Duration = Duration::from_secs(100);

fn station(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 9, number])
}

fn peer(mac: Mac) -> Peer {
    Peer {
        address: SocketAddrV6::new(mac.link_local(), 546, 0, 3),
        mac: Some(mac),
        destination: "ff02::1".parse().unwrap(),
        hop_limit: Some(255),
    }
}

fn server_id() -> ServerId {
    ServerId::of_machine(link().near)
}

/// A judge of a link that carries since the epoch.
fn judge() -> Judge {
    let mut judge = Judge::new(Config {
        prefix: prefix(),
        site: "2001:db8::/71".parse().unwrap(),
        mac: OURS,
        server_id: server_id(),
        hold_down: HOLD_DOWN,
        seed: 0,
    });
    judge.handle_own(BTreeMap::from([(OURS, "eth0".to_owned()), (OURS_TOO, "eth1".to_owned())]));
    judge.handle_carrier(true, base());
    judge
}

fn advertisement(net: Option<&str>, autonomous: bool, router_lifetime: u16) -> Bytes {
    let prefix = net.map(|net| PrefixInformation {
        net: net.parse().unwrap(),
        on_link: true,
        autonomous,
        valid: 7200,
        preferred: 3600,
    });
    let advertisement = RouterAdvertisement {
        cur_hop_limit: 64,
        managed: true,
        other: true,
        preference: RouterPreference::Medium,
        router_lifetime,
        source_mac: None,
        mtu: None,
        prefix,
        dns: Vec::new(),
        search: Vec::new(),
        dns_lifetime: 0,
    };
    advertisement.emit()
}

/// What a node at the far end says at its own end of the cable.
fn of_a_node() -> Bytes {
    advertisement(Some("2001:db8::4:210/126"), false, 1800)
}

fn client_message(kind: u8, server: Option<&[u8]>) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 1, 0, 1, 0, 3, 0, 3, 1];
    if let Some(id) = server {
        message.extend([0, 2, 0, u8::try_from(id.len()).unwrap()]);
        message.extend(id);
    }
    message
}

fn answer(id: &[u8]) -> Vec<u8> {
    let mut message = client_message(7, Some(id));
    message[0] = 7;
    message
}

fn kinds(judge: &Judge) -> Vec<FaultKind> {
    judge.judgement().faults.iter().map(LinkFault::kind).collect()
}

fn after(seconds: u64) -> Instant {
    base() + Duration::from_secs(seconds)
}

/// One moment for a whole test.
fn base() -> Instant {
    static BASE: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *BASE.get_or_init(epoch)
}

#[test]
fn one_machine_that_boots_is_what_a_cable_is_for() {
    let mut judge = judge();
    for second in 0..300 {
        judge.handle_icmp6(&peer(station(1)), &SOLICITATION, after(second));
        judge.handle_client(&peer(station(1)), &client_message(1, None), after(second));
        judge.handle_client(
            &peer(station(1)),
            &client_message(3, Some(server_id().as_bytes())),
            after(second),
        );
        judge.handle_timeout(after(second));
    }
    assert_eq!(
        judge.judgement(),
        Judgement { faults: vec![], serves: true, advertises: true, forced: false, neighbour: false }
    );
}

#[test]
fn a_node_at_the_far_end_advertises_and_answers_and_is_no_stranger() {
    let mut judge = judge();
    // Its server may be heard before it advertises itself.
    judge.handle_server(&peer(station(1)), &answer(&[0, 4, 9, 9]), after(0));
    judge.handle_icmp6(&peer(station(1)), &of_a_node(), after(4));
    // Its routing daemon says a word of its own, and its router goes for a restart.
    judge.handle_icmp6(&peer(station(1)), &advertisement(None, false, 1800), after(5));
    judge.handle_icmp6(&peer(station(1)), &advertisement(Some("2001:db8::4:210/126"), false, 0), after(6));
    judge.handle_server(&peer(station(1)), &answer(&[0, 4, 9, 9]), after(20));
    judge.handle_timeout(after(60));
    assert_eq!(kinds(&judge), []);
}

#[test]
fn two_machines_take_turns_and_one_that_replaces_another_does_not() {
    let mut judge = judge();
    let mut speak = |number, second| {
        judge.handle_client(&peer(station(number)), &client_message(1, None), after(second));
        judge.judgement()
    };
    assert!(speak(1, 0).serves && speak(2, 1).serves && speak(2, 30).serves);
    // The first is put back.
    assert!(speak(1, 40).serves);
    // And now both are there.
    let judgement = speak(2, 41);
    assert_eq!(judgement.faults, [LinkFault::TwoMachines { macs: vec![station(1), station(2)] }]);
    assert!(!judgement.serves && !judgement.advertises);
    let judgement = speak(3, 42);
    assert_eq!(judgement.faults, [LinkFault::TwoMachines { macs: vec![station(1), station(2), station(3)] }]);
}

#[test]
fn the_host_of_a_virtual_port_is_no_machine() {
    let mut judge = judge();
    let mut speak = |mac: Mac, second| {
        judge.handle_icmp6(&peer(mac), &of_a_node(), after(second));
        judge.judgement().serves
    };
    let Mac([_, a, b, c, d, e]) = OURS;
    for turn in 0..5 {
        assert!(speak(Mac([0xfe, a, b, c, d, e]), 2 * turn) && speak(station(1), 2 * turn + 1));
    }
    // Of another port it may be one.
    let another = Mac([0xfe, a, b, c, d, e ^ 1]);
    assert!(!(0..5).all(|turn| speak(another, 20 + 2 * turn) && speak(station(1), 21 + 2 * turn)));
}

#[test]
fn a_dock_whose_firmware_has_another_address_than_its_system_is_one_machine() {
    let mut judge = judge();
    for boot in 0..10 {
        for second in 0..20 {
            judge.handle_client(&peer(station(1)), &client_message(1, None), after(boot * 60 + second));
        }
        for second in 20..50 {
            judge.handle_icmp6(&peer(station(2)), &of_a_node(), after(boot * 60 + second));
        }
    }
    assert_eq!(kinds(&judge), []);
}

#[test]
fn a_node_at_the_far_end_is_known_until_it_has_been_silent() {
    let mut judge = judge();
    judge.handle_icmp6(&peer(station(1)), &of_a_node(), after(1));
    assert!(judge.judgement().neighbour);
    judge.handle_timeout(after(60));
    assert!(judge.judgement().neighbour);
    judge.handle_timeout(after(61));
    assert_eq!((judge.judgement().neighbour, kinds(&judge)), (false, vec![]));
}

#[test]
fn a_node_keeps_its_neighbour_when_a_third_machine_is_put_between_them() {
    let mut judge = judge();
    for second in 0..8 {
        judge.handle_icmp6(&peer(station(1)), &of_a_node(), after(second * 2));
        judge.handle_icmp6(&peer(station(2)), &SOLICITATION, after(second * 2 + 1));
    }
    assert_eq!(kinds(&judge), [FaultKind::TwoMachines]);
    let judgement = judge.judgement();
    assert!(!judgement.serves && judgement.advertises);
}

#[test]
fn routers_of_other_networks_are_named() {
    let cases: [(Bytes, &[FaultKind]); 6] = [
        (advertisement(Some("fd00::/64"), true, 1800), &[FaultKind::ForeignPrefix, FaultKind::SecondRouter]),
        (advertisement(Some("fd00::/64"), true, 0), &[FaultKind::ForeignPrefix]),
        (advertisement(None, false, 1800), &[FaultKind::SecondRouter]),
        (advertisement(None, false, 0), &[]),
        // Ours, by somebody else.
        (
            advertisement(Some("2001:db8::10/126"), false, 1800),
            &[FaultKind::ForeignPrefix, FaultKind::SecondRouter],
        ),
        // No node makes hosts give themselves addresses.
        (
            advertisement(Some("2001:db8::4:210/126"), true, 1800),
            &[FaultKind::ForeignPrefix, FaultKind::SecondRouter],
        ),
    ];
    for (bytes, expected) in cases {
        let mut judge = judge();
        judge.handle_icmp6(&peer(station(1)), &bytes, after(1));
        assert_eq!(kinds(&judge), expected);
        assert_eq!(judge.judgement().advertises, expected.is_empty());
    }
    // Not from this link.
    let mut judge = judge();
    let far_away = Peer { hop_limit: Some(254), ..peer(station(1)) };
    judge.handle_icmp6(&far_away, &advertisement(None, false, 1800), after(1));
    assert_eq!(kinds(&judge), []);
}

#[test]
fn another_server_is_known_by_its_answer_and_by_those_who_ask_it() {
    let mut judge = judge();
    judge.handle_server(&peer(station(1)), &answer(&[0, 1, 7]), after(0));
    judge.handle_timeout(after(8));
    assert_eq!(kinds(&judge), [], "it may be a node that has not advertised itself yet");
    judge.handle_timeout(after(9));
    let server = Some(station(1).link_local());
    assert_eq!(judge.judgement().faults, [LinkFault::SecondDhcpServer { server, duid: "000107".to_owned() }]);

    let mut judge = self::judge();
    for kind in [5, 8] {
        judge.handle_client(&peer(station(1)), &client_message(kind, Some(&[0, 1, 7])), after(0));
        assert_eq!(kinds(&judge), [], "of the cable that the machine was on before");
    }
    judge.handle_client(&peer(station(1)), &client_message(3, Some(&[0, 1, 7])), after(0));
    assert_eq!(
        judge.judgement().faults,
        [LinkFault::SecondDhcpServer { server: None, duid: "000107".to_owned() }]
    );
}

#[test]
fn whatever_of_ours_comes_back_is_a_loop_and_names_its_port() {
    let own = |mac| peer(mac);
    let mut judges = [judge(), judge(), judge(), judge()];
    judges[0].handle_icmp6(&own(OURS), &SOLICITATION, after(0));
    judges[1].handle_icmp6(&own(OURS_TOO), &advertisement(Some("2001:db8::14/126"), false, 1800), after(0));
    judges[2].handle_client(&own(OURS_TOO), &client_message(11, None), after(0));
    judges[3].handle_server(&own(OURS), &answer(server_id().as_bytes()), after(0));
    let ports = judges.map(|judge| judge.judgement().faults);
    let looped = |port: &str| vec![LinkFault::Looped { port: port.to_owned() }];
    assert_eq!(ports, [looped("eth0"), looped("eth1"), looped("eth1"), looped("eth0")]);
}

#[test]
fn a_fault_ends_with_the_hold_down_or_the_carrier_and_is_told_once() {
    let mut judge = judge();
    let told = |judge: &mut Judge| {
        let mut told = Vec::new();
        while let Some(effect) = judge.poll_effect() {
            if let JudgeEffect::Judged(judgement) = effect {
                told.push(judgement.serves);
            }
        }
        told
    };
    assert!(told(&mut judge).is_empty());
    for second in 0..5 {
        judge.handle_icmp6(&peer(OURS), &SOLICITATION, after(second));
    }
    assert_eq!(told(&mut judge), [false]);
    judge.handle_timeout(after(4) + HOLD_DOWN - Duration::from_millis(1));
    assert!(told(&mut judge).is_empty());
    judge.handle_timeout(after(4) + HOLD_DOWN);
    assert_eq!(told(&mut judge), [true]);

    judge.handle_icmp6(&peer(OURS), &SOLICITATION, after(200));
    judge.handle_carrier(false, after(201));
    assert_eq!(told(&mut judge), [false, true]);
    // Without a carrier nothing is heard; a late packet is of the cable that was pulled.
    judge.handle_icmp6(&peer(OURS), &SOLICITATION, after(201));
    assert!(told(&mut judge).is_empty());
    assert_eq!(judge.next_deadline(), None);
}

#[test]
fn the_operator_has_the_last_word() {
    let mut judge = judge();
    judge.handle_icmp6(&peer(OURS), &SOLICITATION, after(0));
    judge.handle_forced(true);
    let judgement = judge.judgement();
    assert!(judgement.serves && judgement.advertises && judgement.forced && judgement.faults.len() == 1);
    judge.handle_forced(false);
    assert!(!judge.judgement().serves);
}

#[test]
fn others_are_asked_as_long_as_the_carrier_is_there() {
    let mut judge = judge();
    let mut asked = 0;
    while let Some(at) = judge.next_deadline().filter(|at| *at < base() + Duration::from_secs(100)) {
        judge.handle_timeout(at);
    }
    let mut transactions = BTreeSet::new();
    while let Some(effect) = judge.poll_effect() {
        if let JudgeEffect::Ask { bytes, to } = effect {
            asked += 1;
            assert_eq!((*to.ip(), to.port()), (ALL_SERVERS, SERVER_PORT));
            transactions.insert(bytes[1..4].to_vec());
        }
    }
    // At 0, 3, 6, 26, 46, 66 and 86 s.
    assert_eq!((asked, transactions.len()), (7, 7));
}

/// Something that happens on a link.
#[derive(Debug, Clone)]
enum Step {
    Solicitation(u8),
    OfANode(u8),
    Stranger(u8),
    Client(u8, u8),
    OtherRequest(u8),
    Answer(u8),
    Own,
    Wait(u64),
    Carrier(bool),
    Forced(bool),
    Noise(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..4u8).prop_map(Step::Solicitation),
        (1..4u8).prop_map(Step::OfANode),
        (1..4u8).prop_map(Step::Stranger),
        (1..4u8, prop_oneof![Just(1u8), Just(3), Just(5), Just(11)])
            .prop_map(|(who, kind)| Step::Client(who, kind)),
        (1..4u8).prop_map(Step::OtherRequest),
        (1..4u8).prop_map(Step::Answer),
        Just(Step::Own),
        (0..70u64).prop_map(Step::Wait),
        any::<bool>().prop_map(Step::Carrier),
        any::<bool>().prop_map(Step::Forced),
        proptest::collection::vec(any::<u8>(), 0..60).prop_map(Step::Noise),
    ]
}

fn play(judge: &mut Judge, step: &Step, now: &mut Instant) {
    match step {
        Step::Solicitation(who) => judge.handle_icmp6(&peer(station(*who)), &SOLICITATION, *now),
        Step::OfANode(who) => judge.handle_icmp6(&peer(station(*who)), &of_a_node(), *now),
        Step::Stranger(who) => {
            judge.handle_icmp6(&peer(station(*who)), &advertisement(Some("fd00::/64"), true, 1800), *now);
        }
        Step::Client(who, kind) => {
            let id = server_id();
            let server = matches!(kind, 3 | 5).then(|| id.as_bytes());
            judge.handle_client(&peer(station(*who)), &client_message(*kind, server), *now);
        }
        Step::OtherRequest(who) => {
            judge.handle_client(&peer(station(*who)), &client_message(3, Some(&[9])), *now)
        }
        Step::Answer(who) => judge.handle_server(&peer(station(*who)), &answer(&[9]), *now),
        Step::Own => judge.handle_icmp6(&peer(OURS), &SOLICITATION, *now),
        Step::Wait(seconds) => {
            let until = *now + Duration::from_secs(*seconds);
            while let Some(at) = judge.next_deadline().filter(|at| *at <= until) {
                *now = at.max(*now);
                judge.handle_timeout(*now);
            }
            *now = until;
        }
        Step::Carrier(carrier) => judge.handle_carrier(*carrier, *now),
        Step::Forced(forced) => judge.handle_forced(*forced),
        Step::Noise(octets) => {
            judge.handle_icmp6(&peer(station(1)), octets, *now);
            judge.handle_client(&peer(station(1)), octets, *now);
            judge.handle_server(&peer(station(1)), octets, *now);
        }
    }
}

proptest! {
    #[test]
    fn a_link_is_served_if_and_only_if_nothing_is_wrong_or_the_operator_wants_it(
        steps in proptest::collection::vec(step(), 0..80),
    ) {
        let (mut judge, mut now) = (judge(), base());
        let mut told = judge.judgement();
        for step in &steps {
            play(&mut judge, step, &mut now);
            let judgement = judge.judgement();
            prop_assert_eq!(judgement.serves, judgement.forced || judgement.faults.is_empty());
            prop_assert!(judgement.advertises || !judgement.serves);
            while let Some(effect) = judge.poll_effect() {
                if let JudgeEffect::Judged(judgement) = effect {
                    prop_assert_ne!(&judgement, &told);
                    told = judgement;
                }
            }
            prop_assert_eq!(&told, &judgement, "whoever listens knows what was judged");
            prop_assert!(judge.next_deadline().is_none_or(|at| at > now) || !judge.faults.is_empty());
        }
        // Silence heals.
        play(&mut judge, &Step::Wait(HOLD_DOWN.as_secs() + SERVER_PATIENCE.as_secs() + 1), &mut now);
        play(&mut judge, &Step::Wait(HOLD_DOWN.as_secs() + 1), &mut now);
        prop_assert_eq!(kinds(&judge), []);
    }

    #[test]
    fn one_machine_of_the_mesh_is_never_judged(
        steps in proptest::collection::vec(step().prop_filter("good", |step| match step {
            Step::Solicitation(who) | Step::OfANode(who) | Step::Client(who, _) => *who == 1,
            Step::Wait(_) | Step::Carrier(_) | Step::Forced(_) => true,
            Step::Stranger(_) | Step::OtherRequest(_) | Step::Answer(_) | Step::Own | Step::Noise(_) => false,
        }), 0..80),
    ) {
        let (mut judge, mut now) = (judge(), base());
        for step in &steps {
            play(&mut judge, step, &mut now);
            prop_assert_eq!(kinds(&judge), []);
        }
    }
}
