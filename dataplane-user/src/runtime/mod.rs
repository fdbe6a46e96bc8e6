//! The node in its cluster: which sessions it owns, by the store, and what the kernel does for them.
//!
//! The rules are the crate [`ownership`]'s; here they meet the store, the kernel and the clock. Nothing is
//! installed in the kernel before it is committed: a session's entries follow its record (`publish`). Everything is a
//! task of its own: the watch over nodes and placement (`watch.rs`), the inbox, the sessions whose time is over
//! (`expiry.rs`), and one for each request and each move. A session has one write under way at a time (`Turn`); while
//! nobody knows what came of it, it is held.

mod answer;
mod audit;
mod books;
mod change;
mod commit;
mod departures;
mod drain;
mod expiry;
mod holding;
mod inbox;
mod lost;
mod moves;
mod notice;
mod off_home;
mod open;
mod pages;
mod placing;
mod settings;
mod start;
mod stores;
mod strategy;
mod view;
mod watch;

pub use answer::Answered;
pub use audit::{NotExported, NotVerified, Verified};
pub use change::Unchanged;
pub use drain::{DrainOrder, DrainStatus, Unadmitted};
pub use moves::Moved;
pub use notice::{Notice, Subscription};
pub use open::{Open, Opened};
pub use placing::{PlaceError, first_placement};
pub use settings::{Settings, service_number};
pub use stores::Stores;
pub use view::SessionView;

use crate::{
    cluster::{Beacon, operation, utc},
    metrics::Instruments,
    node::{Node, lock},
};
use books::{Books, Left, Owned};
use departures::Departures;
use holding::{Holding, Target};
use notice::Notices;
use ownership::{
    SessionId,
    lease::Over,
    model::{Context, Hold, Owner},
    reattach::Secrets,
    store::{Attempt, Fault, Identity, StoredSession},
    takeover::Knowledge,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};
use strategy::Carried;
use thiserror::Error;
use tokio::sync::{Notify, watch as channel};

/// How long after a fault, or while an outcome is not known, the store is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// How long a daemon that ends waits for what is under way.
const ENDING: Duration = Duration::from_secs(5);

/// Why a node can act no longer, as its runtime sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum End {
    /// Its epoch is over.
    #[error(transparent)]
    Epoch(#[from] Over),
    /// Its store was shut.
    #[error(transparent)]
    Store(#[from] Fault),
}

/// A node that owns sessions.
pub struct Runtime {
    settings: Settings,
    stores: Stores,
    by: Identity,
    node: Arc<Mutex<Node>>,
    books: Mutex<Books>,
    /// Somebody has given a turn back.
    turns: Notify,
    beacon: Arc<Beacon>,
    holding: Holding,
    notices: Notices,
    departures: Departures,
    instruments: Instruments,
    secrets: RwLock<Secrets>,
    end: channel::Sender<Option<End>>,
}

/// The right to write a session. Only one has it at a time.
struct Turn {
    runtime: Arc<Runtime>,
    session: SessionId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.runtime.books().give_back(self.session);
        self.runtime.turns.notify_waiters();
    }
}

impl Runtime {
    /// The runtime of a node that acts as `by`. It does nothing yet: see [`Runtime::run`].
    pub fn new(
        settings: Settings,
        stores: Stores,
        by: Identity,
        node: Arc<Mutex<Node>>,
        beacon: Arc<Beacon>,
        secrets: Secrets,
        instruments: Instruments,
    ) -> Arc<Self> {
        let holding = Holding::start(Arc::clone(&node));
        Arc::new(Self {
            settings,
            stores,
            by,
            node,
            books: Mutex::default(),
            turns: Notify::new(),
            beacon,
            holding,
            notices: Notices::default(),
            departures: Departures::default(),
            instruments,
            secrets: RwLock::new(secrets),
            end: channel::Sender::new(None),
        })
    }

    /// Begins to look after the node's sessions, until the handle is dropped.
    pub fn run(self: &Arc<Self>) -> Running {
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(Arc::clone(self).watch());
        tasks.spawn(Arc::clone(self).look_after_inbox());
        tasks.spawn(Arc::clone(self).watch_departures());
        tasks.spawn(Arc::clone(self).expire());
        Running { _tasks: tasks }
    }

