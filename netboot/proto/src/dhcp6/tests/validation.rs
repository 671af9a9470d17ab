//! Message validation `[RFC 9915 § 16]`, and what is said of datagrams, identifiers and options elsewhere.

use super::*;

/// What becomes of a message to a server that knows its client.
fn told(peer: &Peer, bytes: &[u8]) -> Vec<Effect> {
    let mut server = known();
    server.handle_datagram(peer, bytes, epoch());
    drain(&mut server)
}

fn ignored(peer: &Peer, reason: Ignored) -> Vec<Effect> {
    vec![Effect::Note(Event::Ignored { from: peer.address, reason })]
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
        (Ask { client_id: vec![], server_id: mine.clone(), ..good(3) }, Ignored::NoClientId),
        (Ask { client_id: vec![], ..good(4) }, Ignored::NoClientId),
        (Ask { client_id: vec![], server_id: mine.clone(), ..good(5) }, Ignored::NoClientId),
        (Ask { client_id: vec![], ..good(6) }, Ignored::NoClientId),
        (Ask { client_id: vec![], server_id: mine.clone(), ..good(8) }, Ignored::NoClientId),
        (Ask { client_id: vec![], server_id: mine.clone(), ..good(9) }, Ignored::NoClientId),
        (good(3), Ignored::OtherServer),
        (Ask { server_id: other.clone(), ..good(3) }, Ignored::OtherServer),
        (Ask { server_id: other.clone(), ..good(5) }, Ignored::OtherServer),
        (good(5), Ignored::OtherServer),
        (good(8), Ignored::OtherServer),
        (Ask { server_id: other.clone(), ..good(8) }, Ignored::OtherServer),
        (Ask { server_id: other.clone(), ..good(9) }, Ignored::OtherServer),
        (good(9), Ignored::OtherServer),
        (Ask { server_id: other, iaids: vec![], ..good(11) }, Ignored::OtherServer),
        (good(11), Ignored::Association),
        (Ask { iaids: vec![], prefixes: true, ..good(11) }, Ignored::Association),
        (good(4), Ignored::NothingToJudge),
        (good(2), Ignored::NotAClients(2)),
        (good(7), Ignored::NotAClients(7)),
        (good(10), Ignored::NotAClients(10)),
        (Ask { iaids: vec![], ..good(6) }, Ignored::NothingToJudge),
        (good(99), Ignored::NotAClients(99)),
    ];
    for (ask, reason) in cases {
        let mut server = known();
        server.handle_datagram(&client(1), &ask.bytes(), epoch());
        let note = Event::Ignored { from: client(1).address, reason };
        assert_eq!(drain(&mut server), [Effect::Note(note)], "{ask:?}");
    }
}

#[test]
fn no_message_to_a_unicast_address_is_answered() {
    let unicast = Peer { destination: prefix().near(), ..client(1) };
    for (kind, server_id) in [
        (1, None),
        (3, Some(server_id())),
        (4, None),
        (5, Some(server_id())),
        (6, None),
        (8, Some(server_id())),
    ] {
        let ask = Ask { addresses: vec![prefix().far()], ..Ask::new(1) }.again(kind, server_id);
        assert_eq!(told(&unicast, &ask.bytes()), ignored(&unicast, Ignored::Unicast), "{ask:?}");
        assert_eq!(answers(&told(&client(1), &ask.bytes())).len(), 1, "{ask:?}");
    }
}

#[test]
fn relayed_messages_are_refused_by_name() {
    let solicit = Ask::new(1).bytes();
    let head = [&[12, 0][..], &[0; 32], &[0, 9], &u16::try_from(solicit.len()).unwrap().to_be_bytes()];
    let relayed = [&head.concat()[..], &solicit].concat();
    assert_eq!(told(&client(1), &relayed), ignored(&client(1), Ignored::Relayed));
}

#[test]
fn unknown_message_types_are_discarded() {
    for kind in [0, 2, 7, 10].into_iter().chain(13..=255) {
        let ask = Ask { kind, ..Ask::new(1) };
        assert_eq!(told(&client(1), &ask.bytes()), ignored(&client(1), Ignored::NotAClients(kind)));
    }
}

#[test]
fn unknown_options_are_passed_over() {
    let mut further: Vec<(u16, Vec<u8>)> = (1000..1200).map(|code| (code, vec![1, 2, 3])).collect();
    further.push((code::VENDOR_CLASS, class(&[0, 0, 0xff, 0xff], b"anything")));
    further.push((17, [0; 9].to_vec()));
    // Server Unicast, which is obsolete, and Authentication, which is not spoken here.
    further.push((12, [0; 16].to_vec()));
    further.push((11, [3; 11].to_vec()));
    let plain = ask_known(&Ask::new(1));
    let heard = ask_known(&Ask { further, ..Ask::new(1) });
    assert_eq!(heard.options, plain.options);
}

#[test]
fn duids_are_opaque_and_echoed() {
    for duid in [vec![0xff, 0xff, 7], vec![0, 0, 0], vec![0x5a; 130], vec![0, 1, 0]] {
        let heard = ask_known(&Ask { client_id: duid.clone(), ..Ask::new(9) });
        assert_eq!(heard.option(code::CLIENTID), Some(duid));
        assert_eq!(heard.xid, [0, 0, 9]);
    }
    for duid in [vec![0, 4], vec![0; 131]] {
        let ask = Ask { client_id: duid, ..Ask::new(1) };
        assert!(answers(&told(&client(1), &ask.bytes())).is_empty());
    }
}

#[test]
fn answers_go_to_the_clients_port() {
    let address = SocketAddrV6::new(*client(1).address.ip(), 50_000, 0, 3);
    let effects = told(&Peer { address, ..client(1) }, &Ask::new(1).bytes());
    let to = SocketAddrV6::new(*address.ip(), CLIENT_PORT, 0, 3);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Send { to: sent, .. } if *sent == to)));
}

#[test]
fn nobody_is_answered_where_nobody_can_be() {
    for source in ["::", "ff02::1", "::1"] {
        let address = SocketAddrV6::new(source.parse().unwrap(), CLIENT_PORT, 0, 3);
        let peer = Peer { address, ..client(1) };
        assert_eq!(told(&peer, &Ask::new(1).bytes()), ignored(&peer, Ignored::Source));
    }
}

#[test]
fn the_servers_name_survives_a_restart() {
    let first = ask_known(&Ask::new(1)).option(code::SERVERID).unwrap();
    assert_eq!(ask_known(&Ask::new(2)).option(code::SERVERID).unwrap(), first);
    assert_eq!(first[..2], [0, 4], "DUID-UUID");
    assert_eq!(first.len(), 18);
}
