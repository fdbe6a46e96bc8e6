use super::{
    Deciding, HandedOff,
    frozen::{Frozen, GiveUp, Held, given_up, moved},
};
use crate::{
    model::Context,
    pending::{Due, NoChange, NotDone, Pending, Progress},
    store::{
        BadWrite, DirectoryWrite, Mismatch, Outcome, SessionWrite, StoredSession, TransferWrite,
    },
};

/// A frozen session whose next version is on its way: HANDOFF, or what gives the move up.
///
/// Whatever is held stays held until this is decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "ownership may move, or may have moved"]
pub struct Undecided<W> {
    held: Held,
    pending: Pending<W>,
    /// Whether an earlier process may have sent a decision too.
    is_inherited: bool,
}

/// What became of a frozen session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "what is held has to go somewhere"]
pub enum Decided<W: Deciding> {
    /// Another node owns it. What is held goes there.
    HandedOff(HandedOff<W>),
    /// This node owns it, and it goes on here or is over. What is held is delivered here, or dropped.
    GivenUp(GivenUp<W>),
    /// Nothing has changed, and the caller may choose anew.
    NotYet(Held, NotDone),
    /// This node's epoch is over: stop at once.
    Over,
    /// Somebody else has written a session that this node owns in a live epoch.
    Contradiction,
    /// An earlier process of this node may have decided: look at what stands.
    LookAnew,
    /// It is not known yet. The hold is kept.
    Undecided(Undecided<W>),
}

/// A session whose move was given up, by a commit that Won: it is active here again, or over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GivenUp<W: Deciding> {
    frozen: Frozen,
    row: W::Row,
    is_alone: bool,
}

impl<W: Deciding> Undecided<W> {
    pub(super) fn new(held: Held, write: W) -> Self {
        Self { held, pending: Pending::new(write), is_inherited: false }
    }

    pub(super) fn inherited(frozen: Frozen, write: W) -> Self {
        Self { is_inherited: true, ..Self::new(Held::Frozen(frozen), write) }
    }

    /// The session as it is frozen.
    pub fn session(&self) -> &StoredSession {
        self.held.session()
    }

    /// What is due.
    pub fn due(&self) -> Due {
        self.pending.due()
    }

    /// The writes that may have been done: at most two, and at most one of them ever is.
    pub fn writes(&self) -> impl Iterator<Item = &W> {
        self.pending.writes()
    }

    /// The write that is to be sent, if one is due: the first one, or its rival, an ABORT.
    ///
    /// # Errors
    ///
    /// If `context` is not of the session's owner.
    pub fn write(&mut self, context: &Context) -> Result<Option<&W>, NoChange> {
        match self.pending.due() {
            Due::Send => Ok(Some(self.pending.write())),
            Due::Look => Ok(None),
            Due::Rival => {
                let rival = given_up(self.held.frozen(), GiveUp::Abort, context)?;
                Ok(Some(self.pending.rival(|| rival)))
            }
        }
    }

    /// What came of the write that was sent.
    pub fn answered(self, outcome: Outcome) -> Decided<W> {
        self.step(|pending| pending.answered(outcome))
    }

    /// What was read: the session, or in *sticky* the transfer row of the frozen version.
    pub fn found(self, stands: Option<&W::Row>) -> Decided<W> {
        self.step(|pending| pending.found(stands))
    }

    fn step(self, step: impl FnOnce(Pending<W>) -> Progress<W>) -> Decided<W> {
        let Self { held, pending, is_inherited } = self;
        let Frozen { by, .. } = *held.frozen();
        let is_moved = |row: &W::Row| moved(W::session(row), by.owner);
        let hand_off = pending.writes().map(W::row).find(is_moved);
        let not_done = match step(pending) {
            Progress::Pending(pending) => {
                return Decided::Undecided(Self { held, pending, is_inherited });
            }
            Progress::Done(done) => {
                let is_alone = !done.had_rival() && !is_inherited;
                return decided(held.frozen(), done.row(), is_alone);
            }
            Progress::NotDone(not_done) => not_done,
        };
        match (not_done, hand_off) {
            (NotDone::Fenced, _) => Decided::Over,
            // As long as the epoch lives, only its own hand-off leads past its versions.
            (NotDone::Past, Some(hand_off)) => decided(held.frozen(), hand_off, false),
            (NotDone::Lost(Mismatch::Row) | NotDone::Superseded | NotDone::Past, _) => {
                if is_inherited {
                    Decided::LookAnew
                } else {
                    Decided::Contradiction
                }
            }
            (NotDone::Lost(_) | NotDone::Unavailable(_), _) => Decided::NotYet(held, not_done),
        }
    }
}

/// What a row that decides says; `is_alone` if no other decision may still arrive.
pub(super) fn decided<W: Deciding>(frozen: &Frozen, row: W::Row, is_alone: bool) -> Decided<W> {
    let frozen = frozen.clone();
    if moved(W::session(&row), frozen.by.owner) {
        Decided::HandedOff(HandedOff::new(frozen, row, is_alone))
    } else {
        Decided::GivenUp(GivenUp { frozen, row, is_alone })
    }
}

impl<W: Deciding> GivenUp<W> {
    /// The session as it is now.
    pub fn session(&self) -> &StoredSession {
        W::session(&self.row)
    }
}

impl GivenUp<TransferWrite> {
    /// *Sticky*: the copy into the node's own store. Only then the session goes on.
    ///
    /// # Errors
    ///
    /// If the row is of another session.
    pub fn copy(&self) -> Result<Pending<SessionWrite>, BadWrite> {
        let Frozen { session, by } = &self.frozen;
        Ok(Pending::new(SessionWrite::settle(Some(session), &self.row, *by)?))
    }

    /// *Sticky*: forgets the decision, once it is copied; as [`HandedOff::forget`].
    pub fn forget(&self) -> Option<DirectoryWrite> {
        self.is_alone.then(|| DirectoryWrite::forget_transfer(&self.row, self.frozen.by))
    }
}
