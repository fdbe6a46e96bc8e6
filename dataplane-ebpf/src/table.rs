//! The session table: an array of cache-line buckets that userspace writes through mmap while
//! the kernel program reads it.
//!
//! A bucket is one 64-byte line of four ways; a way is two 64-bit words, K and V. K holds a
//! 47-bit tag of the key, a flag and a 16-bit generation; V holds the packed [`Entry`] and the
//! same generation. Insert raises the way's generation, stores V, then K. Update is one store to
//! V. Remove clears the tag. A reader takes the words in any order and accepts them only if tag
//! and generations agree. So it sees the old entry, the new entry, or a miss that it can count:
//! never a mixture, without barriers or sequence locks, on x86-64 and arm64. A generation that
//! wraps would break this, so the writer waits out a grace period then ([`Insert::wrapped`]).
//!
//! A key has two buckets and a stash of last resort (two more), all found from the key's first bucket and
//! its tag alone: keys that share both collide wherever they lie, which is what makes the
//! writer's check for a taken key complete. The flag of the first way says that keys of the
//! bucket lie in their second one, the flag of the second way that some lie in the stash; a
//! reader that meets no flag is done after one line.

use crate::word::{MapWord, Word};

/// Ways in a bucket.
pub const WAYS: usize = 4;

/// Bits of the tag.
const TAG_BITS: u32 = 47;

/// Smallest and largest log2 of the number of primary buckets.
pub const BUCKET_BITS: core::ops::RangeInclusive<u8> = 4..=28;

/// What a way holds for its key, packed into 48 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What to do with the session's packets.
    pub place: Place,
    /// The epoch under which this node wrote the entry: 1 to [`crate::local::EPOCH_MAX`].
    pub epoch: u32,
}

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this node; its packets go to this CPU.
    Local {
        /// The CPU number.
        cpu: u16,
    },
    /// On another node.
    Remote {
        /// The node index.
        node: u16,
    },
    /// On its way from this node or to it: what comes is held. What was on its way to this CPU
    /// before is still delivered, as long as the session is ours.
    Hold {
        /// The CPU number.
        cpu: u16,
        /// Whether this node is still its owner. It is not before a session that comes is released
        /// here, nor once the release of one that goes has begun: then nothing of it is delivered
        /// and nothing sent in its name, as another node may be doing so.
        ours: bool,
    },
}

const KIND_LOCAL: u64 = 1;
const KIND_REMOTE: u64 = 2;
const KIND_HOLD: u64 = 3;
/// Of a hold: it is not ours.
const NOT_OURS: u64 = 1 << 42;

impl Entry {
    /// The entry in 48 bits: kind 0–1, target 2–17, epoch 18–41, and 42 of a hold that is not
    /// ours; zero above.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        let (kind, target): (u64, u16) = match self.place {
            Place::Local { cpu } => (KIND_LOCAL, cpu),
            Place::Remote { node } => (KIND_REMOTE, node),
            Place::Hold { cpu, ours: true } => (KIND_HOLD, cpu),
            Place::Hold { cpu, ours: false } => (KIND_HOLD | NOT_OURS, cpu),
        };
        kind | (target as u64) << 2 | ((self.epoch & crate::local::EPOCH_MAX) as u64) << 18
    }

    /// The entry in these 48 bits; `None` if they hold none.
    #[inline(always)]
    pub const fn unpack(bits: u64) -> Option<Self> {
        match Place::unpack(bits) {
            Some(place) => Some(Self { place, epoch: Self::epoch_of(bits) }),
            None => None,
        }
    }

    /// The epoch of the entry in these 48 bits.
    #[inline(always)]
    pub const fn epoch_of(bits: u64) -> u32 {
        (bits >> 18) as u32 & crate::local::EPOCH_MAX
    }
}

