//! What a successor of the daemon must know of each entry of the session table: the wire id that
//! the table holds only a hash of, and the session it belongs to.

use crate::{
    wire_id::{ID_MAX, ID_MIN},
    word::{MapWord, Word},
};
use xxhash_rust::xxh64::xxh64;

/// One row of the `WIRE_IDS` map, for each way of the session table. Written by the daemon before
/// the way's entry and emptied after it is removed; the programs never read it.
///
/// Nothing needs to be atomic here. A daemon that was killed in the middle leaves a row that does
/// not fit its way, which the next one sees: its check fails, or its id does not lead to the way.
#[repr(C)]
pub struct WireIdRow {
    /// The id (20 bytes, zero-padded), its length, the service's index, and 16 bits of check.
    id: [MapWord; 3],
    /// See [`Registered::session`].
    session: MapWord,
}

const _: () = assert!(size_of::<WireIdRow>() == 32);

/// A wire id that was registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its bytes, zero-padded.
    bytes: [u8; ID_MAX],
    length: u8,
    /// The index of its service: 1 to 63.
    pub service: u8,
    /// The table's key of its session's SessionID, which may be this id itself; 0 for an off-home
    /// row, whose session is another node's.
    pub session: u64,
}

impl Registered {
    /// The id with these bytes; `None` if no wire id is so long.
    pub fn new(bytes: &[u8], service: u16, session: u64) -> Option<Self> {
        if !(ID_MIN..=ID_MAX).contains(&bytes.len()) {
            return None;
        }
        let mut padded = [0; ID_MAX];
        padded[..bytes.len()].copy_from_slice(bytes);
        let service = u8::try_from(service).ok()?;
        Some(Self { bytes: padded, length: bytes.len() as u8, service, session })
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length as usize]
    }

    fn words(&self) -> [u64; 4] {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&self.bytes[at..at + 8]);
            u64::from_ne_bytes(word)
        };
        let [a, b, c, d, ..] = [self.bytes[16], self.bytes[17], self.bytes[18], self.bytes[19]];
        let third = u64::from_ne_bytes([a, b, c, d, self.length, self.service, 0, 0]);
        let words = [word(0), word(8), third, self.session];
        let [low, high] = check(&words).to_ne_bytes();
        let third = u64::from_ne_bytes([a, b, c, d, self.length, self.service, low, high]);
        [words[0], words[1], third, self.session]
    }
}

impl WireIdRow {
    /// A row of a way that is empty.
    pub const fn empty() -> Self {
        Self { id: [MapWord::new(0), MapWord::new(0), MapWord::new(0)], session: MapWord::new(0) }
    }

    /// Writes the row.
    pub fn set(&self, registered: &Registered) {
        let words = registered.words();
        self.session.store(words[3]);
        for (word, value) in self.id.iter().zip(words) {
            word.store(value);
        }
    }

    /// Empties the row.
    pub fn clear(&self) {
        // Most rows of a table are empty, and their memory stays clean.
        for word in self.id.iter().chain([&self.session]).filter(|word| word.load() != 0) {
            word.store(0);
        }
    }

    /// What the row holds; `None` if it is empty or makes no sense.
    pub fn get(&self) -> Option<Registered> {
        let [first, second, third] = [&self.id[0], &self.id[1], &self.id[2]].map(Word::load);
        let session = self.session.load();
        let [a, b, c, d, length, service, ..] = third.to_ne_bytes();
        let mut bytes = [0; ID_MAX];
        bytes[..8].copy_from_slice(&first.to_ne_bytes());
        bytes[8..16].copy_from_slice(&second.to_ne_bytes());
        bytes[16..].copy_from_slice(&[a, b, c, d]);
        let length = length as usize;
        let is_padded = bytes.get(length..)?.iter().all(|&byte| byte == 0);
        let found = Registered::new(&bytes[..length], service as u16, session)?;
        (is_padded && found.words()[2] == third).then_some(found)
    }
}

/// A check of the words without its own bits: it finds damage, it is no defence.
fn check(words: &[u64; 4]) -> u16 {
    let mut bytes = [0; 32];
    for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    xxh64(&bytes, 0) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(words: [u64; 4]) -> WireIdRow {
        let [a, b, c, session] = words.map(MapWord::new);
        WireIdRow { id: [a, b, c], session }
    }

    #[test]
    fn what_was_registered_is_read_back() {
        let bytes = [7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19];
        for length in ID_MIN..=ID_MAX {
            let registered = Registered::new(&bytes[..length], 63, u64::MAX).unwrap();
            assert_eq!(registered.bytes(), &bytes[..length]);
            let row = WireIdRow::empty();
            row.set(&registered);
            assert_eq!(row.get(), Some(registered));
            row.clear();
            assert_eq!(row.get(), None);
        }
        for length in [0, ID_MIN - 1, ID_MAX + 1] {
            assert_eq!(Registered::new(&[0; 21][..length], 1, 1), None);
        }
    }

    #[test]
    fn a_damaged_row_holds_nothing() {
        let registered = Registered::new(&[0xa5; 16], 3, 0x0123_4567_89ab_cdef).unwrap();
        let words = registered.words();
        assert_eq!(row(words).get(), Some(registered));
        for bit in 0..256 {
            let mut damaged = words;
            damaged[bit / 64] ^= 1 << (bit % 64);
            assert_eq!(row(damaged).get(), None, "bit {bit}");
        }
        assert_eq!(row([0; 4]).get(), None);
    }
}
