use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::boot::FileName;
use crate::testing::{epoch, link, prefix};
use crate::wire::walk::{self, code};

mod messages;

use messages::{Ask, Heard, client, hear};

fn config() -> Config {
    Config {
        link: link(),
        prefix: prefix(),
        server_id: ServerId::of_machine(link().near),
        lifetimes: DEFAULT_LIFETIMES,
        dns: Vec::new(),
    }
}

fn catalogue() -> Catalogue {
    Catalogue { x64: FileName::try_from("node.efi".to_owned()).ok(), arm64: None }
}

fn server() -> Server {
    Server::new(config(), catalogue(), None)
}

/// A server whose ledger knows the client of [`client`].
fn known() -> Server {
    let far = Far { mac: client(1).mac.unwrap(), machine: None };
    Server::new(config(), catalogue(), Some(far))
}

fn server_id() -> Vec<u8> {
    config().server_id.as_bytes().to_vec()
}

/// Everything that is there to be polled, with commits confirmed as they come.
fn drain(server: &mut Server) -> Vec<Effect> {
    let mut effects = Vec::new();
    while let Some(effect) = server.poll_effect() {
        if let Effect::Commit(change) = &effect {
            server.handle_committed(change);
        }
        effects.push(effect);
    }
    effects
}

fn answers(effects: &[Effect]) -> Vec<Heard> {
    let sends = effects.iter().filter_map(|effect| match effect {
        Effect::Send { bytes, .. } => Some(hear(bytes)),
        Effect::Commit(_) | Effect::Note(_) => None,
    });
    sends.collect()
}

fn ask(server: &mut Server, peer: &Peer, ask: &Ask) -> Vec<Heard> {
    server.handle_datagram(peer, &ask.bytes(), epoch());
    answers(&drain(server))
}

fn commits(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Commit(_))).count()
}

#[test]
fn a_firmware_by_http_gets_all_it_wants() {
    let mut server = server();
    let edk2 = walk::tests::edk2_solicit();
    server.handle_datagram(&client(1), &edk2, epoch());
    let heard = answers(&drain(&mut server)).remove(0);
    assert_eq!(heard.kind, 2);
    assert_eq!(heard.xid, [0xaa, 0xbb, 0xcc]);
    assert_eq!(heard.option(code::CLIENTID).unwrap().len(), 18);
    assert_eq!(heard.option(code::SERVERID).unwrap(), server_id());
    assert_eq!(heard.option(code::PREFERENCE).unwrap(), [255]);
    assert_eq!(heard.addresses(), [(0xdead_beef, prefix().far(), 7200)]);
    assert_eq!(heard.url(), Some("http://[2001:db8::11]/boot/node.efi".to_owned()));
    assert_eq!(
        heard.option(code::VENDOR_CLASS).unwrap(),
        [&[0, 0, 1, 0x57, 0, 10][..], b"HTTPClient"].concat()
    );
    assert_eq!(heard.option(12), None);
    assert_eq!(heard.option(60), None);
}

#[test]
fn what_was_not_asked_for_is_not_sent() {
    let bare = Ask { requested: vec![], architecture: Some(7), ..Ask::new(1) };
    let heard = ask(&mut server(), &client(1), &bare).remove(0);
    let codes: Vec<u16> = heard.options.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [code::CLIENTID, code::SERVERID, code::IA_NA, code::PREFERENCE]);
}

#[test]
fn ten_identities_in_a_row_get_the_one_address_of_the_link() {
    let mut server = server();
    let mut all_commits = 0;
    for number in 0..10 {
        let mut solicit = Ask { iaids: vec![number.into()], ..Ask::new(1) };
        solicit.client_id = vec![0, 4, number, number];
        server.handle_datagram(&client(1), &solicit.bytes(), epoch());
        let effects = drain(&mut server);
        all_commits += commits(&effects);
        assert_eq!(answers(&effects)[0].addresses(), [(number.into(), prefix().far(), 7200)]);
        let request = Ask { kind: 3, server_id: Some(server_id()), ..solicit.clone() };
        assert_eq!(ask(&mut server, &client(1), &request)[0].addresses()[0].1, prefix().far());
        let release = Ask { kind: 8, addresses: vec![prefix().far()], ..request };
        let heard = ask(&mut server, &client(1), &release).remove(0);
        assert_eq!((heard.status(), heard.addresses()), (Some(0), vec![]));
    }
    assert_eq!(all_commits, 1, "the ledger was told once");
}

