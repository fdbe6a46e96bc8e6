//! Looks at the directory, again and again: at other nodes' signs of life, at the placement, and at what
//! was lost.

use super::Node;
use crate::broken::Broken;
use ownership::{
    NodeIndex,
    lease::Taker,
    model::{FenceProof, Owner},
    placement::Census,
    store::{Admission, Directory, DirectoryWrite, FenceRow, Store},
};
use std::rc::Rc;

impl Node {
    pub(super) async fn watch(self: Rc<Self>) {
        loop {
            self.machine.rest(300, 900).await;
            let Ok(fences) = self.directory.fences().await else { continue };
            let Ok(heartbeats) = self.directory.heartbeats().await else { continue };
            let told = self.machine.now();
            let times = self.sim.plan.times;
            for fence in &fences {
                let heartbeat = heartbeats.iter().find(|row| row.node == fence.node);
                let mut takers = self.takers.borrow_mut();
                let new = || Taker::new(fence.node, times);
                let taker = takers.entry(fence.node).or_insert_with(new);
                taker.saw(Some(fence), heartbeat, told);
            }
            self.apply_placement().await;
            self.pass_barrier(&fences, Census::new(&fences, &heartbeats)).await;
            self.fence_silent_nodes(&fences).await;
            self.fail_over(&fences).await;
            self.join(&fences).await;
            self.act_for_lost(&fences).await;
            self.go_home();
        }
    }

    async fn fence_silent_nodes(&self, fences: &[FenceRow]) {
        for fence in fences.iter().filter(|fence| fence.node != self.machine.node) {
            let (now, attempt) = (self.machine.now(), self.attempt());
            let write = self.with_taker(fence.node, |taker| taker.fence(now, attempt)).flatten();
            let Some(write) = write else { continue };
            let outcome = self.directory.write(write).await;
            self.sim.tell("fences", (self.machine.place, fence.node, outcome));
            self.with_taker(fence.node, |taker| taker.answered(outcome));
        }
    }

    fn with_taker<T>(&self, node: NodeIndex, with: impl FnOnce(&mut Taker) -> T) -> Option<T> {
        self.takers.borrow_mut().get_mut(&node).map(with)
    }

    /// The proof that an owner can act no longer, if there is one.
    pub(super) fn proof(&self, owner: Owner, fences: &[FenceRow]) -> Option<FenceProof> {
        if self.is_broken(Broken::NoWaitForProof) {
            let fence = fences.iter().find(|fence| fence.node == owner.node)?;
            return fence.has_revoked(owner).then_some(FenceProof::new(owner));
        }
        let now = self.machine.now();
        self.with_taker(owner.node, |taker| taker.proof(owner, now)).flatten()
    }

    /// An operator ends a node's epoch by way of this one.
    pub(super) async fn fence(self: Rc<Self>, node: NodeIndex) {
        let Ok(Some(fence)) = self.directory.fence(node).await else { return };
        if fence.admission == Admission::Fenced {
            return;
        }
        let (write, _) = DirectoryWrite::fence(&fence, self.attempt());
        let outcome = self.directory.write(write).await;
        self.sim.tell("an operator fences", (node, outcome));
    }
}
