use super::{BootTime, LeaseTimes};
use crate::{
    Epoch, NodeIndex,
    model::{FenceProof, Owner},
    store::{Attempt, DirectoryWrite, FenceRow, HeartbeatRow, Outcome},
};

/// One node's watch over another's lease, or over its own earlier epochs: when these are over, and the
/// proof of it.
///
/// There are two ways to a proof. A node whose heartbeat has stood unchanged for the whole wait is
/// fenced by a commit that compares that very heartbeat, and the commit proves it. An epoch that was
/// ended by somebody else (an operator, another node, the node's own registration) is proven to be
/// over once its end was seen a whole wait ago: its last heartbeat was sent before that.
///
/// All waits are measured by this node's own clock, from when it was *told* what stands: the heartbeat
/// that it was told of was sent earlier.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taker {
    node: NodeIndex,
    times: LeaseTimes,
    /// An epoch that lives.
    alive: Option<Alive>,
    /// The last epoch of which it is known that it has ended, and since when that is known.
    ended: Option<(Epoch, BootTime)>,
    /// The last epoch that is proven to be over.
    proven: Option<Epoch>,
    /// The fence row of this node's own attempt, if one was made.
    fencing: Option<FenceRow>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Alive {
    fence: FenceRow,
    heartbeat: HeartbeatRow,
    /// Since when it is known to stand there.
    since: BootTime,
}

impl Taker {
    /// A watch over a node of which nothing was seen yet.
    pub fn new(node: NodeIndex, times: LeaseTimes) -> Self {
        Self { node, times, alive: None, ended: None, proven: None, fencing: None }
    }

    /// The node that is watched.
    pub fn node(&self) -> NodeIndex {
        self.node
    }

    /// What was read of the node, first its fence row, then its heartbeat. `told` is read once both
    /// answers are there.
    pub fn saw(
        &mut self,
        fence: Option<&FenceRow>,
        heartbeat: Option<&HeartbeatRow>,
        told: BootTime,
    ) {
        self.mature(told);
        let Some(fence) = fence.filter(|fence| fence.node == self.node) else { return };
        if self.fencing.as_ref() == Some(fence) {
            // The attempt whose outcome was unknown: all that it compared was so.
            self.prove(fence.epoch);
        }
        let is_alive = fence.admits(fence.identity());
        // All epochs up to this one have ended.
        let ended = if is_alive { fence.epoch.previous() } else { Some(fence.epoch) };
        if let Some(ended) = ended
            && self.ended.is_none()
            && self.proven.is_none_or(|proven| proven < ended)
        {
            self.ended = Some((ended, told));
        }
        self.alive = match heartbeat {
            Some(heartbeat) if is_alive && heartbeat.epoch == fence.epoch => {
                let (fence, heartbeat) = (fence.clone(), heartbeat.clone());
                let before = self.alive.take().filter(|alive| alive.heartbeat == heartbeat);
                let since = before.map_or(told, |alive| alive.since);
                Some(Alive { fence, heartbeat, since })
            }
            _ => None,
        };
    }

    /// Since when the node has given no sign of life, if it is not known to be fenced.
    pub fn silent_since(&self) -> Option<BootTime> {
        self.alive.as_ref().map(|alive| alive.since)
    }

    /// The commit that fences the node, once its heartbeat has stood unchanged for the whole wait.
    pub fn fence(&mut self, now: BootTime, attempt: Attempt) -> Option<DirectoryWrite> {
        let Alive { fence, heartbeat, since } = self.alive.as_ref()?;
        if now < since.after(self.times.wait()) {
            return None;
        }
        let (write, after) = DirectoryWrite::fence_silent(fence, heartbeat, attempt);
        self.fencing = Some(after);
        Some(write)
    }

    /// What came of that commit. If it is not Won, the node is watched on: what stands next tells.
    pub fn answered(&mut self, outcome: Outcome) {
        if let Some(fence) = self.fencing.take_if(|_| outcome != Outcome::Unknown)
            && outcome.is_won()
        {
            self.prove(fence.epoch);
            self.alive = None;
        }
    }

    /// The proof that `owner`, an owner on that node, can act no longer; if there is one by now.
    pub fn proof(&mut self, owner: Owner, now: BootTime) -> Option<FenceProof> {
        self.mature(now);
        let epoch = self.proven?;
        let proof = FenceProof::new(Owner { node: self.node, epoch });
        proof.covers(owner).then_some(proof)
    }

    /// An end that has been known for the whole wait is proven.
    fn mature(&mut self, now: BootTime) {
        let wait = self.times.wait();
        if let Some((epoch, _)) = self.ended.take_if(|(_, since)| now >= since.after(wait)) {
            self.prove(epoch);
        }
    }

    fn prove(&mut self, epoch: Epoch) {
        self.proven = self.proven.max(Some(epoch));
    }
}
