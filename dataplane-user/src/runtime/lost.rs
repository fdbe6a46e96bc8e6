//! Acts for owners that are lost: other nodes, and earlier epochs of this one.

use super::{
    Runtime,
    inbox::is_handed_off,
    pages::{PAGE, pages},
};
use ownership::{
    SessionId,
    baggage::Baggage,
    model::{Cause, FenceProof, Hold, Input, Owner},
    pending::{NotDone, Pending},
    store::{
        Directory, DirectoryWrite, Fault, FenceRow, SessionWrite, Sessions, StoredSession,
        TransferWrite,
    },
    takeover::{Knowledge, Strategy, act},
};
use std::{collections::BTreeSet, sync::Arc};

/// For which owners, and slots, nothing is left to be done: sessions are looked through again when that has
/// changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LookedThrough {
    proven: BTreeSet<Owner>,
    revision: u32,
}

impl Runtime {
    /// Looks through all sessions, if an owner was proven to be lost or the placement has changed since the
    /// last time, or something was left to be done then.
    pub(super) async fn act_for_lost(self: &Arc<Self>, fences: &[FenceRow]) -> Result<(), Fault> {
        let now = self.due_for_lost(fences);
        if now.proven.is_empty() || self.books().looked_through == now {
            return Ok(());
        }
        let mut left = false;
        let mut pages = Vec::new();
        self.all_sessions(|page| {
            self.note_tombstones(page);
            let others = page.iter().filter(|stored| {
                let record = &stored.record;
                !record.is_terminated() && record.owner() != self.me()
            });
            pages.extend(others.copied());
        })
        .await?;
        for stored in pages {
            if let Some(proof) = self.may_act_for(&stored) {
                left = true;
                let session = stored.record.id();
                self.look_into(session, |runtime| async move {
                    runtime.act_for(&stored, proof).await;
                });
            }
        }
        if !left {
            // Else once more, until nothing is found.
            self.books().looked_through = now;
        }
        Ok(())
    }

    /// Takes note of sessions that are over and that this node is to forget: those that it has ended.
    fn note_tombstones(&self, page: &[StoredSession]) {
        let me = self.me().node;
        let mut books = self.books();
        for StoredSession { record, .. } in page {
            if record.is_terminated() && record.owner().node == me {
                let ttl = self.settings.policy(record.service()).session_ttl;
                books.tombstones.insert((record.born().after(ttl), record.id()));
            }
        }
    }

    fn due_for_lost(&self, fences: &[FenceRow]) -> LookedThrough {
        let owners = fences.iter().flat_map(|fence| {
            let earlier = fence.epoch.previous().map(|epoch| Owner { epoch, ..fence.owner() });
            [Some(fence.owner()), earlier].into_iter().flatten()
        });
        let proven = owners.filter(|owner| self.proof(*owner).is_some()).collect();
        let revision = self.books().placing.row.as_ref().map_or(0, |row| row.revision.get());
        LookedThrough { proven, revision }
    }

    /// The proof that a session's owner is lost, if there is one and it is this node that acts for it.
    fn may_act_for(&self, stored: &StoredSession) -> Option<FenceProof> {
        let record = &stored.record;
        let is_own = record.owner().node == self.me().node;
        let slot = self.slot(record.id(), record.service())?;
        let is_due = is_own || self.owner_of_slot(slot) == Some(self.me().node);
        let proof = self.proof(record.owner()).filter(|_| is_due)?;
        let context = self.context(record.service());
        let loss = self.settings.loss(record.service());
        loss.answer(record, proof, self.me(), &context.policy, context.now).map(|_| proof)
    }

