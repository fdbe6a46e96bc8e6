//! The AF_XDP socket with its memory and rings.

use super::link::Link;
use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    thread,
    time::{Duration, Instant},
};
use thiserror::Error;
use xdp::{
    CompletionRing, RingConfigBuilder, RxRing, Umem, WakableFillRing, WakableTxRing,
    nic::NicIndex,
    socket::{SocketError, XdpSocket, XdpSocketBuilder},
    umem::{FrameSize, UmemCfgBuilder},
};

/// What the kernel keeps free in front of a frame (`XDP_PACKET_HEADROOM`), in bytes.
const HEADROOM: usize = 256;

/// Ethernet and two VLAN tags, in bytes.
const ETHERNET_MAX: usize = 22;

/// How long the kernel may take to free the queue of a socket that was closed: it waits for RCU, for
/// a worker and for the lock of all network devices.
const FREEING: Duration = Duration::from_secs(1);

/// How often it is asked meanwhile.
const TICK: Duration = Duration::from_millis(5);

/// How the kernel moves frames to and from the application's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Without a copy if the driver can, else with one.
    #[default]
    Auto,
    /// Without a copy, or not at all.
    ZeroCopy,
    /// With a copy: any driver.
    Copy,
}

/// Where and how to open a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The name of a configured interface, in the calling thread's network namespace.
    pub interface: String,
    /// The receive queue: 0 to 255.
    pub queue: u32,
    /// How frames get to and from the application; default [`Mode::Auto`].
    pub mode: Mode,
    /// How many frames wait to be received, and how many to be sent: a power of two; default 2048.
    pub frames: u32,
    /// Whether checksums of received datagrams are verified, as the kernel does for sockets; default
    /// true. Only to be turned off where the NIC drops what is wrong.
    pub checksums: bool,
}

impl Options {
    /// A queue of an interface, and defaults.
    pub fn new(interface: &str, queue: u32) -> Self {
        let (mode, frames, checksums) = (Mode::Auto, 2048, true);
        Self { interface: interface.to_owned(), queue, mode, frames, checksums }
    }
}

/// Why a port could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// No such interface.
    #[error("there is no interface {0} in this network namespace (`ip link` lists them)")]
    Interface(String, #[source] io::Error),
    /// Frames do not fit a page.
    #[error(
        "the MTU of {interface} is {mtu}, which AF_XDP has no room for: {most} at most \
         (`ip link set dev {interface} mtu {most}`)"
    )]
    Mtu {
        /// The interface.
        interface: String,
        /// Its MTU.
        mtu: usize,
        /// The largest that fits.
        most: usize,
    },
    /// Not a power of two.
    #[error("`frames` is {0}: it must be a power of two from 64 to 65536")]
    Frames(u32),
    /// The memory was refused.
    #[error("the memory for {frames} frames could not be had")]
    Memory {
        /// How many, both ways.
        frames: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The socket was refused.
    #[error("opening an AF_XDP socket failed; that takes CAP_NET_RAW and Linux 5.11")]
    Socket(#[source] SocketError),
    /// The queue is taken, or is none.
    #[error(
        "binding an AF_XDP socket to queue {queue} of {interface} failed: the queue must be one of \
         the interface (`ethtool -l {interface}`), no other AF_XDP socket may have it, and zero-copy \
         must be something that its driver can do if asked for"
    )]
    Bind {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// Why.
        #[source]
        source: SocketError,
    },
}

impl OpenError {
    /// Whether another socket has the queue, or one that was closed a moment ago.
    pub fn is_busy(&self) -> bool {
        let Self::Bind { source: SocketError::Bind(error), .. } = self else { return false };
        error.raw_os_error() == Some(libc::EBUSY)
    }
}

/// A bound socket, its memory and its rings. The kernel holds the memory's pages for as long as it
/// may use them, whatever is dropped first.
pub(super) struct Bound {
    pub(super) socket: XdpSocket,
    pub(super) umem: Umem,
    pub(super) fill: WakableFillRing,
    pub(super) received: RxRing,
    pub(super) to_send: WakableTxRing,
    pub(super) sent: CompletionRing,
    pub(super) link: Link,
    /// Whether frames get to the application without a copy.
    pub(super) is_zero_copy: bool,
}

