//! Recovery: what to do with a store that was restored from a backup.
//!
//! What was committed after the backup is lost, and some of it is known out there: to clients, kernels and
//! logs. So nothing that is older goes on. [`begin`] makes the store one that every node takes again, whose
//! epochs are all later than any that was drawn; then somebody registers (or copies its fence row into its
//! own store); and in that epoch [`end_older`] ends the epochs and the sessions before it, each by a commit
//! of its own, with its event, and [`pass_revision`] sees to the placement. Whatever fails halfway is done by
//! running all of it again.
//!
//! **After the first step a taker's whole wait has to pass** ([`LeaseTimes`](crate::lease::LeaseTimes)). No
//! earlier epoch can renew its lease in a store that has gone back, so by then none delivers. And no node may
//! come back before all is done: it would take over what it finds of its own.
//!
//! A session whose later versions are lost ends in a version that was made before. Nobody takes that for
//! the one of before: its client believes no version that is not above its own, and the log has the two
//! under different generations.

use super::{
    Admission, Attempt, Directory, DirectoryWrite, Failure, Generation, Identity, Mismatch,
    Outcome, Position, SessionWrite, Sessions, Store, StoredSession,
};
use crate::{
    NodeIndex, Revision,
    model::{Context, FenceProof, Input},
    pending::{NoChange, change},
};
use std::collections::BTreeSet;
use thiserror::Error;

/// So many epochs are left out: more than nodes register between a backup and its restoration. There are
/// 256 times as many.
pub const EPOCHS_SKIPPED: u32 = 1 << 16;

/// How many rows are gone through at once.
const PAGE: usize = 1000;

/// How often it is tried again if others write, too.
const PASSES: usize = 5;

/// Why a recovery has ended early. Run all of it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecoverError {
    /// The store did not do it.
    #[error("recovering the store: {0}; then run it again")]
    Store(#[from] Failure),
    /// Something cannot be ended.
    #[error("recovering the store: {0}")]
    NoChange(#[from] NoChange),
}

/// What a recovery has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Nodes that were fenced.
    pub nodes: usize,
    /// Sessions that were terminated.
    pub sessions: usize,
    /// Off-home rows of sessions that are over.
    pub off_home: usize,
    /// Rows of what sessions carried that were over before, or are not there.
    pub baggage: usize,
}

/// Begins a generation that is later than the store's and than any that a node has seen. `seen` is the
/// latest point that any node has seen of it; the store is opened as by somebody who has seen nothing.
///
/// # Errors
///
/// If the store does not do it, or somebody else does it at the same time.
pub async fn begin<S: Store>(store: &S, seen: Position) -> Result<Generation, RecoverError> {
    let before = store.generation().await.map_err(Failure::from)?.ok_or(Failure::Corrupt)?;
    let last = before.max(seen.generation).0;
    let next = Generation(last.checked_add(1).ok_or(Failure::Exhausted("generations"))?);
    let drawn = store.epochs().await.map_err(Failure::from)?;
    let write = DirectoryWrite::begin_generation(before, next, drawn, EPOCHS_SKIPPED);
    store.write(write.map_err(NoChange::Bad)?).await.done()?;
    Ok(next)
}

/// Ends every epoch before that of `by`, and every session that is owned in one. In a store of a node's own
/// these are the node's; what it has handed off is the others'. `next` gives the circumstances of each
/// commit.
///
/// # Errors
///
/// If the store does not do it. What was ended stays so.
pub async fn end_older<S: Directory + Sessions>(
    store: &S,
    by: Identity,
    mut next: impl FnMut() -> Context,
) -> Result<Ended, RecoverError> {
    let mut ended = Ended::default();
    repeat(async || fence_older(store, by, &mut next, &mut ended.nodes).await).await?;
    repeat(async || end_sessions(store, by, &mut next, &mut ended.sessions).await).await?;
    repeat(async || forget_off_home(store, by, &mut ended.off_home).await).await?;
    repeat(async || forget_baggage(store, by, &mut ended.baggage).await).await?;
    Ok(ended)
}

/// Puts the placement that stands under a revision behind all that any node has applied: kernels, and stores
/// of the nodes' own, believe no placement that is not newer than theirs. One commit for each revision.
///
/// # Errors
///
/// If the store does not do it. What was done stays so.
pub async fn pass_revision<S: Directory>(
    store: &S,
    by: Identity,
    applied: Revision,
    mut next: impl FnMut() -> Context,
) -> Result<Option<Revision>, RecoverError> {
    loop {
        let Some(row) = store.placement().await.map_err(Failure::from)? else { return Ok(None) };
        if row.revision > applied {
            return Ok(Some(row.revision));
        }
        let plan = row.placement().map_err(|_| Failure::Corrupt)?;
        let plan = plan.renewed().map_err(|_| Failure::Exhausted("placement revisions"))?;
        let Context { now, operation, .. } = next();
        let write = DirectoryWrite::place(Some(&row), &plan, Attempt { by, now, operation });
        store.write(write.map_err(NoChange::Bad)?.0).await.done()?;
    }
}

