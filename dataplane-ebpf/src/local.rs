//! What a node knows of itself: one cache line with its identity and its fence.

use crate::word::{MapWord, Word};

/// Highest epoch that fits the table's entries and the fence word.
pub const EPOCH_MAX: u32 = (1 << 24) - 1;

/// The fence in one word, so that epoch and deadline are never seen apart:
/// the epoch in the upper 24 bits, the deadline in jiffies in the lower 40.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Fence(u64);

const DEADLINE_BITS: u32 = 40;
const DEADLINE_MAX: u64 = (1 << DEADLINE_BITS) - 1;

impl Fence {
    /// A fence that never opens.
    pub const SHUT: Self = Self(0);

    /// A fence open for `epoch` (1 to [`EPOCH_MAX`]) while jiffies are below `deadline`.
    ///
    /// Jiffies of 40 bits last 34 years of uptime at 1,000 Hz; a later deadline is cut to that.
    pub const fn new(epoch: u32, deadline: u64) -> Self {
        let deadline = if deadline > DEADLINE_MAX { DEADLINE_MAX } else { deadline };
        Self(((epoch & EPOCH_MAX) as u64) << DEADLINE_BITS | deadline)
    }

    /// The fence held by a word of the shared table.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The word for the shared table.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The epoch that may deliver.
    #[inline(always)]
    pub const fn epoch(self) -> u32 {
        (self.0 >> DEADLINE_BITS) as u32
    }

    /// Jiffies from which on nothing is delivered.
    #[inline(always)]
    pub const fn deadline(self) -> u64 {
        self.0 & DEADLINE_MAX
    }

    /// Whether the node may deliver at `jiffies`.
    #[inline(always)]
    pub const fn is_open(self, jiffies: u64) -> bool {
        jiffies < self.deadline()
    }
}

/// The one row of the `LOCAL` map. Written by the daemon, read for every packet of a service.
#[repr(C, align(64))]
pub struct LocalRow {
    fence: MapWord,
    exact_deadline: MapWord,
    /// See [`LocalRow::identity`].
    identity: MapWord,
    service_seed: MapWord,
    /// See [`LocalRow::nonce`].
    nonce: [MapWord; 2],
    _reserved: [u64; 2],
}

const _: () = assert!(size_of::<LocalRow>() == 64);

/// What a node knows of itself apart from the fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Identity {
    /// This node's index; 0 while the daemon has not filled the tables.
    pub node: u16,
    /// log2 of the number of primary buckets in the session table; at least 4, at most 28.
    pub bucket_bits: u8,
    /// How many CPUs of the CPU list take new sessions.
    pub cpus: u16,
}

impl LocalRow {
    /// A row of a node that is not ready.
    pub const fn empty() -> Self {
        Self {
            fence: MapWord::new(0),
            exact_deadline: MapWord::new(0),
            identity: MapWord::new(0),
            service_seed: MapWord::new(0),
            nonce: [const { MapWord::new(0) }; 2],
            _reserved: [0; 2],
        }
    }

    /// The fence as XDP sees it.
    #[inline(always)]
    pub fn fence(&self) -> Fence {
        Fence(self.fence.load())
    }

    /// The lease's deadline in nanoseconds of CLOCK_BOOTTIME, checked where queues end.
    #[inline(always)]
    pub fn exact_deadline(&self) -> u64 {
        self.exact_deadline.load()
    }

    /// Arms the fence: `exact_deadline` is in nanoseconds of CLOCK_BOOTTIME.
    ///
    /// The word that opens XDP is stored last when the fence opens and first when it shuts.
    pub fn arm(&self, fence: Fence, exact_deadline: u64) {
        if fence == Fence::SHUT {
            self.fence.store(fence.0);
            self.exact_deadline.store(exact_deadline);
        } else {
            self.exact_deadline.store(exact_deadline);
            self.fence.store(fence.0);
        }
    }

    /// Who this node is.
    #[inline(always)]
    pub fn identity(&self) -> Identity {
        let bits = self.identity.load();
        Identity { node: bits as u16, bucket_bits: (bits >> 16) as u8, cpus: (bits >> 32) as u16 }
    }

    /// Makes the node ready. Written once, after every other table.
    pub fn set_identity(&self, identity: Identity) {
        let Identity { node, bucket_bits, cpus } = identity;
        self.identity.store(node as u64 | (bucket_bits as u64) << 16 | (cpus as u64) << 32);
    }

    /// The multiplier under which every service has a row of its own; see [`crate::service`].
    #[inline(always)]
    pub fn service_seed(&self) -> u64 {
        self.service_seed.load()
    }

    /// Sets the multiplier of the service lookup.
    pub fn set_service_seed(&self, seed: u64) {
        self.service_seed.store(seed);
    }

    /// What a marker must carry (see [`crate::marker`]): 128 bits that nobody can guess, of which
    /// the first word is 0 while no marker is on its way.
    #[inline(always)]
    pub fn nonce(&self) -> [u64; 2] {
        [self.nonce[0].load(), self.nonce[1].load()]
    }

    /// Sets what a marker must carry; a first word of 0 admits none.
    pub fn set_nonce(&self, nonce: [u64; 2]) {
        // A marker is refused in between: whoever sends one sends it again.
        self.nonce[0].store(0);
        self.nonce[1].store(nonce[1]);
        self.nonce[0].store(nonce[0]);
    }
}
