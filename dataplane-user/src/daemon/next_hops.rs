//! The way to the other nodes: the underlay's interfaces, and the next hops that are found there.

use super::StartError;
use crate::{
    config::Config,
    dataplane::wire_address,
    neighbours::{Hop, Interfaces, NextHopChange, NextHops},
    node::{Node, lock},
};
use dataplane_ebpf::node::{LinkRow, NextHop};
use ownership::NodeIndex;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// How long the daemon waits for next hops before it attaches the program.
const LEARNING: Duration = Duration::from_millis(250);

/// The configured interfaces: index to link number and name.
pub(super) type Links = BTreeMap<u32, (u8, String)>;

/// The rows of the configured interfaces.
pub(super) fn link_rows(
    config: &Config,
    interfaces: &Interfaces,
) -> Result<Vec<LinkRow>, StartError> {
    let source = wire_address(config.this_node().address);
    let row = |name: &String| -> Result<LinkRow, StartError> {
        let interface = interfaces.named(name)?;
        let mac = interface.mac.ok_or_else(|| StartError::NoMac(name.clone()))?;
        let (ifindex, mtu) = (interface.ifindex, interface.mtu);
        Ok(LinkRow { ifindex, mtu, mac, source, ..LinkRow::EMPTY })
    };
    config.interfaces.iter().map(|interface| row(&interface.name)).collect()
}

/// Takes the next hops for known that an earlier daemon knew.
pub(super) fn believe(node: &mut Node, links: &Links) -> BTreeSet<NodeIndex> {
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
pub(super) async fn learn(
    node: &Mutex<Node>,
    links: &Links,
    next_hops: &mut NextHops,
    believed: &mut BTreeSet<NodeIndex>,
) {
    let mut unknown: BTreeSet<_> = lock(node).others().collect();
    let end = Instant::now() + LEARNING;
    while !unknown.is_empty() {
        let Ok(Some(change)) = timeout_at(end, next_hops.changed()).await else {
            return;
        };
        if change.next_hop.is_some() {
            unknown.remove(&change.node);
        }
        believed.remove(&change.node);
        follow(&mut lock(node), links, change);
    }
}

/// Publishes what has become of the way to a node.
pub(super) fn follow(node: &mut Node, links: &Links, change: NextHopChange) {
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
