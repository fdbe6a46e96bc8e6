//! The socket selector: the end of every CPU queue, and the last look at the fence.

use crate::{
    events::tell,
    maps::{Maps, count_admission, select_socket},
};
use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_smp_processor_id,
        generated::{bpf_ktime_get_boot_ns, bpf_skb_load_bytes_relative},
    },
    macros::sk_reuseport,
    programs::SkReuseportContext,
};
use dataplane_ebpf::{
    admit::{Admit, Arrived, admit},
    event::{Evidence, Reason},
    frame::Frame,
    node::Address,
    verdict::Admission,
};

const SK_DROP: u32 = 0;
const SK_PASS: u32 = 1;
const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;
const BPF_HDR_START_NET: u32 = 1;

/// Hands a datagram to the socket of its session's CPU, or drops it.
#[sk_reuseport]
pub fn select(ctx: SkReuseportContext) -> u32 {
    // SAFETY: takes no argument and has no effect.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    // SAFETY: as above.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    // SAFETY: the kernel lends the datagram to the program for as long as it runs.
    let frame = unsafe { Frame::from_raw(ctx.data(), ctx.data_end()) };
    let Admit { admission, service, socket, key } = match destination(&ctx) {
        Some(destination) => admit(&Arrived { frame: &frame, destination, now, cpu }, &Maps),
        None => Admit::UNREADABLE,
    };
    let (admission, result) = match socket {
        None => (admission, SK_DROP),
        Some((cpu, control)) if select_socket(&ctx, service, control, cpu) => (admission, SK_PASS),
        Some(_) => (Admission::NoSocket, SK_DROP),
    };
    count_admission(service, admission);
    if admission.is_reject() {
        let source = source(&ctx).unwrap_or(Address([0; 2]));
        let port = frame.read::<u16>(0).unwrap_or(0);
        tell(service, Reason::Admission(admission), 0, Evidence { source, port, key });
    }
    result
}

/// The destination address of the IP packet.
#[inline(always)]
fn destination(ctx: &SkReuseportContext) -> Option<Address> {
    if ctx.eth_protocol() == ETH_P_IP {
        load::<4>(ctx, 16).map(|bytes| Address::from_v4(u32::from_ne_bytes(bytes)))
    } else {
        load::<16>(ctx, 24).map(Address::from_bytes)
    }
}

/// The source address of the IP packet.
#[inline(always)]
fn source(ctx: &SkReuseportContext) -> Option<Address> {
    if ctx.eth_protocol() == ETH_P_IP {
        load::<4>(ctx, 12).map(|bytes| Address::from_v4(u32::from_ne_bytes(bytes)))
    } else {
        load::<16>(ctx, 8).map(Address::from_bytes)
    }
}

/// Loads bytes at an offset from the IP header, which lies in front of what `data` shows.
#[inline(always)]
fn load<const N: usize>(ctx: &SkReuseportContext, offset: u32) -> Option<[u8; N]> {
    let mut bytes = [0_u8; N];
    // SAFETY: the buffer is as long as the length says.
    let result = unsafe {
        bpf_skb_load_bytes_relative(
            ctx.as_ptr(),
            offset,
            bytes.as_mut_ptr().cast(),
            N as u32,
            BPF_HDR_START_NET,
        )
    };
    (result == 0).then_some(bytes)
}
