use std::fmt;
use thiserror::Error;

/// A session's state_version (versioning-model §2): 0 at BIRTH, then one more for every change.
///
/// There is no arithmetic but [`StateVersion::next`]: a version is never lowered, reused or
/// wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateVersion(u64);

/// The session's versions have come to their end (versioning-model §8): it must be terminated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no state_version is left for this session: it must be terminated")]
pub struct VersionsExhausted;

impl StateVersion {
    /// The version of a session that was just born.
    pub const BIRTH: Self = Self(0);

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The version with this number, for records that are read from a store.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The version after this one. Fails one before the end: the last number is the
    /// termination's, which is a change too.
    pub const fn next(self) -> Result<Self, VersionsExhausted> {
        if self.0 >= u64::MAX - 1 { Err(VersionsExhausted) } else { Ok(Self(self.0 + 1)) }
    }

    /// The version of the session's termination: the next one, even if it is the last number. Fails
    /// only behind that.
    pub const fn last(self) -> Result<Self, VersionsExhausted> {
        if self.0 == u64::MAX { Err(VersionsExhausted) } else { Ok(Self(self.0 + 1)) }
    }
}

impl fmt::Display for StateVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_only_grow_and_end_instead_of_wrapping() {
        let first = StateVersion::BIRTH.next().unwrap();
        assert_eq!(first.get(), 1);
        assert!(first > StateVersion::BIRTH);
        assert_eq!(StateVersion(u64::MAX - 2).next(), Ok(StateVersion(u64::MAX - 1)));
        assert_eq!(StateVersion(u64::MAX - 1).next(), Err(VersionsExhausted));
    }
}