    async fn act_for(self: &Arc<Self>, stored: &StoredSession, proof: FenceProof) {
        let record = &stored.record;
        let (session, owner, service) = (record.id(), record.owner(), record.service());
        let Some(stored) = self.settled(stored).await else { return };
        let context = self.context(service);
        let loss = self.settings.loss(service);
        let answer = loss.answer(&stored.record, proof, self.me(), &context.policy, context.now);
        let Some(input) = answer else { return };
        if let Err(fault) = self.read_baggage(session).await {
            return self.faulted(fault);
        }
        let is_shared = self.settings.strategy() == Strategy::Shared;
        let routes = || self.routes_of(session, service, self.me().node).filter(|_| is_shared);
        let acted = act(&stored, &input, routes().as_ref(), self.by, &context);
        let Ok(pending) = acted else { return };
        let again = || {
            // The placement may be another one by now.
            let rival = act(&stored, &input, routes().as_ref(), self.by, &self.context(service));
            rival.map(|pending| pending.write().clone()).ok()
        };
        match self.carry(session, pending, again, |_| {}).await {
            Ok(done) if done.after().record.owner() == self.me() => {
                tracing::info!(%session, %owner, "taken over from a lost owner");
                self.go_on_here(done.after()).await;
            }
            Ok(done) => {
                tracing::info!(%session, %owner, "ended for a lost owner");
                self.publish(done.after());
            }
            Err(NotDone::Lost(_) | NotDone::Superseded | NotDone::Past) => {}
            Err(NotDone::Fenced) => self.fenced(),
            Err(NotDone::Unavailable(fault)) => self.faulted(fault),
        }
    }

    /// A session that this node has taken goes on here.
    async fn go_on_here(self: &Arc<Self>, stored: &StoredSession) {
        let record = &stored.record;
        let session = record.id();
        if record.is_terminated() {
            return self.publish(stored);
        }
        let baggage = self.books().baggage(session);
        let baggage = baggage.map(|row| row.baggage.clone()).unwrap_or_default();
        if self.expect(record, &baggage).await {
            self.own(stored, Knowledge::Written);
            let Some(turn) = self.turn(session) else { return };
            self.grant(stored, &baggage).await;
            self.let_go(session, None);
            if is_handed_off(record) {
                self.finish_arrival(&turn).await;
            }
        } else {
            self.own(stored, Knowledge::Written);
            if let Some(turn) = self.turn(session) {
                let cause = Cause::Operator;
                let _as_it_was = self.change(&turn, Input::Terminate { cause }).await;
            }
        }
    }

    pub(super) async fn read_baggage(&self, session: SessionId) -> Result<Baggage, Fault> {
        let row = self.stores.sessions.baggage(session).await?;
        let baggage = row.as_ref().map(|row| row.baggage.clone()).unwrap_or_default();
        if let Some(row) = row {
            self.books().carry(row);
        }
        Ok(baggage)
    }

    /// *Sticky*: a session that an earlier epoch of this node has frozen, as its transfer row says, if there
    /// is one. Nothing if it was handed off. That epoch can write none any more.
    async fn settled(self: &Arc<Self>, stored: &StoredSession) -> Option<StoredSession> {
        let is_frozen = matches!(stored.record.hold(), Hold::Frozen { .. });
        if self.settings.strategy() == Strategy::Shared || !is_frozen {
            return Some(*stored);
        }
        let (session, version) = (stored.record.id(), stored.record.version());
        let row = self.read(|| self.stores.directory.transfer(session, version)).await;
        let Some(row) = row else { return Some(*stored) };
        let copy = SessionWrite::settle(Some(stored), &row, self.by).ok()?;
        self.carry(session, Pending::new(copy), || None, |_| {}).await.ok()?;
        self.tidy(DirectoryWrite::forget_transfer(&row, self.by)).await;
        let is_mine = row.session.record.owner().node == self.me().node;
        if !is_mine {
            self.publish(&row.session);
        }
        is_mine.then_some(row.session)
    }

    /// A session of this node that nobody moves must not stand still.
    pub(super) async fn put_in_order(self: &Arc<Self>, session: SessionId) {
        let Some(turn) = self.turn(session) else { return };
        let stored = self.stored(&turn);
        match (stored.record.hold(), self.settings.strategy()) {
            (Hold::Active, _) => {}
            (Hold::Frozen { .. }, Strategy::Shared) => {
                self.inherit::<SessionWrite>(&turn, stored).await;
            }
            (Hold::Frozen { .. }, Strategy::Sticky) => {
                self.inherit::<TransferWrite>(&turn, stored).await;
            }
            (Hold::HandedOff { .. }, _) => self.finish_arrival(&turn).await,
        }
    }

    /// Reads every session of the store.
    pub(super) async fn all_sessions(
        &self,
        mut each: impl FnMut(&[StoredSession]),
    ) -> Result<(), Fault> {
        let read = |after| self.stores.sessions.sessions(after, PAGE);
        pages(read, |stored| stored.record.id(), |page| each(&page)).await
    }
}
