//! The maps. Userspace writes most of them through shared memory and the programs only read them;
//! the programs write the counters, the token buckets and the rings, and the kernel keeps queues and
//! sockets itself.

use crate::sockets::SocketArray;
use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::bpf_jiffies64,
    macros::map,
    maps::{Array, CpuMap, PerCpuArray, RingBuf, XskMap},
};
use dataplane_ebpf::{
    binding::BindingRow,
    inject::Injection,
    limit::LIMITS as LIMIT_WORDS,
    local::LocalRow,
    node::{LINKS as LINK_ROWS, LinkRow, NODES as NODE_ROWS, NodeRow},
    service::{SERVICE_ROWS, SERVICES as SERVICE_COUNT, ServiceRow},
    slot::{SLOTS as SLOT_COUNT, SlotWord},
    table::{BUCKET_BITS, Bucket, DetailRow, WAYS, buckets},
    tables::Tables,
    verdict::{
        ADMISSION_SLOTS, Admission, EGRESS_SLOTS, Egress, TRANSMISSION_SLOTS, VERDICT_SLOTS,
        Verdict,
    },
    wire_id_row::WireIdRow,
    word::{MapWord, Word},
    xsk,
};

// Not BPF_F_RDONLY_PROG as well: the kernel refuses to map such an array writable.
const SHARED: u32 = BPF_F_MMAPABLE;

/// CPUs that can be delivered to.
const CPU_ROWS: u32 = 1024;

/// The node itself and its fence. One row, written by the daemon.
#[map]
static LOCAL: Array<LocalRow> = Array::with_max_entries(1, SHARED);

/// Addresses and ports. Written once, before the program is attached.
#[map]
static SERVICES: Array<ServiceRow> = Array::with_max_entries(SERVICE_ROWS as u32, SHARED);

/// The placement. Written with each placement revision.
#[map]
static SLOTS: Array<MapWord> = Array::with_max_entries(SLOT_COUNT as u32, SHARED);

/// The session table and its stash. An entry lives as long as its session is here or off-home.
/// The daemon sets the size when it loads the program.
#[map]
static SESSIONS: Array<Bucket> = Array::with_max_entries(buckets(*BUCKET_BITS.start()), SHARED);

/// Versions of the sessions, a row for each way of the session table.
#[map]
static DETAILS: Array<DetailRow> =
    Array::with_max_entries(buckets(*BUCKET_BITS.start()) * WAYS as u32, SHARED);

/// The wire ids behind the session table, a row for each of its ways: for the daemon's successor.
#[map]
static WIRE_IDS: Array<WireIdRow> =
    Array::with_max_entries(buckets(*BUCKET_BITS.start()) * WAYS as u32, SHARED);

/// The clients of the sessions, a row for each way of the session table; one row where no service
/// enforces bindings. A binding lives until it is replaced or its session ends.
#[map]
static BINDINGS: Array<BindingRow> = Array::with_max_entries(1, SHARED);

/// From clients to their sessions, for services that enforce bindings and whose replies name no
/// session. As large as the session table, or as the smallest where there is no such service.
#[map]
static CLIENTS: Array<Bucket> = Array::with_max_entries(buckets(*BUCKET_BITS.start()), SHARED);

/// The nodes. Written once, but for the next hop and the epoch, which are words of their own.
#[map]
static NODES: Array<NodeRow> = Array::with_max_entries(NODE_ROWS as u32, SHARED);

/// The interfaces that carry forwarded packets. Written once.
#[map]
static LINKS: Array<LinkRow> = Array::with_max_entries(LINK_ROWS as u32, SHARED);

/// The CPUs that take new sessions. Written once.
#[map]
static CPU_LIST: Array<u64> = Array::with_max_entries(CPU_ROWS, SHARED);

/// Token buckets of source prefixes. Written by the XDP program.
#[map]
static LIMITS: Array<MapWord> = Array::with_max_entries(LIMIT_WORDS as u32, SHARED);

/// The CPU queues. Filled by the daemon; a row lives as long as the program.
#[map]
static CPUS: CpuMap = CpuMap::with_max_entries(CPU_ROWS, 0);

/// The applications' sockets: two groups for each service (data, control), one socket a CPU. A
/// row lives until its socket closes.
#[unsafe(link_section = "maps")]
#[unsafe(export_name = "SOCKETS")]
static SOCKETS: SocketArray = SocketArray::with_max_entries(SERVICE_COUNT as u32 * 2 * CPU_ROWS);

/// Applications' AF_XDP sockets, one for each queue of each configured interface; see [`xsk::row`].
/// A row lives until its socket closes.
#[map]
static XSKS: XskMap = XskMap::with_max_entries(xsk::ROWS, 0);

/// Datagrams for each service and admission, then for each service and transmission. Written by
/// applications with AF_XDP sockets, through shared memory.
#[map]
static XSK_COUNTS: Array<u64> = Array::with_max_entries(
    (SERVICE_COUNT * (ADMISSION_SLOTS + TRANSMISSION_SLOTS)) as u32,
    SHARED,
);

