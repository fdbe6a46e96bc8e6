//! What is written to the directory.

use super::{
    Admission, AuditKey, BaggageRow, Condition, FenceRow, Generation, HeartbeatRow, Identity,
    InboxRow, Incarnation, Key, OffHomeRow, PlacementRow, Row, StoredSession, Transaction,
    TransferRow, Write,
};
use crate::{
    Epoch, NodeIndex, Placement, Revision, SessionId,
    audit::{Entry, Event, Head, NodeChange, NodeEvent, PlacementEvent, Refusal},
    baggage::Baggage,
    model::{OperationId, Owner, Policy, Time},
};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Why there is no such write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadWrite {
    /// It is a birth, a hand-off or a change where another of the three is due.
    #[error("the commit is not of the kind that this write is for")]
    OtherKind,
    /// Somebody else decided it.
    #[error("the commit was decided by another node or epoch than is to write it")]
    OtherActor,
    /// It does not follow what is stored.
    #[error("the new version does not follow the stored one")]
    OtherVersion,
    /// It goes to another node or epoch.
    #[error("the commit hands the session to another node or epoch than was given")]
    OtherDestination,
    /// The node has another name.
    #[error("the node's index belongs to a node with another name")]
    OtherName,
    /// The node is fenced: it has to register anew.
    #[error("the node's epoch is over; it must register anew")]
    Fenced,
    /// The node is not fenced: it is not lost.
    #[error("the node is not fenced")]
    NotFenced,
    /// The session is not over, or a client may still hold it.
    #[error("the session is not over for as long as a client may hold it")]
    NotOver,
    /// No epoch is left.
    #[error("no epoch is left; the cluster must be set up anew")]
    EpochsExhausted,
}

/// One attempt to change the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// Who tries.
    pub by: Identity,
    /// When, by its clock.
    pub now: Time,
    /// The number of the attempt.
    pub operation: OperationId,
}

/// A write to the directory: all of what is compared and written is in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "nothing is written yet"]
pub struct DirectoryWrite(Transaction);

impl DirectoryWrite {
    /// Begins a new epoch of a node, the next of the one counter, and ends all of its earlier ones in
    /// the same step. Its heartbeats begin anew. Gives the fence row that then stands.
    ///
    /// # Errors
    ///
    /// If the index belongs to another name, or no epoch is left.
    pub fn register(
        node: NodeIndex,
        name: &str,
        before: Option<&FenceRow>,
        drawn: Option<Epoch>,
        incarnation: Incarnation,
        now: Time,
        operation: OperationId,
    ) -> Result<(Self, FenceRow), BadWrite> {
        if before.is_some_and(|before| before.node != node || before.name != name) {
            return Err(BadWrite::OtherName);
        }
        let epoch = drawn.map_or(Ok(Epoch::FIRST), Epoch::next);
        let epoch = epoch.map_err(|_| BadWrite::EpochsExhausted)?;
        let owner = Owner { node, epoch };
        let by = Identity { owner, incarnation };
        let fence = FenceRow {
            node,
            name: name.to_owned(),
            epoch,
            incarnation,
            admission: Admission::Accepting,
            changes: before.map_or(0, |before| before.changes),
            head: before.map_or(Head::START, |before| before.head),
            operation,
        };
        let change = NodeChange::Registered { name: name.to_owned() };
        let (fence, entry) = told(fence, change, Attempt { by, now, operation });
        let heartbeat = fence.first_beat();
        let transaction = Transaction {
            conditions: vec![
                replaces(Key::Epochs, drawn.map(Row::Epochs)),
                replaces(Key::Fence(node), before.cloned().map(Row::Fence)),
            ],
            writes: vec![
                Write::Put(Row::Epochs(epoch)),
                Write::Put(Row::Fence(fence.clone())),
                Write::Put(Row::Heartbeat(heartbeat)),
            ],
            entries: vec![entry],
        };
        Ok((Self(transaction), fence))
    }

