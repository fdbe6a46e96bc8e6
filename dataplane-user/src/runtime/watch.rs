//! Looks at the directory as it changes: at other nodes' signs of life, at the placement, and at what was lost.

use super::{AGAIN, Runtime};
use crate::cluster::{look, now};
use ownership::{
    model::{FenceProof, Owner},
    placement::Census,
    store::{Directory, Fault, FenceRow, Store},
};
use std::{sync::Arc, time::Duration};

/// How long after one look comes the next at the earliest, however much changes.
const PAUSE: Duration = Duration::from_millis(20);

impl Runtime {
    pub(super) async fn watch(self: Arc<Self>) {
        let mut since = 0;
        loop {
            match self.look().await {
                Ok(()) => {
                    tokio::time::sleep(PAUSE).await;
                    // A change that was missed is seen with the next heartbeat, our own at the latest.
                    tokio::select! {
                        seen = self.stores.directory.changed(since) => since = seen,
                        () = tokio::time::sleep(self.beacon.times().beat()) => {}
                    }
                }
                Err(fault) => {
                    self.faulted(fault);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// One look, and what follows from it.
    pub(super) async fn look(self: &Arc<Self>) -> Result<(), Fault> {
        let (fences, heartbeats) = look(&*self.stores.directory).await?;
        let told = now();
        self.node().hear(&fences, &heartbeats, told, self.beacon.times());
        self.follow_placement().await?;
        if !self.is_open() {
            return Ok(());
        }
        self.pass_barrier(Census::new(&fences, &heartbeats)).await;
        self.fence_silent_nodes(&fences).await;
        self.fail_over(&fences).await;
        self.join(&fences).await;
        self.give_away(&fences).await;
        self.act_for_lost(&fences).await?;
        self.go_home();
        self.forget_left();
        Ok(())
    }

    async fn fence_silent_nodes(&self, fences: &[FenceRow]) {
        for fence in fences.iter().filter(|fence| fence.node != self.me().node) {
            let (now, attempt) = (now(), self.attempt());
            let write = self.node().known().fence(fence.node, now, attempt);
            let Some(write) = write else { continue };
            let outcome = self.stores.directory.write(write).await;
            tracing::warn!(node = fence.name, ?outcome, "a node was silent for too long: fenced");
            self.node().known().answered(fence.node, outcome);
        }
    }

    /// The proof that an owner can act no longer, if there is one.
    pub(super) fn proof(&self, owner: Owner) -> Option<FenceProof> {
        self.node().known().proof(owner, now())
    }
}
