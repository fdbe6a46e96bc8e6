//! From nodes to routes, from routes to neighbours, from neighbours to next hops.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ownership::NodeIndex;

use super::care::Carer;
use super::events::Scope;
use super::netlink::{Entry, Neighbour, Netlink, Route};
use super::{Error, Hop, NextHopChange, Targets, Upkeep};

/// Looks up next hops, and remembers what it has said of them.
pub(super) struct Resolver {
    netlink: Netlink,
    carer: Carer,
    /// The neighbour that leads to each node, as of the last look at routes.
    vias: BTreeMap<NodeIndex, Neighbour>,
    /// What was reported, without what is lost.
    reported: BTreeMap<NodeIndex, Hop>,
    /// The nodes whose unusable route has been warned of, until they have a usable one.
    warned: BTreeMap<NodeIndex, Route>,
}

impl Resolver {
    pub(super) fn new(netlink: Netlink, upkeep: Upkeep) -> Self {
        Self {
            carer: Carer::new(netlink.clone(), upkeep),
            netlink,
            vias: BTreeMap::new(),
            reported: BTreeMap::new(),
            warned: BTreeMap::new(),
        }
    }

    /// Looks, and returns what has changed since the last time.
    pub(super) async fn look(
        &mut self,
        scope: Scope,
        targets: &Targets,
    ) -> Result<Vec<NextHopChange>, Error> {
        if scope == Scope::Routes {
            self.look_up_routes(targets).await?;
        }
        let wanted: BTreeSet<_> = self.vias.values().copied().collect();
        let entries = self.entries(&wanted).await?;
        let asked = self.carer.tend(&wanted, &entries, scope == Scope::Routes).await;
        // The answer to a first request is often there already.
        let entries = if asked { self.entries(&wanted).await? } else { entries };
        self.carer.check(&entries);
        Ok(self.changes(&entries))
    }

    /// Whether a neighbour has not answered yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.vias.keys().any(|node| !self.reported.contains_key(node))
    }

    /// How neighbours are kept resolved, as far as is known by now.
    pub(super) fn upkeep(&self) -> Upkeep {
        self.carer.upkeep()
    }

    /// Leaves the kernel's neighbours as they would be without us.
    pub(super) async fn release(&mut self) {
        self.carer.release_all().await;
    }

    async fn look_up_routes(&mut self, targets: &Targets) -> Result<(), Error> {
        let mut vias = BTreeMap::new();
        for (&node, address) in &targets.nodes {
            let address = address.to_canonical();
            let route = self.netlink.route(address).await?;
            match route {
                Route::Via(via) if targets.underlay.contains(&via.ifindex) => {
                    vias.insert(node, via);
                    self.warned.remove(&node);
                }
                _ => self.warn(node, address, route).await,
            }
        }
        self.vias = vias;
        self.warned.retain(|node, _| targets.nodes.contains_key(node));
        Ok(())
    }

    /// Says once why a node has no next hop although there may be a route.
    async fn warn(&mut self, node: NodeIndex, address: IpAddr, route: Route) {
        if self.warned.insert(node, route) == Some(route) {
            return;
        }
        match route {
            Route::Via(via) => {
                let interfaces = self.netlink.interfaces().await.unwrap_or_default();
                let name = interfaces.indexed(via.ifindex).map_or_else(
                    || format!("the one with index {}", via.ifindex),
                    |interface| interface.name.clone(),
                );
                tracing::warn!(
                    %node, %address, interface = name,
                    "no packet is forwarded to node {node}: the route to {address} leaves by an \
                     interface that is not configured; add {name} to the configured interfaces, \
                     or mend the route (`ip route get {address}`)"
                );
            }
            Route::Local => tracing::warn!(
                %node, %address,
                "no packet is forwarded to node {node}: its address {address} is one of this host"
            ),
            Route::Unreachable => tracing::warn!(
                %node, %address,
                "no packet is forwarded to node {node}: there is no route to {address} now \
                 (`ip route get {address}`)"
            ),
        }
    }

    async fn entries(
        &self,
        wanted: &BTreeSet<Neighbour>,
    ) -> Result<BTreeMap<Neighbour, Entry>, Error> {
        let interfaces: BTreeSet<_> = wanted.iter().map(|neighbour| neighbour.ifindex).collect();
        let mut entries = BTreeMap::new();
        for ifindex in interfaces {
            entries.append(&mut self.netlink.neighbours(ifindex).await?);
        }
        entries.retain(|neighbour, _| wanted.contains(neighbour));
        Ok(entries)
    }

    fn changes(&mut self, entries: &BTreeMap<Neighbour, Entry>) -> Vec<NextHopChange> {
        let hop = |via: &Neighbour| {
            let mac = entries.get(via)?.mac?;
            Some(Hop { mac, ifindex: via.ifindex })
        };
        let found: BTreeMap<_, _> =
            self.vias.iter().filter_map(|(&node, via)| Some((node, hop(via)?))).collect();
        let nodes: BTreeSet<_> = self.reported.keys().chain(found.keys()).copied().collect();
        let changes = nodes
            .into_iter()
            .filter(|node| self.reported.get(node) != found.get(node))
            .map(|node| NextHopChange { node, next_hop: found.get(&node).copied() })
            .collect();
        self.reported = found;
        changes
    }
}
