//! Nodes in this process: daemons on threads in their nodes' namespaces, on one shared store in a file.
//!
//! It is the daemon's own code: what a process of its own would run, [`Daemon::start_in`] runs here.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use dataplane_user::api::{Client as Api, Status};
use dataplane_user::cluster::Backend;
use dataplane_user::config::Config as Loaded;
use dataplane_user::daemon::{Daemon, Options as DaemonOptions};
use dataplane_user::runtime::Stores;
use ownership::NodeIndex;
use ownership::audit::{Event, Verifier};
use ownership::store::{Directory, Position, Seen, Sessions, Store};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::config::Config;
use crate::probe;
use crate::topology::{Cluster, Node};

const PATIENCE: Duration = Duration::from_secs(15);

/// How many rows are read together.
const PAGE: usize = 1000;

/// Daemons of one store.
#[derive(Debug)]
pub struct Together {
    store: PathBuf,
    backend: Option<Arc<Shared>>,
    nodes: Vec<Running>,
}

/// The store, which has no debug form.
struct Shared(Arc<Backend>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

/// One daemon.
#[derive(Debug)]
struct Running {
    name: String,
    socket: PathBuf,
    orders: UnboundedSender<Order>,
    thaw: Arc<Thaw>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Nothing of the daemon's runtime runs until it is thawed.
    Freeze,
    Stop,
}

#[derive(Debug, Default)]
struct Thaw {
    frozen: Mutex<Frozen>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Frozen {
    is_asked: bool,
    /// Its thread waits, and runs nothing else.
    stands_still: bool,
}

/// What a log that was found whole says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audited {
    /// Events in it, without refusals, which change nothing.
    pub events: u64,
    /// Versions of all sessions, nodes and the placement that the store keeps, from their first on.
    pub versions: u64,
}

impl Together {
    /// A store in the network's directory, and nobody on it yet.
    pub fn new(cluster: &Cluster) -> Result<Self> {
        let store = cluster.scratch().join("together.store");
        let seen = Seen::new(Position::START);
        let backend = Backend::in_file(&store, NodeIndex::FIRST, seen)?;
        let backend = Some(Arc::new(Shared(Arc::new(backend))));
        Ok(Self { store, backend, nodes: Vec::new() })
    }

    /// The store's file.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// The store.
    ///
    /// # Panics
    /// After [`Together::close`].
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend.as_ref().expect("it is open").0
    }

    /// Starts a node's daemon, and waits until it answers.
    pub fn start(&mut self, cluster: &Cluster, node: &Node, config: &Config) -> Result<()> {
        let directory = cluster.scratch().join(node.name());
        std::fs::create_dir_all(&directory).context("making the node's directory")?;
        let config = Loaded::parse(&config.to_toml()?)?;
        let socket = config.api.socket.clone();
        let (orders, waiting) = unbounded_channel();
        let thaw = Arc::new(Thaw::default());
        let of_thread = Arc::clone(&thaw);
        let stores = Stores::shared(Arc::clone(self.backend()));
        let (namespace, mounts) = (node.namespace().clone(), node.mounts().clone());
        let thread = std::thread::spawn(move || {
            mounts.run(&namespace, || run(config, stores, waiting, &of_thread))
        });
        let mut running =
            Running { name: node.name().to_owned(), socket, orders, thaw, thread: Some(thread) };
        let answers =
            probe::until(PATIENCE, || running.has_ended() || Api::connect(&running.socket).is_ok());
        if running.has_ended() {
            running.join()?;
        }
        ensure!(answers, "the daemon of node {} does not answer", running.name);
        self.nodes.retain(|other| other.name != running.name);
        self.nodes.push(running);
        Ok(())
    }

    fn node(&self, name: &str) -> Result<&Running> {
        let node = self.nodes.iter().find(|node| node.name == name);
        node.with_context(|| format!("node {name} runs"))
    }

    /// The Unix socket of a node's daemon.
    pub fn socket(&self, name: &str) -> Result<&Path> {
        Ok(&self.node(name)?.socket)
    }

    /// Asks a node's daemon.
    pub fn api(&self, name: &str) -> Result<Api> {
        Ok(Api::connect(self.socket(name)?)?)
    }

    /// How a node is.
    pub fn status(&self, name: &str) -> Result<Status> {
        Ok(self.api(name)?.status()?)
    }

    /// Waits until every node knows the way to all others.
    pub fn wait_for_next_hops(&self) -> Result<()> {
        for node in &self.nodes {
            let known = probe::until(PATIENCE, || {
                let status = self.status(&node.name);
                status.is_ok_and(|status| status.nodes.iter().all(|node| node.mac.is_some()))
            });
            ensure!(known, "node {} does not find the others", node.name);
        }
        Ok(())
    }

    /// Freezes a node: no heartbeat is sent, nothing is watched, until it is thawed. Returns when it stands still.
    pub fn freeze(&self, name: &str) -> Result<()> {
        let node = self.node(name)?;
        node.thaw.locked().is_asked = true;
        node.orders.send(Order::Freeze).map_err(|_| anyhow!("node {name} has ended"))?;
        ensure!(node.thaw.wait_for_standstill(), "node {name} does not stand still");
        Ok(())
    }

    /// Lets a frozen node go on.
    pub fn thaw(&self, name: &str) -> Result<()> {
        self.node(name)?.thaw.now();
        Ok(())
    }

    /// Stops a node's daemon, as SIGTERM does.
    pub fn stop(&mut self, name: &str) -> Result<()> {
        let place = self.nodes.iter().position(|node| node.name == name);
        let mut node = self.nodes.remove(place.with_context(|| format!("node {name} runs"))?);
        node.stop()
    }

    /// Stops all daemons, and demands that the audit log has exactly one event for each version of everything that
    /// the store keeps, each of them what the model makes of the one before.
    pub fn verify(&mut self) -> Result<Audited> {
        for mut node in self.nodes.drain(..) {
            node.stop()?;
        }
        let backend = Arc::clone(self.backend());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut verifier = Verifier::default();
            let mut audited = Audited::default();
            let mut after = None;
            loop {
                let rows = backend.audit(after, PAGE).await?;
                for row in &rows {
                    verifier.row(row)?;
                    let changes =
                        row.entries.iter().filter(|it| !matches!(it.event, Event::Refusal(_)));
                    audited.events += changes.count() as u64;
                }
                after = rows.last().map(|row| row.key);
                if rows.len() < PAGE {
                    break;
                }
            }
            verifier.whole()?;
            let (mut sessions, mut after) = (Vec::new(), None);
            loop {
                let page = backend.sessions(after, PAGE).await?;
                after = page.last().map(|stored| stored.record.id());
                let is_last = page.len() < PAGE;
                sessions.extend(page);
                if is_last {
                    break;
                }
            }
            ensure!(!sessions.is_empty(), "there were sessions");
            // A session's birth is its version 0; nodes and the placement begin with 1.
            audited.versions +=
                sessions.iter().map(|it| it.record.version().get() + 1).sum::<u64>();
            verifier.sessions_after(sessions)?;
            for fence in backend.fences().await? {
                audited.versions += fence.changes;
                verifier.node_after(&fence)?;
            }
            let placement = backend.placement().await?.context("there is a placement")?;
            audited.versions += u64::from(placement.revision.get());
            verifier.placement_after(&placement)?;
            Ok(audited)
        })
    }

    /// Stops all daemons, and closes the store.
    pub fn close(&mut self) -> Result<()> {
        for mut node in self.nodes.drain(..) {
            node.stop()?;
        }
        self.backend = None;
        Ok(())
    }

    /// Waits until a node's daemon has ended by itself, and says how.
    pub fn ended(&mut self, name: &str) -> Result<Result<()>> {
        let place = self.nodes.iter().position(|node| node.name == name);
        let mut node = self.nodes.remove(place.with_context(|| format!("node {name} runs"))?);
        ensure!(probe::until(PATIENCE, || node.has_ended()), "node {name} goes on");
        Ok(node.join())
    }
}

