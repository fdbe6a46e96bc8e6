//! Proof that a log is whole: one event for each version, each of them what
//! [`decide`](crate::model::decide) makes of the one before.

mod chain;
mod finding;

pub use finding::{Chain, Finding, Place};

use super::{Entry, Event};
use crate::{
    Epoch, NodeIndex, SessionId, StateVersion,
    store::{AuditKey, AuditRow, FenceRow, PlacementRow, StoredSession},
};
use chain::{NodeState, PlacementState, Progress, SessionState};
use std::collections::{BTreeMap, BTreeSet};

/// Goes through a log. The rows may come in any order, since a session that moves is told of by more
/// than one node.
///
/// Keeps the last state of everything that the log is about, and events only until the ones before
/// them have come.
#[derive(Debug, Default)]
pub struct Verifier {
    rows: BTreeSet<AuditKey>,
    sessions: BTreeMap<SessionId, Progress<SessionState>>,
    nodes: BTreeMap<NodeIndex, Progress<NodeState>>,
    placement: Progress<PlacementState>,
    epochs: BTreeSet<Epoch>,
}

impl Verifier {
    /// Begins with a session as it was before the log: the log then tells what came after.
    pub fn session_before(&mut self, session: &StoredSession) {
        self.sessions.insert(session.record.id(), Progress::of_session(session));
    }

    /// Begins with a node as it was before the log.
    pub fn node_before(&mut self, row: &FenceRow) {
        self.epochs.insert(row.epoch);
        self.nodes.insert(row.node, Progress::of_node(row));
    }

    /// Begins with the placement as it was before the log.
    pub fn placement_before(&mut self, row: &PlacementRow) {
        self.placement = Progress::of_placement(row);
    }

    /// Takes the next row.
    ///
    /// # Errors
    ///
    /// With what is not as it must be; nothing else is told of the log then.
    pub fn row(&mut self, row: &AuditRow) -> Result<(), Finding> {
        if !self.rows.insert(row.key) {
            return Err(Finding::DoubleRow(row.key));
        }
        for (at, entry) in row.entries.iter().enumerate() {
            self.entry(Place { row: row.key, at }, entry)?;
        }
        Ok(())
    }

    fn entry(&mut self, place: Place, entry: &Entry) -> Result<(), Finding> {
        match &entry.event {
            Event::StateChange(change) => {
                let (session, number) = (change.session(), change.version().get());
                let progress = self.sessions.entry(session).or_default();
                progress.take(Chain::Session(session), number, place, entry)
            }
            Event::Node(event) => {
                let node = event.node.node;
                let drawn = matches!(event.change, super::NodeChange::Registered { .. });
                if drawn && !self.epochs.insert(event.node.epoch) {
                    return Err(Finding::Wrong { place, what: "its epoch was drawn before" });
                }
                let progress = self.nodes.entry(node).or_default();
                progress.take(Chain::Node(node), event.number, place, entry)
            }
            Event::Placement(event) => {
                let number = event.revision.get().into();
                self.placement.take(Chain::Placement, number, place, entry)
            }
            Event::Refusal(_) if entry.head.is_some() => {
                Err(Finding::Wrong { place, what: "a refusal belongs to no chain" })
            }
            Event::Refusal(_) => Ok(()),
        }
    }

    /// Whether everything that came has found its place.
    ///
    /// # Errors
    ///
    /// With the first event that is missing before another one.
    pub fn whole(&self) -> Result<(), Finding> {
        let sessions = self.sessions.iter().map(|(id, it)| it.missing(Chain::Session(*id)));
        let nodes = self.nodes.iter().map(|(node, it)| it.missing(Chain::Node(*node)));
        let placement = std::iter::once(self.placement.missing(Chain::Placement));
        let missing = sessions.chain(nodes).chain(placement).flatten();
        match missing.min_by_key(|(place, _)| *place) {
            Some((_, finding)) => Err(finding),
            None => Ok(()),
        }
    }

    /// Compares what the log leads to with all sessions that a store keeps.
    ///
    /// # Errors
    ///
    /// If one is not what the log leads to, or one that is not over is not there.
    pub fn sessions_after(
        &self,
        sessions: impl IntoIterator<Item = StoredSession>,
    ) -> Result<(), Finding> {
        let mut lives = self.lives();
        for stored in sessions {
            let id = stored.record.id();
            lives.remove(&id);
            let (chain, number) = (Chain::Session(id), stored.record.version().get());
            match self.sessions.get(&id) {
                Some(progress) => progress.leads_to(chain, number, stored.head)?,
                None => {
                    let number = StateVersion::BIRTH.get();
                    return Err(Finding::Missing { chain, number, place: None });
                }
            }
            if self.sessions[&id].state().record() != Some(&stored.record) {
                return Err(Finding::Stored(chain));
            }
        }
        lives.first().map_or(Ok(()), |id| Err(Finding::Stored(Chain::Session(*id))))
    }

    /// Compares what the log leads to with a node's fence row.
    ///
    /// # Errors
    ///
    /// If that is something else.
    pub fn node_after(&self, row: &FenceRow) -> Result<(), Finding> {
        let chain = Chain::Node(row.node);
        let none = Progress::default();
        let progress = self.nodes.get(&row.node).unwrap_or(&none);
        progress.leads_to(chain, row.changes, row.head)?;
        if progress.state().is(row) { Ok(()) } else { Err(Finding::Stored(chain)) }
    }

    /// Compares what the log leads to with the placement.
    ///
    /// # Errors
    ///
    /// If that is something else.
    pub fn placement_after(&self, row: &PlacementRow) -> Result<(), Finding> {
        self.placement.leads_to(Chain::Placement, row.revision.get().into(), row.head)?;
        let is_same = self.placement.state().is(row);
        if is_same { Ok(()) } else { Err(Finding::Stored(Chain::Placement)) }
    }

    /// How many rows have come.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    fn lives(&self) -> BTreeSet<SessionId> {
        let lives = |record: &crate::model::SessionRecord| !record.is_terminated();
        let sessions = self.sessions.iter();
        sessions
            .filter(|(_, it)| it.state().record().is_some_and(lives))
            .map(|(id, _)| *id)
            .collect()
    }
}
