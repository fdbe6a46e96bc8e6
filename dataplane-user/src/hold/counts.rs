//! The account of held packets.

use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// What became of the packets of one session, or of all: `held` is the sum of what follows it up to
/// `discarded`, and of what still waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Packets that the daemon took out of the ring.
    pub held: u64,
    /// Delivered here: sent to their CPU's queue.
    pub here: u64,
    /// Sent to another node.
    pub away: u64,
    /// Lost: more than the bounds allow.
    pub overflow: u64,
    /// Lost: too big for the link to the node, with the encapsulation around them.
    pub too_big: u64,
    /// Lost: forwarded too often before they came here.
    pub hop_limit: u64,
    /// Lost: the node that sent them here knew the session better than the one that released it.
    pub not_newer: u64,
    /// Lost: the kernel refused to send them, or the checksum of the IP header is wrong.
    pub failed: u64,
    /// Lost: the session ended while it was held.
    pub discarded: u64,
    /// Of those that were sent, how many came out of the ring after the session's newer packets had
    /// been given their way: these may have been overtaken.
    pub late: u64,
}

impl Counts {
    /// Packets that reached neither an application's queue nor another node.
    pub fn lost(&self) -> u64 {
        let Self { overflow, too_big, hop_limit, not_newer, failed, discarded, .. } = self;
        overflow + too_big + hop_limit + not_newer + failed + discarded
    }

    /// Packets of which it is known what became of them.
    pub fn settled(&self) -> u64 {
        self.here + self.away + self.lost()
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        let Self {
            held,
            here,
            away,
            overflow,
            too_big,
            hop_limit,
            not_newer,
            failed,
            discarded,
            late,
        } = other;
        self.held += held;
        self.here += here;
        self.away += away;
        self.overflow += overflow;
        self.too_big += too_big;
        self.hop_limit += hop_limit;
        self.not_newer += not_newer;
        self.failed += failed;
        self.discarded += discarded;
        self.late += late;
    }
}

/// All that is and was held since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Sessions that are held.
    pub sessions: usize,
    /// Packets that wait.
    pub waiting: u64,
    /// How much of the bounds they take, in bytes.
    pub bytes: usize,
    /// What became of all others.
    pub counts: Counts,
    /// Lost: packets from the ring whose session is held by nobody.
    pub unclaimed: u64,
}
