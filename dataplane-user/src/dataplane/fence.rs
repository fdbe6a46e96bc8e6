//! The fence: until when the kernel may deliver for this node.

use super::clock::{Jiffies, boottime, monotonic};
use dataplane_ebpf::local::{Fence, LocalRow};
use ownership::{Epoch, lease::BootTime};
use std::time::Duration;

/// The daemon's hand on the fence of one node.
///
/// The fence shuts by itself: a daemon that is stopped, crashed or cut off from the store loses ownership
/// at the deadline without any code of ours running.
#[derive(Debug)]
pub struct FenceKeeper {
    epoch: Epoch,
    margin: Duration,
    jiffies: Jiffies,
}

impl FenceKeeper {
    /// A keeper for leases of which the last part, `margin`, is not used.
    pub fn new(epoch: Epoch, margin: Duration, jiffies: Jiffies) -> Self {
        Self { epoch, margin, jiffies }
    }

    /// The epoch it arms.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Opens the fence, or keeps it open, for a lease that ends at `end`.
    pub fn arm(&self, local: &LocalRow, end: BootTime) {
        let deadline = Duration::from_nanos(end.nanos()).saturating_sub(self.margin);
        let left = deadline.saturating_sub(boottime());
        let jiffies = self.jiffies.not_after(monotonic() + left);
        local.arm(Fence::new(self.epoch.get(), jiffies), deadline.as_nanos() as u64);
    }

    /// Shuts the fence at once.
    pub fn shut(local: &LocalRow) {
        local.arm(Fence::SHUT, 0);
    }
}

/// How long the fence stays open by the exact clock; `None` if it is shut.
pub fn open_for(local: &LocalRow) -> Option<Duration> {
    let deadline = Duration::from_nanos(local.exact_deadline());
    deadline.checked_sub(boottime()).filter(|left| !left.is_zero())
}