impl Running {
    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn stop(&mut self) -> Result<()> {
        self.thaw.now();
        let _ended = self.orders.send(Order::Stop);
        self.join()
    }

    fn join(&mut self) -> Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result.with_context(|| format!("the daemon of node {}", self.name)),
            Some(Err(_)) => Err(anyhow!("the daemon of node {} panicked", self.name)),
            None => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            println!("{error:#}");
        }
    }
}

impl Thaw {
    fn locked(&self) -> std::sync::MutexGuard<'_, Frozen> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) {
        self.locked().is_asked = false;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let mut frozen = self.locked();
        frozen.stands_still = true;
        self.changed.notify_all();
        let thawed = self.changed.wait_while(frozen, |frozen| frozen.is_asked);
        thawed.unwrap_or_else(PoisonError::into_inner).stands_still = false;
    }

    /// Whether the thread stands still in time.
    fn wait_for_standstill(&self) -> bool {
        let frozen = self.locked();
        let waited =
            self.changed.wait_timeout_while(frozen, PATIENCE, |frozen| !frozen.stands_still);
        waited.is_ok_and(|(frozen, _)| frozen.stands_still)
    }
}

fn run(
    config: Loaded,
    stores: Stores,
    mut orders: UnboundedReceiver<Order>,
    thaw: &Thaw,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let daemon = Daemon::start_in(config, DaemonOptions::default(), Some(stores)).await?;
        daemon
            .run(async move {
                while let Some(Order::Freeze) = orders.recv().await {
                    // The runtime has no other thread.
                    thaw.wait();
                }
            })
            .await?;
        Ok(())
    })
}
