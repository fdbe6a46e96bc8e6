//! Wire ids: what a packet calls its session, and the slot and table key that follow from it.

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

    /// The id from its parts as a packet reader finds them: the first two bytes as a big-endian
    /// number, the next 24 bytes as words in memory order, and the id's length
    /// ([`ID_MIN`] to [`ID_MAX`]). What lies behind the id's end is ignored.
    #[inline(always)]
    pub(crate) fn from_parts(prefix: u16, words: [u64; 3], length: u8) -> Self {
        let rest = length as u32 - 2;
        Self {
            prefix,
            rest: [keep(words[0], rest, 0), keep(words[1], rest, 8), keep(words[2], rest, 16)],
            length,
        }
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

/// Of a word at `at` bytes into the rest of an id, the bytes that belong to its `length` bytes.
#[inline(always)]
fn keep(word: u64, length: u32, at: u32) -> u64 {
    if length >= at + 8 {
        return word;
    }
    if length <= at {
        return 0;
    }
    let drop = 64 - (length - at) * 8;
    if cfg!(target_endian = "little") { word << drop >> drop } else { word >> drop << drop }
}

#[inline(always)]
fn rest_hash(rest: &[u64; 3], length: u8, seed: u64) -> u64 {
    let seed = seed.wrapping_add(length as u64);
    let [a, b, c] = [rest[0].to_ne_bytes(), rest[1].to_ne_bytes(), rest[2].to_ne_bytes()];
    // Lengths are constants here, so that the hash compiles to straight code without loops.
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&a);
    bytes[8..16].copy_from_slice(&b);
    bytes[16..].copy_from_slice(&c);
    if length <= 18 { xxh64(&bytes[..16], seed) } else { xxh64(&bytes, seed) }
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
