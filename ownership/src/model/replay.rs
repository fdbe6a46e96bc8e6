//! Which nonces a session has used: part of its record, so that an owner's successor knows them.

/// A client's number for one request: counts up, never twice the same within a session.
///
/// Any number above the last one will do; a client that is not sure leaves a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(u64);

impl Nonce {
    /// The nonce with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The nonces that were accepted: the highest, and which of the 64 up to it (RFC 4303 §3.4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReplayWindow {
    highest: u64,
    /// Bit `n` stands for `highest - n`. Zero before the first nonce.
    seen: u64,
}

/// What a window says of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Never accepted.
    Fresh,
    /// Accepted before.
    Used,
    /// So far behind the highest that nobody can tell.
    TooOld,
}

impl ReplayWindow {
    /// How far behind the highest nonce one can be told from a used one.
    pub const WIDTH: u64 = u64::BITS as u64;

    /// A window from its parts, as [`ReplayWindow::parts`] gave them.
    pub const fn from_parts(highest: u64, seen: u64) -> Self {
        Self { highest, seen }
    }

    /// The highest nonce, and a bit for each of the 64 up to it, the lowest bit for itself.
    pub const fn parts(self) -> (u64, u64) {
        (self.highest, self.seen)
    }

    /// Whether a nonce was accepted before.
    pub fn freshness(self, nonce: Nonce) -> Freshness {
        if self.seen == 0 || nonce.0 > self.highest {
            return Freshness::Fresh;
        }
        let behind = self.highest - nonce.0;
        if behind >= Self::WIDTH {
            Freshness::TooOld
        } else if self.seen >> behind & 1 == 1 {
            Freshness::Used
        } else {
            Freshness::Fresh
        }
    }

    /// The window after a fresh nonce was accepted.
    #[must_use]
    pub fn with(self, nonce: Nonce) -> Self {
        debug_assert_eq!(self.freshness(nonce), Freshness::Fresh);
        if self.seen == 0 {
            return Self { highest: nonce.0, seen: 1 };
        }
        if nonce.0 > self.highest {
            let ahead = nonce.0 - self.highest;
            let seen = if ahead < Self::WIDTH { self.seen << ahead } else { 0 };
            return Self { highest: nonce.0, seen: seen | 1 };
        }
        Self { seen: self.seen | 1 << (self.highest - nonce.0), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn the_first_nonce_may_be_any() {
        for number in [0, 1, u64::MAX] {
            let window = ReplayWindow::default();
            assert_eq!(window.freshness(Nonce(number)), Freshness::Fresh);
            assert_eq!(window.with(Nonce(number)).freshness(Nonce(number)), Freshness::Used);
        }
    }

    proptest! {
        /// Against a set that forgets nothing: what was accepted is never fresh again, and what was
        /// not is fresh as long as the window reaches.
        #[test]
        fn no_nonce_is_accepted_twice(numbers in prop::collection::vec(0..300_u64, 1..400)) {
            let (mut window, mut accepted) = (ReplayWindow::default(), HashSet::new());
            for number in numbers {
                let nonce = Nonce(number);
                let highest = accepted.iter().copied().max().unwrap_or(0);
                match window.freshness(nonce) {
                    Freshness::Fresh => {
                        prop_assert!(accepted.insert(number));
                        window = window.with(nonce);
                    }
                    Freshness::Used => prop_assert!(accepted.contains(&number)),
                    Freshness::TooOld => prop_assert!(number + ReplayWindow::WIDTH <= highest),
                }
            }
        }
    }
}
