//! Held packets: what the program writes into the hold ring for a session on its way.
//!
//! A record is a [`HeldHeader`] and the frame behind it: as it arrived, but without what other nodes
//! put around it, and without padding. The kernel reserves room in constant sizes only, so a record
//! has room for one of [`CLASSES`] bytes.

use crate::{
    frame::Frame,
    parse::{Datagram, ETHERNET, ETHERTYPE_V4, ETHERTYPE_V6, VLAN_TAG, VLAN_TAGS},
    shim::{HOPS, SHIM, Shim},
    wire_id::Key,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How many bytes of a frame a record can hold: each at most twice the frame, but for the smallest.
pub const CLASSES: [usize; 6] = [128, 256, 512, 1024, 1536, HELD_MAX];

/// The longest frame that is held, in bytes.
pub const HELD_MAX: usize = 2048;

/// The head of a record in the hold ring, in the machine's byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
// Aligned, because the verifier refuses words on the stack that are not.
#[repr(C, align(8))]
pub struct HeldHeader {
    /// The session table's key.
    pub hash: u64,
    /// The session's state_version in the shim that the packet came with; 0 if it was not known.
    pub version: u64,
    /// The interface that it came in on.
    pub ingress: u32,
    /// How many bytes of the frame follow.
    pub length: u16,
    /// Where the client's IP packet starts in them; it reaches to their end.
    pub ip: u16,
    /// The service's index.
    pub service: u16,
    /// The wire id's slot.
    pub slot: u16,
    /// How often it may still be forwarded.
    pub hops: u8,
    /// Zero.
    pub _pad: [u8; 3],
}

/// Length of a record's head in bytes.
pub const HELD_HEADER: usize = size_of::<HeldHeader>();

const _: () = assert!(HELD_HEADER == 32);

/// What the smallest record takes of the ring in bytes, with the kernel's own head of 8.
pub const RECORD_MIN: usize = 8 + HELD_HEADER + CLASSES[0];

impl HeldHeader {
    /// The head of the record of a packet, and where the frame that is kept starts in the one that
    /// arrived. For a packet that another node forwarded that is the place where its own Ethernet
    /// header would be; [`ethernet_of`] makes one.
    #[inline(always)]
    pub fn of(
        frame: &Frame,
        datagram: &Datagram,
        key: Key,
        service: u16,
        ingress: u32,
    ) -> Option<(Self, usize)> {
        // What another node forwarded stands behind its headers and a shim.
        let (start, hops, version) = if datagram.ip > ETHERNET + VLAN_TAGS * VLAN_TAG {
            let shim = frame.read::<Shim>(datagram.ip.checked_sub(SHIM)?)?;
            (datagram.ip - ETHERNET, shim.hops, shim.version.get())
        } else {
            (0, HOPS, 0)
        };
        let ip = datagram.ip - start;
        let header = Self {
            hash: key.hash,
            version,
            ingress,
            length: (ip + datagram.ip_length) as u16,
            ip: ip as u16,
            service,
            slot: key.slot,
            hops,
            _pad: [0; 3],
        };
        Some((header, start))
    }

    /// The head as words in memory order.
    #[inline(always)]
    pub fn words(self) -> [u64; HELD_HEADER / 8] {
        zerocopy::transmute!(self)
    }
}

/// The Ethernet header of a packet whose encapsulation is gone: the outer MAC addresses, and the
/// EtherType that follows from the first byte of the client's IP packet.
#[inline(always)]
pub fn ethernet_of(addresses: [u8; 12], first: u8) -> [u8; ETHERNET] {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = addresses;
    let ethertype = if first >> 4 == 4 { ETHERTYPE_V4 } else { ETHERTYPE_V6 };
    let [high, low] = ethertype.to_be_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l, high, low]
}
