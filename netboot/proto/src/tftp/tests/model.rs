//! What holds whatever is asked for and lost.

use proptest::prelude::*;

use super::*;

/// A client that keeps what comes in order, over a cable that loses packets.
fn fetch(content: &[u8], options: &str, block: usize, window: u64, losses: &[bool]) -> Option<Vec<u8>> {
    let size = u64::try_from(content.len()).unwrap();
    let mut transfer = transfer(options, size);
    let mut losses = losses.iter().copied().chain(std::iter::repeat(false));
    let mut now = epoch();
    let (mut got, mut have, mut since_ack) = (Vec::new(), 0_u64, 0);
    loop {
        let Some(output) = transfer.poll_effect() else {
            now = transfer.next_deadline()?;
            transfer.handle_timeout(now);
            continue;
        };
        let mut replies = Vec::new();
        match output {
            Output::Finished(outcome) => return (outcome == Outcome::Complete).then_some(got),
            Output::Send { .. } => replies.push(0),
            Output::Data(burst) => {
                let at = usize::try_from(burst.offset).unwrap();
                let packets = burst.frame(&content[at..at + burst.len]);
                for packet in packets.chunks(burst.segment()) {
                    if losses.next() == Some(true) {
                        continue;
                    }
                    let number = u16::from_be_bytes([packet[2], packet[3]]);
                    let [.., high, low] = (have + 1).to_be_bytes();
                    let in_order = number == u16::from_be_bytes([high, low]);
                    if in_order {
                        got.extend(&packet[4..]);
                        have += 1;
                        since_ack += 1;
                    }
                    if !in_order || since_ack == window || packet.len() < block + 4 {
                        since_ack = 0;
                        replies.push(have);
                    }
                }
            }
        }
        for reply in replies {
            let [.., high, low] = reply.to_be_bytes();
            if losses.next() != Some(true) {
                transfer.handle_datagram(peer(), &ack(u16::from_be_bytes([high, low])), now);
            }
        }
    }
}

proptest! {
    #[test]
    fn a_file_arrives_whole_over_a_bad_cable(
        len in 0_usize..6000,
        block in 8_usize..600,
        window in 1_u64..20,
        losses in proptest::collection::vec(proptest::bool::weighted(0.2), 0..200),
    ) {
        let content: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let options = format!("blksize {block} windowsize {window} ");
        // Six losses of one packet in a row end a transfer; anything else must not.
        if let Some(got) = fetch(&content, &options, block, window, &losses) {
            prop_assert_eq!(got, content);
        } else {
            prop_assert!(losses.iter().filter(|lost| **lost).count() > 6);
        }
    }

    /// Nothing is longer than the link takes, whatever is asked for.
    #[test]
    fn no_packet_is_longer_than_the_link_takes(
        mtu in 1280_u32..9500,
        asked in 0_u64..70_000,
        window in 0_u64..70_000,
        size in 0_u64..3_000_000,
        words in "[a-z]{0,8}",
    ) {
        let request = request(&format!("blksize {asked} windowsize {window} {words} 1 tsize 0 timeout 1 "));
        let limits = Limits::for_mtu(mtu);
        let longest = usize::try_from(mtu).unwrap() - 40 - 8;
        let mut transfer = Transfer::new(peer(), &request, size, &limits, epoch());
        for acked in 0..50_u16 {
            for output in outputs(&mut transfer) {
                match output {
                    Output::Send { bytes, .. } => prop_assert!(bytes.len() <= longest),
                    Output::Data(burst) => {
                        prop_assert!(burst.segment() <= longest);
                        prop_assert!(burst.blocks <= limits.window);
                        prop_assert!(burst.len <= usize::from(burst.blocks) * usize::from(burst.block));
                    }
                    Output::Finished(_) => {}
                }
            }
            transfer.handle_datagram(peer(), &ack(acked), epoch());
        }
    }

    /// No block is sent a second time because of what the client says: only silence repeats.
    #[test]
    fn duplicates_never_multiply(acked in proptest::collection::vec(0_u16..12, 0..60)) {
        let mut transfer = transfer("blksize 8 windowsize 1 ", 80);
        outputs(&mut transfer);
        let mut seen = std::collections::BTreeSet::new();
        for block in acked {
            transfer.handle_datagram(peer(), &ack(block), epoch());
            for output in outputs(&mut transfer) {
                if let Output::Data(burst) = output {
                    prop_assert!(seen.insert(burst.first), "block {} again", burst.first);
                }
            }
        }
    }

    #[test]
    fn octets_never_panic(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..20)) {
        let mut transfer = transfer("blksize 8 windowsize 3 ", 100);
        for bytes in &packets {
            let _ = open(bytes);
            transfer.handle_datagram(peer(), bytes, epoch());
        }
    }
}
