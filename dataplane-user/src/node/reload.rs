//! What changes of a node's configuration while it runs.

use super::{Node, Peer};
use crate::{
    dataplane::{links::Whereabouts, services::Service},
    hold::Bounds,
};
use ownership::NodeIndex;
use std::{collections::BTreeMap, io};

impl Node {
    /// Bounds what services take anew.
    pub fn set_limits(&mut self, services: &[Service]) {
        for (mine, service) in self.services.iter_mut().zip(services) {
            mine.limits = service.limits;
            self.dataplane.set_limits(mine);
        }
    }

    /// Bounds what is held anew, and how fast it is sent. What waits already stays.
    pub fn set_hold(&self, bounds: Bounds, pace: u32) {
        self.holds.set_bounds(bounds, pace);
    }

    /// Replaces the nodes of the cluster. Those that stay keep their next hops.
    ///
    /// # Errors
    ///
    /// If the kernel cannot say when nobody reads a row any more. Then nothing has changed.
    pub fn set_peers(
        &mut self,
        peers: impl IntoIterator<Item = Peer>,
        published: &BTreeMap<NodeIndex, Whereabouts>,
    ) -> io::Result<()> {
        self.dataplane.publish_nodes(published)?;
        let old = std::mem::take(&mut self.peers);
        let known = |peer: Peer| {
            let old = old.iter().find(|old| old.index == peer.index);
            Peer { hop: old.and_then(|old| old.hop.clone()), ..peer }
        };
        self.peers = peers.into_iter().map(known).collect();
        Ok(())
    }
}
