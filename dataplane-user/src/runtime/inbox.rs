//! Takes in what other nodes hand over.

use super::{AGAIN, Notice, Runtime, Turn};
use crate::node::{Entering, FIRST_OWNED};
use ownership::{
    SessionId, StateVersion,
    baggage::Baggage,
    model::{Cause, Hold, Input, SessionRecord},
    pending::{NotDone, Pending},
    store::{Directory, SessionWrite, Sessions, StoredSession},
    takeover::{Knowledge, Strategy},
    transfer::Arrived,
};
use std::{sync::Arc, time::Duration};

/// How many rows are looked at together.
const TOGETHER: usize = 1000;

/// How long after one look comes the next at the earliest, however much changes.
const PAUSE: Duration = Duration::from_micros(500);

/// How long after one look comes the next at the latest.
const LONGEST: Duration = Duration::from_secs(1);

impl Runtime {
    pub(super) async fn look_after_inbox(self: Arc<Self>) {
        let mut since = 0;
        loop {
            match self.stores.directory.inbox(self.me().node, None, TOGETHER).await {
                Ok(waiting) => {
                    for row in waiting {
                        let session = row.session.record.id();
                        self.look_into(session, |runtime| async move {
                            if let Some(arrived) = Arrived::new(row, runtime.by) {
                                runtime.arrive(arrived).await;
                            }
                        });
                    }
                    tokio::time::sleep(PAUSE).await;
                    tokio::select! {
                        seen = self.stores.directory.changed(since) => since = seen,
                        () = tokio::time::sleep(LONGEST) => {}
                    }
                }
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// A session that was handed to this node goes on here.
    pub(super) async fn arrive(self: &Arc<Self>, arrived: Arrived) {
        let handed = *arrived.session();
        let session = handed.record.id();
        let is_sticky = self.settings.strategy() == Strategy::Sticky;
        let baggage = self.unpacked(&arrived);
        if handed.record.owner() == self.me() && !self.expect(&handed.record, &baggage).await {
            return self.cannot_serve(session, &arrived).await;
        }
        let mut stands = self.read(|| self.stores.sessions.get(session)).await;
        if is_sticky && let Some(pending) = arrived.copy(stands.as_ref()) {
            if !self.carry_copy(session, pending).await {
                return;
            }
            stands = Some(handed);
        }
        let Some(stands) = stands else {
            return tracing::error!(%session, "a session was handed over that is not there");
        };
        if stands.record.owner() == self.me() && is_handed_off(&stands.record) {
            if self.owned(session).is_some_and(|owned| owned.is_busy) {
                return;
            }
            self.own(&stands, Knowledge::Read);
            let Some(turn) = self.turn(session) else { return };
            self.grant(&stands, &baggage).await;
            self.let_go(session, None);
            if !baggage.is_empty() {
                let packed = self.pack(session, |_| Ok(baggage.clone())).await;
                if let Err(why) = packed {
                    tracing::warn!(%session, %why, "what a session carries is not kept");
                }
            }
            match arrived.resume(&self.stored(&turn), &self.context(stands.record.service())) {
                Ok(pending) => match self.commit(&turn, pending, Input::Resume, |_| {}).await {
                    Ok(_) => self.tell_change(session),
                    Err(why) => tracing::warn!(%session, %why, "a session is not resumed yet"),
                },
                Err(why) => tracing::error!(%session, %why, "a session cannot be resumed"),
            }
        } else if stands.record.owner() != self.me() || stands.record.is_terminated() {
            self.publish(&stands);
        }
        if is_sticky {
            self.tidy(arrived.take()).await;
        }
    }

    fn unpacked(&self, arrived: &Arrived) -> Baggage {
        arrived.baggage().unwrap_or_else(|why| {
            let session = arrived.session().record.id();
            tracing::error!(%session, %why, "what came with a session has no meaning");
            Baggage::default()
        })
    }

    /// Holds what comes for a session that this node owns by now; `false` if it cannot be served here.
    pub(super) async fn expect(&self, record: &SessionRecord, baggage: &Baggage) -> bool {
        let session = record.id();
        // It may have been here before, and be on its way out still.
        while self.owned(session).is_none() && self.node().is_leaving(session) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let Some(entering) = self.entering(record, baggage, true) else { return false };
        let expected = self.node().expect(&[entering]).pop();
        match expected {
            Some(Err(why)) => {
                tracing::error!(%session, %why, "a session has no place here");
                false
            }
            Some(Ok(())) | None => true,
        }
    }

    /// A session as the tables have it; nothing if its service is not configured here.
    ///
    /// `is_new` if the record is of the version at which this node came to own it.
    pub(super) fn entering(
        &self,
        record: &SessionRecord,
        baggage: &Baggage,
        is_new: bool,
    ) -> Option<Entering> {
        let session = record.id();
        let Some(service) = self.settings.place(record.service()) else {
            tracing::error!(%session, "a session is of a service that is not configured here");
            return None;
        };
        let wire_ids = baggage.wire_ids().iter().map(|id| id.bytes().to_vec()).collect();
        let (version, client) = (record.version(), record.transport().map(Into::into));
        let owned_since = if is_new { version } else { self.since_by_rows(session) };
        Some(Entering { session, service, cpu: None, version, owned_since, client, wire_ids })
    }

    /// Since when this node owns a session of which its tables know nothing, as far as other nodes are told.
    fn since_by_rows(&self, session: SessionId) -> StateVersion {
        let books = self.books();
        let row = books.placing.off_home.values().find(|row| row.session == session);
        row.map_or(FIRST_OWNED, |row| row.version)
    }

    /// Gives the application what it has left for itself, and waits until it is ready.
    pub(super) async fn grant(&self, stored: &StoredSession, baggage: &Baggage) {
        let record = &stored.record;
        let session = record.id();
        let notice = Notice::Granted {
            session,
            service: record.service(),
            owner: record.owner(),
            version: record.version(),
            transport: record.transport(),
            wire_ids: baggage.wire_ids().iter().map(|id| id.bytes().to_vec()).collect(),
            context: Arc::clone(baggage.context()),
        };
        let _nobody_or_late = self.notices.ask(session, notice, self.settings.application).await;
    }

    /// A session that this node owns and cannot serve ends: nobody else may have it.
    async fn cannot_serve(self: &Arc<Self>, session: SessionId, arrived: &Arrived) {
        let stands = self.read(|| self.stores.sessions.get(session)).await;
        if self.settings.strategy() == Strategy::Sticky
            && let Some(pending) = arrived.copy(stands.as_ref())
        {
            if !self.carry_copy(session, pending).await {
                return;
            }
            self.own(arrived.session(), Knowledge::Read);
        } else if let Some(stands) = stands.filter(|stands| stands.record.owner() == self.me()) {
            self.own(&stands, Knowledge::Read);
        }
        if let Some(turn) = self.turn(session) {
            let cause = Cause::Operator;
            let _logged = self.change(&turn, Input::Terminate { cause }).await;
        }
        if self.settings.strategy() == Strategy::Sticky {
            self.tidy(arrived.take()).await;
        }
    }

    /// Goes on with a session that was taken out of the inbox, but not resumed.
    pub(super) async fn finish_arrival(self: &Arc<Self>, turn: &Turn) {
        let session = turn.session;
        match self.change(turn, Input::Resume).await {
            Ok(_) => {
                self.tell_change(session);
                self.let_go(session, None);
            }
            Err(why) => tracing::error!(%session, %why, "a session cannot be resumed"),
        }
    }

    pub(super) async fn carry_copy(
        &self,
        session: SessionId,
        pending: Pending<SessionWrite>,
    ) -> bool {
        match self.carry(session, pending, || None, |_| {}).await {
            Ok(_) => return true,
            Err(NotDone::Fenced) => self.fenced(),
            Err(NotDone::Unavailable(fault)) => self.faulted(fault),
            // Somebody else of this process has copied it.
            Err(_) => {}
        }
        false
    }
}

/// Whether a session waits for its destination to go on.
pub(super) fn is_handed_off(record: &SessionRecord) -> bool {
    matches!(record.hold(), Hold::HandedOff { .. })
}