#[test]
fn a_known_link_is_served_without_the_ledger() {
    let mut server = known();
    server.handle_datagram(&client(1), &Ask::new(1).bytes(), epoch());
    let effects = drain(&mut server);
    assert_eq!(commits(&effects), 0);
    assert_eq!(answers(&effects).len(), 1);
}

#[test]
fn another_station_is_written_before_it_is_answered() {
    let mut server = known();
    server.handle_datagram(&client(2), &Ask::new(1).bytes(), epoch());
    let effects = drain(&mut server);
    let Some(Effect::Commit(Change::Attach(attached))) = effects.first() else { panic!("{effects:?}") };
    assert_eq!(attached.far, Far { mac: client(2).mac.unwrap(), machine: None });
    assert_eq!(attached.prefix, prefix());
    assert_eq!(answers(&effects).len(), 1);
}

#[test]
fn a_failed_commit_is_silence_and_a_reason_and_a_retry_tries_again() {
    let mut server = server();
    for round in 0..2 {
        server.handle_datagram(&client(1), &Ask::new(1).bytes(), epoch());
        let Some(Effect::Commit(change)) = server.poll_effect() else { panic!("round {round}") };
        assert_eq!(server.poll_effect(), None);
        server.handle_commit_failed(&change, "the API is away".to_owned());
        let reason = Refusal::Ledger("the API is away".to_owned());
        let refused = Event::Refused { mac: client(1).mac, reason };
        assert_eq!(server.poll_effect(), Some(Effect::Note(refused)));
        assert_eq!(server.poll_effect(), None);
    }
    server.handle_datagram(&client(1), &Ask::new(1).bytes(), epoch());
    assert_eq!(answers(&drain(&mut server)).len(), 1);
}

#[test]
fn while_a_commit_is_on_its_way_others_wait_or_are_told() {
    let mut server = server();
    let now = epoch();
    server.handle_datagram(&client(1), &Ask::new(1).bytes(), now);
    let Some(Effect::Commit(change)) = server.poll_effect() else { panic!() };
    server.handle_datagram(&client(2), &Ask::new(2).bytes(), now);
    let busy = Event::Refused { mac: client(2).mac, reason: Refusal::Busy(client(1).mac.unwrap()) };
    assert_eq!(server.poll_effect(), Some(Effect::Note(busy)));
    for transaction in 10..30 {
        server.handle_datagram(&client(1), &Ask::new(transaction).bytes(), now);
    }
    assert_eq!(server.poll_effect(), None);
    server.handle_committed(&change);
    let kept = answers(&drain(&mut server));
    assert_eq!(kept.iter().map(|heard| heard.xid[2]).collect::<Vec<_>>(), [26, 27, 28, 29]);
}

#[test]
fn a_slow_ledger_is_reported_and_old_answers_are_dropped() {
    let mut server = server();
    let now = epoch();
    server.handle_datagram(&client(1), &Ask::new(1).bytes(), now);
    let Some(Effect::Commit(change)) = server.poll_effect() else { panic!() };
    let deadline = server.next_deadline().unwrap();
    assert_eq!(deadline, now + COMMIT_PATIENCE);
    server.handle_timeout(deadline);
    let slow = Event::Refused { mac: client(1).mac, reason: Refusal::LedgerSlow { seconds: 10 } };
    assert_eq!(server.poll_effect(), Some(Effect::Note(slow)));
    server.handle_committed(&change);
    assert_eq!(drain(&mut server), []);
    assert_eq!(ask(&mut server, &client(1), &Ask::new(2)).len(), 1);
    assert_eq!(server.next_deadline(), None);
}

#[test]
fn a_crowd_on_a_link_does_not_flood_the_ledger() {
    let mut server = server();
    let mut effects = Vec::new();
    for station in 0..50 {
        server.handle_datagram(&client(station), &Ask::new(1).bytes(), epoch());
        effects.extend(drain(&mut server));
    }
    assert_eq!(commits(&effects), 8);
    let nobody = Peer { mac: None, ..client(1) };
    server.handle_datagram(&nobody, &Ask::new(1).bytes(), epoch());
    let refused = Event::Refused { mac: None, reason: Refusal::UnknownStation };
    assert_eq!(drain(&mut server), [Effect::Note(refused)]);
}

