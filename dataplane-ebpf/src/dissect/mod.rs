//! Dissectors: from a UDP payload to the wire id of its session.

pub mod dtls;
pub mod gtpu;
pub mod native;
pub mod offset;
pub mod quic;
pub mod quic_lb;
pub mod reply;
pub mod wireguard;

use crate::{
    frame::Frame,
    node::Address,
    service::{ServiceRow, kind, protocol},
    wire_id::{ID_MAX, ID_MIN, WireId},
};

/// What a dissector found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dissected {
    /// The wire id.
    pub id: WireId,
    /// Whether the packet may open a session if none has this id.
    pub opens: bool,
}

/// A UDP payload within a frame: offset of its first byte and length, both in bytes.
#[derive(Clone, Copy)]
pub struct Payload<'a, 'f> {
    /// The frame.
    pub frame: &'a Frame<'f>,
    /// Where the payload starts.
    pub start: usize,
    /// How many bytes of it there are.
    pub length: usize,
}

impl Payload<'_, '_> {
    /// The byte at `offset`, if the payload is that long.
    #[inline(always)]
    pub fn byte(&self, offset: usize) -> Option<u8> {
        if offset >= self.length {
            return None;
        }
        self.frame.read::<u8>(self.start + offset)
    }

    /// The wire id of `length` bytes at `offset`; `None` if the payload ends before it does, or
    /// if no wire id has this length.
    #[inline(always)]
    pub fn id(&self, offset: usize, length: usize) -> Option<WireId> {
        if !(ID_MIN..=ID_MAX).contains(&length) || offset + length > self.length {
            return None;
        }
        let at = self.start + offset;
        let prefix = u16::from_be_bytes(self.frame.read::<[u8; 2]>(at)?);
        // The last word is read so that it ends where the id does: a packet may end there too. It
        // starts in front of a short id, in what is at least a UDP header.
        let last = self.frame.word_before(at + length)?;
        let rest = length - 2;
        let words = if rest > 16 {
            let words = self.frame.read::<[u64; 2]>(at + 2)?;
            [words[0], words[1], tail(last, rest - 16)]
        } else if rest > 8 {
            [self.frame.read::<u64>(at + 2)?, tail(last, rest - 8), 0]
        } else {
            [tail(last, rest), 0, 0]
        };
        Some(WireId::from_parts(prefix, words, length as u8))
    }

    /// The 16-byte wire id at `offset`, which native headers hold at an aligned place.
    #[inline(always)]
    pub fn id16(&self, offset: usize) -> Option<WireId> {
        if offset + 16 > self.length {
            return None;
        }
        let [low, high] = self.frame.read::<[u64; 2]>(self.start + offset)?;
        Some(WireId::from_words(low, high))
    }
}

/// The last `count` (1 to 8) bytes of a word in memory order, moved to its start.
#[inline(always)]
fn tail(word: u64, count: usize) -> u64 {
    let drop = (64 - 8 * count as u32) & 63;
    if cfg!(target_endian = "little") { word >> drop } else { word << drop }
}

/// Finds the wire id of a packet from `source` to a service, by the service's protocol.
#[inline(always)]
pub fn dissect(payload: Payload, source: Address, service: &ServiceRow) -> Option<Dissected> {
    if service.kind == kind::CONTROL {
        return native::dissect_control(payload);
    }
    match service.protocol {
        protocol::NATIVE => native::dissect(payload),
        protocol::QUIC => quic::dissect(payload, service.id_length as usize),
        protocol::WIREGUARD => wireguard::dissect(payload),
        protocol::OFFSET => offset::dissect(payload, service),
        protocol::QUIC_LB => quic_lb::dissect(payload, service),
        protocol::DTLS => dtls::dissect(payload, source, service.id_length as usize),
        protocol::GTPU => gtpu::dissect(payload),
        _ => None,
    }
}
