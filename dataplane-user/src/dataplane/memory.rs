//! All tables of a node as userspace sees them: the same memory that the program reads.

use super::region::{Region, Shared};
use aya::{Ebpf, maps::Map};
use dataplane_ebpf::{
    binding::BindingRow,
    explain::Words,
    limit::{LIMITS, Limit},
    local::LocalRow,
    node::{LINKS, LinkRow, NODES, NodeRow},
    service::{SERVICE_ROWS, ServiceRow},
    slot::{SLOTS, SlotWord},
    table::{BUCKET_BITS, Bucket, DetailRow, WAYS, buckets},
    tables::Tables,
    wire_id_row::WireIdRow,
    word::{MapWord, Word},
};
use std::{
    io,
    os::fd::AsFd,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

/// CPUs that can be delivered to.
pub const CPUS: usize = 1024;

/// The tables.
///
/// One writer at a time: the plain rows need `&mut`, and the session table has a writer of its own
/// ([`super::sessions::SessionTable`]).
pub struct Memory {
    /// See [`LocalRow`]; one row.
    pub local: Region<LocalRow>,
    /// See [`ServiceRow`].
    pub services: Region<ServiceRow>,
    /// Words of [`SlotWord`].
    pub slots: Region<MapWord>,
    /// Buckets of the session table, then its stash.
    pub sessions: Region<Bucket>,
    /// A row for each way of the session table.
    pub details: Region<DetailRow>,
    /// The wire id of each way of the session table.
    pub wire_ids: Region<WireIdRow>,
    /// A row for each way of the session table, or one if no service enforces bindings.
    pub bindings: Region<BindingRow>,
    /// Buckets of the table of clients, then its stash; the smallest if no service enforces
    /// bindings.
    pub clients: Region<Bucket>,
    /// See [`NodeRow`]; the index is the node's.
    pub nodes: Region<NodeRow>,
    /// See [`LinkRow`].
    pub links: Region<LinkRow>,
    /// The CPUs that take new sessions.
    pub cpus: Region<u64>,
    /// Token buckets of source prefixes.
    pub limits: Region<MapWord>,
    /// What the program `explain` found; one row.
    pub explained: Region<Words>,
    jiffies: AtomicU64,
}

impl Memory {
    /// Tables that no program sees, with `2^bucket_bits` primary buckets.
    pub fn anonymous(bucket_bits: u8) -> io::Result<Self> {
        let buckets = buckets(bucket_bits) as usize;
        Ok(Self {
            local: Region::anonymous(1)?,
            services: Region::anonymous(SERVICE_ROWS)?,
            slots: Region::anonymous(SLOTS)?,
            sessions: Region::anonymous(buckets)?,
            details: Region::anonymous(buckets * WAYS)?,
            wire_ids: Region::anonymous(buckets * WAYS)?,
            bindings: Region::anonymous(buckets * WAYS)?,
            clients: Region::anonymous(buckets)?,
            nodes: Region::anonymous(NODES)?,
            links: Region::anonymous(LINKS)?,
            cpus: Region::anonymous(CPUS)?,
            limits: Region::anonymous(LIMITS)?,
            explained: Region::anonymous(1)?,
            jiffies: AtomicU64::new(0),
        })
    }

    /// The tables of a loaded object.
    pub(super) fn of_maps(ebpf: &Ebpf, bucket_bits: u8, bindings: bool) -> io::Result<Self> {
        let buckets = buckets(bucket_bits) as usize;
        let (binding_rows, client_buckets) = binding_sizes(bucket_bits, bindings);
        Ok(Self {
            local: map(ebpf, "LOCAL", 1)?,
            services: map(ebpf, "SERVICES", SERVICE_ROWS)?,
            slots: map(ebpf, "SLOTS", SLOTS)?,
            sessions: map(ebpf, "SESSIONS", buckets)?,
            details: map(ebpf, "DETAILS", buckets * WAYS)?,
            wire_ids: map(ebpf, "WIRE_IDS", buckets * WAYS)?,
            bindings: map(ebpf, "BINDINGS", binding_rows as usize)?,
            clients: map(ebpf, "CLIENTS", client_buckets as usize)?,
            nodes: map(ebpf, "NODES", NODES)?,
            links: map(ebpf, "LINKS", LINKS)?,
            cpus: map(ebpf, "CPU_LIST", CPUS)?,
            limits: map(ebpf, "LIMITS", LIMITS)?,
            explained: map(ebpf, "EXPLAINED", 1)?,
            jiffies: AtomicU64::new(0),
        })
    }

    /// The node's own row.
    pub fn local_row(&self) -> &LocalRow {
        self.local.get(0).expect("the map has one row")
    }

    /// Sets the time that decisions in userspace see, in jiffies.
    pub fn set_jiffies(&self, jiffies: u64) {
        self.jiffies.store(jiffies, Ordering::Relaxed);
    }
}

/// Rows of the bindings and buckets of the clients, with or without a service that enforces them.
pub(crate) fn binding_sizes(bucket_bits: u8, bindings: bool) -> (u32, u32) {
    let all = buckets(bucket_bits);
    if bindings { (all * WAYS as u32, all) } else { (1, buckets(*BUCKET_BITS.start())) }
}

fn map<T: Shared>(ebpf: &Ebpf, name: &str, length: usize) -> io::Result<Region<T>> {
    let Some(Map::Array(data)) = ebpf.map(name) else {
        return Err(io::Error::other(format!("the object has no array map {name}")));
    };
    let info = data.info().map_err(io::Error::other)?;
    let (entries, size) = (info.max_entries() as usize, info.value_size() as usize);
    if entries != length || size != size_of::<T>() {
        return Err(io::Error::other(format!(
            "map {name} has {entries} values of {size} bytes, expected {length} of {}: the object \
             and this program are of different versions",
            size_of::<T>(),
        )));
    }
    Region::of_map(data.fd().as_fd(), length)
}

impl Memory {
    /// Replaces a service row's limit, which the program may be reading.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn set_limit(&mut self, row: usize, limit: Limit) {
        let row = self.services.pointer(row).expect("a row of the table");
        // SAFETY: within the mapping, which lives as long as `self`; a limit is two aligned 32-bit words,
        // any of which are one, and `&mut self` keeps others in this process away. The program reads each
        // in one load.
        unsafe { (&raw mut (*row.as_ptr()).limit).cast::<[AtomicU32; 2]>().as_ref() }
            .expect("it lies in a row")
            .iter()
            .zip(limit.words())
            .for_each(|(word, value)| word.store(value, Ordering::Relaxed));
    }
}

impl Tables for Memory {
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

    fn detail(&self, index: u32) -> Option<&DetailRow> {
        self.details.get(index as usize)
    }

    fn binding(&self, index: u32) -> Option<&BindingRow> {
        self.bindings.get(index as usize)
    }

    fn clients(&self, bucket: u32) -> Option<&Bucket> {
        self.clients.get(bucket as usize)
    }

    fn node(&self, node: u16) -> Option<&NodeRow> {
        self.nodes.get(node as usize)
    }

    fn link(&self, link: u8) -> Option<&LinkRow> {
        self.links.get(link as usize)
    }

    fn cpu(&self, index: u32) -> Option<u32> {
        self.cpus.get(index as usize).map(|cpu| *cpu as u32)
    }

    fn limit(&self, index: u32) -> Option<&MapWord> {
        self.limits.get(index as usize)
    }

    fn jiffies(&self) -> u64 {
        self.jiffies.load(Ordering::Relaxed)
    }
}
