//! Starting: load the data plane or take over an earlier daemon's, open the fence, attach, listen.

use super::{
    Daemon, Options, StartError,
    attach::{attach, detach, is_left_attached},
    egress,
    next_hops::{Links, believe, learn, link_rows},
    reload::Reloader,
    stop,
    tables::{Loaded, Made, forget, load_or_adopt, retire_folders},
};
use crate::{
    api::{Request, Server},
    cluster::{self, Backend, Beacon, Lease, Unresumable},
    config::Config,
    control_port::ControlPorts,
    dataplane::{Dataplane, LoadOptions, fence::FenceKeeper, links::Whereabouts, object::Object},
    hold::{self, Bounds},
    metrics::{Instruments, Listener, Source},
    neighbours::{Interfaces, LinkChanges, NextHops, Targets, Upkeep},
    node::{Incarnation, Node, Parts, Peer, Registry, Sessions, StateFolder, answer, lock},
    preflight,
    runtime::{PlaceError, Runtime, Settings, Stores, first_placement},
    secrets, sessions_api,
    takeover::{self, Reason, Start},
};
use dataplane_ebpf::node::LinkRow;
use ownership::{
    Epoch, NodeIndex, SessionId,
    store::{Identity, PlacementRow},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};
use tokio::runtime::Handle;

impl Daemon {
    /// Loads the data plane or takes over that of an earlier daemon, opens the fence, attaches the
    /// program and listens. Needs root, and a tokio runtime on a thread in the node's network
    /// namespace.
    pub async fn start(config: Config, options: Options) -> Result<Self, StartError> {
        Self::start_in(config, options, None).await
    }

