//! The state of a model: stores, machines, and what may still go wrong.

use crate::{
    client::Client,
    config::{Budget, Config},
    digest::{Digest, digest},
    node::Node,
    placements,
    shelf::{History, Shelf, index, number},
    way::Way,
};
use ownership::{
    Placement, SessionId,
    lease::LeaseTimes,
    model::{Policy, Time},
    store::{OffHomeKey, StoredSession, Tables, WireId},
    takeover::Strategy,
};
use std::{
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
    time::Duration,
};

/// It is always this late: time limits of sessions are tested elsewhere.
pub const NOW: Time = Time::from_millis(1_000_000);

/// How far a slow clock goes in a tick of the world, in nanoseconds. A true one goes 10, a fast one 11.
const SLOW: u64 = 9;

/// A value that states share until one of them changes it.
#[derive(Clone, Debug)]
pub struct Kept<T> {
    value: Arc<T>,
    digest: Digest,
}

impl<T: Hash + Clone> Kept<T> {
    pub fn new(value: T) -> Self {
        let digest = digest(&value);
        Self { value: Arc::new(value), digest }
    }

    pub fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        let changed = change(Arc::make_mut(&mut self.value));
        self.digest = digest(&*self.value);
        changed
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Hash for Kept<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

#[derive(Clone, Debug)]
pub struct World<W: Way> {
    /// The directory; in *shared* the sessions too.
    pub directory: Shelf,
    /// *Sticky*: each machine's own store.
    pub own: Vec<Shelf>,
    pub nodes: Vec<Kept<Node<W>>>,
    pub history: Kept<History>,
    /// The clients of the sessions, if they are part of the model.
    pub clients: Vec<Kept<Client>>,
    pub budget: Budget,
    /// A backup of the directory, and whether it was restored.
    pub backup: Option<Backup>,
    /// Whether nothing more goes wrong, and time goes on until every session is where it should be.
    pub is_ending: bool,
}

/// A backup of the directory.
#[derive(Clone, Debug)]
pub struct Backup {
    pub tables: Arc<Tables>,
    pub is_restored: bool,
}

impl Hash for Backup {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.tables.position(), self.is_restored).hash(state);
    }
}

impl<W: Way> Hash for World<W> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { directory, own, nodes, history, clients, budget, backup, is_ending } = self;
        (directory, own, nodes, history, clients, budget, backup, is_ending).hash(state);
    }
}

impl<W: Way> PartialEq for World<W> {
    fn eq(&self, other: &Self) -> bool {
        digest(self) == digest(other)
    }
}

impl<W: Way> World<W> {
    /// A cluster that nothing has happened to: machines that are off, and nothing in the store.
    pub fn new(config: &Config) -> Self {
        let sessions = config.all_sessions();
        let node = |(at, machine): (usize, &crate::config::Machine)| {
            Kept::new(Node::new(index(machine.node), at as u128, sessions))
        };
        Self {
            directory: Shelf::new(config.has_restores()),
            own: vec![Shelf::new(false); config.machines.len()],
            nodes: config.machines.iter().enumerate().map(node).collect(),
            history: Kept::new(History::new(config.mistake, sessions)),
            clients: Vec::new(),
            budget: config.budget,
            backup: None,
            is_ending: false,
        }
    }

    /// Where the sessions of a machine are kept.
    pub fn sessions(&self, at: usize) -> &Shelf {
        match W::STRATEGY {
            Strategy::Shared => &self.directory,
            Strategy::Sticky => &self.own[at],
        }
    }

    /// A session as a machine's store has it.
    pub fn session(&self, at: usize, session: usize) -> Option<&StoredSession> {
        self.sessions(at).session(id(session))
    }

    pub fn numbers(&self) -> std::ops::Range<usize> {
        0..self.nodes[0].kernel.entries.len()
    }

    /// Whether the directory is older than it was.
    pub fn is_restored(&self) -> bool {
        self.backup.as_ref().is_some_and(|backup| backup.is_restored)
    }

    /// A backup that could be restored: every node has seen more than that.
    pub fn restorable(&self) -> Option<&Backup> {
        let backup = self.backup.as_ref().filter(|backup| !backup.is_restored)?;
        let is_older = |node: &Kept<Node<W>>| node.disk.seen.position() > backup.tables.position();
        self.nodes.iter().all(is_older).then_some(backup)
    }

    /// The placement that stands.
    pub fn placement(&self) -> Option<Arc<Placement>> {
        self.directory.placement().map(placements::of)
    }
}

impl Config {
    /// Whether the store may go back in time.
    pub fn has_restores(&self) -> bool {
        self.budget.restores > 0
    }

    pub fn all_sessions(&self) -> usize {
        self.sessions + usize::from(self.budget.births)
    }

    pub fn times(&self) -> LeaseTimes {
        let lease = SLOW * self.lease;
        let (beat, margin) = (lease / 2, 1);
        let wait = (lease * 5).div_ceil(4) + margin;
        let [lease, beat, wait, margin] = [lease, beat, wait, margin].map(Duration::from_nanos);
        LeaseTimes::new(lease, beat, wait, margin).expect("long enough, and no longer")
    }
}

/// The session with this number.
pub fn id(session: usize) -> SessionId {
    let id = SessionId::new([session as u8; 16]);
    debug_assert_eq!(number(id), session);
    id
}

/// Where its off-home row would be. All slots are alike.
pub fn key(session: usize) -> OffHomeKey {
    OffHomeKey { slot: 0, id: WireId::from(id(session)) }
}

pub fn policy() -> Policy {
    Policy {
        switch_burst: u16::MAX,
        switch_interval: Duration::from_secs(1),
        switch_cooldown: Duration::ZERO,
        ..Policy::default()
    }
}