    /// Lets a node take sessions from others, or take no more. Gives the fence row that then stands.
    ///
    /// # Errors
    ///
    /// If the node's epoch is over.
    pub fn admit(
        before: &FenceRow,
        accepts: bool,
        attempt: Attempt,
    ) -> Result<(Self, FenceRow), BadWrite> {
        if before.admission == Admission::Fenced {
            return Err(BadWrite::Fenced);
        }
        let (admission, change) = match accepts {
            true => (Admission::Accepting, NodeChange::Accepting),
            false => (Admission::Draining, NodeChange::Draining),
        };
        Ok(Self::fence_row(before, admission, change, attempt))
    }

    /// Ends a node's epoch. Gives the fence row that then stands.
    ///
    /// That revokes what the node may write, at once. What it may still deliver ends with its lease:
    /// only then is there a proof of the fence.
    pub fn fence(before: &FenceRow, attempt: Attempt) -> (Self, FenceRow) {
        Self::fence_row(before, Admission::Fenced, NodeChange::Fenced, attempt)
    }

    /// Ends the epoch of a node whose heartbeat has stood still for too long, unless it stirs at the last
    /// moment. Gives the fence row that then stands.
    pub fn fence_silent(
        before: &FenceRow,
        heartbeat: &HeartbeatRow,
        attempt: Attempt,
    ) -> (Self, FenceRow) {
        let (mut write, fence) = Self::fence(before, attempt);
        write.0.conditions.push(Condition::Is(Row::Heartbeat(heartbeat.clone())));
        (write, fence)
    }

    fn fence_row(
        before: &FenceRow,
        admission: Admission,
        change: NodeChange,
        attempt: Attempt,
    ) -> (Self, FenceRow) {
        let (fence, entry) = told(FenceRow { admission, ..before.clone() }, change, attempt);
        let transaction = Transaction {
            conditions: vec![
                Condition::Acting(attempt.by),
                Condition::Is(Row::Fence(before.clone())),
            ],
            writes: vec![Write::Put(Row::Fence(fence.clone()))],
            entries: vec![entry],
        };
        (Self(transaction), fence)
    }

    /// A sign of life, over the last one: if that is Lost, somebody else is this node. Gives the
    /// heartbeat row that then stands.
    pub fn beat(
        before: &HeartbeatRow,
        by: Identity,
        applied: Option<Revision>,
        operation: OperationId,
    ) -> (Self, HeartbeatRow) {
        let count = before.count.wrapping_add(1);
        let beat = HeartbeatRow { count, applied, operation, ..before.clone() };
        let transaction = Transaction {
            conditions: vec![Condition::Acting(by), Condition::Is(Row::Heartbeat(before.clone()))],
            writes: vec![Write::Put(Row::Heartbeat(beat.clone()))],
            entries: Vec::new(),
        };
        (Self(transaction), beat)
    }

    /// Puts a placement in the place of the one before it. Gives the placement row that then stands.
    ///
    /// # Errors
    ///
    /// If its revision is not the next one.
    pub fn place(
        before: Option<&PlacementRow>,
        next: &Placement,
        attempt: Attempt,
    ) -> Result<(Self, PlacementRow), BadWrite> {
        let revision = next.revision();
        let due = before.map_or(Some(Revision::FIRST), |before| before.revision.next().ok());
        if due != Some(revision) {
            return Err(BadWrite::OtherVersion);
        }
        let Attempt { by, now, operation } = attempt;
        let bytes = next.to_bytes();
        let digest = Sha256::digest(&bytes).into();
        let event = PlacementEvent { revision, digest, actor: by.owner, now, operation };
        let chain = before.map_or(Head::START, |before| before.head);
        let (head, entry) = Entry::chained(chain, Event::Placement(event));
        let row = PlacementRow { revision, bytes: bytes.into(), head, operation };
        let transaction = Transaction {
            conditions: vec![
                Condition::Acting(by),
                replaces(Key::Placement, before.cloned().map(Row::Placement)),
            ],
            writes: vec![Write::Put(Row::Placement(row.clone()))],
            entries: vec![entry],
        };
        Ok((Self(transaction), row))
    }

    /// Compares with it that this node is still fenced in the epoch of this row.
    ///
    /// # Errors
    ///
    /// If it is not, by this row.
    pub fn while_fenced(mut self, lost: &FenceRow) -> Result<Self, BadWrite> {
        if lost.admission != Admission::Fenced {
            return Err(BadWrite::NotFenced);
        }
        self.0.conditions.push(Condition::Is(Row::Fence(lost.clone())));
        Ok(self)
    }

