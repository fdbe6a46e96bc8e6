//! The network: what becomes of a datagram, and of a request to the store.

use crate::{
    draw::Draw,
    time::{MILLISECOND, Nanos, SECOND},
};
use std::collections::BTreeSet;

/// Who sends or receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    Client(usize),
    Machine(usize),
    Store,
}

#[derive(Debug, Default)]
pub struct Network {
    /// From whom to whom nothing comes through: each direction by itself.
    pub blocked: BTreeSet<(End, End)>,
    /// From whom to whom everything takes seconds.
    pub slow: BTreeSet<(End, End)>,
    /// Whether nothing goes wrong any more.
    pub is_calm: bool,
    /// How many datagrams in a thousand are lost.
    pub loss: u64,
}

impl Network {
    /// When the copies of a datagram arrive: none, one or two.
    pub fn datagram(&self, draw: &mut Draw, from: End, to: End) -> Vec<Nanos> {
        if self.blocked.contains(&(from, to)) || !self.is_calm && draw.per_mille(self.loss) {
            return Vec::new();
        }
        let copies = if !self.is_calm && draw.per_mille(50) { 2 } else { 1 };
        (0..copies).map(|_| self.delay(draw)).collect()
    }

    /// When a message of a connection arrives, if it does.
    pub fn stream(&self, draw: &mut Draw, from: End, to: End) -> Option<Nanos> {
        let is_lost = !self.is_calm && draw.per_mille(15);
        if self.blocked.contains(&(from, to)) || is_lost {
            return None;
        }
        let is_slow = self.slow.contains(&(from, to));
        let more = if is_slow { draw.between(SECOND, 5 * SECOND) } else { 0 };
        Some(self.delay(draw) + more)
    }

    fn delay(&self, draw: &mut Draw) -> Nanos {
        let usual = draw.between(MILLISECOND / 5, 15 * MILLISECOND);
        if self.is_calm {
            return usual;
        }
        match draw.below(100) {
            0..93 => usual,
            93..99 => draw.between(usual, SECOND),
            _ => draw.between(SECOND, 20 * SECOND),
        }
    }
}
