use std::{fmt, num::NonZeroU16};
use thiserror::Error;

/// A node's number in the data plane: 1 to 4,095.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(NonZeroU16);

/// Not a node index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0} is no node index: they go from 1 to {max}", max = NodeIndex::MAX)]
pub struct BadNodeIndex(pub u16);

impl NodeIndex {
    /// The highest index.
    pub const MAX: u16 = 4095;

    /// The first node.
    pub const FIRST: Self = Self(NonZeroU16::MIN);

    /// The last node.
    pub const LAST: Self = Self(NonZeroU16::new(Self::MAX).expect("not 0"));

    /// The index with this number, if it is one.
    pub const fn new(number: u16) -> Result<Self, BadNodeIndex> {
        match NonZeroU16::new(number) {
            Some(index) if number <= Self::MAX => Ok(Self(index)),
            _ => Err(BadNodeIndex(number)),
        }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for NodeIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_bounded() {
        assert_eq!(NodeIndex::new(0), Err(BadNodeIndex(0)));
        assert_eq!(NodeIndex::new(4095).unwrap().get(), 4095);
        assert_eq!(
            NodeIndex::new(4096).unwrap_err().to_string(),
            "4096 is no node index: they go from 1 to 4095"
        );
    }
}
