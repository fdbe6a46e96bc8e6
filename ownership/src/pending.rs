//! A write until it is known what came of it. Without I/O.
//!
//! Most writes have an outcome at once. One that is Unknown was done, was not, or *is done later*; its
//! session stands still until that has ended, in one of two ways:
//!
//! ```text
//! send -> Unknown -> look --- it stands there -----------------> Done
//!                     |  `--- something else stands there -----> NotDone
//!                     `------ what it was to replace stands ---> a rival: Won -> Done (the rival)
//! ```
//!
//! A read that shows the old row proves nothing. A rival, another write of the same version, does once it
//! has Won: of the two only one ever is. Which rival, the caller says: the same input as a new attempt, or
//! its contrary, as an ABORT is of a HANDOFF. A rival of unknown outcome is looked for in the same way and
//! sent again unchanged, which is no new attempt: the row tells whether any sending of it has arrived.

use crate::{
    model::{Context, Decision, Input, Reason, decide},
    store::{
        BadWrite, Fate, Fault, Identity, Mismatch, Outcome, SessionWrite, StoredSession,
        TransferRow, TransferWrite,
    },
};
use std::{fmt::Debug, hash::Hash, ops::Deref};
use thiserror::Error;

/// A write that replaces one version of a session by the next.
pub trait Succession: Clone + PartialEq {
    /// The row that tells what became of it.
    type Row: Clone + Debug + Eq + Hash;

    /// What became of it, by what stands there.
    fn fate(&self, stands: Option<&Self::Row>) -> Fate;
}

impl Succession for SessionWrite {
    type Row = StoredSession;

    fn fate(&self, stands: Option<&StoredSession>) -> Fate {
        self.fate(stands)
    }
}

impl Succession for TransferWrite {
    type Row = TransferRow;

    fn fate(&self, stands: Option<&TransferRow>) -> Fate {
        match stands {
            None => Fate::Open,
            Some(row) if row == self.row() => Fate::Won,
            Some(_) => Fate::Lost,
        }
    }
}

/// A write that is known to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Done<W> {
    write: W,
    had_rival: bool,
}

impl<W> Done<W> {
    /// Whether another write of the same version was sent, which may still arrive. It is not done then,
    /// **as long as the row stays** that it would make.
    pub fn had_rival(&self) -> bool {
        self.had_rival
    }
}

impl<W> Deref for Done<W> {
    type Target = W;

    fn deref(&self) -> &W {
        &self.write
    }
}

/// Why a write is not done and never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotDone {
    /// Something was not as compared.
    Lost(Mismatch),
    /// The epoch of whoever wrote is over: stop at once.
    Fenced,
    /// It was turned away. Nothing has changed.
    Unavailable(Fault),
    /// After a doubt: another write has made this version.
    Superseded,
    /// After a doubt: the session is past this version. Who made it, the row does not tell.
    Past,
}

/// What is known of a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "a write that nobody looks after may be done later"]
pub enum Progress<W> {
    /// This one is done. The other of two rivals never will be.
    Done(Done<W>),
    /// It is not done, and never will be.
    NotDone(NotDone),
    /// Not enough yet.
    Pending(Pending<W>),
}

/// A write on its way. One request about it is under way at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "a write that nobody looks after may be done later"]
pub struct Pending<W> {
    write: W,
    rival: Option<W>,
    /// Whether an earlier sending of the rival may still arrive.
    is_rival_in_doubt: bool,
    /// Whether no sending of the write will be done from here on.
    is_void: bool,
    due: Due,
}

/// What is due for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Due {
    /// To send it ([`Pending::write`]) and tell what came of it ([`Pending::answered`]).
    Send,
    /// To read the row that tells ([`Pending::found`]).
    Look,
    /// To send a rival ([`Pending::rival`]) and tell what came of that ([`Pending::answered`]).
    Rival,
}

impl<W: Succession> Pending<W> {
    /// A write that is to be sent.
    pub fn new(write: W) -> Self {
        Self { write, rival: None, is_rival_in_doubt: false, is_void: false, due: Due::Send }
    }

