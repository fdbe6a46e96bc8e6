//! Encapsulation: IPv4 or IPv6, UDP and the shim around a client's whole IP packet.
//!
//! The rewrite is done in two steps: the head of the frame moves (in the kernel by
//! `bpf_xdp_adjust_head`), then the new head is written. What to write is decided before, so the
//! second step only needs room.

use crate::{
    checksum::{fold, sum_address, sum32, sum64},
    frame::{Frame, FrameMut},
    headers::{Ipv4, Ipv6},
    node::{LinkRow, NextHop, NodeRow},
    parse::{
        Datagram, ETHERNET, ETHERTYPE_V4, ETHERTYPE_V6, IPV4, IPV6, PROTOCOL_ICMPV6, PROTOCOL_UDP,
        UDP,
    },
    service::ENCAP_PORT,
    shim::{HOPS, SHIM, Shim},
    tables::Tables,
    verdict::Verdict,
};
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{Immutable, IntoBytes};

/// Bytes that the encapsulation adds to a client's IP packet over an IPv4 underlay.
pub const OVERHEAD_V4: usize = IPV4 + UDP + SHIM;

/// Bytes that the encapsulation adds to a client's IP packet over an IPv6 underlay.
pub const OVERHEAD_V6: usize = IPV6 + UDP + SHIM;

/// A packet that another node is to have: what the decision found out. Kept small, as every
/// packet's decision carries the room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The node.
    pub node: u16,
    /// How often it may still be forwarded.
    pub hops: u8,
    /// Whether the node is asked as the slot's previous owner.
    pub second_chance: bool,
    /// The revision of the slot's placement.
    pub revision: u32,
    /// The session's state_version; 0 if it is not known.
    pub version: u64,
    /// A hash of the session: spreads sessions over paths and receive queues.
    pub entropy: u64,
}

/// How the packet gets there: what [`Forward`] leads to in the tables.
pub struct Plan<'a> {
    node: &'a NodeRow,
    link: &'a LinkRow,
    next_hop: NextHop,
    shim: Shim,
    /// Where the client's IP packet starts in the frame as it arrived.
    inner: usize,
    inner_length: u16,
    source_port: u16,
    /// The one's complement sum of the inner packet, for the outer checksum; 0 leaves that out.
    inner_sum: u32,
}

#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C, packed)]
struct Ethernet {
    destination: [u8; 6],
    source: [u8; 6],
    ethertype: U16,
}

#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C, packed)]
struct Udp {
    source: U16,
    destination: U16,
    length: U16,
    checksum: U16,
}

#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C, packed)]
struct HeadV4 {
    ethernet: Ethernet,
    ip: Ipv4,
    udp: Udp,
    shim: [u64; SHIM / 8],
}

#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C, packed)]
struct HeadV6 {
    ethernet: Ethernet,
    ip: Ipv6,
    udp: Udp,
    shim: [u64; SHIM / 8],
}

const HEAD_V4: usize = size_of::<HeadV4>();
const HEAD_V6: usize = size_of::<HeadV6>();

const _: () = assert!(HEAD_V4 == ETHERNET + OVERHEAD_V4);
const _: () = assert!(HEAD_V6 == ETHERNET + OVERHEAD_V6);

impl Forward {
    /// Whether the packet came from a client, and not from another node.
    #[inline(always)]
    pub fn is_first_hop(&self) -> bool {
        self.hops == HOPS - 1
    }

    /// The largest IP packet that gets to the node, in bytes; `None` if no way is known.
    #[inline(always)]
    pub fn mtu<T: Tables>(&self, tables: &T) -> Option<usize> {
        let node = tables.node(self.node)?;
        let link = tables.link(node.next_hop().link())?;
        (link.mtu as usize).checked_sub(overhead(node))
    }

