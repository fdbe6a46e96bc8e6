//! Loading the programs, on new maps or on a predecessor's.

use super::{
    Dataplane, Pins,
    capture::CaptureMaps,
    clients::ClientTable,
    counters::Counters,
    events::EventRing,
    losses::{LossError, Losses, cpus_id},
    memory::{CPUS, Memory},
    object::{Object, classifier, take_map, xdp},
    pinned::{MapFolder, PinError},
    probe::Probe,
    sessions::SessionTable,
    shape::{self, Owner},
    socket_array::SocketArray,
};
use aya::{
    EbpfLoader,
    maps::{CpuMap, Map, MapData, MapError, RingBuf, XskMap},
    programs::{ProgramError, SkReuseport},
};
use dataplane_ebpf::table::bits_for;
use std::io;
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
    /// Whether a service enforces bindings to clients: that takes 100 to 205 bytes more for
    /// each wire id.
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

/// The oldest kernel that has all that the programs use.
pub(crate) const OLDEST_KERNEL: (u32, u32) = (6, 6);

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
