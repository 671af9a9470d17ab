use std::net::Ipv6Addr;

use super::*;
use crate::boot::FileName;
use crate::testing::{epoch, link, prefix};
use crate::wire::walk::{self, code};

mod clauses;
mod messages;
mod model;
mod options;
mod validation;

use messages::{Ask, Heard, association, class, client, hear};

fn config() -> Config {
    Config {
        link: link(),
        prefix: prefix(),
        server_id: ServerId::of_machine(link().near),
        lifetimes: DEFAULT_LIFETIMES,
        services: Services::default(),
    }
}

fn catalogue() -> Catalogue {
    Catalogue { x64: FileName::try_from("node.efi".to_owned()).ok(), arm64: None, ..Catalogue::default() }
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

fn ask_known(question: &Ask) -> Heard {
    ask(&mut known(), &client(1), question).remove(0)
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
