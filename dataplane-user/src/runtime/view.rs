//! How sessions stand, for whoever looks.

use super::Runtime;
use crate::api::SessionState;
use ownership::{
    SessionId,
    model::{Hold, SessionRecord, State},
    store::{Fault, Sessions},
};
use std::sync::Arc;

/// A session as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Its record.
    pub record: SessionRecord,
    /// The name of its service; nothing if that is not configured here.
    pub service: Option<String>,
    /// Its wire ids besides the SessionID, as far as this node knows.
    pub wire_ids: Vec<Vec<u8>>,
    /// What its application has left for itself, as far as this node knows.
    pub context: Arc<[u8]>,
    /// Whether this node owns it.
    pub is_here: bool,
}

impl Runtime {
    /// A session as it stands, wherever it is; nothing if there is none, or only its owner has it.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn view(&self, session: SessionId) -> Result<Option<SessionView>, Fault> {
        if let Some(owned) = self.owned(session) {
            return Ok(Some(self.viewed(owned.stored.record)));
        }
        let stored = self.stores.sessions.get(session).await?;
        Ok(stored.map(|stored| self.viewed(stored.record)))
    }

    /// Sessions that this node owns, in the order of their ids, behind one of them.
    pub fn views(&self, after: Option<SessionId>, limit: usize) -> Vec<SessionView> {
        let ids: Vec<SessionId> = self.node().ids_after(after, limit);
        let owned = ids.into_iter().filter_map(|session| self.owned(session));
        owned.map(|owned| self.viewed(owned.stored.record)).collect()
    }

    /// How many sessions this node owns.
    pub fn count(&self) -> usize {
        self.books().len()
    }

    fn viewed(&self, record: SessionRecord) -> SessionView {
        let baggage = self.books().baggage(record.id());
        let baggage = baggage.map(|row| row.baggage.clone()).unwrap_or_default();
        SessionView {
            record,
            service: self.settings.name(record.service()).map(str::to_owned),
            wire_ids: baggage.wire_ids().iter().map(|id| id.bytes().to_vec()).collect(),
            context: Arc::clone(baggage.context()),
            is_here: record.owner() == self.me(),
        }
    }
}

impl From<&SessionView> for SessionState {
    fn from(view: &SessionView) -> Self {
        let record = &view.record;
        let (state, why) = match record.state() {
            State::Birth => ("BIRTH", None),
            State::Attached(_) => ("ATTACHED", None),
            State::Recovering { .. } => ("RECOVERING", None),
            State::Terminated(cause) => ("TERMINATED", Some(cause.name())),
        };
        let hold = match record.hold() {
            Hold::Active => "ACTIVE",
            Hold::Frozen { .. } => "FROZEN",
            Hold::HandedOff { .. } => "HANDED_OFF",
        };
        let hex = |id: &Vec<u8>| id.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            session: record.id().to_string(),
            service: view.service.clone(),
            version: record.version().get(),
            owner: (record.owner().node.get(), record.owner().epoch.get()),
            is_here: view.is_here,
            state: why.map_or_else(|| state.to_owned(), |why| format!("{state} ({why})")),
            hold: hold.to_owned(),
            client: record.transport().map(Into::into),
            born_ms: record.born().millis(),
            changed_ms: record.changed().millis(),
            key_generation: record.key_generation(),
            wire_ids: view.wire_ids.iter().map(hex).collect(),
            context_bytes: view.context.len(),
        }
    }
}