/// Packets for each service and verdict. Written by the XDP program.
#[map]
static VERDICTS: PerCpuArray<u64> =
    PerCpuArray::with_max_entries((SERVICE_COUNT * VERDICT_SLOTS) as u32, 0);

/// Datagrams for each service and admission. Written by the socket selector.
#[map]
static ADMISSIONS: PerCpuArray<u64> =
    PerCpuArray::with_max_entries((SERVICE_COUNT * ADMISSION_SLOTS) as u32, 0);

/// Packets that this node sends, for each service and what became of them. Written by the programs
/// at egress.
#[map]
static EGRESS: PerCpuArray<u64> =
    PerCpuArray::with_max_entries((SERVICE_COUNT * EGRESS_SLOTS) as u32, 0);

/// Packets of sessions on their way. Written by the XDP program, read by the daemon, which sets the
/// size when it loads the program.
#[map]
pub static HOLD: RingBuf = RingBuf::with_byte_size(4096, 0);

/// What the daemon and `inject` tell each other. Written by both in turns.
#[map]
pub static INJECTION: Array<Injection> = Array::with_max_entries(1, SHARED);

/// The maps as the decision reads them.
pub struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn local(&self) -> Option<&LocalRow> {
        LOCAL.get(0)
    }

    #[inline(always)]
    fn service(&self, row: u32) -> Option<&ServiceRow> {
        SERVICES.get(row)
    }

    #[inline(always)]
    fn slot(&self, slot: u16) -> Option<SlotWord> {
        SLOTS.get(slot as u32).map(|word| SlotWord::from_bits(word.load()))
    }

    #[inline(always)]
    fn bucket(&self, bucket: u32) -> Option<&Bucket> {
        SESSIONS.get(bucket)
    }

    #[inline(always)]
    fn detail(&self, index: u32) -> Option<&DetailRow> {
        DETAILS.get(index)
    }

    #[inline(always)]
    fn binding(&self, index: u32) -> Option<&BindingRow> {
        BINDINGS.get(index)
    }

    #[inline(always)]
    fn clients(&self, bucket: u32) -> Option<&Bucket> {
        CLIENTS.get(bucket)
    }

    #[inline(always)]
    fn node(&self, node: u16) -> Option<&NodeRow> {
        NODES.get(node as u32)
    }

    #[inline(always)]
    fn link(&self, link: u8) -> Option<&LinkRow> {
        LINKS.get(link as u32)
    }

    #[inline(always)]
    fn cpu(&self, index: u32) -> Option<u32> {
        CPU_LIST.get(index).map(|cpu| *cpu as u32)
    }

    #[inline(always)]
    fn limit(&self, index: u32) -> Option<&MapWord> {
        LIMITS.get(index)
    }

    #[inline(always)]
    fn jiffies(&self) -> u64 {
        // SAFETY: takes no argument and has no effect.
        unsafe { bpf_jiffies64() }
    }
}

/// Queues the packet for a CPU; `None` if that CPU has no queue.
#[inline(always)]
pub fn redirect_to_cpu(cpu: u32) -> Option<u32> {
    CPUS.redirect(cpu, 0).ok()
}

/// Gives the packet to an AF_XDP socket; `None` if there is none in this row.
#[inline(always)]
pub fn redirect_to_xsk(row: u32) -> Option<u32> {
    XSKS.redirect(row, 0).ok()
}

/// Picks an application's socket; `false` if there is none.
#[inline(always)]
pub fn select_socket(
    ctx: &aya_ebpf::programs::SkReuseportContext,
    service: u16,
    control: bool,
    cpu: u32,
) -> bool {
    let group = service as u32 * 2 + control as u32;
    cpu < CPU_ROWS && SOCKETS.select(ctx, group * CPU_ROWS + cpu)
}

/// Counts a packet's verdict.
#[inline(always)]
pub fn count_verdict(service: u16, verdict: Verdict) {
    count(&VERDICTS, service as u32 * VERDICT_SLOTS as u32 + verdict as u32);
}

/// Counts a datagram's admission.
#[inline(always)]
pub fn count_admission(service: u16, admission: Admission) {
    count(&ADMISSIONS, service as u32 * ADMISSION_SLOTS as u32 + admission as u32);
}

/// Counts a packet that this node sends.
#[inline(always)]
pub fn count_egress(service: u16, egress: Egress) {
    count(&EGRESS, service as u32 * EGRESS_SLOTS as u32 + egress as u32);
}

#[inline(always)]
fn count(counters: &PerCpuArray<u64>, index: u32) {
    if let Some(counter) = counters.get_ptr_mut(index) {
        // SAFETY: the pointer is to this CPU's own counter, and neither program is interrupted by
        // itself on its CPU.
        unsafe { *counter += 1 };
    }
}
