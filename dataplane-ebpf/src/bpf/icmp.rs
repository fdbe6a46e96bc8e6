//! The program for ICMP errors.

use crate::{
    ingress::{conclude, frame},
    maps::Maps,
};
use aya_ebpf::{macros::xdp, programs::XdpContext};
use dataplane_ebpf::icmp::route;

/// Steers an ICMP error to the session that it is about.
#[xdp]
pub fn icmp(ctx: XdpContext) -> u32 {
    let ingress = ctx.ingress_ifindex() as u32;
    conclude(&ctx, ingress, route(&frame(&ctx), ingress, &Maps))
}
