//! Nodes and the links that lead to them.

use crate::word::{MapWord, Word};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How many node indices there are; index 0 means "no node".
pub const NODES: usize = 4096;

/// How many interfaces can carry forwarded packets.
pub const LINKS: usize = 16;

/// On how many interfaces the packets of one node may arrive.
pub const NODE_INTERFACES: usize = 6;

/// An IPv4 (as IPv4-mapped IPv6) or IPv6 address, as two words in memory order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Address(pub [u64; 2]);

impl Address {
    /// The address with these 16 bytes; IPv4 as `::ffff:a.b.c.d`.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Self([
            u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
        ])
    }

    /// The IPv4 address with these four bytes in memory order.
    #[inline(always)]
    pub const fn from_v4(bytes: u32) -> Self {
        let mapped = if cfg!(target_endian = "little") {
            (bytes as u64) << 32 | 0xffff_0000
        } else {
            0x0000_ffff_0000_0000 | bytes as u64
        };
        Self([0, mapped])
    }

    /// The 16 bytes; IPv4 as `::ffff:a.b.c.d`.
    pub const fn bytes(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.0[0].to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = self.0[1].to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// The IPv4 address in memory order, if it is one.
    #[inline(always)]
    pub const fn v4(self) -> Option<u32> {
        let (prefix, address) = if cfg!(target_endian = "little") {
            (self.0[1] as u32, (self.0[1] >> 32) as u32)
        } else {
            ((self.0[1] >> 32) as u32, self.0[1] as u32)
        };
        let mapped = if cfg!(target_endian = "little") { 0xffff_0000 } else { 0x0000_ffff };
        if self.0[0] == 0 && prefix == mapped { Some(address) } else { None }
    }
}

/// The next hop to a node, in one word: MAC address in bits 0–47 (first byte lowest),
/// link index in 48–55, bit 63 set when it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct NextHop(u64);

impl NextHop {
    /// No way to the node is known.
    pub const UNKNOWN: Self = Self(0);

    /// A neighbour's MAC address on one of the [`LINKS`].
    pub const fn new(mac: [u8; 6], link: u8) -> Self {
        let [a, b, c, d, e, f] = mac;
        Self(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]) | (link as u64) << 48 | 1 << 63)
    }

    /// The next hop held by a word of the `NODES` map.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Whether a next hop is known.
    #[inline(always)]
    pub const fn is_known(self) -> bool {
        self.0 >> 63 != 0
    }

    /// The link index.
    #[inline(always)]
    pub const fn link(self) -> u8 {
        (self.0 >> 48) as u8
    }

    /// The neighbour's MAC address.
    #[inline(always)]
    pub const fn mac(self) -> [u8; 6] {
        let [a, b, c, d, e, f, _, _] = self.0.to_le_bytes();
        [a, b, c, d, e, f]
    }
}

/// One row of the `NODES` map. Written by the daemon; lives as long as the program.
///
/// `address` and `interfaces` are written before the program is attached and never changed after
/// that, so a reader never sees a mixture; the next hop and the epoch are single words.
#[repr(C, align(64))]
pub struct NodeRow {
    next_hop: MapWord,
    epoch: MapWord,
    present: MapWord,
    /// The interfaces on which packets from this node may arrive, by index; 0 for none.
    pub interfaces: [u32; NODE_INTERFACES],
    /// The node's address on the underlay.
    pub address: Address,
}

const _: () = assert!(size_of::<NodeRow>() == 64);

impl NodeRow {
    /// A row without a node.
    pub const fn empty() -> Self {
        Self {
            next_hop: MapWord::new(0),
            epoch: MapWord::new(0),
            present: MapWord::new(0),
            interfaces: [0; NODE_INTERFACES],
            address: Address([0; 2]),
        }
    }

    /// Whether the row holds a node.
    #[inline(always)]
    pub fn is_present(&self) -> bool {
        self.present.load() != 0
    }

    /// Publishes or retracts the row.
    pub fn set_present(&self, present: bool) {
        self.present.store(present as u64);
    }

    /// Whether packets from the node may arrive on the interface with this index.
    #[inline(always)]
    pub fn arrives_on(&self, ifindex: u32) -> bool {
        let [a, b, c, d, e, f] = self.interfaces;
        let any = (a == ifindex)
            | (b == ifindex)
            | (c == ifindex)
            | (d == ifindex)
            | (e == ifindex)
            | (f == ifindex);
        any && ifindex != 0
    }

    /// The way to the node.
    #[inline(always)]
    pub fn next_hop(&self) -> NextHop {
        NextHop(self.next_hop.load())
    }

    /// Changes the way to the node.
    pub fn set_next_hop(&self, next_hop: NextHop) {
        self.next_hop.store(next_hop.0);
    }

    /// The node's epoch as last heard; 0 if it is not known.
    #[inline(always)]
    pub fn epoch(&self) -> u32 {
        self.epoch.load() as u32
    }

    /// Publishes the node's epoch.
    pub fn set_epoch(&self, epoch: u32) {
        self.epoch.store(epoch as u64);
    }
}

/// One row of the `LINKS` map: an interface that carries forwarded packets.
///
/// Written before the first node that uses it, then never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C, align(64))]
pub struct LinkRow {
    /// The interface index; 0 if the row is empty.
    pub ifindex: u32,
    /// The largest IP packet the link carries, in bytes.
    pub mtu: u32,
    /// The interface's MAC address.
    pub mac: [u8; 6],
    /// Padding.
    pub _pad: [u8; 2],
    /// This node's address on the underlay: the source of what it forwards.
    pub source: Address,
    /// Padding.
    pub _pad2: [u64; 4],
}

const _: () = assert!(size_of::<LinkRow>() == 64);

impl LinkRow {
    /// A row without a link.
    pub const EMPTY: Self = Self {
        ifindex: 0,
        mtu: 0,
        mac: [0; 6],
        _pad: [0; 2],
        source: Address([0; 2]),
        _pad2: [0; 4],
    };
}
