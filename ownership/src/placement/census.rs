use super::Revision;
use crate::{
    NodeIndex,
    store::{Admission, FenceRow, HeartbeatRow},
};

/// Which placement every live node has applied, by their heartbeats.
///
/// A node lives from its registration until its epoch is ended, whether it gives a sign of life or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Census {
    applied: Option<Revision>,
}

/// That every live node has applied a revision of the placement, or a later one.
///
/// Stays true: a node that comes later reads the placement after it has registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Barrier {
    revision: Revision,
}

/// That no session is left at a node in slots that had moved away from it by a revision of the placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Emptied {
    pub(super) node: NodeIndex,
    pub(super) revision: Revision,
}

impl Census {
    /// Counts all nodes of the directory. The fence rows are read before the heartbeats.
    pub fn new(fences: &[FenceRow], heartbeats: &[HeartbeatRow]) -> Self {
        let applied = |fence: &FenceRow| {
            let of_it = |row: &&HeartbeatRow| (row.node, row.epoch) == (fence.node, fence.epoch);
            heartbeats.iter().find(of_it)?.applied
        };
        let live = fences.iter().filter(|fence| fence.admission != Admission::Fenced);
        // None is the least.
        Self { applied: live.map(applied).min().flatten() }
    }

    /// The last revision that every live node has applied, if there is one.
    pub fn applied(self) -> Option<Revision> {
        self.applied
    }

    /// The barrier of a revision, if every live node has applied it.
    pub fn barrier(self, revision: Revision) -> Option<Barrier> {
        (self.applied? >= revision).then_some(Barrier { revision })
    }
}

impl Barrier {
    /// The revision.
    pub fn revision(self) -> Revision {
        self.revision
    }

    /// That `node` is rid of the slots that had moved away from it, if it has no session left in them:
    /// `left` of them that have no off-home row, counted **after** the barrier was seen, since until then it
    /// may still have made some.
    pub fn emptied(self, node: NodeIndex, left: usize) -> Option<Emptied> {
        (left == 0).then_some(Emptied { node, revision: self.revision })
    }
}
