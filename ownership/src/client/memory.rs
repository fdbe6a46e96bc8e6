use super::Contradiction;
use crate::{
    Epoch, StateVersion,
    control::Snapshot,
    model::{Accepted, Nonce},
};
use std::cmp::Ordering;

/// What a client knows of its session, and which nonces it has used: all that it must keep to go on
/// after a restart.
///
/// To be kept whenever its version has changed, before anything is sent. Nonces may be kept less often,
/// if a restart leaves a gap ([`Memory::after_restart`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The last version that it was told of.
    pub version: StateVersion,
    /// The owner's epoch at that version.
    pub epoch: Epoch,
    /// The generation of the key in force at that version.
    pub key_generation: u32,
    /// The last reattach that was accepted up to that version.
    pub accepted: Option<Accepted>,
    /// The first nonce of the requests that were made at that version.
    pub first: Nonce,
    /// The next nonce: all from `first` up to it may have been used.
    pub next: Nonce,
}

/// Where a snapshot lies, seen from what was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advance {
    Lower,
    Same,
    Forward,
}

impl Memory {
    /// What the client of a session knows that was just opened: what its application told it.
    pub const fn opened(version: StateVersion, epoch: Epoch, key_generation: u32) -> Self {
        let first = Nonce::new(1);
        Self { version, epoch, key_generation, accepted: None, first, next: first }
    }

    /// The memory of a client that may have sent up to `unsaved` requests since it was kept.
    #[must_use]
    pub fn after_restart(self, unsaved: u64) -> Self {
        Self { next: Nonce::new(self.next.get().saturating_add(unsaved)), ..self }
    }

    /// Draws the nonce of another request.
    pub(super) fn draw(&mut self) -> Option<Nonce> {
        let nonce = self.next;
        self.next = Nonce::new(nonce.get().checked_add(1)?);
        Some(nonce)
    }

    /// Leaves out nonces that the owner calls used or too old, though the client does not know of it.
    pub(super) fn skip_used(&mut self) {
        let highest = self.accepted.map_or(0, |accepted| accepted.nonce.get());
        let beyond = highest.saturating_add(crate::model::ReplayWindow::WIDTH);
        self.next = self.next.max(Nonce::new(beyond));
    }

    /// Learns how the session stands; see the module on what is believed.
    pub(super) fn learn(&mut self, snapshot: &Snapshot) -> Result<Advance, Contradiction> {
        let Snapshot { version, epoch, key_generation, accepted, is_bound: _ } = *snapshot;
        match version.cmp(&self.version) {
            Ordering::Less => return Ok(Advance::Lower),
            Ordering::Equal => {
                let known = (self.epoch, self.key_generation, self.accepted);
                let is_same = (epoch, key_generation, accepted) == known;
                return is_same.then_some(Advance::Same).ok_or(Contradiction::TwoStates);
            }
            Ordering::Greater => {}
        }
        if key_generation < self.key_generation {
            return Err(Contradiction::KeyWentBack);
        }
        if accepted != self.accepted && !accepted.is_some_and(|accepted| self.is_own(accepted)) {
            return Err(Contradiction::ForeignReattach);
        }
        let first = self.next;
        *self = Self { version, epoch, key_generation, accepted, first, next: self.next };
        Ok(Advance::Forward)
    }

    /// Whether a reattach is one of the requests that were made at the version that is known: it led to
    /// the next one.
    fn is_own(&self, accepted: Accepted) -> bool {
        self.version.next() == Ok(accepted.version)
            && (self.first..self.next).contains(&accepted.nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        let mut memory = Memory::opened(StateVersion::new(4), Epoch::FIRST, 2);
        memory.accepted = Some(accepted(3, 8));
        memory.first = Nonce::new(10);
        memory.next = Nonce::new(13);
        memory
    }

    fn accepted(version: u64, nonce: u64) -> Accepted {
        Accepted { version: StateVersion::new(version), nonce: Nonce::new(nonce) }
    }

    fn snapshot(version: u64, last: Accepted) -> Snapshot {
        Snapshot {
            version: StateVersion::new(version),
            epoch: Epoch::FIRST,
            key_generation: 2,
            accepted: Some(last),
            is_bound: false,
        }
    }

    fn learn(snapshot: Snapshot) -> Result<Advance, Contradiction> {
        let (mut after, before) = (memory(), memory());
        let learnt = after.learn(&snapshot);
        if learnt == Ok(Advance::Forward) {
            assert!(after.version > before.version);
            assert_eq!((after.first, after.next), (before.next, before.next));
        } else {
            assert_eq!(after, before, "nothing has changed");
        }
        learnt
    }

    #[test]
    fn the_next_version_by_its_own_request_or_any_by_the_cluster() {
        let known = accepted(3, 8);
        for version in [5, 6, 1_000_000, u64::MAX] {
            assert_eq!(learn(snapshot(version, known)), Ok(Advance::Forward), "the cluster's");
            for nonce in 10..13 {
                let own = accepted(5, nonce);
                assert_eq!(learn(snapshot(version, own)), Ok(Advance::Forward), "its own");
            }
        }
        assert_eq!(learn(snapshot(4, known)), Ok(Advance::Same));
        for version in 0..4 {
            assert_eq!(learn(snapshot(version, known)), Ok(Advance::Lower));
        }
    }

    #[test]
    fn a_reattach_that_it_did_not_ask_for_is_somebody_elses() {
        let foreign = Err(Contradiction::ForeignReattach);
        for (version, nonce) in [(5, 9), (5, 13), (6, 10), (4, 10), (3, 9), (2, 8), (0, 0)] {
            assert_eq!(learn(snapshot(7, accepted(version, nonce))), foreign, "{version} {nonce}");
        }
        let forgotten = Snapshot { accepted: None, ..snapshot(7, accepted(0, 0)) };
        assert_eq!(learn(forgotten), foreign);
    }

    #[test]
    fn one_version_is_one_state() {
        let known = snapshot(4, accepted(3, 8));
        let others = [
            Snapshot { epoch: Epoch::MAX, ..known },
            Snapshot { key_generation: 3, ..known },
            Snapshot { accepted: None, ..known },
        ];
        for other in others {
            assert_eq!(learn(other), Err(Contradiction::TwoStates));
        }
        let back = Snapshot { key_generation: 1, ..snapshot(5, accepted(3, 8)) };
        assert_eq!(learn(back), Err(Contradiction::KeyWentBack));
    }

    #[test]
    fn nonces_end_instead_of_wrapping() {
        let mut memory = memory();
        memory.next = Nonce::new(u64::MAX - 1);
        assert_eq!(memory.draw(), Some(Nonce::new(u64::MAX - 1)));
        assert_eq!(memory.draw(), None);
        assert_eq!(memory.after_restart(5).next, Nonce::new(u64::MAX));
    }

    #[test]
    fn nonces_that_were_used_are_left_out() {
        let mut memory = memory();
        memory.skip_used();
        assert_eq!(memory.next, Nonce::new(8 + 64));
        memory.skip_used();
        assert_eq!(memory.next, Nonce::new(8 + 64), "once is enough");
    }
}
