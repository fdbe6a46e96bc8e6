//! Held packets on their way to another node: the shim and the client's IP packet, from an ordinary
//! UDP socket.

use super::{books::Fate, packet::Packet};
use dataplane_ebpf::{
    service::ENCAP_PORT,
    shim::{SHIM, Shim},
    tables::Tables,
};
use nix::sys::socket::{setsockopt, sockopt::SndBuf};
use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
};

/// Room for packets that wait for the link, in bytes.
const SEND_BUFFER: usize = 1 << 20;

/// Where a session's packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away {
    /// The node's index.
    pub node: u16,
    /// Its underlay address.
    pub address: IpAddr,
    /// The session's state_version from now on.
    pub version: u64,
}

/// Sends packets to other nodes.
#[derive(Debug)]
pub struct Emitter {
    socket: UdpSocket,
}

impl Emitter {
    /// Sends from a node's underlay address, in this thread's network namespace.
    pub fn new(underlay: IpAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind((underlay, 0))?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, SndBuf, &SEND_BUFFER)?;
        never_fragment(&socket, underlay.is_ipv4())?;
        Ok(Self { socket })
    }

    /// Sends a packet; `None` if there is no room for it now.
    pub fn send(&self, packet: &Packet, away: &Away, tables: &impl Tables) -> Option<Fate> {
        if packet.header.hops == 0 {
            return Some(Fate::HopLimit);
        }
        // As in the program: what came by newer knowledge is not sent on by older.
        if away.version <= packet.header.version {
            return Some(Fate::NotNewer);
        }
        let (Some(local), Some(node)) = (tables.local(), tables.node(away.node)) else {
            return Some(Fate::Failed);
        };
        let revision = tables.slot(packet.header.slot).map_or(0, |slot| slot.revision());
        let shim = Shim::new(
            packet.header.hops - 1,
            local.identity().node,
            revision,
            node.epoch(),
            away.version,
            false,
        );
        let mut datagram = Vec::with_capacity(SHIM + packet.ip().len());
        datagram.extend(shim.words().iter().flat_map(|word| word.to_ne_bytes()));
        datagram.extend(packet.ip());
        let sent = self.socket.send_to(&datagram, SocketAddr::new(away.address, ENCAP_PORT));
        match sent {
            Ok(_) => Some(Fate::Sent),
            Err(error) => match error.raw_os_error() {
                Some(libc::EMSGSIZE) => Some(Fate::TooBig),
                Some(libc::EAGAIN | libc::ENOBUFS) => None,
                _ => {
                    tracing::debug!(%error, node = away.node, "a held packet was not sent");
                    Some(Fate::Failed)
                }
            },
        }
    }
}

/// A packet that does not fit the link is refused, as in the program, rather than cut to pieces that
/// no node reads. Whoever says that a path is narrower is not believed: nobody vouches for that.
fn never_fragment(socket: &UdpSocket, is_v4: bool) -> io::Result<()> {
    let (level, option, value) = if is_v4 {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)
    };
    // SAFETY: the option's value is an int, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as u32,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
