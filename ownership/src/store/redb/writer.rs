//! The one thread that writes: it gathers what waits and commits it together.

use super::{Shared, journal::Journal, tables::Writing};
use crate::store::{AuditKey, AuditRow, Fault, Outcome, Position, Row, Transaction, Write};
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
            self.commit(Group::of(first));
        }
    }

    fn commit(&mut self, mut group: Group) {
        let outcomes = if self.shared.is_latched() {
            group.all(Outcome::Unavailable(Fault::Latched))
        } else {
            match self.try_commit(&mut group) {
                Ok(outcomes) => outcomes,
                Err(failed) => self.fail(&group, failed),
            }
        };
        self.answered = group.size;
        for (request, outcomes) in group.requests.into_iter().zip(outcomes) {
            // One that does not wait any more learns it from what stands.
            let _ = request.reply.send(outcomes);
        }
    }

    fn try_commit(&mut self, group: &mut Group) -> Result<Vec<Vec<Outcome>>, Failed> {
        let mut transaction = self.database.begin_write()?;
        // Only this survives a crash within a commit and another within the repair.
        transaction.set_two_phase_commit(true);
        transaction.set_quick_repair(true);
        let mut done = Done::since(self.position);
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

    /// Does what is in a group, and what comes meanwhile.
    fn apply(
        &mut self,
        transaction: &WriteTransaction,
        group: &mut Group,
        done: &mut Done,
    ) -> Result<Vec<Vec<Outcome>>, Failed> {
        let mut tables = Writing::of(transaction)?;
        let mut acting = None;
        let mut outcomes = Vec::with_capacity(self.answered);
        while let Some(request) = group.requests.get(outcomes.len()) {
            let one = |transaction| {
                let outcome = tables.apply(transaction, &mut acting)?;
                if outcome.is_won() {
                    done.count(transaction);
                }
                Ok(outcome)
            };
            outcomes.push(request.batch.iter().map(one).collect::<Result<_, StorageError>>()?);
            if let Some(next) = self.next(group) {
                group.take(next);
            }
        }
        if done.position > self.position {
            tables.set_revision(done.position.revision)?;
        }
        if !done.audit.is_empty() {
            let Position { generation, revision } = done.position;
            let stream = AuditKey::stream_of(generation, self.numbered_by);
            tables.put_audit(AuditKey { stream, number: revision }, &done.audit)?;
        }
        Ok(outcomes)
    }

    /// What waits, or comes in a moment if the group is smaller than the last one: whoever was answered
    /// is likely to ask again, and a commit of few costs as much as one of many.
    fn next(&mut self, group: &mut Group) -> Option<Request> {
        while group.size < GROUP {
            match self.queue.try_recv() {
                Ok(next) => return Some(next),
                Err(_) if group.size < self.answered && group.has_a_moment() => thread::yield_now(),
                Err(_) => break,
            }
        }
        None
    }

    /// After an I/O error nothing is known of the file any more until it is opened again.
    fn fail(&mut self, group: &Group, failed: Failed) -> Vec<Vec<Outcome>> {
        self.shared.latch();
        let (error, outcome) = match failed {
            Failed::Before(error) => (error, Outcome::Unavailable(Fault::Latched)),
            // What was Lost to another one of the group is so only if that one was done.
            Failed::Within(error) => (error, Outcome::Unknown),
        };
        let transactions = group.requests.iter().flat_map(|request| &request.batch);
        self.journal.cut_short(&error, transactions);
        group.all(outcome)
    }
}

/// What is committed together.
struct Group {
    requests: Vec<Request>,
    /// Transactions in them.
    size: usize,
    /// Since when nothing more has waited.
    idle: Option<Instant>,
}

impl Group {
    fn of(first: Request) -> Self {
        Self { size: first.batch.len(), requests: vec![first], idle: None }
    }

    fn take(&mut self, next: Request) {
        self.size += next.batch.len();
        self.requests.push(next);
    }

    /// Whether it may wait for more.
    fn has_a_moment(&mut self) -> bool {
        self.idle.get_or_insert_with(Instant::now).elapsed() < MOMENT
    }

    /// The same outcome for all.
    fn all(&self, outcome: Outcome) -> Vec<Vec<Outcome>> {
        self.requests.iter().map(|request| vec![outcome; request.batch.len()]).collect()
    }
}

/// What a group has done so far.
struct Done {
    position: Position,
    /// The bytes of the audit row.
    audit: Vec<u8>,
    directory: bool,
}

impl Done {
    fn since(position: Position) -> Self {
        Self { position, audit: Vec::new(), directory: false }
    }

    fn count(&mut self, transaction: &Transaction) {
        self.position.revision += 1;
        AuditRow::extend(&mut self.audit, transaction.entries());
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
