//! What was lost after its verdict: the counters of the programs at tracepoints, and the kernel's.

use super::{
    kernel_counters::KernelCounters,
    kernel_types::{self, LayoutError},
    object::take_map,
};
use aya::{
    Ebpf,
    maps::{Array, Map, MapData, MapError, PerCpuArray},
    programs::{ProgramError, RawTracePoint, Xdp},
};
use dataplane_ebpf::loss::{Loss, Ours, OursWords, TRACED};
use std::{collections::BTreeMap, fs, io, os::unix::fs::MetadataExt};

/// The programs, and their tracepoints.
const PROGRAMS: [(&str, &str); 6] = [
    ("cpumap_enqueue", "xdp_cpumap_enqueue"),
    ("cpumap_kthread", "xdp_cpumap_kthread"),
    ("redirect_err", "xdp_redirect_err"),
    ("devmap_xmit", "xdp_devmap_xmit"),
    ("bulk_tx", "xdp_bulk_tx"),
    ("exception", "xdp_exception"),
];

/// Reads what was lost. The tracepoints' programs run as long as the object is loaded.
pub struct Losses {
    traced: PerCpuArray<MapData, u64>,
    before: Array<MapData, u64>,
    ours_map: Array<MapData, OursWords>,
    ours: Ours,
    /// What is not counted, and why.
    pub gaps: Vec<String>,
}

impl Losses {
    /// Attaches the programs of an object whose XDP program is loaded; `is_new` if nobody counted
    /// before. The thread is in the node's network namespace.
    pub(super) fn start(ebpf: &mut Ebpf, cpus: u32, is_new: bool) -> Result<Self, LossError> {
        let traced = PerCpuArray::try_from(take_map(ebpf, "LOSSES")?)?;
        let mut ours_map = Array::try_from(take_map(ebpf, "OURS")?)?;
        let mut gaps = Vec::new();
        let layout = layout().unwrap_or_else(|error| {
            gaps.push(format!("packets lost on their way to other nodes: {error}"));
            Ours::default()
        });
        let steering: &Xdp = ebpf.program("jumpgate").expect("in the object").try_into()?;
        let ours = Ours {
            cpus,
            program: steering.info()?.id(),
            namespace: fs::metadata("/proc/thread-self/ns/net").map_err(LossError::Read)?.ino()
                as u32,
            ..layout
        };
        ours_map.set(0, OursWords::from(ours), 0)?;
        for (name, tracepoint) in PROGRAMS {
            let program: &mut RawTracePoint =
                ebpf.program_mut(name).expect("in the object").try_into()?;
            if let Err(error) = program.load().and_then(|()| program.attach(tracepoint).map(drop)) {
                gaps.push(format!("what the tracepoint {tracepoint} tells: {error}"));
            }
        }
        let mut before = Array::try_from(take_map(ebpf, "LOSSES_BEFORE")?)?;
        if is_new {
            for (loss, packets) in KernelCounters::read().map_err(LossError::Read)?.lost() {
                before.set(loss as u32, packets, 0)?;
            }
        }
        Ok(Self { traced, before, ours_map, ours, gaps })
    }

    /// Counts from now on what is lost after the verdicts of the program `capturing` too.
    pub(super) fn watch_capturing(&mut self, program: u32) -> Result<(), MapError> {
        self.ours.capturing = program;
        self.ours_map.set(0, OursWords::from(self.ours), 0)
    }

    /// What was lost since the counting began, by the names of [`Loss`]; those that lost nothing are
    /// left out. `selector` is how many datagrams the selector has dropped. The thread is in the
    /// node's network namespace.
    pub fn read(&self, selector: u64) -> Result<BTreeMap<String, u64>, LossError> {
        let mut lost = BTreeMap::new();
        let mut add = |loss: Loss, packets| {
            if packets > 0 {
                lost.insert(loss.name().to_owned(), packets);
            }
        };
        for &loss in &Loss::ALL[..TRACED] {
            add(loss, self.traced.get(&(loss as u32), 0)?.iter().sum());
        }
        for (loss, packets) in KernelCounters::read().map_err(LossError::Read)?.lost() {
            // The selector drops for the kernel's stack what has no socket.
            let selector = if loss == Loss::UdpNoPort { selector } else { 0 };
            let before = self.before.get(&(loss as u32), 0)?;
            add(loss, packets.saturating_sub(before + selector));
        }
        Ok(lost)
    }
}

/// Why losses cannot be counted.
#[derive(Debug, thiserror::Error)]
pub enum LossError {
    /// About a map.
    #[error("reading the counters of lost packets failed")]
    Map(#[from] MapError),
    /// About a program.
    #[error("preparing the programs that count lost packets failed")]
    Program(#[from] ProgramError),
    /// About the kernel's counters.
    #[error("reading the kernel's counters in /proc/thread-self/net failed")]
    Read(#[source] io::Error),
}

fn layout() -> Result<Ours, LayoutError> {
    let [program_aux, aux_id, device_ifindex, device_net, net_ns, ns_inum] =
        kernel_types::offsets([
            ("bpf_prog", "aux"),
            ("bpf_prog_aux", "id"),
            ("net_device", "ifindex"),
            ("net_device", "nd_net"),
            ("net", "ns"),
            ("ns_common", "inum"),
        ])?;
    let net_inum = net_ns + ns_inum;
    Ok(Ours { program_aux, aux_id, device_ifindex, device_net, net_inum, ..Ours::default() })
}

/// The id of the map of CPU queues.
pub(super) fn cpus_id(ebpf: &Ebpf) -> Result<u32, MapError> {
    match ebpf.map("CPUS") {
        Some(Map::CpuMap(data)) => Ok(data.info()?.id()),
        _ => Err(MapError::InvalidName { name: "CPUS".to_owned() }),
    }
}
