//! How old a store is: what a store that was restored from a backup is recognised by.

use std::fmt;
use thiserror::Error;

/// Counts how often a store was begun anew: [`recover`](super::recover) begins the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// A point in a store's history. Each transaction that Won is at a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The generation.
    pub generation: Generation,
    /// Counts on within the generation.
    pub revision: u64,
}

impl Position {
    /// Before everything.
    pub const START: Self = Self { generation: Generation(0), revision: 0 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revision {} of generation {}", self.revision, self.generation.0)
    }
}

/// The store is behind what was seen of it: it was restored from a backup, or is another one. It must
/// not be used; an operator has to start a new generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the store stands at {stands}, but {seen} was seen before: it is another store or was restored \
     from a backup; begin a new generation (`ownership::store::recover`)"
)]
pub struct OlderStore {
    /// Where the store stands.
    pub stands: Position,
    /// What was seen.
    pub seen: Position,
}

/// The latest point that a node has seen. It must be kept where a restored store does not bring it
/// back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seen(Position);

impl Seen {
    /// Of a node that has seen this much.
    pub const fn new(position: Position) -> Self {
        Self(position)
    }

    /// The latest point.
    pub const fn position(self) -> Position {
        self.0
    }

    /// Takes note of where a store stands, as of an answer that was asked for after all that was seen.
    ///
    /// # Errors
    ///
    /// If the store is older than that.
    pub fn admit(&mut self, stands: Position) -> Result<(), OlderStore> {
        if stands < self.0 {
            return Err(OlderStore { stands, seen: self.0 });
        }
        self.0 = stands;
        Ok(())
    }
}
