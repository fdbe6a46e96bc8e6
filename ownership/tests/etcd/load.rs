//! Callers that change sessions as fast as they can, and write down what they see.

use crate::{
    conformance::world::{id, next},
    history::{History, Span},
};
use ownership::{
    SessionId,
    store::{Identity, Outcome, SessionWrite, Sessions, StoredSession, etcd::Etcd},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::sleep};

/// The sessions that all callers share.
pub const SESSIONS: u32 = 40;

/// How many of them a caller changes at once.
const TOGETHER: u32 = 5;

/// Callers at work.
pub struct Load {
    callers: JoinSet<History>,
    is_over: Arc<AtomicBool>,
}

impl Load {
    /// Sets callers on each of these stores to work, as clones of one node: they do not know of each
    /// other, and write the same versions of the same sessions.
    pub fn start(stores: &[Arc<Etcd>], callers: u32, by: Identity) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut set = JoinSet::new();
        for (at, store) in (0..).zip(stores) {
            for number in 0..callers {
                let seed = at * 7 + number * 11;
                set.spawn(call(Arc::clone(store), by, seed, Arc::clone(&is_over)));
            }
        }
        Self { callers: set, is_over }
    }

    /// Lets them come to an end, and gives all that they saw.
    pub async fn end(self) -> History {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = History::default();
        for history in self.callers.join_all().await {
            all.join(history);
        }
        all
    }
}

async fn call(store: Arc<Etcd>, by: Identity, seed: u32, is_over: Arc<AtomicBool>) -> History {
    let mut history = History::default();
    // What it believes to stand there. Others write too, so it is often wrong.
    let mut known: BTreeMap<SessionId, StoredSession> = BTreeMap::new();
    let mut first = seed;
    while !is_over.load(Ordering::Relaxed) {
        first = first.wrapping_mul(5).wrapping_add(3) % SESSIONS;
        let sessions: Vec<_> =
            (0..TOGETHER).map(|number| id((first + number) % SESSIONS)).collect();
        if let Some(session) = sessions.iter().find(|session| !known.contains_key(session)) {
            let from = Instant::now();
            if let Ok(Some(stands)) = store.get(*session).await {
                let span = Span { from, to: Instant::now() };
                history.read(*session, span, stands.record.version().get());
                known.insert(*session, stands);
            }
        }
        let writes: Vec<SessionWrite> =
            sessions.iter().filter_map(|session| Some(next(known.get(session)?, by))).collect();
        let from = Instant::now();
        let outcomes = store.commit(writes.clone()).await;
        let span = Span { from, to: Instant::now() };
        assert_eq!(outcomes.len(), writes.len());
        for (write, outcome) in writes.iter().zip(&outcomes) {
            history.wrote(write, span, *outcome);
            let (session, after) = (write.after().record.id(), *write.after());
            match outcome {
                Outcome::Won => known.insert(session, after),
                Outcome::Lost(_) | Outcome::Fenced | Outcome::Unknown | Outcome::Unavailable(_) => {
                    known.remove(&session)
                }
            };
        }
        if !outcomes.iter().any(|outcome| outcome.is_won()) {
            // As somebody does who has been turned away.
            sleep(Duration::from_millis(5)).await;
        }
    }
    history
}
