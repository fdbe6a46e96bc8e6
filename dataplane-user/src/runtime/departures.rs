//! Sessions that have been handed off and wait to be taken in: their packets are held until their new owner is
//! ready for them. That its row has left the destination's inbox says so.

use super::{
    AGAIN, Runtime,
    pages::{PAGE, pages},
};
use ownership::{
    NodeIndex, SessionId,
    store::{Directory, Fault, InboxRow},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, oneshot};

/// How long after one look comes the next at the earliest, however much changes.
const PAUSE: Duration = Duration::from_micros(500);

/// How long after one look comes the next at the latest.
const LONGEST: Duration = Duration::from_millis(50);

/// How long a session waits; then its packets go to its owner all the same.
const PATIENCE: Duration = Duration::from_secs(1);

type Waiting = HashMap<NodeIndex, HashMap<SessionId, oneshot::Sender<()>>>;

/// Who waits. Rows live until they are resolved or nobody waits any more.
#[derive(Default)]
pub(super) struct Departures {
    waiting: Mutex<Waiting>,
    more: Notify,
}

impl Departures {
    fn locked(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runtime {
    /// Waits until a session that was handed to a node has been taken in there, or for long enough.
    pub(super) async fn taken_in(&self, session: SessionId, to: NodeIndex) {
        let (sender, taken) = oneshot::channel();
        self.departures.locked().entry(to).or_default().insert(session, sender);
        self.departures.more.notify_one();
        if tokio::time::timeout(PATIENCE, taken).await.is_err() {
            if let Some(waiting) = self.departures.locked().get_mut(&to) {
                waiting.remove(&session);
            }
            tracing::warn!(%session, %to, "a session was handed over and is not taken in yet");
        }
    }

    pub(super) async fn watch_departures(self: Arc<Self>) {
        let mut since = 0;
        loop {
            let destinations: Vec<NodeIndex> = {
                let mut waiting = self.departures.locked();
                waiting.retain(|_, sessions| !sessions.is_empty());
                waiting.keys().copied().collect()
            };
            if destinations.is_empty() {
                self.departures.more.notified().await;
                continue;
            }
            for to in destinations {
                let before: HashSet<SessionId> = {
                    let waiting = self.departures.locked();
                    waiting.get(&to).map(|it| it.keys().copied().collect()).unwrap_or_default()
                };
                match self.inbox_of_node(to).await {
                    Ok(there) => {
                        let mut waiting = self.departures.locked();
                        let Some(waiting) = waiting.get_mut(&to) else { continue };
                        for session in before.difference(&there) {
                            if let Some(sender) = waiting.remove(session) {
                                let _nobody_waits = sender.send(());
                            }
                        }
                    }
                    Err(_) => tokio::time::sleep(AGAIN).await,
                }
            }
            tokio::time::sleep(PAUSE).await;
            tokio::select! {
                seen = self.stores.directory.changed(since) => since = seen,
                () = self.departures.more.notified() => {}
                () = tokio::time::sleep(LONGEST) => {}
            }
        }
    }

    async fn inbox_of_node(&self, node: NodeIndex) -> Result<HashSet<SessionId>, Fault> {
        let mut there = HashSet::new();
        let id = |row: &InboxRow| row.session.record.id();
        let read = |after| self.stores.directory.inbox(node, after, PAGE);
        pages(read, id, |page| there.extend(page.iter().map(id))).await?;
        Ok(there)
    }
}
