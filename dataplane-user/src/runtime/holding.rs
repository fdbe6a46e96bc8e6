//! Holds and releases sessions, many in one step: threads of their own, since both wait for the kernel.

use crate::{
    hold::Counts,
    node::{Node, Refusal, hold_until_quiet, release_held},
};
use ownership::{NodeIndex, SessionId};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};
use tokio::sync::oneshot;

/// How many sessions are held or released in one step.
const TOGETHER: usize = 256;

/// How many steps of a kind are under way at once.
const THREADS: usize = 2;

/// Where a session goes when it is let go: to another node at its version there, or on here.
pub(super) type Target = Option<(NodeIndex, u64)>;

struct Hold {
    session: SessionId,
    within: Duration,
    done: oneshot::Sender<Result<(), String>>,
}

struct Release {
    session: SessionId,
    to: Target,
}

/// Holds and releases sessions. What is asked for is bounded by the number of the node's sessions.
pub(super) struct Holding {
    holds: Sender<Hold>,
    releases: Sender<Release>,
}

impl Holding {
    /// Starts the threads; they end when this is dropped.
    pub fn start(node: Arc<Mutex<Node>>) -> Self {
        let (holds, to_hold) = channel();
        let (releases, to_release) = channel();
        work("quiet", &node, to_hold, hold_together);
        work("release", &node, to_release, release_together);
        Self { holds, releases }
    }

    /// Holds a session and waits until nothing of it is in flight. After an error it may be held.
    ///
    /// # Errors
    ///
    /// With the reason, if it is not held, or something of it is still in flight.
    pub async fn hold(&self, session: SessionId, within: Duration) -> Result<(), String> {
        let (done, result) = oneshot::channel();
        let _if_it_has_ended = self.holds.send(Hold { session, within, done });
        result.await.unwrap_or_else(|_| Err("the daemon ends".to_owned()))
    }

    /// Lets a session go that is held.
    pub fn release(&self, session: SessionId, to: Target) {
        let _if_it_has_ended = self.releases.send(Release { session, to });
    }
}

fn work<T: Send + 'static>(
    name: &str,
    node: &Arc<Mutex<Node>>,
    requests: Receiver<T>,
    together: fn(&Mutex<Node>, Vec<T>),
) {
    let requests = Arc::new(Mutex::new(requests));
    for _ in 0..THREADS {
        let (node, requests) = (Arc::clone(node), Arc::clone(&requests));
        let spawned = thread::Builder::new().name(name.into()).spawn(move || {
            while let Some(some) = next(&requests) {
                together(&node, some);
            }
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "a thread that holds sessions cannot be started");
        }
    }
}

/// Waits for requests; nothing once nobody can ask any more.
fn next<T>(requests: &Mutex<Receiver<T>>) -> Option<Vec<T>> {
    let requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
    let mut some = vec![requests.recv().ok()?];
    some.extend(requests.try_iter().take(TOGETHER - 1));
    Some(some)
}

fn hold_together(node: &Mutex<Node>, requests: Vec<Hold>) {
    let within = requests.iter().map(|request| request.within).min().unwrap_or_default();
    let sessions: BTreeSet<SessionId> = requests.iter().map(|request| request.session).collect();
    let result = hold_until_quiet(node, &sessions, within);
    let is_one = requests.len() == 1;
    for Hold { session, within, done } in requests {
        let result = match &result {
            Ok(()) => Ok(()),
            // Something is still in flight, of whichever of them.
            Err(error @ Refusal::Unquiet(_)) => Err(error.to_string()),
            Err(error) if is_one => Err(error.to_string()),
            // One of them cannot be held.
            Err(_) => {
                let alone = BTreeSet::from([session]);
                hold_until_quiet(node, &alone, within).map_err(|error| error.to_string())
            }
        };
        let _nobody_waits = done.send(result);
    }
}

fn release_together(node: &Mutex<Node>, requests: Vec<Release>) {
    let mut by_target: BTreeMap<Target, BTreeSet<SessionId>> = BTreeMap::new();
    for Release { session, to } in requests {
        by_target.entry(to).or_default().insert(session);
    }
    for (to, sessions) in by_target {
        match release_held(node, &sessions, to) {
            Ok(counts) if counts.lost() > 0 => {
                let (lost, sessions) = (counts.lost(), sessions.len());
                tracing::warn!(lost, sessions, ?counts, "packets that were held are lost");
            }
            Ok(Counts { .. }) => {}
            Err(error) => {
                let sessions = sessions.len();
                tracing::error!(sessions, ?to, %error, "held sessions could not be released");
            }
        }
    }
}
