use crate::{
    audit::Refusal,
    model::{Cause, Context, Input, Reason},
    pending::{NoChange, Pending, change},
    store::{Identity, SessionWrite, StoredSession},
};

/// How this process came to know of a session what it believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Knowledge {
    /// It has read it since it resumed the epoch, and written nothing of it yet. An earlier process of the
    /// same epoch may have sent one last write.
    Read,
    /// It has written it.
    Written,
}

/// What to do with a session that this node owns and that somebody else has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was the last write of an earlier process of this epoch: the session goes on from there.
    Predecessor(StoredSession),
    /// It is stopped and stays so. A [`security_event`] is told, and this write ends it; if that is Lost
    /// too, ask again.
    End(Box<Pending<SessionWrite>>),
    /// It is stopped and stays so. A [`security_event`] is told. What stands is over or another's.
    Leave,
}

/// Judges a commit that was Lost on a session that this node owns under a live epoch. **The session is
/// stopped before this is asked.**
///
/// `believed` is what the commit was to replace, `stands` what a read found in its place.
///
/// # Errors
///
/// If `by` is not who decides.
pub fn contradiction(
    believed: &StoredSession,
    knowledge: Knowledge,
    stands: Option<&StoredSession>,
    by: Identity,
    context: &Context,
) -> Result<Verdict, NoChange> {
    let Some(stands) = stands else { return Ok(Verdict::Leave) };
    let (was, is) = (&believed.record, &stands.record);
    if is.owner() != by.owner || is.is_terminated() {
        return Ok(Verdict::Leave);
    }
    let is_next = was.version().next() == Ok(is.version());
    if knowledge == Knowledge::Read && is_next {
        return Ok(Verdict::Predecessor(*stands));
    }
    let input = Input::Terminate { cause: Cause::Contradiction };
    Ok(Verdict::End(Box::new(change(stands, &input, by, context)?)))
}

/// The SECURITY_EVENT about a session that was written by two.
pub fn security_event(believed: &StoredSession, by: Identity, context: &Context) -> Refusal {
    Refusal {
        reason: Reason::ConcurrentMutation,
        session: Some(believed.record.id()),
        stood: Some(believed.record.version()),
        count: 1,
        actor: by.owner.node,
        now: context.now,
    }
}
