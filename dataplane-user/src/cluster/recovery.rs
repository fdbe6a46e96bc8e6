//! A store that was restored from a backup is made one that nodes take again.

use super::{Backend, Beacon, BeginError, Lease, OpenError, now, operation, times, utc};
use crate::{
    config::{Config, EtcdStore, Store as StoreConfig},
    node::{StateError, StateFolder},
};
use ownership::{
    Revision,
    lease::BootTime,
    model::{Context, Policy},
    store::{
        Generation, Position, Seen, Store,
        recover::{Ended, RecoverError, begin, end_older, pass_revision},
    },
};
use std::{sync::Arc, time::Duration};
use thiserror::Error;

/// What a recovery did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The store's generation.
    pub generation: Generation,
    /// What has ended.
    pub ended: Ended,
    /// The placement's revision, if there is one.
    pub placement: Option<Revision>,
}

/// Why a store is not recovered. Run it again once the cause is mended.
#[derive(Debug, Error)]
pub enum NotRecovered {
    /// About the node's state; its daemon may be running.
    #[error(transparent)]
    State(#[from] StateError),
    /// About the store.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It has failed halfway.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// About this node's epoch.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// Sessions are elsewhere.
    #[error(
        "each node keeps its own sessions, and what of their moves is lost with the store nobody can say: stop all \
         nodes, remove their files of sessions (<state.path>/<node>.sessions), and begin with an empty store"
    )]
    OwnSessions,
}

/// Recovers the store of a configuration, by way of its node, whose daemon must not run; nor may any other node's.
/// `applied` is the highest revision of the placement that any node has applied. Tells `wait` how long it waits
/// for leases of before to be over.
///
/// # Errors
///
/// If it fails. Nothing that was there is lost by running it again.
pub async fn recover(
    config: &Config,
    applied: Option<Revision>,
    wait: impl FnOnce(Duration),
) -> Result<Recovered, NotRecovered> {
    if let StoreConfig::Etcd(EtcdStore { own_sessions: Some(_), .. }) = &config.store {
        return Err(NotRecovered::OwnSessions);
    }
    let state = StateFolder::open(&config.state.path, &config.node)?;
    let seen = state.seen()?.position();
    let this = config.this_node();
    let open = Backend::open(&config.store, this.index, Seen::new(Position::START)).await?;
    let backend = Arc::new(open);
    let generation = begin(&*backend, seen).await?;
    let times = times(&config.fence);
    let until: BootTime = now().after(times.wait());
    wait(times.wait());
    tokio::time::sleep(until.since(now())).await;
    let beacon = Arc::new(Beacon::new(times));
    let lease = Lease::register(Arc::clone(&backend), this.index, &this.name, beacon).await?;
    let by = lease.identity();
    let policy = Policy::default();
    let context = || Context { now: utc(), actor: by.owner, policy, operation: operation() };
    let ended = end_older(&*backend, by, context).await?;
    let applied = applied.unwrap_or(Revision::FIRST);
    let placement = pass_revision(&*backend, by, applied, context).await?;
    state.end_incarnation()?;
    state.keep_seen(Store::seen(&*backend))?;
    Ok(Recovered { generation, ended, placement })
}
