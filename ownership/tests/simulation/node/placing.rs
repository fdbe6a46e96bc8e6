//! The placement: applied as others commit it, and planned anew when a node comes, goes or is lost.

use super::Node;
use crate::kernel::slot;
use ownership::{
    Placement, SessionId,
    placement::{Applied, Barrier, Census, Member},
    store::{Admission, Directory, DirectoryWrite, FenceRow, Outcome, PlacementRow, Store},
    takeover::Strategy,
    transfer::Redirect,
};
use std::{rc::Rc, sync::Arc};

/// How many sessions are moved home at once.
const AT_ONCE: usize = 2;

impl Node {
    /// Applies the placement that stands, once its slots' off-home rows have been read.
    pub(super) async fn apply_placement(&self) {
        let Ok(row) = self.directory.placement().await else { return };
        let Some(row) = row else { return self.place_first().await };
        self.read_off_home().await;
        let before = self.placing.borrow().row.clone();
        if before.as_ref().is_some_and(|before| before.revision >= row.revision) {
            return;
        }
        if self.sim.plan.strategy == Strategy::Sticky && !self.copy_placement(&row).await {
            return;
        }
        let placement = Arc::new(row.placement().expect("it was written by one of us"));
        let mut placing = self.placing.borrow_mut();
        match &mut placing.applied {
            Some(applied) => applied.apply(Arc::clone(&placement)),
            None => {
                placing.applied = Some(Applied::new(self.machine.node, Arc::clone(&placement)));
            }
        }
        self.sim.tell("applies", (self.machine.place, row.revision.get()));
        placing.row = Some(row);
        self.machine.kernel.borrow_mut().apply(placement);
    }

    /// *Sticky*: births in the node's own store compare the placement that the node has applied.
    async fn copy_placement(&self, row: &PlacementRow) -> bool {
        let before = self.read(|| self.sessions.placement()).await;
        match DirectoryWrite::copy_placement(before.as_ref(), row) {
            Ok(write) => self.sessions.write(write).await.is_won(),
            // It has been kept by an earlier process.
            Err(_) => true,
        }
    }

    async fn read_off_home(&self) {
        let mut after = None;
        loop {
            let page = self.read(|| self.directory.off_home(0, u16::MAX, after.clone(), 100)).await;
            let mut kernel = self.machine.kernel.borrow_mut();
            for row in &page {
                if row.owner.node != self.machine.node {
                    kernel.redirect(Redirect::off_home(row));
                }
            }
            after = page.last().map(|row| row.key.clone());
            if page.len() < 100 {
                return;
            }
        }
    }

    async fn place_first(&self) {
        let placement = Placement::all_to(self.machine.node);
        let write = DirectoryWrite::place(None, &placement, self.attempt());
        let (write, _) = write.expect("the first revision");
        let _somebody_has = self.directory.write(write).await;
    }

    async fn place(&self, next: &Placement, lost: Option<&FenceRow>) {
        let before = self.placing.borrow().row.clone();
        let Ok((mut write, _)) = DirectoryWrite::place(before.as_ref(), next, self.attempt())
        else {
            return;
        };
        if let Some(lost) = lost {
            match write.while_fenced(lost) {
                Ok(compared) => write = compared,
                Err(_) => return,
            }
        }
        let outcome = self.directory.write(write).await;
        self.sim.tell("places", (self.machine.place, next.revision().get(), outcome));
    }

    fn with_placement<T>(&self, with: impl FnOnce(&Placement) -> T) -> Option<T> {
        let placing = self.placing.borrow();
        placing.applied.as_ref().map(|applied| with(applied.placement()))
    }

    pub(super) fn owns_slot_of(&self, session: SessionId) -> bool {
        let place = usize::from(slot(session));
        let owner = self.with_placement(|placement| placement.slots()[place].owner);
        owner.flatten() == Some(self.machine.node)
    }

    /// Whether this node may say that there is no such session: the slot's owner, of what no off-home row
    /// tells of.
    pub(super) fn may_deny(&self, session: SessionId) -> bool {
        let placing = self.placing.borrow();
        let may = placing.applied.as_ref().is_some_and(|applied| applied.may_deny(slot(session)));
        may && self.is_open() && !self.machine.kernel.borrow().knows(session)
    }

    /// What follows when every live node has applied the placement.
    pub(super) async fn pass_barrier(&self, fences: &[FenceRow], census: Census) {
        let barrier = {
            let mut placing = self.placing.borrow_mut();
            let Some(applied) = &mut placing.applied else { return };
            let Some(barrier) = census.barrier(applied.revision()) else { return };
            applied.passed(barrier);
            barrier
        };
        let _ = fences;
        self.clear(barrier).await;
    }

