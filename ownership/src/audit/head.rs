use sha2::{Digest, Sha256};
use std::fmt;

/// The last link of a chain of events: SHA-256 over the link before it and the event.
///
/// It stands beside the record, node or placement that the events are about and is written with it,
/// so nobody can take an event out, put one in or change one without its being seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Head([u8; 32]);

impl Head {
    /// The head of a chain that has no event yet.
    pub const START: Self = Self([0; 32]);

    /// The head with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn bytes(self) -> [u8; 32] {
        self.0
    }

    /// The head once an event with these bytes has been added.
    #[must_use]
    pub fn then(self, event: &[u8]) -> Self {
        Self(Sha256::new().chain_update(self.0).chain_update(event).finalize().into())
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}
