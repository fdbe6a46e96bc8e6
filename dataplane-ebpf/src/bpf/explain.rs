//! A program that is never attached: the daemon runs it to learn what would become of a packet.

use crate::{context::frame, maps::Maps};
use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, xdp_action},
    macros::{map, xdp},
    maps::Array,
    programs::XdpContext,
};
use dataplane_ebpf::explain::{self, Words};

/// What the program has found. One row; only the daemon that runs it looks.
#[map]
static EXPLAINED: Array<Words> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Decides about the packet as `jumpgate` would, and leaves what it found in the map.
#[xdp]
#[inline(always)]
pub fn explain(ctx: XdpContext) -> u32 {
    let Some(row) = EXPLAINED.get_ptr_mut(0) else {
        return xdp_action::XDP_ABORTED;
    };
    let words = explain::explain(&frame(&ctx), ctx.ingress_ifindex() as u32, &Maps);
    // SAFETY: the daemon runs the program once at a time, and looks when it has ended.
    unsafe { *row = words };
    xdp_action::XDP_PASS
}
