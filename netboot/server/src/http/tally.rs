//! What a connection was sent, for the board.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mesh::{LinkId, Stage};
use plain_http::file::CHUNK;

use crate::board::StatusBoard;

/// The octets of one connection. The board tells its watchers and remembers, so it hears of pieces and of the ends of
/// files, and not of each of a hundred thousand small answers.
#[derive(Debug)]
pub(super) struct Tally {
    board: StatusBoard,
    link: LinkId,
    untold: Mutex<Untold>,
}

#[derive(Debug, Default)]
struct Untold {
    /// How far the boot is of which these are.
    stage: Option<Stage>,
    octets: u64,
}

// === impl Tally ===

impl Tally {
    /// Nothing was sent yet.
    pub(super) fn new(board: StatusBoard, link: LinkId) -> Self {
        Self { board, link, untold: Mutex::default() }
    }

    /// Octets of a file are about to be sent: the boot that fetches it has come this far.
    pub(super) fn begin(&self, stage: Stage) {
        let mut untold = self.untold();
        if untold.stage != Some(stage) {
            self.tell_of(&mut untold);
            self.board.advance(self.link, stage);
            untold.stage = Some(stage);
        }
    }

    /// Octets were sent.
    pub(super) fn count(&self, octets: u64) {
        let mut untold = self.untold();
        untold.octets = untold.octets.saturating_add(octets);
        if untold.octets >= CHUNK as u64 {
            self.tell_of(&mut untold);
        }
    }

    /// Tells what was not told yet.
    pub(super) fn tell(&self) {
        self.tell_of(&mut self.untold());
    }

    fn tell_of(&self, untold: &mut Untold) {
        let octets = mem::take(untold).octets;
        if octets > 0 {
            self.board.count(self.link, octets);
        }
    }

    fn untold(&self) -> MutexGuard<'_, Untold> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.tell();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use mesh::{Mac, MachineId};

    use super::*;

    #[test]
    fn the_board_hears_of_pieces_and_of_what_is_left_at_the_end() {
        let link = LinkId { near: MachineId::from_mac(Mac([2, 0, 0, 0, 0, 1])), port: 0.try_into().unwrap() };
        let board = StatusBoard::new();
        board.add(link, "eth0", Ipv6Addr::LOCALHOST, None);
        let told = || (board.watch().borrow()[0].stage, board.watch().borrow()[0].bytes);
        let tally = Tally::new(board.clone(), link);
        tally.begin(Stage::Loading);
        assert_eq!(told(), (Stage::Loading, 0));
        tally.count(1000);
        tally.begin(Stage::Loading);
        tally.count(1000);
        assert_eq!(told(), (Stage::Loading, 0));
        tally.count(CHUNK as u64);
        assert_eq!(told(), (Stage::Loading, CHUNK as u64 + 2000));
        // It belongs to the stage in which it was sent.
        tally.begin(Stage::Loading);
        tally.count(1);
        tally.begin(Stage::Root);
        assert_eq!(told(), (Stage::Root, CHUNK as u64 + 2001));
        tally.count(1);
        tally.tell();
        tally.count(1);
        drop(tally);
        assert_eq!(told(), (Stage::Root, CHUNK as u64 + 2003));
    }
}
