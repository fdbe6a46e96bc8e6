//! What a store keeps.

use super::{AuditKey, Generation, Key, OffHomeKey};
use crate::{
    Epoch, NodeIndex, Placement, Revision, SessionId, StateVersion,
    audit::{Entry, Head},
    baggage::Baggage,
    model::{OperationId, Owner, SessionRecord},
    placement::BadPlacement,
};
use std::{fmt, sync::Arc};

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Row {
    /// Under [`Key::Generation`].
    Generation(Generation),
    /// Under [`Key::Epochs`]: the last epoch that was drawn.
    Epochs(Epoch),
    /// Under [`Key::Fence`].
    Fence(FenceRow),
    /// Under [`Key::Heartbeat`].
    Heartbeat(HeartbeatRow),
    /// Under [`Key::Placement`].
    Placement(PlacementRow),
    /// Under [`Key::Session`].
    Session(StoredSession),
    /// Under [`Key::OffHome`].
    OffHome(OffHomeRow),
    /// Under [`Key::Inbox`].
    Inbox(InboxRow),
    /// Under [`Key::Transfer`].
    Transfer(TransferRow),
    /// Under [`Key::Audit`].
    Audit(AuditRow),
    /// Under [`Key::Baggage`].
    Baggage(BaggageRow),
}

impl Row {
    /// Where the row stands.
    pub fn key(&self) -> Key {
        match self {
            Self::Generation(_) => Key::Generation,
            Self::Epochs(_) => Key::Epochs,
            Self::Fence(row) => Key::Fence(row.node),
            Self::Heartbeat(row) => Key::Heartbeat(row.node),
            Self::Placement(_) => Key::Placement,
            Self::Session(row) => Key::Session(row.record.id()),
            Self::OffHome(row) => Key::OffHome(row.key.clone()),
            Self::Inbox(row) => {
                Key::Inbox(row.session.record.owner().node, row.session.record.id())
            }
            Self::Transfer(row) => Key::Transfer(row.session.record.id(), row.frozen),
            Self::Audit(row) => Key::Audit(row.key),
            Self::Baggage(row) => Key::Baggage(row.session),
        }
    }
}

/// Random bits that one incarnation of a node drew for itself: what tells two apart that believe to
/// have the same epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u128);

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incarnation({:x})", self.0)
    }
}

/// What a node claims to be when it writes, and what its fence row must bear out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The node in its epoch.
    pub owner: Owner,
    /// The incarnation that drew this epoch.
    pub incarnation: Incarnation,
}

/// Whether a node in its epoch may own sessions, and whether it takes more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Admission {
    /// It may, and takes sessions from others.
    Accepting,
    /// It may, and gives its own away.
    Draining,
    /// Its epoch is over: it may not.
    Fenced,
}

/// A node and its epoch. Its heartbeats stand elsewhere, so that they disturb no commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FenceRow {
    /// The node.
    pub node: NodeIndex,
    /// Its name: an index never changes its name.
    pub name: String,
    /// Its epoch, the only one in which it may act.
    pub epoch: Epoch,
    /// The incarnation that drew this epoch.
    pub incarnation: Incarnation,
    /// What it may do in it.
    pub admission: Admission,
    /// Counts the changes of this row.
    pub changes: u64,
    /// The head of the node's chain of events.
    pub head: Head,
    /// The attempt that wrote this row.
    pub operation: OperationId,
}

impl FenceRow {
    /// The node in its epoch.
    pub fn owner(&self) -> Owner {
        Owner { node: self.node, epoch: self.epoch }
    }

    /// What the node has to claim to be.
    pub fn identity(&self) -> Identity {
        Identity { owner: self.owner(), incarnation: self.incarnation }
    }

    /// The heartbeat that is written with the registration of an epoch, if this is its row.
    pub fn first_beat(&self) -> HeartbeatRow {
        let Self { node, epoch, operation, .. } = *self;
        HeartbeatRow { node, epoch, count: 0, applied: None, operation }
    }

    /// Whether whoever claims this may act.
    pub fn admits(&self, claimed: Identity) -> bool {
        self.identity() == claimed && self.admission != Admission::Fenced
    }

    /// Whether `owner` may act no longer: its node has a later epoch, or this one is over.
    ///
    /// That says what the store allows. What the node itself may still deliver is for its lease to
    /// say.
    pub fn has_revoked(&self, owner: Owner) -> bool {
        let over = self.admission == Admission::Fenced && self.epoch == owner.epoch;
        self.node == owner.node && (self.epoch > owner.epoch || over)
    }
}

/// A sign of life. Written by its node alone, and by compare-and-swap: a beat that is Lost means that
/// somebody else is this node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeartbeatRow {
    /// The node.
    pub node: NodeIndex,
    /// The epoch that lives.
    pub epoch: Epoch,
    /// Counts the beats of this epoch.
    pub count: u64,
    /// The placement that the node's kernel has applied.
    pub applied: Option<Revision>,
    /// The attempt that wrote this row.
    pub operation: OperationId,
}

/// The placement. Its bytes stay bytes until somebody asks for the slots.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlacementRow {
    /// Its revision.
    pub revision: Revision,
    /// The placement, as [`Placement::to_bytes`] has it.
    pub bytes: Arc<[u8]>,
    /// The head of the placement's chain of events.
    pub head: Head,
    /// The attempt that wrote this row.
    pub operation: OperationId,
}

impl PlacementRow {
    /// The placement itself.
    ///
    /// # Errors
    ///
    /// If the bytes are none.
    pub fn placement(&self) -> Result<Placement, BadPlacement> {
        Placement::from_bytes(&self.bytes)
    }
}

/// A session as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoredSession {
    /// The record.
    pub record: SessionRecord,
    /// The head of the session's chain of events.
    pub head: Head,
    /// The attempt that made this version.
    pub operation: OperationId,
}

/// An id whose packets the slot's owner sends elsewhere, for as long as the session lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OffHomeRow {
    /// The id and its slot.
    pub key: OffHomeKey,
    /// The session that it belongs to.
    pub session: SessionId,
    /// Who owns that.
    pub owner: Owner,
    /// The session's version when this was written.
    pub version: StateVersion,
}

/// A session that has been handed to a node and waits there to be resumed. When it is gone, the
/// origin knows that the destination has gone on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InboxRow {
    /// The session at the version of its hand-off; its owner is the destination.
    pub session: StoredSession,
    /// Who handed it off.
    pub from: Owner,
    /// What goes with it, [packed](Baggage::packed): the final context that the application at the origin
    /// gives the one at the destination, and the session's wire ids.
    pub context: Arc<[u8]>,
}

/// *Sticky* only: which of the two possible successors of a frozen session was decided, HANDOFF or
/// ABORT. Whoever creates the row has decided it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TransferRow {
    /// The version at which the session was frozen.
    pub frozen: StateVersion,
    /// The session at its next version.
    pub session: StoredSession,
}

/// The events of one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AuditRow {
    /// Its place.
    pub key: AuditKey,
    /// The events, in the order of the writes.
    pub entries: Vec<Entry>,
}

/// What a session carries besides its record, for as long as it lives: whatever ends the session deletes it in
/// the same transaction. It stands where the session is kept, and is written by its owner alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaggageRow {
    /// The session.
    pub session: SessionId,
    /// Counts the changes of this row.
    pub changes: u64,
    /// What it carries.
    pub baggage: Baggage,
}
