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

    /// Whether it holds of the row that stands there.
    ///
    /// # Errors
    ///
    /// With the outcome that it has if it does not.
    pub fn check(&self, stands: Option<&Row>) -> Result<(), Outcome> {
        let (holds, otherwise) = match (self, stands) {
            (Self::Absent(_), row) => (row.is_none(), Outcome::Lost(Mismatch::Row)),
            (Self::Is(expected), row) => (row == Some(expected), Outcome::Lost(Mismatch::Row)),
            (Self::Acting(identity), Some(Row::Fence(row))) => {
                (row.admits(*identity), Outcome::Fenced)
            }
            (Self::Acting(_), _) => (false, Outcome::Fenced),
            (Self::Accepting(identity), Some(Row::Fence(row))) => {
                let accepts = row.identity() == *identity && row.admission == Admission::Accepting;
                (accepts, Outcome::Lost(Mismatch::Destination))
            }
            (Self::Accepting(_), _) => (false, Outcome::Lost(Mismatch::Destination)),
            (Self::Revoked(owner), Some(Row::Fence(row))) => {
                (row.has_revoked(*owner), Outcome::Lost(Mismatch::Owner))
            }
            (Self::Revoked(_), _) => (false, Outcome::Lost(Mismatch::Owner)),
            (Self::PlacementAt(revision), Some(Row::Placement(row))) => {
                (row.revision == *revision, Outcome::Lost(Mismatch::Placement))
            }
            (Self::PlacementAt(_), _) => (false, Outcome::Lost(Mismatch::Placement)),
        };
        if holds { Ok(()) } else { Err(otherwise) }
    }
}
