//! The loaded programs and their tables: everything of the daemon that touches the kernel's side.

pub mod attach;
pub mod bindings;
mod bpf;
pub mod bpf_link;
pub mod capture;
mod clients;
pub mod clock;
pub mod counters;
pub mod egress;
pub mod events;
pub mod explain;
pub mod fence;
pub mod grace;
pub mod inject;
pub mod kernel_counters;
pub mod kernel_types;
pub mod late;
pub mod links;
mod load;
pub mod losses;
pub mod memory;
pub mod object;
pub mod pinned;
pub mod predecessor;
pub mod probe;
mod publish;
pub mod recovery;
pub mod region;
pub mod services;
pub mod sessions;
pub mod shape;
pub mod simulate;
mod socket_array;
pub mod sockets;
pub mod xsk;

pub use clock::ClockError;
pub use load::{LoadError, LoadOptions, Maps};
pub(crate) use load::{OLDEST_KERNEL, parse_release};
pub use publish::{ForeignRow, wire_address};

use aya::{
    Ebpf,
    maps::{CpuMap, MapData, RingBuf, XskMap},
    programs::{ProgramError, SchedClassifier, Xdp},
};
use aya_log::EbpfLogger;
use capture::CaptureMaps;
use clients::ClientTable;
use counters::Counters;
use dataplane_ebpf::{
    table::{Entry, bits_for},
    wire_id::Key,
    wire_id_row::Registered,
};
use events::EventRing;
use losses::Losses;
use memory::Memory;
use object::{classifier, xdp};
use pinned::MapFolder;
use probe::Probe;
use sessions::{InsertError, SessionTable};
use shape::{Owner, Shape, ring_size};
use socket_array::SocketArray;
use std::{collections::BTreeMap, io, time::Duration};

/// How often the program's log is read.
const LOG_TICK: Duration = Duration::from_millis(100);

/// The loaded programs, their tables, and what userspace keeps of them.
pub struct Dataplane {
    /// The tables.
    pub memory: Memory,
    /// The session table's writer.
    pub sessions: SessionTable,
    /// The writer of the table of clients.
    clients: ClientTable,
    /// The counters.
    pub counters: Counters,
    /// Which packets were refused.
    pub events: EventRing,
    /// What the program that captures writes.
    pub capture: CaptureMaps,
    /// What was lost after its verdict.
    pub losses: Losses,
    /// What the probe object has besides.
    pub probe: Option<Probe>,
    /// The hold ring, until a keeper takes it ([`crate::hold`]).
    pub hold_ring: Option<RingBuf<MapData>>,
    options: LoadOptions,
    sockets: SocketArray,
    xsks: XskMap<MapData>,
    /// Keeps the CPU queues alive.
    _cpus: CpuMap<MapData>,
    pins: Option<Pins>,
    ebpf: Ebpf,
}

/// What this process has pinned or found pinned.
struct Pins {
    folder: MapFolder,
    maps: BTreeMap<String, (Owner, Shape)>,
}

impl Dataplane {
    /// The ids of the pinned maps, by name; none without pins.
    pub fn map_ids(&self) -> Result<BTreeMap<String, u32>, pinned::PinnedMapError> {
        let Some(Pins { folder, maps, .. }) = &self.pins else {
            return Ok(BTreeMap::new());
        };
        let shared = maps.iter().filter(|(_, (owner, _))| *owner == Owner::Node);
        folder.ids(shared.map(|(name, _)| &**name))
    }

    /// The id of the map that holds the fence, if it is pinned.
    fn local_id(&self) -> Option<u32> {
        let (_, info) = self.pins.as_ref()?.folder.open("LOCAL").ok()?;
        Some(info.id)
    }

    /// Where its maps are pinned.
    pub fn map_folder(&self) -> Option<&MapFolder> {
        self.pins.as_ref().map(|pins| &pins.folder)
    }

    /// Adds a wire id to the session table; see [`SessionTable::register`].
    pub fn register(
        &mut self,
        key: Key,
        entry: Entry,
        version: u64,
        registered: &Registered,
    ) -> Result<(), InsertError> {
        self.sessions.register(&self.memory, key, entry, version, registered)
    }

    /// Whether a key could be added; see [`SessionTable::check_room`].
    pub fn check_room(&self, key: Key) -> Result<(), InsertError> {
        self.sessions.check_room(&self.memory, key)
    }

    /// Adds a key to the session table; see [`SessionTable::insert`].
    pub fn insert(&mut self, key: Key, entry: Entry, version: u64) -> Result<(), InsertError> {
        self.sessions.insert(&self.memory, key, entry, version)
    }

    /// Changes a key's entry and version; see [`SessionTable::update`].
    pub fn update(&mut self, key: Key, entry: Entry, version: u64) -> bool {
        self.sessions.update(&self.memory, key, entry, version)
    }

    /// What a successor is told of a key; see [`SessionTable::registered`].
    pub fn registered(&self, key: Key) -> Option<Registered> {
        self.sessions.registered(&self.memory, key)
    }

    /// Changes all that is known of a key; see [`SessionTable::update_registered`].
    pub fn update_registered(
        &mut self,
        key: Key,
        entry: Entry,
        version: u64,
        registered: Option<&Registered>,
    ) -> bool {
        self.sessions.update_registered(&self.memory, key, entry, version, registered)
    }

    /// The entry of a key and the session's state_version.
    pub fn get(&self, key: Key) -> Option<(Entry, u64)> {
        self.sessions.get(&self.memory, key)
    }

    /// Removes a key from the session table; `false` if it is not there.
    pub fn remove(&mut self, key: Key) -> bool {
        self.sessions.remove(&self.memory, key)
    }

    /// The size of the hold ring in bytes.
    pub(crate) fn hold_ring_bytes(&self) -> u32 {
        ring_size(self.options.hold_ring)
    }

    /// The tables once more, for a reader with a thread of its own.
    pub(crate) fn second_memory(&self) -> io::Result<Memory> {
        Memory::of_maps(&self.ebpf, bits_for(self.options.sessions), self.options.bindings)
    }

    /// Starts to pass on what the program logs, as `log` records; for programs that were loaded
    /// with [`LoadOptions::log_packets`]. Needs a tokio runtime.
    pub fn follow_log(&mut self) -> Result<(), aya_log::Error> {
        let mut log = EbpfLogger::init(&mut self.ebpf)?;
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(LOG_TICK);
            loop {
                tick.tick().await;
                log.flush();
            }
        });
        Ok(())
    }

    /// One of the object's programs for packets on their way out, loaded.
    pub fn classifier(&mut self, name: &str) -> Result<&mut SchedClassifier, ProgramError> {
        let program = classifier(&mut self.ebpf, name)?;
        if program.fd().is_err() {
            program.load()?;
        }
        Ok(program)
    }

    /// One of the object's XDP programs, loaded; for benchmarks and tests that run it by hand.
    pub fn program(&mut self, name: &str) -> Result<&mut Xdp, ProgramError> {
        let program = xdp(&mut self.ebpf, name)?;
        if program.fd().is_err() {
            program.load()?;
        }
        Ok(program)
    }
}
