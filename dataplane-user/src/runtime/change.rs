//! Why a session is not as was asked.

use ownership::{
    baggage::TooManyWireIds,
    model::Reason,
    pending::{NoChange, NotDone},
    store::{BadWrite, Fault},
};
use thiserror::Error;

/// Why a session is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unchanged {
    /// The model refuses it.
    #[error("refused: {0}")]
    Refused(Reason),
    /// The store has not done it.
    #[error("{}", not_done(*.0))]
    NotDone(NotDone),
    /// This node may not write it.
    #[error(transparent)]
    Bad(#[from] BadWrite),
    /// It has too many wire ids.
    #[error(transparent)]
    WireIds(#[from] TooManyWireIds),
    /// Another node owns it, or nobody.
    #[error("this node does not own the session")]
    NotOwned,
}

fn not_done(why: NotDone) -> String {
    match why {
        NotDone::Unavailable(fault) => fault.to_string(),
        NotDone::Fenced => "this node's epoch is over; it stops".to_owned(),
        NotDone::Lost(mismatch) => {
            format!("something else was committed first ({mismatch:?}); ask again")
        }
        NotDone::Superseded | NotDone::Past => {
            "something else was committed first; ask again".to_owned()
        }
    }
}

impl From<Fault> for Unchanged {
    fn from(fault: Fault) -> Self {
        Self::NotDone(NotDone::Unavailable(fault))
    }
}

impl From<NoChange> for Unchanged {
    fn from(why: NoChange) -> Self {
        match why {
            NoChange::Refused(reason) => Self::Refused(reason),
            NoChange::Bad(bad) => Self::Bad(bad),
        }
    }
}
