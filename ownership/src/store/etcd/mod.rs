//! A store on an etcd cluster, shared by all nodes: etcd 3.4 or newer.
//!
//! One etcd transaction compares what stands there, the fence row of whoever writes among it, and writes
//! all that belongs together: record, audit row, inbox and off-home rows. Transactions that are
//! committed together go in as few of etcd's as its limits allow, with one audit row for all; if one of
//! them is Lost, etcd's answer tells which, and the others go again without it. Nothing else is
//! sent twice, unless it provably was not taken: an etcd client that tries again by itself could do a
//! write twice. What is in doubt about one request is in doubt for all that went with it.
//!
//! # When etcd does not do as it should
//!
//! | what happens | what comes of a write | what comes of a read |
//! | --- | --- | --- |
//! | no member can be reached, or none knows a leader | Unavailable ([`Fault::Unreachable`]) | the same |
//! | a member stops, or its connection breaks, with a request under way | Unknown | another member is asked |
//! | no answer until [`EtcdConfig::deadline`] | Unknown if it was sent, else Unavailable ([`Fault::Overloaded`]) | [`Fault::Unreachable`] |
//! | too much waits in etcd or here | Unavailable ([`Fault::Overloaded`]) | the same |
//! | etcd has no space | Unavailable ([`Fault::Full`]); trimming still works | as ever |
//! | wrong password, or no permission | Unavailable ([`Fault::Denied`]) | the same |
//! | the store is older than what was seen | Unavailable ([`Fault::Older`]), from then on | the same |
//!
//! Every connection looks at the store's generation and revision first, and none is made anew behind
//! the back of that look: a cluster that was restored from a backup is found out before anything is
//! written to it.
//!
//! # Connections
//!
//! Bulk work has one connection, heartbeats one of their own, so that they don't wait behind it, and
//! watches a third. Each goes to one member and moves on to the next if that does not answer.
//!
//! A watch is a hint. It covers the directory and no session (see [`schema`](super::schema)); if it breaks, or what it
//! would tell is compacted away, everybody who waits is told to read again, and at least every ten
//! seconds anyway.

mod batch;
mod commit;
mod compaction;
mod config;
mod connection;
mod keys;
mod link;
mod standing;
mod trouble;
mod watch;

pub use config::{EtcdConfig, OpenError, Tls, User};

use super::{
    Engine, Fault, Generation, Key, Outcome, Page, Position, Row, Seen, Span, Transaction,
};
use etcd_client::{Compare, CompareOp, GetOptions, GetResponse, Txn, TxnOp};
use keys::Keys;
use link::{Link, Shared, generation};
use standing::Standing;
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};
use tokio::{
    sync::watch::Sender,
    task::JoinSet,
    time::{Instant, timeout},
};

/// How long somebody who waits for a change waits at most. Watches have lost events before.
const PATIENCE: Duration = Duration::from_secs(10);

/// A store on etcd. Must be opened and used within one tokio runtime.
pub struct Etcd {
    inner: Arc<Inner>,
    /// Watches and compaction; they end with the store.
    _tasks: JoinSet<()>,
}

struct Inner {
    shared: Arc<Shared>,
    bulk: Link,
    beats: Link,
    watches: Link,
    deadline: Duration,
    changed: Sender<u64>,
    /// The number of this writer in the log, and of its next audit row.
    stream: u64,
    number: AtomicU64,
}

impl Etcd {
    /// Opens a store by somebody who has seen so much of it, and begins the first generation if
    /// there is none.
    ///
    /// # Errors
    ///
    /// If the cluster does not answer, has one member only, or its store is older than what was seen.
    pub async fn open(config: &EtcdConfig, seen: Seen) -> Result<Self, OpenError> {
        let dialer = config.dialer()?;
        let keys = Keys::new(&config.prefix);
        let watched = keys.watched();
        let shared = Arc::new(Shared { dialer, keys, standing: Standing::new(seen) });
        let link = |keeps_alive| Link::new(Arc::clone(&shared), keeps_alive);
        let inner = Arc::new(Inner {
            bulk: link(false),
            beats: link(false),
            watches: link(true),
            deadline: config.deadline,
            changed: Sender::new(0),
            // Two that are opened never have the same.
            stream: rand::random_range(1..=u64::MAX),
            number: AtomicU64::new(1),
            shared,
        });
        inner.begin(config, seen).await?;
        let revision = inner.shared.standing.seen().revision;
        inner.changed.send_replace(revision);
        let from = i64::try_from(revision).unwrap_or(i64::MAX).saturating_add(1);
        let mut tasks = JoinSet::new();
        for range in watched {
            tasks.spawn(watch::run(Arc::clone(&inner), range, from));
        }
        if let Some(period) = config.compacts_every {
            tasks.spawn(compaction::run(Arc::clone(&inner), period));
        }
        Ok(Self { inner, _tasks: tasks })
    }
}