    /// Finds the way to the node, or the reason why there is none.
    #[inline(always)]
    pub fn plan<'a, T: Tables>(
        &self,
        frame: &Frame,
        datagram: &Datagram,
        tables: &'a T,
    ) -> Result<Plan<'a>, Verdict> {
        let local = tables.local().ok_or(Verdict::NotReady)?;
        let node = tables.node(self.node).ok_or(Verdict::NoNextHop)?;
        let next_hop = node.next_hop();
        if !node.is_present() || !next_hop.is_known() {
            return Err(Verdict::NoNextHop);
        }
        let link = tables.link(next_hop.link()).ok_or(Verdict::NoNextHop)?;
        let is_v4 = node.address.v4().is_some();
        let Datagram { ip, ip_length, .. } = *datagram;
        if ip_length + overhead(node) > link.mtu as usize {
            return Err(Verdict::TooBig);
        }
        let (hops, revision, epoch) = (self.hops, self.revision, node.epoch());
        let sender = local.identity().node;
        Ok(Plan {
            node,
            link,
            next_hop,
            shim: Shim::new(hops, sender, revision, epoch, self.version, self.second_chance),
            inner: ip,
            inner_length: ip_length as u16,
            source_port: 0xc000 | self.entropy as u16 & 0x3fff,
            inner_sum: if is_v4 { 0 } else { inner_sum(frame, datagram) },
        })
    }
}

#[inline(always)]
fn overhead(node: &NodeRow) -> usize {
    if node.address.v4().is_some() { OVERHEAD_V4 } else { OVERHEAD_V6 }
}

impl Plan<'_> {
    /// The interface to send on.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        self.link.ifindex
    }

    /// How far the head of the frame moves before [`Plan::write`]: negative to grow.
    #[inline(always)]
    pub fn head_delta(&self) -> i32 {
        let head = if self.node.address.v4().is_some() { HEAD_V4 } else { HEAD_V6 };
        self.inner as i32 - head as i32
    }

    /// Writes the new head; `None` if the frame is too short for it, and nothing is written.
    #[inline(always)]
    pub fn write(&self, frame: &mut FrameMut) -> Option<()> {
        match self.node.address.v4() {
            Some(destination) => frame.write(0, self.head_v4(destination)),
            None => frame.write(0, self.head_v6()),
        }
    }

    #[inline(always)]
    fn head_v4(&self, destination: u32) -> HeadV4 {
        let source = self.link.source.v4().unwrap_or(0);
        let total_length = self.inner_length + OVERHEAD_V4 as u16;
        let sum =
            Ipv4::sum(0, PROTOCOL_UDP) + total_length as u32 + sum32(source) + sum32(destination);
        HeadV4 {
            ethernet: self.ethernet(ETHERTYPE_V4),
            ip: Ipv4 {
                total_length: U16::new(total_length),
                checksum: U16::new(!fold(sum)),
                source,
                destination,
                ..Ipv4::of(0, PROTOCOL_UDP)
            },
            // UDP over IPv4 may go without a checksum (RFC 768); the inner packet has its own.
            udp: self.udp(total_length - IPV4 as u16, 0),
            shim: self.shim.words(),
        }
    }

    #[inline(always)]
    fn head_v6(&self) -> HeadV6 {
        let length = self.inner_length + (UDP + SHIM) as u16;
        let source = self.link.source;
        let destination = self.node.address;
        let checksum = if self.inner_sum == 0 {
            // A tunnel may go without a checksum over IPv6 (RFC 6935) where the inner packet has
            // none that could be built upon.
            0
        } else {
            let sum = self.inner_sum
                + sum_address(source)
                + sum_address(destination)
                + PROTOCOL_UDP as u32
                + 2 * length as u32
                + self.source_port as u32
                + ENCAP_PORT as u32
                + sum_shim(&self.shim);
            match !fold(sum) {
                0 => 0xffff,
                checksum => checksum,
            }
        };
        HeadV6 {
            ethernet: self.ethernet(ETHERTYPE_V6),
            ip: Ipv6 {
                payload_length: U16::new(length),
                source: source.0,
                destination: destination.0,
                ..Ipv6::of(PROTOCOL_UDP)
            },
            udp: self.udp(length, checksum),
            shim: self.shim.words(),
        }
    }

    #[inline(always)]
    fn ethernet(&self, ethertype: u16) -> Ethernet {
        Ethernet {
            destination: self.next_hop.mac(),
            source: self.link.mac,
            ethertype: U16::new(ethertype),
        }
    }

    #[inline(always)]
    fn udp(&self, length: u16, checksum: u16) -> Udp {
        Udp {
            source: U16::new(self.source_port),
            destination: U16::new(ENCAP_PORT),
            length: U16::new(length),
            checksum: U16::new(checksum),
        }
    }
}

