//! The loaded programs and their tables: everything of the daemon that touches the kernel's side.

pub mod attach;
pub mod bindings;
mod bpf;
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
pub mod links;
pub mod losses;
pub mod memory;
pub mod object;
pub mod pinned;
pub mod predecessor;
pub mod probe;
pub mod recovery;
pub mod region;
pub mod services;
pub mod sessions;
pub mod shape;
pub mod simulate;
mod socket_array;
pub mod sockets;
pub mod xsk;

use aya::{
    Ebpf, EbpfLoader,
    maps::{CpuMap, Map, MapData, MapError, RingBuf, XskMap},
    programs::{ProgramError, SchedClassifier, SkReuseport, TestRun, TestRunOptions, Xdp},
};
use aya_log::EbpfLogger;
use capture::CaptureMaps;
use clients::ClientTable;
use clock::{Jiffies, tick};
use counters::Counters;
use dataplane_ebpf::{
    local::Identity,
    node::{Address, NodeRow},
    service::{SERVICE_ROWS, ServiceRow},
    slot::SlotWord,
    table::{Entry, bits_for},
    wire_id::Key,
    wire_id_row::Registered,
    word::Word,
};
use events::EventRing;
use losses::{LossError, Losses, cpus_id};
use memory::{CPUS, Memory};
use object::Object;
use ownership::{NodeIndex, Placement};
use pinned::{MapFolder, PinError};
use probe::Probe;
use sessions::{InsertError, SessionTable};
use shape::{Owner, Shape, ring_size};
use socket_array::SocketArray;
use std::{collections::BTreeMap, io, net::IpAddr, time::Duration};
use thiserror::Error;

/// How to load the programs.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Which programs.
    pub object: Object,
    /// How many wire ids the session table is made for.
    pub sessions: u64,
    /// The CPUs that process sessions.
    pub cpus: Vec<u32>,
    /// Frames that each CPU's queue holds.
    pub queue: u32,
    /// Whether a service enforces bindings to clients: that takes 64 bytes more for each wire id.
    pub bindings: bool,
    /// The size of the hold ring in bytes: a power of two, a page at least.
    pub hold_ring: u32,
    /// Whether the program logs the verdict of every packet.
    pub log_packets: bool,
}

