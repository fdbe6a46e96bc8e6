//! A store in one file: durable, for one process.
//!
//! One thread writes. It takes what waits in a bounded queue, commits it together in two phases (which
//! alone survives a crash in a commit and another in the repair), with what a quick repair needs, and
//! then answers. Reads see what was committed last and wait for nobody; they may read the disk.
//!
//! The rows are in the form of [`schema`](super::schema), in three tables: sessions, audit rows and all
//! others, so that sessions lie close together. Transactions that are committed together share one audit
//! row, whose number is the store's revision.
//!
//! After any I/O error, and whenever redb finds its file corrupt, the store is shut: every answer is
//! [`Fault::Latched`] until it is opened again. What was in the commit that failed is Unknown, and told
//! of in a journal beside the file.

mod journal;
mod tables;
mod writer;

use super::{
    Engine, Fault, Generation, Key, OlderStore, Outcome, Page, Position, Row, Seen, Span,
    Transaction,
};
use crate::NodeIndex;
use ::redb::{Database, ReadableDatabase, StorageBackend};
use journal::Journal;
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
};
use tables::{Reading, RowError, Writing};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use writer::{GROUP, Request, Writer};

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory for pages of the file, in bytes.
    pub cache: usize,
    /// How many requests may wait; more are turned away with [`Fault::Overloaded`].
    pub queue: usize,
    /// The node whose store it is: in the keys of its audit rows, so that the logs of several nodes can
    /// be looked at together.
    pub node: NodeIndex,
    /// Where an I/O error is told of.
    pub journal: PathBuf,
}

impl Options {
    /// What suits most: 208 MiB of memory (243 bytes for each of a million sessions, with what the pages
    /// cost besides; what they [carry](super::BaggageRow) is not counted in), 4,096 requests, a journal beside
    /// the file.
    pub fn new(file: &Path, node: NodeIndex) -> Self {
        let journal = file.with_extension("journal");
        Self { cache: 208 << 20, queue: 4096, node, journal }
    }
}

