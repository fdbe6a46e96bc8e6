use super::{
    Condition, Identity, InboxRow, Key, OffHomeKey, OffHomeRow, Row, StoredSession, Transaction,
    TransferRow, Write, directory_write::BadWrite,
};
use crate::{
    Revision, StateVersion,
    audit::{Entry, Event, Head},
    model::{ChangeCause, Commit, Hold, Input, SessionRecord},
};
use std::sync::Arc;

/// The write of one session: a [`Commit`], and all that has to be compared and written with it.
///
/// What follows from the commit is taken from it, so that nobody can forget it: the row before, the
/// fence row of whoever decided, that a lost owner is revoked; for a hand-off the destination's fence
/// row and its inbox; that a resumed or ended session leaves the inbox, and that one that is over, or in a
/// node's own store gone to another, carries nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "nothing is written yet"]
pub struct SessionWrite {
    transaction: Transaction,
    after: StoredSession,
    before: Option<StoredSession>,
}

/// What became of a write whose outcome was Unknown, as far as one read can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an Unknown that is not settled holds the session still"]
pub enum Fate {
    /// It was done.
    Won,
    /// It was not done, and never will be: another write has made this version.
    Lost,
    /// It may still be done. Only a rival write of the same version that has Won rules that out.
    Open,
    /// The session is past that version; the audit log tells who made it.
    Past,
}

impl SessionWrite {
    /// Makes a session, if there is none with this id and the placement is the one by which the id
    /// was minted.
    ///
    /// # Errors
    ///
    /// If the commit is no birth, or `by` is not who decided it.
    pub fn birth(commit: &Commit, by: Identity, placement: Revision) -> Result<Self, BadWrite> {
        if !matches!(commit.event().cause(), ChangeCause::Birth { .. }) {
            return Err(BadWrite::OtherKind);
        }
        let mut write = Self::of(None, commit, by)?;
        write.transaction.conditions.push(Condition::PlacementAt(placement));
        Ok(write)
    }

    /// Changes a session: everything but its birth and its hand-off.
    ///
    /// # Errors
    ///
    /// If the commit is one of these, does not follow `before`, or `by` is not who decided it.
    pub fn change(before: &StoredSession, commit: &Commit, by: Identity) -> Result<Self, BadWrite> {
        if hands_off(&before.record, commit.record()) {
            return Err(BadWrite::OtherKind);
        }
        Self::of(Some(before), commit, by)
    }

