use crate::{
    baggage::{BadBaggage, Baggage},
    model::{Context, Input},
    pending::{NoChange, Pending, change},
    store::{DirectoryWrite, Identity, InboxRow, SessionWrite, StoredSession},
};

/// A session that has been handed to this node: the node owns it, and nothing but its RESUME is left. It
/// stays in the inbox until then, so a node that starts again finds it there.
///
/// One that was handed to an earlier epoch of the node is lost like all sessions of that epoch, and is
/// [taken over](crate::takeover) like them; in *sticky* once it has been copied.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Arrived {
    inbox: InboxRow,
    by: Identity,
}

impl Arrived {
    /// What stands in the inbox of the node that `by` is.
    pub fn new(inbox: InboxRow, by: Identity) -> Option<Self> {
        let owner = inbox.session.record.owner();
        (owner.node == by.owner.node).then_some(Self { inbox, by })
    }

    /// Whether the node owns it in this epoch. If not, nothing of it is delivered.
    pub fn is_owned(&self) -> bool {
        self.inbox.session.record.owner() == self.by.owner
    }

    /// The session as it was handed off.
    pub fn session(&self) -> &StoredSession {
        &self.inbox.session
    }

    /// What came with it: the context that the application at the origin gives to the one here, and the
    /// session's wire ids. In *sticky* it is to be [packed](DirectoryWrite::pack) into the node's own store.
    ///
    /// # Errors
    ///
    /// If the row has no meaning.
    pub fn baggage(&self) -> Result<Baggage, BadBaggage> {
        Baggage::unpacked(&self.inbox.context)
    }

    /// RESUME: see [`resume`].
    ///
    /// # Errors
    ///
    /// If the model refuses it, or `context` is not of the owner, as in a later epoch of it.
    pub fn resume(
        &self,
        before: &StoredSession,
        context: &Context,
    ) -> Result<Pending<SessionWrite>, NoChange> {
        resume(before, self.by, context)
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

/// RESUME: the write after which new transports are bound again. `before` is the session as it stands: it
/// may have lost its transport since it was handed off. In *shared* it empties the inbox too.
///
/// # Errors
///
/// If the model refuses it, or `by` is not the owner, as in a later epoch.
pub fn resume(
    before: &StoredSession,
    by: Identity,
    context: &Context,
) -> Result<Pending<SessionWrite>, NoChange> {
    change(before, &Input::Resume, by, context)
}