    /// What is due.
    pub fn due(&self) -> Due {
        self.due
    }

    /// The write.
    pub fn write(&self) -> &W {
        &self.write
    }

    /// The rival to be sent: the one that was sent before and may still be done, or else the given one.
    pub fn rival(&mut self, rival: impl FnOnce() -> W) -> &W {
        self.rival.get_or_insert_with(rival)
    }

    /// The writes that may have been done.
    pub fn writes(&self) -> impl Iterator<Item = &W> {
        std::iter::once(&self.write).chain(&self.rival)
    }

    /// What came of what was sent last.
    pub fn answered(mut self, outcome: Outcome) -> Progress<W> {
        let is_rival = self.due == Due::Rival;
        match (outcome, self.rival.take_if(|_| is_rival)) {
            (Outcome::Won, Some(rival)) => Progress::Done(Done { write: rival, had_rival: true }),
            (Outcome::Won, None) => Progress::Done(self.done(&self.write)),
            (Outcome::Fenced, _) => Progress::NotDone(NotDone::Fenced),
            (Outcome::Lost(mismatch), None) => Progress::NotDone(NotDone::Lost(mismatch)),
            (Outcome::Unavailable(fault), None) => Progress::NotDone(NotDone::Unavailable(fault)),
            (Outcome::Unknown, rival) => {
                self.is_rival_in_doubt |= is_rival;
                self.rival = rival;
                self.look()
            }
            // The placement is past what the rival compares: no sending of it will ever be done. The write
            // itself may be its own rival, as a birth is, which has no other.
            (Outcome::Lost(Mismatch::Placement), Some(rival)) => {
                self.is_rival_in_doubt = false;
                self.is_void |= rival == self.write;
                self.look()
            }
            // What the rival lost to may be the write that is in doubt, or an earlier sending of its own.
            // One that was sent but once is done with: the next may be another.
            (Outcome::Lost(_) | Outcome::Unavailable(_), rival) => {
                self.rival = rival.filter(|_| self.is_rival_in_doubt);
                self.look()
            }
        }
    }

    fn look(mut self) -> Progress<W> {
        self.due = Due::Look;
        Progress::Pending(self)
    }

    fn done(&self, write: &W) -> Done<W> {
        Done { write: write.clone(), had_rival: self.rival.is_some() }
    }

    /// What was read, after an outcome was unknown.
    pub fn found(mut self, stands: Option<&W::Row>) -> Progress<W> {
        if let Some(done) = self.writes().find(|write| write.fate(stands) == Fate::Won) {
            return Progress::Done(self.done(done));
        }
        match self.write.fate(stands) {
            Fate::Open if self.is_void => Progress::NotDone(NotDone::Lost(Mismatch::Placement)),
            Fate::Won | Fate::Open => {
                self.due = Due::Rival;
                Progress::Pending(self)
            }
            Fate::Lost => Progress::NotDone(NotDone::Superseded),
            Fate::Past => Progress::NotDone(NotDone::Past),
        }
    }
}

/// Why there is nothing to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoChange {
    /// The model refuses it. Nothing has changed.
    #[error("refused: {0}")]
    Refused(Reason),
    /// The caller is not who decides, or the write is not of this kind.
    #[error(transparent)]
    Bad(#[from] BadWrite),
}

/// The write of what an input makes of a session: everything but its hand-off.
///
/// The session may be at its end instead of what was asked, if a time limit has passed.
///
/// # Errors
///
/// If the model refuses it, or `by` is not who decides.
pub fn change(
    before: &StoredSession,
    input: &Input,
    by: Identity,
    context: &Context,
) -> Result<Pending<SessionWrite>, NoChange> {
    match decide(&before.record, input, context) {
        Decision::Reject(reason) => Err(NoChange::Refused(reason)),
        Decision::Commit(commit) => Ok(Pending::new(SessionWrite::change(before, &commit, by)?)),
    }
}