impl Place {
    /// The place of the entry in these 48 bits; `None` if they hold none.
    ///
    /// For the decision, which takes an entry's parts one by one: together they would be packed
    /// and unpacked once more for every packet.
    #[inline(always)]
    pub const fn unpack(bits: u64) -> Option<Self> {
        let target = (bits >> 2) as u16;
        match bits & 3 {
            KIND_LOCAL => Some(Self::Local { cpu: target }),
            KIND_REMOTE => Some(Self::Remote { node: target }),
            KIND_HOLD => Some(Self::Hold { cpu: target, ours: bits & NOT_OURS == 0 }),
            _ => None,
        }
    }

    /// The CPU of a session that is this node's, held or not; `None` if it is not.
    #[inline(always)]
    pub const fn ours(self) -> Option<u16> {
        match self {
            Self::Local { cpu } | Self::Hold { cpu, ours: true } => Some(cpu),
            Self::Remote { .. } | Self::Hold { ours: false, .. } => None,
        }
    }
}

/// One cache line of four ways.
#[repr(C, align(64))]
pub struct Bucket<W = MapWord> {
    ways: [Way<W>; WAYS],
}

/// Key word and value word of one entry.
#[repr(C)]
pub struct Way<W = MapWord> {
    key: W,
    value: W,
}

const _: () = assert!(size_of::<Bucket>() == 64);

/// What one bucket says of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The entry, in this way and with this generation.
    Hit {
        /// The 48 bits of the entry; see [`Entry::unpack`].
        bits: u64,
        /// The way.
        way: u8,
        /// The way's generation.
        generation: u16,
    },
    /// The way was being rewritten.
    Torn,
    /// Not in this bucket.
    Miss {
        /// Keys of this bucket lie in their second bucket.
        second: bool,
        /// Keys of this bucket lie in the stash.
        stash: bool,
    },
}

/// The K word: tag in bits 17–63 (0: the way is empty), the flag in 16, generation in 0–15.
#[derive(Clone, Copy)]
struct KeyWord(u64);

impl KeyWord {
    #[inline(always)]
    fn tag(self) -> u64 {
        self.0 >> 17
    }

    #[inline(always)]
    fn flag(self) -> bool {
        self.0 >> 16 & 1 != 0
    }

    #[inline(always)]
    fn generation(self) -> u16 {
        self.0 as u16
    }

    #[inline(always)]
    fn new(tag: u64, flag: bool, generation: u16) -> Self {
        Self(tag << 17 | (flag as u64) << 16 | generation as u64)
    }
}

impl<W: Word> Bucket<W> {
    /// A bucket of these words, K and V in turn.
    pub fn from_words(words: [[W; 2]; WAYS]) -> Self {
        Self { ways: words.map(|[key, value]| Way { key, value }) }
    }

    /// Looks a tag up. Safe against a writer at any moment.
    #[inline(always)]
    pub fn find(&self, tag: u64) -> Found {
        let keys = [
            KeyWord(self.ways[0].key.load()),
            KeyWord(self.ways[1].key.load()),
            KeyWord(self.ways[2].key.load()),
            KeyWord(self.ways[3].key.load()),
        ];
        // Which way it is cannot be predicted, so nothing branches on it.
        let [a, b, c, d] = keys.map(|key| if_zero(key.tag() ^ tag));
        if a | b | c | d == 0 {
            return Found::Miss { second: keys[0].flag(), stash: keys[1].flag() };
        }
        let way = (b & 1 | c & 2 | d & 3) as usize & (WAYS - 1);
        let generation = (keys[0].0 & a | keys[1].0 & b | keys[2].0 & c | keys[3].0 & d) as u16;
        let value = self.ways[way].value.load();
        if value as u16 != generation {
            return Found::Torn;
        }
        Found::Hit { bits: value >> 16, way: way as u8, generation }
    }

    /// The entry in a way that has this generation, whatever its key; `None` if it has another one
    /// or is empty. Safe against a writer at any moment.
    #[inline(always)]
    pub fn entry(&self, way: u8, generation: u16) -> Option<u64> {
        let way = &self.ways[way as usize & (WAYS - 1)];
        let (key, value) = (KeyWord(way.key.load()), way.value.load());
        let whole = key.tag() != 0 && key.generation() == generation && value as u16 == generation;
        whole.then_some(value >> 16)
    }

