//! The stores of a node: the directory that all nodes share, and where sessions are kept.

use crate::{
    cluster::{Backend, OpenError},
    config::{self, Config, EtcdStore},
    metrics::Instruments,
};
use ownership::{
    store::{DirectoryWrite, Fault, Identity, Outcome, Position, Seen, Store},
    takeover::Strategy,
    transfer::ContextLimit,
};
use std::sync::Arc;

/// The stores of a node. In *shared* both are one.
#[derive(Clone)]
pub struct Stores {
    /// What all nodes share.
    pub directory: Arc<Backend>,
    /// Where this node's sessions are.
    pub sessions: Arc<Backend>,
    strategy: Strategy,
}

impl Stores {
    /// Those that the configuration names, by a node that has seen so much of the directory.
    ///
    /// # Errors
    ///
    /// If one of them cannot be used.
    pub async fn open(
        config: &Config,
        seen: Seen,
        instruments: &Instruments,
    ) -> Result<Self, OpenError> {
        let node = config.this_node().index;
        let directory = Backend::open(&config.store, node, seen).await?;
        let directory = Arc::new(directory.timed_by(instruments.clone()));
        Ok(match &config.store {
            config::Store::Etcd(EtcdStore { own_sessions: Some(path), .. }) => {
                let own = Backend::in_file(path, node, Seen::new(Position::START))?;
                Self::sticky(directory, Arc::new(own.timed_by(instruments.clone())))
            }
            config::Store::Embedded { .. } | config::Store::Etcd(_) => Self::shared(directory),
        })
    }

    /// One store for everything, which all nodes share.
    pub fn shared(store: Arc<Backend>) -> Self {
        let sessions = Arc::clone(&store);
        Self { directory: store, sessions, strategy: Strategy::Shared }
    }

    /// The sessions in a store of the node's own.
    pub fn sticky(directory: Arc<Backend>, sessions: Arc<Backend>) -> Self {
        Self { directory, sessions, strategy: Strategy::Sticky }
    }

    /// How long the context of a session's application may be: it goes through the directory.
    pub fn context_limit(&self) -> ContextLimit {
        if self.directory.is_etcd() { ContextLimit::ETCD } else { ContextLimit::LOCAL }
    }

    /// Where sessions are kept.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// *Sticky*: the node's own store takes writes of this epoch from here on, and of no other.
    pub async fn copy_fence(&self, by: Identity) -> Result<(), Fault> {
        if self.strategy == Strategy::Shared {
            return Ok(());
        }
        let node = by.owner.node;
        let Some(fence) = self.directory.fence(node).await? else { return Ok(()) };
        loop {
            let before = self.sessions.fence(node).await?;
            if before.as_ref() == Some(&fence) {
                return Ok(());
            }
            let Ok(copy) = DirectoryWrite::copy_fence(before.as_ref(), &fence) else {
                return Ok(());
            };
            if let Outcome::Unavailable(fault) = self.sessions.write(copy).await {
                return Err(fault);
            }
        }
    }
}
