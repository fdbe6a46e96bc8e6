//! IP headers that this node writes.

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{Immutable, IntoBytes};

/// Time to live, or hop limit, of packets from this node.
pub const TTL: u8 = 64;

/// Don't fragment.
const DF: u16 = 0x4000;

/// An IPv4 header without options.
#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C, packed)]
pub struct Ipv4 {
    pub version_ihl: u8,
    pub tos: u8,
    pub total_length: U16,
    pub id: U16,
    pub fragment: U16,
    pub ttl: u8,
    pub protocol: u8,
    pub checksum: U16,
    pub source: u32,
    pub destination: u32,
}

/// An IPv6 header without extension headers.
#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C, packed)]
pub struct Ipv6 {
    pub version_class: [u8; 4],
    pub payload_length: U16,
    pub next: u8,
    pub hop_limit: u8,
    pub source: [u64; 2],
    pub destination: [u64; 2],
}

impl Ipv4 {
    /// A header of a packet that is not to be fragmented; lengths, addresses and checksum are still
    /// missing.
    #[inline(always)]
    pub const fn of(tos: u8, protocol: u8) -> Self {
        Self {
            version_ihl: 0x45,
            tos,
            total_length: U16::ZERO,
            id: U16::ZERO,
            fragment: U16::new(DF),
            ttl: TTL,
            protocol,
            checksum: U16::ZERO,
            source: 0,
            destination: 0,
        }
    }

    /// The sum of what [`Ipv4::of`] has set, for the checksum; not folded.
    #[inline(always)]
    pub const fn sum(tos: u8, protocol: u8) -> u32 {
        0x4500 + tos as u32 + DF as u32 + ((TTL as u32) << 8 | protocol as u32)
    }
}

impl Ipv6 {
    /// A header that lacks its length and addresses.
    #[inline(always)]
    pub const fn of(next: u8) -> Self {
        Self {
            version_class: [0x60, 0, 0, 0],
            payload_length: U16::ZERO,
            next,
            hop_limit: TTL,
            source: [0; 2],
            destination: [0; 2],
        }
    }
}
