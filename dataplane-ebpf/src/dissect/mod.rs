//! Dissectors: from a UDP payload to the wire id of its session.

pub mod native;
pub mod offset;
pub mod quic;
pub mod wireguard;

use crate::{
    frame::Frame,
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
        self.frame.byte(self.start + offset)
    }

    /// The wire id of `length` bytes at `offset`; `None` if the payload ends before it does, or
    /// if no wire id has this length.
    #[inline(always)]
    pub fn id(&self, offset: usize, length: usize) -> Option<WireId> {
        if length < ID_MIN || length > ID_MAX || offset + length > self.length {
            return None;
        }
        let at = self.start + offset;
        // Most packets are longer than their id by enough for whole words.
        if let Some(words) = self.frame.read::<IdWords>(at) {
            return Some(words.id(length));
        }
        self.id_bytewise(at, length)
    }

    /// The 16-byte wire id at `offset`, which native headers hold at an aligned place.
    #[inline(always)]
    pub fn id16(&self, offset: usize) -> Option<WireId> {
        if offset + 16 > self.length {
            return None;
        }
        let [low, high] = self.frame.read::<[u64; 2]>(self.start + offset)?;
        let prefix = (u64::from_be(low) >> 48) as u16;
        let rest = if cfg!(target_endian = "little") {
            [low >> 16 | high << 48, high >> 16, 0]
        } else {
            [low << 16 | high >> 48, high << 16, 0]
        };
        Some(WireId::from_parts(prefix, rest, 16))
    }

    /// The id of a packet that ends too soon behind it to be read in words.
    #[inline(always)]
    fn id_bytewise(&self, at: usize, length: usize) -> Option<WireId> {
        let mut words = [0_u64; 3];
        let prefix = u16::from_be_bytes([self.frame.byte(at)?, self.frame.byte(at + 1)?]);
        let mut index = 0;
        while index < ID_MAX - 2 {
            if index >= length - 2 {
                break;
            }
            let byte = self.frame.byte(at + 2 + index)? as u64;
            let lane = index % 8;
            let shift = if cfg!(target_endian = "little") { lane * 8 } else { 56 - lane * 8 };
            // The words are named by constants: the verifier refuses a variable stack index.
            match index / 8 {
                0 => words[0] |= byte << shift,
                1 => words[1] |= byte << shift,
                _ => words[2] |= byte << shift,
            }
            index += 1;
        }
        Some(WireId::from_parts(prefix, words, length as u8))
    }
}

/// Room for the longest id, in words.
#[derive(Clone, Copy, zerocopy::FromBytes)]
#[repr(C, packed)]
struct IdWords {
    prefix: [u8; 2],
    words: [u64; 3],
}

impl IdWords {
    #[inline(always)]
    fn id(self, length: usize) -> WireId {
        WireId::from_parts(u16::from_be_bytes(self.prefix), self.words, length as u8)
    }
}

/// Finds the wire id of a packet to a service, by the service's protocol.
#[inline(always)]
pub fn dissect(payload: Payload, service: &ServiceRow) -> Option<Dissected> {
    if service.kind == kind::CONTROL {
        return native::dissect_control(payload);
    }
    match service.protocol {
        protocol::NATIVE => native::dissect(payload),
        protocol::QUIC => quic::dissect(payload, service.id_length as usize),
        protocol::WIREGUARD => wireguard::dissect(payload),
        protocol::OFFSET => offset::dissect(payload, service),
        _ => None,
    }
}
