//! The answer to a client whose packet would not fit the way to its session's node: ICMP
//! "fragmentation needed" (RFC 792, RFC 1191) or ICMPv6 "packet too big" (RFC 4443 §3.2).
//!
//! The client's own packet becomes the answer. Its head moves to make room for new IP and ICMP
//! headers, its MAC addresses change places and its VLAN tags stay, so that it goes back to whoever
//! sent it here; what is quoted stays where it is, and the rest is cut off. So an answer is never
//! longer than its question.

use crate::{
    checksum::{fold, sum_address, sum_frame, sum32},
    frame::{Frame, FrameMut},
    headers::{Ipv4, Ipv6},
    limit::{self, Limit},
    node::Address,
    parse::{Datagram, ICMP, IPV4, IPV6, PROTOCOL_ICMP, PROTOCOL_ICMPV6, UDP},
    service::ServiceRow,
    tables::{Tables, find_service},
};
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{Immutable, IntoBytes};

/// The smallest MTU that can be told to an IPv4 host (RFC 791 §3.2).
const MTU_MIN_V4: usize = 68;

/// The smallest MTU that can be told to an IPv6 host, which believes no smaller one (RFC 8201 §4).
const MTU_MIN_V6: usize = 1280;

/// How many answers go to a source prefix: one for each tick of the kernel's clock, which are 100 to
/// 1,000 a second, and so many at once.
const LIMIT: Limit = Limit::of_ticks(1, 64);

/// Words of 8 bytes that are quoted: the answer has no more than 576 bytes over IPv4 (RFC 1812
/// §4.3.2.3) and 1,280 over IPv6 (RFC 4443 §2.4).
const WORDS_V4: usize = (576 - HEAD_V4) / 8;
const WORDS_V6: usize = (1280 - HEAD_V6) / 8;

/// Bytes of new headers.
const HEAD_V4: usize = size_of::<HeadV4>();
const HEAD_V6: usize = size_of::<HeadV6>();

/// Internetwork control, as RFC 1812 §4.3.2.5 has it for such answers.
const TOS: u8 = 0xc0;

const FRAGMENTATION_NEEDED: u16 = 3 << 8 | 4;
const PACKET_TOO_BIG: u16 = 2 << 8;

/// Where an Ethernet header with as many VLAN tags as are followed ends.
const TAGGED: usize = 22;

/// What to tell the client.
pub struct Answer {
    source: Address,
    destination: Address,
    mtu: usize,
    /// Where the IP packet starts in the frame as it arrived.
    ip: usize,
    /// How much of it is quoted.
    quoted: usize,
    /// The one's complement sum of that.
    sum: u32,
    /// The Ethernet header: two addresses, then tags and type, and more.
    from: [u8; 6],
    to: [u8; 6],
    rest: [u16; (TAGGED - 12) / 2],
}

#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C, packed)]
struct HeadV4 {
    ip: Ipv4,
    icmp: U16,
    icmp_checksum: U16,
    unused: U16,
    mtu: U16,
}

#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C, packed)]
struct HeadV6 {
    ip: Ipv6,
    icmp: U16,
    icmp_checksum: U16,
    mtu: U32,
}

const _: () = assert!(HEAD_V4 == IPV4 + ICMP);
const _: () = assert!(HEAD_V6 == IPV6 + ICMP);

impl Answer {
    /// What to tell the sender of `datagram`, of which a packet of at most `mtu` bytes would get
    /// through; `None` where an answer would be of no use, or must not be (RFC 1122 §3.2.2).
    ///
    /// Whether the packet may be fragmented is not asked: nobody on its way here will do it.
    #[inline(always)]
    pub fn plan<T: Tables>(
        frame: &Frame,
        datagram: &Datagram,
        mtu: usize,
        tables: &T,
    ) -> Option<Self> {
        let quoted = Self::quoted(frame, datagram, mtu)?;
        if !is_within_limit(datagram, tables) {
            return None;
        }
        let Datagram { source, destination, ip, .. } = *datagram;
        Some(Self {
            source: destination,
            destination: source,
            mtu,
            ip,
            quoted,
            sum: sum_frame::<WORDS_V6>(frame, ip, quoted)?,
            from: frame.read(0)?,
            to: frame.read(6)?,
            rest: frame.read(12)?,
        })
    }

