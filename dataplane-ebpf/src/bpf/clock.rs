//! A program that is never attached: userspace runs it to learn the time in jiffies, which the
//! kernel shows it nowhere else.

use crate::context::frame_mut;
use aya_ebpf::{
    bindings::xdp_action,
    helpers::{bpf_jiffies64, bpf_ktime_get_ns, generated::bpf_ktime_get_boot_ns},
    macros::xdp,
    programs::XdpContext,
};

/// Writes jiffies, CLOCK_MONOTONIC and CLOCK_BOOTTIME in nanoseconds over the packet's first 24
/// bytes.
#[xdp]
pub fn clock(ctx: XdpContext) -> u32 {
    // SAFETY: these take no arguments and have no effect.
    let now: [u64; 3] = unsafe { [bpf_jiffies64(), bpf_ktime_get_ns(), bpf_ktime_get_boot_ns()] };
    match frame_mut(&ctx).write(0, now) {
        Some(()) => xdp_action::XDP_PASS,
        None => xdp_action::XDP_ABORTED,
    }
}
