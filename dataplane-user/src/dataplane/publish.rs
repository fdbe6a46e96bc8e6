//! What is published once, or seldom: identity, services, placement and nodes.

use super::{Dataplane, services::Service};
use dataplane_ebpf::{
    local::Identity,
    node::{Address, NodeRow},
    service::{SERVICE_ROWS, ServiceRow},
    slot::SlotWord,
    table::bits_for,
    word::Word,
};
use ownership::{NodeIndex, Placement};
use std::net::IpAddr;

impl Dataplane {
    /// Says which node this is. The last step: from here on the program decides.
    pub fn set_identity(&self, node: NodeIndex) {
        self.memory.local_row().set_identity(Identity {
            node: node.get(),
            bucket_bits: bits_for(self.options.sessions),
            cpus: self.options.cpus.len() as u16,
        });
    }

    /// Publishes the addresses and ports of all services; see [`super::services::rows`].
    ///
    /// # Panics
    ///
    /// If rows were published before: services do not change while the program runs.
    pub fn set_services(&mut self, seed: u64, rows: &[ServiceRow]) {
        assert_eq!(self.memory.local_row().service_seed(), 0, "services are published once");
        for row in rows {
            let index = dataplane_ebpf::service::row_index(row.address, row.port, seed);
            self.memory.services.set(index as usize, *row);
        }
        self.memory.local_row().set_service_seed(seed);
    }

    /// Bounds what a service takes anew, while the program runs: a packet in that moment may meet the rate of
    /// one limit and the burst of the other.
    pub fn set_limits(&mut self, service: &Service) {
        let seed = self.memory.local_row().service_seed();
        for row in service.rows() {
            let index = dataplane_ebpf::service::row_index(row.address, row.port, seed);
            self.memory.set_limit(index as usize, row.limit);
        }
    }

    /// Whether these are the services that are published; or a row that is wanted and not there, or
    /// there and not wanted.
    pub fn compare_services(&self, seed: u64, rows: &[ServiceRow]) -> Result<(), ForeignRow> {
        let found: Vec<ServiceRow> = (0..SERVICE_ROWS)
            .filter_map(|index| self.memory.services.get(index).copied())
            .filter(|row| *row != ServiceRow::EMPTY)
            .collect();
        let missing = rows.iter().find(|row| !found.contains(row));
        let left_over = found.iter().find(|row| !rows.contains(row));
        match (missing, left_over) {
            (Some(row), _) => Err(ForeignRow::Missing(row.service)),
            (None, Some(row)) => Err(ForeignRow::LeftOver(row.service)),
            // The seed follows from the rows.
            _ if self.memory.local_row().service_seed() != seed => Err(ForeignRow::Missing(0)),
            _ => Ok(()),
        }
    }

    /// The CPUs that take new sessions.
    pub fn cpus(&self) -> Vec<u32> {
        let count = self.memory.local_row().identity().cpus as usize;
        (0..count).filter_map(|index| Some(*self.memory.cpus.get(index)? as u32)).collect()
    }

    /// Publishes a placement; each slot changes in one store, and keeps its revision if its owners
    /// stay.
    pub fn set_placement(&self, placement: &Placement) {
        for (slot, owners) in placement.slots().iter().enumerate() {
            let word = self.memory.slots.get(slot).expect("a word for each slot");
            let old = SlotWord::from_bits(word.load());
            let index = |node: Option<NodeIndex>| node.map_or(0, NodeIndex::get);
            let (owner, previous) = (index(owners.owner), index(owners.previous));
            if (old.owner(), old.previous()) != (owner, previous) {
                let new = SlotWord::new(owner, previous, placement.revision().get());
                word.store(new.with_rows(old.has_rows()).bits());
            }
        }
    }

    /// The row of a node, whose next hop and epoch change in single stores.
    pub fn node(&self, node: NodeIndex) -> &NodeRow {
        self.memory.nodes.get(node.get() as usize).expect("a row for each node")
    }
}

/// A row of the service table that is not as wanted, with its service's index; 0 is the underlay
/// address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignRow {
    /// It is wanted and not there.
    Missing(u16),
    /// It is there and not wanted.
    LeftOver(u16),
}

/// An address as the tables hold it: IPv4 mapped into IPv6.
pub fn wire_address(address: IpAddr) -> Address {
    Address::from_bytes(match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    })
}
