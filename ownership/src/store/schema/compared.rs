use crate::{
    bytes::Out,
    store::{Condition, Identity},
};

/// A [`Condition`] as a question about the bytes that stand under its key: for engines that compare
/// bytes and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    /// Is nothing there?
    Absent,
    /// Are they these?
    Equal(Vec<u8>),
    /// Are there any, at least `from`, and below `below` if that is given?
    Within {
        /// The least.
        from: Vec<u8>,
        /// The least that is too great.
        below: Option<Vec<u8>>,
    },
}

impl Condition {
    /// The same question about bytes.
    pub fn compared(&self) -> Compared {
        let mut out = Out::default();
        match self {
            Self::Absent(_) => return Compared::Absent,
            Self::Is(row) => return Compared::Equal(row.to_bytes()),
            Self::Acting(Identity { owner, incarnation }) => {
                out.u32(owner.epoch.get()).u8(0).u128(incarnation.0);
            }
            Self::Accepting(Identity { owner, incarnation }) => {
                out.u32(owner.epoch.get()).u8(0).u128(incarnation.0).u8(0);
            }
            Self::Revoked(owner) => {
                let from = out.u32(owner.epoch.get()).u8(1).0.clone();
                return Compared::Within { from, below: None };
            }
            Self::PlacementAt(revision) => {
                out.u32(revision.get());
            }
        }
        Compared::Within { below: after_prefix(&out.0), from: out.0 }
    }
}

impl Compared {
    /// The answer for these bytes.
    pub fn holds(&self, stands: Option<&[u8]>) -> bool {
        match (self, stands) {
            (Self::Absent, stands) => stands.is_none(),
            (Self::Equal(expected), Some(stands)) => expected == stands,
            (Self::Within { from, below }, Some(stands)) => {
                from.as_slice() <= stands
                    && below.as_ref().is_none_or(|below| stands < below.as_slice())
            }
            (Self::Equal(_) | Self::Within { .. }, None) => false,
        }
    }
}

/// The least bytes that are greater than all which begin like these, if there are any.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}