impl Inner {
    async fn begin(&self, config: &EtcdConfig, seen: Seen) -> Result<(), OpenError> {
        let Shared { keys, standing, .. } = &*self.shared;
        let until = Instant::now() + self.deadline;
        let voters = self.bulk.read(until, |connection| async move { connection.voters().await });
        let voters = voters.await.map_err(|fault| match standing.refused() {
            Some(older) => OpenError::Older(older),
            None => OpenError::Unavailable(fault),
        })?;
        if voters < 2 && !config.accepts_single_member {
            return Err(OpenError::SingleMember);
        }
        let key = keys.of(&Key::Generation);
        let first = Row::Generation(Generation(1)).to_bytes();
        let create = Txn::new()
            .when([Compare::create_revision(key.as_slice(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key.as_slice(), first, None)]);
        // Whoever has seen a generation is refused where there is none.
        if seen.position() == Position::START {
            let create = self.bulk.write(until, |connection| {
                let create = create.clone();
                async move { connection.kv().txn(create).await }
            });
            create.await.map_err(trouble::Trouble::of_read)?;
        }
        let answer = self.read(Key::Generation).await?;
        let generation = generation(&answer)?.ok_or(Fault::Older)?;
        standing.stands(seen.position(), generation, answer.header())?;
        Ok(())
    }

    /// Reads what stands under a key.
    async fn read(&self, key: Key) -> Result<GetResponse, Fault> {
        let link = if matches!(key, Key::Heartbeat(_)) { &self.beats } else { &self.bulk };
        self.range(link, self.shared.keys.of(&key), GetOptions::new()).await
    }

    async fn range(
        &self,
        link: &Link,
        key: Vec<u8>,
        options: GetOptions,
    ) -> Result<GetResponse, Fault> {
        let asked = self.shared.standing.asks()?;
        let read = link.read(Instant::now() + self.deadline, |connection| {
            let (key, options) = (key.clone(), options.clone());
            async move { connection.kv().get(key, Some(options)).await }
        });
        let answer = read.await?;
        self.shared.standing.answered(asked, answer.header()).map_err(|_| Fault::Older)?;
        Ok(answer)
    }

    async fn get(&self, key: Key) -> Result<Option<Row>, Fault> {
        let asked = self.shared.standing.asks()?;
        let answer = self.read(key.clone()).await?;
        let Some(found) = answer.kvs().first() else { return Ok(None) };
        let row = Row::from_bytes(&key, found.value()).map_err(|_| Fault::Corrupt)?;
        if let Row::Generation(generation) = row {
            let stands = self.shared.standing.stands(asked, generation, answer.header());
            stands.map_err(|_| Fault::Older)?;
        }
        Ok(Some(row))
    }

    async fn page(&self, span: Span, after: Option<Key>, limit: usize) -> Result<Page, Fault> {
        let (first, end) = self.shared.keys.span(span, after.as_ref());
        if first >= end {
            return Ok(Page::default());
        }
        let limit = limit.max(1);
        let options =
            GetOptions::new().with_range(end).with_limit(i64::try_from(limit).unwrap_or(i64::MAX));
        let mut answer = self.range(&self.bulk, first, options).await?;
        let read = |found: etcd_client::KeyValue| {
            let key = self.shared.keys.read(found.key())?;
            Row::from_bytes(&key, found.value())
        };
        let rows: Result<Vec<Row>, _> = answer.take_kvs().into_iter().map(read).collect();
        let rows = rows.map_err(|_| Fault::Corrupt)?;
        let next = rows.last().filter(|_| rows.len() == limit).map(Row::key);
        Ok(Page { rows, next })
    }
}

impl Engine for Etcd {
    async fn get(&self, key: Key) -> Result<Option<Row>, Fault> {
        self.inner.get(key).await
    }

    async fn page(&self, span: Span, after: Option<Key>, limit: usize) -> Result<Page, Fault> {
        self.inner.page(span, after, limit).await
    }

    async fn commit(&self, batch: Vec<Transaction>) -> Vec<Outcome> {
        self.inner.commit(batch).await
    }

    fn seen(&self) -> Position {
        self.inner.shared.standing.seen()
    }

    async fn changed(&self, since: u64) -> u64 {
        let mut changes = self.inner.changed.subscribe();
        let change = changes.wait_for(|revision| *revision > since);
        match timeout(PATIENCE, change).await {
            Ok(Ok(revision)) => *revision,
            // Or the sender is gone, which lives as long as `self`.
            Ok(Err(_)) | Err(_) => since,
        }
    }
}
