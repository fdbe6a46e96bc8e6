//! Programs for benchmarks, for the test that races the table and for that of grace periods. Not in
//! the daemon's object.

use crate::{
    context::{frame, frame_mut, move_head},
    ingress::steer,
    maps::Maps,
};
use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, tcx_action_base::TCX_NEXT, xdp_action},
    helpers::bpf_ktime_get_ns,
    macros::{classifier, map, xdp},
    maps::Array,
    programs::{TcContext, XdpContext},
};
use dataplane_ebpf::{
    encap::OVERHEAD_V4,
    frame::Frame,
    table::{Entry, Place},
    tables::{Lookup, Tables, lookup},
    wire_id::WireId,
};

/// Lines of the array that random reads walk through: its size is set when the object is loaded.
#[map]
static RANDOM: Array<[u64; 8]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What the programs below are told, and what they tell.
#[map]
static PROBE: Array<[u64; 8]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

const STATE: usize = 0;
const LINES: usize = 1;
const SESSIONS: usize = 2;
const SEED: usize = 3;
const HITS: usize = 4;
const MISSES: usize = 5;
const TORN: usize = 6;
const MIXED: usize = 7;

/// What an encapsulation over IPv4 adds to a frame, in bytes.
const OVERHEAD: i32 = OVERHEAD_V4 as i32;

