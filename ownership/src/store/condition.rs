use super::{Admission, Identity, Key, Mismatch, Outcome, Row};
use crate::{Revision, model::Owner};

/// Something that must hold for a transaction to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::large_enum_variant, reason = "nearly all transactions hold the large one")]
pub enum Condition {
    /// Nothing stands there.
    Absent(Key),
    /// This row stands there, all of it.
    Is(Row),
    /// Whoever writes may act: its fence row has its epoch and incarnation, and is not fenced.
    Acting(Identity),
    /// The destination has this epoch and incarnation, and accepts sessions.
    Accepting(Identity),
    /// This owner may act no longer: its node has a later epoch, or is fenced in this one.
    Revoked(Owner),
    /// The placement has this revision.
    PlacementAt(Revision),
}

impl Condition {
    /// The row that it looks at.
    pub fn key(&self) -> Key {
        match self {
            Self::Absent(key) => key.clone(),
            Self::Is(row) => row.key(),
            Self::Acting(identity) | Self::Accepting(identity) => Key::Fence(identity.owner.node),
            Self::Revoked(owner) => Key::Fence(owner.node),
            Self::PlacementAt(_) => Key::Placement,
        }
    }

    /// What a transaction comes to if this does not hold.
    pub fn otherwise(&self) -> Outcome {
        match self {
            Self::Absent(_) | Self::Is(_) => Outcome::Lost(Mismatch::Row),
            Self::Acting(_) => Outcome::Fenced,
            Self::Accepting(_) => Outcome::Lost(Mismatch::Destination),
            Self::Revoked(_) => Outcome::Lost(Mismatch::Owner),
            Self::PlacementAt(_) => Outcome::Lost(Mismatch::Placement),
        }
    }

    /// Whether it holds of the row that stands there.
    ///
    /// # Errors
    ///
    /// With what the transaction comes to if it does not.
    pub fn check(&self, stands: Option<&Row>) -> Result<(), Outcome> {
        let holds = match (self, stands) {
            (Self::Absent(_), row) => row.is_none(),
            (Self::Is(expected), row) => row == Some(expected),
            (Self::Acting(identity), Some(Row::Fence(row))) => row.admits(*identity),
            (Self::Accepting(identity), Some(Row::Fence(row))) => {
                row.identity() == *identity && row.admission == Admission::Accepting
            }
            (Self::Revoked(owner), Some(Row::Fence(row))) => row.has_revoked(*owner),
            (Self::PlacementAt(revision), Some(Row::Placement(row))) => row.revision == *revision,
            (Self::Acting(_) | Self::Accepting(_) | Self::Revoked(_) | Self::PlacementAt(_), _) => {
                false
            }
        };
        if holds { Ok(()) } else { Err(self.otherwise()) }
    }
}
