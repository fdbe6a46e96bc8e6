//! The shim: what one node tells the next about a packet it forwards.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-----+-+---------------+-------------------------------+
//! |version|  0  |S|   hops left   |            sender             |
//! +-------+-----+-+---------------+-------------------------------+
//! |                      placement revision                       |
//! +---------------------------------------------------------------+
//! |                 owner epoch (0: not known)                    |
//! +---------------------------------------------------------------+
//! |                           reserved                            |
//! +---------------------------------------------------------------+
//! |                session version (0: not known)                 |
//! |                                                               |
//! +---------------------------------------------------------------+
//! |        authentication tag (reserved for SipHash; zero)        |
//! |                                                               |
//! +---------------------------------------------------------------+
//! ```
//!
//! Numbers are big-endian. S marks a second chance. The shim stands between the outer UDP header
//! and the client's whole IP packet.

use zerocopy::byteorder::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The shim's version.
pub const VERSION: u8 = 1;

/// How often a packet may be forwarded in all.
pub const HOPS: u8 = 4;

const SECOND_CHANCE: u8 = 1;

/// The shim as it stands in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
// Aligned, because the verifier refuses words on the stack that are not.
#[repr(C, align(8))]
pub struct Shim {
    version_flags: u8,
    /// How often the packet may still be forwarded.
    pub hops: u8,
    /// The node that forwarded it.
    pub sender: U16,
    /// The revision of the slot's placement by which it did.
    pub revision: U32,
    /// The epoch of the owner as the sender knows it; 0 if it does not.
    pub epoch: U32,
    reserved: U32,
    /// The session's state_version as the sender knows it; 0 if it does not.
    pub version: U64,
    tag: U64,
}

/// Length of the shim in bytes.
pub const SHIM: usize = size_of::<Shim>();

const _: () = assert!(SHIM == 32);

impl Shim {
    /// A shim of a packet's first hop or a later one.
    #[inline(always)]
    pub fn new(
        hops: u8,
        sender: u16,
        revision: u32,
        epoch: u32,
        version: u64,
        second_chance: bool,
    ) -> Self {
        Self {
            version_flags: VERSION << 4 | if second_chance { SECOND_CHANCE } else { 0 },
            hops,
            sender: U16::new(sender),
            revision: U32::new(revision),
            epoch: U32::new(epoch),
            reserved: U32::ZERO,
            version: U64::new(version),
            tag: U64::ZERO,
        }
    }

    /// The shim as words in memory order.
    #[inline(always)]
    pub fn words(self) -> [u64; SHIM / 8] {
        zerocopy::transmute!(self)
    }

    /// Whether this version of the program understands the shim.
    #[inline(always)]
    pub fn is_valid(&self) -> bool {
        self.version_flags >> 4 == VERSION && self.hops < HOPS
    }

    /// Whether the sender, the slot's owner, did not know the session and asks the slot's
    /// previous owner.
    #[inline(always)]
    pub fn is_second_chance(&self) -> bool {
        self.version_flags & SECOND_CHANCE != 0
    }
}
