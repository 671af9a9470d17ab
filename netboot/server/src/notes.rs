//! What the cores have to tell, as log lines and as the link's status.
//!
//! Packets are TRACE, refusals DEBUG, and a boot is one INFO line for each of its stages.

use mesh::{LinkId, Stage};
use netboot_proto::boot::Decision;
use netboot_proto::effect::{Answered, Event, Refusal};
use netboot_proto::wire::dhcp6::Kind;

use crate::board::StatusBoard;

/// Writes an event down.
pub(crate) fn note(board: &StatusBoard, link: LinkId, port: &str, event: &Event) {
    match event {
        Event::Ignored { from, reason } => {
            tracing::debug!(%link, port, %from, %reason, "a packet was dropped");
        }
        Event::Advertised(occasion) => {
            tracing::trace!(%link, port, ?occasion, "router advertisement");
        }
        Event::Answered(answered) => note_answer(board, link, port, answered),
        Event::Refused { mac, reason } => {
            // Waiting for the neighbour's Ethernet address is over with the client's next try.
            if *reason != Refusal::UnknownStation {
                board.explain(link, Some(reason.to_string()));
            }
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

fn note_answer(board: &StatusBoard, link: LinkId, port: &str, answered: &Answered) {
    let Answered { to, mac, asked, leased, boot } = answered;
    tracing::trace!(%link, port, %to, asked, leased, ?boot, "DHCPv6 answer");
    if let Some(mac) = mac {
        board.heard(link, *mac);
    }
    if !leased {
        return;
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
                tracing::info!(%link, port, mac, url = offer.url, "a machine boots");
            }
        }
        Decision::Refuse(refusal) => {
            board.advance(link, Stage::Addressed);
            board.explain(link, Some(refusal.to_string()));
            tracing::warn!(%link, port, %refusal, "a machine asks for a boot file and gets none");
        }
    }
}