/// Why a store cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The engine cannot open the file.
    #[error("opening the store: {0}; if another process has it open, stop that one")]
    Engine(#[source] Box<::redb::Error>),
    /// The file, or the journal, cannot be used.
    #[error("opening the store: {0}")]
    Io(#[from] io::Error),
    /// It is behind what was seen of it.
    #[error("opening the store: {0}")]
    Older(#[from] OlderStore),
    /// What it keeps of itself has no meaning, or is another program's.
    #[error("opening the store: {0}; it was written by another version, or damaged")]
    Corrupt(#[from] super::BadRow),
}

/// A store in one file. Dropping it waits until what waits is written.
#[derive(Debug)]
pub struct Redb {
    shared: Arc<Shared>,
    /// Both are there until the store is dropped.
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
    database: Arc<Database>,
}

/// What reads and the writer share.
#[derive(Debug)]
struct Shared {
    latched: AtomicBool,
    seen: Mutex<Position>,
    changed: watch::Sender<u64>,
}

impl Redb {
    /// Opens the store in a file, or makes it; by somebody who has seen so much of it. A store that is
    /// made has another name (`.new`) until it is whole.
    ///
    /// # Errors
    ///
    /// If it is older than that, or cannot be opened.
    pub fn open(path: &Path, options: &Options, seen: Seen) -> Result<Self, OpenError> {
        let is_there = path.metadata().is_ok_and(|file| file.len() > 0);
        if !is_there {
            path.try_exists()?;
            let stands = Position::START;
            if seen.position() > stands {
                return Err(OlderStore { stands, seen: seen.position() }.into());
            }
            make(path, options)?;
        }
        let database = builder(options).open(path).map_err(engine)?;
        Self::of(database, options, seen)
    }

    /// The same on a storage of the caller's: for tests of what happens when it fails.
    ///
    /// # Errors
    ///
    /// As [`Redb::open`].
    pub fn on_backend(
        backend: impl StorageBackend,
        options: &Options,
        seen: Seen,
    ) -> Result<Self, OpenError> {
        let database = builder(options).create_with_backend(backend).map_err(engine)?;
        Self::of(database, options, seen)
    }

    fn of(database: Database, options: &Options, mut seen: Seen) -> Result<Self, OpenError> {
        let journal = Journal::open(&options.journal, options.node)?;
        let position = match stands(&database)? {
            Some(position) => position,
            None => begin(&database)?,
        };
        seen.admit(position)?;
        let database = Arc::new(database);
        let shared = Arc::new(Shared {
            latched: AtomicBool::new(false),
            seen: Mutex::new(position),
            changed: watch::Sender::new(position.revision),
        });
        let (requests, queue) = mpsc::channel(options.queue.max(1));
        let writer = Writer {
            database: Arc::clone(&database),
            shared: Arc::clone(&shared),
            queue,
            position,
            numbered_by: options.node.get(),
            journal,
            answered: 0,
        };
        let writer = Builder::new().name("store".into()).spawn(move || writer.run())?;
        Ok(Self { shared, requests: Some(requests), writer: Some(writer), database })
    }

    fn read<T>(&self, read: impl FnOnce(&Reading) -> Result<T, RowError>) -> Result<T, Fault> {
        if self.shared.is_latched() {
            return Err(Fault::Latched);
        }
        let transaction = self.database.begin_read().map_err(|error| self.broken(error))?;
        let tables = Reading::of(&transaction).map_err(|error| self.broken(error))?;
        read(&tables).map_err(|error| match error {
            RowError::Corrupt(error) => {
                tracing::error!(%error, "a row of the store is corrupt");
                Fault::Corrupt
            }
            RowError::Engine(error) => self.broken(error),
        })
    }

    fn broken(&self, error: impl Into<::redb::Error>) -> Fault {
        let error = error.into();
        tracing::error!(%error, "the store was shut after an error of its engine");
        self.shared.latch();
        Fault::Latched
    }
}

impl Shared {
    fn is_latched(&self) -> bool {
        self.latched.load(Ordering::Acquire)
    }

    fn latch(&self) {
        self.latched.store(true, Ordering::Release);
    }

    fn advance(&self, position: Position, directory: bool) {
        *self.seen() = position;
        if directory {
            self.changed.send_replace(position.revision);
        }
    }

    fn seen(&self) -> MutexGuard<'_, Position> {
        // Nobody panics while it is held.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for Redb {
    async fn get(&self, key: Key) -> Result<Option<Row>, Fault> {
        self.read(|tables| tables.get(&key))
    }

    async fn page(&self, span: Span, after: Option<Key>, limit: usize) -> Result<Page, Fault> {
        self.read(|tables| tables.page(span, after.as_ref(), limit))
    }

    async fn commit(&self, batch: Vec<Transaction>) -> Vec<Outcome> {
        let Some(requests) = &self.requests else { return refused(batch.len(), Fault::Latched) };
        let mut waiting = Vec::with_capacity(batch.len().div_ceil(GROUP));
        let mut batch = batch.into_iter();
        loop {
            let part: Vec<_> = batch.by_ref().take(GROUP).collect();
            if part.is_empty() {
                break;
            }
            let (size, (reply, answer)) = (part.len(), oneshot::channel());
            let sent = requests.try_send(Request { batch: part, reply });
            waiting.push((size, sent.map(|()| answer)));
        }
        let mut outcomes = Vec::new();
        for (size, answer) in waiting {
            outcomes.extend(match answer {
                Ok(answer) => answer.await.unwrap_or_else(|_| vec![Outcome::Unknown; size]),
                Err(mpsc::error::TrySendError::Full(_)) => refused(size, Fault::Overloaded),
                Err(mpsc::error::TrySendError::Closed(_)) => refused(size, Fault::Latched),
            });
        }
        outcomes
    }

    fn seen(&self) -> Position {
        *self.shared.seen()
    }

    async fn changed(&self, since: u64) -> u64 {
        let mut changes = self.shared.changed.subscribe();
        match changes.wait_for(|revision| *revision > since).await {
            Ok(revision) => *revision,
            // The sender lives as long as `self`.
            Err(_) => since,
        }
    }
}

impl Drop for Redb {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(writer) = self.writer.take() {
            // If it has panicked, that was told already.
            let _ = writer.join();
        }
    }
}

fn refused(size: usize, fault: Fault) -> Vec<Outcome> {
    vec![Outcome::Unavailable(fault); size]
}

/// Makes a store under another name first: redb does not open a file that it was making in a crash.
fn make(path: &Path, options: &Options) -> Result<(), OpenError> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let database = builder(options).create(&new).map_err(engine)?;
    begin(&database)?;
    database.close().map_err(engine)?;
    fs::rename(&new, path)?;
    // The name must last as long as what is under it.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(())
}

fn builder(options: &Options) -> ::redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache);
    builder
}

fn engine(error: impl Into<::redb::Error>) -> OpenError {
    OpenError::Engine(Box::new(error.into()))
}

/// Where a store stands, if it has ever been begun.
fn stands(database: &Database) -> Result<Option<Position>, OpenError> {
    let transaction = database.begin_read().map_err(engine)?;
    let tables = match Reading::of(&transaction) {
        Ok(tables) => tables,
        Err(::redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(engine(error)),
    };
    let row = |error| match error {
        RowError::Engine(error) => engine(error),
        RowError::Corrupt(error) => OpenError::Corrupt(error),
    };
    let (generation, revision) = (tables.get(&Key::Generation), tables.revision());
    match (generation.map_err(row)?, revision.map_err(row)?) {
        (Some(Row::Generation(generation)), Some(revision)) => {
            Ok(Some(Position { generation, revision }))
        }
        _ => Err(OpenError::Corrupt(super::BadRow::POSITION)),
    }
}

/// Begins a store's first generation.
fn begin(database: &Database) -> Result<Position, OpenError> {
    let position = Position { generation: Generation(1), revision: 0 };
    let mut transaction = database.begin_write().map_err(engine)?;
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    {
        let mut tables = Writing::of(&transaction).map_err(engine)?;
        tables.put(&Row::Generation(position.generation)).map_err(engine)?;
        tables.set_revision(position.revision).map_err(engine)?;
    }
    transaction.commit().map_err(engine)?;
    Ok(position)
}
