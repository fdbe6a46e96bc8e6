//! What is lost after a packet's verdict: between the XDP program and the application.
//!
//! A verdict says what the program asked for. The kernel may still drop the packet: where a queue is
//! full, a checksum is wrong, or nobody reads. Programs at the kernel's tracepoints count what it tells
//! there, the daemon reads the rest from the kernel's own counters, and so every packet is found.

use crate::verdict::verdicts;

/// Room for losses in the counter array; a power of two.
pub const LOSS_SLOTS: usize = 32;

verdicts! {
/// How a packet was lost after its verdict. The code is the index of its counter.
Loss, LOSS_SLOTS {
    /// The queue of the session's CPU was full (`sessions.queue`).
    CpuQueueFull = 0 => "cpu-queue-full",
    /// The kernel had no memory for packets out of a CPU's queue.
    CpuQueueMemory = 1 => "cpu-queue-memory",
    /// The kernel could not put the packet into a CPU's queue: most often its headroom is too small.
    CpuQueueRefused = 2 => "cpu-queue-refused",
    /// The interface that leads to another node is down, or can take no packets from XDP.
    InterfaceRefused = 3 => "interface-refused",
    /// The driver of the interface that leads to another node dropped the packet: most often because
    /// its queue was full.
    InterfaceDropped = 4 => "interface-dropped",
    /// The driver could not send the packet back through the interface on which it arrived.
    NotSentBack = 5 => "not-sent-back",
    /// The AF_XDP socket could not take the packet: its ring was full, or its application had given it
    /// no room.
    XskRefused = 6 => "af-xdp-refused",
    /// The IP header's checksum is wrong.
    IpChecksum = 7 => "ip-checksum",
    /// The IP header is wrong otherwise.
    IpHeader = 8 => "ip-header",
    /// The IP packet is shorter than its header says.
    IpTruncated = 9 => "ip-truncated",
    /// An IP address in the packet cannot be right.
    IpAddress = 10 => "ip-address",
    /// The kernel has no route for the packet: is the VIP on this node?
    IpNoRoute = 11 => "ip-no-route",
    /// The reverse path filter (rp_filter) is strict.
    ReversePath = 12 => "reverse-path",
    /// The kernel's IP discarded the packet for want of memory.
    IpDiscarded = 13 => "ip-discarded",
    /// No socket is bound to the port.
    UdpNoPort = 14 => "udp-no-port",
    /// The UDP checksum is wrong. The kernel looks at longer packets' only when the application
    /// reads.
    UdpChecksum = 15 => "udp-checksum",
    /// The socket's buffer was full: the application reads too slowly, or SO_RCVBUF is small.
    UdpBufferFull = 16 => "udp-buffer-full",
    /// The memory that all UDP sockets share was used up (net.ipv4.udp_mem).
    UdpMemory = 17 => "udp-memory",
    /// UDP refused the packet otherwise: a filter on the socket, or IPsec.
    UdpRefused = 18 => "udp-refused",
}
}

/// How many losses the programs at tracepoints count: those with codes below.
pub const TRACED: usize = Loss::XskRefused as usize + 1;

/// What the programs at the kernel's tracepoints must know to tell our packets from others', as other
/// programs redirect too. One row, written by each daemon before it attaches them, and once more before
/// its first capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ours {
    /// The id of the map of CPU queues.
    pub cpus: u32,
    /// The id of the XDP program.
    pub program: u32,
    /// The id of the program that stands in for it during a capture; 0, which no program has, until
    /// that is loaded.
    pub capturing: u32,
    /// The number of the network namespace.
    pub namespace: u32,
    /// Where `struct bpf_prog` has its `aux`; offsets are in bytes.
    pub program_aux: u32,
    /// Where `struct bpf_prog_aux` has its `id`.
    pub aux_id: u32,
    /// Where `struct net_device` has its `ifindex`.
    pub device_ifindex: u32,
    /// Where `struct net_device` has its `nd_net`.
    pub device_net: u32,
    /// Where `struct net` has the `inum` of its `ns`.
    pub net_inum: u32,
}

impl Ours {
    /// Whether the offsets are known: no structure begins with its `aux`.
    #[inline(always)]
    pub const fn knows_layout(&self) -> bool {
        self.program_aux != 0
    }
}

/// [`Ours`] as userspace writes it.
pub type OursWords = [u32; 9];

const _: () = assert!(size_of::<OursWords>() == size_of::<Ours>());

impl From<Ours> for OursWords {
    fn from(ours: Ours) -> Self {
        let Ours { cpus, program, capturing, namespace, .. } = ours;
        let Ours { program_aux, aux_id, device_ifindex, device_net, net_inum, .. } = ours;
        [
            cpus,
            program,
            capturing,
            namespace,
            program_aux,
            aux_id,
            device_ifindex,
            device_net,
            net_inum,
        ]
    }
}
