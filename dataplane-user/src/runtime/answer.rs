//! Answers the control port: a client's request is examined, decided, committed, and only then acknowledged.

use super::Runtime;
use crate::cluster::utc;
use ownership::{
    SessionId, StateVersion,
    audit::Refusal,
    model::Reason,
    pending::Pending,
    reattach::{Decided, Examined, NoRecord, Proven, Refused, Reply, Secrets, examine},
    store::{Directory, DirectoryWrite, Outcome, SessionWrite, Sessions, Store, StoredSession},
    takeover::Strategy,
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, RwLockReadGuard},
};

/// What came of a datagram to the control port.
#[derive(Debug)]
pub enum Answered {
    /// To be sent to where it came from.
    Reply(Reply),
    /// No answer that anybody could believe; with what it claimed, if it could be read.
    Nothing(Option<Refused>),
}

impl Runtime {
    /// Answers a datagram from `source` that arrived at the control port of the service with this place in the
    /// configuration.
    pub async fn answer(
        self: &Arc<Self>,
        service: usize,
        message: &[u8],
        source: SocketAddr,
    ) -> Answered {
        let examined = examine(&self.secrets(), message, source, utc());
        match examined {
            Examined::Unreadable(_) => Answered::Nothing(None),
            Examined::Unanswerable(refused) => Answered::Nothing(Some(refused)),
            Examined::Reply(reply) => Answered::Reply(reply),
            Examined::Proven(proven) => Answered::Reply(self.answer_proven(service, proven).await),
        }
    }

    pub(super) fn secrets(&self) -> RwLockReadGuard<'_, Secrets> {
        self.secrets.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on these secrets are in force.
    pub fn set_secrets(&self, secrets: Secrets) {
        *self.secrets.write().unwrap_or_else(PoisonError::into_inner) = secrets;
    }

    /// Tells of refusals in the audit log: reason, session, the version that it had, and how many alike there
    /// were.
    pub async fn tell(
        &self,
        refused: impl IntoIterator<Item = (Reason, Option<SessionId>, Option<StateVersion>, u32)>,
    ) -> Outcome {
        let (actor, now) = (self.me().node, utc());
        let refusal =
            |(reason, session, stood, count)| Refusal { reason, session, stood, count, actor, now };
        let write = DirectoryWrite::tell(refused.into_iter().map(refusal));
        self.stores.directory.write(write).await
    }

    async fn answer_proven(self: &Arc<Self>, place: usize, proven: Proven) -> Reply {
        let session = proven.session();
        let Some(owned) = self.owned(session) else {
            return self.answer_without(place, proven).await;
        };
        if !self.is_open() {
            // Somebody else may have it by now.
            return proven.without(NoRecord::Elsewhere);
        }
        if owned.is_busy && !owned.is_moving {
            return proven.without(NoRecord::InDoubt);
        }
        let service = owned.stored.record.service();
        let input = proven.input();
        let decided = proven.decide(&owned.stored.record, &self.context(service));
        let (commit, uncommitted) = match decided {
            Decided::Reply(reply) => return reply,
            Decided::Commit(commit, uncommitted) => (commit, uncommitted),
        };
        // A move has the turn; the client will ask again.
        let Some(turn) = self.turn(session).filter(|turn| self.stored(turn) == owned.stored) else {
            return uncommitted.settle(Outcome::Unknown);
        };
        let write = match SessionWrite::change(&owned.stored, &commit, self.by) {
            Ok(write) => write,
            Err(why) => {
                tracing::error!(%session, %why, "what was decided here cannot be written");
                return uncommitted.settle(Outcome::Unknown);
            }
        };
        let settled = Mutex::new(None);
        let changed = {
            let first = |outcome| {
                *settled.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(uncommitted.settle(outcome));
            };
            self.commit(&turn, Pending::new(write), input, first).await
        };
        if changed.is_ok() {
            self.tell_change(session);
        }
        let reply = settled.into_inner().unwrap_or_else(PoisonError::into_inner);
        reply.expect("every write has a first outcome")
    }

    /// The answer about a session that this node does not own.
    async fn answer_without(&self, service: usize, proven: Proven) -> Reply {
        let session = proven.session();
        let stands = match self.stores.sessions.get(session).await {
            Ok(stands) => stands,
            Err(_) => return proven.without(NoRecord::Unavailable),
        };
        if let Some(stored) = stands.filter(|stored| stored.record.is_terminated()) {
            let context = self.context(stored.record.service());
            return match proven.decide(&stored.record, &context) {
                Decided::Reply(reply) => reply,
                Decided::Commit(_, uncommitted) => uncommitted.settle(Outcome::Unknown),
            };
        }
        let may_deny = !self.has_owner(stands) && self.may_deny_session(service, session);
        // What was handed to this node may not have been taken in yet.
        let waits = || self.stores.directory.inbox_of(self.me().node, session);
        if may_deny && matches!(waits().await, Ok(None)) {
            return proven.without(NoRecord::Unknown);
        }
        proven.without(NoRecord::Elsewhere)
    }

    /// Whether this node may say that the service has no such session.
    fn may_deny_session(&self, service: usize, session: SessionId) -> bool {
        let slot = self.node().slot_of(service, &session.bytes());
        let is_known = {
            let books = self.books();
            books.placing.off_home.values().any(|row| row.session == session)
        };
        self.is_open() && !is_known && slot.is_some_and(|slot| self.may_deny(slot))
    }

    /// Whether what the node has read proves that a session has an owner. *Sticky*: its own store's copy of what
    /// it has handed away proves nothing; whether that session still lives, the placement and off-home rows say.
    fn has_owner(&self, stands: Option<StoredSession>) -> bool {
        stands.is_some_and(|stored| match self.settings.strategy() {
            Strategy::Shared => true,
            Strategy::Sticky => stored.record.owner().node == self.me().node,
        })
    }
}

impl Answered {
    /// What was refused, if something was.
    pub fn refused(&self) -> Option<Refused> {
        match self {
            Self::Reply(reply) => reply.refused(),
            Self::Nothing(refused) => *refused,
        }
    }

    /// Why, if something was.
    pub fn reason(&self) -> Option<Reason> {
        self.refused().map(|refused| refused.reason)
    }
}
