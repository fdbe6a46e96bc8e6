use super::{
    Decided, Deciding, Undecided,
    frozen::{Frozen, GiveUp, given_up},
    undecided::decided,
};
use crate::{
    model::Context,
    pending::NoChange,
    store::{Identity, StoredSession, TransferRow, TransferWrite},
};

/// A session that an earlier process of this node has frozen, in the same epoch. Whether that one has
/// sent a hand-off, nobody knows: the move is given up by a commit that wins, or it turns out to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inherited(Frozen);

impl Inherited {
    /// The session as it was found, if it is frozen and `by` owns it.
    pub fn new(found: &StoredSession, by: Identity) -> Option<Self> {
        Frozen::of(found, by).map(Self)
    }

    /// The session.
    pub fn session(&self) -> &StoredSession {
        self.0.session()
    }

    /// The write that gives the move up.
    ///
    /// If it comes too late ([`Decided::LookAnew`]), an earlier decision stands: in *shared* the session's
    /// row has it, in *sticky* its transfer row ([`Inherited::decided`]).
    ///
    /// # Errors
    ///
    /// If `context` is not of its owner.
    pub fn give_up<W: Deciding>(
        &self,
        how: GiveUp,
        context: &Context,
    ) -> Result<Undecided<W>, NoChange> {
        let write = given_up(&self.0, how, context)?;
        Ok(Undecided::inherited(self.0.clone(), write))
    }

    /// *Sticky*: what was decided of it, as its transfer row says.
    pub fn decided(&self, row: &TransferRow) -> Decided<TransferWrite> {
        decided(&self.0, row.clone(), false)
    }
}