    /// Ends the moves away from this node, once no session is left here.
    async fn clear(&self, barrier: Barrier) {
        let me = self.machine.node;
        let is_leaving =
            |placement: &Placement| placement.slots().iter().any(|slot| slot.previous == Some(me));
        if self.with_placement(is_leaving) != Some(true)
            || self.placing.borrow().applied.as_ref().map(Applied::revision)
                != Some(barrier.revision())
        {
            return;
        }
        let left = self.left_behind().await;
        let Some(emptied) = barrier.emptied(me, left) else { return };
        let next = self.with_placement(|placement| placement.cleared(emptied));
        if let Some(Ok(next)) = next {
            self.place(&next, None).await;
        }
    }

    /// How many sessions of this node, in whatever epoch, are still in slots that have moved away from it.
    async fn left_behind(&self) -> usize {
        let me = self.machine.node;
        let mut left: Vec<_> = self.all_sessions().await;
        let waiting = self.read(|| self.directory.inbox(me, None, 1000)).await;
        left.extend(waiting.into_iter().map(|row| row.session));
        let is_left = |stored: &ownership::store::StoredSession| {
            let record = &stored.record;
            !record.is_terminated() && record.owner().node == me && self.is_leaving(record.id())
        };
        left.iter().filter(|stored| is_left(stored)).count()
    }

    /// Whether a session's slot has moved away from this node.
    fn is_leaving(&self, session: SessionId) -> bool {
        let place = usize::from(slot(session));
        let slot = self.with_placement(|placement| placement.slots()[place]);
        slot.is_some_and(|slot| slot.previous == Some(self.machine.node))
    }

    /// Moves the sessions after their slots.
    pub(super) fn go_home(self: &Rc<Self>) {
        let leaving: Vec<_> = {
            let owned = self.owned.borrow();
            let moves = owned.iter().filter(|(session, it)| {
                !it.is_busy && !it.stored.record.is_terminated() && self.is_leaving(**session)
            });
            moves.map(|(session, _)| *session).take(AT_ONCE).collect()
        };
        for session in leaving {
            let place = usize::from(slot(session));
            let to = self.with_placement(|placement| placement.slots()[place].owner).flatten();
            if let (Some(to), Some(turn)) = (to, self.turn(session)) {
                self.sim.spawn(self.process, Rc::clone(self).move_session(turn, to));
            }
        }
    }

    /// Gives the slots of a node that is proven to be lost to the others.
    pub(super) async fn fail_over(&self, fences: &[FenceRow]) {
        for fence in fences.iter().filter(|fence| fence.admission == Admission::Fenced) {
            let owns = |placement: &Placement| {
                placement.slots().iter().any(|slot| slot.owner == Some(fence.node))
            };
            let Some(proof) = self.proof(fence.owner(), fences) else { continue };
            if self.with_placement(owns) != Some(true) {
                continue;
            }
            let others = members(fences, |other| other.node != fence.node);
            let next = self.with_placement(|placement| {
                let next = placement.failed_over(&others, proof).ok()?;
                (next.slots() != placement.slots()).then_some(next)
            });
            if let Some(next) = next.flatten() {
                self.place(&next, Some(fence)).await;
            }
        }
    }

    /// Takes slots, if this node has none and accepts sessions.
    pub(super) async fn join(&self, fences: &[FenceRow]) {
        let me = self.machine.node;
        let mine = fences.iter().find(|fence| fence.node == me);
        let accepts = mine.is_some_and(|fence| fence.admission == Admission::Accepting);
        let has_slots =
            |placement: &Placement| placement.slots().iter().any(|slot| slot.owner == Some(me));
        let is_due = accepts && self.with_placement(has_slots) == Some(false);
        // Slots that are still moving stand in the way for a while.
        if !is_due || self.sim.draw(|draw| draw.per_mille(700)) {
            return;
        }
        let members = members(fences, |_| true);
        if let Some(Ok(next)) = self.with_placement(|placement| placement.next(&members)) {
            self.place(&next, None).await;
        }
    }

    /// An operator drains this node: no more sessions come, and its slots go to the others.
    pub(super) async fn drain(self: Rc<Self>, is_draining: bool) {
        let me = self.machine.node;
        let Ok(Some(fence)) = self.directory.fence(me).await else { return };
        let Ok((write, _)) = DirectoryWrite::admit(&fence, !is_draining, self.attempt()) else {
            return;
        };
        let outcome = self.directory.write(write).await;
        self.sim.tell("drains", (self.machine.place, is_draining, outcome));
        if !is_draining || !matches!(outcome, Outcome::Won | Outcome::Unknown) {
            return;
        }
        let Ok(fences) = self.directory.fences().await else { return };
        let others = members(&fences, |other| other.node != me);
        if let Some(Ok(next)) = self.with_placement(|placement| placement.next(&others)) {
            self.place(&next, None).await;
        }
    }
}

/// The nodes that take slots, and those that give theirs away.
fn members(fences: &[FenceRow], takes: impl Fn(&FenceRow) -> bool) -> Vec<Member> {
    let live = fences.iter().filter(|fence| fence.admission != Admission::Fenced && takes(fence));
    let member = |fence: &FenceRow| Member {
        index: fence.node,
        name: fence.name.clone(),
        weight: u32::from(fence.admission == Admission::Accepting),
    };
    live.map(member).collect()
}
