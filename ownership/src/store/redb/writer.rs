//! The one thread that writes: it gathers what waits and commits it together.

use super::{Shared, journal::Journal, tables::Writing};
use crate::{
    audit::Entry,
    store::{AuditKey, AuditRow, Fault, Outcome, Position, Row, Transaction, Write},
};
use redb::{Database, StorageError, WriteTransaction};
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};

/// The most transactions that are committed together, or a little more: a request is not split.
pub(super) const GROUP: usize = 1024;

/// How long a group waits for more, at most: little beside the two syncs of a commit.
const MOMENT: Duration = Duration::from_micros(200);

/// Transactions of one caller, and where their outcomes go.
pub(super) struct Request {
    pub(super) batch: Vec<Transaction>,
    pub(super) reply: oneshot::Sender<Vec<Outcome>>,
}

pub(super) struct Writer {
    pub(super) database: Arc<Database>,
    pub(super) shared: Arc<Shared>,
    pub(super) queue: mpsc::Receiver<Request>,
    pub(super) position: Position,
    /// What tells this store's audit rows from those of others.
    pub(super) numbered_by: u16,
    pub(super) journal: Journal,
    /// How many transactions were answered together last.
    pub(super) answered: usize,
}

/// Why a group was not committed.
enum Failed {
    /// Before the commit: nothing of it will ever be seen.
    Before(redb::Error),
    /// In the commit: it may be seen when the store is opened again.
    Within(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Before(error.into())
    }
}

impl Writer {
    pub(super) fn run(mut self) {
        // Should redb panic, nobody is told that all is well.
        let shared = Arc::clone(&self.shared);
        let _latch = LatchOnPanic(&shared);
        while let Some(first) = self.queue.blocking_recv() {
            let group = self.gather(first);
            self.commit(group);
        }
    }

    /// What waits, and what comes in a moment if less waits than was answered last: whoever was
    /// answered is likely to ask again, and a commit of few costs as much as one of many.
    fn gather(&mut self, first: Request) -> Vec<Request> {
        let mut size = first.batch.len();
        let mut group = vec![first];
        let begun = Instant::now();
        while size < GROUP {
            match self.queue.try_recv() {
                Ok(next) => {
                    size += next.batch.len();
                    group.push(next);
                }
                Err(_) if size < self.answered && begun.elapsed() < MOMENT => thread::yield_now(),
                Err(_) => break,
            }
        }
        self.answered = size;
        group
    }

    fn commit(&mut self, group: Vec<Request>) {
        let outcomes = if self.shared.is_latched() {
            all(&group, Outcome::Unavailable(Fault::Latched))
        } else {
            match self.try_commit(&group) {
                Ok(outcomes) => outcomes,
                Err(failed) => self.fail(&group, failed),
            }
        };
        for (request, outcomes) in group.into_iter().zip(outcomes) {
            // One that does not wait any more learns it from what stands.
            let _ = request.reply.send(outcomes);
        }
    }

    fn try_commit(&mut self, group: &[Request]) -> Result<Vec<Vec<Outcome>>, Failed> {
        let mut transaction = self.database.begin_write()?;
        // Only this survives a crash within a commit and another within the repair.
        transaction.set_two_phase_commit(true);
        transaction.set_quick_repair(true);
        let mut done = Done { position: self.position, entries: Vec::new(), directory: false };
        let outcomes = self.apply(&transaction, group, &mut done)?;
        if done.position == self.position {
            // Nothing was done, and a commit would cost a sync.
            transaction.abort()?;
            return Ok(outcomes);
        }
        transaction.commit().map_err(|error| Failed::Within(error.into()))?;
        self.position = done.position;
        self.shared.advance(self.position, done.directory);
        Ok(outcomes)
    }

    fn apply(
        &self,
        transaction: &WriteTransaction,
        group: &[Request],
        done: &mut Done,
    ) -> Result<Vec<Vec<Outcome>>, Failed> {
        let mut tables = Writing::of(transaction)?;
        let mut acting = None;
        let mut outcomes = Vec::with_capacity(group.len());
        for request in group {
            let one = |transaction| {
                let outcome = tables.apply(transaction, &mut acting)?;
                if outcome.is_won() {
                    done.count(transaction);
                }
                Ok(outcome)
            };
            outcomes.push(request.batch.iter().map(one).collect::<Result<_, StorageError>>()?);
        }
        if done.position > self.position {
            tables.set_revision(done.position.revision)?;
        }
        if !done.entries.is_empty() {
            let Position { generation, revision } = done.position;
            let stream = AuditKey::stream_of(generation, self.numbered_by);
            let key = AuditKey { stream, number: revision };
            let entries = std::mem::take(&mut done.entries);
            tables.put(&Row::Audit(AuditRow { key, entries }))?;
        }
        Ok(outcomes)
    }

    /// After an I/O error nothing is known of the file any more until it is opened again.
    fn fail(&mut self, group: &[Request], failed: Failed) -> Vec<Vec<Outcome>> {
        self.shared.latch();
        let (error, outcome) = match failed {
            Failed::Before(error) => (error, Outcome::Unavailable(Fault::Latched)),
            // What was Lost to another one of the group is so only if that one was done.
            Failed::Within(error) => (error, Outcome::Unknown),
        };
        let transactions = group.iter().flat_map(|request| &request.batch);
        self.journal.cut_short(&error, transactions);
        all(group, outcome)
    }
}

fn all(group: &[Request], outcome: Outcome) -> Vec<Vec<Outcome>> {
    group.iter().map(|request| vec![outcome; request.batch.len()]).collect()
}

/// What a group has done so far.
struct Done {
    position: Position,
    entries: Vec<Entry>,
    directory: bool,
}

impl Done {
    fn count(&mut self, transaction: &Transaction) {
        self.position.revision += 1;
        self.entries.extend_from_slice(transaction.entries());
        self.directory |= transaction.concerns_directory();
        for write in transaction.writes() {
            if let Write::Put(Row::Generation(generation)) = write {
                self.position.generation = *generation;
            }
        }
    }
}

struct LatchOnPanic<'a>(&'a Shared);

impl Drop for LatchOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.latch();
        }
    }
}