/// How far the head of a forwarded frame moves before [`decapsulate`].
#[inline(always)]
pub fn decapsulation_delta(inner: usize) -> i32 {
    inner as i32 - ETHERNET as i32
}

/// The MAC addresses of a frame, kept across [`decapsulate`].
#[inline(always)]
pub fn mac_addresses(frame: &Frame) -> Option<[u8; 12]> {
    frame.read::<[u8; 12]>(0)
}

/// Writes an Ethernet header in front of the client's IP packet, which now starts at offset 14.
/// VLAN tags of the underlay are gone with the encapsulation.
#[inline(always)]
pub fn decapsulate(frame: &mut FrameMut, addresses: [u8; 12]) -> Option<()> {
    let ethertype = match frame.as_frame().read::<u8>(ETHERNET)? >> 4 {
        4 => ETHERTYPE_V4,
        _ => ETHERTYPE_V6,
    };
    frame.write(0, addresses)?;
    frame.write(12, U16::new(ethertype))
}

/// The one's complement sum of the client's packet, from its headers alone (local checksum
/// offload): a UDP segment with a right checksum sums up to the complement of its pseudo header.
/// Not folded; 0 where that does not work: no checksum, extension headers, or bytes behind UDP.
///
/// An ICMP error always has a checksum, and an ICMPv6 one the same pseudo header.
#[inline(always)]
fn inner_sum(frame: &Frame, datagram: &Datagram) -> u32 {
    let udp = datagram.udp;
    let length = (datagram.payload_length + UDP) as u32;
    let is_icmp = datagram.port == 0;
    let Some(checksum) = frame.read::<U16>(udp + 6) else {
        return 0;
    };
    let is_summed = is_icmp || checksum.get() != 0;
    if !is_summed || udp + length as usize != datagram.ip + datagram.ip_length {
        return 0;
    }
    if datagram.destination.v4().is_some() {
        // An IPv4 header with a right checksum sums up to nothing, and so does an ICMP message.
        if is_icmp {
            return 0xffff;
        }
        let [source, destination] =
            [datagram.source, datagram.destination].map(|address| sum32(address.v4().unwrap_or(0)));
        let pseudo = source + destination + PROTOCOL_UDP as u32 + length;
        return !fold(pseudo) as u32 + 0xffff;
    }
    if udp != datagram.ip + IPV6 {
        return 0;
    }
    // The addresses stand in the header and in the pseudo header, and cancel out.
    let Some(words) = frame.read::<[U16; 4]>(datagram.ip) else {
        return 0;
    };
    let header = words[0].get() as u32
        + words[1].get() as u32
        + words[2].get() as u32
        + words[3].get() as u32;
    let protocol = if is_icmp { PROTOCOL_ICMPV6 } else { PROTOCOL_UDP };
    let pseudo = protocol as u32 + length;
    header + !fold(pseudo) as u32
}

#[inline(always)]
fn sum_shim(shim: &Shim) -> u32 {
    let words = shim.words();
    sum64(words[0]) + sum64(words[1]) + sum64(words[2]) + sum64(words[3])
}
