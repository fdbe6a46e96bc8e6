//! What the store says of the nodes, kept up to date here and in the kernel.

use ownership::{
    NodeIndex,
    lease::{BootTime, LeaseTimes, Taker},
    model::{FenceProof, Owner},
    store::{
        Admission, Attempt, Directory, DirectoryWrite, Fault, FenceRow, HeartbeatRow, Outcome,
    },
};
use std::collections::BTreeMap;

/// The nodes as the store has them, and their last signs of life.
///
/// # Errors
///
/// If the store does not answer.
pub(crate) async fn look(
    directory: &impl Directory,
) -> Result<(Vec<FenceRow>, Vec<HeartbeatRow>), Fault> {
    // In this order: a heartbeat is never of an epoch before the fence's.
    let fences = directory.fences().await?;
    Ok((fences, directory.heartbeats().await?))
}

/// What is known of the nodes by the store.
#[derive(Debug, Default)]
pub struct Known(BTreeMap<NodeIndex, Heard>);

/// What is known of a node by the store.
#[derive(Debug)]
pub struct Heard {
    /// Its fence row.
    pub fence: FenceRow,
    lease: Taker,
}

impl Heard {
    /// Since when it has given no sign of life; `None` if its epoch is over.
    pub fn silent_since(&self) -> Option<BootTime> {
        self.lease.silent_since()
    }
}

impl Known {
    /// Takes note of what was read by `told`.
    pub fn hear(
        &mut self,
        fences: &[FenceRow],
        heartbeats: &[HeartbeatRow],
        told: BootTime,
        times: LeaseTimes,
    ) {
        for fence in fences {
            let heartbeat = heartbeats.iter().find(|row| row.node == fence.node);
            let heard = self.0.entry(fence.node).or_insert_with(|| Heard {
                fence: fence.clone(),
                lease: Taker::new(fence.node, times),
            });
            heard.fence.clone_from(fence);
            heard.lease.saw(Some(fence), heartbeat, told);
        }
    }

    /// What is known of a node.
    pub fn get(&self, node: NodeIndex) -> Option<&Heard> {
        self.0.get(&node)
    }

    /// The commit that fences a node, if it was silent for long enough; see [`Taker::fence`].
    pub fn fence(
        &mut self,
        node: NodeIndex,
        now: BootTime,
        attempt: Attempt,
    ) -> Option<DirectoryWrite> {
        self.0.get_mut(&node)?.lease.fence(now, attempt)
    }

    /// What came of that commit.
    pub fn answered(&mut self, node: NodeIndex, outcome: Outcome) {
        if let Some(heard) = self.0.get_mut(&node) {
            heard.lease.answered(outcome);
        }
    }

    /// The proof that an owner can act no longer, if there is one.
    pub fn proof(&mut self, owner: Owner, now: BootTime) -> Option<FenceProof> {
        self.0.get_mut(&owner.node)?.lease.proof(owner, now)
    }

    /// The nodes that may act, as far as is known, and their names.
    pub fn live(&self) -> impl Iterator<Item = &FenceRow> {
        self.0.values().map(|heard| &heard.fence).filter(|row| row.admission != Admission::Fenced)
    }
}
