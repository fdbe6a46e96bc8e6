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
use zerocopy::FromBytes;

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
    let addresses = addresses(&ctx);
    let Admit { admission, service, socket, key } = match addresses {
        Some([source, destination]) => {
            admit(&Arrived { frame: &frame, source, destination, now, cpu }, &Maps)
        }
        None => Admit::UNREADABLE,
    };
    let (admission, result) = match socket {
        None => (admission, SK_DROP),
        Some((cpu, control)) if select_socket(&ctx, service, control, cpu) => (admission, SK_PASS),
        Some(_) => (Admission::NoSocket, SK_DROP),
    };
    count_admission(service, admission);
    if admission.is_reject() {
        let source = addresses.map_or(Address([0; 2]), |[source, _]| source);
        let port = frame.read::<u16>(0).unwrap_or(0);
        tell(service, Reason::Admission(admission), 0, Evidence { source, port, key });
    }
    result
}

/// The addresses of the IP packet: source and destination.
#[inline(always)]
fn addresses(ctx: &SkReuseportContext) -> Option<[Address; 2]> {
    if ctx.eth_protocol() == ETH_P_IP {
        Some(load::<[u32; 2]>(ctx, 12)?.map(Address::from_v4))
    } else {
        let [a, b, c, d] = load::<[u64; 4]>(ctx, 8)?;
        Some([Address([a, b]), Address([c, d])])
    }
}

/// Loads words in memory order at an offset from the IP header, which lies in front of what `data`
/// shows.
#[inline(always)]
fn load<T: FromBytes>(ctx: &SkReuseportContext, offset: u32) -> Option<T> {
    let mut words = T::new_zeroed();
    // SAFETY: the value is as long as the length says, and any bytes are a valid one.
    let result = unsafe {
        bpf_skb_load_bytes_relative(
            ctx.as_ptr(),
            offset,
            (&raw mut words).cast(),
            size_of::<T>() as u32,
            BPF_HDR_START_NET,
        )
    };
    (result == 0).then_some(words)
}
