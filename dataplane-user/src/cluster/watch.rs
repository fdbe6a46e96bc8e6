//! What the store says of the nodes, kept up to date here and in the kernel.

use super::{AGAIN, Backend, now};
use crate::node::{Node, lock};
use ownership::{
    NodeIndex,
    lease::{BootTime, LeaseTimes, Taker},
    store::{Admission, Directory, Fault, FenceRow, HeartbeatRow},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::task::JoinSet;

/// How long after one look comes the next at the earliest, however much changes.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks at the nodes in the store as they change. Dropping it ends that.
pub struct Watcher {
    _task: JoinSet<()>,
}

impl Watcher {
    /// Begins.
    pub fn start(backend: Arc<Backend>, node: Arc<Mutex<Node>>, times: LeaseTimes) -> Self {
        let mut task = JoinSet::new();
        task.spawn(watch(backend, node, times));
        Self { _task: task }
    }
}

async fn watch(backend: Arc<Backend>, node: Arc<Mutex<Node>>, times: LeaseTimes) {
    let mut since = 0;
    loop {
        match look(&backend).await {
            Ok((fences, heartbeats)) => {
                lock(&node).hear(&fences, &heartbeats, now(), times);
                tokio::time::sleep(PAUSE).await;
                // A change that was missed is seen with the next heartbeat, our own at the latest.
                tokio::select! {
                    seen = backend.changed(since) => since = seen,
                    () = tokio::time::sleep(times.beat()) => {}
                }
            }
            // The keeper of the lease says so.
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

async fn look(backend: &Backend) -> Result<(Vec<FenceRow>, Vec<HeartbeatRow>), Fault> {
    // In this order: a heartbeat is never of an epoch before the fence's.
    let fences = backend.fences().await?;
    Ok((fences, backend.heartbeats().await?))
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

    /// The nodes that may act, as far as is known, and their names.
    pub fn live(&self) -> impl Iterator<Item = &FenceRow> {
        self.0.values().map(|heard| &heard.fence).filter(|row| row.admission != Admission::Fenced)
    }
}
