//! From a frame to a UDP datagram: Ethernet, VLAN tags, IPv4 or IPv6, UDP. ICMP errors are found on
//! the way.
//!
//! Lengths come from the headers, never from the end of the frame: short frames are padded.

use crate::{
    frame::{Frame, forget},
    node::Address,
    verdict::Verdict,
};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// VLAN tags that are followed.
pub const VLAN_TAGS: usize = 2;

/// Length of a VLAN tag.
pub const VLAN_TAG: usize = 4;

/// IPv6 extension headers that are followed.
pub const EXTENSION_HEADERS: usize = 4;

/// Length of an Ethernet header without tags.
pub const ETHERNET: usize = 14;

/// Length of an IPv4 header without options.
pub const IPV4: usize = 20;

/// Length of an IPv6 header without extension headers.
pub const IPV6: usize = 40;

/// Length of a UDP header.
pub const UDP: usize = 8;

/// Length of an ICMP or ICMPv6 header, up to the packet that an error is about.
pub const ICMP: usize = 8;

/// EtherType of IPv4.
pub const ETHERTYPE_V4: u16 = 0x0800;

/// EtherType of IPv6.
pub const ETHERTYPE_V6: u16 = 0x86dd;

const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;

/// UDP behind an IPv4 or IPv6 header.
pub const PROTOCOL_UDP: u8 = 17;

/// ICMP behind an IPv4 header.
pub const PROTOCOL_ICMP: u8 = 1;

/// ICMPv6 behind an IPv6 header.
pub const PROTOCOL_ICMPV6: u8 = 58;

const NEXT_HOP_BY_HOP: u8 = 0;
const NEXT_ROUTING: u8 = 43;
const NEXT_FRAGMENT: u8 = 44;
const NEXT_AUTHENTICATION: u8 = 51;
const NEXT_DESTINATION: u8 = 60;

/// A big-endian 16-bit field.
type Be16 = zerocopy::byteorder::network_endian::U16;

#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Ipv4Header {
    version_ihl: u8,
    tos: u8,
    total_length: Be16,
    id: Be16,
    fragment: Be16,
    ttl: u8,
    protocol: u8,
    checksum: Be16,
    source: [u8; 4],
    destination: [u8; 4],
}

#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Ipv6Header {
    version_class: u8,
    class_flow: [u8; 3],
    payload_length: Be16,
    next: u8,
    hop_limit: u8,
    source: [u8; 16],
    destination: [u8; 16],
}

#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct UdpHeader {
    source: [u8; 2],
    destination: [u8; 2],
    length: Be16,
    checksum: [u8; 2],
}

const _: () = assert!(size_of::<Ipv4Header>() == IPV4);
const _: () = assert!(size_of::<Ipv6Header>() == IPV6);
const _: () = assert!(size_of::<UdpHeader>() == UDP);

/// A whole UDP datagram, or a whole ICMP error, in a frame. Offsets and lengths are in bytes, offsets
/// from the frame's start; everything they name lies within the IP packet, though not yet within the
/// frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Destination port, in network byte order; 0 of an ICMP error.
    pub port: u16,
    /// Source port, in network byte order.
    pub source_port: u16,
    /// Where the IP header starts.
    pub ip: usize,
    /// Length of the IP packet.
    pub ip_length: usize,
    /// Where the UDP or ICMP header starts; both are 8 bytes long.
    pub udp: usize,
    /// Length of what is behind that header.
    pub payload_length: usize,
}

impl Datagram {
    /// No datagram.
    pub const NONE: Self = Self {
        source: Address([0; 2]),
        destination: Address([0; 2]),
        port: 0,
        source_port: 0,
        ip: 0,
        ip_length: 0,
        udp: 0,
        payload_length: 0,
    };

    /// Where the UDP payload starts.
    #[inline(always)]
    pub fn payload(&self) -> usize {
        self.udp + UDP
    }