impl Bound {
    /// Opens a socket, and gives the kernel the frames to receive into.
    pub(super) fn new(options: &Options) -> Result<Self, OpenError> {
        let end = Instant::now() + FREEING;
        loop {
            match Self::try_new(options) {
                Err(error) if error.is_busy() && Instant::now() < end => thread::sleep(TICK),
                done => return done,
            }
        }
    }

    fn try_new(options: &Options) -> Result<Self, OpenError> {
        let Options { interface, queue, mode, frames, checksums: _ } = options;
        let link = Link::named(interface)
            .map_err(|error| OpenError::Interface(interface.clone(), error))?;
        let umem = memory(options, link.mtu)?;
        let mut builder = XdpSocketBuilder::new().map_err(OpenError::Socket)?;
        // Every ring holds all frames that it can ever be given, so none is ever full.
        let rings = RingConfigBuilder {
            rx_count: *frames,
            tx_count: *frames,
            fill_count: *frames,
            completion_count: *frames,
        };
        let rings = rings.build().map_err(|_| OpenError::Frames(*frames))?;
        let (rings, mut flags) =
            builder.build_wakable_rings(&umem, rings).map_err(OpenError::Socket)?;
        match mode {
            Mode::Auto => {}
            Mode::ZeroCopy => flags.force_zerocopy(),
            Mode::Copy => flags.force_copy(),
        }
        let bind = |source| OpenError::Bind { interface: interface.clone(), queue: *queue, source };
        let socket = builder.bind(NicIndex(link.ifindex), *queue, flags).map_err(bind)?;
        let is_zero_copy = is_zero_copy(&socket);
        let (Some(received), Some(to_send)) = (rings.rx_ring, rings.tx_ring) else {
            unreachable!("rings of more than no frames were asked for");
        };
        let (fill, sent) = (rings.fill_ring, rings.completion_ring);
        let mut bound = Self { socket, umem, fill, received, to_send, sent, link, is_zero_copy };
        bound
            .refill(*frames as usize)
            .map_err(|source| OpenError::Memory { frames: 2 * frames, source })?;
        Ok(bound)
    }

    /// Gives the kernel free frames to receive into.
    pub(super) fn refill(&mut self, frames: usize) -> io::Result<()> {
        // A driver without a copy may have gone to sleep for want of frames; the kernel has not.
        let wake = self.is_zero_copy;
        // SAFETY: the memory outlives the socket's use of it, as the kernel holds its pages.
        let filled = unsafe { self.fill.enqueue(&mut self.umem, frames, wake) }?;
        debug_assert_eq!(filled, frames, "the ring holds all frames of its kind");
        Ok(())
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket owns the descriptor, and is borrowed for as long.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

/// Memory for the frames of both ways, each with room for the longest packet.
fn memory(options: &Options, mtu: usize) -> Result<Umem, OpenError> {
    let Options { interface, frames, .. } = options;
    if !frames.is_power_of_two() || !(64..=65_536).contains(frames) {
        return Err(OpenError::Frames(*frames));
    }
    let most = |page: usize| page - HEADROOM - ETHERNET_MAX;
    let frame_size = if mtu <= most(2048) {
        FrameSize::TwoK
    } else if mtu <= most(4096) {
        FrameSize::FourK
    } else {
        return Err(OpenError::Mtu { interface: interface.clone(), mtu, most: most(4096) });
    };
    let frames = 2 * frames;
    let builder = UmemCfgBuilder { frame_size, frame_count: frames, ..Default::default() };
    let map = || Umem::map(builder.build().map_err(io::Error::other)?);
    map().map_err(|source| OpenError::Memory { frames, source })
}

/// Asks the kernel which way the socket got (XDP_OPTIONS, Linux 5.3).
fn is_zero_copy(socket: &XdpSocket) -> bool {
    // SAFETY: all zeroes are a valid value.
    let mut options: libc::xdp_options = unsafe { mem::zeroed() };
    let mut length = size_of::<libc::xdp_options>() as libc::socklen_t;
    // SAFETY: the kernel writes no more than `length` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_OPTIONS,
            (&raw mut options).cast(),
            &raw mut length,
        )
    };
    result == 0 && options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0
}
