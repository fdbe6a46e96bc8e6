//! A program that is never attached: the daemon runs it on live frames to put packets of its own
//! into the CPUs' queues.

use crate::maps::{INJECTION, redirect_to_cpu};
use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

/// Queues the frame for the CPU that the daemon names.
#[xdp]
pub fn inject(_ctx: XdpContext) -> u32 {
    send().unwrap_or(xdp_action::XDP_DROP)
}

#[inline(always)]
fn send() -> Option<u32> {
    let injection = INJECTION.get_ptr_mut(0)?;
    // SAFETY: the daemon runs the program on one frame at a time, and looks when it has ended.
    let result = redirect_to_cpu(unsafe { (*injection).cpu } as u32)?;
    // SAFETY: as above.
    unsafe { (*injection).sent += 1 };
    Some(result)
}