    /// Begins no more moves, and waits a while for those that are under way.
    pub async fn finish(&self) {
        self.books().is_ending = true;
        let end = tokio::time::Instant::now() + ENDING;
        while self.end.borrow().is_none() && tokio::time::Instant::now() < end {
            if self.books().busy() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the node can act no longer.
    pub async fn ended(&self) -> End {
        let mut end = self.end.subscribe();
        let end = end.wait_for(Option::is_some).await.expect("its sender is here");
        end.expect("just looked")
    }

    /// Who this node is.
    pub fn me(&self) -> Owner {
        self.by.owner
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self) -> MutexGuard<'_, Node> {
        lock(&self.node)
    }

    /// The circumstances of a decision about a session of a service.
    fn context(&self, service: u64) -> Context {
        let policy = self.settings.policy(service);
        Context { now: utc(), actor: self.me(), policy, operation: operation() }
    }

    fn attempt(&self) -> Attempt {
        Attempt { by: self.by, now: utc(), operation: operation() }
    }

    /// Whether the lease is open, as far as the kernel knows.
    fn is_open(&self) -> bool {
        self.node().is_open()
    }

    /// The node stops at once.
    fn stop(&self, why: End) {
        self.node().shut();
        let is_first = self.end.send_if_modified(|end| {
            let is_first = end.is_none();
            *end = end.or(Some(why));
            is_first
        });
        if is_first {
            tracing::error!(%why, "this node stops to act as owner");
        }
    }

    fn fenced(&self) {
        self.stop(End::Epoch(Over::Fenced));
    }

    /// A store that was shut stays so until the daemon is started again.
    fn faulted(&self, fault: Fault) {
        if fault == Fault::Latched {
            self.stop(End::Store(fault));
        }
    }

    /// Reads until there is an answer.
    async fn read<T, F: Future<Output = Result<T, Fault>>>(&self, what: impl Fn() -> F) -> T {
        loop {
            match what().await {
                Ok(answer) => return answer,
                Err(fault) => self.faulted(fault),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The right to write a session that this node owns, unless somebody has it.
    fn turn(self: &Arc<Self>, session: SessionId) -> Option<Turn> {
        let taken = self.books().take(session);
        taken.then(|| Turn { runtime: Arc::clone(self), session })
    }

    /// The same, once whoever has it has given it back; nothing if the node does not own the session then.
    async fn next_turn(self: &Arc<Self>, session: SessionId) -> Option<Turn> {
        loop {
            let given_back = self.turns.notified();
            if let Some(turn) = self.turn(session) {
                return Some(turn);
            }
            self.owned(session)?;
            given_back.await;
        }
    }

    fn owned(&self, session: SessionId) -> Option<Owned> {
        self.books().get(session)
    }

    fn stored(&self, turn: &Turn) -> StoredSession {
        self.owned(turn.session).expect("whoever has the turn keeps it").stored
    }

    /// From here on the node owns a session; whoever has the turn, if it is known already.
    fn own(&self, stored: &StoredSession, knowledge: Knowledge) {
        self.books().own(stored, knowledge, &self.settings.policy(stored.record.service()));
        self.publish(stored);
    }

    /// Another node owns it, or it is over.
    fn disown(&self, stored: &StoredSession) {
        self.books().remove(stored.record.id());
        self.publish(stored);
    }

    /// Tells the kernel what to do with a session's packets, now that its record is this one. What is held
    /// of it goes where it belongs.
    fn publish(&self, stored: &StoredSession) {
        let record = &stored.record;
        let session = record.id();
        let mut node = self.node();
        if record.is_terminated() {
            node.leave(session);
            drop(node);
            let policy = self.settings.policy(record.service());
            let mut books = self.books();
            books.remove(session);
            books.tombstones.insert((record.born().after(policy.session_ttl), session));
            drop(books);
            self.notices.tell(Notice::Ended { session, service: record.service() });
            return;
        }
        if record.owner() != self.me() {
            let (to, version) = (record.owner().node, record.version().get());
            if let Ok(known) = node.session_of(session) {
                let (service, ids) = (known.service, known.wire_ids.clone());
                self.books().left.insert(session, Left { service, ids, to });
            }
            if node.is_held(session) {
                drop(node);
                self.let_go(session, Some((to, version)));
            } else {
                node.redirect_session(session, to, version);
            }
            return;
        }
        node.publish(session, record.version(), record.transport().map(Into::into));
        drop(node);
        if record.hold() == Hold::Active && self.books().stopped.contains(&session) {
            self.let_go(session, None);
        }
    }

    /// Holds a session of which nobody knows how it stands, or that is on its way.
    fn hold(&self, session: SessionId) {
        self.books().stopped.insert(session);
        self.node().stop(session);
    }

    /// Lets a session go that stands still: its packets go where it belongs, and what was held of it.
    fn let_go(&self, session: SessionId, to: Target) {
        self.books().stopped.remove(&session);
        self.holding.release(session, to);
    }
}

/// A runtime at work; it stops when this is dropped.
pub struct Running {
    _tasks: tokio::task::JoinSet<()>,
}
