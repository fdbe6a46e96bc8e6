//! The program on the way out: TCX, first on every egress device (Linux 6.6).

use crate::{
    events::tell,
    maps::{Maps, count_egress},
};
use aya_ebpf::{
    bindings::tcx_action_base::{TCX_DROP, TCX_NEXT},
    helpers::generated::bpf_ktime_get_boot_ns,
    macros::classifier,
    programs::TcContext,
};
use dataplane_ebpf::{
    binding::Binding,
    dissect::native::{ID_LENGTH, ID_OFFSET},
    egress::{Reply, Sent, reply},
    event::{Evidence, Reason},
    frame::Frame,
    parse::{ETHERNET, IPV4, IPV6, UDP},
    verdict::Egress,
    wire_id::Key,
};

const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;
const ETH_P_IPV6: u32 = 0x86dd_u16.to_be() as u32;

/// How much of a packet may have to be read, in bytes: two tags, all headers that are followed but
/// for IPv6 extension headers of unusual length, and the native header.
const HEADERS: u32 = 256;

/// The most datagrams that one large send holds (UDP_MAX_SEGMENTS, 128 since Linux 6.11).
const SEGMENTS: u32 = 128;

/// Drops replies that this node must not send; for interfaces with Ethernet headers.
#[classifier]
pub fn egress(ctx: TcContext) -> i32 {
    fence(&ctx, true)
}

/// The same for interfaces without a link layer, such as tunnels.
#[classifier]
pub fn egress_ip(ctx: TcContext) -> i32 {
    fence(&ctx, false)
}

#[inline(always)]
fn fence(ctx: &TcContext, ethernet: bool) -> i32 {
    // What the kernel's own stack sends has its headers in one piece, but for options.
    let headers = headers(ctx, ethernet).min(ctx.len() as usize);
    let mut decided = if frame(ctx).len() >= headers || pull(ctx) {
        let Some(decided) = decide(ctx, ethernet) else { return pass() };
        decided
    } else {
        Reply::UNREAD
    };
    if decided.may_be_cut() && pull(ctx) {
        let Some(again) = decide(ctx, ethernet) else { return pass() };
        decided = again;
    }
    if let Some(start) = decided.names_session_at
        && decided.egress.is_sent()
        && gso_size(ctx) != 0
        && !is_of_one_session(ctx, start as u32)
    {
        decided.egress = Egress::Mixed;
    }
    count_egress(decided.service, decided.egress);
    if decided.egress.is_sent() {
        return TCX_NEXT;
    }
    // SAFETY: the context is the one the kernel called the program with.
    let ifindex = unsafe { (*ctx.skb.skb).ifindex };
    let Binding { address: source, port } = decided.client;
    let evidence = Evidence { source, port, key: Key::NONE };
    tell(decided.service, Reason::Egress(decided.egress), ifindex, evidence);
    TCX_DROP
}

/// Lets a packet that is not a service's go on.
#[inline(always)]
fn pass() -> i32 {
    count_egress(0, Egress::Other);
    TCX_NEXT
}

#[inline(always)]
fn decide(ctx: &TcContext, ethernet: bool) -> Option<Reply> {
    // SAFETY: takes no argument and has no effect.
    let now = || unsafe { bpf_ktime_get_boot_ns() };
    reply(&Sent { frame: &frame(ctx), ethernet }, now, &Maps)
}

/// Where headers without options end.
#[inline(always)]
fn headers(ctx: &TcContext, ethernet: bool) -> usize {
    // SAFETY: the context is the one the kernel called the program with.
    let protocol = unsafe { (*ctx.skb.skb).protocol };
    let link = if ethernet { ETHERNET } else { 0 };
    match protocol {
        ETH_P_IP => link + IPV4 + UDP,
        ETH_P_IPV6 => link + IPV6 + UDP,
        _ => link + 8 + IPV6 + UDP,
    }
}

/// Brings the headers into one piece; `false` if they are, or if that failed.
#[inline(always)]
fn pull(ctx: &TcContext) -> bool {
    let wanted = if ctx.len() < HEADERS { ctx.len() } else { HEADERS };
    frame(ctx).len() < wanted as usize && ctx.pull_data(wanted).is_ok()
}

#[inline(always)]
fn gso_size(ctx: &TcContext) -> u32 {
    // SAFETY: as above.
    unsafe { (*ctx.skb.skb).gso_size }
}

/// Whether all datagrams of a large send, whose payloads begin at `start`, name the same session.
#[inline(always)]
fn is_of_one_session(ctx: &TcContext, start: u32) -> bool {
    let (length, size) = (ctx.len(), gso_size(ctx));
    let mut at = start + ID_OFFSET as u32;
    let Ok(first) = ctx.load::<[u64; ID_LENGTH / 8]>(at as usize) else {
        return false;
    };
    for _ in 1..=SEGMENTS {
        at += size;
        if at - ID_OFFSET as u32 >= length {
            return true;
        }
        match ctx.load::<[u64; ID_LENGTH / 8]>(at as usize) {
            Ok(other) if other == first => {}
            _ => return false,
        }
    }
    false
}

#[inline(always)]
fn frame(ctx: &TcContext) -> Frame<'_> {
    // SAFETY: the kernel lends the packet to the program for as long as it runs, and it is not
    // pulled while the frame is in use.
    unsafe { Frame::from_raw(ctx.data(), ctx.data_end()) }
}
