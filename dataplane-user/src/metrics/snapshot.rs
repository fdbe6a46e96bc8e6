//! What a node is like at one time.

use crate::{
    api::{NodeRow, Status},
    dataplane::{counters::Counts, events::Told},
    node::{Node, Refusal, lock},
};
use dataplane_ebpf::event::Reason;
use std::{collections::BTreeMap, sync::Mutex};

/// A node's state and counters, read shortly after each other.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub status: Status,
    pub nodes: Vec<NodeRow>,
    pub services: Vec<Service>,
    /// As in [`crate::api::Stats`].
    pub lost: BTreeMap<String, u64>,
}

/// The counters of a service.
#[derive(Debug)]
pub(super) struct Service {
    /// Empty for what belongs to none.
    pub name: String,
    pub counts: Counts,
    /// Reasons without any are left out.
    pub told: Vec<(Reason, Told)>,
}

impl Snapshot {
    /// Others have the node between any two pieces: a service's take the kernel some 100 µs. The thread is
    /// in the node's network namespace.
    pub fn take(node: &Mutex<Node>) -> Result<Self, Refusal> {
        let (status, nodes, indices) = {
            let node = lock(node);
            (node.status(), node.nodes(), node.counted())
        };
        let mut services = Vec::with_capacity(indices.len());
        for (index, name) in indices {
            let counts = lock(node).counts(index)?;
            let told = lock(node).told(index)?;
            services.push(Service { name, counts, told });
        }
        let lost = lock(node).lost(services.iter().map(|service| &service.counts))?;
        Ok(Self { status, nodes, services, lost })
    }
}
