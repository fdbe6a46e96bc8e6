//! The nodes of the cluster as this one sees them.

use super::Node;
use crate::{
    api::{NodeRow, Standing},
    cluster::{Known, now},
};
use ownership::{
    lease::{BootTime, LeaseTimes},
    store::{Admission, FenceRow, HeartbeatRow},
};

impl Node {
    /// What is known of the nodes by the store.
    pub fn known(&mut self) -> &mut Known {
        &mut self.known
    }

    /// Takes note of what was read in the store by `told`, and tells the kernel in which epochs the
    /// other nodes are: what is forwarded to them names it, and they refuse another.
    pub fn hear(
        &mut self,
        fences: &[FenceRow],
        heartbeats: &[HeartbeatRow],
        told: BootTime,
        times: LeaseTimes,
    ) {
        self.known.hear(fences, heartbeats, told, times);
        let others = self.known.live().filter(|fence| fence.node != self.index);
        for fence in others {
            let row = self.dataplane.node(fence.node);
            // Forward only, whatever is read.
            if row.epoch() < fence.epoch.get() {
                row.set_epoch(fence.epoch.get());
                let (node, epoch) = (&fence.name, fence.epoch);
                tracing::info!(node, %epoch, "a node has begun");
            }
            let peer = self.peers.iter().find(|peer| peer.index == fence.node);
            if let Some(peer) = peer.filter(|peer| peer.name != fence.name) {
                let (index, configured, stored) = (peer.index, &peer.name, &fence.name);
                let warning = format!(
                    "node index {index} is {configured:?} in [[nodes]] but {stored:?} in the store: give \
                     all nodes the same [[nodes]]"
                );
                if !self.warnings.contains(&warning) {
                    tracing::warn!("{warning}");
                    self.warnings.push(warning);
                }
            }
        }
    }

    /// The nodes of the configuration, and what the store says of them.
    pub fn nodes(&self) -> Vec<NodeRow> {
        let now = now();
        let row = |peer: &super::Peer| {
            let heard = self.known.get(peer.index);
            let standing = heard.map_or(Standing::Unknown, |heard| match heard.fence.admission {
                Admission::Accepting => Standing::Accepting,
                Admission::Draining => Standing::Draining,
                Admission::Fenced => Standing::Fenced,
            });
            let silent = heard.and_then(|heard| heard.silent_since());
            NodeRow {
                node: peer.name.clone(),
                index: peer.index.get(),
                address: peer.address.to_string(),
                is_this: peer.index == self.index,
                standing,
                epoch: heard.map(|heard| heard.fence.epoch.get()),
                silent_ms: silent.map(|since| now.since(since).as_millis() as u64),
            }
        };
        self.peers.iter().map(row).collect()
    }
}