/// Why the programs could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Built without a BPF toolchain.
    #[error(
        "this binary holds no BPF program, because it was built without a BPF toolchain; build it \
         with `cargo xtask build` (and `cargo xtask setup` if tools are missing)"
    )]
    NoObject,
    /// No privilege.
    #[error(
        "loading BPF programs needs root, or the capabilities CAP_BPF, CAP_NET_ADMIN and \
         CAP_PERFMON: run it with sudo, or give the capabilities to the service"
    )]
    Privilege,
    /// The kernel is too old.
    #[error("Linux {found} is too old: the programs need {needed} or later")]
    OldKernel {
        /// The running release.
        found: String,
        /// The oldest that works.
        needed: &'static str,
    },
    /// A CPU without a queue.
    #[error(
        "CPU {cpu} cannot be delivered to: {error}; `sessions.cpus` must name CPUs of this machine \
         that are online (see /sys/devices/system/cpu/online)"
    )]
    Cpu {
        /// The CPU.
        cpu: u32,
        /// What the kernel said.
        error: aya::maps::xdp::XdpMapError,
    },
    /// Anything else the loader says.
    #[error("loading the BPF object failed")]
    Ebpf(#[from] aya::EbpfError),
    /// Anything else about a program; a verifier log is part of it.
    #[error("loading a BPF program failed")]
    Program(#[from] ProgramError),
    /// Anything else about a map.
    #[error("setting up a BPF map failed")]
    Map(#[from] MapError),
    /// About what counts lost packets.
    #[error(transparent)]
    Losses(#[from] LossError),
    /// Mapping the tables failed.
    #[error("mapping the tables into memory failed")]
    Memory(#[from] io::Error),
    /// The maps could not be pinned.
    #[error(transparent)]
    Pin(#[from] PinError),
}

/// Where the maps of loaded programs come from.
#[derive(Clone, Copy, Debug)]
pub enum Maps<'a> {
    /// They are new and end with this process and what it has attached.
    Unpinned,
    /// They are new, and pinned in this folder for a successor.
    New(&'a MapFolder),
    /// They are a predecessor's, in this folder. Whoever loads has verified them, and holds the
    /// node's lock.
    Adopted(&'a MapFolder),
}

impl<'a> Maps<'a> {
    fn folder(self) -> Option<&'a MapFolder> {
        match self {
            Self::Unpinned => None,
            Self::New(folder) | Self::Adopted(folder) => Some(folder),
        }
    }
}

/// Levels of aya-log: all up to "debug", and none.
const LOG_DEBUG: u8 = 4;
const LOG_NOTHING: u8 = 0;

/// How often the program's log is read.
const LOG_TICK: Duration = Duration::from_millis(100);

/// The oldest kernel that has all that the programs use.
pub(crate) const OLDEST_KERNEL: (u32, u32) = (6, 6);

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
    /// Whether this process could load programs: whoever lacks something reads of that before
    /// anything is touched.
    pub fn check() -> Result<(), LoadError> {
        Object::Daemon.bytes().ok_or(LoadError::NoObject)?;
        check_kernel()?;
        // A kind of map that takes privileges under every sysctl.
        let cpumap = aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_CPUMAP as u32;
        let map = aya_obj::Map::new_from_params(cpumap, 4, 4, 1, 0);
        MapData::create(map, "check", None).map(drop).map_err(|error| privilege(error.into()))
    }

    /// Loads the programs and maps their tables. The node stays "not ready" until
    /// [`Dataplane::set_identity`]. Needs root.
    pub fn load(options: LoadOptions) -> Result<Self, LoadError> {
        Self::load_with(options, Maps::Unpinned)
    }

    /// Loads the programs on maps that are pinned.
    pub fn load_with(options: LoadOptions, maps: Maps<'_>) -> Result<Self, LoadError> {
        let bytes = options.object.bytes().ok_or(LoadError::NoObject)?;
        check_kernel()?;
        let bits = bits_for(options.sessions);
        let log_level: u8 = if options.log_packets { LOG_DEBUG } else { LOG_NOTHING };
        let sizes = shape::sizes(&options);
        let shapes = shape::maps(&options)?;
        let mut loader = EbpfLoader::new();
        loader.override_global(aya_log::LEVEL, &log_level, true);
        for (name, size) in sizes {
            loader.map_max_entries(name, size);
        }
        if let Some(folder) = maps.folder() {
            folder.create()?;
            for (name, _) in shapes.iter().filter(|(_, (owner, _))| *owner == Owner::Node) {
                loader.map_pin_path(name, folder.pin(name));
            }
        }
        if options.object == Object::Probe {
            loader.map_max_entries("RANDOM", 1 << bits);
        }
        let mut ebpf = loader.load(bytes).map_err(privilege)?;
        let memory = Memory::of_maps(&ebpf, bits, options.bindings)?;
        let probe = Probe::of_maps(&ebpf)?;
        let counters = Counters::take(&mut ebpf)?;
        let is_new = !matches!(maps, Maps::Adopted(_));
        let events = EventRing::of_maps(&mut ebpf, is_new)?;
        let capture = CaptureMaps::of_maps(&mut ebpf)?;
        let pins = maps.folder().map(|folder| Pins { folder: folder.clone(), maps: shapes });
        let sockets = match take_map(&mut ebpf, "SOCKETS")? {
            Map::ReusePortSockArray(map) => map,
            _ => return Err(MapError::InvalidName { name: "SOCKETS".to_owned() }.into()),
        };
        let sockets = SocketArray::new(sockets);
        let xsks = XskMap::try_from(take_map(&mut ebpf, "XSKS")?)?;
        let queues = cpus_id(&ebpf)?;
        let hold_ring = Some(RingBuf::try_from(take_map(&mut ebpf, "HOLD")?)?);
        let mut cpus = CpuMap::try_from(take_map(&mut ebpf, "CPUS")?)?;
        // A queue that is set anew loses what is in it.
        for &cpu in options.cpus.iter().filter(|_| is_new) {
            cpus.set(cpu, options.queue, None, 0).map_err(|error| LoadError::Cpu { cpu, error })?;
        }
        for name in ["jumpgate", "clock", "inject"] {
            xdp(&mut ebpf, name)?.load()?;
        }
        for name in ["egress", "egress_ip"] {
            classifier(&mut ebpf, name)?.load()?;
        }
        let selector: &mut SkReuseport =
            ebpf.program_mut("select").expect("in the object").try_into()?;
        selector.load()?;
        let losses = Losses::start(&mut ebpf, queues, is_new)?;
        let sessions = SessionTable::new(bits);
        let clients = ClientTable::new(bits);
        let mut dataplane = Self {
            memory,
            sessions,
            clients,
            counters,
            events,
            capture,
            losses,
            probe,
            hold_ring,
            options,
            sockets,
            xsks,
            _cpus: cpus,
            pins,
            ebpf,
        };
        let list = dataplane.options.cpus.clone();
        for (index, cpu) in list.into_iter().enumerate().take(CPUS).filter(|_| is_new) {
            dataplane.memory.cpus.set(index, cpu as u64);
        }
        Ok(dataplane)
    }

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

    /// Says which node this is. The last step: from here on the program decides.
    pub fn set_identity(&self, node: NodeIndex) {
        self.memory.local_row().set_identity(Identity {
            node: node.get(),
            bucket_bits: bits_for(self.options.sessions),
            cpus: self.options.cpus.len() as u16,
        });
    }

    /// Publishes the addresses and ports of all services; see [`services::rows`].
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

    /// Whether this placement is published.
    pub fn has_placement(&self, placement: &Placement) -> bool {
        let index = |node: Option<NodeIndex>| node.map_or(0, NodeIndex::get);
        self.memory.slots.len() == placement.slots().len()
            && placement.slots().iter().enumerate().all(|(slot, owners)| {
                let word = self.memory.slots.get(slot).expect("a word for each slot");
                let word = SlotWord::from_bits(word.load());
                (word.owner(), word.previous()) == (index(owners.owner), index(owners.previous))
            })
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

    /// Reads jiffies and the clock they follow.
    pub fn jiffies(&mut self) -> Result<Jiffies, ClockError> {
        let tick = tick().map_err(ClockError::Tick)?;
        // The least late of several, as one reading may fall into a stall.
        let mut best: Option<Jiffies> = None;
        for _ in 0..4 {
            let [jiffies, monotonic, _] = self.clocks()?;
            let reading = Jiffies { jiffies, monotonic: Duration::from_nanos(monotonic), tick };
            if best.is_none_or(|best| reading.is_less_late_than(&best)) {
                best = Some(reading);
            }
        }
        Ok(best.expect("four readings"))
    }

    /// Jiffies, CLOCK_MONOTONIC and CLOCK_BOOTTIME as a program sees them in one moment.
    fn clocks(&mut self) -> Result<[u64; 3], ClockError> {
        let mut out = [0; 64];
        let program = xdp(&mut self.ebpf, "clock")?;
        let result = program.test_run(TestRunOptions {
            data_in: Some(&[0; 64]),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        })?;
        if result.return_value != 2 {
            return Err(ClockError::Refused);
        }
        let word = |at: usize| u64::from_ne_bytes(out[at..at + 8].try_into().expect("8 bytes"));
        Ok([word(0), word(8), word(16)])
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

/// A row of the service table that is not as wanted, with its service's index; 0 is the underlay
/// address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignRow {
    /// It is wanted and not there.
    Missing(u16),
    /// It is there and not wanted.
    LeftOver(u16),
}

/// Why the kernel's time could not be read.
#[derive(Debug, Error)]
pub enum ClockError {
    /// Running the clock program failed.
    #[error("running the clock program failed")]
    Program(#[from] ProgramError),
    /// The clock program found no room for its answer.
    #[error("the clock program refused its packet")]
    Refused,
    /// The tick's length is not known.
    #[error("reading the length of a tick failed")]
    Tick(#[source] io::Error),
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, ProgramError> {
    ebpf.program_mut(name)
        .ok_or_else(|| ProgramError::InvalidName { name: name.to_owned() })?
        .try_into()
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, ProgramError> {
    ebpf.program_mut(name)
        .ok_or_else(|| ProgramError::InvalidName { name: name.to_owned() })?
        .try_into()
}

fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map, MapError> {
    ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })
}

/// An address as the tables hold it: IPv4 mapped into IPv6.
pub fn wire_address(address: IpAddr) -> Address {
    Address::from_bytes(match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    })
}

/// EPERM is so common that it deserves words of its own.
fn privilege(error: aya::EbpfError) -> LoadError {
    let mut source: Option<&dyn std::error::Error> = Some(&error);
    while let Some(cause) = source {
        let denied = cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        if denied {
            return LoadError::Privilege;
        }
        source = cause.source();
    }
    LoadError::Ebpf(error)
}

fn check_kernel() -> Result<(), LoadError> {
    let Ok(release) = std::fs::read_to_string("/proc/sys/kernel/osrelease") else {
        return Ok(());
    };
    let found = release.trim();
    match parse_release(found) {
        Some(version) if version < OLDEST_KERNEL => {
            Err(LoadError::OldKernel { found: found.to_owned(), needed: "6.6" })
        }
        _ => Ok(()),
    }
}

/// The version at the start of a kernel's release.
pub(crate) fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_compared_by_number() {
        assert_eq!(parse_release("6.18.44-fc"), Some((6, 18)));
        assert_eq!(parse_release("5.4.0-150-generic"), Some((5, 4)));
        assert!(parse_release("6.1.0").unwrap() < OLDEST_KERNEL);
        assert!(parse_release("10.0-rc1").unwrap() > OLDEST_KERNEL);
        assert_eq!(parse_release("unknown"), None);
    }
}
