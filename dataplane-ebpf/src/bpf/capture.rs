//! The XDP program that stands in for `jumpgate` while a session's packets are captured.

use crate::{
    context::frame,
    ingress::{act, log, pass},
    maps::Maps,
};
use aya_ebpf::{
    EbpfContext,
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{
        bpf_get_smp_processor_id,
        generated::{bpf_ktime_get_boot_ns, bpf_xdp_load_bytes},
    },
    macros::{map, xdp},
    maps::{HashMap, PerCpuArray, RingBuf},
    programs::XdpContext,
};
use dataplane_ebpf::{
    capture::{CAPTURED_HEADER, CAPTURED_MAX, CapturedHeader, KEYS, RING},
    frame::forget,
    route::{Arrival, Decision},
};

/// The captured packets, for the daemon.
#[map]
static CAPTURE: RingBuf = RingBuf::with_byte_size(RING, 0);

/// The hashes of the keys whose packets are captured. Written by the daemon.
#[map]
static CAPTURE_KEYS: HashMap<u64, u8> = HashMap::with_max_entries(KEYS, 0);

/// How many packets found no room in the ring.
#[map]
static CAPTURE_LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The frame that a CPU is steering, as it arrived: acting changes it, and only then is its verdict
/// known.
#[map]
static CAPTURE_FRAME: PerCpuArray<Record> = PerCpuArray::with_max_entries(1, 0);

/// What the ring holds: see [`dataplane_ebpf::capture`].
#[repr(C)]
struct Record {
    /// A [`CapturedHeader`].
    header: [u64; CAPTURED_HEADER / 8],
    bytes: [u8; CAPTURED_MAX],
}

/// Nobody is woken: the daemon looks when it is asked.
const FLAGS: u64 = BPF_RB_NO_WAKEUP as u64;

/// Does all that `jumpgate` does, and keeps a copy of what belongs to the session that is watched.
///
/// The copy is made first, of every packet, and told last, so that the verifier need not follow each
/// path through the rest of the program through it too.
#[xdp]
#[inline(always)]
pub fn capturing(ctx: XdpContext) -> u32 {
    copy(&ctx);
    let ingress = ctx.ingress_ifindex() as u32;
    let Some(arrival) = Arrival::of(&frame(&ctx), &Maps) else { return pass() };
    let decision = arrival.route(&frame(&ctx), ingress, &Maps);
    let Decision { service, key, .. } = decision;
    let (verdict, result) = act(&ctx, ingress, decision);
    log!(&ctx, service, verdict);
    tell(key.hash, ingress as u64 | (service as u64) << 32 | (verdict as u64) << 48);
    result
}

/// Copies the packet, up to what is captured of it, beside its length and time.
#[inline(never)]
fn copy(ctx: &XdpContext) -> u64 {
    let Some(record) = CAPTURE_FRAME.get_ptr_mut(0) else { return 0 };
    let frame_length = ctx.data_end() - ctx.data();
    // SAFETY: takes no argument and has no effect.
    let time = unsafe { bpf_ktime_get_boot_ns() };
    // What the compiler knows to be in range it would not prove to the verifier.
    let length = forget(frame_length, time).clamp(1, CAPTURED_MAX);
    // SAFETY: the row is this CPU's own, XDP programs do not interrupt each other, and the row has
    // room for `length` bytes.
    unsafe {
        (*record).header[0] = time;
        (*record).header[1] = frame_length as u64;
        let bytes = (&raw mut (*record).bytes).cast();
        bpf_xdp_load_bytes(ctx.as_ptr().cast(), 0, bytes, length as u32) as u64
    }
}

/// Puts the copy into the ring if its key is watched.
#[inline(never)]
fn tell(hash: u64, what: u64) -> u64 {
    // SAFETY: the value is not looked at.
    if unsafe { CAPTURE_KEYS.get(hash) }.is_none() {
        return 0;
    }
    let Some(record) = CAPTURE_FRAME.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `copy`, which wrote these words.
    let (time, frame_length) = unsafe { ((*record).header[0], (*record).header[1]) };
    let length = forget(frame_length as usize, time).clamp(1, CAPTURED_MAX);
    let header = CapturedHeader {
        time,
        ingress: what as u32,
        // SAFETY: takes no argument and has no effect.
        cpu: unsafe { bpf_get_smp_processor_id() },
        frame_length: frame_length as u32,
        length: length as u16,
        service: (what >> 32) as u16,
        verdict: (what >> 48) as u32,
        _pad: 0,
    };
    // SAFETY: as in `copy`; a record has room for its header and `length` bytes.
    let told = unsafe {
        (*record).header = header.words();
        let record = core::slice::from_raw_parts(record.cast::<u8>(), CAPTURED_HEADER + length);
        CAPTURE.output::<[u8]>(record, FLAGS)
    };
    if told.is_err()
        && let Some(count) = CAPTURE_LOST.get_ptr_mut(0)
    {
        // SAFETY: as in `copy`.
        unsafe { *count += 1 };
    }
    1
}