    /// The ways without an entry. For the writer only.
    pub fn free_ways(&self) -> impl Iterator<Item = u8> {
        (0..WAYS as u8).filter(|&way| self.key(way).tag() == 0)
    }

    /// Whether a way has no entry. For the writer only.
    pub fn is_free(&self, way: u8) -> bool {
        self.key(way).tag() == 0
    }

    /// Whether keys of this bucket lie in their second bucket, and in the stash. For the writer only.
    pub fn overflows(&self) -> [bool; 2] {
        [self.key(0).flag(), self.key(1).flag()]
    }

    /// Puts an entry into a free way and returns what the writer must know of it.
    pub fn insert(&self, way: u8, tag: u64, bits: u64) -> Insert {
        let old = self.key(way);
        let generation = old.generation().wrapping_add(1);
        let way = &self.ways[way as usize];
        way.value.store(bits << 16 | generation as u64);
        way.key.store(KeyWord::new(tag, old.flag(), generation).0);
        Insert { generation, wrapped: generation == u16::MAX }
    }

    /// The generation that the next insert into this way will have.
    pub fn next_generation(&self, way: u8) -> u16 {
        self.key(way).generation().wrapping_add(1)
    }

    /// Replaces the entry of a full way in one store.
    pub fn update(&self, way: u8, bits: u64) {
        let generation = self.key(way).generation();
        self.ways[way as usize].value.store(bits << 16 | generation as u64);
    }

    /// Empties a way. Its generation stays, so that the next insert has another one.
    pub fn remove(&self, way: u8) {
        let old = self.key(way);
        self.ways[way as usize].key.store(KeyWord::new(0, old.flag(), old.generation()).0);
    }

    /// Says whether keys of this bucket lie in their second bucket.
    pub fn set_second(&self, on: bool) {
        self.set_flag(0, on);
    }

    /// Says whether keys of this bucket lie in the stash.
    pub fn set_stash(&self, on: bool) {
        self.set_flag(1, on);
    }

    /// The tag, entry bits and generation of a way; `None` if it is empty. For the writer, or a
    /// snapshot: a racing reader may find `None` for a way in the middle of an insert.
    pub fn occupied(&self, way: u8) -> Option<(u64, u64, u16)> {
        let key = self.key(way);
        let value = self.ways[way as usize].value.load();
        let whole = key.tag() != 0 && value as u16 == key.generation();
        whole.then_some((key.tag(), value >> 16, key.generation()))
    }

    fn key(&self, way: u8) -> KeyWord {
        KeyWord(self.ways[way as usize].key.load())
    }

    fn set_flag(&self, way: u8, on: bool) {
        let old = self.key(way);
        self.ways[way as usize].key.store(KeyWord::new(old.tag(), on, old.generation()).0);
    }
}

/// All ones if a number below 2^63 is 0, else 0. Computed where the compiler does not see it, which
/// would make a branch of it.
#[inline(always)]
fn if_zero(number: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut mask = number;
        // SAFETY: two operations on a register.
        unsafe {
            core::arch::asm!(
                "{0} += -1",
                "{0} s>>= 63",
                inout(reg) mask,
                options(pure, nomem)
            );
        };
        mask
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        (number.wrapping_sub(1) as i64 >> 63) as u64
    }
}

/// What an insert did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a wrapped generation demands a grace period before the way is used again"]
pub struct Insert {
    /// The way's new generation.
    pub generation: u16,
    /// The generation wraps with the next insert: wait until no program runs that could still
    /// hold this way's words from 65,536 inserts ago.
    pub wrapped: bool,
}

