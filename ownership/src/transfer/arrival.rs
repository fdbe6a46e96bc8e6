use crate::{
    model::{Context, Input},
    pending::{NoChange, Pending, change},
    store::{DirectoryWrite, Identity, InboxRow, SessionWrite, StoredSession},
};

/// A session that has been handed to this node: the node owns it, and nothing but its RESUME is left. It
/// stays in the inbox until then, so a node that starts again finds it there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Arrived {
    inbox: InboxRow,
    by: Identity,
}

impl Arrived {
    /// What stands in the inbox of `by`, if it was handed to this epoch of it. What was handed to an
    /// earlier one is lost to that, and is taken over.
    pub fn new(inbox: InboxRow, by: Identity) -> Option<Self> {
        (inbox.session.record.owner() == by.owner).then_some(Self { inbox, by })
    }

    /// The session as it was handed off.
    pub fn session(&self) -> &StoredSession {
        &self.inbox.session
    }

    /// What the application at the origin gives to the one here.
    pub fn context(&self) -> &[u8] {
        &self.inbox.context
    }

    /// RESUME: the write after which new transports are bound again. `before` is the session as it
    /// stands: it may have lost its transport meanwhile. It also empties the inbox in *shared*.
    ///
    /// # Errors
    ///
    /// If the model refuses it, or `context` is not of the owner.
    pub fn resume(
        &self,
        before: &StoredSession,
        context: &Context,
    ) -> Result<Pending<SessionWrite>, NoChange> {
        change(before, &Input::Resume, self.by, context)
    }

    /// *Sticky*: the copy into the node's own store, which has `before` of this session. Nothing if that
    /// is the copy already, or newer.
    pub fn copy(&self, before: Option<&StoredSession>) -> Option<Pending<SessionWrite>> {
        SessionWrite::adopt(before, &self.inbox, self.by).ok().map(Pending::new)
    }

    /// *Sticky*: empties the inbox, once the session was copied. That tells the origin.
    pub fn take(&self) -> DirectoryWrite {
        DirectoryWrite::take_from_inbox(&self.inbox, self.by)
    }
}
