use super::{Barrier, Placement, Revision};
use crate::NodeIndex;
use std::sync::Arc;

/// The placement as one node has applied it, and what it may do by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    node: NodeIndex,
    placement: Arc<Placement>,
    /// The last placement that this node knows every live node to have applied.
    common: Option<Arc<Placement>>,
}

impl Applied {
    /// A node that has just applied its first placement.
    pub fn new(node: NodeIndex, placement: Arc<Placement>) -> Self {
        Self { node, placement, common: None }
    }

    /// Applies a placement, unless it is an older one.
    pub fn apply(&mut self, placement: Arc<Placement>) {
        if placement.revision() > self.placement.revision() {
            self.placement = placement;
        }
    }

    /// Takes note of a barrier.
    pub fn passed(&mut self, barrier: Barrier) {
        if barrier.revision() == self.placement.revision() {
            self.common = Some(Arc::clone(&self.placement));
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

    /// Whether this node may mint ids in a slot: it owns the slot, and every live node knows. Whoever does
    /// not would send their packets to another node, which may call them unknown.
    ///
    /// The session's birth compares the [revision](Applied::revision), since the slot may have moved on.
    pub fn may_mint(&self, slot: u16) -> bool {
        let owns =
            |placement: &Placement| placement.slots()[usize::from(slot)].owner == Some(self.node);
        owns(&self.placement) && self.common.as_deref().is_some_and(owns)
    }

    /// Whether this node may say of an id in a slot that there is no such session: nobody else may have one
    /// there.
    ///
    /// It must have read the slot's off-home rows since it applied the placement, and its lease must be open:
    /// whoever may not act as an owner has no sessions, and knows nothing of what others have.
    pub fn may_deny(&self, slot: u16) -> bool {
        let is_moving = self.placement.slots()[usize::from(slot)].previous.is_some();
        self.may_mint(slot) && !is_moving
    }
}
