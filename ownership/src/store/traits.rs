//! What the protocols use of a store: two small traits, and what both have. Every engine has them.

use super::{
    AuditKey, AuditRow, BaggageRow, DirectoryWrite, Engine, Fault, FenceRow, Generation,
    HeartbeatRow, InboxRow, Key, OffHomeKey, OffHomeRow, Outcome, PlacementRow, Position, Row,
    SessionWrite, Span, StoredSession, TransferRow, TransferWrite,
};
use crate::{Epoch, NodeIndex, SessionId, StateVersion};
use std::future::Future;

/// What every store has: fence rows and an audit log.
///
/// Every read is of a point no earlier than all that was answered before. `after` of a paged read is
/// the last key of the page before, and a page with fewer than `limit` rows is the last.
pub trait Store: Send + Sync {
    /// Writes all but sessions and transfers. A node's own store keeps the node's own fence row and what its
    /// sessions carry, and refusals are told and audit rows trimmed in any store.
    fn write(&self, write: DirectoryWrite) -> impl Future<Output = Outcome> + Send;

    /// Audit rows, in the order of their keys.
    fn audit(
        &self,
        after: Option<AuditKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<AuditRow>, Fault>> + Send;

    /// The generation of the store.
    fn generation(&self) -> impl Future<Output = Result<Option<Generation>, Fault>> + Send;

    /// A node's fence row.
    fn fence(
        &self,
        node: NodeIndex,
    ) -> impl Future<Output = Result<Option<FenceRow>, Fault>> + Send;

    /// The last epoch that was drawn.
    fn epochs(&self) -> impl Future<Output = Result<Option<Epoch>, Fault>> + Send;

    /// See [`Engine::seen`].
    fn seen(&self) -> Position;
}

/// Nodes, epochs, the placement, off-home rows, inboxes and transfers.
pub trait Directory: Store {
    /// All fence rows.
    fn fences(&self) -> impl Future<Output = Result<Vec<FenceRow>, Fault>> + Send;

    /// A node's heartbeat row.
    fn heartbeat(
        &self,
        node: NodeIndex,
    ) -> impl Future<Output = Result<Option<HeartbeatRow>, Fault>> + Send;

    /// All heartbeat rows.
    fn heartbeats(&self) -> impl Future<Output = Result<Vec<HeartbeatRow>, Fault>> + Send;

    /// The placement.
    fn placement(&self) -> impl Future<Output = Result<Option<PlacementRow>, Fault>> + Send;

    /// The off-home rows of the slots from `first` to `last`.
    fn off_home(
        &self,
        first: u16,
        last: u16,
        after: Option<OffHomeKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<OffHomeRow>, Fault>> + Send;

    /// What waits for a node.
    fn inbox(
        &self,
        node: NodeIndex,
        after: Option<SessionId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<InboxRow>, Fault>> + Send;

    /// One session that waits for a node. The origin asks to learn whether it has gone on.
    fn inbox_of(
        &self,
        node: NodeIndex,
        session: SessionId,
    ) -> impl Future<Output = Result<Option<InboxRow>, Fault>> + Send;

    /// *Sticky*: what was decided about a session that was frozen at this version.
    fn transfer(
        &self,
        session: SessionId,
        frozen: StateVersion,
    ) -> impl Future<Output = Result<Option<TransferRow>, Fault>> + Send;

    /// *Sticky*: decides transfers, each by itself, with one outcome each.
    fn decide(&self, batch: Vec<TransferWrite>) -> impl Future<Output = Vec<Outcome>> + Send;

    /// See [`Engine::changed`].
    fn changed(&self, since: u64) -> impl Future<Output = u64> + Send;
}

/// Sessions.
pub trait Sessions: Store {
    /// A session.
    fn get(
        &self,
        session: SessionId,
    ) -> impl Future<Output = Result<Option<StoredSession>, Fault>> + Send;

    /// Writes sessions, each by itself: one that is not done leaves the others as they are. One
    /// outcome for each, in the same order.
    fn commit(&self, batch: Vec<SessionWrite>) -> impl Future<Output = Vec<Outcome>> + Send;

    /// Sessions in the order of their ids, whoever owns them: what an owner finds itself by after a
    /// restart, and what reaping goes through.
    fn sessions(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<StoredSession>, Fault>> + Send;

    /// What a session carries besides its record.
    fn baggage(
        &self,
        session: SessionId,
    ) -> impl Future<Output = Result<Option<BaggageRow>, Fault>> + Send;

    /// What sessions carry besides their records, in the order of their ids.
    fn all_baggage(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<BaggageRow>, Fault>> + Send;
}

/// The rows of one kind, out of what an engine gave. Another kind under the key of this one has no
/// meaning.
macro_rules! only {
    ($rows:expr, $kind:ident) => {
        $rows
            .into_iter()
            .map(|row| match row {
                Row::$kind(row) => Ok(row),
                _ => Err(Fault::Corrupt),
            })
            .collect::<Result<_, Fault>>()
    };
}

/// All rows of one kind that stand under a key: none or one.
macro_rules! one {
    ($engine:expr, $key:expr, $kind:ident) => {{
        let row: Vec<_> = only!($engine.get($key).await?, $kind)?;
        Ok(row.into_iter().next())
    }};
}

/// How many rows are asked for at once where all are wanted.
const PAGE: usize = 1000;

async fn all<E: Engine>(engine: &E, span: Span) -> Result<Vec<Row>, Fault> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = engine.page(span, after, PAGE).await?;
        rows.extend(page.rows);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(rows),
        }
    }
}

async fn one_outcome<E: Engine>(engine: &E, write: DirectoryWrite) -> Outcome {
    let outcomes = engine.commit(vec![write.into()]).await;
    // An engine that gives no outcome is one that has not said what it did.
    outcomes.first().copied().unwrap_or(Outcome::Unknown)
}

impl<E: Engine> Store for E {
    async fn write(&self, write: DirectoryWrite) -> Outcome {
        one_outcome(self, write).await
    }