    /// [`Daemon::start`] with stores that are open already, whatever the configuration names: for several nodes in
    /// one process, which share one.
    pub async fn start_in(
        config: Config,
        options: Options,
        stores: Option<Stores>,
    ) -> Result<Self, StartError> {
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
        sessions_api::Server::check(&config)?;
        let load = load_options(&config, options.log_packets);
        let start = takeover::look(&config, &state, &load, options.fresh)?;
        let this = config.this_node();
        let instruments = Instruments::default();
        let listener = match config.metrics.listen {
            Some(address) => Some(Listener::bind(address).await?),
            None => None,
        };
        let stores = match stores {
            Some(stores) => stores,
            None => Stores::open(&config, state.seen()?, &instruments).await?,
        };
        let directory = &stores.directory;
        let beacon = Arc::new(Beacon::new(cluster::times(&config.fence)));
        let (start, resumed) = resume(&config, start, directory, &beacon).await?;
        let mut made = Made(None);
        if let Start::New { folder, over_another } = &start {
            made.0.clone_from(folder);
            if *over_another {
                tracing::warn!(
                    "the sessions of the daemon before this one are lost with its epoch"
                );
            }
        }
        let Loaded { dataplane, sessions, held } = load_or_adopt(&config, load, &start)?;
        let is_resumed = resumed.is_some();
        let mut lease = match resumed {
            Some(lease) => lease,
            // As late as can be: from here on the lease runs.
            None => {
                let beacon = Arc::clone(&beacon);
                Lease::register(Arc::clone(directory), this.index, &this.name, beacon).await?
            }
        };
        let identity = lease.identity();
        let epoch = identity.owner.epoch;
        stores.copy_fence(identity).await.map_err(StartError::Resume)?;
        let placement = first_placement(&**directory, &config, identity).await?;
        let (mut node, links) = build(&config, dataplane, &rows, identity, &placement, sessions)?;
        if options.log_packets {
            node.dataplane.follow_log()?;
        }
        node.warnings = preflight::warnings(&config, &interfaces).await;
        let gaps = node.dataplane.losses.gaps.iter();
        node.warnings.extend(gaps.map(|gap| format!("not counted among what is lost: {gap}")));
        for warning in &node.warnings {
            tracing::warn!("{warning}");
        }
        start_keeper(&mut node, &config, &held);
        let control_ports = ControlPorts::open(&mut node, &config)?;
        let name = node.name.clone();
        let node = Arc::new(Mutex::new(node));
        let settings = Settings::new(&config, stores.strategy());
        let secrets = secrets::load(&config)?;
        let (of_runtime, of_beacon) = (Arc::clone(&node), Arc::clone(&beacon));
        let runtime = Runtime::new(
            settings,
            stores,
            identity,
            of_runtime,
            of_beacon,
            secrets,
            instruments.clone(),
        );
        runtime.begin(&placement).await.map_err(StartError::Resume)?;
        if is_resumed {
            runtime.resume().await.map_err(StartError::Resume)?;
        }
        lease.open().await?;
        state.keep_seen(lease.seen())?;
        lock(&node).arm(lease.deadline());
        let state = Arc::new(state);
        let keeper = lease.keep(Arc::clone(&node), Arc::clone(&state));
        let others = config.nodes.iter().filter(|node| node.name != config.node);
        let targets = Targets {
            nodes: others.map(|node| (node.index, node.address)).collect(),
            underlay: links.keys().copied().collect(),
        };
        let mut next_hops = NextHops::start(targets, Upkeep::Managed)?;
        let mut believed = believe(&mut lock(&node), &links);
        learn(&node, &links, &mut next_hops, &mut believed).await;
        runtime.settle_placement().await;
        let (reloader, reloads) = Reloader::new();
        let asked = reloader.clone();
        let way = (&interfaces, &links);
        match open(&node, &runtime, identity, &config, way, &state, &start, asked) {
            Ok((server, sessions_api)) => {
                made.0 = None;
                let is_adopted = matches!(start, Start::Adopt { .. });
                let socket = config.api.socket.display();
                tracing::info!(node = name, %epoch, is_adopted, %socket, "ready");
                let running = runtime.run();
                let control = control_ports.serve(&runtime, &node, &instruments);
                let new_links = tokio::spawn(egress::follow(Arc::clone(&node), new_links));
                let source = Source {
                    node: Arc::clone(&node),
                    instruments,
                    keeper: keeper.pulse(),
                    lease: config.fence.lease,
                };
                let metrics = listener.map(|listener| listener.serve(source.clone()));
                Ok(Self {
                    config,
                    options,
                    node,
                    runtime,
                    running: Some(running),
                    control: Some(control),
                    links,
                    next_hops,
                    new_links,
                    believed,
                    keeper,
                    metrics,
                    source,
                    origin: None,
                    reloader,
                    reloads,
                    _server: server,
                    sessions_api: Some(sessions_api),
                    state,
                })
            }
            Err(error) => {
                drop(keeper);
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
}

/// Whether the epoch of an earlier daemon goes on, which the store has to bear out; else a new one begins,
/// with new tables.
async fn resume(
    config: &Config,
    start: Start,
    directory: &Arc<Backend>,
    beacon: &Arc<Beacon>,
) -> Result<(Start, Option<Lease>), StartError> {
    let Start::Adopt { incarnation, pinned, .. } = &start else {
        return Ok((start, None));
    };
    match Lease::resume(Arc::clone(directory), *pinned, Arc::clone(beacon)).await? {
        Ok(lease) => Ok((start, Some(lease))),
        // A store that is behind the record: whether the epoch is over, nobody knows.
        Err(Unresumable { epoch, .. })
            if epoch.is_none_or(|epoch| epoch.get() < incarnation.epoch) =>
        {
            let (recorded, stored) = (incarnation.epoch, epoch.map(Epoch::get));
            Err(takeover::refused(config, Reason::Epoch { recorded, stored }).into())
        }
        Err(Unresumable { why, .. }) => {
            let epoch = incarnation.epoch;
            tracing::warn!(epoch, %why, "the epoch of the daemon before this one is over");
            Ok((takeover::anew(config, true)?, None))
        }
    }
}

/// Attaches the program and listens; on an error the node is as it was before.
#[expect(clippy::too_many_arguments, reason = "each is a part of what is opened, once")]
fn open(
    node: &Arc<Mutex<Node>>,
    runtime: &Arc<Runtime>,
    identity: Identity,
    config: &Config,
    (interfaces, links): (&Interfaces, &Links),
    state: &StateFolder,
    start: &Start,
    reloader: Reloader,
) -> Result<(Server, sessions_api::Server), StartError> {
    {
        let mut node = lock(node);
        // A successor relies on the record as soon as anything is attached.
        record(&node, identity, state)?;
        if let Err(error) = attach(&mut node, config, interfaces) {
            give_up(&mut node, start);
            return Err(error);
        }
        retire_folders(config, node.dataplane.map_folder());
        let keep: Vec<u8> = links.values().map(|(link, _)| *link).collect();
        if let Err(error) = node.dataplane.forget_links_but(&keep) {
            tracing::warn!(%error, "links of before are not forgotten yet");
        }
    }
    let handler = Arc::clone(node);
    let sessions = Sessions {
        runtime: Arc::clone(runtime),
        handle: Handle::current(),
        secrets: config.cluster.secrets.clone(),
    };
    let listen = || {
        // Whoever is answered at the other socket finds this one, too.
        let sessions_api = sessions_api::Server::start(config, Arc::clone(runtime))?;
        let server =
            Server::start(&config.api.socket, config.api.mode, move |request, fd| match request {
                Request::Reload => reloader.answer(),
                request => answer(&handler, &sessions, &request, fd.as_ref()),
            })?;
        Ok((server, sessions_api))
    };
    listen().inspect_err(|_| give_up(&mut lock(node), start))
}

/// Records this incarnation, if its tables are pinned.
fn record(node: &Node, identity: Identity, state: &StateFolder) -> Result<(), StartError> {
    let Some(folder) = node.dataplane.map_folder() else {
        return Ok(());
    };
    let maps = node.dataplane.map_ids()?;
    let incarnation = Incarnation::new(identity, folder.path(), maps);
    state.record(&incarnation.map_err(StartError::Boot)?)?;
    Ok(())
}

/// Starts the keeper of held packets. Without a keeper the node works, but holds nothing.
fn start_keeper(node: &mut Node, config: &Config, held: &BTreeSet<SessionId>) {
    let options = hold::Options {
        bounds: Bounds::of(&config.hold),
        pace: config.hold.pace,
        underlay: config.this_node().address,
        services: config.services(),
    };
    match node.start_keeper(&options, held) {
        Ok(()) if held.is_empty() => {}
        Ok(()) => {
            let sessions = held.len();
            tracing::warn!(
                sessions,
                "an earlier daemon held sessions: what it had taken out of the ring is lost"
            );
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
        }
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
    identity: Identity,
    placement: &PlacementRow,
    sessions: Registry,
) -> Result<(Node, Links), StartError> {
    let this = config.this_node();
    let services = config.services();
    let numbers = dataplane.publish_links(rows).map_err(StartError::Publish)?;
    let names = config.interfaces.iter().map(|interface| interface.name.clone());
    let links: Links =
        rows.iter().map(|row| row.ifindex).zip(numbers.into_iter().zip(names)).collect();
    dataplane.publish_nodes(&others(config, &links)).map_err(StartError::Publish)?;
    let jiffies = dataplane.jiffies()?;
    let fence = FenceKeeper::new(identity.owner.epoch, config.fence.margin, jiffies);
    let peers = config.nodes.iter().map(Peer::of);
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
    let placement = placement.placement().map_err(PlaceError::Corrupt)?;
    let node = Node::new(parts, &placement);
    Ok((node, links))
}

/// Where the other nodes are, and by which interfaces their packets may arrive.
pub(super) fn others(config: &Config, links: &Links) -> BTreeMap<NodeIndex, Whereabouts> {
    let others = config.nodes.iter().filter(|node| node.name != config.node).map(|node| {
        let allowed = links
            .iter()
            .filter(|(_, (_, name))| node.interface.as_ref().is_none_or(|only| only == name));
        (node.index, (node.address, allowed.map(|(ifindex, _)| *ifindex).collect()))
    });
    others.collect()
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
