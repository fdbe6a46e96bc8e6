//! Programs at the kernel's tracepoints: what it drops after the XDP program has said what to do.
//!
//! Whose packets they are the kernel tells by numbers only for CPU queues. For interfaces three of its
//! own structures say so, whose layout the daemon finds out from its BTF; without that, those are not
//! counted.

use crate::maps::Maps;
use aya_ebpf::{
    bindings::{bpf_map_type::BPF_MAP_TYPE_XSKMAP as XSKMAP, xdp_action},
    helpers::bpf_probe_read_kernel,
    macros::map,
    macros::raw_tracepoint,
    maps::Array,
    maps::PerCpuArray,
    programs::RawTracePointContext,
};
use dataplane_ebpf::{
    loss::{LOSS_SLOTS, Loss, Ours},
    node::LINKS,
    tables::Tables,
};

/// What the kernel says of a queue that is full (Linux uapi, `asm-generic/errno-base.h`).
const ENOSPC: i32 = 28;

/// Packets by loss. Written by the programs here.
#[map]
static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(LOSS_SLOTS as u32, 0);

/// What the kernel's own counters showed when the counting began, by loss. Written once, by the
/// daemon, for itself and its successors.
#[map]
static LOSSES_BEFORE: Array<u64> = Array::with_max_entries(LOSS_SLOTS as u32, 0);

/// What is ours. Written by each daemon.
#[map]
static OURS: Array<Ours> = Array::with_max_entries(1, 0);

/// `(map_id, processed, drops, to_cpu)`: packets went into a CPU's queue (Linux 4.15).
#[raw_tracepoint(tracepoint = "xdp_cpumap_enqueue")]
pub fn cpumap_enqueue(ctx: RawTracePointContext) -> Option<()> {
    if ctx.arg::<u32>(0) == OURS.get(0)?.cpus {
        count(Loss::CpuQueueFull, ctx.arg::<u32>(2));
    }
    Some(())
}

/// `(map_id, processed, drops, sched, stats)`: packets came out of a CPU's queue (Linux 4.15).
#[raw_tracepoint(tracepoint = "xdp_cpumap_kthread")]
pub fn cpumap_kthread(ctx: RawTracePointContext) -> Option<()> {
    if ctx.arg::<u32>(0) == OURS.get(0)?.cpus {
        count(Loss::CpuQueueMemory, ctx.arg::<u32>(2));
    }
    Some(())
}

/// `(device, program, target, error, map_type, map_id, index)`: a packet could not be redirected, into
/// a map or to an interface (so since Linux 5.13). In the kernel's generic path this is told of packets
/// that found a CPU's queue full, too, besides `xdp_cpumap_enqueue`.
#[raw_tracepoint(tracepoint = "xdp_redirect_err")]
pub fn redirect_err(ctx: RawTracePointContext) -> Option<()> {
    let ours = OURS.get(0)?;
    if ctx.arg::<u32>(5) == ours.cpus {
        if ctx.arg::<i32>(3) != -ENOSPC {
            count(Loss::CpuQueueRefused, 1);
        }
    } else if is_our_program(ours, ctx.arg(1))? {
        count(
            if ctx.arg::<u32>(4) == XSKMAP { Loss::XskRefused } else { Loss::InterfaceRefused },
            1,
        );
    }
    Some(())
}

/// `(from, to, sent, drops, error)`: redirected packets were given to an interface (Linux 4.19).
#[raw_tracepoint(tracepoint = "xdp_devmap_xmit")]
pub fn devmap_xmit(ctx: RawTracePointContext) -> Option<()> {
    let drops = ctx.arg::<i32>(3);
    if drops > 0 && is_our_interface(OURS.get(0)?, ctx.arg(0))? {
        count(Loss::InterfaceDropped, drops as u32);
    }
    Some(())
}

/// `(device, sent, drops, error)`: a driver sent packets back, all at once (Linux 5.7, veth).
#[raw_tracepoint(tracepoint = "xdp_bulk_tx")]
pub fn bulk_tx(ctx: RawTracePointContext) -> Option<()> {
    let drops = ctx.arg::<i32>(2);
    if drops > 0 && is_our_interface(OURS.get(0)?, ctx.arg(0))? {
        count(Loss::NotSentBack, drops as u32);
    }
    Some(())
}

/// `(device, program, act)`: a driver could not do what the program said. Drivers that report a failed
/// redirection here too do so besides `xdp_redirect_err`.
#[raw_tracepoint(tracepoint = "xdp_exception")]
pub fn exception(ctx: RawTracePointContext) -> Option<()> {
    if ctx.arg::<u32>(2) == xdp_action::XDP_TX && is_our_program(OURS.get(0)?, ctx.arg(1))? {
        count(Loss::NotSentBack, 1);
    }
    Some(())
}

#[inline(always)]
fn count(loss: Loss, packets: u32) {
    if packets > 0
        && let Some(counter) = LOSSES.get_ptr_mut(loss as u32)
    {
        // SAFETY: the pointer is to this CPU's own counter, which only this program writes; the
        // kernel runs a program at a tracepoint once at a time on a CPU.
        unsafe { *counter += packets as u64 };
    }
}

/// Whether a `struct bpf_prog` is the XDP program, or the one that captures.
#[inline(always)]
fn is_our_program(ours: &Ours, program: *const u8) -> Option<bool> {
    if !ours.knows_layout() {
        return Some(false);
    }
    let aux = read::<*const u8>(program, ours.program_aux)?;
    let id = read::<u32>(aux, ours.aux_id)?;
    Some(id == ours.program || id == ours.capturing)
}

/// Whether a `struct net_device` has the program.
#[inline(always)]
fn is_our_interface(ours: &Ours, device: *const u8) -> Option<bool> {
    if !ours.knows_layout() {
        return Some(false);
    }
    let net = read::<*const u8>(device, ours.device_net)?;
    if read::<u32>(net, ours.net_inum)? != ours.namespace {
        return Some(false);
    }
    let ifindex = read::<u32>(device, ours.device_ifindex)?;
    for link in 0..LINKS {
        if Maps.link(link as u8)?.ifindex == ifindex {
            return Some(true);
        }
    }
    Some(false)
}

/// A field of one of the kernel's structures.
#[inline(always)]
fn read<T>(structure: *const u8, offset: u32) -> Option<T> {
    // SAFETY: the helper checks the address itself; any bytes are a valid number or pointer, which
    // is read through the helper only.
    unsafe { bpf_probe_read_kernel(structure.wrapping_add(offset as usize).cast::<T>()).ok() }
}
