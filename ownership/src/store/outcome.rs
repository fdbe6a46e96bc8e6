//! What came of a write, and what the caller must do then.

use crate::model::Reason;
use thiserror::Error;

/// What came of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "an outcome that nobody looks at may be Unknown"]
pub enum Outcome {
    /// It is done, and durable.
    Won,
    /// It is not done and never will be: something is no longer what it was compared to. Read again,
    /// and decide again. If the session is owned here under a live epoch, somebody else has written
    /// it: a contradiction.
    Lost(Mismatch),
    /// It is not done and never will be: the epoch of whoever wrote is over. Stop at once, and never
    /// go on in that epoch.
    Fenced,
    /// It may be done, may not, and may be done later. Let nothing of it happen, nor of its
    /// contrary, until it is seen done or a rival has Won.
    Unknown,
    /// It is not done and never will be. Nothing changes until the store is back.
    Unavailable(Fault),
}

/// What was not as compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mismatch {
    /// The row that was to be replaced or made: another write came first.
    Row,
    /// The destination does not accept sessions in the epoch that was meant.
    Destination,
    /// The placement has another revision.
    Placement,
    /// The owner that is said to be lost is not fenced off.
    Owner,
}

/// Why a store does not answer, or not with what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Fault {
    /// Nobody is there.
    #[error("the store cannot be reached; nothing is changed until it can")]
    Unreachable,
    /// Too much is waiting already.
    #[error("too many requests wait for the store; ask again later, and less")]
    Overloaded,
    /// It has no space left.
    #[error("the store is full; export and trim the audit log, or give it space")]
    Full,
    /// It does not let us in, or not do this.
    #[error("the store denies it to this user; check name, password, certificate and role")]
    Denied,
    /// The transaction is beyond what this store takes in one.
    #[error(
        "the transaction is too large for this store; write less at once, its documentation has the limit"
    )]
    TooLarge,
    /// A row has no meaning.
    #[error("a row of the store is corrupt; stop what it is about, and verify the audit log")]
    Corrupt,
    /// It was shut after an I/O error.
    #[error("the store was shut after an I/O error; repair the disk and start again")]
    Latched,
    /// It is older than what was seen of it.
    #[error(
        "the store is older than what was seen of it; recover it (`ownership::store::recover`)"
    )]
    Older,
}

/// Why something was not done, for whoever asked. Each says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Failure {
    /// The model refuses it. Tell the asker; nothing has changed.
    #[error("refused: {0}; nothing has changed, and whoever asked is to be told")]
    Reject(Reason),
    /// Somebody else was faster. Read again, decide again.
    #[error("something else was committed first ({0:?}); read again and decide again")]
    Conflict(Mismatch),
    /// This epoch is over. Stop at once.
    #[error("this node's epoch is over; stop at once and register anew")]
    Fenced,
    /// Nobody knows. Hold still until it is known.
    #[error("the outcome is not known; hold still until it is seen or a rival has won")]
    Unknown,
    /// Fail closed, and come again.
    #[error("unavailable: {0}")]
    Unavailable(Fault),
    /// What is stored has no meaning. Stop what it is about.
    #[error("what is stored has no meaning; stop what it is about, and verify the audit log")]
    Corrupt,
    /// A counter is at its end. Nothing more can be done with what it counts.
    #[error("the counter of {0} is at its end; what it counts can only be ended")]
    Exhausted(&'static str),
}

impl Outcome {
    /// Whether it is done.
    pub fn is_won(self) -> bool {
        self == Self::Won
    }

    /// Nothing if it is done, else why not.
    pub fn done(self) -> Result<(), Failure> {
        match self {
            Self::Won => Ok(()),
            Self::Lost(mismatch) => Err(Failure::Conflict(mismatch)),
            Self::Fenced => Err(Failure::Fenced),
            Self::Unknown => Err(Failure::Unknown),
            Self::Unavailable(fault) => Err(fault.into()),
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Corrupt => Self::Corrupt,
            Fault::Unreachable
            | Fault::Overloaded
            | Fault::Full
            | Fault::TooLarge
            | Fault::Denied
            | Fault::Latched
            | Fault::Older => Self::Unavailable(fault),
        }
    }
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self::Reject(reason)
    }
}
