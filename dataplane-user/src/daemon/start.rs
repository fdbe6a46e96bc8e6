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
    cluster::{self, Backend, Lease, Unresumable, Watcher},
    config::Config,
    dataplane::{Dataplane, LoadOptions, fence::FenceKeeper, links::Whereabouts, object::Object},
    hold::{self, Bounds},
    metrics::{Instruments, Listener, Source},
    neighbours::{Interfaces, LinkChanges, NextHops, Targets, Upkeep},
    node::{Incarnation, Node, Parts, Peer, Registry, StateFolder, answer, lock, release_all},
    preflight,
    takeover::{self, Reason, Start},
};
use dataplane_ebpf::node::LinkRow;
use ownership::{Epoch, NodeIndex, SessionId, lease::LeaseTimes, store::Identity};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

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
        let this = config.this_node();
        let instruments = Instruments::default();
        let listener = match config.metrics.listen {
            Some(address) => Some(Listener::bind(address).await?),
            None => None,
        };
        let backend = Backend::open(&config.store, this.index, state.seen()?).await?;
        let backend = Arc::new(backend.timed_by(instruments.clone()));
        let times = cluster::times(&config.fence);
        let (start, resumed) = resume(&config, start, &backend, times).await?;
        let mut made = Made(None);
        if let Start::New { folder, over_another } = &start {
            made.0.clone_from(folder);
            if *over_another {
                tracing::warn!("the sessions of the daemon before this one end with its epoch");
            }
        }
        let Loaded { dataplane, sessions, held } = load_or_adopt(&config, load, &start)?;
        let mut lease = match resumed {
            Some(lease) => lease,
            // As late as can be: from here on the lease runs.
            None => Lease::register(Arc::clone(&backend), this.index, &this.name, times).await?,
        };
        let identity = lease.identity();
        let epoch = identity.owner.epoch;
        let (mut node, links) = build(&config, dataplane, &rows, identity, sessions)?;
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
        lease.open().await?;
        state.keep_seen(lease.seen())?;
        node.arm(lease.deadline());
        let others = config.nodes.iter().filter(|node| node.name != config.node);
        let targets = Targets {
            nodes: others.map(|node| (node.index, node.address)).collect(),
            underlay: links.keys().copied().collect(),
        };
        let mut next_hops = NextHops::start(targets, Upkeep::Managed)?;
        let mut believed = believe(&mut node, &links);
        learn(&mut node, &links, &mut next_hops, &mut believed).await;
        let name = node.name.clone();
        let state = Arc::new(state);
        let (reloader, reloads) = Reloader::new();
        let asked = reloader.clone();
        match open(node, identity, &config, (&interfaces, &links), &state, &start, asked) {
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
                let keeper = lease.keep(Arc::clone(&node), Arc::clone(&state));
                let watcher = Watcher::start(backend, Arc::clone(&node), times);
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
                    _watcher: watcher,
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
}

/// Whether the epoch of an earlier daemon goes on, which the store has to bear out; else a new one begins,
/// with new tables.
async fn resume(
    config: &Config,
    start: Start,
    backend: &Arc<Backend>,
    times: LeaseTimes,
) -> Result<(Start, Option<Lease>), StartError> {
    let Start::Adopt { incarnation, pinned, .. } = &start else {
        return Ok((start, None));
    };
    match Lease::resume(Arc::clone(backend), *pinned, times).await? {
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
fn open(
    mut node: Node,
    identity: Identity,
    config: &Config,
    (interfaces, links): (&Interfaces, &Links),
    state: &StateFolder,
    start: &Start,
    reloader: Reloader,
) -> Result<(Arc<Mutex<Node>>, Server), StartError> {
    // A successor relies on the record as soon as anything is attached.
    record(&node, identity, config, state)?;
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
    let server =
        Server::start(&config.api.socket, config.api.mode, move |request, fd| match request {
            Request::Reload => reloader.answer(),
            request => answer(&handler, &request, fd.as_ref()),
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
fn record(
    node: &Node,
    identity: Identity,
    config: &Config,
    state: &StateFolder,
) -> Result<(), StartError> {
    let Some(folder) = node.dataplane.map_folder() else {
        return Ok(());
    };
    let maps = node.dataplane.map_ids()?;
    let incarnation = Incarnation::new(identity, config.revision.get(), folder.path(), maps);
    state.record(&incarnation.map_err(StartError::Boot)?)?;
    Ok(())
}

/// Starts the keeper of held packets; how many sessions an earlier daemon held. Without a keeper the
/// node works, but holds nothing.
fn start_keeper(node: &mut Node, config: &Config, held: &BTreeSet<SessionId>) -> usize {
    let options = hold::Options {
        bounds: Bounds::of(&config.hold),
        pace: config.hold.pace,
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
