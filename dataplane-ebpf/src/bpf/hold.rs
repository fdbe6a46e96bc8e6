//! Keeping a packet of a session on its way: a copy into the hold ring.

use crate::{context::frame, maps::HOLD};
use aya_ebpf::{
    EbpfContext, bindings::BPF_RB_NO_WAKEUP, helpers::generated::bpf_xdp_load_bytes,
    programs::XdpContext,
};
use dataplane_ebpf::{
    encap::mac_addresses,
    frame::forget,
    hold::{CLASSES, HELD_HEADER, HeldHeader, ethernet_of},
    parse::{Datagram, ETHERNET},
    verdict::Verdict,
    wire_id::Key,
};

/// What the hold ring holds: see [`dataplane_ebpf::hold`].
#[repr(C)]
struct Record<const N: usize> {
    /// A [`HeldHeader`].
    header: [u64; HEADER_WORDS],
    bytes: [u8; N],
}

const HEADER_WORDS: usize = HELD_HEADER / 8;

const _: () = assert!(size_of::<Record<128>>() == HELD_HEADER + 128);

/// Nobody is woken: the daemon polls as long as anything is held.
const FLAGS: u64 = BPF_RB_NO_WAKEUP as u64;

/// Copies a packet into the ring, without its encapsulation.
#[inline(always)]
pub fn hold(
    ctx: &XdpContext,
    ingress: u32,
    service: u16,
    datagram: &Datagram,
    key: Key,
) -> Verdict {
    let Datagram { ip, ip_length, .. } = *datagram;
    let whose = service as u64 | (key.slot as u64) << 16 | (ingress as u64) << 32;
    let what = ip as u64 | (ip_length as u64) << 20;
    copy(ctx, key.hash, whose, what)
}

/// Copies a packet into the ring.
///
/// A function of its own with numbers for arguments, so that packets that are not held pay for
/// neither its registers nor its stack.
#[inline(never)]
fn copy(ctx: &XdpContext, hash: u64, whose: u64, what: u64) -> Verdict {
    let (service, key) = (whose as u16, Key { hash, slot: (whose >> 16) as u16 });
    let (ip, ip_length) = (what as usize & 0xf_ffff, (what >> 20) as usize);
    let datagram = Datagram { ip, ip_length, ..Datagram::NONE };
    let ingress = (whose >> 32) as u32;
    let head = HeldHeader::of(&frame(ctx), &datagram, key, service, ingress);
    let Some((header, start)) = head else {
        return Verdict::Malformed;
    };
    let (words, start) = (header.words(), start as u32);
    match header.length as usize {
        length if length <= CLASSES[0] => keep::<{ CLASSES[0] }>(ctx, words, start),
        length if length <= CLASSES[1] => keep::<{ CLASSES[1] }>(ctx, words, start),
        length if length <= CLASSES[2] => keep::<{ CLASSES[2] }>(ctx, words, start),
        length if length <= CLASSES[3] => keep::<{ CLASSES[3] }>(ctx, words, start),
        length if length <= CLASSES[4] => keep::<{ CLASSES[4] }>(ctx, words, start),
        length if length <= CLASSES[5] => keep::<{ CLASSES[5] }>(ctx, words, start),
        _ => Verdict::HoldTooLong,
    }
}

#[inline(always)]
fn keep<const N: usize>(ctx: &XdpContext, words: [u64; HEADER_WORDS], start: u32) -> Verdict {
    let Some(mut entry) = HOLD.reserve::<Record<N>>(0) else {
        return Verdict::HoldFull;
    };
    let record = entry.as_mut_ptr();
    // The compiler knows that the length is in range, and would leave out what proves it to the
    // verifier.
    let length = forget((words[2] >> 32) as u16 as usize, words[0]).clamp(1, N) as u32;
    // SAFETY: the record is ours until it is submitted, and has room for N bytes of a frame, which
    // `length` does not exceed.
    let loaded = unsafe {
        (&raw mut (*record).header).write(words);
        let bytes = (&raw mut (*record).bytes).cast::<u8>();
        let loaded = bpf_xdp_load_bytes(ctx.as_ptr().cast(), start, bytes.cast(), length);
        // Only what another node forwarded starts elsewhere than the frame does.
        if start != 0 {
            let addresses = mac_addresses(&frame(ctx)).unwrap_or_default();
            let head = ethernet_of(addresses, bytes.add(ETHERNET).read());
            bytes.cast::<[u8; ETHERNET]>().write(head);
        }
        loaded
    };
    if loaded != 0 {
        entry.discard(FLAGS);
        return Verdict::Malformed;
    }
    entry.submit(FLAGS);
    Verdict::Held
}
