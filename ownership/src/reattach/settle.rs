use super::{Reply, reply::Origin};
use crate::{
    control::{Answer, Ask},
    model::{Commit, Reason, SessionRecord, State},
    store::Outcome,
};

/// A request whose commit is on its way.
#[derive(Debug)]
#[must_use = "a request is answered once its commit's outcome is known"]
pub struct Uncommitted {
    origin: Origin,
    record: SessionRecord,
    refused: Option<Reason>,
}

impl Uncommitted {
    pub(super) fn new(origin: Origin, ask: Ask, commit: &Commit) -> Self {
        let record = *commit.record();
        let refused = match (commit.answer(), record.state()) {
            (Err(reason), _) => Some(reason),
            // A query found the session past its time.
            (Ok(()), State::Terminated(cause)) if ask == Ask::Query => Some(cause.reason()),
            (Ok(()), _) => None,
        };
        Self { origin, record, refused }
    }

    /// The answer, once the outcome is known or known not to be known.
    ///
    /// Of two nodes that try one reattach the one whose commit is Lost says OWNERSHIP_CONFLICT
    /// (ownership-model §4).
    pub fn settle(self, outcome: Outcome) -> Reply {
        let snapshot = self.origin.snapshot(&self.record);
        match (outcome, self.refused) {
            (Outcome::Won, None) => self.origin.say(Answer::Ack(snapshot)),
            (Outcome::Won, Some(reason)) => self.origin.refuse(reason, Some(snapshot)),
            (Outcome::Lost(_) | Outcome::Fenced, _) => {
                self.origin.refuse(Reason::OwnershipConflict, None)
            }
            (Outcome::Unavailable(_), _) => self.origin.refuse(Reason::StoreUnavailable, None),
            (Outcome::Unknown, _) => self.origin.say(Answer::Pending),
        }
    }
}
