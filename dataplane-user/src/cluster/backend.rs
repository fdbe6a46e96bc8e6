//! The store that the configuration names.

use crate::{
    config::{self, EtcdStore},
    metrics::{Instruments, Operation},
};
use ownership::{
    NodeIndex,
    store::{
        Engine, Etcd, Fault, Key, Outcome, Page, Position, Redb, Row, Seen, Span, Transaction,
        Write, etcd, redb,
    },
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Instant,
};
use thiserror::Error;

/// A store of either kind, whose answers are timed.
pub struct Backend {
    store: Either,
    instruments: Instruments,
}

enum Either {
    /// In one file.
    Embedded(Redb),
    /// In an etcd cluster.
    Etcd(Etcd),
}

/// Why the store cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file's folder is not there.
    #[error("{} cannot be made for the store; set `path` in [store]", .0.display())]
    Folder(PathBuf, #[source] io::Error),
    /// The file cannot be used.
    #[error("the store in {} cannot be used", .0.display())]
    Embedded(PathBuf, #[source] redb::OpenError),
    /// A file that `[store]` names cannot be read.
    #[error("{}, which [store] names, cannot be read", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// The cluster cannot be used.
    #[error("the store in etcd cannot be used; see `members` in [store]")]
    Etcd(#[source] etcd::OpenError),
}

impl Backend {
    /// Opens the store of a node that has seen so much of it. One in a file is made if it is not there.
    pub async fn open(
        config: &config::Store,
        node: NodeIndex,
        seen: Seen,
    ) -> Result<Self, OpenError> {
        let store = match config {
            config::Store::Embedded { path } => return Self::in_file(path, node, seen),
            config::Store::Etcd(config) => {
                let config = etcd_config(config)?;
                let store = Etcd::open(&config, seen).await;
                store.map(Either::Etcd).map_err(OpenError::Etcd)?
            }
        };
        Ok(Self { store, instruments: Instruments::default() })
    }

    /// Whether it is an etcd cluster.
    pub fn is_etcd(&self) -> bool {
        matches!(self.store, Either::Etcd(_))
    }

    /// The same, which tells these instruments how long its answers take.
    pub fn timed_by(self, instruments: Instruments) -> Self {
        Self { instruments, ..self }
    }

    /// Opens the store in one file, which is made if it is not there.
    pub fn in_file(path: &Path, node: NodeIndex, seen: Seen) -> Result<Self, OpenError> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(|error| OpenError::Folder(folder.to_owned(), error))?;
        let store = Redb::open(path, &redb::Options::new(path, node), seen);
        let store = store.map_err(|error| OpenError::Embedded(path.to_owned(), error))?;
        Ok(Self { store: Either::Embedded(store), instruments: Instruments::default() })
    }
}

fn etcd_config(config: &EtcdStore) -> Result<etcd::EtcdConfig, OpenError> {
    let read =
        |path: &PathBuf| fs::read(path).map_err(|error| OpenError::File(path.clone(), error));
    let user = config.user.as_ref().map(|(name, file)| {
        let text = fs::read_to_string(file);
        let password = text.map_err(|error| OpenError::File(file.clone(), error))?;
        let password = password.trim_end_matches('\n').to_owned();
        Ok(etcd::User { name: name.clone(), password })
    });
    let tls = config.tls.as_ref().map(|tls| {
        let identity = tls.identity.as_ref();
        let identity = identity.map(|(certificate, key)| Ok((read(certificate)?, read(key)?)));
        Ok(etcd::Tls {
            authorities: read(&tls.authorities)?,
            identity: identity.transpose()?,
            name: tls.name.clone(),
        })
    });
    Ok(etcd::EtcdConfig {
        prefix: config.prefix.clone(),
        user: user.transpose()?,
        tls: tls.transpose()?,
        accepts_single_member: config.accepts_single_member,
        ..etcd::EtcdConfig::new(&config.members)
    })
}

/// Whichever it is.
macro_rules! either {
    ($backend:expr, $store:ident => $what:expr) => {
        match &$backend.store {
            Either::Embedded($store) => $what,
            Either::Etcd($store) => $what,
        }
    };
}

/// Whether a batch is signs of life, and nothing else.
fn beats(batch: &[Transaction]) -> bool {
    let mut writes = batch.iter().flat_map(Transaction::writes).peekable();
    writes.peek().is_some() && writes.all(|write| matches!(write, Write::Put(Row::Heartbeat(_))))
}

impl Engine for Backend {
    async fn get(&self, key: Key) -> Result<Option<Row>, Fault> {
        let began = Instant::now();
        let answer = either!(self, store => Engine::get(store, key).await);
        self.instruments.asked_store(Operation::Read, began.elapsed(), answer.is_err());
        answer
    }

    async fn page(&self, span: Span, after: Option<Key>, limit: usize) -> Result<Page, Fault> {
        let began = Instant::now();
        let answer = either!(self, store => Engine::page(store, span, after, limit).await);
        self.instruments.asked_store(Operation::Read, began.elapsed(), answer.is_err());
        answer
    }

    async fn commit(&self, batch: Vec<Transaction>) -> Vec<Outcome> {
        let operation = if beats(&batch) { Operation::Heartbeat } else { Operation::Commit };
        let began = Instant::now();
        let outcomes = either!(self, store => Engine::commit(store, batch).await);
        let failed =
            |outcome: &Outcome| matches!(outcome, Outcome::Unknown | Outcome::Unavailable(_));
        let is_failed = outcomes.iter().any(failed);
        self.instruments.asked_store(operation, began.elapsed(), is_failed);
        outcomes
    }

    fn seen(&self) -> Position {
        either!(self, store => Engine::seen(store))
    }

    async fn changed(&self, since: u64) -> u64 {
        either!(self, store => Engine::changed(store, since).await)
    }
}
