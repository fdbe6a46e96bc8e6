use super::{
    Delivery, Engine, Fault, Key, Limbo, OlderStore, Outcome, Page, Position, Row, Seen, Span,
    Tables, Transaction,
};
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// A store in memory: [`Tables`] behind a lock, for one process. Nothing outlives it.
#[derive(Debug)]
pub struct Memory {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    limbo: Limbo,
    seen: Seen,
    deliveries: VecDeque<Delivery>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::of(Tables::default(), Seen::new(Position::START))
    }
}

impl Memory {
    /// A store of these tables, opened by somebody who has seen so much of it.
    ///
    /// # Errors
    ///
    /// If it is older than that.
    pub fn open(tables: Tables, mut seen: Seen) -> Result<Self, OlderStore> {
        seen.admit(tables.position())?;
        Ok(Self::of(tables, seen))
    }

    fn of(tables: Tables, seen: Seen) -> Self {
        let changed = watch::Sender::new(tables.position().revision);
        let limbo = Limbo::new(tables);
        Self { inner: Mutex::new(Inner { limbo, seen, deliveries: VecDeque::new() }), changed }
    }

    /// The tables as they are.
    pub fn tables(&self) -> Tables {
        self.inner().limbo.tables().clone()
    }

    /// Says what becomes of the next transactions; of those after them, [`Delivery::Whole`].
    pub fn deliver(&self, deliveries: impl IntoIterator<Item = Delivery>) {
        self.inner().deliveries.extend(deliveries);
    }

    /// Lets what has not arrived yet arrive, the oldest first; gives what nobody learns.
    pub fn arrive(&self) -> Option<Outcome> {
        let mut inner = self.inner();
        let outcome = inner.limbo.arrive(0);
        self.changed.send_replace(inner.limbo.tables().position().revision);
        outcome
    }

    /// Puts other tables in the place of these, as somebody does who restores a backup.
    pub fn restore(&self, tables: Tables) {
        self.inner().limbo = Limbo::new(tables);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics between two halves of a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The tables, unless they are older than what was seen of them.
    fn tables(&mut self) -> Result<&Tables, Fault> {
        let tables = self.limbo.tables();
        self.seen.admit(tables.position()).map_err(|OlderStore { .. }| Fault::Older)?;
        Ok(tables)
    }

    fn commit(&mut self, transaction: &Transaction) -> Outcome {
        if let Err(fault) = self.tables() {
            return Outcome::Unavailable(fault);
        }
        let delivery = self.deliveries.pop_front().unwrap_or(Delivery::Whole);
        let outcome = self.limbo.send(transaction, delivery);
        if outcome.is_won() {
            self.seen = Seen::new(self.limbo.tables().position());
        }
        outcome
    }
}

impl Engine for Memory {
    async fn get(&self, key: Key) -> Result<Option<Row>, Fault> {
        Ok(self.inner().tables()?.get(&key).cloned())
    }

    async fn page(&self, span: Span, after: Option<Key>, limit: usize) -> Result<Page, Fault> {
        Ok(self.inner().tables()?.page(span, after.as_ref(), limit))
    }

    async fn commit(&self, batch: Vec<Transaction>) -> Vec<Outcome> {
        let mut inner = self.inner();
        let outcomes = batch.iter().map(|transaction| inner.commit(transaction)).collect();
        if batch.iter().any(Transaction::concerns_directory) {
            self.changed.send_replace(inner.limbo.tables().position().revision);
        }
        outcomes
    }

    fn seen(&self) -> Position {
        self.inner().seen.position()
    }

    async fn changed(&self, since: u64) -> u64 {
        let mut changes = self.changed.subscribe();
        match changes.wait_for(|revision| *revision > since).await {
            Ok(revision) => *revision,
            // The sender lives as long as `self`.
            Err(_) => since,
        }
    }
}
