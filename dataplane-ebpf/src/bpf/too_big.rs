//! The program that answers packets which would not fit.

use crate::{
    ingress::{frame, frame_mut, move_head, settle},
    maps::{Maps, PROGRAMS},
};
use aya_ebpf::{
    EbpfContext,
    bindings::xdp_action,
    helpers::generated::bpf_xdp_adjust_tail,
    macros::{map, xdp},
    maps::PerCpuArray,
    programs::XdpContext,
};
use dataplane_ebpf::{
    answer::Answer, encap::Forward, event::Evidence, frame::forget, node::Address, parse::Datagram,
    programs, tables::Tables, verdict::Verdict, wire_id::Key,
};

/// What the program needs to know of the packet, from the one that calls it on the same CPU.
#[derive(Clone, Copy)]
#[repr(C)]
struct Unfit {
    source: Address,
    destination: Address,
    ip: u64,
    ip_length: u64,
    udp: u64,
    mtu: u64,
    key: u64,
    /// The session's slot, the service and the source port.
    numbers: [u16; 4],
}

/// One row, written just before the tail call that reads it.
#[map]
static UNFIT: PerCpuArray<Unfit> = PerCpuArray::with_max_entries(1, 0);

/// Answers that a CPU gives in one tick of the kernel's clock.
const ANSWERS: u64 = 16;

/// The tick in which this CPU last answered, and how often it did.
#[map]
static ANSWERED: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);

/// Hands a client's packet that would not fit to the program below; comes back only if that cannot
/// be, or if it is another node's to answer.
#[inline(always)]
pub fn hand_over(ctx: &XdpContext, forward: &Forward, datagram: &Datagram, key: Key, service: u16) {
    if !forward.is_first_hop() {
        return;
    }
    let (Some(mtu), Some(row)) = (forward.mtu(&Maps), UNFIT.get_ptr_mut(0)) else {
        return;
    };
    let Datagram { source, destination, source_port, ip, ip_length, udp, .. } = *datagram;
    // SAFETY: the row is this CPU's own, and nothing runs on it between here and the program below.
    unsafe {
        *row = Unfit {
            source,
            destination,
            ip: ip as u64,
            ip_length: ip_length as u64,
            udp: udp as u64,
            mtu: mtu as u64,
            key: key.hash,
            numbers: [key.slot, service, source_port, 0],
        };
        PROGRAMS.tail_call(ctx, programs::TOO_BIG);
    }
}

/// Turns a packet that would not fit into the answer that tells its sender so.
#[xdp]
pub fn too_big(ctx: XdpContext) -> u32 {
    let Some(row) = UNFIT.get_ptr(0) else {
        return xdp_action::XDP_DROP;
    };
    // SAFETY: as above.
    let unfit = unsafe { *row };
    let (verdict, result) = match answer(&ctx, &unfit) {
        Some(()) => (Verdict::TooBigAnswered, xdp_action::XDP_TX),
        None => (Verdict::TooBig, xdp_action::XDP_DROP),
    };
    let [slot, service, port, _] = unfit.numbers;
    let evidence = Evidence { source: unfit.source, port, key: Key { hash: unfit.key, slot } };
    settle(&ctx, service, verdict, ctx.ingress_ifindex() as u32, evidence);
    result
}

#[inline(always)]
fn answer(ctx: &XdpContext, unfit: &Unfit) -> Option<()> {
    let datagram = Datagram {
        source: unfit.source,
        destination: unfit.destination,
        ip: unfit.ip as usize,
        ip_length: unfit.ip_length as usize,
        udp: unfit.udp as usize,
        ..Datagram::NONE
    };
    let answer = Answer::plan(&frame(ctx), &datagram, unfit.mtu as usize)?;
    if !is_allowed() {
        return None;
    }
    move_head(ctx, answer.head_delta()).ok()?;
    answer.write(&mut frame_mut(ctx))?;
    cut(ctx, answer.length())
}

/// Whether this CPU may answer once more.
#[inline(always)]
fn is_allowed() -> bool {
    let Some(answered) = ANSWERED.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the row is this CPU's own, and the program is not interrupted by itself.
    let [tick, count] = unsafe { &mut *answered };
    let now = Maps.jiffies();
    if *tick != now {
        (*tick, *count) = (now, 0);
    }
    *count += 1;
    *count <= ANSWERS
}

/// Cuts off what is behind `length` bytes.
#[inline(always)]
fn cut(ctx: &XdpContext, length: usize) -> Option<()> {
    // The compiler must not calculate with the ends of the frame one by one.
    let now = forget(frame(ctx).len(), length as u64);
    let delta = length as i32 - now as i32;
    // SAFETY: the context is the one the kernel called the program with.
    (unsafe { bpf_xdp_adjust_tail(ctx.as_ptr().cast(), delta) } == 0).then_some(())
}
