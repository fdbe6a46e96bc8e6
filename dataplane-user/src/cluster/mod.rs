//! The node in its cluster: the store that all nodes agree in, and the node's lease there.
//!
//! A node begins in an epoch of its own, drawn from the store's one counter, or goes on in that of a daemon
//! before it ([`Lease::resume`]). From then on the kernel's fence is open for as long after each heartbeat
//! *was sent* as the lease is long, and shuts by itself: nothing of ours has to run for that.

mod backend;
mod beacon;
mod lease;
mod recovery;
mod seen;
mod watch;

pub use backend::{Backend, OpenError};
pub use beacon::Beacon;
pub use lease::{BeginError, Keeper, Lease, Unresumable};
pub(crate) use lease::{operation, utc};
pub use ownership::lease::Over;
pub use recovery::{NotRecovered, Recovered, recover};
pub(crate) use watch::look;
pub use watch::{Heard, Known};

use ownership::lease::{BootTime, LeaseTimes};

use crate::{config, dataplane::clock::boottime};
use std::time::Duration;

/// How long after a fault the store is asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// The time by which leases are measured.
pub fn now() -> BootTime {
    let nanoseconds = u64::try_from(boottime().as_nanos());
    BootTime::from_nanos(nanoseconds.expect("584 years have not passed since the boot"))
}

/// How long a node's lease lasts by its configuration, and how long others would have to wait.
pub fn times(fence: &config::Fence) -> LeaseTimes {
    let wait = fence.lease * 3 / 2 + fence.margin;
    LeaseTimes::new(fence.lease, fence.renew, wait, fence.margin)
        .expect("a checked configuration renews twice in a lease")
}
