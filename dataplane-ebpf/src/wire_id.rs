//! Wire ids: what a packet calls its session, and the slot and table key that follow from it.

use crate::node::Address;
use xxhash_rust::xxh64::xxh64;

/// Shortest wire id, in bytes: the two that choose the slot, and two to tell ids apart.
pub const ID_MIN: usize = 4;

/// Longest wire id, in bytes: the longest QUIC connection id.
pub const ID_MAX: usize = 20;

/// A wire id: its first two bytes, and the rest in three words, in memory order, zero-padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireId {
    prefix: u16,
    rest: [u64; 3],
    length: u8,
}

/// Where a session is looked up: 64 bits of hash, and its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The session table's key.
    pub hash: u64,
    /// The slot, which the placement gives to a node.
    pub slot: u16,
}

impl Key {
    /// No key: its hash is 0, which no id in use has but by a chance of 2^-64.
    pub const NONE: Self = Self { hash: 0, slot: 0 };
}

impl WireId {
    /// The id with these bytes ([`ID_MIN`] to [`ID_MAX`]); `None` for any other length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < ID_MIN || bytes.len() > ID_MAX {
            return None;
        }
        let mut padded = [0; 26];
        padded[..bytes.len()].copy_from_slice(bytes);
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&padded[at..at + 8]);
            u64::from_ne_bytes(word)
        };
        Some(Self {
            prefix: u16::from_be_bytes([padded[0], padded[1]]),
            rest: [word(2), word(10), word(18)],
            length: bytes.len() as u8,
        })
    }

    /// The id from its parts: the first two bytes as a big-endian number, the rest as zero-padded
    /// words in memory order, and the length ([`ID_MIN`] to [`ID_MAX`]).
    #[inline(always)]
    pub(crate) fn from_parts(prefix: u16, rest: [u64; 3], length: u8) -> Self {
        Self { prefix, rest, length }
    }

    /// The id's bytes, and how many of them there are.
    pub fn to_bytes(&self) -> ([u8; ID_MAX], usize) {
        let mut padded = [0; 26];
        padded[..2].copy_from_slice(&self.prefix.to_be_bytes());
        for (word, bytes) in self.rest.iter().zip(padded[2..].chunks_exact_mut(8)) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        let mut bytes = [0; ID_MAX];
        bytes.copy_from_slice(&padded[..ID_MAX]);
        (bytes, self.length as usize)
    }

    /// The 16-byte id whose halves are these words in memory order.
    #[inline(always)]
    pub fn from_words(low: u64, high: u64) -> Self {
        let prefix = (u64::from_be(low) >> 48) as u16;
        let rest = if cfg!(target_endian = "little") {
            [low >> 16 | high << 48, high >> 16, 0]
        } else {
            [low << 16 | high >> 48, high << 16, 0]
        };
        Self::from_parts(prefix, rest, 16)
    }

    /// What stands for a client that has no id yet: its UDP port (network byte order) and its
    /// address, IPv4 as `::ffff:a.b.c.d`: 18 bytes.
    #[inline(always)]
    pub fn of_client(address: Address, port: u16) -> Self {
        let [high, low] = address.0;
        Self::from_parts(u16::from_be(port), [high, low, 0], 18)
    }

    /// The same id but for bits of its first byte, and with zeros from the byte `kept` (at least 2)
    /// to the tenth: for ids that share their first bytes with something else.
    #[inline(always)]
    pub(crate) fn masked(self, first: u8, kept: usize) -> Self {
        let mask = match kept {
            0..=2 => 0,
            3 => u64::from_ne_bytes([0xff, 0, 0, 0, 0, 0, 0, 0]),
            _ => u64::MAX,
        };
        let [head, ..] = self.rest;
        let rest = [head & mask, self.rest[1], self.rest[2]];
        Self { prefix: self.prefix & ((first as u16) << 8 | 0xff), rest, length: self.length }
    }

    /// The slot and the table key of this id in a service with the hash seed `seed`.
    ///
    /// One xxh64 of the id without its first two bytes (zero-padded to 16 bytes, or to 24 when
    /// the id is longer than 18), seeded with `seed` plus the id's length, gives both. The slot is
    /// the first two bytes XOR the hash's top 16 bits; so every id has a slot, and an id for a
    /// wanted slot costs one hash ([`mint`]). The key mixes the first two bytes into the hash.
    ///
    /// The hash balances. It is no defence: keys can collide under every seed, so whoever
    /// registers an id must refuse one whose key is taken.
    #[inline(always)]
    pub fn key(&self, seed: u64) -> Key {
        let hash = rest_hash(&self.rest, self.length, seed);
        Key {
            hash: (hash ^ self.prefix as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            slot: self.prefix ^ (hash >> 48) as u16,
        }
    }
}

#[inline(always)]
fn rest_hash(rest: &[u64; 3], length: u8, seed: u64) -> u64 {
    let seed = seed.wrapping_add(length as u64);
    let [a, b, c] = *rest;
    if length > 18 {
        return long_hash(a, b, c, seed);
    }
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&a.to_ne_bytes());
    bytes[8..].copy_from_slice(&b.to_ne_bytes());
    xxh64(&bytes, seed)
}

/// The hash of what only the longest ids have. A function of its own: together the two would become
/// one loop over memory, for which every packet would pay.
#[inline(never)]
fn long_hash(a: u64, b: u64, c: u64, seed: u64) -> u64 {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&a.to_ne_bytes());
    bytes[8..16].copy_from_slice(&b.to_ne_bytes());
    bytes[16..].copy_from_slice(&c.to_ne_bytes());
    xxh64(&bytes, seed)
}

/// Turns random bytes into an id for `slot`: overwrites the first two bytes of `id`.
///
/// `id` holds [`ID_MIN`] to [`ID_MAX`] bytes whose tail the caller drew from a secure random
/// source; returns `None`, and changes nothing, for any other length. The id is as unguessable as
/// its tail: 16 bits of a SessionID follow from the slot, 112 stay random.
#[must_use]
pub fn mint(id: &mut [u8], slot: u16, seed: u64) -> Option<WireId> {
    let drawn = WireId::from_bytes(id)?;
    let hash = rest_hash(&drawn.rest, drawn.length, seed);
    let prefix = slot ^ (hash >> 48) as u16;
    id[..2].copy_from_slice(&prefix.to_be_bytes());
    Some(WireId { prefix, ..drawn })
}
