//! Token buckets: how many packets of a kind one part of the internet may send.
//!
//! Packets that open sessions and packets to control ports cost an application more than others, and
//! need no session of the sender. So each service bounds them by source prefix, at the node that would
//! deliver them: with the generic cell rate algorithm (ITU-T I.371), whose bucket is one word, and by
//! jiffies, which cost nothing to read.

use crate::{node::Address, word::MapWord};
use core::time::Duration;
use zerocopy::{Immutable, IntoBytes};

/// Words of the `LIMITS` map; a power of two. Prefixes share them by a hash: one that meets a busy
/// one has its troubles too.
pub const LIMITS: usize = 1 << 16;

/// log2 of the units in a jiffy.
const UNITS: u32 = 20;

/// The last jiffy that fits a word, with room for a bucket's debt.
const JIFFIES_MAX: u64 = (1 << 43) - 1;

/// How often a packet tries again when packets on other CPUs have changed its word meanwhile. One that
/// never succeeds is refused: then others were let through in its place.
const ATTEMPTS: usize = 4;

/// A bound on the packets of one source prefix, as a service's row holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
pub struct Limit {
    /// Units of 2^-20 jiffies from packet to packet; 0 if there is no bound.
    interval: u32,
    /// How many packets may come at once; 1 or more.
    burst: u32,
}

impl Limit {
    /// No bound.
    pub const NONE: Self = Self { interval: 0, burst: 0 };

    /// At most `rate` packets a second in the long run (1 to a million; held to 0.2 %), and at most
    /// `burst` at once, where a jiffy takes `tick`.
    pub const fn new(rate: u32, burst: u32, tick: Duration) -> Self {
        let a_second = (1_000_000_000_u64 << UNITS) / tick.as_nanos() as u64;
        // Rounded up, so that no more than `rate` ever come.
        let interval = a_second.div_ceil(rate as u64);
        let interval = if interval > u32::MAX as u64 { u32::MAX } else { interval as u32 };
        Self { interval, burst }
    }

    /// At most one packet in `ticks` jiffies (1 to 4,095) in the long run, and at most `burst` at once.
    pub const fn of_ticks(ticks: u32, burst: u32) -> Self {
        Self { interval: ticks << UNITS, burst }
    }

    /// Its two words, in the order of their places. Each may be replaced while the other stands: a packet
    /// then meets the rate of one limit and the burst of another.
    pub const fn words(self) -> [u32; 2] {
        [self.interval, self.burst]
    }

    /// Whether there is a bound.
    #[inline(always)]
    pub const fn is_some(&self) -> bool {
        self.interval != 0
    }

    /// Takes a packet's place out of the bucket in `word`, unless it is empty at `jiffies`: over any
    /// time no more than the burst, and the rate times that time, are let through, whatever CPUs they
    /// come on.
    #[inline(always)]
    pub fn take(&self, word: &MapWord, jiffies: u64) -> bool {
        use crate::word::Word;
        let now = (jiffies & JIFFIES_MAX) << UNITS;
        let interval = self.interval as u64;
        let debt = interval * (self.burst as u64).saturating_sub(1);
        // The word is the time until which what was let through lasts at the rate.
        for _ in 0..ATTEMPTS {
            let until = word.load();
            let start = if until > now { until } else { now };
            if start - now > debt {
                return false;
            }
            if word.compare_exchange(until, start + interval) {
                return true;
            }
        }
        false
    }
}

/// In place of a port's kind: what answers a client gets about packets that do not fit.
pub const ANSWERS: u8 = 16;

/// The word of a source's bucket: IPv4 by /24, IPv6 by /56; apart for each service, by its seed, and
/// each of its ports, by their [`crate::service::kind`].
///
/// As the seed is the cluster's secret, nobody can choose a prefix that meets another one's.
#[inline(always)]
pub fn index(source: Address, seed: u64, kind: u8) -> u32 {
    let [high, low] = source.0.map(u64::from_be);
    // IPv4 lies mapped in the lower half.
    let prefix = if high == 0 { low } else { high } >> 8;
    let mixed = prefix.wrapping_mul(seed.rotate_left(kind as u32) | 1);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (u64::BITS - LIMITS.trailing_zeros())) as u32
}
