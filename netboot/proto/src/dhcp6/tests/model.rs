//! What holds whatever comes in whatever order.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::ask as put_to;
use super::*;
use crate::wire::dhcp6::MAX_ANSWER;

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

/// What any client may say: any of several identities, with whatever addresses.
fn words() -> impl Strategy<Value = Ask> {
    let kind = prop_oneof![3 => Just(8_u8), 3 => Just(9), 4 => 1_u8..12];
    let addresses =
        prop_oneof![Just(prefix().far()), Just(prefix().near()), any::<u128>().prop_map(Ipv6Addr::from)];
    let duid = proptest::collection::vec(any::<u8>(), 3..12);
    let named = prop_oneof![3 => Just(Some(server_id())), 3 => Just(None), 1 => Just(Some(vec![0, 4, 9]))];
    let iaids = proptest::collection::vec(0_u32..4, 0..4);
    let addresses = proptest::collection::vec(addresses, 0..4);
    let requested = proptest::collection::vec(0_u16..90, 0..8);
    (kind, any::<u8>(), duid, named, iaids, addresses, requested, any::<[bool; 3]>()).prop_map(
        |(kind, xid, client_id, server_id, iaids, addresses, requested, [rapid, prefixes, temporary])| Ask {
            kind,
            client_id,
            server_id,
            iaids,
            addresses,
            requested,
            rapid,
            prefixes,
            temporary,
            ..Ask::new(xid)
        },
    )
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

    /// Whatever any number of identities do, the lease is there for all of them.
    #[test]
    fn nothing_that_anybody_sends_takes_the_lease_away(
        messages in proptest::collection::vec(words(), 0..40),
        last in (any::<[u8; 4]>(), any::<u32>()),
    ) {
        let mut server = known();
        let far = prefix().far();
        for ask in messages {
            for heard in put_to(&mut server, &client(1), &ask) {
                let withdrawn = heard.addresses().iter().any(|(_, address, valid)| *address == far && *valid == 0);
                prop_assert!(!withdrawn, "{ask:?}");
            }
        }
        let (duid, iaid) = last;
        let base = Ask { client_id: duid.to_vec(), iaids: vec![iaid], addresses: vec![far], ..Ask::new(1) };
        for (kind, server_id) in [(1, None), (3, Some(server_id())), (5, Some(server_id())), (6, None)] {
            let heard = put_to(&mut server, &client(1), &base.again(kind, server_id)).remove(0);
            prop_assert_eq!(heard.addresses(), [(iaid, far, 7200)]);
        }
        let heard = put_to(&mut server, &client(1), &base.again(4, None)).remove(0);
        prop_assert_eq!(heard.status(), Some(0));
    }

    #[test]
    fn every_answer_has_the_clients_name_and_transaction(ask in words()) {
        let mut server = known();
        for heard in put_to(&mut server, &client(1), &ask) {
            prop_assert_eq!(heard.xid, [0, 0, ask.xid]);
            let id = (!ask.client_id.is_empty()).then(|| ask.client_id.clone());
            prop_assert_eq!(heard.option(code::CLIENTID), id);
            prop_assert_eq!(heard.option(code::SERVERID), Some(server_id()));
            let expected = if ask.kind == 1 && !ask.rapid { 2 } else { 7 };
            prop_assert_eq!(heard.kind, expected);
        }
    }

    #[test]
    fn octets_never_panic_and_every_answer_adds_up(
        kind in 0_u8..14,
        options in proptest::collection::vec((0_u16..90, proptest::collection::vec(any::<u8>(), 0..40)), 0..50),
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
                let walked = walk::walk(&bytes);
                prop_assert!(walked.is_ok_and(|walked| walked.xid == [1, 2, 3]));
                prop_assert!(bytes.len() <= MAX_ANSWER);
            }
        }
    }
}
