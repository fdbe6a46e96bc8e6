use super::{
    BadWrite, Condition, Identity, InboxRow, Key, OffHomeKey, OffHomeRow, Row, StoredSession,
    Transaction, TransferRow, Write,
    session_write::{Successor, hands_off, successor},
};
use crate::{
    Revision,
    model::{ChangeCause, Commit, Hold, Input},
};
use std::sync::Arc;

/// *Sticky*: decides in the directory what becomes of a frozen session, HANDOFF or its abort. Both
/// create the same row, so at most one is ever done.
///
/// From the first of them on, the version that follows is decided in the directory alone: the origin's
/// own store takes nothing for the session but a copy of what was decided.
///
/// The transfer row stays until the origin has copied it; the inbox row until the destination has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "nothing is written yet"]
pub struct TransferWrite {
    transaction: Transaction,
    row: TransferRow,
}

impl TransferWrite {
    /// Hands a frozen session off to `to`, if that accepts sessions.
    ///
    /// # Errors
    ///
    /// If the commit hands nothing off, or to another, does not follow `before`, or `by` is not who
    /// decided it.
    pub fn hand_off(
        before: &StoredSession,
        commit: &Commit,
        by: Identity,
        to: Identity,
        context: Arc<[u8]>,
    ) -> Result<Self, BadWrite> {
        if !hands_off(&before.record, commit.record()) {
            return Err(BadWrite::OtherKind);
        }
        if commit.record().owner() != to.owner {
            return Err(BadWrite::OtherDestination);
        }
        let mut write = Self::of(before, commit, by)?;
        let inbox = InboxRow { session: write.row.session, from: before.record.owner(), context };
        write.transaction.conditions.push(Condition::Accepting(to));
        write.transaction.writes.push(Write::Put(Row::Inbox(inbox)));
        Ok(write)
    }

    /// Rules the hand-off out: by ABORT, or by an end of the session, which is legal while it is
    /// frozen.
    ///
    /// # Errors
    ///
    /// If the commit does not end the freeze without a hand-off, does not follow `before`, or `by` is
    /// not who decided it.
    pub fn abort(before: &StoredSession, commit: &Commit, by: Identity) -> Result<Self, BadWrite> {
        let is_abort = matches!(commit.event().cause(), ChangeCause::Input(Input::Abort));
        if !is_abort && !commit.record().is_terminated() {
            return Err(BadWrite::OtherKind);
        }
        Self::of(before, commit, by)
    }

    fn of(before: &StoredSession, commit: &Commit, by: Identity) -> Result<Self, BadWrite> {
        if commit.event().context().actor != by.owner {
            return Err(BadWrite::OtherActor);
        }
        if !matches!(before.record.hold(), Hold::Frozen { .. }) {
            return Err(BadWrite::OtherKind);
        }
        let Successor { session, entry } = successor(Some(before), commit)?;
        let row = TransferRow { frozen: before.record.version(), session };
        let transaction = Transaction {
            conditions: vec![
                Condition::Acting(by),
                Condition::Absent(Key::Transfer(session.record.id(), row.frozen)),
            ],
            writes: vec![Write::Put(Row::Transfer(row.clone()))],
            entries: vec![entry],
        };
        Ok(Self { transaction, row })
    }

    /// Compares with it that the placement is still this one.
    pub fn at_placement(mut self, revision: Revision) -> Self {
        self.transaction.conditions.push(Condition::PlacementAt(revision));
        self
    }

    /// Writes with it that this id, which belongs to the session, is sent on to its new owner.
    pub fn off_home(mut self, key: OffHomeKey) -> Self {
        let record = &self.row.session.record;
        let (session, owner, version) = (record.id(), record.owner(), record.version());
        let row = OffHomeRow { key, session, owner, version };
        self.transaction.writes.push(Write::Put(Row::OffHome(row)));
        self
    }

    /// Writes with it that this id is at home again, or no longer in use.
    pub fn at_home(mut self, key: OffHomeKey) -> Self {
        self.transaction.writes.push(Write::Delete(Key::OffHome(key)));
        self
    }

    /// What is decided once this is done. After an Unknown, a row that stands and is this one says
    /// that it was done; another one, that it never will be; none says nothing.
    pub fn row(&self) -> &TransferRow {
        &self.row
    }

    /// The transaction.
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }
}

impl From<TransferWrite> for Transaction {
    fn from(write: TransferWrite) -> Self {
        write.transaction
    }
}
