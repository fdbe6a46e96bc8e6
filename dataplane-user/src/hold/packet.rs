//! A held packet, as the program left it in the ring.

use dataplane_ebpf::hold::{HELD_HEADER, HELD_MAX, HeldHeader};
use zerocopy::FromBytes;

/// A packet of a session on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What the program knew of it.
    pub header: HeldHeader,
    /// The frame without encapsulation and padding.
    pub frame: Box<[u8]>,
}

impl Packet {
    /// The packet in a record; `None` if that is none.
    pub fn read(record: &[u8]) -> Option<Self> {
        let (header, rest) = record.split_at_checked(HELD_HEADER)?;
        let header = HeldHeader::read_from_bytes(header).ok()?;
        let frame = rest.get(..header.length as usize)?;
        let is_whole = header.ip < header.length && header.length as usize <= HELD_MAX;
        is_whole.then(|| Self { header, frame: frame.into() })
    }

    /// The client's IP packet.
    pub fn ip(&self) -> &[u8] {
        &self.frame[self.header.ip as usize..]
    }

    /// What it takes of the bounds: its bytes, and what it costs to keep them.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.frame.len()
    }
}