    /// *Sticky*: copies the node's own fence row, once it stands in the directory, into the node's own
    /// store, in the place of the one before it. Its event was written with it.
    ///
    /// # Errors
    ///
    /// If `before` is another node's, or of a later epoch.
    pub fn copy_fence(before: Option<&FenceRow>, row: &FenceRow) -> Result<Self, BadWrite> {
        if before.is_some_and(|before| before.node != row.node || before.epoch > row.epoch) {
            return Err(BadWrite::OtherVersion);
        }
        let before = before.cloned().map(Row::Fence);
        Ok(Self::copy(before, Row::Fence(row.clone())))
    }

    /// *Sticky*: copies a placement that the node applies into the node's own store, in the place of the
    /// one before it: from here on sessions are born by it. Its event was written in the directory.
    ///
    /// # Errors
    ///
    /// If `before` is not older.
    pub fn copy_placement(
        before: Option<&PlacementRow>,
        row: &PlacementRow,
    ) -> Result<Self, BadWrite> {
        if before.is_some_and(|before| before.revision >= row.revision) {
            return Err(BadWrite::OtherVersion);
        }
        let before = before.cloned().map(Row::Placement);
        Ok(Self::copy(before, Row::Placement(row.clone())))
    }

    fn copy(before: Option<Row>, row: Row) -> Self {
        Self(Transaction {
            conditions: vec![replaces(row.key(), before)],
            writes: vec![Write::Put(row)],
            entries: Vec::new(),
        })
    }

    /// *Sticky*: forgets a decision that the origin has copied. No other one of the same frozen version may
    /// still arrive, since it would be done then: so none may have been in doubt, or the origin has begun a
    /// later epoch, in which it has decided nothing of this version.
    pub fn forget_transfer(row: &TransferRow, by: Identity) -> Self {
        Self::remove(Row::Transfer(row.clone()), by)
    }

    /// *Sticky*: takes a session out of the inbox, once the destination has copied it.
    pub fn take_from_inbox(row: &InboxRow, by: Identity) -> Self {
        Self::remove(Row::Inbox(row.clone()), by)
    }

    /// Sends an id that its client chose into a foreign slot on to its session's owner.
    pub fn off_home(row: OffHomeRow, by: Identity) -> Self {
        let row = Row::OffHome(row);
        Self(Transaction {
            conditions: vec![Condition::Acting(by), Condition::Absent(row.key())],
            writes: vec![Write::Put(row)],
            entries: Vec::new(),
        })
    }

    /// Forgets an off-home row.
    pub fn at_home(row: &OffHomeRow, by: Identity) -> Self {
        Self::remove(Row::OffHome(row.clone()), by)
    }

    fn remove(row: Row, by: Identity) -> Self {
        let key = row.key();
        Self(Transaction {
            conditions: vec![Condition::Acting(by), Condition::Is(row)],
            writes: vec![Write::Delete(key)],
            entries: Vec::new(),
        })
    }

    /// Forgets a session that is over, once no client can still hold it: until then its row is the tombstone
    /// by which what comes late is refused with the right reason. Its events stay in the log.
    ///
    /// To be done by its owner, or the owner of its slot once that one is lost, when nothing of it is in
    /// doubt any more.
    ///
    /// # Errors
    ///
    /// If it lives, or its time to live has not passed.
    pub fn forget_session(
        session: &StoredSession,
        by: Identity,
        policy: &Policy,
        now: Time,
    ) -> Result<Self, BadWrite> {
        let record = &session.record;
        if !record.is_terminated() || now < record.born().after(policy.session_ttl) {
            return Err(BadWrite::NotOver);
        }
        let mut write = Self::remove(Row::Session(*session), by);
        // Nothing is there but what was packed too late.
        write.0.writes.push(Write::Delete(Key::Baggage(record.id())));
        Ok(write)
    }

