use super::AppContext;
use crate::{
    Revision,
    model::Commit,
    pending::Succession,
    store::{
        BadWrite, Identity, OffHomeKey, SessionWrite, StoredSession, TransferRow, TransferWrite,
    },
};
use std::{fmt::Debug, hash::Hash};

/// The write that decides what becomes of a frozen session: the strategy.
pub trait Deciding: Succession + Debug + Eq + Hash {
    /// Hands it off.
    ///
    /// # Errors
    ///
    /// If the commit does not hand it to `to`, or `by` is not who decided it.
    fn hand_off(
        frozen: &StoredSession,
        commit: &Commit,
        by: Identity,
        to: Identity,
        context: &AppContext,
    ) -> Result<Self, BadWrite>;

    /// Rules the hand-off out: by an ABORT, or by the end of the session.
    ///
    /// # Errors
    ///
    /// If the commit is neither, or `by` is not who decided it.
    fn give_up(frozen: &StoredSession, commit: &Commit, by: Identity) -> Result<Self, BadWrite>;

    /// The row that stands once this is done.
    fn row(&self) -> Self::Row;

    /// The session that a row tells of.
    fn session(row: &Self::Row) -> &StoredSession;

    /// Compares the placement as well.
    fn at_placement(self, revision: Revision) -> Self;

    /// Writes an off-home row as well.
    fn off_home(self, key: OffHomeKey) -> Self;

    /// Deletes an off-home row as well.
    fn at_home(self, key: OffHomeKey) -> Self;
}

/// *Shared*.
impl Deciding for SessionWrite {
    fn hand_off(
        frozen: &StoredSession,
        commit: &Commit,
        by: Identity,
        to: Identity,
        context: &AppContext,
    ) -> Result<Self, BadWrite> {
        Self::hand_off(frozen, commit, by, to, context.shared())
    }

    fn give_up(frozen: &StoredSession, commit: &Commit, by: Identity) -> Result<Self, BadWrite> {
        Self::change(frozen, commit, by)
    }

    fn row(&self) -> StoredSession {
        *self.after()
    }

    fn session(row: &StoredSession) -> &StoredSession {
        row
    }

    fn at_placement(self, revision: Revision) -> Self {
        self.at_placement(revision)
    }

    fn off_home(self, key: OffHomeKey) -> Self {
        self.off_home(key)
    }

    fn at_home(self, key: OffHomeKey) -> Self {
        self.at_home(key)
    }
}

/// *Sticky*.
impl Deciding for TransferWrite {
    fn hand_off(
        frozen: &StoredSession,
        commit: &Commit,
        by: Identity,
        to: Identity,
        context: &AppContext,
    ) -> Result<Self, BadWrite> {
        Self::hand_off(frozen, commit, by, to, context.shared())
    }

    fn give_up(frozen: &StoredSession, commit: &Commit, by: Identity) -> Result<Self, BadWrite> {
        Self::abort(frozen, commit, by)
    }

    fn row(&self) -> TransferRow {
        self.row().clone()
    }

    fn session(row: &TransferRow) -> &StoredSession {
        &row.session
    }

    fn at_placement(self, revision: Revision) -> Self {
        self.at_placement(revision)
    }

    fn off_home(self, key: OffHomeKey) -> Self {
        self.off_home(key)
    }

    fn at_home(self, key: OffHomeKey) -> Self {
        self.at_home(key)
    }
}
