use std::fmt;
use thiserror::Error;

/// A node's incarnation as an owner: 1 to 2^24 - 1.
///
/// Epochs come from one counter, so any two compare. A new one revokes all that the node owned
/// under an older one, in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u32);

/// The counter of epochs has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no epoch is left after {}: the cluster must be set up anew", Epoch::MAX.0)]
pub struct EpochsExhausted;

impl Epoch {
    /// The first epoch.
    pub const FIRST: Self = Self(1);

    /// The last epoch.
    pub const MAX: Self = Self((1 << 24) - 1);

    /// The epoch with this number, if it is one.
    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 || number > Self::MAX.0 { None } else { Some(Self(number)) }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The next epoch; there is no way back, and none around the end.
    pub const fn next(self) -> Result<Self, EpochsExhausted> {
        if self.0 == Self::MAX.0 { Err(EpochsExhausted) } else { Ok(Self(self.0 + 1)) }
    }

    /// The epoch that is so many further.
    pub const fn skip(self, count: u32) -> Result<Self, EpochsExhausted> {
        if count > Self::MAX.0 - self.0 { Err(EpochsExhausted) } else { Ok(Self(self.0 + count)) }
    }

    /// The epoch before this one: the last of those that end when this one begins.
    pub const fn previous(self) -> Option<Self> {
        Self::new(self.0 - 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_end_instead_of_wrapping() {
        assert_eq!(Epoch::new(0), None);
        assert_eq!(Epoch::new(1 << 24), None);
        assert_eq!(Epoch::FIRST.next(), Ok(Epoch(2)));
        assert_eq!(Epoch::MAX.next(), Err(EpochsExhausted));
        assert_eq!(Epoch::FIRST.skip(Epoch::MAX.0 - 1), Ok(Epoch::MAX));
        assert_eq!(Epoch(2).skip(Epoch::MAX.0 - 1), Err(EpochsExhausted));
        assert_eq!(Epoch(2).skip(u32::MAX), Err(EpochsExhausted));
        assert_eq!((Epoch::FIRST.previous(), Epoch(2).previous()), (None, Some(Epoch::FIRST)));
    }
}
