//! Acts for owners that are lost: other nodes, and earlier epochs of this one.

use super::{Node, is_handed_off};
use ownership::{
    SessionId,
    model::{FenceProof, Hold},
    pending::{NotDone, Pending},
    store::{Directory, DirectoryWrite, FenceRow, SessionWrite, Sessions, StoredSession},
    takeover::{Knowledge, Strategy, act},
};
use std::{collections::BTreeMap, rc::Rc};

impl Node {
    pub(super) async fn act_for_lost(self: &Rc<Self>, fences: &[FenceRow]) {
        // What was so before the store was asked.
        let known: BTreeMap<SessionId, StoredSession> = {
            let owned = self.owned.borrow();
            let at_rest = owned.iter().filter(|(_, it)| !it.is_busy);
            at_rest.map(|(session, it)| (*session, it.stored)).collect()
        };
        let mut after = None;
        loop {
            let Ok(page) = self.sessions.sessions(after, 100).await else { return };
            after = page.last().map(|stored| stored.record.id());
            for stored in &page {
                if stored.record.is_terminated() {
                    continue;
                }
                let (session, stored) = (stored.record.id(), *stored);
                if stored.record.owner() == self.me() {
                    let known = known.get(&session).copied();
                    self.look_into(session, move |node| async move {
                        node.compare(known.as_ref(), &stored).await;
                    });
                } else if let Some(proof) = self.may_act_for(&stored, fences) {
                    self.look_into(session, move |node| async move {
                        node.act_for(&stored, proof).await;
                    });
                }
            }
            if page.len() < 100 {
                return;
            }
        }
    }

    /// A session that is this node's, by the store. An earlier process may have written it since this one
    /// has read it.
    async fn compare(self: &Rc<Self>, known: Option<&StoredSession>, stored: &StoredSession) {
        let (session, version) = (stored.record.id(), stored.record.version());
        // What was read may have been overtaken by what this node has done since.
        let has_left = self.machine.kernel.borrow().has_left(session, version);
        match (known, self.owned(session)) {
            (None, None) if !has_left && !is_handed_off(&stored.record) => {
                self.own(*stored, Knowledge::Read);
            }
            (Some(known), Some(owned)) if owned.stored == *known && !owned.is_busy => {
                if known != stored {
                    let Some(turn) = self.turn(session) else { return };
                    self.contradicted(&turn).await;
                }
            }
            _ => return,
        }
        self.put_in_order(session).await;
    }

    /// Nobody moves it, so it must not stand still.
    async fn put_in_order(self: &Rc<Self>, session: SessionId) {
        let Some(owned) = self.owned(session).filter(|owned| !owned.is_busy) else { return };
        let record = owned.stored.record;
        if record.owner() != self.me() || record.is_terminated() {
            return;
        }
        match (record.hold(), self.sim.plan.strategy) {
            (Hold::Active, _) => {}
            (Hold::Frozen { .. }, Strategy::Shared) => {
                self.inherit::<SessionWrite>(owned.stored).await;
            }
            (Hold::Frozen { .. }, Strategy::Sticky) => {
                self.inherit::<ownership::store::TransferWrite>(owned.stored).await;
            }
            (Hold::HandedOff { .. }, _) => self.finish_arrival(session).await,
        }
    }

    /// The proof that a session's owner is lost, if there is one and it is this node that acts for it.
    fn may_act_for(&self, stored: &StoredSession, fences: &[FenceRow]) -> Option<FenceProof> {
        let (session, owner) = (stored.record.id(), stored.record.owner());
        let is_own = owner.node == self.machine.node;
        let is_due = (is_own || self.owns_slot_of(session)) && self.is_open();
        if is_due { self.proof(owner, fences) } else { None }
    }

    async fn act_for(self: &Rc<Self>, stored: &StoredSession, proof: FenceProof) {
        let (session, owner) = (stored.record.id(), stored.record.owner());
        let stored = match self.settled(stored).await {
            Some(stored) => stored,
            None => return,
        };
        let now = self.machine.utc();
        let plan = &self.sim.plan;
        let Some(input) = plan.loss.answer(&stored.record, proof, self.me(), &plan.policy, now)
        else {
            return;
        };
        let routes = match plan.strategy {
            Strategy::Shared => self.routes(session, self.machine.node),
            Strategy::Sticky => None,
        };
        let acted = act(&stored, &input, routes.as_ref(), self.by(), &self.context());
        let Ok(pending) = acted else { return };
        self.sim.tell("acts for", (self.machine.place, owner, input));
        let again = || {
            // The placement may be another one by now.
            let routes = routes.as_ref().and_then(|_| self.routes(session, self.machine.node));
            let rival = act(&stored, &input, routes.as_ref(), self.by(), &self.context());
            rival.map(|pending| pending.write().clone()).ok()
        };
        match self.carry(session, pending, again, |_| {}).await {
            Ok(done) if done.after().record.owner() == self.me() => {
                self.own(*done.after(), Knowledge::Written);
            }
            Ok(_) | Err(NotDone::Lost(_) | NotDone::Superseded | NotDone::Past) => {
                if self.owned(session).is_none() {
                    self.machine.kernel.borrow_mut().remove(session);
                }
            }
            Err(NotDone::Fenced) => self.exit(crate::sim::Exit::Fenced),
            Err(NotDone::Unavailable(fault)) => self.faulted(fault),
        }
    }

    /// *Sticky*: a session that an earlier epoch of this node has frozen, as its transfer row says, if there
    /// is one. Nothing if it was handed off. That epoch can write none any more.
    async fn settled(self: &Rc<Self>, stored: &StoredSession) -> Option<StoredSession> {
        let is_frozen = matches!(stored.record.hold(), Hold::Frozen { .. });
        if self.sim.plan.strategy == Strategy::Shared || !is_frozen {
            return Some(*stored);
        }
        let (session, version) = (stored.record.id(), stored.record.version());
        let row = self.read(|| self.directory.transfer(session, version)).await;
        let Some(row) = row else { return Some(*stored) };
        let copy = SessionWrite::settle(Some(stored), &row, self.by()).ok()?;
        self.carry(session, Pending::new(copy), || None, |_| {}).await.ok()?;
        self.tidy(DirectoryWrite::forget_transfer(&row, self.by())).await;
        let is_mine = row.session.record.owner().node == self.machine.node;
        if !is_mine {
            self.publish(&row.session);
        }
        is_mine.then_some(row.session)
    }
}
