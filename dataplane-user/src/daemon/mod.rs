//! The daemon of one node: from its configuration to a running data plane, and back.

mod attach;
mod egress;
mod error;
mod next_hops;
mod reload;
mod start;
mod tables;

pub use error::StartError;
pub use reload::{Origin, ReloadError, Reloader, SetLog};

use crate::{
    api::Server,
    cluster::{Keeper, Over},
    config::Config,
    control_port::Serving,
    metrics::{Endpoint, Source},
    neighbours::{NextHopChange, NextHops},
    node::{Node, StateFolder, end_holds, lock},
    pins,
    runtime::{End, Running, Runtime},
    sessions_api,
};
use ownership::{NodeIndex, store::Fault};
use std::{
    collections::BTreeSet,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};
use thiserror::Error;
use tokio::{task::JoinHandle, time::MissedTickBehavior};

use attach::detach;
use next_hops::{Links, follow};
use reload::Reloads;
use tables::{forget, remove};

/// How often the programs' events are read.
const EVENTS: Duration = Duration::from_millis(100);

/// How long a next hop that an earlier daemon knew is believed while it is not found anew.
const BELIEF: Duration = Duration::from_secs(5);

/// Why a daemon ended that nobody has stopped. What is pinned goes on forwarding to other nodes.
#[derive(Debug, Error)]
pub enum RunError {
    /// Netlink failed, so the way to other nodes is followed no longer.
    #[error(
        "the kernel's interfaces, routes and neighbours are followed no longer; what is pinned goes on \
         forwarding as it was: start the daemon again"
    )]
    LostTrack(#[source] Option<crate::neighbours::Error>),
    /// The node's epoch is over, and the fence is shut. The next daemon begins a new one.
    #[error("this node may act no longer, and the sessions that it had are over")]
    EpochOver(#[source] Over),
    /// Its store was shut. The fence shuts at its deadline.
    #[error("the store can be written no longer: repair it, and start the daemon again")]
    StoreShut(#[source] Fault),
}

/// How a daemon is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The program logs the verdict of every packet, at level "debug": for a test network, not under
    /// load.
    pub log_packets: bool,
    /// It starts with new tables and in a new epoch, whatever an earlier daemon left.
    pub fresh: bool,
    /// When it ends, all that is pinned stays, and the lease runs on: for a successor.
    pub stay: bool,
}

/// What ends a run.
#[derive(Clone, Copy)]
enum Ended {
    Stopped,
    LostTrack,
    Over(Over),
    StoreShut(Fault),
}

/// A running daemon.
pub struct Daemon {
    config: Config,
    options: Options,
    node: Arc<Mutex<Node>>,
    runtime: Arc<Runtime>,
    running: Option<Running>,
    control: Option<Serving>,
    links: Links,
    next_hops: NextHops,
    new_links: JoinHandle<()>,
    /// Nodes whose next hop an earlier daemon knew, and that were not found anew yet.
    believed: BTreeSet<NodeIndex>,
    keeper: Keeper,
    metrics: Option<Endpoint>,
    source: Source,
    origin: Option<Origin>,
    reloader: Reloader,
    reloads: Reloads,
    _server: Server,
    sessions_api: Option<sessions_api::Server>,
    state: Arc<StateFolder>,
}

impl Daemon {
    /// Keeps the fence open and the next hops right until `stop` is ready; then shuts the fence
    /// and takes everything out of the kernel, or with [`Options::stay`] leaves everything there.
    ///
    /// # Errors
    /// When netlink fails, or the node's epoch ends. Then everything stays as it is: pinned programs go on
    /// forwarding for the next daemon to take over, and the fence shuts at its deadline or is shut.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), RunError> {
        let mut stop_now = std::pin::pin!(stop);
        let mut doubt = std::pin::pin!(tokio::time::sleep(BELIEF));
        let mut events = tokio::time::interval(EVENTS);
        events.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let ended = loop {
            tokio::select! {
                biased;
                () = &mut stop_now => break Ended::Stopped,
                over = self.keeper.over() => break Ended::Over(over),
                end = self.runtime.ended() => break match end {
                    End::Epoch(over) => Ended::Over(over),
                    End::Store(fault) => Ended::StoreShut(fault),
                },
                _ = events.tick() => collect_events(&self.node),
                () = &mut doubt, if !self.believed.is_empty() => {
                    for node in std::mem::take(&mut self.believed) {
                        let lost = NextHopChange { node, next_hop: None };
                        follow(&mut lock(&self.node), &self.links, lost);
                    }
                }
                Some(reply) = self.reloads.recv() => self.reload_for(reply).await,
                ended = &mut self.new_links => {
                    tracing::error!(?ended, "interfaces are fenced at egress no longer as they come");
                    break Ended::LostTrack;
                }
                change = self.next_hops.changed() => match change {
                    Some(change) => {
                        self.believed.remove(&change.node);
                        follow(&mut lock(&self.node), &self.links, change);
                    }
                    None => break Ended::LostTrack,
                },
            }
        };
        self.new_links.abort();
        if let Some(control) = &self.control {
            control.close();
        }
        self.runtime.finish().await;
        if let Some(control) = self.control.take() {
            control.stop().await;
        }
        self.sessions_api = None;
        self.running = None;
        // From here on nothing more is held or captured.
        self.end_holds().await;
        lock(&self.node).abandon_capture();
        let kept = match ended {
            Ended::Over(over) => Err(over),
            Ended::Stopped | Ended::LostTrack | Ended::StoreShut(_) => self.keeper.stop().await,
        };
        let mut lease = match kept {
            Ok(lease) => lease,
            Err(over) => {
                if let Err(error) = self.state.end_incarnation() {
                    tracing::error!(%error, "that this epoch is over is not recorded");
                }
                self.next_hops.leave();
                return Err(RunError::EpochOver(over));
            }
        };
        if let Ended::LostTrack = ended {
            return Err(RunError::LostTrack(self.next_hops.stop().await.err()));
        }
        if let Ended::StoreShut(fault) = ended {
            self.next_hops.leave();
            return Err(RunError::StoreShut(fault));
        }
        if self.options.stay {
            // The whole lease for the successor.
            let renewed = lease.renew().await;
            lock(&self.node).arm(lease.deadline());
            tracing::info!(
                ?renewed,
                "stopping; program, tables and lease stay for the next daemon"
            );
            self.next_hops.leave();
            return Ok(());
        }
        tracing::info!("stopping");
        {
            let mut node = lock(&self.node);
            node.shut();
            detach(std::mem::take(&mut node.attached));
            node.egress.detach(true);
            if let Some(folder) = node.dataplane.map_folder() {
                remove(folder);
            }
        }
        forget(&self.state);
        pins::tidy(&self.config);
        self::stop(self.next_hops).await;
        Ok(())
    }

    /// Nothing that is held is lost with the daemon's memory; the lease is renewed meanwhile.
    async fn end_holds(&self) {
        let node = Arc::clone(&self.node);
        tokio::task::spawn_blocking(move || end_holds(&node)).await.unwrap_or_else(|panic| {
            tracing::error!(%panic, "releasing what is held failed");
        });
    }
}

fn collect_events(node: &Mutex<Node>) {
    let mut node = lock(node);
    node.expire_capture();
    if let Err(error) = node.collect_events() {
        tracing::warn!(%error, "what was refused cannot be told");
    }
}

async fn stop(next_hops: NextHops) {
    if let Err(error) = next_hops.stop().await {
        tracing::warn!(%error, "the kernel goes on managing neighbours for us");
    }
}