/// The places where a key can lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// What tells the key from others in these buckets; never 0.
    pub tag: u64,
    /// The first bucket.
    pub first: u32,
    /// The second bucket.
    pub second: u32,
    /// The stash bucket; its neighbour ([`Location::stash_pair`]) takes what it has no room for.
    pub stash: u32,
}

impl Location {
    /// Where `hash` lies in a table of `2^bits` primary buckets.
    #[inline(always)]
    pub fn of(hash: u64, bits: u8) -> Self {
        let tag = hash & ((1 << TAG_BITS) - 1);
        let tag = tag | (tag == 0) as u64;
        let first = (hash >> (64 - bits as u32)) as u32;
        Self { tag, first, second: second(first, tag, bits), stash: stash(tag, bits) }
    }
}

impl Location {
    /// Both stash buckets.
    #[inline(always)]
    pub fn stash_pair(&self) -> [u32; 2] {
        [self.stash, self.stash ^ 1]
    }
}

/// The other bucket of a tag: the same distance leads back, so either gives the pair.
#[inline(always)]
fn second(first: u32, tag: u64, bits: u8) -> u32 {
    let distance = tag.wrapping_mul(0xd6e8_feb8_6659_fd93) >> (64 - bits as u32);
    first ^ (distance as u32 | 1)
}

#[inline(always)]
fn stash(tag: u64, bits: u8) -> u32 {
    let stash_bits = stash_bits(bits);
    let index = tag.wrapping_mul(0xa076_1d64_78bd_642f) >> (64 - stash_bits);
    (1_u32 << bits) + index as u32
}

/// log2 of the number of stash buckets: one for 16 primary ones, at least four.
#[inline(always)]
const fn stash_bits(bits: u8) -> u32 {
    if bits < 6 { 2 } else { bits as u32 - 4 }
}

/// How many buckets a table of `2^bits` primary ones has, the stash included.
pub const fn buckets(bits: u8) -> u32 {
    (1 << bits) + (1 << stash_bits(bits))
}

/// The smallest table for `sessions` wire ids at a load of at most one half.
///
/// At that load 3.7 % of the keys lie in their second bucket and 0.5 % in the stash, whose pairs of
/// buckets are then so empty that a key without room is not expected in a million full tables.
pub fn bits_for(sessions: u64) -> u8 {
    let buckets = sessions.div_ceil(WAYS as u64 / 2).max(1);
    let bits = u64::BITS - (buckets - 1).leading_zeros();
    (bits as u8).clamp(*BUCKET_BITS.start(), *BUCKET_BITS.end())
}

/// What a router needs to know of a session only when its packet was forwarded, or will be: one
/// row for each way, in an array of its own so that the table's lines stay full of entries.
///
/// Both words carry the way's generation.
#[repr(C)]
pub struct DetailRow<W = MapWord> {
    /// The low 48 bits of the state_version, above the generation.
    low: W,
    /// The high 16 bits of the state_version in 48–63, the generation in 0–15.
    high: W,
}

const _: () = assert!(size_of::<DetailRow>() == 16);

impl<W: Word> DetailRow<W> {
    /// A row of these words.
    pub fn from_words(low: W, high: W) -> Self {
        Self { low, high }
    }

    /// The session's state_version, if the row belongs to this generation of its way.
    #[inline(always)]
    pub fn version(&self, generation: u16) -> Option<u64> {
        let (low, high) = (self.low.load(), self.high.load());
        if low as u16 != generation || high as u16 != generation {
            return None;
        }
        Some(low >> 16 | high >> 48 << 48)
    }

    /// Whether `version` can replace the one in the row by a single store: only the low half
    /// differs. Otherwise the entry must be removed and inserted anew.
    pub fn can_replace(&self, version: u64) -> bool {
        self.high.load() >> 48 == version >> 48
    }

    /// Writes the state_version for this generation of the way.
    pub fn set_version(&self, version: u64, generation: u16) {
        self.high.store(version >> 48 << 48 | generation as u64);
        self.low.store(version << 16 | generation as u64);
    }
}
