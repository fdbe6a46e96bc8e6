//! Which client a session is bound to: an address and a port, for services that enforce it.
//!
//! A cold row for each way of the session table, of four 64-bit words that userspace writes while
//! the kernel's program reads them. Each word holds a quarter of the address and port, the
//! generation of the way and the number of the change: a reader sees one binding whole, or that
//! what it read does not belong together. Never a mixture, in any order of loads and stores.
//!
//! Clients are looked up the other way round, too: a table like the session table's leads from a
//! client to the way of its session ([`Seat`]), so that a reply that names no session can be told.

use crate::{
    node::Address,
    word::{MapWord, Word},
};
use xxhash_rust::xxh64::xxh64;

/// A client's address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The address.
    pub address: Address,
    /// The port in network byte order.
    pub port: u16,
}

/// Words of a row.
const WORDS: usize = 4;

/// Bits of address and port in each word: 4 times 36 are 128 and 16.
const PART_BITS: u32 = 36;
const PART: u64 = (1 << PART_BITS) - 1;

/// Bits of the number of the change.
const CHANGE_BITS: u32 = 12;
const CHANGE_MAX: u64 = (1 << CHANGE_BITS) - 1;

impl Binding {
    /// No client: the session waits for one to attach again.
    pub const NONE: Self = Self { address: Address([0; 2]), port: 0 };

    #[inline(always)]
    fn parts(self) -> [u64; WORDS] {
        let Address([low, high]) = self.address;
        [
            low & PART,
            low >> PART_BITS | (high & 0xff) << 28,
            high >> 8 & PART,
            high >> 44 | (self.port as u64) << 20,
        ]
    }

    #[inline(always)]
    fn of_parts([a, b, c, d]: [u64; WORDS]) -> Self {
        let low = a | b << PART_BITS;
        let high = b >> 28 | c << 8 | d << 44;
        Self { address: Address([low, high]), port: (d >> 20) as u16 }
    }

    /// Where a client of a service with this hash seed is found among the clients.
    #[inline(always)]
    pub fn hash(self, seed: u64) -> u64 {
        let Address([low, high]) = self.address;
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&low.to_ne_bytes());
        bytes[8..16].copy_from_slice(&high.to_ne_bytes());
        bytes[16..].copy_from_slice(&(self.port as u64).to_ne_bytes());
        xxh64(&bytes, seed)
    }
}

/// The binding of the session in one way of the session table.
///
/// In each word: the generation in bits 0–15, the number of the change in 16–27, and 36 bits of
/// address and port above.
#[repr(C)]
pub struct BindingRow<W = MapWord> {
    words: [W; WORDS],
}

const _: () = assert!(size_of::<BindingRow>() == 32);

impl<W: Word> BindingRow<W> {
    /// A row of these words.
    pub fn from_words(words: [W; WORDS]) -> Self {
        Self { words }
    }

    /// The binding, if the whole row is of this generation of its way and of one change.
    #[inline(always)]
    pub fn get(&self, generation: u16) -> Option<Binding> {
        let [a, b, c, d] = &self.words;
        let [a, b, c, d] = [a.load(), b.load(), c.load(), d.load()];
        let differ = (a ^ b | a ^ c | a ^ d) << PART_BITS;
        if differ != 0 || a as u16 != generation {
            return None;
        }
        let above = 64 - PART_BITS;
        Some(Binding::of_parts([a >> above, b >> above, c >> above, d >> above]))
    }

    /// Writes the binding for a generation of the way. For the writer only.
    ///
    /// Returns whether the numbers of changes are used up: then wait until no program runs that
    /// could still hold words from 4,096 changes ago, before the next one.
    #[must_use = "numbers that are used up demand a grace period before the next change"]
    pub fn set(&self, binding: Binding, generation: u16) -> bool {
        let old = self.words[0].load();
        let last = old >> 16 & CHANGE_MAX;
        let change = if old as u16 == generation { (last + 1) & CHANGE_MAX } else { 0 };
        let tail = change << 16 | generation as u64;
        for (word, part) in self.words.iter().zip(binding.parts()) {
            word.store(part << (64 - PART_BITS) | tail);
        }
        change == CHANGE_MAX
    }
}

/// Why a packet's sender is not its session's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotClient {
    /// The session is bound to nobody.
    Nobody,
    /// It is bound to somebody else.
    Other,
    /// Its binding was being replaced while it was read, or has never been written.
    Torn,
}

/// Compares a packet's sender with the client that a session is bound to: the row of its way, and the
/// generation that it has there.
#[inline(always)]
pub fn check_sender(
    row: Option<&BindingRow>,
    generation: u16,
    sender: Binding,
) -> Result<(), NotClient> {
    match row.and_then(|row| row.get(generation)) {
        Some(binding) if binding == sender => Ok(()),
        Some(Binding::NONE) => Err(NotClient::Nobody),
        Some(_) => Err(NotClient::Other),
        None => Err(NotClient::Torn),
    }
}

/// Where a client's session is: a way of the session table and its generation, in the 48 bits of a
/// bucket's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The way: `bucket * WAYS + way`, below 2^31.
    pub detail: u32,
    /// The generation that the session has there.
    pub generation: u16,
}

impl Seat {
    /// The seat in 48 bits.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        (self.detail as u64) << 16 | self.generation as u64
    }

    /// The seat in these 48 bits.
    #[inline(always)]
    pub const fn unpack(bits: u64) -> Self {
        Self { detail: (bits >> 16) as u32, generation: bits as u16 }
    }
}
