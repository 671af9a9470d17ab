use dhcproto::v6::{Message as Decoded, Status};

use super::*;
use crate::wire::walk::tests::edk2_solicit;

#[test]
fn a_firmwares_solicit_is_read_whole() {
    let message = Message::parse(&edk2_solicit()).unwrap();
    assert_eq!(message.kind, Kind::Solicit);
    assert_eq!(message.client_id.as_ref().map(Vec::len), Some(18));
    assert_eq!(message.requested, [59, 60, 23, 16]);
    assert_eq!(message.architectures, [16]);
    assert_eq!(message.vendor_classes[0].enterprise, 343);
    assert_eq!(message.vendor_classes[0].data, [b"HTTPClient:Arch:00016:UNDI:003000"]);
    let expected = Association { kind: AssociationKind::Addresses, iaid: 0xdead_beef, addresses: Vec::new() };
    assert_eq!(message.associations, [expected]);
}

#[test]
fn an_answers_options_all_survive() {
    let far = "2001:db8::12".parse().unwrap();
    let mut answer = Answer::new(AnswerKind::Reply, [1, 2, 3]);
    answer.bootfile_url("http://[2001:db8::11]/boot/node.efi");
    answer.vendor_class(343, b"HTTPClient");
    answer.architecture(16);
    answer.seconds(code::SOL_MAX_RT, 60);
    answer.client_id(&[0, 4, 9]);
    answer.server_id(&[0, 4, 8]);
    let granted = [7, 3].map(|iaid| Granted {
        kind: AssociationKind::Addresses,
        iaid,
        addresses: vec![(far, Lifetimes { preferred: 3600, valid: 7200 })],
        status: None,
    });
    answer.associations(&granted);
    let bytes = answer.emit();
    let walked = walk::walk(&bytes).unwrap();
    let codes: Vec<u16> = walked.options.iter().map(|option| option.code).collect();
    assert_eq!(codes, [1, 2, 3, 3, 16, 59, 61, 82]);
    let class = walked.options.iter().find(|option| option.code == 16).unwrap();
    assert_eq!(class.body, [&[0, 0, 1, 0x57, 0, 10][..], b"HTTPClient"].concat());
    // The client's order is kept.
    let iaids: Vec<&[u8]> =
        walked.options.iter().filter(|o| o.code == 3).map(|o| o.body.split_at(4).0).collect();
    assert_eq!(iaids, [[0, 0, 0, 7], [0, 0, 0, 3]]);
    // T1 and T2.
    assert_eq!(walked.options[2].body[4..12], [0, 0, 0x07, 0x08, 0, 0, 0x0b, 0x40]);

    let decoded = Decoded::decode(&mut Decoder::new(&bytes)).unwrap();
    assert_eq!(decoded.opts().iter().count(), walked.options.len());
}

#[test]
fn the_times_to_renew_are_shares_of_the_preferred_lifetime() {
    let lasting = |preferred| Lifetimes { preferred, valid: u32::MAX };
    assert_eq!(lasting(3600).renewal(), (1800, 2880));
    assert_eq!(lasting(Lifetimes::INFINITY).renewal(), (u32::MAX, u32::MAX));
    assert_eq!(Lifetimes::OVER.renewal(), (0, 0));
}

#[test]
fn an_association_with_an_address_goes_before_those_that_do_not_fit() {
    let far = "2001:db8::12".parse().unwrap();
    let leased = (far, Lifetimes { preferred: 3600, valid: 7200 });
    let refused = |iaid| Granted {
        kind: AssociationKind::Addresses,
        iaid,
        addresses: vec![],
        status: Some((Status::NoAddrsAvail, "a link has one address")),
    };
    let mut granted: Vec<Granted> = (0..100).map(refused).collect();
    granted.push(Granted { addresses: vec![leased], status: None, ..refused(100) });
    let mut answer = Answer::new(AnswerKind::Reply, [1, 2, 3]);
    answer.client_id(&[7; 130]);
    answer.associations(&granted);
    let bytes = answer.emit();
    assert!((MAX_ANSWER - 60..=MAX_ANSWER).contains(&bytes.len()), "{}", bytes.len());
    let walked = walk::walk(&bytes).unwrap();
    assert_eq!(walked.options.last().unwrap().body[..4], [0, 0, 0, 100]);
    assert_eq!(walked.options[1].body[..4], [0; 4], "in the client's order");
}

#[test]
fn relayed_and_unknown_messages_are_told_by_their_type_alone() {
    assert_eq!(Message::parse(&[12, 0, 1]), Err(ParseError::Relayed));
    for kind in [0, 2, 7, 10, 13, 14, 255] {
        assert_eq!(Message::parse(&[kind, 0xff, 0xff]), Err(ParseError::NotAClients(kind)));
    }
    assert_eq!(Message::parse(&[]), Err(ParseError::Walk(WalkError::Short(0))));
    assert_eq!(Message::parse(&[1, 0]), Err(ParseError::Walk(WalkError::Short(2))));
}
