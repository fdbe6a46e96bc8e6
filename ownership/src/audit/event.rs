//! The events.

use super::Head;
use crate::{
    NodeIndex, Revision, SessionId, StateVersion,
    model::{OperationId, Owner, Reason, StateChange, Time},
    store::Incarnation,
};

/// Something to be told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// STATE_CHANGE: a session has a new version.
    StateChange(StateChange),
    /// A node came, drains, or is fenced off.
    Node(NodeEvent),
    /// The placement has a new revision.
    Placement(PlacementEvent),
    /// SECURITY_EVENT or POLICY_EVENT: something was refused. It has no version of its own.
    Refusal(Refusal),
}

/// A change of a node's fence row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeEvent {
    /// The node, in the epoch that it has from here on.
    pub node: Owner,
    /// That epoch's incarnation.
    pub incarnation: Incarnation,
    /// Counts the changes of the node's fence row, from 1 on.
    pub number: u64,
    /// What happened.
    pub change: NodeChange,
    /// Who did it.
    pub actor: Owner,
    /// When, by the actor's clock.
    pub now: Time,
    /// The attempt.
    pub operation: OperationId,
}

/// What can happen to a node's fence row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NodeChange {
    /// The node began a new epoch, and with it ended all of its earlier ones.
    Registered {
        /// Its name.
        name: String,
    },
    /// The node takes sessions from others again.
    Accepting,
    /// The node takes no more sessions from others, and gives its own away.
    Draining,
    /// The epoch was ended.
    Fenced,
}

/// A change of the placement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlacementEvent {
    /// The new revision.
    pub revision: Revision,
    /// SHA-256 of the placement's bytes.
    pub digest: [u8; 32],
    /// Who made it.
    pub actor: Owner,
    /// When, by the actor's clock.
    pub now: Time,
    /// The attempt.
    pub operation: OperationId,
}

/// Something that was asked and not done: SECURITY_EVENT or POLICY_EVENT, by the reason's class.
///
/// Names the version that stood, and makes none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The session that it was about, if one is known.
    pub session: Option<SessionId>,
    /// The version that the session had and still has.
    pub stood: Option<StateVersion>,
    /// How many alike this one stands for: at least 1.
    pub count: u32,
    /// Who refused.
    pub actor: NodeIndex,
    /// When, by the actor's clock.
    pub now: Time,
}

/// An event as it is kept: with the head of its chain after it, if it belongs to one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The event.
    pub event: Event,
    /// The head of its chain after it. Refusals belong to no chain.
    pub head: Option<Head>,
}

impl Entry {
    /// Adds an event to a chain.
    pub(crate) fn chained(before: Head, event: Event) -> (Head, Self) {
        let head = before.then(&event.to_bytes());
        (head, Self { event, head: Some(head) })
    }
}
