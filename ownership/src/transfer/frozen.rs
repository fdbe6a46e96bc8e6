use super::{AppContext, Deciding, Routes, Undecided};
use crate::{
    NodeIndex,
    model::{Cause, Commit, Context, Decision, Hold, Input, Owner, decide},
    pending::{Done, NoChange, Pending, change},
    store::{Identity, SessionWrite, StoredSession},
};
use thiserror::Error;

/// A session that is frozen by this process: data goes on, and no new transport is bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frozen {
    pub(super) session: StoredSession,
    pub(super) by: Identity,
}

/// A frozen session that is on hold: nothing of it is delivered here, nothing of it waits in a queue, and
/// its application has given its final context.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quiesced {
    frozen: Frozen,
    context: AppContext,
}

/// A session that was neither handed off nor given up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Held {
    /// As it was frozen.
    Frozen(Frozen),
    /// As it was quiesced.
    Quiesced(Quiesced),
}

/// How a move is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GiveUp {
    /// The session goes on here.
    Abort,
    /// It ends.
    End(Cause),
}

/// There is no such step; the session is as it was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the session stays as it is: {why}")]
pub struct NoStep {
    /// The session.
    pub held: Box<Held>,
    /// Why not.
    pub why: NoChange,
}

impl Frozen {
    /// FREEZE: the write that begins to move a session to `to`.
    ///
    /// # Errors
    ///
    /// If the model refuses it, or `by` is not who decides.
    pub fn freeze(
        before: &StoredSession,
        to: NodeIndex,
        by: Identity,
        context: &Context,
    ) -> Result<Pending<SessionWrite>, NoChange> {
        change(before, &Input::Freeze { to }, by, context)
    }

    /// A session that was frozen, or changed while it is, by this write of its owner `by`; nothing if
    /// the write has ended it instead.
    pub fn new(done: &Done<SessionWrite>, by: Identity) -> Option<Self> {
        Self::of(done.after(), by)
    }

    pub(super) fn of(session: &StoredSession, by: Identity) -> Option<Self> {
        let is_frozen = matches!(session.record.hold(), Hold::Frozen { .. });
        (is_frozen && session.record.owner() == by.owner).then_some(Self { session: *session, by })
    }

    /// The session.
    pub fn session(&self) -> &StoredSession {
        &self.session
    }

    /// The session is on hold, and this is its application's final context.
    pub fn quiesced(self, context: AppContext) -> Quiesced {
        Quiesced { frozen: self, context }
    }

    /// The write that gives the move up. Until it is known to have Won, the session stays held where it
    /// was held.
    ///
    /// # Errors
    ///
    /// If `context` is not of its owner.
    pub fn give_up<W: Deciding>(
        self,
        how: GiveUp,
        context: &Context,
    ) -> Result<Undecided<W>, NoStep> {
        Held::Frozen(self).give_up(how, context)
    }
}

impl Quiesced {
    /// The session.
    pub fn session(&self) -> &StoredSession {
        &self.frozen.session
    }

    /// The same, after another change that is legal meanwhile, such as the loss of its transport; nothing
    /// if the write has ended the session.
    pub fn changed(self, done: &Done<SessionWrite>) -> Option<Self> {
        let frozen = Frozen::new(done, self.frozen.by)?;
        Some(Self { frozen, ..self })
    }

    /// HANDOFF: the write by which ownership moves to `to`, if that accepts sessions in this epoch.
    ///
    /// # Errors
    ///
    /// If `to` is not the node that the session was frozen for, or `context` is not of its owner.
    pub fn hand_off<W: Deciding>(
        self,
        to: Identity,
        routes: &Routes,
        context: &Context,
    ) -> Result<Undecided<W>, NoStep> {
        let Frozen { session, by } = &self.frozen;
        let write =
            decided(session, &Input::HandOff { to: to.owner }, context).and_then(|commit| {
                if commit.record().is_terminated() {
                    // Its time was over.
                    Ok(W::give_up(session, &commit, *by)?)
                } else {
                    Ok(routes.with(W::hand_off(session, &commit, *by, to, &self.context)?))
                }
            });
        Held::Quiesced(self).step(write)
    }

    /// The write that gives the move up, as [`Frozen::give_up`].
    ///
    /// # Errors
    ///
    /// If `context` is not of its owner.
    pub fn give_up<W: Deciding>(
        self,
        how: GiveUp,
        context: &Context,
    ) -> Result<Undecided<W>, NoStep> {
        Held::Quiesced(self).give_up(how, context)
    }
}

impl Held {
    /// The session.
    pub fn session(&self) -> &StoredSession {
        &self.frozen().session
    }

    pub(super) fn frozen(&self) -> &Frozen {
        match self {
            Self::Frozen(frozen) | Self::Quiesced(Quiesced { frozen, .. }) => frozen,
        }
    }

    /// The write that gives the move up, as [`Frozen::give_up`].
    ///
    /// # Errors
    ///
    /// If `context` is not of its owner.
    pub fn give_up<W: Deciding>(
        self,
        how: GiveUp,
        context: &Context,
    ) -> Result<Undecided<W>, NoStep> {
        let write = given_up(self.frozen(), how, context);
        self.step(write)
    }

    fn step<W: Deciding>(self, write: Result<W, NoChange>) -> Result<Undecided<W>, NoStep> {
        match write {
            Ok(write) => Ok(Undecided::new(self, write)),
            Err(why) => Err(NoStep { held: Box::new(self), why }),
        }
    }
}

/// The write that gives the move of a frozen session up.
pub(super) fn given_up<W: Deciding>(
    Frozen { session, by }: &Frozen,
    how: GiveUp,
    context: &Context,
) -> Result<W, NoChange> {
    let input = match how {
        GiveUp::Abort => Input::Abort,
        GiveUp::End(cause) => Input::Terminate { cause },
    };
    let commit = decided(session, &input, context)?;
    Ok(W::give_up(session, &commit, *by)?)
}

fn decided(session: &StoredSession, input: &Input, context: &Context) -> Result<Commit, NoChange> {
    match decide(&session.record, input, context) {
        Decision::Commit(commit) => Ok(commit),
        Decision::Reject(reason) => Err(NoChange::Refused(reason)),
    }
}

/// Whether a decision has moved ownership away from `owner`.
pub(super) fn moved(session: &StoredSession, owner: Owner) -> bool {
    session.record.owner() != owner
}
