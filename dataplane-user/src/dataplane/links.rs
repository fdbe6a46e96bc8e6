//! Links and nodes, whose rows a running program may be reading when a daemon takes them over.

use super::{Dataplane, grace::grace_period, wire_address};
use dataplane_ebpf::node::{LINKS, LinkRow, NODE_INTERFACES, NODES, NextHop, NodeRow};
use ownership::NodeIndex;
use std::{collections::BTreeMap, io, net::IpAddr};

/// Where a node is: its underlay address, and the interfaces (by index, at most
/// [`dataplane_ebpf::node::NODE_INTERFACES`]) on which its packets may arrive.
pub type Whereabouts = (IpAddr, Vec<u32>);

impl Dataplane {
    /// Publishes a link under a number of its own; before the first node that uses it.
    pub fn set_link(&mut self, link: u8, row: LinkRow) {
        assert!((link as usize) < LINKS, "link {link}");
        self.memory.links.set(link as usize, row);
    }

    /// Publishes links and returns their numbers, which are below [`NODE_INTERFACES`]. A link that is
    /// published already keeps its number; others get numbers that no next hop uses, as long as there
    /// are some.
    ///
    /// # Errors
    /// When there are too many.
    pub fn publish_links(&mut self, rows: &[LinkRow]) -> io::Result<Vec<u8>> {
        let mut numbers = vec![None; rows.len()];
        for (number, row) in numbers.iter_mut().zip(rows) {
            *number = self.link_numbers().find(|&link| self.link_row(link) == row);
        }
        let free = self.link_numbers().filter(|&link| self.link_row(link).ifindex == 0).count();
        if free < numbers.iter().filter(|number| number.is_none()).count() {
            let known: Vec<u8> = numbers.iter().flatten().copied().collect();
            self.forget_links_but(&known)?;
        }
        for (number, row) in numbers.iter_mut().zip(rows).filter(|(number, _)| number.is_none()) {
            let free = self.link_numbers().find(|&link| self.link_row(link).ifindex == 0);
            let free = free.ok_or_else(|| io::Error::other("too many links"))?;
            self.set_link(free, *row);
            *number = Some(free);
        }
        Ok(numbers.into_iter().flatten().collect())
    }

    /// Forgets links that are wanted no more. Packets for nodes behind them are dropped from then on.
    pub fn forget_links_but(&mut self, keep: &[u8]) -> io::Result<()> {
        let is_stale = |link: &u8| !keep.contains(link) && self.link_row(*link).ifindex != 0;
        let stale: Vec<u8> = self.link_numbers().filter(is_stale).collect();
        if stale.is_empty() {
            return Ok(());
        }
        for index in 0..self.memory.nodes.len() {
            let row = self.memory.nodes.get(index).expect("a row for each node");
            if row.next_hop().is_known() && stale.contains(&row.next_hop().link()) {
                row.set_next_hop(NextHop::UNKNOWN);
            }
        }
        grace_period()?;
        for link in stale {
            self.memory.links.set(link as usize, LinkRow::EMPTY);
        }
        Ok(())
    }

    /// The number of the link that is the interface with this index.
    pub fn link_of(&self, ifindex: u32) -> Option<u8> {
        self.link_numbers().find(|&link| self.link_row(link).ifindex == ifindex)
    }

    /// The numbers that links get; [`dataplane_ebpf::xsk`] finds no others.
    fn link_numbers(&self) -> impl Iterator<Item = u8> + use<> {
        0..NODE_INTERFACES as u8
    }

    fn link_row(&self, link: u8) -> &LinkRow {
        self.memory.links.get(link as usize).expect("a row for each link")
    }

    /// Publishes a node that has no row yet.
    pub fn set_node(&mut self, node: NodeIndex, address: IpAddr, interfaces: &[u32]) {
        self.write_node(node, &node_row(address, interfaces), NextHop::UNKNOWN, 0);
    }

    /// Publishes these nodes and no others. A node that is published already, as it is wanted, is not
    /// touched; the packets of one that has changed are refused for a moment.
    ///
    /// # Errors
    ///
    /// If the kernel cannot say when nobody reads a row any more. Then nothing has changed.
    pub fn publish_nodes(&mut self, wanted: &BTreeMap<NodeIndex, Whereabouts>) -> io::Result<()> {
        let mut retracted = Vec::new();
        for index in 1..NODES as u16 {
            let row = self.memory.nodes.get(index as usize).expect("a row for each node");
            let wanted = NodeIndex::new(index).ok().and_then(|index| wanted.get(&index));
            let stays = wanted.is_some_and(|(address, interfaces)| {
                let new = node_row(*address, interfaces);
                (new.address, new.interfaces) == (row.address, row.interfaces)
            });
            if row.is_present() && !stays {
                row.set_present(false);
                retracted.push(index);
            }
        }
        if !retracted.is_empty()
            && let Err(error) = grace_period()
        {
            // They are as they were.
            for index in retracted {
                let row = self.memory.nodes.get(index as usize).expect("a row for each node");
                row.set_present(true);
            }
            return Err(error);
        }
        for (&node, (address, interfaces)) in wanted {
            let old = self.node(node);
            if !old.is_present() {
                let (next_hop, epoch) = (old.next_hop(), old.epoch());
                self.write_node(node, &node_row(*address, interfaces), next_hop, epoch);
            }
        }
        Ok(())
    }

    fn write_node(&mut self, node: NodeIndex, row: &NodeRow, next_hop: NextHop, epoch: u32) {
        let mut new = NodeRow::empty();
        (new.address, new.interfaces) = (row.address, row.interfaces);
        new.set_next_hop(next_hop);
        new.set_epoch(epoch);
        self.memory.nodes.set(node.get() as usize, new);
        self.node(node).set_present(true);
    }
}

fn node_row(address: IpAddr, interfaces: &[u32]) -> NodeRow {
    let mut row = NodeRow::empty();
    row.address = wire_address(address);
    row.interfaces[..interfaces.len()].copy_from_slice(interfaces);
    row
}