#[test]
fn messages_that_break_the_rules_are_dropped() {
    let other = Some(vec![0, 4, 1]);
    let mine = Some(server_id());
    let good = |kind| Ask { kind, ..Ask::new(1) };
    let cases = [
        (Ask { server_id: mine.clone(), ..good(1) }, Ignored::ServerId),
        (Ask { server_id: mine.clone(), ..good(4) }, Ignored::ServerId),
        (Ask { server_id: mine.clone(), ..good(6) }, Ignored::ServerId),
        (Ask { client_id: vec![], ..good(1) }, Ignored::NoClientId),
        (good(3), Ignored::OtherServer),
        (Ask { server_id: other.clone(), ..good(3) }, Ignored::OtherServer),
        (Ask { server_id: other.clone(), ..good(5) }, Ignored::OtherServer),
        (good(8), Ignored::OtherServer),
        (good(9), Ignored::OtherServer),
        (Ask { server_id: other, iaids: vec![], ..good(11) }, Ignored::OtherServer),
        (good(11), Ignored::Association),
        (good(4), Ignored::NothingToJudge),
        (good(2), Ignored::NotAClients(2)),
        (good(7), Ignored::NotAClients(7)),
        (good(10), Ignored::NotAClients(10)),
        (good(12), Ignored::NotAClients(12)),
        (good(99), Ignored::NotAClients(99)),
    ];
    for (ask, reason) in cases {
        let mut server = known();
        server.handle_datagram(&client(1), &ask.bytes(), epoch());
        let note = Event::Ignored { from: client(1).address, reason };
        assert_eq!(drain(&mut server), [Effect::Note(note)], "{ask:?}");
    }
    let unicast = Peer { destination: prefix().near(), ..client(1) };
    for kind in [1, 4, 6, 11] {
        let mut server = known();
        server.handle_datagram(&unicast, &good(kind).bytes(), epoch());
        let note = Event::Ignored { from: client(1).address, reason: Ignored::Unicast };
        assert_eq!(drain(&mut server), [Effect::Note(note)]);
    }
}

#[test]
fn each_message_has_the_answer_of_its_section() {
    let far = prefix().far();
    let foreign = "2001:db8:9::9".parse().unwrap();
    let mine = Some(server_id());
    let say = |ask: Ask| ask_known(&ask);
    // 18.3.1: Rapid Commit.
    let heard = say(Ask { rapid: true, ..Ask::new(1) });
    assert_eq!((heard.kind, heard.option(code::RAPID_COMMIT)), (7, Some(vec![])));
    assert_eq!(heard.option(code::PREFERENCE), None);
    // 18.3.2: Request with an address of another link.
    let request = Ask { kind: 3, server_id: mine.clone(), ..Ask::new(1) };
    let heard = say(Ask { addresses: vec![foreign], ..request.clone() });
    assert_eq!((heard.addresses(), heard.association_status(0)), (vec![], Some(4)));
    // 18.3.3: Confirm.
    let confirm = Ask { kind: 4, ..Ask::new(1) };
    assert_eq!(say(Ask { addresses: vec![far], ..confirm.clone() }).status(), Some(0));
    assert_eq!(say(Ask { addresses: vec![far, foreign], ..confirm }).status(), Some(4));
    // 18.3.4 and 18.3.5: Renew and Rebind.
    for (kind, server_id) in [(5, mine.clone()), (6, None)] {
        let renew = Ask { kind, server_id, addresses: vec![foreign, far], ..Ask::new(1) };
        assert_eq!(say(renew).addresses(), [(1, far, 7200), (1, foreign, 0)]);
    }
    // 18.3.6: Information-request, also without a client identifier.
    let information =
        Ask { kind: 11, iaids: vec![], client_id: vec![], requested: vec![32, 82], ..Ask::new(1) };
    let heard = say(information);
    let codes: Vec<u16> = heard.options.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [code::SERVERID, 32, 82]);
    // 18.3.7 and 18.3.8: Release and Decline.
    for kind in [8, 9] {
        let giving_back = Ask { kind, server_id: mine.clone(), addresses: vec![far], ..Ask::new(1) };
        let heard = say(giving_back.clone());
        assert_eq!((heard.status(), heard.association_status(0)), (Some(0), None));
        let heard = say(Ask { addresses: vec![foreign], ..giving_back });
        assert_eq!((heard.status(), heard.association_status(0)), (Some(0), Some(3)));
    }
}

