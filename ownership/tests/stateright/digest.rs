//! Numbers that stand for values: states are compared by them.

use std::hash::{Hash, Hasher};

/// Two values with the same one are the same, but for one in 2^64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digest(u64);

pub fn digest(value: &impl Hash) -> Digest {
    let mut hasher = xxhash_rust::xxh64::Xxh64::new(0);
    value.hash(&mut hasher);
    Digest(hasher.finish())
}

impl Digest {
    /// Whether it is one in so many.
    pub fn is_sampled(self, one_in: u64) -> bool {
        self.0.is_multiple_of(one_in)
    }
}
