//! What applications are told of their sessions, and what is asked of them.

use ownership::{
    NodeIndex, SessionId, StateVersion,
    model::{Owner, Transport},
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// How many notices wait for an application; one that does not read is given up.
const WAITING: usize = 65_536;

/// What an application is told of a session of its service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It goes on here: it came from another node, or from an earlier daemon. To be answered with
    /// [`Runtime::ready`](super::Runtime::ready): until then its packets wait.
    Granted {
        /// The session.
        session: SessionId,
        /// Its service's number.
        service: u64,
        /// Its owner, which is this node.
        owner: Owner,
        /// Its state_version.
        version: StateVersion,
        /// The transport that it is bound to.
        transport: Option<Transport>,
        /// Its wire ids besides the SessionID.
        wire_ids: Vec<Vec<u8>>,
        /// What the application has left for itself.
        context: Arc<[u8]>,
    },
    /// It is about to move: no new transport is bound.
    Freezes {
        /// The session.
        session: SessionId,
        /// Its service's number.
        service: u64,
        /// Where it is to go.
        to: NodeIndex,
    },
    /// Nothing more of it comes: the application has read all that there was. To be answered with
    /// [`Runtime::quiesced`](super::Runtime::quiesced).
    Quiesce {
        /// The session.
        session: SessionId,
        /// Its service's number.
        service: u64,
    },
    /// It does not move: it goes on here.
    Thaws {
        /// The session.
        session: SessionId,
        /// Its service's number.
        service: u64,
    },
    /// Another node owns it.
    Lost {
        /// The session.
        session: SessionId,
        /// Its service's number.
        service: u64,
        /// Who owns it.
        to: NodeIndex,
    },
    /// It has another version, or is bound to another transport.
    Changed {
        /// The session.
        session: SessionId,
        /// Its service's number.
        service: u64,
        /// Its state_version.
        version: StateVersion,
        /// The transport that it is bound to.
        transport: Option<Transport>,
    },
    /// It is over.
    Ended {
        /// The session.
        session: SessionId,
        /// Its service's number.
        service: u64,
    },
}

impl Notice {
    /// The number of the session's service.
    pub fn service(&self) -> u64 {
        match self {
            Self::Granted { service, .. }
            | Self::Freezes { service, .. }
            | Self::Quiesce { service, .. }
            | Self::Thaws { service, .. }
            | Self::Lost { service, .. }
            | Self::Changed { service, .. }
            | Self::Ended { service, .. } => *service,
        }
    }
}

/// An application's ear.
#[derive(Debug)]
pub struct Subscription {
    notices: mpsc::Receiver<Notice>,
    number: u64,
}

impl Subscription {
    /// The next notice; nothing once the application was given up because it did not read.
    pub async fn next(&mut self) -> Option<Notice> {
        self.notices.recv().await
    }

    /// What tells this application from others.
    pub fn number(&self) -> u64 {
        self.number
    }
}

struct Subscriber {
    service: u64,
    notices: mpsc::Sender<Notice>,
}

/// All ears, and what is waited for.
#[derive(Default)]
pub(super) struct Notices {
    subscribers: Mutex<HashMap<u64, Subscriber>>,
    answers: Mutex<HashMap<SessionId, oneshot::Sender<Option<Vec<u8>>>>>,
    last: AtomicU64,
}

impl Notices {
    /// From now on an application is told of its service's sessions.
    pub fn subscribe(&self, service: u64) -> Subscription {
        let (sender, notices) = mpsc::channel(WAITING);
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        locked(&self.subscribers).insert(number, Subscriber { service, notices: sender });
        Subscription { notices, number }
    }

    /// Tells the applications of the session's service; how many there are.
    pub fn tell(&self, notice: Notice) -> usize {
        let mut subscribers = locked(&self.subscribers);
        let mut told = 0;
        subscribers.retain(|_, subscriber| {
            if subscriber.service != notice.service() {
                return true;
            }
            let is_there = subscriber.notices.try_send(notice.clone()).is_ok();
            told += usize::from(is_there);
            is_there
        });
        told
    }

    /// Tells them and waits for an answer, if there is anybody to give one.
    pub async fn ask(
        &self,
        session: SessionId,
        notice: Notice,
        within: Duration,
    ) -> Option<Option<Vec<u8>>> {
        let (sender, answer) = oneshot::channel();
        locked(&self.answers).insert(session, sender);
        let answer = match self.tell(notice) {
            0 => None,
            _ => tokio::time::timeout(within, answer).await.ok().and_then(Result::ok),
        };
        locked(&self.answers).remove(&session);
        answer
    }

    /// An application's answer; whether anybody waits for it.
    pub fn answer(&self, session: SessionId, context: Option<Vec<u8>>) -> bool {
        let waiting = locked(&self.answers).remove(&session);
        waiting.is_some_and(|waiting| waiting.send(context).is_ok())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
