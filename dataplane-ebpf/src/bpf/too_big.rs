//! Answers to packets that would not fit.

use crate::{
    context::{frame, frame_mut, move_head},
    maps::Maps,
};
use aya_ebpf::{
    EbpfContext, bindings::xdp_md, helpers::generated::bpf_xdp_adjust_tail, macros::map,
    maps::PerCpuArray, programs::XdpContext,
};
use dataplane_ebpf::{
    answer::Answer, encap::Forward, frame::forget, node::Address, parse::Datagram,
};

/// What the answer is about.
#[derive(Clone, Copy)]
#[repr(C)]
struct Unfit {
    source: Address,
    destination: Address,
    ip: u64,
    ip_length: u64,
    udp: u64,
    port: u64,
    mtu: u64,
}

/// One row, written just before the function that reads it: it has no stack to spare.
#[map]
static UNFIT: PerCpuArray<Unfit> = PerCpuArray::with_max_entries(1, 0);

/// Turns a client's packet that would not fit into the answer that tells it so; `false` if there is
/// to be none, or none from this node.
#[inline(always)]
pub fn answer(ctx: &XdpContext, forward: &Forward, datagram: &Datagram) -> bool {
    if !forward.is_first_hop() {
        return false;
    }
    let (Some(mtu), Some(row)) = (forward.mtu(&Maps), UNFIT.get_ptr_mut(0)) else {
        return false;
    };
    let Datagram { source, destination, port, ip, ip_length, udp, .. } = *datagram;
    let [ip, ip_length, udp, mtu] = [ip, ip_length, udp, mtu].map(|number| number as u64);
    // SAFETY: the row is this CPU's own, and the program is not interrupted by itself.
    unsafe { *row = Unfit { source, destination, ip, ip_length, udp, port: port as u64, mtu } };
    rewrite(ctx.as_ptr().cast()) != 0
}

/// A function of its own, as packets that need it are rare: 1 if the packet has become the answer.
#[inline(never)]
fn rewrite(ctx: *mut xdp_md) -> u64 {
    try_rewrite(&XdpContext::new(ctx)).is_some() as u64
}

#[inline(always)]
fn try_rewrite(ctx: &XdpContext) -> Option<()> {
    let row = UNFIT.get_ptr(0)?;
    // SAFETY: as above.
    let unfit = unsafe { &*row };
    let datagram = Datagram {
        source: unfit.source,
        destination: unfit.destination,
        port: unfit.port as u16,
        ip: unfit.ip as usize,
        ip_length: unfit.ip_length as usize,
        udp: unfit.udp as usize,
        ..Datagram::NONE
    };
    let answer = Answer::plan(&frame(ctx), &datagram, unfit.mtu as usize, &Maps)?;
    move_head(ctx, answer.head_delta()).ok()?;
    answer.write(&mut frame_mut(ctx))?;
    cut(ctx, answer.length())
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
