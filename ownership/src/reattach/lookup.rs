use crate::model::Reason;

/// Why there is no record to decide about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRecord {
    /// There is no such session, says the owner of its slot, past the placement barrier. Nobody else
    /// may say so: a client takes it for the end.
    Unknown,
    /// Another node owns it, or may own it.
    Elsewhere,
    /// The store cannot be reached.
    Unavailable,
    /// An earlier write's outcome is still unknown: the session stands still until it is known.
    InDoubt,
}

impl NoRecord {
    /// What is answered; nothing is refused as long as nobody knows.
    pub(super) fn reason(self) -> Option<Reason> {
        match self {
            Self::Unknown => Some(Reason::UnknownSession),
            Self::Elsewhere => Some(Reason::OwnershipConflict),
            Self::Unavailable => Some(Reason::StoreUnavailable),
            Self::InDoubt => None,
        }
    }
}