    async fn audit(&self, after: Option<AuditKey>, limit: usize) -> Result<Vec<AuditRow>, Fault> {
        only!(self.page(Span::Audit, after.map(Key::Audit), limit).await?.rows, Audit)
    }

    async fn generation(&self) -> Result<Option<Generation>, Fault> {
        one!(self, Key::Generation, Generation)
    }

    async fn fence(&self, node: NodeIndex) -> Result<Option<FenceRow>, Fault> {
        one!(self, Key::Fence(node), Fence)
    }

    async fn epochs(&self) -> Result<Option<Epoch>, Fault> {
        one!(self, Key::Epochs, Epochs)
    }

    fn seen(&self) -> Position {
        Engine::seen(self)
    }
}

impl<E: Engine> Directory for E {
    async fn fences(&self) -> Result<Vec<FenceRow>, Fault> {
        only!(all(self, Span::Fences).await?, Fence)
    }

    async fn heartbeat(&self, node: NodeIndex) -> Result<Option<HeartbeatRow>, Fault> {
        one!(self, Key::Heartbeat(node), Heartbeat)
    }

    async fn heartbeats(&self) -> Result<Vec<HeartbeatRow>, Fault> {
        only!(all(self, Span::Heartbeats).await?, Heartbeat)
    }

    async fn placement(&self) -> Result<Option<PlacementRow>, Fault> {
        one!(self, Key::Placement, Placement)
    }

    async fn off_home(
        &self,
        first: u16,
        last: u16,
        after: Option<OffHomeKey>,
        limit: usize,
    ) -> Result<Vec<OffHomeRow>, Fault> {
        let span = Span::OffHome(first, last);
        only!(self.page(span, after.map(Key::OffHome), limit).await?.rows, OffHome)
    }

    async fn inbox(
        &self,
        node: NodeIndex,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<InboxRow>, Fault> {
        let after = after.map(|session| Key::Inbox(node, session));
        only!(self.page(Span::Inbox(node), after, limit).await?.rows, Inbox)
    }

    async fn inbox_of(
        &self,
        node: NodeIndex,
        session: SessionId,
    ) -> Result<Option<InboxRow>, Fault> {
        one!(self, Key::Inbox(node, session), Inbox)
    }

    async fn transfer(
        &self,
        session: SessionId,
        frozen: StateVersion,
    ) -> Result<Option<TransferRow>, Fault> {
        one!(self, Key::Transfer(session, frozen), Transfer)
    }

    async fn decide(&self, batch: Vec<TransferWrite>) -> Vec<Outcome> {
        Engine::commit(self, batch.into_iter().map(Into::into).collect()).await
    }

    async fn changed(&self, since: u64) -> u64 {
        Engine::changed(self, since).await
    }
}

impl<E: Engine> Sessions for E {
    async fn get(&self, session: SessionId) -> Result<Option<StoredSession>, Fault> {
        let row: Vec<_> = only!(Engine::get(self, Key::Session(session)).await?, Session)?;
        Ok(row.into_iter().next())
    }

    async fn commit(&self, batch: Vec<SessionWrite>) -> Vec<Outcome> {
        Engine::commit(self, batch.into_iter().map(Into::into).collect()).await
    }

    async fn sessions(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<StoredSession>, Fault> {
        only!(self.page(Span::Sessions, after.map(Key::Session), limit).await?.rows, Session)
    }

    async fn baggage(&self, session: SessionId) -> Result<Option<BaggageRow>, Fault> {
        let row: Vec<_> = only!(Engine::get(self, Key::Baggage(session)).await?, Baggage)?;
        Ok(row.into_iter().next())
    }

    async fn all_baggage(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<BaggageRow>, Fault> {
        only!(self.page(Span::Baggage, after.map(Key::Baggage), limit).await?.rows, Baggage)
    }
}
