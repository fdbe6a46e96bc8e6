//! What heartbeats tell beside that the node lives: which placement its kernel has applied.

use ownership::{Revision, lease::LeaseTimes};
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::Notify;

/// Between whoever applies placements and the keeper of the lease, who tells the others.
#[derive(Debug)]
pub struct Beacon {
    times: LeaseTimes,
    applied: AtomicU32,
    now: Notify,
}

impl Beacon {
    /// One that tells nothing yet.
    pub fn new(times: LeaseTimes) -> Self {
        Self { times, applied: AtomicU32::new(0), now: Notify::new() }
    }

    /// The times of the node's lease, and of all others'.
    pub fn times(&self) -> LeaseTimes {
        self.times
    }

    /// The kernel has applied this placement: a heartbeat says so at once.
    pub fn applied(&self, revision: Revision) {
        self.applied.fetch_max(revision.get(), Ordering::Relaxed);
        self.now.notify_one();
    }

    /// The last placement that the kernel has applied.
    pub fn revision(&self) -> Option<Revision> {
        Revision::new(self.applied.load(Ordering::Relaxed))
    }

    /// Waits until there is something new to tell.
    pub async fn news(&self) {
        self.now.notified().await;
    }
}
