//! What a node sees when it looks about: nothing is changed by that.

use crate::{
    config::{Config, Mistake},
    node::{Entry, Node, Work},
    shelf::index,
    way::Way,
    world::{NOW, World, id, key, policy},
};
use ownership::{
    NodeIndex,
    lease::Taker,
    model::{FenceProof, Hold, Input},
    placement::{Barrier, Census},
    store::{Admission, FenceRow, Identity, Key, Row, StoredSession},
    takeover::LossPolicy,
    transfer::{Arrived, Redirect, Routes},
};

pub struct Sight<'a, W: Way> {
    pub config: &'a Config,
    pub world: &'a World<W>,
    pub at: usize,
    pub node: &'a Node<W>,
}

impl<W: Way> Sight<'_, W> {
    fn me(&self) -> Identity {
        self.node.identity().expect("it has an epoch")
    }

    fn makes(&self, mistake: Mistake) -> bool {
        self.config.mistake == Some(mistake)
    }

    fn row(&self, session: usize) -> Option<StoredSession> {
        self.world.session(self.at, session).copied()
    }

    /// Whether the store is older than what this node has seen of it: it takes nothing from it.
    pub fn is_refused(&self) -> bool {
        let mut seen = self.node.disk.seen;
        let is_older = seen.admit(self.world.directory.tables().position()).is_err();
        is_older && !self.makes(Mistake::OlderStoreUsed)
    }

    /// The sessions that an earlier process has left in the middle of a move.
    pub fn unsettled(&self, by: Identity) -> Vec<ownership::SessionId> {
        let is_unsettled = |session: &usize| {
            let waits = self.world.directory.inbox(by.owner.node, id(*session));
            waits.is_some_and(|row| row.session.record.owner() == by.owner)
                || self
                    .row(*session)
                    .is_some_and(|row| ownership::lease::is_unsettled(&row.record, by.owner))
        };
        self.world.numbers().filter(is_unsettled).map(id).collect()
    }

    fn taker(&self, node: NodeIndex) -> Option<&Taker> {
        let process = self.node.process.as_ref()?;
        process.takers.iter().find(|taker| taker.node() == node)
    }

    /// Whether sessions wait for a node, or for an earlier epoch of this one.
    fn concerns(&self, node: NodeIndex) -> bool {
        let me = self.me().owner;
        self.world.numbers().any(|session| {
            let owner = self.row(session).map(|row| row.record.owner());
            owner.is_some_and(|owner| owner.node == node && owner != me)
        })
    }

    /// Whether looking at a node that concerns this one would tell anything new.
    pub fn has_to_watch(&self, node: NodeIndex) -> bool {
        let Some(taker) = self.taker(node).filter(|_| self.concerns(node)) else { return false };
        let mut after = taker.clone();
        let directory = &self.world.directory;
        after.saw(directory.fence(node), directory.heartbeat(node), self.node.clock);
        after != *taker
    }

    /// Whether a node that concerns this one has been silent for the whole wait.
    pub fn is_silent(&self, node: NodeIndex) -> bool {
        let since = self.taker(node).and_then(Taker::silent_since);
        let wait = self.config.times().wait();
        let is_over = since.is_some_and(|since| self.node.clock >= since.after(wait));
        is_over && node != self.node.index && self.concerns(node)
    }

    /// A session whose owner is proven to be lost, and what is done about it.
    pub fn loss(&self, session: usize) -> Option<(StoredSession, Input)> {
        let row = self.row(session)?;
        if row.record.owner().node != self.node.index && !self.has_slot() {
            return None;
        }
        let mut taker = self.taker(row.record.owner().node)?.clone();
        let proof = taker.proof(row.record.owner(), self.node.clock)?;
        let on_loss = LossPolicy::new(W::STRATEGY, self.config.on_loss).expect("possible");
        let input = on_loss.answer(&row.record, proof, self.me().owner, &policy(), NOW)?;
        Some((row, input))
    }

    /// Whether this node owns the slots, as far as it knows.
    fn has_slot(&self) -> bool {
        self.node.kernel.placed.as_ref().is_some_and(|placed| {
            placed.applied.placement().slots()[0].owner == Some(self.node.index)
        })
    }

    /// The proof that the owner of the slots is lost, and its fence row.
    pub fn lost_home(&self) -> Option<(FenceProof, FenceRow)> {
        let owner = self.world.placement()?.slots()[0].owner?;
        let fence = self.world.directory.fence(owner)?;
        let mut taker = self.taker(owner)?.clone();
        let is_lost = fence.admission == Admission::Fenced && owner != self.node.index;
        let proof = taker.proof(fence.owner(), self.node.clock).filter(|_| is_lost)?;
        Some((proof, fence.clone()))
    }

    /// Where a session's packets are sent on to.
    pub fn elsewhere(&self, session: usize) -> Option<Redirect> {
        if self.makes(Mistake::RedirectDropped) {
            return None;
        }
        if let Some(Work::Elsewhere(redirect)) = self.node.work(session) {
            let me = self.me().owner;
            return self.row(session).map_or(Some(*redirect), |row| redirect.seen(&row, me));
        }
        let is_over = self.row(session).is_some_and(|row| row.record.is_terminated());
        let is_home = self.has_slot() && !is_over;
        match self.world.directory.tables().get(&Key::OffHome(key(session))) {
            Some(Row::OffHome(row)) if is_home && row.owner.node != self.node.index => {
                Some(Redirect::off_home(row))
            }
            _ => None,
        }
    }

    /// Whether an earlier epoch of this node owns it.
    pub fn is_left_behind(&self, session: usize) -> bool {
        self.row(session).is_some_and(|row| {
            row.record.owner().node == self.node.index && !row.record.is_terminated()
        })
    }

    /// Whether looking at a session that this process has nothing to do with would change anything.
    pub fn would_find(&self, session: usize) -> bool {
        let me = self.me().owner;
        let owns = |row: StoredSession| row.record.owner() == me && !row.record.is_terminated();
        if self.row(session).is_some_and(owns) {
            return true;
        }
        let before = match self.node.work(session) {
            Some(Work::Elsewhere(before)) => Some(*before),
            _ => None,
        };
        let is_left_behind = self.is_left_behind(session) && before.is_none();
        let waits = self.node.kernel.entries[session] == Entry::Wait;
        self.elsewhere(session) != before || is_left_behind != waits
    }

    /// What waits in this node's inbox.
    pub fn arrival(&self, session: usize) -> Option<Arrived> {
        let me = self.me();
        let row = self.world.directory.inbox(me.owner.node, id(session))?;
        Arrived::new(row.clone(), me)
    }

    /// The node that a quiesced session goes to, if it takes it now.
    pub fn destination(&self, session: usize) -> Option<Identity> {
        let Some(Work::Quiesced(quiesced)) = self.node.work(session) else { return None };
        let Hold::Frozen { to } = quiesced.session().record.hold() else { return None };
        let fence = self.world.directory.fence(to)?;
        (fence.admission == Admission::Accepting).then(|| fence.identity())
    }

    /// The routes of a session that goes to a node.
    pub fn routes(&self, session: usize, to: NodeIndex) -> Option<Routes> {
        let placed = self.node.kernel.placed.as_ref()?;
        Some(Routes::new(to, &placed.applied, [key(session)]))
    }

    /// Whether every node has applied what this one has.
    pub fn barrier(&self) -> Option<Barrier> {
        let directory = &self.world.directory;
        let census = Census::new(&directory.fences(), &directory.heartbeats());
        census.barrier(self.node.kernel.placed.as_ref()?.row.revision)
    }

    /// A barrier by heartbeats that nobody sent.
    pub fn false_barrier(&self) -> Option<Barrier> {
        let revision = self.world.directory.placement()?.revision;
        let fence = self.world.directory.fence(self.node.index)?.clone();
        let mut heartbeat = self.world.directory.heartbeat(self.node.index)?.clone();
        heartbeat.applied = Some(revision);
        Census::new(&[fence], &[heartbeat]).barrier(revision)
    }

    /// How many sessions this node has in slots that move away from it.
    pub fn left(&self) -> usize {
        let is_here = |session: &usize| {
            let has_a_row =
                self.world.directory.tables().get(&Key::OffHome(key(*session))).is_some();
            let is_own = self.row(*session).is_some_and(|row| {
                row.record.owner().node == self.node.index && !row.record.is_terminated()
            });
            is_own && !has_a_row
        };
        self.world.numbers().filter(is_here).count()
    }
}

/// The machines of a node, by its index.
pub fn all_nodes(config: &Config) -> impl Iterator<Item = NodeIndex> {
    config.nodes().into_iter().map(index)
}
