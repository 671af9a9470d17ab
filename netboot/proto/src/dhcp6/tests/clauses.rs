//! What each message is answered `[RFC 9915 § 18.3]`.

use super::*;

fn far() -> Ipv6Addr {
    prefix().far()
}

fn foreign() -> Ipv6Addr {
    "2001:db8:9::9".parse().unwrap()
}

fn mine() -> Option<Vec<u8>> {
    Some(server_id())
}

#[test]
fn a_solicit_is_advertised_and_with_rapid_commit_replied() {
    let heard = ask_known(&Ask::new(1));
    assert_eq!((heard.kind, heard.option(code::RAPID_COMMIT)), (2, None));
    assert_eq!(heard.option(code::PREFERENCE), Some(vec![255]));
    let heard = ask_known(&Ask { rapid: true, ..Ask::new(1) });
    assert_eq!((heard.kind, heard.option(code::RAPID_COMMIT)), (7, Some(vec![])));
    assert_eq!(heard.option(code::PREFERENCE), None);
    assert_eq!(heard.addresses(), [(1, far(), 7200)]);
}

#[test]
fn a_solicits_hint_is_no_promise() {
    let heard = ask_known(&Ask { addresses: vec![foreign()], ..Ask::new(1) });
    assert_eq!((heard.addresses(), heard.association_status(0)), (vec![(1, far(), 7200)], None));
}

#[test]
fn a_request_for_an_address_of_another_link_is_told_so() {
    let hinting = Ask { addresses: vec![foreign()], ..Ask::new(1) };
    // A Solicit with Rapid Commit is answered as a Request.
    for ask in [hinting.again(3, mine()), Ask { rapid: true, ..hinting }] {
        let heard = ask_known(&ask);
        assert_eq!((heard.kind, heard.addresses(), heard.association_status(0)), (7, vec![], Some(4)));
    }
    // Of this link, though not the one that is given: the server may give another.
    let near = Ask { addresses: vec![prefix().near()], ..Ask::new(1) }.again(3, mine());
    assert_eq!(ask_known(&near).addresses(), [(1, far(), 7200)]);
}

#[test]
fn a_confirm_is_a_yes_a_no_or_silence() {
    let confirm = Ask { kind: 4, ..Ask::new(1) };
    let say = |addresses| ask_known(&Ask { addresses, ..confirm.clone() });
    let yes = say(vec![far()]);
    assert_eq!((yes.kind, yes.status()), (7, Some(0)));
    assert_eq!(yes.codes(), [code::CLIENTID, code::SERVERID, code::STATUS_CODE]);
    assert_eq!(say(vec![far(), foreign()]).status(), Some(4));
    assert_eq!(say(vec![foreign()]).status(), Some(4));
    for silent in
        [confirm.clone(), Ask { prefixes: true, ..confirm.clone() }, Ask { iaids: vec![], ..confirm }]
    {
        assert!(ask(&mut known(), &client(1), &silent).is_empty(), "{silent:?}");
    }
}

#[test]
fn a_renew_and_a_rebind_extend_and_withdraw() {
    for (kind, server_id) in [(5, mine()), (6, None)] {
        let say = |addresses| ask_known(&Ask { addresses, ..Ask::new(1) }.again(kind, server_id.clone()));
        let heard = say(vec![far()]);
        assert_eq!((heard.kind, heard.addresses()), (7, vec![(1, far(), 7200)]));
        assert_eq!(say(vec![foreign(), far()]).addresses(), [(1, far(), 7200), (1, foreign(), 0)]);
        // An association that was never seen gets what the link has.
        assert_eq!(say(vec![foreign()]).addresses(), [(1, far(), 7200), (1, foreign(), 0)]);
        assert_eq!(say(vec![]).addresses(), [(1, far(), 7200)]);
        assert!(say(vec![foreign(); 80]).addresses().len() <= 9);
    }
}

