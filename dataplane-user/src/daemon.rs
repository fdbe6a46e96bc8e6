//! The daemon of one node: from its configuration to a running data plane, and back.

use crate::{
    api::{Server, ServerError},
    config::{self, Config},
    dataplane::{
        ClockError, Dataplane, LoadError, LoadOptions, Maps,
        attach::{AttachError, Attached, LinkKind, sweep},
        egress::EgressError,
        fence::FenceKeeper,
        object::Object,
        pinned::{MapFolder, PinnedMapError},
        predecessor::shut_pinned,
        services::{Clash, rows},
        wire_address,
    },
    egress::{EgressFences, follow as follow_links},
    hold::{self, Bounds},
    neighbours::{
        Hop, Interfaces, LinkChanges, NextHopChange, NextHops, Targets, UnknownInterface, Upkeep,
    },
    node::{
        Incarnation, Node, Parts, Peer, Registry, StateError, StateFolder, answer, end_holds, lock,
        recover, release_all,
    },
    pins, preflight,
    takeover::{self, LookError, Start},
};
use dataplane_ebpf::{
    node::{LinkRow, NextHop},
    table::bits_for,
};
use ownership::{Epoch, NodeIndex, SessionId, placement::PlanError};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    io,
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

/// How long a next hop that an earlier daemon knew is believed while it is not found anew.
const BELIEF: Duration = Duration::from_secs(5);

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
    /// About what an earlier daemon left.
    #[error(transparent)]
    Look(#[from] LookError),
    /// About the maps' pins.
    #[error(transparent)]
    Pins(#[from] PinnedMapError),
    /// Nothing can stay without pins.
    #[error("--stay needs pins: set pins.enabled = true, or leave it out")]
    StayWithoutPins,
    /// About links or nodes that changed.
    #[error("publishing links and nodes failed")]
    Publish(#[source] io::Error),
    /// About the boot's id.
    #[error("reading the id of this boot failed")]
    Boot(#[source] io::Error),
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

/// A running daemon.
pub struct Daemon {
    config: Config,
    options: Options,
    node: Arc<Mutex<Node>>,
    links: Links,
    next_hops: NextHops,
    new_links: JoinHandle<()>,
    /// Nodes whose next hop an earlier daemon knew, and that were not found anew yet.
    believed: BTreeSet<NodeIndex>,
    _server: Server,
    state: StateFolder,
}

impl Daemon {
    /// Loads the data plane or takes over that of an earlier daemon, opens the fence, attaches the
    /// program and listens. Needs root, and a tokio runtime on a thread in the node's network
    /// namespace.
    pub async fn start(config: Config, options: Options) -> Result<Self, StartError> {
        if options.stay && !config.pins.enabled {
            return Err(StartError::StayWithoutPins);
        }
        let new_links = LinkChanges::open()?;
        let interfaces = Interfaces::read().await?;
        let rows = link_rows(&config, &interfaces)?;
        // What needs privileges comes first, so that whoever lacks them reads of that. The lock
        // comes before anything that an earlier daemon left is looked at.
        Dataplane::check()?;
        let state = StateFolder::open(&config.state.path, &config.node)?;
        // Nobody is to be answered before the node is ready, though.
        Server::check(&config.api.socket)?;
        let load = load_options(&config, options.log_packets);
        let start = takeover::look(&config, &state, &load, options.fresh)?;
        let mut made = Made(None);
        if let Start::New { folder, over_another } = &start {
            made.0.clone_from(folder);
            if *over_another {
                tracing::warn!("the sessions of the daemon before this one end with its epoch");
            }
        }
        let Loaded { dataplane, epoch, sessions, held } =
            load_or_adopt(&config, load, &state, &start)?;
        let (mut node, links) = build(&config, dataplane, &rows, epoch, sessions)?;
        if options.log_packets {
            node.dataplane.follow_log()?;
        }
        node.warnings = preflight::warnings(&config, &interfaces).await;
        let gaps = node.dataplane.losses.gaps.iter();
        node.warnings.extend(gaps.map(|gap| format!("not counted among what is lost: {gap}")));
        for warning in &node.warnings {
            tracing::warn!("{warning}");
        }
        let held = start_keeper(&mut node, &config, &held);
        node.renew();
        let others = config.nodes.iter().filter(|node| node.name != config.node);
        let targets = Targets {
            nodes: others.map(|node| (node.index, node.address)).collect(),
            underlay: links.keys().copied().collect(),
        };
        let mut next_hops = NextHops::start(targets, Upkeep::Managed)?;
        let mut believed = believe(&mut node, &links);
        learn(&mut node, &links, &mut next_hops, &mut believed).await;
        let name = node.name.clone();
        match open(node, &config, &interfaces, &links, &state, &start) {
            Ok((node, server)) => {
                made.0 = None;
                let is_adopted = matches!(start, Start::Adopt { .. });
                let socket = config.api.socket.display();
                tracing::info!(node = name, %epoch, is_adopted, %socket, "ready");
                if held > 0 {
                    let node = Arc::clone(&node);
                    tokio::task::spawn_blocking(move || {
                        release_all(&node, "an earlier daemon held them");
                    });
                }
                let new_links = tokio::spawn(follow_links(Arc::clone(&node), new_links));
                Ok(Self {
                    config,
                    options,
                    node,
                    links,
                    next_hops,
                    new_links,
                    believed,
                    _server: server,
                    state,
                })
            }
            Err(error) => {
                // What was recorded holds for whoever comes next, if its program is attached.
                if is_left_attached(&config) {
                    made.0 = None;
                } else if made.0.is_some() {
                    forget(&state);
                }
                stop(next_hops).await;
                Err(error)
            }
        }
    }

    /// Keeps the fence open and the next hops right until `stop` is ready; then shuts the fence
    /// and takes everything out of the kernel, or with [`Options::stay`] leaves everything there.
    ///
    /// # Errors
    /// When netlink fails. Then everything stays as it is: pinned programs go on forwarding for the
    /// next daemon to take over, and the fence shuts at its deadline.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), LostTrack> {
        let mut stop_now = std::pin::pin!(stop);
        let mut doubt = std::pin::pin!(tokio::time::sleep(BELIEF));
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
                () = &mut doubt, if !self.believed.is_empty() => {
                    for node in std::mem::take(&mut self.believed) {
                        let lost = NextHopChange { node, next_hop: None };
                        follow(&mut lock(&self.node), &self.links, lost);
                    }
                }
                change = self.next_hops.changed() => match change {
                    Some(change) => {
                        self.believed.remove(&change.node);
                        follow(&mut lock(&self.node), &self.links, change);
                    }
                    None => {
                        lock(&self.node).abandon_capture();
                        self.end_holds().await;
                        return Err(LostTrack(self.next_hops.stop().await.err()));
                    }
                },
            }
        }
        self.new_links.abort();
        lock(&self.node).abandon_capture();
        self.end_holds().await;
        if self.options.stay {
            // The whole lease for the successor.
            lock(&self.node).renew();
            tracing::info!("stopping; program, tables and lease stay for the next daemon");
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
}

impl Daemon {
    /// Nothing that is held is lost with the daemon's memory; the lease is renewed meanwhile.
    async fn end_holds(&self) {
        let node = Arc::clone(&self.node);
        let mut over = tokio::task::spawn_blocking(move || end_holds(&node));
        let mut renew = tokio::time::interval(self.config.fence.renew);
        loop {
            tokio::select! {
                ended = &mut over => return ended.unwrap_or_else(|panic| {
                    tracing::error!(%panic, "releasing what is held failed");
                }),
                _ = renew.tick() => lock(&self.node).renew(),
            }
        }
    }
}

fn collect_events(node: &Mutex<Node>) {
    let mut node = lock(node);
    node.expire_capture();
    if let Err(error) = node.collect_events() {
        tracing::warn!(%error, "what was refused cannot be told");
    }
}

/// A folder of pins that this daemon made; removed unless something is attached to go with it.
struct Made(Option<MapFolder>);

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(folder) = &self.0 {
            remove(folder);
        }
    }
}

fn remove(folder: &MapFolder) {
    if let Err(error) = folder.remove() {
        let folder = folder.path().display();
        tracing::error!(%folder, %error, "the tables' pins are still there: remove them");
    }
}

fn forget(state: &StateFolder) {
    if let Err(error) = state.forget_incarnation() {
        tracing::error!(%error, "the record of this incarnation is still there");
    }
}

/// Whether any link is pinned; also if that cannot be told.
fn is_left_attached(config: &Config) -> bool {
    config.pins.enabled && pins::has_links(config).unwrap_or(true)
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
    links: &Links,
    state: &StateFolder,
    start: &Start,
) -> Result<(Arc<Mutex<Node>>, Server), StartError> {
    // A successor relies on the record as soon as anything is attached.
    record(&node, config, state)?;
    if let Err(error) = attach(&mut node, config, interfaces) {
        give_up(&mut node, start);
        return Err(error);
    }
    retire_folders(config, node.dataplane.map_folder());
    let keep: Vec<u8> = links.values().map(|(link, _)| *link).collect();
    if let Err(error) = node.dataplane.forget_links_but(&keep) {
        tracing::warn!(%error, "links of before are not forgotten yet");
    }
    let node = Arc::new(Mutex::new(node));
    let handler = Arc::clone(&node);
    let server = Server::start(&config.api.socket, config.api.mode, move |request, fd| {
        answer(&handler, &request, fd.as_ref())
    });
    match server {
        Ok(server) => Ok((node, server)),
        Err(error) => {
            give_up(&mut lock(&node), start);
            Err(error.into())
        }
    }
}

/// Records this incarnation, if its tables are pinned.
fn record(node: &Node, config: &Config, state: &StateFolder) -> Result<(), StartError> {
    let Some(folder) = node.dataplane.map_folder() else {
        return Ok(());
    };
    let (index, revision) = (config.this_node().index, config.revision.get());
    let maps = node.dataplane.map_ids()?;
    let incarnation = Incarnation::new(index, node.fence.epoch(), revision, folder.path(), maps);
    state.record(&incarnation.map_err(StartError::Boot)?)?;
    Ok(())
}

/// Shuts the fences of earlier incarnations and forgets their tables.
fn retire_folders(config: &Config, ours: Option<&MapFolder>) {
    let folders = pins::map_folders(config).unwrap_or_default();
    for folder in folders.iter().filter(|folder| Some(*folder) != ours) {
        if let Err(error) = shut_pinned(folder) {
            let folder = folder.path().display();
            tracing::warn!(%folder, %error, "an earlier fence could not be shut");
        }
        remove(folder);
    }
}

/// What a node starts from.
struct Loaded {
    dataplane: Dataplane,
    epoch: Epoch,
    sessions: Registry,
    /// Those of them that an earlier daemon held.
    held: BTreeSet<SessionId>,
}

fn load_or_adopt(
    config: &Config,
    options: LoadOptions,
    state: &StateFolder,
    start: &Start,
) -> Result<Loaded, StartError> {
    match start {
        Start::New { folder, .. } => {
            let maps = folder.as_ref().map_or(Maps::Unpinned, Maps::New);
            let mut dataplane = Dataplane::load_with(options, maps)?;
            publish_services(&mut dataplane, config)?;
            let (sessions, held) = (Registry::new(), BTreeSet::new());
            Ok(Loaded { dataplane, epoch: state.next_epoch()?, sessions, held })
        }
        Start::Adopt { incarnation, epoch, folder } => {
            let mut dataplane = Dataplane::load_with(options, Maps::Adopted(folder))?;
            takeover::check(&dataplane, config, incarnation)?;
            let bits = bits_for(config.sessions.capacity);
            let recovered = recover(&dataplane.memory, bits, &config.services(), *epoch);
            dataplane.sessions = recovered.table;
            let (sessions, removed) = (recovered.sessions, recovered.removed);
            let version = &incarnation.version;
            tracing::info!(%epoch, sessions = sessions.len(), version, "taken over");
            if removed > 0 {
                tracing::warn!(removed, "entries of requests that were not finished are removed");
            }
            let held = recovered.held;
            Ok(Loaded { dataplane, epoch: *epoch, sessions, held })
        }
    }
}

/// Starts the keeper of held packets; how many sessions an earlier daemon held. Without a keeper the
/// node works, but holds nothing.
fn start_keeper(node: &mut Node, config: &Config, held: &BTreeSet<SessionId>) -> usize {
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    let config::Hold { per_session, total, pace, .. } = config.hold;
    let options = hold::Options {
        bounds: Bounds { per_session: bytes(per_session), total: bytes(total) },
        pace,
        underlay: config.this_node().address,
        services: config.services(),
    };
    match node.start_keeper(&options, held) {
        Ok(0) => 0,
        Ok(sessions) => {
            tracing::warn!(
                sessions,
                "an earlier daemon held sessions: they are released here, with what is in the ring; \
                 what it had taken out of the ring is lost"
            );
            sessions
        }
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            let causes = std::iter::successors(Some(error), |error| error.source());
            let causes: Vec<_> = causes.map(ToString::to_string).collect();
            let mut warning = format!("sessions cannot be held: {}", causes.join(": "));
            if !held.is_empty() {
                let sessions = held.len();
                warning += &format!("; what waited of {sessions} that were held is lost");
            }
            tracing::warn!("{warning}");
            node.warnings.push(warning);
            0
        }
    }
}

