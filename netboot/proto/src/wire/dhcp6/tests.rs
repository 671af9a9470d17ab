use dhcproto::v6::Message as Decoded;

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
    for iaid in [7, 3] {
        answer.association(&Granted {
            kind: AssociationKind::Addresses,
            iaid,
            addresses: vec![(far, Lifetimes { preferred: 3600, valid: 7200 })],
            status: None,
        });
    }
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
