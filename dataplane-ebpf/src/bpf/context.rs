//! The packet that a program was called with.

use aya_ebpf::{EbpfContext, helpers::generated::bpf_xdp_adjust_head, programs::XdpContext};
use dataplane_ebpf::{
    frame::{Frame, FrameMut},
    verdict::Verdict,
};

/// Moves the head of the frame: every pointer into it is void.
#[inline(always)]
pub fn move_head(ctx: &XdpContext, delta: i32) -> Result<(), Verdict> {
    // SAFETY: the context is the one the kernel called the program with.
    match unsafe { bpf_xdp_adjust_head(ctx.as_ptr().cast(), delta) } {
        0 => Ok(()),
        _ => Err(Verdict::NoHeadroom),
    }
}

/// The frame as it is now: every move of its head makes earlier ones void.
#[inline(always)]
pub fn frame(ctx: &XdpContext) -> Frame<'_> {
    // SAFETY: the kernel lends the packet to the program for as long as it runs.
    unsafe { Frame::from_raw(ctx.data(), ctx.data_end()) }
}

/// The frame as it is now, for writing.
#[inline(always)]
pub fn frame_mut(ctx: &XdpContext) -> FrameMut<'_> {
    // SAFETY: as for `frame`, and no other reference into the packet is in use.
    unsafe { FrameMut::from_raw(ctx.data(), ctx.data_end()) }
}
