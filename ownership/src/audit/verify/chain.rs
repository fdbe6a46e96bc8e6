//! One chain of events, followed.

use super::{Chain, Finding, Place};
use crate::{
    audit::{Entry, Event, Head, NodeChange},
    model::{ChangeCause, Decision, SessionRecord, birth, decide},
    store::{Admission, FenceRow, PlacementRow, StoredSession},
};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What a chain's events lead to.
pub(super) trait Follow: Default {
    /// The number of the chain's first event.
    const FIRST: u64;

    /// The state after one more event, or what is wrong with it.
    fn then(&mut self, event: &Event) -> Result<(), &'static str>;
}

/// How far a chain has been followed.
#[derive(Debug)]
pub(super) struct Progress<S> {
    state: S,
    head: Head,
    /// The number of the next event, unless there can be none.
    due: Option<u64>,
    /// Events that came before their turn.
    early: BTreeMap<u64, (Place, Entry)>,
}

impl<S: Follow> Default for Progress<S> {
    fn default() -> Self {
        Self::new(S::default(), Head::START, Some(S::FIRST))
    }
}

impl<S> Progress<S> {
    fn new(state: S, head: Head, due: Option<u64>) -> Self {
        Self { state, head, due, early: BTreeMap::new() }
    }
}

impl<S: Follow> Progress<S> {
    pub(super) fn state(&self) -> &S {
        &self.state
    }

    /// Takes an event of the chain, at its turn or before it.
    pub(super) fn take(
        &mut self,
        chain: Chain,
        number: u64,
        place: Place,
        entry: &Entry,
    ) -> Result<(), Finding> {
        let is_past = self.due.is_none_or(|due| number < due);
        if is_past || self.early.contains_key(&number) {
            return Err(Finding::Double { place, chain, number });
        }
        self.early.insert(number, (place, entry.clone()));
        while let Some(due) = self.due
            && let Some((place, entry)) = self.early.remove(&due)
        {
            self.follow(place, &entry)?;
            self.due = due.checked_add(1);
        }
        Ok(())
    }

    fn follow(&mut self, place: Place, entry: &Entry) -> Result<(), Finding> {
        let head = self.head.then(&entry.event.to_bytes());
        if entry.head != Some(head) {
            return Err(Finding::Changed(place));
        }
        self.state.then(&entry.event).map_err(|what| Finding::Wrong { place, what })?;
        self.head = head;
        Ok(())
    }

    /// What is missing before the first event that came too early.
    pub(super) fn missing(&self, chain: Chain) -> Option<(Place, Finding)> {
        let (_, (place, _)) = self.early.first_key_value()?;
        let number = self.due?;
        Some((*place, Finding::Missing { chain, number, place: Some(*place) }))
    }

    /// Whether the chain ends with this event.
    pub(super) fn leads_to(&self, chain: Chain, number: u64, head: Head) -> Result<(), Finding> {
        match self.due {
            Some(due) if due <= number => Err(Finding::Missing { chain, number: due, place: None }),
            due if due == number.checked_add(1) && self.head == head => Ok(()),
            _ => Err(Finding::Stored(chain)),
        }
    }
}

/// A session, at the version that was told of last.
#[derive(Debug, Default)]
pub(super) struct SessionState(Option<SessionRecord>);

impl SessionState {
    pub(super) fn record(&self) -> Option<&SessionRecord> {
        self.0.as_ref()
    }
}

impl Progress<SessionState> {
    pub(super) fn of_session(session: &StoredSession) -> Self {
        let due = session.record.version().get().checked_add(1);
        Self::new(SessionState(Some(session.record)), session.head, due)
    }
}

impl Follow for SessionState {
    const FIRST: u64 = 0;

    fn then(&mut self, event: &Event) -> Result<(), &'static str> {
        let Event::StateChange(change) = event else { return Err("it is about something else") };
        let commit = match (&self.0, change.cause()) {
            (None, ChangeCause::Birth { service }) => {
                birth(change.session(), service, change.context())
            }
            (Some(record), ChangeCause::Input(input)) => {
                match decide(record, &input, change.context()) {
                    Decision::Commit(commit) => commit,
                    Decision::Reject(_) => return Err("what it tells of must have been refused"),
                }
            }
            (None, ChangeCause::Input(_)) => return Err("the session was not born"),
            (Some(_), ChangeCause::Birth { .. }) => return Err("the session was born before"),
        };
        if commit.event() != change {
            return Err("what it tells of leads to another version");
        }
        self.0 = Some(*commit.record());
        Ok(())
    }
}

/// A node, after what was told of it last: its fence row, whose links and counts are checked apart.
#[derive(Debug, Default)]
pub(super) struct NodeState(Option<FenceRow>);

impl NodeState {
    pub(super) fn is(&self, row: &FenceRow) -> bool {
        let same = |last: &FenceRow| {
            (last.identity(), &last.name, last.admission, last.operation)
                == (row.identity(), &row.name, row.admission, row.operation)
        };
        self.0.as_ref().is_some_and(same)
    }
}

impl Progress<NodeState> {
    pub(super) fn of_node(row: &FenceRow) -> Self {
        Self::new(NodeState(Some(row.clone())), row.head, row.changes.checked_add(1))
    }
}

impl Follow for NodeState {
    const FIRST: u64 = 1;

    fn then(&mut self, event: &Event) -> Result<(), &'static str> {
        let Event::Node(event) = event else { return Err("it is about something else") };
        let (node, epoch) = (event.node.node, event.node.epoch);
        let next = match (&event.change, &self.0) {
            (NodeChange::Registered { name }, last) => {
                if last.as_ref().is_some_and(|last| last.epoch >= epoch) {
                    return Err("its epoch is not later than the node's last one");
                }
                if last.as_ref().is_some_and(|last| last.name != *name) {
                    return Err("the node has another name");
                }
                (name.clone(), Admission::Accepting)
            }
            (_, None) => return Err("the node has not registered"),
            (change, Some(last)) => {
                if (last.epoch, last.incarnation) != (epoch, event.incarnation) {
                    return Err("the node is in another epoch or incarnation");
                }
                let admission = match change {
                    NodeChange::Fenced => Admission::Fenced,
                    _ if last.admission == Admission::Fenced => return Err("the node was fenced"),
                    NodeChange::Accepting => Admission::Accepting,
                    NodeChange::Draining | NodeChange::Registered { .. } => Admission::Draining,
                };
                (last.name.clone(), admission)
            }
        };
        let (name, admission) = next;
        self.0 = Some(FenceRow {
            node,
            name,
            epoch,
            incarnation: event.incarnation,
            admission,
            changes: event.number,
            head: Head::START,
            operation: event.operation,
        });
        Ok(())
    }
}

/// The placement's last digest.
#[derive(Debug, Default)]
pub(super) struct PlacementState(Option<[u8; 32]>);

impl PlacementState {
    pub(super) fn is(&self, row: &PlacementRow) -> bool {
        self.0 == Some(Sha256::digest(&row.bytes).into())
    }
}

impl Progress<PlacementState> {
    pub(super) fn of_placement(row: &PlacementRow) -> Self {
        let digest = Sha256::digest(&row.bytes).into();
        Self::new(
            PlacementState(Some(digest)),
            row.head,
            u64::from(row.revision.get()).checked_add(1),
        )
    }
}

impl Follow for PlacementState {
    const FIRST: u64 = 1;

    fn then(&mut self, event: &Event) -> Result<(), &'static str> {
        let Event::Placement(event) = event else { return Err("it is about something else") };
        self.0 = Some(event.digest);
        Ok(())
    }
}