    /// Writes what a session carries besides its record, in the store where it is kept, in the place of what
    /// it carried before: `before` is the session's row. Gives the row that then stands.
    ///
    /// To be done by the session's owner while it lives, with a context that is within the store's
    /// [limit](crate::transfer::ContextLimit). Nothing is compared with the session itself, so that neither
    /// disturbs the other: one whose outcome is unknown must have been settled before the session is handed
    /// off. One that comes when the session is over leaves a row that goes when the session is
    /// [forgotten](Self::forget_session).
    pub fn pack(
        before: Option<&BaggageRow>,
        session: SessionId,
        baggage: Baggage,
        by: Identity,
    ) -> (Self, BaggageRow) {
        debug_assert!(
            before.is_none_or(|before| before.session == session),
            "another session's row"
        );
        let changes = before.map_or(0, |before| before.changes).wrapping_add(1);
        let row = BaggageRow { session, changes, baggage };
        let before = before.cloned().map(Row::Baggage);
        let transaction = Transaction {
            conditions: vec![Condition::Acting(by), replaces(Key::Baggage(session), before)],
            writes: vec![Write::Put(Row::Baggage(row.clone()))],
            entries: Vec::new(),
        };
        (Self(transaction), row)
    }

    /// Forgets what a session carried that is not kept here any more. Only for
    /// [`recover`](super::recover): whatever ends a session does it by itself.
    pub fn forget_baggage(row: &BaggageRow, by: Identity) -> Self {
        Self::remove(Row::Baggage(row.clone()), by)
    }

    /// Tells of refusals: SECURITY_EVENT and POLICY_EVENT. Changes nothing else.
    pub fn tell(refusals: impl IntoIterator<Item = Refusal>) -> Self {
        let entry = |refusal| Entry { event: Event::Refusal(refusal), head: None };
        let entries = refusals.into_iter().map(entry).collect();
        Self(Transaction { entries, ..Transaction::default() })
    }

    /// Trims audit rows that have been exported.
    pub fn trim(rows: impl IntoIterator<Item = AuditKey>) -> Self {
        let writes = rows.into_iter().map(|key| Write::Delete(Key::Audit(key))).collect();
        Self(Transaction { writes, ..Transaction::default() })
    }

    /// Begins another generation of a store, and draws so many epochs that nobody is to have: those that
    /// may have been drawn in what is lost. Only for [`recover`](super::recover).
    ///
    /// # Errors
    ///
    /// If the generation is no later one, or no epoch is left.
    pub fn begin_generation(
        before: Generation,
        next: Generation,
        drawn: Option<Epoch>,
        skipped: u32,
    ) -> Result<Self, BadWrite> {
        if next <= before {
            return Err(BadWrite::OtherVersion);
        }
        // A backup in which nobody is registered yet says nothing of who was later.
        let last = drawn.unwrap_or(Epoch::FIRST).skip(skipped);
        let last = last.map_err(|_| BadWrite::EpochsExhausted)?;
        Ok(Self(Transaction {
            conditions: vec![
                Condition::Is(Row::Generation(before)),
                replaces(Key::Epochs, drawn.map(Row::Epochs)),
            ],
            writes: vec![Write::Put(Row::Epochs(last)), Write::Put(Row::Generation(next))],
            entries: Vec::new(),
        }))
    }

    /// The transaction.
    pub fn transaction(&self) -> &Transaction {
        &self.0
    }
}

impl From<DirectoryWrite> for Transaction {
    fn from(write: DirectoryWrite) -> Self {
        write.0
    }
}

fn replaces(key: Key, before: Option<Row>) -> Condition {
    before.map_or(Condition::Absent(key), Condition::Is)
}

/// The entry that tells of a fence row's next change, and the row with that counted in.
fn told(row: FenceRow, change: NodeChange, attempt: Attempt) -> (FenceRow, Entry) {
    let Attempt { by, now, operation } = attempt;
    let event = NodeEvent {
        node: row.owner(),
        incarnation: row.incarnation,
        number: row.changes + 1,
        change,
        actor: by.owner,
        now,
        operation,
    };
    let changes = event.number;
    let (head, entry) = Entry::chained(row.head, Event::Node(event));
    (FenceRow { changes, head, operation, ..row }, entry)
}