/// The measure of all others.
#[xdp]
pub fn bare_drop(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// The measure of the fence at egress: TCX_NEXT.
#[classifier]
pub fn bare_next(_ctx: TcContext) -> i32 {
    TCX_NEXT
}

/// Grows and shrinks the head as an encapsulation over IPv4 and its reversal do.
#[xdp]
pub fn adjust_head_pair(ctx: XdpContext) -> u32 {
    if move_head(&ctx, -OVERHEAD).is_err() || move_head(&ctx, OVERHEAD).is_err() {
        return xdp_action::XDP_ABORTED;
    }
    xdp_action::XDP_DROP
}

/// How many reads `random_reads` makes for each packet.
const READS: usize = 16;

/// Reads from random lines, each of which depends on the outcome of the last one.
///
/// Many, because a single one would hide behind what the kernel does between two packets.
#[xdp]
pub fn random_reads(_ctx: XdpContext) -> u32 {
    let Some(probe) = PROBE.get_ptr_mut(0) else { return xdp_action::XDP_ABORTED };
    // SAFETY: one program runs at a time, and userspace only looks when it has ended.
    let probe = unsafe { &mut *probe };
    for _ in 0..READS {
        let line = (next(probe) >> 32).wrapping_mul(probe[LINES]) >> 32;
        if let Some(line) = RANDOM.get(line as u32) {
            probe[STATE] ^= line[0];
        }
    }
    xdp_action::XDP_DROP
}

/// The fence alone.
#[xdp]
pub fn fence(_ctx: XdpContext) -> u32 {
    match Maps.local() {
        Some(local) if local.fence().is_open(Maps.jiffies()) => xdp_action::XDP_DROP,
        _ => xdp_action::XDP_PASS,
    }
}

/// What `fence` costs without the fence.
#[xdp]
pub fn no_fence(_ctx: XdpContext) -> u32 {
    match Maps.local() {
        Some(local) if local.fence().epoch() != 0 => xdp_action::XDP_DROP,
        _ => xdp_action::XDP_PASS,
    }
}

/// Steers the packet, then undoes an encapsulation over IPv4, so that a repeated run starts from
/// the same packet. Of the Ethernet header only the EtherType is restored; nothing else decides.
#[xdp]
#[inline(always)]
pub fn steer_undo(ctx: XdpContext) -> u32 {
    steer_and_undo(&ctx)
}

/// Makes the packet one of a random session among those that were numbered, then steers it.
///
/// Sessions are numbered in their SessionID: its last 8 bytes hold the number, and its first 8
/// follow from it as userspace makes them. It stands in a native header behind Ethernet, IPv4 and
/// UDP.
#[xdp]
#[inline(always)]
pub fn steer_random(ctx: XdpContext) -> u32 {
    if draw_session(&ctx).is_none() {
        return xdp_action::XDP_ABORTED;
    }
    steer_and_undo(&ctx)
}

/// What `steer_random` costs without steering.
#[xdp]
pub fn draw_random(ctx: XdpContext) -> u32 {
    if draw_session(&ctx).is_none() {
        return xdp_action::XDP_ABORTED;
    }
    xdp_action::XDP_DROP
}

#[inline(always)]
fn steer_and_undo(ctx: &XdpContext) -> u32 {
    let length = ctx.data_end() - ctx.data();
    let result = steer(ctx);
    if ctx.data_end() - ctx.data() != length {
        if move_head(ctx, OVERHEAD).is_err() {
            return xdp_action::XDP_ABORTED;
        }
        restore_ethertype(ctx);
    }
    result
}

#[inline(always)]
fn restore_ethertype(ctx: &XdpContext) {
    frame_mut(ctx).write(12, 0x0800_u16.to_be());
}

const ID_AT: usize = 14 + 20 + 8 + 4;

#[inline(always)]
fn draw_session(ctx: &XdpContext) -> Option<()> {
    let probe = PROBE.get_ptr_mut(0)?;
    // SAFETY: as above.
    let probe = unsafe { &mut *probe };
    let number = (next(probe) >> 32).wrapping_mul(probe[SESSIONS]) >> 32;
    let mixed = (number ^ probe[SEED]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut frame = frame_mut(ctx);
    frame.write(ID_AT, mixed)?;
    frame.write(ID_AT + 8, number)
}

#[inline(always)]
fn next(probe: &mut [u64; 8]) -> u64 {
    let state = probe[STATE].wrapping_mul(6_364_136_223_846_793_005).wrapping_add(SEED_STEP);
    probe[STATE] = state;
    state
}

const SEED_STEP: u64 = 1_442_695_040_888_963_407;

/// Looks the packet's native id up and compares what it finds with what that id may ever lead to:
/// an id whose last byte is `n` only ever goes to node `n + 1` at an epoch of `n + 1`.
#[xdp]
pub fn table_race(ctx: XdpContext) -> u32 {
    let Some(probe) = PROBE.get_ptr_mut(0) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: as above.
    let probe = unsafe { &mut *probe };
    let Some(found) = race(&frame(&ctx), probe[SEED]) else {
        return xdp_action::XDP_ABORTED;
    };
    probe[found] += 1;
    xdp_action::XDP_DROP
}

#[inline(always)]
fn race(frame: &Frame, seed: u64) -> Option<usize> {
    let id = frame.read::<[u8; 16]>(ID_AT)?;
    let low = frame.read::<u64>(ID_AT)?;
    let high = frame.read::<u64>(ID_AT + 8)?;
    let key = WireId::from_words(low, high).key(seed);
    let bits = Maps.local()?.identity().bucket_bits;
    Some(match lookup(&Maps, key.hash, bits) {
        Lookup::Miss => MISSES,
        Lookup::Torn => TORN,
        Lookup::Hit { bits, detail, generation } => {
            let mark = id[15] as u32 + 1;
            let there = matches!(
                Place::unpack(bits),
                Some(Place::Remote { node }) if node as u32 == mark
            );
            let right = there && Entry::epoch_of(bits) == mark;
            // A version of another generation is a miss; one of this generation must be its own.
            let version = Maps.detail(detail)?.version(generation);
            let version_right = match version {
                None => true,
                Some(version) => version >> 32 == mark as u64,
            };
            if right && version_right { HITS } else { MIXED }
        }
    })
}

/// How long `dawdle` keeps what it has read, in nanoseconds.
const DAWDLE: u64 = 200_000;

/// How often it looks at the clock at most: each look takes 20 ns at least.
const LOOKS: usize = 10_000;

/// Looks the packet's native id up, and counts a hit if the session is this node's: not at once, but
/// long after it has looked. Passes what names no known session.
#[xdp]
pub fn dawdle(ctx: XdpContext) -> u32 {
    let Some(probe) = PROBE.get_ptr_mut(0) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: as above, but for single numbers.
    let probe = unsafe { &mut *probe };
    let Some(place) = look(&frame(&ctx), probe[SEED]) else {
        return xdp_action::XDP_PASS;
    };
    // SAFETY: takes no argument and has no effect.
    let now = || unsafe { bpf_ktime_get_ns() };
    let start = now();
    for _ in 0..LOOKS {
        if now() - start > DAWDLE {
            break;
        }
    }
    if matches!(place, Place::Local { .. }) {
        probe[HITS] += 1;
    }
    xdp_action::XDP_DROP
}

#[inline(always)]
fn look(frame: &Frame, seed: u64) -> Option<Place> {
    let (low, high) = (frame.read::<u64>(ID_AT)?, frame.read::<u64>(ID_AT + 8)?);
    let key = WireId::from_words(low, high).key(seed);
    match lookup(&Maps, key.hash, Maps.local()?.identity().bucket_bits) {
        Lookup::Hit { bits, .. } => Place::unpack(bits),
        Lookup::Torn | Lookup::Miss => None,
    }
}
