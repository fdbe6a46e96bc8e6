//! The way to every other node: which interface and which MAC address forwarded packets take.
//!
//! The data plane sends frames that it built itself and never asks the kernel's stack, so somebody
//! has to know the neighbours' MAC addresses, and has to keep the kernel resolving them: traffic
//! that XDP sends or receives does not refresh ARP or neighbour discovery. [`NextHops`] does both.
//! For each node it looks up the route to its address and the neighbour that the route leads to (a
//! gateway or the node itself), makes that neighbour *managed* (`NTF_EXT_MANAGED`, Linux 5.16: the
//! kernel keeps it resolved by itself), and reports each next hop when it changes.
//!
//! Notifications from the kernel start a new look-up after [`DEBOUNCE`]; every [`RESYNC`] everything
//! is looked up without any. While a neighbour does not answer it is asked again every [`RETRY`].
//!
//! ```no_run
//! # async fn example(nodes: Vec<(ownership::NodeIndex, std::net::IpAddr)>)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! use dataplane_user::neighbours::{Interfaces, NextHops, Targets, Upkeep};
//!
//! let eth0 = Interfaces::read().await?.named("eth0")?.ifindex;
//! let targets = Targets { nodes: nodes.into_iter().collect(), underlay: [eth0].into() };
//! let mut next_hops = NextHops::start(targets, Upkeep::Managed)?;
//! while let Some(change) = next_hops.changed().await {
//!     println!("node {}: {:?}", change.node, change.next_hop);
//! }
//! # next_hops.stop().await?; Ok(())
//! # }
//! ```
//!
//! Everything happens in the network namespace of the thread that starts it. Where several equal
//! routes lead to a node the kernel's choice for a packet without ports is taken.

mod care;
mod error;
mod events;
mod interfaces;
mod links;
mod netlink;
mod resolver;
mod schedule;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use ownership::NodeIndex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub use error::Error;
pub use interfaces::{Interface, Interfaces, Peer, UnknownInterface, XdpProgram};
pub use links::LinkChanges;

use events::Events;
use netlink::{Care, Netlink, Route};
use resolver::Resolver;

/// How long notifications are gathered before they are acted on; longer only when acting on them
/// takes long, so that it never takes more than about a fifth of a CPU.
pub const DEBOUNCE: Duration = Duration::from_millis(20);

/// How often everything is looked up without a notification.
pub const RESYNC: Duration = Duration::from_secs(30);

/// How often a neighbour that does not answer is asked again.
pub const RETRY: Duration = Duration::from_secs(1);

/// How often neighbours are probed that the kernel does not manage; well below the 15 s after which
/// the kernel, at the earliest, takes what it knows of a neighbour for stale.
pub const PROBE: Duration = Duration::from_secs(5);

/// How many changes wait for the consumer before look-ups pause.
const CHANGES: usize = 256;

/// What next hops are wanted for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// The other nodes, with their addresses on the underlay.
    pub nodes: BTreeMap<NodeIndex, IpAddr>,
    /// The indices of the interfaces that carry forwarded packets.
    pub underlay: BTreeSet<u32>,
}

/// How neighbours are kept resolved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Upkeep {
    /// By the kernel, or by probes where it is older than 5.16; that is found out, and logged.
    #[default]
    Managed,
    /// By asking the kernel every [`PROBE`] to check them.
    Probes,
}

/// The neighbour to which packets for a node are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The neighbour's MAC address.
    pub mac: [u8; 6],
    /// The index of the interface on whose link it is: one of [`Targets::underlay`].
    pub ifindex: u32,
}

/// A node's next hop is now another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHopChange {
    /// The node.
    pub node: NodeIndex,
    /// The way to it; `None` when there is none any more.
    pub next_hop: Option<Hop>,
}

/// Follows the next hops to the nodes.
///
/// When it is dropped it ends; [`stop`](Self::stop) also waits until the kernel has been told to
/// stop managing neighbours for us. (After a crash they stay managed, which costs a few ARP
/// requests a minute and ends with the interface.)
#[derive(Debug)]
pub struct NextHops {
    changes: mpsc::Receiver<NextHopChange>,
    targets: watch::Sender<Targets>,
    task: JoinHandle<Result<(), Error>>,
}

impl NextHops {
    /// Starts to follow the targets. All next hops count as unknown at first: those found are
    /// reported, those not found are not.
    ///
    /// # Errors
    /// When netlink is not to be had.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time.
    pub fn start(targets: Targets, upkeep: Upkeep) -> Result<Self, Error> {
        // Both now, on this thread: a socket belongs to the namespace in which it was made.
        let events = Events::open()?;
        let netlink = Netlink::open()?;
        let (targets, wanted) = watch::channel(targets);
        let (reports, changes) = mpsc::channel(CHANGES);
        let resolver = Resolver::new(netlink, upkeep);
        let task = tokio::spawn(schedule::run(resolver, events, wanted, reports));
        Ok(Self { changes, targets, task })
    }

    /// Waits for the next change. `None` once following has failed; [`stop`](Self::stop) tells why.
    ///
    /// Cancel safe. Several changes to a node come in order; only the last of them holds.
    pub async fn changed(&mut self) -> Option<NextHopChange> {
        self.changes.recv().await
    }

    /// Follows other targets from now on. Nodes that are gone are reported as lost.
    pub fn retarget(&self, targets: Targets) {
        self.targets.send_replace(targets);
    }

    /// Ends at once, and leaves neighbours managed: for a successor, and what it will forward.
    pub fn leave(self) {
        self.task.abort();
    }

    /// Ends, and waits until neighbours are no longer managed for us.
    ///
    /// # Errors
    /// What ended following the next hops, if that had failed.
    ///
    /// # Panics
    /// When the task that follows them has.
    pub async fn stop(self) -> Result<(), Error> {
        drop((self.changes, self.targets));
        match self.task.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is shutting down.
            Err(_) => Ok(()),
        }
    }
}

/// The neighbour to which the kernel would send a packet for an address now, in the calling thread's
/// network namespace; `None` if it knows no way, or the neighbour does not answer within a second.
/// Blocks.
///
/// # Errors
/// When netlink is not to be had.
pub fn find_hop(address: IpAddr) -> Result<Option<Hop>, Error> {
    let find = async || -> Result<Option<Hop>, Error> {
        let netlink = Netlink::open()?;
        let Route::Via(via) = netlink.route(address.to_canonical()).await? else {
            return Ok(None);
        };
        let end = tokio::time::Instant::now() + RETRY;
        let mut asked = false;
        loop {
            let entries = netlink.neighbours(via.ifindex).await?;
            if let Some(mac) = entries.get(&via).and_then(|entry| entry.mac) {
                return Ok(Some(Hop { mac, ifindex: via.ifindex }));
            }
            if !asked {
                netlink.resolve(via, Care::Once).await?;
                asked = true;
            }
            if tokio::time::Instant::now() >= end {
                return Ok(None);
            }
            tokio::time::sleep(DEBOUNCE / 4).await;
        }
    };
    // A thread of its own, as the caller may be within a runtime; it inherits the namespace.
    thread::scope(|scope| {
        let finder = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(Error::Open)?.block_on(find())
        });
        finder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
