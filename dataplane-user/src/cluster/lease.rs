//! The node's lease: begun when the daemon starts, kept as long as it runs.

use super::{AGAIN, Backend, Beacon, now};
use crate::{
    metrics::Pulse,
    node::{Node, StateFolder, lock},
    takeover::Pinned,
};
use ownership::{
    Epoch, NodeIndex,
    lease::{BootTime, Holder, Next, NotResumable, Over, Registered, Registration, Resuming},
    model::{OperationId, Time},
    store::{self, BadWrite, Directory, Fault, Outcome, Position, Store},
};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};
use thiserror::Error;
use tokio::{sync::watch, task::JoinHandle};

/// For how long the store may not answer a daemon that starts.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the node cannot begin.
#[derive(Debug, Error)]
pub enum BeginError {
    /// The store does not answer.
    #[error("the node cannot begin in an epoch")]
    Unavailable(#[source] Fault),
    /// The store does not take this node.
    #[error("the node cannot be registered")]
    Registration(#[source] BadWrite),
    /// The epoch ended while it was being resumed.
    #[error("the node's epoch has ended; start again")]
    Over(#[source] Over),
}

/// A node's lease, which nobody renews yet.
pub struct Lease {
    backend: Arc<Backend>,
    holder: Holder,
    beacon: Arc<Beacon>,
}

impl Lease {
    /// Begins a new epoch, which ends all earlier ones of the node. The lease is open.
    ///
    /// # Errors
    ///
    /// If the store does not answer for a while, or the node's index belongs to another name.
    pub async fn register(
        backend: Arc<Backend>,
        node: NodeIndex,
        name: &str,
        beacon: Arc<Beacon>,
    ) -> Result<Self, BeginError> {
        let incarnation = store::Incarnation(rand::random());
        let mut registration = Registration::new(node, name, incarnation);
        let began = now();
        let registered: Registered = loop {
            let fence = patiently(|| backend.fence(node)).await?;
            let heartbeat = patiently(|| backend.heartbeat(node)).await?;
            if let Some(registered) = registration.found(fence.as_ref(), heartbeat.as_ref()) {
                break registered;
            }
            let drawn = patiently(|| backend.epochs()).await?;
            let write = registration
                .attempt(fence.as_ref(), drawn, now(), utc(), operation())
                .map_err(BeginError::Registration)?;
            let outcome = backend.write(write).await;
            if let Some(registered) = registration.answered(outcome) {
                break registered;
            }
            match outcome {
                Outcome::Unavailable(fault) if now().since(began) > PATIENCE => {
                    return Err(BeginError::Unavailable(fault));
                }
                Outcome::Unavailable(_) | Outcome::Unknown => tokio::time::sleep(AGAIN).await,
                // Another node has drawn an epoch meanwhile.
                Outcome::Won | Outcome::Lost(_) | Outcome::Fenced => {}
            }
        };
        let holder = Holder::new(registered, beacon.times());
        Ok(Self { backend, holder, beacon })
    }

    /// Goes on in the epoch of an earlier daemon, if that is allowed. The lease is as it was: open it.
    ///
    /// # Errors
    ///
    /// If the store does not answer for a while.
    pub async fn resume(
        backend: Arc<Backend>,
        Pinned { recorded, found }: Pinned,
        beacon: Arc<Beacon>,
    ) -> Result<Result<Self, Unresumable>, BeginError> {
        let node = recorded.identity.owner.node;
        let fence = patiently(|| backend.fence(node)).await?;
        let heartbeat = patiently(|| backend.heartbeat(node)).await?;
        let (fence, heartbeat) = (fence.as_ref(), heartbeat.as_ref());
        let resuming = Resuming::new(recorded, found, fence, heartbeat, beacon.times(), []);
        let epoch = fence.map(|fence| fence.epoch);
        Ok(resuming.map_err(|why| Unresumable { why, epoch }).map(|resuming| {
            let holder = resuming
                .resume()
                .expect("its sessions are put in order before the lease is opened");
            Self { backend, holder, beacon }
        }))
    }

    /// What the node claims to be.
    pub fn identity(&self) -> store::Identity {
        self.holder.identity()
    }

    /// Until when the node may act, before any margin.
    pub fn deadline(&self) -> Option<BootTime> {
        self.holder.deadline()
    }

    /// How much was seen of the store.
    pub fn seen(&self) -> Position {
        Store::seen(&*self.backend)
    }

    /// Sends heartbeats until the lease is open.
    ///
    /// # Errors
    ///
    /// If the epoch is over, or the store does not answer for a while.
    pub async fn open(&mut self) -> Result<(), BeginError> {
        let began = now();
        while !self.holder.is_open(now()) {
            let fault = self.step().await.map_err(BeginError::Over)?;
            if let Some(fault) = fault {
                if now().since(began) > PATIENCE {
                    return Err(BeginError::Unavailable(fault));
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
        Ok(())
    }

    /// Sends one heartbeat more, so that the lease is whole for a successor.
    ///
    /// # Errors
    ///
    /// If the epoch is over.
    pub async fn renew(&mut self) -> Result<(), Over> {
        self.beat().await.map(drop)
    }

    /// Keeps the lease, and the fence in the kernel with it, until it is over or the keeper is stopped.
    pub fn keep(self, node: Arc<Mutex<Node>>, state: Arc<StateFolder>) -> Keeper {
        let (stop, stopped) = watch::channel(());
        let pulse = Pulse::default();
        let keeping = Keeping { lease: self, node, state, seen: None, pulse: pulse.clone() };
        Keeper { task: tokio::spawn(keeping.run(stopped)), stop, pulse }
    }

    /// Does what is due now; the fault, if the store had one.
    async fn step(&mut self) -> Result<Option<Fault>, Over> {
        match self.holder.next(now()) {
            // Asked again at once after an answer that did not help.
            Next::Wait(_) | Next::Beat => self.beat().await,
            Next::Look => match self.backend.heartbeat(self.holder.owner().node).await {
                Ok(row) => self.holder.found(row.as_ref()).map(|()| None),
                Err(fault) => Ok(Some(fault)),
            },
            Next::Answer => unreachable!("every heartbeat is waited for"),
            Next::Over(over) => Err(over),
        }
    }

    async fn beat(&mut self) -> Result<Option<Fault>, Over> {
        let applied = self.beacon.revision();
        let Some(write) = self.holder.beat(now(), applied, operation()) else { return Ok(None) };
        let outcome = self.backend.write(write).await;
        self.holder.answered(outcome)?;
        Ok(match outcome {
            Outcome::Unavailable(fault) => Some(fault),
            Outcome::Won | Outcome::Lost(_) | Outcome::Fenced | Outcome::Unknown => None,
        })
    }
}

/// Why an epoch was not resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{why}")]
pub struct Unresumable {
    /// Why.
    pub why: NotResumable,
    /// The epoch in which the store has the node.
    pub epoch: Option<Epoch>,
}

/// Keeps a lease in the background.
pub struct Keeper {
    task: JoinHandle<Result<Lease, Over>>,
    stop: watch::Sender<()>,
    pulse: Pulse,
}

impl Keeper {
    /// Whether it stirs.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Waits until the lease is over. The fence is shut then.
    pub async fn over(&mut self) -> Over {
        match (&mut self.task).await {
            Ok(Err(over)) => over,
            Ok(Ok(_)) => unreachable!("it stops only when it is told to"),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Stops keeping it. The fence shuts at the deadline.
    ///
    /// # Errors
    ///
    /// If it is over.
    pub async fn stop(self) -> Result<Lease, Over> {
        let _over_already = self.stop.send(());
        self.task.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }
}

struct Keeping {
    lease: Lease,
    node: Arc<Mutex<Node>>,
    state: Arc<StateFolder>,
    /// Writes down how much was seen.
    seen: Option<JoinHandle<()>>,
    pulse: Pulse,
}

impl Keeping {
    async fn run(mut self, mut stopped: watch::Receiver<()>) -> Result<Lease, Over> {
        let mut fault = None;
        loop {
            let wait = match self.lease.holder.next(now()) {
                Next::Wait(until) => until.since(now()),
                Next::Look if fault.is_some() => AGAIN,
                _ => Duration::ZERO,
            };
            tokio::select! {
                biased;
                _ = stopped.changed() => return Ok(self.lease),
                () = tokio::time::sleep(wait) => {}
                // Others wait for it.
                () = self.lease.beacon.news() => {}
            }
            let done = self.lease.step().await;
            self.pulse.beat();
            // Whatever came of it, the kernel's deadline follows.
            lock(&self.node).arm(self.lease.deadline());
            let now_has = done?;
            tell(fault, now_has, self.lease.deadline());
            fault = now_has;
            self.keep_seen();
        }
    }

    /// Not waited for: the disk may take its time, and the next heartbeat brings a later point.
    fn keep_seen(&mut self) {
        if self.seen.as_ref().is_some_and(|writes| !writes.is_finished()) {
            return;
        }
        let (state, position) = (Arc::clone(&self.state), self.lease.seen());
        self.seen = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = state.keep_seen(position) {
                tracing::warn!(%error, "how much was seen of the store is not kept");
            }
        }));
    }
}

/// Says when the store begins to fail, and when it is back.
fn tell(before: Option<Fault>, fault: Option<Fault>, deadline: Option<BootTime>) {
    match (before, fault) {
        (None, Some(fault)) => {
            let left = deadline.map_or(Duration::ZERO, |deadline| deadline.since(now()));
            tracing::warn!(%fault, ?left, "the lease cannot be renewed; the fence shuts when it ends");
        }
        (Some(_), None) => tracing::info!("the lease is renewed again"),
        (None, None) | (Some(_), Some(_)) => {}
    }
}

async fn patiently<T, F: Future<Output = Result<T, Fault>>>(
    read: impl Fn() -> F,
) -> Result<T, BeginError> {
    let began = now();
    loop {
        match read().await {
            Ok(answer) => return Ok(answer),
            Err(fault) if now().since(began) > PATIENCE => {
                return Err(BeginError::Unavailable(fault));
            }
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

pub fn operation() -> OperationId {
    OperationId(rand::random())
}

/// UTC.
pub fn utc() -> Time {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Time::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
