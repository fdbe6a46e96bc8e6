use super::{Barrier, Placement, Revision};
use crate::NodeIndex;
use std::sync::Arc;

/// The placement as one node has applied it, and what it may conclude from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    node: NodeIndex,
    placement: Arc<Placement>,
    /// From a placement that every live node has applied, without a gap, to the newest; or nothing.
    since_barrier: Vec<Arc<Placement>>,
}

/// How many placements may follow a barrier before it is forgotten.
const REMEMBERED: usize = 16;

impl Applied {
    /// A node that has just applied its first placement.
    pub fn new(node: NodeIndex, placement: Arc<Placement>) -> Self {
        Self { node, placement, since_barrier: Vec::new() }
    }

    /// Applies a placement, unless it is an older one.
    ///
    /// If there were others between the two, slots may have moved away and back, and nothing is known of
    /// who knows what before the next barrier.
    pub fn apply(&mut self, placement: Arc<Placement>) {
        if placement.revision() <= self.revision() {
            return;
        }
        let is_next = self.revision().next() == Ok(placement.revision());
        if !is_next || self.since_barrier.len() == REMEMBERED {
            self.since_barrier.clear();
        }
        if !self.since_barrier.is_empty() {
            self.since_barrier.push(Arc::clone(&placement));
        }
        self.placement = placement;
    }

    /// Takes note of a barrier.
    pub fn passed(&mut self, barrier: Barrier) {
        if barrier.revision() == self.revision() {
            self.since_barrier = vec![Arc::clone(&self.placement)];
        }
    }

    /// The placement.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Its revision, for heartbeats and for the birth of sessions.
    pub fn revision(&self) -> Revision {
        self.placement.revision()
    }

    /// The slot's owner, if **every live node knows** that it is: it has been the owner ever since a barrier.
    ///
    /// Only there a session needs no off-home row. Of another owner some node may know nothing, and ask
    /// the one before it.
    pub fn home(&self, slot: u16) -> Option<NodeIndex> {
        let mut owners =
            self.since_barrier.iter().map(|placement| placement.slots()[usize::from(slot)].owner);
        let owner = owners.next()??;
        owners.all(|later| later == Some(owner)).then_some(owner)
    }

    /// Whether this node may mint ids in a slot: it owns the slot, and every live node knows. Whoever does
    /// not would send their packets to another node, which may call them unknown.
    ///
    /// The session's birth compares the [revision](Applied::revision), since the slot may have moved on.
    pub fn may_mint(&self, slot: u16) -> bool {
        self.home(slot) == Some(self.node)
    }

    /// Whether this node may say of an id in a slot that there is no such session: nobody else may have one
    /// there.
    ///
    /// It must have read the slot's off-home rows since it applied the placement, and the inbox of this node
    /// since it was asked: a session that was handed here may not have been taken in yet. And its lease must
    /// be open: whoever may not act as an owner has no sessions, and knows nothing of what others have. In
    /// *sticky*, the copy in its own store of a session that it has handed away is no objection: if that
    /// lived, there would be an off-home row.
    pub fn may_deny(&self, slot: u16) -> bool {
        let is_moving = self.placement.slots()[usize::from(slot)].previous.is_some();
        self.may_mint(slot) && !is_moving
    }
}
