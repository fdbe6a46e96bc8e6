//! The daemon of one node: from its configuration to a running data plane, and back.

use crate::{
    api::{Server, ServerError},
    config::Config,
    dataplane::{
        ClockError, Dataplane, LoadError, LoadOptions,
        attach::{AttachError, Attached, LinkKind, sweep},
        egress::EgressError,
        fence::FenceKeeper,
        object::Object,
        services::{Clash, rows},
        wire_address,
    },
    egress::{EgressFences, follow as follow_links},
    neighbours::{
        Hop, Interfaces, LinkChanges, NextHopChange, NextHops, Targets, UnknownInterface, Upkeep,
    },
    node::{Node, Parts, Peer, StateError, StateFolder, answer, lock},
    pins, preflight,
};
use dataplane_ebpf::node::{LinkRow, NextHop};
use ownership::placement::PlanError;
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use thiserror::Error;
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, timeout_at},
};

/// How long the daemon waits for next hops before it attaches the program.
const LEARNING: Duration = Duration::from_millis(250);

/// How often the programs' events are read.
const EVENTS: Duration = Duration::from_millis(100);

/// The configured interfaces: index to link number and name.
type Links = BTreeMap<u32, (u8, String)>;

/// Why the daemon could not start.
///
/// Nothing is left in the kernel then but the links that it took over from an earlier daemon: they
/// go on forwarding.
#[derive(Debug, Error)]
pub enum StartError {
    /// About the node's state.
    #[error(transparent)]
    State(#[from] StateError),
    /// About the kernel's interfaces, routes and neighbours.
    #[error("asking the kernel for its interfaces and routes failed")]
    Netlink(#[from] crate::neighbours::Error),
    /// No such interface.
    #[error(transparent)]
    Interface(#[from] UnknownInterface),
    /// An interface without Ethernet.
    #[error("interface {0} has no MAC address: the data plane works on Ethernet")]
    NoMac(String),
    /// About the programs.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// About an interface.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// About the fence at egress.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// About the services.
    #[error(transparent)]
    Services(#[from] Clash),
    /// About the placement.
    #[error("planning the placement failed")]
    Placement(#[from] PlanError),
    /// About time.
    #[error("reading the kernel's clock failed")]
    Clock(#[from] ClockError),
    /// About the program's log.
    #[error("the program's log cannot be read")]
    Log(#[from] aya_log::Error),
    /// About the socket.
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// Netlink failed, so the way to other nodes is followed no longer.
#[derive(Debug, Error)]
#[error(
    "the kernel's routes and neighbours are followed no longer; what is pinned goes on forwarding \
     as it was: start the daemon again"
)]
pub struct LostTrack(#[source] Option<crate::neighbours::Error>);

/// A running daemon.
pub struct Daemon {
    config: Config,
    node: Arc<Mutex<Node>>,
    links: Links,
    next_hops: NextHops,
    new_links: JoinHandle<()>,
    _server: Server,
    _state: StateFolder,
}

impl Daemon {
    /// Loads the data plane, opens the fence, attaches the program and listens. Needs root, and a
    /// tokio runtime on a thread in the node's network namespace.
    ///
    /// With `log_packets` the program logs the verdict of every packet, at level "debug": for a test
    /// network, not under load.
    pub async fn start(config: Config, log_packets: bool) -> Result<Self, StartError> {
        let new_links = LinkChanges::open()?;
        let interfaces = Interfaces::read().await?;
        let rows = link_rows(&config, &interfaces)?;
        let links: Links = (0..)
            .zip(&config.interfaces)
            .map(|(link, interface)| (rows[link as usize].ifindex, (link, interface.name.clone())))
            .collect();
        // What needs privileges comes first, so that whoever lacks them reads of that. Loading
        // touches no packet; the lock comes before anything that does.
        let dataplane = load(&config, log_packets)?;
        let state = StateFolder::open(&config.state.path, &config.node)?;
        let epoch = state.next_epoch()?;
        let mut node = build(&config, dataplane, &rows, &links, epoch)?;
        if log_packets {
            node.dataplane.follow_log()?;
        }
        node.warnings = preflight::warnings(&config, &interfaces).await;
        for warning in &node.warnings {
            tracing::warn!("{warning}");
        }
        node.renew();
        let others = config.nodes.iter().filter(|node| node.name != config.node);
        let targets = Targets {
            nodes: others.map(|node| (node.index, node.address)).collect(),
            underlay: links.keys().copied().collect(),
        };
        // Before anything is attached. Nobody is to be answered before the node is ready, though.
        Server::check(&config.api.socket)?;
        let mut next_hops = NextHops::start(targets, Upkeep::Managed)?;
        learn(&mut node, &links, &mut next_hops).await;
        let name = node.name.clone();
        match open(node, &config, &interfaces) {
            Ok((node, server)) => {
                tracing::info!(node = name, %epoch, socket = %config.api.socket.display(), "ready");
                let new_links = tokio::spawn(follow_links(Arc::clone(&node), new_links));
                Ok(Self {
                    config,
                    node,
                    links,
                    next_hops,
                    new_links,
                    _server: server,
                    _state: state,
                })
            }
            Err(error) => {
                stop(next_hops).await;
                Err(error)
            }
        }
    }

    /// Keeps the fence open and the next hops right until `stop` is ready; then shuts the fence
    /// and takes everything out of the kernel.
    ///
    /// # Errors
    /// When netlink fails. Then everything stays as it is: pinned programs go on forwarding for the
    /// next daemon to take over, and the fence shuts at its deadline.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), LostTrack> {
        let mut stop_now = std::pin::pin!(stop);
        let mut renew = tokio::time::interval(self.config.fence.renew);
        renew.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut events = tokio::time::interval(EVENTS);
        events.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = &mut stop_now => break,
                _ = renew.tick() => lock(&self.node).renew(),
                _ = events.tick() => collect_events(&self.node),
                change = self.next_hops.changed() => match change {
                    Some(change) => follow(&mut lock(&self.node), &self.links, change),
                    None => return Err(LostTrack(self.next_hops.stop().await.err())),
                },
            }
        }
        tracing::info!("stopping");
        self.new_links.abort();
        {
            let mut node = lock(&self.node);
            node.shut();
            detach(std::mem::take(&mut node.attached));
            node.egress.detach(true);
        }
        self::stop(self.next_hops).await;
        Ok(())
    }
}

fn collect_events(node: &Mutex<Node>) {
    if let Err(error) = lock(node).collect_events() {
        tracing::warn!(%error, "what was refused cannot be told");
    }
}

async fn stop(next_hops: NextHops) {
    if let Err(error) = next_hops.stop().await {
        tracing::warn!(%error, "the kernel goes on managing neighbours for us");
    }
}

/// Attaches the program and listens; on an error the node is as it was before.
fn open(
    mut node: Node,
    config: &Config,
    interfaces: &Interfaces,
) -> Result<(Arc<Mutex<Node>>, Server), StartError> {
    if let Err(error) = attach(&mut node, config, interfaces) {
        give_up(&mut node);
        return Err(error);
    }
    let node = Arc::new(Mutex::new(node));
    let handler = Arc::clone(&node);
    let server = Server::start(&config.api.socket, config.api.mode, move |request, fd| {
        answer(&handler, &request, fd.as_ref())
    });
    match server {
        Ok(server) => Ok((node, server)),
        Err(error) => {
            give_up(&mut lock(&node));
            Err(error.into())
        }
    }
}

/// Waits until the way to every node is known, though not for long: a node may be down. A daemon
/// that takes over from another would else drop what that one forwarded.
async fn learn(node: &mut Node, links: &Links, next_hops: &mut NextHops) {
    let mut unknown: BTreeSet<_> = node.others().collect();
    let end = Instant::now() + LEARNING;
    while !unknown.is_empty() {
        let Ok(Some(change)) = timeout_at(end, next_hops.changed()).await else {
            return;
        };
        if change.next_hop.is_some() {
            unknown.remove(&change.node);
        }
        follow(node, links, change);
    }
}

fn follow(node: &mut Node, links: &Links, change: NextHopChange) {
    let NextHopChange { node: index, next_hop } = change;
    let known = next_hop.and_then(|Hop { mac, ifindex }| {
        let (link, name) = links.get(&ifindex)?;
        Some((mac, *link, name.clone()))
    });
    let word = match &known {
        Some((mac, link, _)) => NextHop::new(*mac, *link),
        None => NextHop::UNKNOWN,
    };
    node.dataplane.node(index).set_next_hop(word);
    if let Some(peer) = node.peers.iter_mut().find(|peer| peer.index == index) {
        let name = &peer.name;
        match &known {
            Some((_, _, interface)) => tracing::info!(node = name, interface, "next hop"),
            None => tracing::warn!(node = name, "no next hop: packets for it are dropped"),
        }
        peer.hop = known.map(|(mac, _, interface)| (mac, interface));
    }
}

fn load(config: &Config, log_packets: bool) -> Result<Dataplane, LoadError> {
    Dataplane::load(LoadOptions {
        object: Object::Daemon,
        sessions: config.sessions.capacity,
        cpus: config.sessions.cpus.clone(),
        queue: config.sessions.queue,
        log_packets,
    })
}

fn build(
    config: &Config,
    mut dataplane: Dataplane,
    rows: &[LinkRow],
    links: &Links,
    epoch: ownership::Epoch,
) -> Result<Node, StartError> {
    let this = config.this_node();
    let services = config.services();
    publish_services(&mut dataplane, config)?;
    for (link, row) in rows.iter().enumerate() {
        dataplane.set_link(link as u8, *row);
    }
    for node in config.nodes.iter().filter(|node| node.name != config.node) {
        let allowed: Vec<u32> = links
            .iter()
            .filter(|(_, (_, name))| node.interface.as_ref().is_none_or(|only| only == name))
            .map(|(ifindex, _)| *ifindex)
            .collect();
        dataplane.set_node(node.index, node.address, &allowed);
    }
    let fence = &config.fence;
    let jiffies = dataplane.jiffies()?;
    let fence = FenceKeeper::new(epoch, fence.lease, fence.margin, jiffies);
    let peers = config.nodes.iter().map(|node| Peer {
        name: node.name.clone(),
        index: node.index,
        address: node.address,
        hop: None,
    });
    let parts = Parts {
        name: config.node.clone(),
        index: this.index,
        dataplane,
        fence,
        jiffies,
        peers: peers.collect(),
        services,
        cpus: config.sessions.cpus.clone(),
    };
    Ok(Node::new(parts, &config.placement()?))
}

fn publish_services(dataplane: &mut Dataplane, config: &Config) -> Result<(), Clash> {
    let (seed, rows) = rows(&config.services(), config.this_node().address)?;
    dataplane.set_services(seed, &rows);
    Ok(())
}

fn link_rows(config: &Config, interfaces: &Interfaces) -> Result<Vec<LinkRow>, StartError> {
    let source = wire_address(config.this_node().address);
    let row = |name: &String| -> Result<LinkRow, StartError> {
        let interface = interfaces.named(name)?;
        let mac = interface.mac.ok_or_else(|| StartError::NoMac(name.clone()))?;
        let (ifindex, mtu) = (interface.ifindex, interface.mtu);
        Ok(LinkRow { ifindex, mtu, mac, source, ..LinkRow::EMPTY })
    };
    config.interfaces.iter().map(|interface| row(&interface.name)).collect()
}

fn attach(node: &mut Node, config: &Config, interfaces: &Interfaces) -> Result<(), StartError> {
    // Before anything is delivered here.
    fence_egress(node, config, interfaces)?;
    sweep_pins(config, interfaces)?;
    for configured in &config.interfaces {
        let (name, mode) = (&configured.name, configured.mode);
        let pin = config.pins.enabled.then(|| pins::path(config, name));
        let adopted = match &pin {
            Some(pin) => node.dataplane.adopt(interfaces.named(name)?, mode, pin)?,
            None => None,
        };
        let attached = match adopted {
            Some(attached) => attached,
            None => node.dataplane.attach(name, mode, pin.as_deref())?,
        };
        let Attached { mode, is_adopted, .. } = &attached;
        tracing::info!(interface = name, ?mode, is_adopted, "attached");
        if let Some(reason) = &attached.not_native {
            tracing::warn!("{reason}");
            node.warnings.push(reason.clone());
        }
        node.attached.push(attached);
    }
    Ok(())
}

/// Fences every interface that replies may leave by.
fn fence_egress(
    node: &mut Node,
    config: &Config,
    interfaces: &Interfaces,
) -> Result<(), EgressError> {
    node.egress = EgressFences::new(config);
    report(&pins::folder(config), node.egress.sweep(config, interfaces));
    if let Err(errors) = node.egress.adjust(&mut node.dataplane, interfaces) {
        return Err(errors.into_iter().next().expect("at least one error"));
    }
    for name in node.egress.missing() {
        let warning =
            format!("{name} is to be fenced at egress but is not there: as soon as it is");
        tracing::warn!("{warning}");
        node.warnings.push(warning);
    }
    Ok(())
}

/// Detaches what earlier daemons of this node left pinned and this one does not take over:
/// interfaces that are in its configuration no longer, or have a new name, or were made anew.
/// Comes before attaching, as an interface takes one program only.
fn sweep_pins(config: &Config, interfaces: &Interfaces) -> Result<(), UnknownInterface> {
    let mut wanted = BTreeMap::new();
    if config.pins.enabled {
        for interface in &config.interfaces {
            let ifindex = interfaces.named(&interface.name)?.ifindex;
            wanted.insert(pins::path(config, &interface.name), ifindex);
        }
    }
    let folder = pins::folder(config);
    let keep = |pin: &Path, ifindex| wanted.get(pin) == Some(&ifindex);
    report(&folder, sweep(&folder, LinkKind::Xdp, keep));
    Ok(())
}

/// Says what was swept from a folder.
fn report(folder: &Path, swept: std::io::Result<Vec<PathBuf>>) {
    match swept {
        Ok(swept) => {
            for pin in swept {
                let pin = pin.display();
                tracing::warn!(%pin, "an earlier daemon's program was left there: detached");
            }
        }
        Err(error) => {
            let folder = folder.display();
            tracing::error!(%folder, %error, "an earlier daemon's programs may be left: look there");
        }
    }
}

/// After a failed start: takes away what it attached, and leaves what forwarded before it.
fn give_up(node: &mut Node) {
    node.shut();
    let attached = std::mem::take(&mut node.attached);
    detach(attached.into_iter().filter(|attached| !attached.is_adopted));
    node.egress.detach(false);
}

fn detach(attached: impl IntoIterator<Item = Attached>) {
    for attached in attached {
        let interface = attached.interface.clone();
        if let Err(error) = attached.detach() {
            tracing::error!(interface, %error, "detaching failed: the program is still there");
        }
    }
}