    /// How much of the packet would be quoted, in bytes; `None` as for [`Answer::plan`], but how many
    /// were answered before does not count.
    #[inline(always)]
    pub fn quoted(frame: &Frame, datagram: &Datagram, mtu: usize) -> Option<usize> {
        let Datagram { source, destination, port, ip, ip_length, udp, .. } = *datagram;
        // An ICMP error is not answered by another.
        if port == 0 {
            return None;
        }
        let is_v4 = destination.v4().is_some();
        let (head, words, mtu_min) =
            if is_v4 { (HEAD_V4, WORDS_V4, MTU_MIN_V4) } else { (HEAD_V6, WORDS_V6, MTU_MIN_V6) };
        if mtu < mtu_min || mtu > u16::MAX as usize || !is_one_host(source) {
            return None;
        }
        let [to, from] = [frame.read::<[u8; 6]>(0)?, frame.read::<[u8; 6]>(6)?];
        // Group addresses.
        if (to[0] | from[0]) & 1 != 0 {
            return None;
        }
        let room = ip_length.checked_sub(head)?;
        let quoted = if room < words * 8 { room & !7 } else { words * 8 };
        // Whoever gets it must find its socket.
        if ip + quoted < udp + UDP {
            return None;
        }
        Some(quoted)
    }

    /// How far the head of the frame moves before [`Answer::write`]: negative, it grows.
    #[inline(always)]
    pub fn head_delta(&self) -> i32 {
        -(self.head() as i32)
    }

    /// How long the frame is to be in the end.
    #[inline(always)]
    pub fn length(&self) -> usize {
        self.ip + self.head() + self.quoted
    }

    #[inline(always)]
    fn head(&self) -> usize {
        if self.destination.v4().is_some() { HEAD_V4 } else { HEAD_V6 }
    }

    /// Writes the headers in front of the quoted packet; `None` if the frame is too short for them.
    #[inline(always)]
    pub fn write(&self, frame: &mut FrameMut) -> Option<()> {
        frame.write(0, self.to)?;
        frame.write(6, self.from)?;
        // What is no tag, the IP header overwrites.
        frame.write(12, self.rest)?;
        match (self.source.v4(), self.destination.v4()) {
            (Some(source), Some(destination)) => {
                frame.write(self.ip, self.head_v4(source, destination))
            }
            _ => frame.write(self.ip, self.head_v6()),
        }
    }

    #[inline(always)]
    fn head_v4(&self, source: u32, destination: u32) -> HeadV4 {
        let total_length = (HEAD_V4 + self.quoted) as u16;
        let sum = Ipv4::sum(TOS, PROTOCOL_ICMP)
            + total_length as u32
            + sum32(source)
            + sum32(destination);
        let icmp_sum = FRAGMENTATION_NEEDED as u32 + self.mtu as u32 + self.sum;
        HeadV4 {
            ip: Ipv4 {
                total_length: U16::new(total_length),
                checksum: U16::new(!fold(sum)),
                source,
                destination,
                ..Ipv4::of(TOS, PROTOCOL_ICMP)
            },
            icmp: U16::new(FRAGMENTATION_NEEDED),
            icmp_checksum: U16::new(!fold(icmp_sum)),
            unused: U16::ZERO,
            mtu: U16::new(self.mtu as u16),
        }
    }

    #[inline(always)]
    fn head_v6(&self) -> HeadV6 {
        let length = (ICMP + self.quoted) as u16;
        let pseudo = sum_address(self.source)
            + sum_address(self.destination)
            + PROTOCOL_ICMPV6 as u32
            + length as u32;
        let icmp_sum = pseudo + PACKET_TOO_BIG as u32 + self.mtu as u32 + self.sum;
        HeadV6 {
            ip: Ipv6 {
                payload_length: U16::new(length),
                source: self.source.0,
                destination: self.destination.0,
                ..Ipv6::of(PROTOCOL_ICMPV6)
            },
            icmp: U16::new(PACKET_TOO_BIG),
            icmp_checksum: U16::new(!fold(icmp_sum)),
            mtu: U32::new(self.mtu as u32),
        }
    }
}

/// Whether the source's prefix may be answered once more.
#[inline(always)]
fn is_within_limit<T: Tables>(datagram: &Datagram, tables: &T) -> bool {
    let Datagram { source, destination, port, .. } = *datagram;
    let service = tables.local().and_then(|local| find_service(tables, local, destination, port));
    let Some(ServiceRow { seed, .. }) = service else {
        return false;
    };
    match tables.limit(limit::index(source, *seed, limit::ANSWERS)) {
        Some(word) => LIMIT.take(word, tables.jiffies()),
        None => false,
    }
}

/// Whether a source address can be of one host elsewhere.
#[inline(always)]
fn is_one_host(address: Address) -> bool {
    match address.v4() {
        // Neither this network, loopback, multicast, reserved nor broadcast.
        Some(v4) => {
            let first = u32::from_be(v4) >> 24;
            first != 0 && first != 127 && first < 224
        }
        None => {
            let [high, low] = address.0.map(u64::from_be);
            let is_multicast = high >> 56 == 0xff;
            // Neither unspecified nor loopback.
            !is_multicast && (high != 0 || low > 1)
        }
    }
}
