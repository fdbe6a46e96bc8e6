use super::{Fault, Key, Outcome, Position, Row, Span, Transaction};
use std::future::Future;

/// What a store does: reads, and transactions as [`super::Tables`] means them. Use it through
/// [`super::Directory`] and [`super::Sessions`].
///
/// Every answer is of a point no earlier than all that the store answered before it was asked
/// (linearizable), or there is none.
pub trait Engine: Send + Sync {
    /// The row that stands there.
    fn get(&self, key: Key) -> impl Future<Output = Result<Option<Row>, Fault>> + Send;

    /// The first rows of a span, or those behind a key; at most `limit` of them. Pages of one span may
    /// be of different points in time.
    fn page(
        &self,
        span: Span,
        after: Option<Key>,
        limit: usize,
    ) -> impl Future<Output = Result<Page, Fault>> + Send;

    /// Does each transaction, in this order, and each by itself: one that is not done leaves the
    /// others as they are. One outcome for each. Nothing is tried twice.
    fn commit(&self, batch: Vec<Transaction>) -> impl Future<Output = Vec<Outcome>> + Send;

    /// The latest point that was seen of this store; to be kept outside of it, and given when it is
    /// opened again.
    fn seen(&self) -> Position;

    /// Waits until the directory may have changed since revision `since`, and gives a revision to wait
    /// from next. A hint: it may come for nothing, and says nothing of what has changed. Sessions are
    /// watched by nobody.
    fn changed(&self, since: u64) -> impl Future<Output = u64> + Send;
}

/// Some rows of a span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The rows, in the order of their keys.
    pub rows: Vec<Row>,
    /// The last key, if there may be more rows behind it.
    pub next: Option<Key>,
}

impl Page {
    /// The first of these rows, up to a limit of at least 1.
    pub fn of<'a>(rows: impl Iterator<Item = &'a Row>, limit: usize) -> Self {
        let rows: Vec<Row> = rows.take(limit.max(1)).cloned().collect();
        let is_full = rows.len() == limit.max(1);
        let next = rows.last().filter(|_| is_full).map(Row::key);
        Self { rows, next }
    }
}