/// Whether something was written by somebody else meanwhile, and has to be looked at again.
type Missed = bool;

async fn repeat(
    mut pass: impl AsyncFnMut() -> Result<Missed, RecoverError>,
) -> Result<(), RecoverError> {
    for _ in 0..PASSES {
        if !pass().await? {
            return Ok(());
        }
    }
    Err(Failure::Conflict(Mismatch::Row).into())
}

/// Counts a write that is done; one that is Lost was missed.
fn count(outcome: Outcome, done: &mut usize) -> Result<Missed, Failure> {
    if let Outcome::Lost(_) = outcome {
        return Ok(true);
    }
    outcome.done()?;
    *done += 1;
    Ok(false)
}

async fn fence_older<S: Directory>(
    store: &S,
    by: Identity,
    next: &mut impl FnMut() -> Context,
    done: &mut usize,
) -> Result<Missed, RecoverError> {
    let mut missed = false;
    for row in store.fences().await.map_err(Failure::from)? {
        if row.epoch >= by.owner.epoch || row.admission == Admission::Fenced {
            continue;
        }
        let Context { now, operation, .. } = next();
        let (write, _) = DirectoryWrite::fence(&row, Attempt { by, now, operation });
        missed |= count(store.write(write).await, done)?;
    }
    Ok(missed)
}

async fn end_sessions<S: Directory + Sessions>(
    store: &S,
    by: Identity,
    next: &mut impl FnMut() -> Context,
    done: &mut usize,
) -> Result<Missed, RecoverError> {
    let rows = store.fences().await.map_err(Failure::from)?;
    let nodes: BTreeSet<NodeIndex> = rows.iter().map(|row| row.node).collect();
    let is_older = |session: &&StoredSession| {
        let owner = session.record.owner();
        let is_ours = owner.epoch < by.owner.epoch && nodes.contains(&owner.node);
        is_ours && !session.record.is_terminated()
    };
    let (mut missed, mut after) = (false, None);
    loop {
        let page = store.sessions(after, PAGE).await.map_err(Failure::from)?;
        let Some(last) = page.last() else { return Ok(missed) };
        after = Some(last.record.id());
        let writes = page.iter().filter(is_older).map(|session| end(session, by, &next()));
        for outcome in store.commit(writes.collect::<Result<_, _>>()?).await {
            missed |= count(outcome, done)?;
        }
    }
}

fn end(session: &StoredSession, by: Identity, context: &Context) -> Result<SessionWrite, NoChange> {
    // That its owner can act no longer is what the restoration and the wait are for; that it is revoked, the
    // commit compares.
    let proof = FenceProof::new(session.record.owner());
    let write = change(session, &Input::TerminateLost { proof }, by, context)?;
    Ok(write.write().clone())
}

async fn forget_off_home<S: Directory + Sessions>(
    store: &S,
    by: Identity,
    done: &mut usize,
) -> Result<Missed, RecoverError> {
    let (mut missed, mut after) = (false, None);
    loop {
        let page = store.off_home(0, u16::MAX, after, PAGE).await.map_err(Failure::from)?;
        let Some(last) = page.last() else { return Ok(missed) };
        after = Some(last.key.clone());
        for row in page {
            let session = store.get(row.session).await.map_err(Failure::from)?;
            if session.is_some_and(|session| session.record.is_terminated()) {
                missed |= count(store.write(DirectoryWrite::at_home(&row, by)).await, done)?;
            }
        }
    }
}

/// What was packed too late, and will not go with its session's end.
async fn forget_baggage<S: Sessions>(
    store: &S,
    by: Identity,
    done: &mut usize,
) -> Result<Missed, RecoverError> {
    let (mut missed, mut after) = (false, None);
    loop {
        let page = store.all_baggage(after, PAGE).await.map_err(Failure::from)?;
        let Some(last) = page.last() else { return Ok(missed) };
        after = Some(last.session);
        for row in page {
            let session = store.get(row.session).await.map_err(Failure::from)?;
            if session.is_none_or(|session| session.record.is_terminated()) {
                missed |= count(store.write(DirectoryWrite::forget_baggage(&row, by)).await, done)?;
            }
        }
    }
}