    /// *Shared*: hands a session off to `to`, if that accepts sessions, and leaves it in its inbox
    /// with what it carries. What stands of that in the store stays: its new owner goes on with it.
    ///
    /// # Errors
    ///
    /// If the commit hands nothing off, or to another than `to`; as [`SessionWrite::change`] else.
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
        let mut write = Self::of(Some(before), commit, by)?;
        let inbox = InboxRow { session: write.after, from: before.record.owner(), context };
        write.transaction.conditions.push(Condition::Accepting(to));
        write.transaction.writes.push(Write::Put(Row::Inbox(inbox)));
        Ok(write)
    }

    /// *Sticky*: copies into the node's own store what was decided in the directory about a frozen
    /// session, by the origin (over its own row) or the destination (over nothing, or over what is
    /// left of an earlier stay). The event was written with the decision.
    ///
    /// # Errors
    ///
    /// If `before` is another session, or not older.
    pub fn settle(
        before: Option<&StoredSession>,
        decided: &TransferRow,
        by: Identity,
    ) -> Result<Self, BadWrite> {
        let after = decided.session;
        Self::copy(before, after, by)
    }

    /// *Sticky*: the destination's copy, out of its inbox; as [`SessionWrite::settle`].
    ///
    /// # Errors
    ///
    /// If `before` is another session, or not older.
    pub fn adopt(
        before: Option<&StoredSession>,
        inbox: &InboxRow,
        by: Identity,
    ) -> Result<Self, BadWrite> {
        Self::copy(before, inbox.session, by)
    }

    fn copy(
        before: Option<&StoredSession>,
        after: StoredSession,
        by: Identity,
    ) -> Result<Self, BadWrite> {
        let follows = before.is_none_or(|before| {
            before.record.id() == after.record.id()
                && before.record.version() < after.record.version()
        });
        if !follows {
            return Err(BadWrite::OtherVersion);
        }
        let record = &after.record;
        let mut writes = vec![Write::Put(Row::Session(after))];
        if record.is_terminated() || record.owner().node != by.owner.node {
            writes.push(Write::Delete(Key::Baggage(record.id())));
        }
        let transaction = Transaction {
            conditions: vec![Condition::Acting(by), stands(before, after.record)],
            writes,
            entries: Vec::new(),
        };
        Ok(Self { transaction, after, before: before.copied() })
    }

    fn of(before: Option<&StoredSession>, commit: &Commit, by: Identity) -> Result<Self, BadWrite> {
        let (event, record) = (*commit.event(), *commit.record());
        if event.context().actor != by.owner {
            return Err(BadWrite::OtherActor);
        }
        let after = successor(before, commit)?;
        let entry = after.entry;
        let mut conditions = vec![Condition::Acting(by), stands(before, record)];
        if let ChangeCause::Input(Input::TakeOver { .. } | Input::TerminateLost { .. }) =
            event.cause()
            && let Some(before) = before
        {
            conditions.push(Condition::Revoked(before.record.owner()));
        }
        let mut writes = vec![Write::Put(Row::Session(after.session))];
        if let Some(before) = before
            && matches!(before.record.hold(), Hold::HandedOff { .. })
            && !matches!(record.hold(), Hold::HandedOff { .. })
        {
            writes.push(Write::Delete(Key::Inbox(before.record.owner().node, record.id())));
        }
        if record.is_terminated() {
            writes.push(Write::Delete(Key::Baggage(record.id())));
        }
        let transaction = Transaction { conditions, writes, entries: vec![entry] };
        Ok(Self { transaction, after: after.session, before: before.copied() })
    }

    /// Compares with it that the placement is still this one.
    pub fn at_placement(mut self, revision: Revision) -> Self {
        self.transaction.conditions.push(Condition::PlacementAt(revision));
        self
    }

    /// Writes with it that this id, which belongs to the session, is sent on to its new owner.
    pub fn off_home(mut self, key: OffHomeKey) -> Self {
        let record = &self.after.record;
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

    /// The session as it is before.
    pub fn before(&self) -> Option<&StoredSession> {
        self.before.as_ref()
    }

    /// The session as it is once this is done.
    pub fn after(&self) -> &StoredSession {
        &self.after
    }

    /// What became of this write, by what stands in the store now.
    pub fn fate(&self, stands: Option<&StoredSession>) -> Fate {
        let Some(stands) = stands else { return Fate::Open };
        let (made, stands_at) = (self.after.record.version(), stands.record.version());
        if *stands == self.after {
            Fate::Won
        } else if stands_at == made {
            Fate::Lost
        } else if stands_at > made {
            Fate::Past
        } else {
            Fate::Open
        }
    }

    /// The transaction.
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }
}

impl From<SessionWrite> for Transaction {
    fn from(write: SessionWrite) -> Self {
        write.transaction
    }
}

/// A session's next version as it is stored, and the entry that tells of it.
pub(super) struct Successor {
    pub(super) session: StoredSession,
    pub(super) entry: Entry,
}

/// What a commit makes of what is stored.
pub(super) fn successor(
    before: Option<&StoredSession>,
    commit: &Commit,
) -> Result<Successor, BadWrite> {
    let (event, record) = (*commit.event(), *commit.record());
    let expected = match before {
        None => Some(StateVersion::BIRTH),
        Some(before) if before.record.id() == record.id() => before.record.version().last().ok(),
        Some(_) => None,
    };
    if expected != Some(record.version()) {
        return Err(BadWrite::OtherVersion);
    }
    let chain = before.map_or(Head::START, |before| before.head);
    let (head, entry) = Entry::chained(chain, Event::StateChange(event));
    let operation = event.context().operation;
    Ok(Successor { session: StoredSession { record, head, operation }, entry })
}

/// Whether a commit moves ownership to another node.
pub(super) fn hands_off(before: &SessionRecord, after: &SessionRecord) -> bool {
    !matches!(before.hold(), Hold::HandedOff { .. })
        && matches!(after.hold(), Hold::HandedOff { .. })
}

fn stands(before: Option<&StoredSession>, after: SessionRecord) -> Condition {
    match before {
        Some(before) => Condition::Is(Row::Session(*before)),
        None => Condition::Absent(Key::Session(after.id())),
    }
}
