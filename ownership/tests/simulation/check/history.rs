//! What nodes have asked of sessions and what clients were told of them: when, and with what outcome.

use crate::time::Nanos;
use ownership::{
    SessionId, StateVersion,
    control::Snapshot,
    model::OperationId,
    store::{Outcome, SessionWrite, StoredSession, TransferWrite},
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub struct History {
    calls: Vec<Call>,
    sights: BTreeMap<SessionId, Vec<Sight>>,
    contradicted: BTreeSet<SessionId>,
}

/// One attempt to make a version.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub session: SessionId,
    pub start: Nanos,
    pub end: Option<Nanos>,
    /// The version that it makes.
    pub version: StateVersion,
    pub operation: OperationId,
    /// Unknown until it is answered.
    pub outcome: Outcome,
}

/// A version as a client was told of it.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    pub start: Nanos,
    pub end: Nanos,
    pub snapshot: Snapshot,
}

/// The number of a call; none of a copy, which makes no version.
pub type CallNumber = Option<usize>;

impl History {
    pub fn call(&mut self, now: Nanos, write: &SessionWrite) -> CallNumber {
        let is_copy = write.transaction().entries().is_empty();
        if is_copy { None } else { self.begin(now, write.after()) }
    }

    pub fn decision(&mut self, now: Nanos, write: &TransferWrite) -> CallNumber {
        self.begin(now, &write.row().session)
    }

    fn begin(&mut self, start: Nanos, after: &StoredSession) -> CallNumber {
        let (session, version) = (after.record.id(), after.record.version());
        let (operation, outcome) = (after.operation, Outcome::Unknown);
        self.calls.push(Call { session, start, end: None, version, operation, outcome });
        Some(self.calls.len() - 1)
    }

    pub fn answered(&mut self, now: Nanos, call: CallNumber, outcome: Outcome) {
        if let Some(call) = call {
            (self.calls[call].end, self.calls[call].outcome) = (Some(now), outcome);
        }
    }

    pub fn seen(&mut self, session: SessionId, span: (Nanos, Nanos), snapshot: Snapshot) {
        let (start, end) = span;
        self.sights.entry(session).or_default().push(Sight { start, end, snapshot });
    }

    /// A session is about to be ended because two have written it.
    pub fn contradicted(&mut self, session: SessionId) {
        self.contradicted.insert(session);
    }

    pub fn contradictions(&self) -> impl Iterator<Item = SessionId> {
        self.contradicted.iter().copied()
    }

    pub fn calls(&self, session: SessionId) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(move |call| call.session == session)
    }

    pub fn sights(&self, session: SessionId) -> &[Sight] {
        self.sights.get(&session).map_or(&[], Vec::as_slice)
    }
}
