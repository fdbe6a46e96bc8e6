//! What a port has got from the daemon: the node's tables, for reading, and its counters.

use super::tally::Tally;
use crate::{
    api::XskPlace,
    dataplane::{fence::open_for, memory::binding_sizes, region::Region},
};
use dataplane_ebpf::{
    abi::SCHEMA,
    binding::BindingRow,
    local::LocalRow,
    node::{LinkRow, NodeRow},
    service::{SERVICE_ROWS, ServiceRow},
    slot::{SLOTS, SlotWord},
    table::{BUCKET_BITS, Bucket, DetailRow, buckets},
    tables::Tables,
    word::{MapWord, Word},
};
use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

/// The tables and counters of a node.
pub(super) struct Registered {
    pub(super) tables: SharedTables,
    pub(super) tally: Tally,
    pub(super) services: BTreeMap<u16, String>,
}

/// The tables that decide about deliveries, mapped for reading.
pub(super) struct SharedTables {
    local: Region<LocalRow>,
    services: Region<ServiceRow>,
    slots: Region<MapWord>,
    sessions: Region<Bucket>,
    /// One row only if no service enforces bindings.
    bindings: Region<BindingRow>,
}

impl Registered {
    /// Maps what the daemon has sent.
    pub(super) fn new(place: XskPlace, fds: &[OwnedFd]) -> io::Result<Self> {
        let other = || io::Error::other("the daemon is of another version than this library");
        let [local, services, slots, sessions, bindings, counts] = fds else {
            return Err(other());
        };
        if place.schema != SCHEMA {
            return Err(other());
        }
        let local: Region<LocalRow> = Region::of_map_read_only(local.as_fd(), 1)?;
        let bits = local.get(0).map_or(0, |row| row.identity().bucket_bits);
        if !BUCKET_BITS.contains(&bits) {
            return Err(other());
        }
        let (rows, _) = binding_sizes(bits, place.bindings);
        Ok(Self {
            tables: SharedTables {
                local,
                services: Region::of_map_read_only(services.as_fd(), SERVICE_ROWS)?,
                slots: Region::of_map_read_only(slots.as_fd(), SLOTS)?,
                sessions: Region::of_map_read_only(sessions.as_fd(), buckets(bits) as usize)?,
                bindings: Region::of_map_read_only(bindings.as_fd(), rows as usize)?,
            },
            tally: Tally::new(counts.as_fd())?,
            services: place.services,
        })
    }

    /// How long the fence stays open; `None` if it is shut.
    pub(super) fn open_for(&self) -> Option<Duration> {
        open_for(self.tables.local.get(0)?)
    }
}

impl Tables for SharedTables {
    fn local(&self) -> Option<&LocalRow> {
        self.local.get(0)
    }

    fn service(&self, row: u32) -> Option<&ServiceRow> {
        self.services.get(row as usize)
    }

    fn slot(&self, slot: u16) -> Option<SlotWord> {
        self.slots.get(slot as usize).map(|word| SlotWord::from_bits(word.load()))
    }

    fn bucket(&self, bucket: u32) -> Option<&Bucket> {
        self.sessions.get(bucket as usize)
    }

    fn binding(&self, index: u32) -> Option<&BindingRow> {
        self.bindings.get(index as usize)
    }

    // What follows decides about routes, which is done when a packet comes here.

    fn detail(&self, _index: u32) -> Option<&DetailRow> {
        None
    }

    fn clients(&self, _bucket: u32) -> Option<&Bucket> {
        None
    }

    fn node(&self, _node: u16) -> Option<&NodeRow> {
        None
    }

    fn link(&self, _link: u8) -> Option<&LinkRow> {
        None
    }

    fn limit(&self, _index: u32) -> Option<&MapWord> {
        None
    }

    fn cpu(&self, _index: u32) -> Option<u32> {
        None
    }

    fn jiffies(&self) -> u64 {
        0
    }
}