#[test]
fn a_renew_that_gets_nothing_is_told_that_there_is_no_more() {
    for (kind, server_id) in [(5, mine()), (6, None)] {
        let further = vec![(code::IA_NA, association(9, &[foreign()]))];
        let ask = Ask { addresses: vec![far()], prefixes: true, further, ..Ask::new(1) };
        let heard = ask_known(&ask.again(kind, server_id));
        assert_eq!(heard.addresses(), [(1, far(), 7200), (9, foreign(), 0)]);
        assert_eq!((heard.association_status(0), heard.association_status(1)), (None, Some(2)));
        assert_eq!(heard.nested_status(code::IA_PD), Some(6));
    }
}

#[test]
fn two_associations_with_one_address_do_not_lose_it() {
    for (kind, server_id) in [(3, mine()), (5, mine()), (6, None)] {
        let ask = Ask { iaids: vec![5, 6], addresses: vec![far()], ..Ask::new(1) }.again(kind, server_id);
        let heard = ask_known(&ask);
        assert_eq!(heard.addresses(), [(5, far(), 7200)]);
        assert_eq!(heard.association_status(1), Some(2));
    }
}

#[test]
fn an_information_request_needs_no_identity() {
    let ask = Ask { kind: 11, iaids: vec![], requested: vec![32, 83], ..Ask::new(1) };
    assert_eq!(ask_known(&ask).codes(), [code::CLIENTID, code::SERVERID, 32, 83]);
    let named = ask.again(11, mine());
    assert_eq!(ask_known(&named).kind, 7);
    let nameless = ask_known(&Ask { client_id: vec![], ..ask });
    assert_eq!((nameless.kind, nameless.codes()), (7, vec![code::SERVERID, 32, 83]));
}

#[test]
fn a_release_and_a_decline_succeed_and_the_unknown_has_no_binding() {
    for kind in [8, 9] {
        let giving_back = Ask { addresses: vec![far()], ..Ask::new(1) }.again(kind, mine());
        let heard = ask_known(&giving_back);
        assert_eq!(heard.codes(), [code::CLIENTID, code::SERVERID, code::STATUS_CODE]);
        assert_eq!(heard.status(), Some(0));
        let strange = Ask { addresses: vec![foreign()], prefixes: true, ..giving_back.clone() };
        let heard = ask_known(&strange);
        assert_eq!((heard.status(), heard.association_status(0)), (Some(0), Some(3)));
        assert_eq!((heard.addresses(), heard.nested_status(code::IA_PD)), (vec![], Some(3)));
        let mixed = Ask { further: vec![(code::IA_NA, association(9, &[foreign()]))], ..giving_back };
        let heard = ask_known(&mixed);
        assert_eq!((heard.association_status(0), heard.association_status(1)), (Some(3), None));
    }
}

#[test]
fn associations_of_other_kinds_are_answered_by_status() {
    for (kind, server_id) in [(1, None), (3, mine()), (5, mine()), (6, None)] {
        let ask = Ask { iaids: vec![], prefixes: true, temporary: true, ..Ask::new(1) };
        let heard = ask_known(&ask.again(kind, server_id));
        assert_eq!(heard.nested_status(code::IA_PD), Some(6), "NoPrefixAvail");
        assert_eq!(heard.nested_status(code::IA_TA), Some(2), "NoAddrsAvail");
        assert_eq!(heard.addresses(), []);
    }
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
fn however_many_associations_there_are_the_answer_fits() {
    for (kind, server_id) in [(1, None), (3, mine()), (5, mine()), (6, None), (8, mine())] {
        let ask = Ask { iaids: (0..200).collect(), ..Ask::new(1) }.again(kind, server_id);
        let heard = ask_known(&ask);
        let others = heard.codes().iter().filter(|code| **code == code::IA_NA).count();
        assert!((10..200).contains(&others), "{others}");
        if kind != 8 {
            assert_eq!(heard.addresses(), [(0, far(), 7200)]);
        }
    }
}

#[test]
fn the_times_to_renew_are_the_same_wherever_there_is_a_lease() {
    for (kind, server_id) in [(1, None), (3, mine()), (5, mine()), (6, None)] {
        let ask = Ask { iaids: vec![5, 6], prefixes: true, ..Ask::new(1) };
        let heard = ask_known(&ask.again(kind, server_id));
        assert_eq!(heard.times(), [(1800, 2880), (0, 0), (0, 0)]);
    }
}
