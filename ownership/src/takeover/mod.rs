//! What becomes of the sessions of an owner that is lost, and of one that is written by two. Without I/O.
//!
//! Nothing is done for a lost owner without a [`FenceProof`](crate::model::FenceProof), which the
//! [lease](crate::lease) gives. With one, the owner of a session's slot asks [`LossPolicy::answer`] for each
//! session, and commits what comes ([`act`]):
//!
//! | policy | another node's session | the node's own, of an earlier epoch |
//! | --- | --- | --- |
//! | deny | nothing, until its time is over: then it is reaped | taken over |
//! | terminate | ended | ended |
//! | take over | taken over; reaped if its time is over | taken over |
//!
//! In *sticky* the sessions of a lost node are in a store that nobody else has. All that can be done is
//! done by the node itself, once it is back: the left column is empty. What was frozen there when it was
//! lost is first [settled](crate::transfer::Inherited) by its transfer row, if there is one: the epoch that
//! could have made one is over, so a read of it is conclusive.
//!
//! The commit compares that the owner's epoch is revoked, whatever the proof says.
//!
//! A commit that is Lost on a session that this node owns under a live epoch is another matter: somebody
//! else claims to be this owner. [`contradiction`] says what to do.

mod contradiction;
mod policy;

pub use contradiction::{Knowledge, Verdict, contradiction, security_event};
pub use policy::{LossPolicy, NeedsShared, OnLoss, Strategy};

use crate::{
    model::{Context, Input},
    pending::{NoChange, Pending, change},
    store::{Identity, SessionWrite, StoredSession},
    transfer::Routes,
};

/// The write that acts for a lost owner. In *shared* with the routes of the session's ids, which lead to
/// the node that takes it.
///
/// # Errors
///
/// If the model refuses it, or `by` is not who decides.
pub fn act(
    lost: &StoredSession,
    input: &Input,
    routes: Option<&Routes>,
    by: Identity,
    context: &Context,
) -> Result<Pending<SessionWrite>, NoChange> {
    let write = change(lost, input, by, context)?;
    Ok(match routes {
        Some(routes) => Pending::new(routes.with(write.write().clone())),
        None => write,
    })
}
