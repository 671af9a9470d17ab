//! What the cores have to tell, as log lines and as the link's status.
//!
//! Packets are TRACE, refusals DEBUG, and a boot is one INFO line for each of its stages.

use mesh::{LinkFault, LinkId, Sound, Stage};
use netboot_proto::boot::Decision;
use netboot_proto::effect::{Answered, Event, Refusal};
use netboot_proto::judge::Judgement;
use netboot_proto::wire::dhcp6::Kind;

use crate::board::StatusBoard;
use crate::metrics::{boot_reason, dhcp_reason};

/// Writes an event down.
pub(crate) fn note(board: &StatusBoard, link: LinkId, port: &str, event: &Event) {
    match event {
        Event::Ignored { from, reason } => {
            tracing::debug!(%link, port, %from, %reason, "a packet was dropped");
        }
        Event::Advertised(occasion) => {
            board.metrics().count_advertisement(port);
            tracing::trace!(%link, port, ?occasion, "router advertisement");
        }
        Event::Answered(answered) => note_answer(board, link, port, answered),
        Event::Refused { mac, reason } => {
            // Waiting for the neighbour's Ethernet address is over with the client's next try.
            if *reason != Refusal::UnknownStation {
                board.explain(link, Some(reason.to_string()));
            }
            board.metrics().count_refusal(port, dhcp_reason(reason));
            let mac = mac.map(|mac| mac.to_string());
            tracing::warn!(%link, port, mac, %reason, "a DHCPv6 client is not answered");
        }
        Event::Released { from } => {
            tracing::debug!(%link, port, %from, "a client released the link's address");
        }
        Event::Declined { from } => {
            let reason = "the far end says that another station has its address: is there a switch?";
            board.explain(link, Some(reason.to_owned()));
            tracing::warn!(%link, port, %from, "a client declined the link's address");
        }
    }
}

/// Writes down what became of a link's judgement: every fault that came, and the end of the last.
pub(crate) fn note_judgement(link: LinkId, port: &str, before: &Judgement, now: &Judgement) {
    let known = |fault: &&LinkFault| before.faults.iter().any(|known| known.kind() == fault.kind());
    for fault in now.faults.iter().filter(|fault| !known(fault)) {
        let (kind, served) = (fault.kind().name(), now.serves);
        tracing::warn!(%link, port, kind, served, "something is wrong with a link: {fault}");
    }
    if now.serves && !before.serves {
        tracing::info!(%link, port, forced = now.forced, "a link is served again");
    }
}

fn note_answer(board: &StatusBoard, link: LinkId, port: &str, answered: &Answered) {
    let Answered { to, mac, asked, leased, boot } = answered;
    tracing::trace!(%link, port, %to, asked, leased, ?boot, "DHCPv6 answer");
    if *boot != Decision::NotAsked {
        board.hear(link, Sound::BootFile);
    }
    // Whoever wants no address does not boot: a neighbour's gateway looks whether there are others.
    if !leased {
        return;
    }
    if let Some(mac) = mac {
        board.heard(link, *mac);
    }
    match boot {
        // Whatever runs behind the firmware asks again, and so does a node for its whole life.
        Decision::NotAsked => board.advance(link, Stage::Addressed),
        Decision::Offer(offer) => {
            // Only firmware asks for a boot file: a boot begins.
            board.restart(link, Stage::Addressed);
            let mac = mac.map(|mac| mac.to_string());
            if *asked == Kind::Solicit.name() {
                tracing::debug!(%link, port, mac, url = offer.url, "a machine is offered a boot file");
            } else {
                board.metrics().count_boot(port);
                tracing::info!(%link, port, mac, url = offer.url, "a machine boots");
            }
        }
        Decision::Refuse(refusal) => {
            board.advance(link, Stage::Addressed);
            board.explain(link, Some(refusal.to_string()));
            board.metrics().count_refusal(port, boot_reason(refusal));
            tracing::warn!(%link, port, %refusal, "a machine asks for a boot file and gets none");
        }
    }
}