    /// The same datagram, of which the verifier forgets how it was found; see [`forget`].
    #[inline(always)]
    pub(crate) fn forget(self, noise: u64) -> Self {
        let Self { source, destination, port, source_port, ip, ip_length, udp, payload_length } =
            self;
        Self {
            source,
            destination,
            port,
            source_port,
            ip: forget(ip, noise),
            ip_length: forget(ip_length, noise),
            udp: forget(udp, noise),
            payload_length: forget(payload_length, noise),
        }
    }
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Parsed {
    /// Neither IPv4 nor IPv6 with UDP, nor an ICMP error.
    Other,
    /// Would be UDP to this address, but cannot be read.
    Broken(Address, Verdict),
    /// A datagram.
    Udp(Datagram),
    /// An ICMP or ICMPv6 message that says what became of an earlier packet.
    IcmpError(Datagram),
}

/// Reads a frame from its Ethernet header on.
#[inline(always)]
pub fn parse_frame(frame: &Frame) -> Parsed {
    match network(frame) {
        Some((ETHERTYPE_V4, ip)) => parse_v4::<false>(frame, ip, usize::MAX),
        Some((ETHERTYPE_V6, ip)) => parse_v6::<false>(frame, ip, usize::MAX),
        _ => Parsed::Other,
    }
}

/// Reads a packet that this node sends, from its Ethernet header on, or from its IP header on if
/// the interface has no Ethernet header.
///
/// What is asked of it is where it comes from. So a broken one has its source's address here; the
/// datagram may end beyond the frame, whose end need not lie in one piece of memory with its start,
/// or in later fragments, which are [`Parsed::Other`]: they show no port, and are worth nothing
/// without the first.
#[inline(always)]
pub fn parse_reply(frame: &Frame, ethernet: bool) -> Parsed {
    if ethernet {
        return match network(frame) {
            Some((ETHERTYPE_V4, ip)) => parse_v4::<true>(frame, ip, usize::MAX),
            Some((ETHERTYPE_V6, ip)) => parse_v6::<true>(frame, ip, usize::MAX),
            _ => Parsed::Other,
        };
    }
    match frame.read::<u8>(0) {
        Some(first) if first >> 4 == 4 => parse_v4::<true>(frame, 0, usize::MAX),
        Some(first) if first >> 4 == 6 => parse_v6::<true>(frame, 0, usize::MAX),
        _ => Parsed::Other,
    }
}

/// The EtherType behind the tags, and where what it names starts.
#[inline(always)]
fn network(frame: &Frame) -> Option<(u16, usize)> {
    let mut ethertype = frame.read::<Be16>(12)?.get();
    let mut ip = ETHERNET;
    if ethertype != ETHERTYPE_V4 && ethertype != ETHERTYPE_V6 {
        for _ in 0..VLAN_TAGS {
            if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_QINQ {
                break;
            }
            ethertype = frame.read::<Be16>(ip + 2)?.get();
            ip += 4;
        }
    }
    Some((ethertype, ip))
}

/// Reads an IP packet of at most `room` bytes at offset `ip`.
#[inline(always)]
pub fn parse_ip(frame: &Frame, ip: usize, room: usize) -> Parsed {
    match frame.read::<u8>(ip) {
        Some(first) if first >> 4 == 4 => parse_v4::<false>(frame, ip, room),
        Some(first) if first >> 4 == 6 => parse_v6::<false>(frame, ip, room),
        _ => Parsed::Other,
    }
}

#[inline(always)]
fn parse_v4<const REPLY: bool>(frame: &Frame, ip: usize, room: usize) -> Parsed {
    let Some(header) = frame.read::<Ipv4Header>(ip) else {
        return Parsed::Other;
    };
    let is_icmp = !REPLY && header.protocol == PROTOCOL_ICMP;
    if header.protocol != PROTOCOL_UDP && !is_icmp {
        return Parsed::Other;
    }
    let destination = Address::from_v4(u32::from_ne_bytes(header.destination));
    let source = Address::from_v4(u32::from_ne_bytes(header.source));
    let end = if REPLY { source } else { destination };
    let header_length = (header.version_ihl & 0xf) as usize * 4;
    let total = header.total_length.get() as usize;
    if is_icmp {
        // Only the first fragment shows what it is; the later ones are nothing without it.
        let is_later = header.fragment.get() & 0x1fff != 0;
        if is_later || !is_error_v4(frame, ip + header_length) {
            return Parsed::Other;
        }
    }
    let is_v4 = header.version_ihl >> 4 == 4;
    if !is_v4 || header_length < IPV4 || total < header_length || total > room {
        return Parsed::Broken(end, Verdict::Malformed);
    }
    if REPLY && header.fragment.get() & 0x1fff != 0 {
        return Parsed::Other;
    }
    // More fragments follow, or this is not the first one.
    if !REPLY && header.fragment.get() & 0x3fff != 0 {
        return Parsed::Broken(end, Verdict::Fragment);
    }
    if is_icmp {
        return parse_icmp(frame, source, destination, ip, total, header_length);
    }
    parse_udp::<REPLY>(frame, source, destination, ip, total, header_length)
}

#[inline(always)]
fn parse_v6<const REPLY: bool>(frame: &Frame, ip: usize, room: usize) -> Parsed {
    let Some(header) = frame.read::<Ipv6Header>(ip) else {
        return Parsed::Other;
    };
    let destination = Address::from_bytes(header.destination);
    let source = Address::from_bytes(header.source);
    let end = if REPLY { source } else { destination };
    // The tables hold IPv4 addresses as mapped ones. On the wire those are nobody's (RFC 4291
    // §2.5.5.2 has them for use within a host), and must not pass for a service's or a node's.
    if destination.v4().is_some() || source.v4().is_some() {
        return Parsed::Other;
    }
    let total = IPV6 + header.payload_length.get() as usize;
    let mut header_length = IPV6;
    let mut next = header.next;
    if next != PROTOCOL_UDP {
        for _ in 0..EXTENSION_HEADERS {
            let unit = match next {
                NEXT_HOP_BY_HOP | NEXT_ROUTING | NEXT_DESTINATION => 8,
                NEXT_AUTHENTICATION => 4,
                NEXT_FRAGMENT => 0,
                _ => break,
            };
            let Some([following, length]) = frame.read::<[u8; 2]>(ip + header_length) else {
                return Parsed::Broken(end, Verdict::Malformed);
            };
            if unit == 0 {
                let Some(offset) = frame.read::<Be16>(ip + header_length + 2) else {
                    return Parsed::Broken(end, Verdict::Malformed);
                };
                if REPLY && offset.get() & 0xfff8 != 0 {
                    return Parsed::Other;
                }
                // An atomic fragment (RFC 6946) is a whole packet with a fragment header.
                if !REPLY && offset.get() & 0xfff9 != 0 {
                    return Parsed::Broken(end, Verdict::Fragment);
                }
                header_length += 8;
            } else {
                header_length += 8 + length as usize * unit;
            }
            next = following;
        }
        if matches!(
            next,
            NEXT_HOP_BY_HOP | NEXT_ROUTING | NEXT_FRAGMENT | NEXT_AUTHENTICATION | NEXT_DESTINATION
        ) {
            return Parsed::Broken(end, Verdict::ExtensionHeaders);
        }
        let is_icmp_error =
            !REPLY && next == PROTOCOL_ICMPV6 && is_error_v6(frame, ip + header_length);
        if next != PROTOCOL_UDP && !is_icmp_error {
            return Parsed::Other;
        }
    }
    if header.version_class >> 4 != 6 || total < header_length || total > room {
        return Parsed::Broken(end, Verdict::Malformed);
    }
    if next != PROTOCOL_UDP {
        return parse_icmp(frame, source, destination, ip, total, header_length);
    }
    parse_udp::<REPLY>(frame, source, destination, ip, total, header_length)
}

/// Destination unreachable, time exceeded and parameter problem (RFC 792); the other messages that
/// quote a packet are for hosts on the same link, or out of use.
#[inline(always)]
fn is_error_v4(frame: &Frame, icmp: usize) -> bool {
    matches!(frame.read::<u8>(icmp), Some(3 | 11 | 12))
}

/// Destination unreachable, packet too big, time exceeded and parameter problem (RFC 4443).
#[inline(always)]
fn is_error_v6(frame: &Frame, icmp: usize) -> bool {
    matches!(frame.read::<u8>(icmp), Some(1..=4))
}

#[inline(always)]
fn parse_icmp(
    frame: &Frame,
    source: Address,
    destination: Address,
    ip: usize,
    ip_length: usize,
    header_length: usize,
) -> Parsed {
    if ip_length < header_length + ICMP || ip + ip_length > frame.len() {
        return Parsed::Broken(destination, Verdict::Malformed);
    }
    Parsed::IcmpError(Datagram {
        source,
        destination,
        port: 0,
        source_port: 0,
        ip,
        ip_length,
        udp: ip + header_length,
        payload_length: ip_length - header_length - ICMP,
    })
}

#[inline(always)]
fn parse_udp<const REPLY: bool>(
    frame: &Frame,
    source: Address,
    destination: Address,
    ip: usize,
    ip_length: usize,
    header_length: usize,
) -> Parsed {
    let end = if REPLY { source } else { destination };
    let udp = ip + header_length;
    let Some(header) = frame.read::<UdpHeader>(udp) else {
        return Parsed::Broken(end, Verdict::Malformed);
    };
    let length = header.length.get() as usize;
    let beyond = length > ip_length - header_length || ip + ip_length > frame.len();
    if length < UDP || (beyond && !REPLY) {
        return Parsed::Broken(end, Verdict::Malformed);
    }
    Parsed::Udp(Datagram {
        source,
        destination,
        port: u16::from_ne_bytes(header.destination),
        source_port: u16::from_ne_bytes(header.source),
        ip,
        ip_length,
        udp,
        payload_length: length - UDP,
    })
}