fn ask_known(question: &Ask) -> Heard {
    ask(&mut known(), &client(1), question).remove(0)
}

#[test]
fn one_association_of_several_has_the_address_and_the_others_are_told() {
    let heard = ask_known(&Ask { iaids: vec![5, 6], prefixes: true, temporary: true, ..Ask::new(1) });
    assert_eq!(heard.addresses(), [(5, prefix().far(), 7200)]);
    assert_eq!(heard.association_status(1), Some(2));
    assert_eq!(heard.nested_status(code::IA_TA), Some(2));
    assert_eq!(heard.nested_status(code::IA_PD), Some(6));
}

#[test]
fn a_decline_and_a_release_are_reported() {
    let mut server = known();
    let release = Ask { kind: 8, server_id: Some(server_id()), ..Ask::new(1) };
    server.handle_datagram(&client(1), &release.bytes(), epoch());
    let from = client(1).address;
    assert!(drain(&mut server).contains(&Effect::Note(Event::Released { from })));
    server.handle_datagram(&client(1), &Ask { kind: 9, ..release }.bytes(), epoch());
    assert!(drain(&mut server).contains(&Effect::Note(Event::Declined { from })));
}

/// What can happen to a server in the model.
#[derive(Debug, Clone)]
enum Step {
    Ask { station: u8, kind: u8, rapid: bool },
    Committed,
    Failed,
    Wait { seconds: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u8..3, prop_oneof![Just(1_u8), Just(3), Just(4), Just(5), Just(6), Just(8)], any::<bool>())
            .prop_map(|(station, kind, rapid)| Step::Ask { station, kind, rapid }),
        2 => Just(Step::Committed),
        1 => Just(Step::Failed),
        1 => (0_u64..30).prop_map(|seconds| Step::Wait { seconds }),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// The rule of the house: no packet gives the address to a station that the ledger has not got.
    #[test]
    fn no_address_is_spoken_before_it_is_written(steps in steps()) {
        let mut server = server();
        let mut now = epoch();
        let mut written = BTreeSet::new();
        let mut open: Option<Change> = None;
        for step in steps {
            match step {
                Step::Ask { station, kind, rapid } => {
                    let server_id = matches!(kind, 3 | 5 | 8).then(server_id);
                    let ask = Ask { kind, rapid, server_id, addresses: vec![prefix().far()], ..Ask::new(1) };
                    server.handle_datagram(&client(station), &ask.bytes(), now);
                }
                Step::Committed => if let Some(change) = open.take() {
                    if let Change::Attach(link) = &change {
                        written.clear();
                        written.insert(link.far.mac);
                    }
                    server.handle_committed(&change);
                },
                Step::Failed => if let Some(change) = open.take() {
                    server.handle_commit_failed(&change, "away".to_owned());
                },
                Step::Wait { seconds } => {
                    now += Duration::from_secs(seconds);
                    server.handle_timeout(now);
                }
            }
            let mut leased_to = None;
            while let Some(effect) = server.poll_effect() {
                match effect {
                    Effect::Commit(change) => {
                        prop_assert!(open.is_none(), "one change at a time");
                        open = Some(change);
                    }
                    Effect::Note(Event::Answered(answered)) => {
                        leased_to = answered.leased.then_some(answered.mac).flatten();
                    }
                    Effect::Send { bytes, .. } => {
                        let speaks = hear(&bytes).addresses().iter().any(|(_, _, valid)| *valid > 0);
                        if speaks {
                            prop_assert!(leased_to.is_some_and(|mac| written.contains(&mac)));
                        }
                    }
                    Effect::Note(_) => {}
                }
            }
        }
    }

    #[test]
    fn octets_never_panic_and_every_answer_adds_up(
        kind in 0_u8..14,
        options in proptest::collection::vec((0_u16..90, proptest::collection::vec(any::<u8>(), 0..40)), 0..10),
    ) {
        let mut bytes = vec![kind, 1, 2, 3];
        bytes.extend([0, 1, 0, 3, 1, 2, 3]);
        for (code, body) in options {
            bytes.extend(code.to_be_bytes());
            bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
            bytes.extend(body);
        }
        let mut server = known();
        server.handle_datagram(&client(1), &bytes, epoch());
        for effect in drain(&mut server) {
            if let Effect::Send { bytes, .. } = effect {
                prop_assert!(walk::walk(&bytes).is_ok());
            }
        }
    }
}
