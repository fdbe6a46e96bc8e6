//! Holding sessions on their way: their packets wait in the daemon until it is known where they
//! belong.
//!
//! While a session is held, the program copies its packets into a ring instead of delivering them,
//! and the [`Keeper`] files them by session, in order and within bounds. [`Hold::quiet`] waits until
//! nothing of the sessions is in flight any more: first a grace period, after which no program runs
//! that saw the old entries, and everything that one sent is in a CPU's queue; then a marker through
//! each such queue, which the application acknowledges when it has read it, and with it whatever was
//! queued before. [`Hold::release_here`] and [`Hold::release_to`] send what waited, in order and
//! paced, and let newer packets have their way when nothing older waits.
//!
//! Every packet that was held is accounted for ([`Counts`]).

mod books;
mod core;
mod counts;
mod deliver;
mod emit;
mod keeper;
mod marker;
mod pace;
mod packet;
mod quiet;
mod release;

pub use books::{Books, Bounds, Fate, Id, Lane, Way};
pub use counts::{Counts, Totals};
pub use keeper::{HoldError, Keeper, StartError};
pub use marker::Queue;
pub use packet::Packet;
pub use quiet::{Quiet, Unquiet};
pub use release::{Lend, ReleaseError, Released};

use self::core::Core;
use crate::dataplane::services::Service;
use dataplane_ebpf::{wire_id::Key, wire_id_row::Registered};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Condvar, Mutex, MutexGuard, atomic::AtomicBool},
    thread::Thread,
};

/// How a keeper keeps.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much it keeps.
    pub bounds: Bounds,
    /// How many packets that waited it sends in a second, beside as many as arrive meanwhile.
    pub pace: u32,
    /// This node's underlay address.
    pub underlay: IpAddr,
    /// The node's services.
    pub services: Vec<Service>,
}

/// A session that is to be held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The service's index.
    pub service: u16,
    /// The CPU that processes it.
    pub cpu: u16,
    /// The keys of all its wire ids.
    pub keys: Vec<Key>,
}

/// A session that comes here from another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coming {
    /// The session.
    pub session: Session,
    /// What a successor of this daemon must know of its keys, in their order.
    pub wire_ids: Vec<Registered>,
}

/// What the thread, the keeper and the holds share.
struct Shared {
    core: Mutex<Core>,
    /// Told whenever queues got shorter, or a marker was read.
    changed: Condvar,
    is_over: AtomicBool,
    /// Addresses of the services' data and control ports.
    addresses: BTreeMap<(u16, bool), SocketAddr>,
    /// Services whose packets go to AF_XDP sockets.
    af_xdp: BTreeSet<u16>,
}

/// Sessions that are held. They stay so when this is dropped; a clone stands for the same ones.
#[derive(Clone)]
pub struct Hold {
    shared: Arc<Shared>,
    thread: Thread,
    sessions: Vec<(Id, Session)>,
    /// The queues in which packets of these sessions may be.
    queues: BTreeSet<Queue>,
}

impl Hold {
    /// The same, session by session, in the order in which they were given.
    pub fn split(self) -> impl Iterator<Item = Self> {
        let Self { shared, thread, sessions, queues } = self;
        sessions.into_iter().map(move |session| Self {
            shared: Arc::clone(&shared),
            thread: thread.clone(),
            sessions: vec![session],
            queues: queues.clone(),
        })
    }

    /// Several of one keeper in one; `None` for none at all.
    pub fn join(holds: impl IntoIterator<Item = Self>) -> Option<Self> {
        holds.into_iter().reduce(|mut all, more| {
            all.sessions.extend(more.sessions);
            all.queues.extend(more.queues);
            all
        })
    }

    /// Whether all of them are held still: neither released nor discarded.
    pub fn is_held(&self) -> bool {
        let core = self.shared.core();
        self.sessions.iter().all(|&(id, _)| core.books.is_held(id))
    }

    /// Each session's account so far, in the order in which they were given.
    pub fn counts(&self) -> Vec<Counts> {
        let core = self.shared.core();
        self.sessions.iter().map(|&(id, _)| core.books.counts(id)).collect()
    }

    /// Ends the hold and discards what waits: for sessions that have ended. Their entries must be
    /// gone, or what still comes belongs to nobody and is lost.
    pub fn discard(self) -> Counts {
        let mut core = self.shared.core();
        let mut counts = Counts::default();
        for (id, _) in &self.sessions {
            counts += core.books.close(*id).unwrap_or_default();
        }
        counts
    }
}

impl Shared {
    /// The books and everything else; a caller that panicked has left them as they are between two
    /// packets.
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
