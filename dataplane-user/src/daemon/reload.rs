//! Reading the configuration again while the daemon runs: all of it is taken on, or nothing.

use super::{Daemon, start::others};
use crate::{
    api::{Answer, Response},
    config::{Changes, Config, ConfigError, Fixed, Log},
    hold::Bounds,
    metrics::{ListenError, Listener},
    neighbours::Targets,
    node::{Peer, lock},
};
use std::{io, path::PathBuf};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

/// How many wait for it.
const WAITING: usize = 4;

/// Why nothing has changed.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// The daemon was not started from a file.
    #[error("this daemon was not started from a file")]
    NoFile,
    /// The file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It has what a running daemon cannot take on.
    #[error(transparent)]
    Fixed(#[from] Fixed),
    /// A node is to go that others would still send packets to.
    #[error(
        "node {0:?} owns slots still: drain it (`jumpgate drain {0}`), and take it out of the file once it is safe to stop"
    )]
    OwnsSlots(String),
    /// About the socket for metrics.
    #[error(transparent)]
    Metrics(#[from] ListenError),
    /// About the nodes' rows.
    #[error("publishing the nodes failed")]
    Publish(#[source] io::Error),
    /// The daemon ends.
    #[error("the daemon is ending")]
    Ending,
}

type Reply = oneshot::Sender<Result<Changes, ReloadError>>;

/// Asks a daemon to read its configuration again.
#[derive(Clone, Debug)]
pub struct Reloader(mpsc::Sender<Reply>);

/// Who asks for it.
pub(super) type Reloads = mpsc::Receiver<Reply>;

/// Sets what is logged.
pub type SetLog = Box<dyn Fn(&Log) + Send>;

/// Where the daemon's configuration comes from, and where its log goes.
pub struct Origin {
    /// The file.
    pub file: PathBuf,
    /// Sets what is logged.
    pub set_log: SetLog,
}

impl Reloader {
    pub(super) fn new() -> (Self, Reloads) {
        let (sender, reloads) = mpsc::channel(WAITING);
        (Self(sender), reloads)
    }

    /// Does it; what has changed.
    ///
    /// # Errors
    ///
    /// Then nothing has changed.
    pub async fn reload(&self) -> Result<Changes, ReloadError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(reply).await.map_err(|_| ReloadError::Ending)?;
        answer.await.map_err(|_| ReloadError::Ending)?
    }

    /// Answers [`crate::api::Request::Reload`], on a thread that may wait.
    pub(super) fn answer(&self) -> Answer {
        let (reply, answer) = oneshot::channel();
        let sent = self.0.blocking_send(reply).map_err(|_| ReloadError::Ending);
        let answer = sent.and_then(|()| answer.blocking_recv().map_err(|_| ReloadError::Ending));
        match answer.flatten() {
            Ok(changes) => {
                Response::Reloaded(changes.names().into_iter().map(str::to_owned).collect())
            }
            Err(error) => Response::Error(chain(&error)),
        }
        .into()
    }
}

/// An error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl Daemon {
    /// Names where the configuration came from, so that it can be read again.
    pub fn from_file(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self
    }

    /// A way to ask it to read its configuration again.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Reads the configuration again, and answers whoever asked.
    pub(super) async fn reload_for(&mut self, reply: Reply) {
        let result = self.reload().await;
        match &result {
            Ok(changes) => {
                tracing::info!(changed = changes.names().join(", "), "configuration read again");
            }
            Err(error) => {
                let error = chain(error);
                tracing::error!(error, "configuration not read again: nothing has changed");
            }
        }
        // Whoever asked may be gone.
        let _ = reply.send(result);
    }

    async fn reload(&mut self) -> Result<Changes, ReloadError> {
        let file = self.origin.as_ref().ok_or(ReloadError::NoFile)?.file.clone();
        let old = self.config.clone();
        // The lease is renewed on this thread, and the placement of the nodes is compared slot by slot.
        let compared = tokio::task::spawn_blocking(move || -> Result<_, ReloadError> {
            let new = Config::load(&file)?;
            let changes = old.changes(&new)?;
            Ok((new, changes))
        });
        let (new, changes) = compared.await.map_err(|_| ReloadError::Ending)??;
        // What may fail comes first.
        let listener = match new.metrics.listen {
            Some(address) if changes.metrics => Some(Listener::bind(address).await?),
            _ => None,
        };
        if changes.nodes {
            let gone = self
                .config
                .nodes
                .iter()
                .filter(|node| !new.nodes.iter().any(|other| other.index == node.index));
            for node in gone {
                if self.runtime.has_part(node.index) {
                    return Err(ReloadError::OwnsSlots(node.name.clone()));
                }
            }
            self.set_nodes(&new).map_err(ReloadError::Publish)?;
        }
        if changes.metrics {
            self.metrics = listener.map(|listener| listener.serve(self.source.clone()));
        }
        if changes.limits {
            lock(&self.node).set_limits(&new.services());
        }
        if changes.hold {
            lock(&self.node).set_hold(Bounds::of(&new.hold), new.hold.pace);
        }
        if let (true, Some(origin)) = (changes.log, &self.origin) {
            (origin.set_log)(&new.log);
        }
        self.config = new;
        Ok(changes)
    }

    fn set_nodes(&mut self, new: &Config) -> io::Result<()> {
        let peers = new.nodes.iter().map(Peer::of);
        lock(&self.node).set_peers(peers, &others(new, &self.links))?;
        self.believed.retain(|index| new.nodes.iter().any(|node| node.index == *index));
        let others = new.nodes.iter().filter(|node| node.name != new.node);
        self.runtime.set_members(new.members());
        self.next_hops.retarget(Targets {
            nodes: others.map(|node| (node.index, node.address)).collect(),
            underlay: self.links.keys().copied().collect(),
        });
        Ok(())
    }
}
