use super::{Deciding, frozen::Frozen};
use crate::{
    SessionId, StateVersion,
    model::Owner,
    pending::Pending,
    store::{
        BadWrite, DirectoryWrite, InboxRow, OffHomeRow, SessionWrite, StoredSession, TransferWrite,
    },
};

/// A session that this node has handed off. It owns it no more; what it held goes to the new owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HandedOff<W: Deciding> {
    frozen: Frozen,
    row: W::Row,
    is_alone: bool,
}

/// A session that this node has handed off, and that has gone on elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resumed {
    session: SessionId,
}

/// Where a node sends the packets of a session that it does not own.
///
/// Kept **for as long as the session lives**: whoever has an older view of the placement, or none of this
/// session, goes on sending its packets here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Redirect {
    session: SessionId,
    to: Owner,
    version: StateVersion,
}

impl<W: Deciding> HandedOff<W> {
    pub(super) fn new(frozen: Frozen, row: W::Row, is_alone: bool) -> Self {
        Self { frozen, row, is_alone }
    }

    /// The session as it was handed off.
    pub fn session(&self) -> &StoredSession {
        W::session(&self.row)
    }

    /// Where its packets go from here on.
    pub fn redirect(&self) -> Redirect {
        Redirect::to_owner(self.session())
    }

    /// Whether the destination has gone on, by what stands in its inbox for this session. Nothing, once
    /// it has: what the origin kept for it may go, but for the [redirect](HandedOff::redirect).
    ///
    /// # Errors
    ///
    /// With what it was, if it has not.
    #[expect(clippy::result_large_err, reason = "it is what the caller goes on with")]
    pub fn resumed(self, inbox: Option<&InboxRow>) -> Result<Resumed, Self> {
        let session = self.session();
        let waits = inbox.is_some_and(|inbox| inbox.session == *session);
        if waits { Err(self) } else { Ok(Resumed { session: session.record.id() }) }
    }
}

impl HandedOff<TransferWrite> {
    /// *Sticky*: the copy into the node's own store: the record says then that it is another's.
    ///
    /// # Errors
    ///
    /// If the row is of another session.
    pub fn copy(&self) -> Result<Pending<SessionWrite>, BadWrite> {
        let Frozen { session, by } = &self.frozen;
        Ok(Pending::new(SessionWrite::settle(Some(session), &self.row, *by)?))
    }

    /// *Sticky*: forgets the decision, once it is copied. Nothing if another decision may still arrive: it
    /// would find no row there and be done as well. The row then stays until the node has a
    /// [later epoch](DirectoryWrite::forget_transfer).
    pub fn forget(&self) -> Option<DirectoryWrite> {
        self.is_alone.then(|| DirectoryWrite::forget_transfer(&self.row, self.frozen.by))
    }
}

impl Resumed {
    /// The session.
    pub fn session(self) -> SessionId {
        self.session
    }
}

impl Redirect {
    /// To the owner of a session, as the row has it.
    pub fn to_owner(session: &StoredSession) -> Self {
        let record = &session.record;
        Self { session: record.id(), to: record.owner(), version: record.version() }
    }

    /// To where an off-home row says.
    pub fn off_home(row: &OffHomeRow) -> Self {
        let OffHomeRow { session, owner: to, version, .. } = *row;
        Self { session, to, version }
    }

    /// The session.
    pub fn session(self) -> SessionId {
        self.session
    }

    /// Its owner, as far as is known.
    pub fn to(self) -> Owner {
        self.to
    }

    /// The version by which that is known.
    pub fn version(self) -> StateVersion {
        self.version
    }

    /// The redirect after something newer was learnt of the session, by a node that acts as `me`; nothing
    /// once the session is over or has come back. What is older changes nothing.
    #[must_use]
    pub fn seen(self, session: &StoredSession, me: Owner) -> Option<Self> {
        let record = &session.record;
        if record.id() != self.session || record.version() < self.version {
            return Some(self);
        }
        let is_over = record.is_terminated() || record.owner() == me;
        (!is_over).then(|| Self::to_owner(session))
    }
}