/// Takes the next hops for known that an earlier daemon knew.
fn believe(node: &mut Node, links: &Links) -> BTreeSet<NodeIndex> {
    let mut believed = BTreeSet::new();
    let others: BTreeSet<_> = node.others().collect();
    for peer in node.peers.iter_mut().filter(|peer| others.contains(&peer.index)) {
        let hop = node.dataplane.node(peer.index).next_hop();
        if !hop.is_known() {
            continue;
        }
        believed.insert(peer.index);
        let link = links.values().find(|(link, _)| *link == hop.link());
        peer.hop = link.map(|(_, name)| (hop.mac(), name.clone()));
    }
    believed
}

/// Waits until the way to every node is known, though not for long: a node may be down. A daemon
/// that takes over from another would else drop what that one forwarded.
async fn learn(
    node: &mut Node,
    links: &Links,
    next_hops: &mut NextHops,
    believed: &mut BTreeSet<NodeIndex>,
) {
    let mut unknown: BTreeSet<_> = node.others().collect();
    let end = Instant::now() + LEARNING;
    while !unknown.is_empty() {
        let Ok(Some(change)) = timeout_at(end, next_hops.changed()).await else {
            return;
        };
        if change.next_hop.is_some() {
            unknown.remove(&change.node);
        }
        believed.remove(&change.node);
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

fn load_options(config: &Config, log_packets: bool) -> LoadOptions {
    LoadOptions {
        object: Object::Daemon,
        sessions: config.sessions.capacity,
        cpus: config.sessions.cpus.clone(),
        queue: config.sessions.queue,
        bindings: config.services.iter().any(|service| service.enforces_binding),
        hold_ring: config.hold.ring,
        log_packets,
    }
}

fn build(
    config: &Config,
    mut dataplane: Dataplane,
    rows: &[LinkRow],
    epoch: Epoch,
    sessions: Registry,
) -> Result<(Node, Links), StartError> {
    let this = config.this_node();
    let services = config.services();
    let numbers = dataplane.publish_links(rows).map_err(StartError::Publish)?;
    let names = config.interfaces.iter().map(|interface| interface.name.clone());
    let links: Links =
        rows.iter().map(|row| row.ifindex).zip(numbers.into_iter().zip(names)).collect();
    let others = config.nodes.iter().filter(|node| node.name != config.node).map(|node| {
        let allowed = links
            .iter()
            .filter(|(_, (_, name))| node.interface.as_ref().is_none_or(|only| only == name));
        (node.index, (node.address, allowed.map(|(ifindex, _)| *ifindex).collect()))
    });
    let others = others.collect();
    dataplane.publish_nodes(&others).map_err(StartError::Publish)?;
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
        sessions,
    };
    let mut node = Node::new(parts, &config.placement()?);
    let ended = node.end_moved();
    if ended > 0 {
        tracing::warn!(
            ended,
            "sessions have ended: the placement gives their slots to other nodes"
        );
    }
    Ok((node, links))
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
    if let Err(errors) = node.egress.adjust(&mut node.dataplane, interfaces) {
        return Err(errors.into_iter().next().expect("at least one error"));
    }
    report(&pins::links(config), node.egress.sweep(config, interfaces));
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
    let folder = pins::links(config);
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

/// After a failed start: takes away what it attached, and leaves what forwarded before it; and in an
/// epoch that it did not begin, the lease.
fn give_up(node: &mut Node, start: &Start) {
    if let Start::New { .. } = start {
        node.shut();
    }
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
