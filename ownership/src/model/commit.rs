use super::{Context, Input, Reason, SessionRecord};
use crate::{SessionId, StateVersion};

/// What came of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a decision changes nothing until it is committed, and a refusal must be answered"]
#[expect(clippy::large_enum_variant, reason = "decisions are looked at and gone, never stored")]
pub enum Decision {
    /// The session changes: the record is to be written if nobody else was faster.
    Commit(Commit),
    /// Nothing changes, and this is why.
    Reject(Reason),
}

impl Decision {
    /// The commit, if it is one.
    pub fn commit(self) -> Option<Commit> {
        match self {
            Self::Commit(commit) => Some(commit),
            Self::Reject(_) => None,
        }
    }
}

/// A record at its next version, and the one STATE_CHANGE event of that version. Nobody can have one
/// without the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it is not committed yet"]
pub struct Commit {
    pub(super) record: SessionRecord,
    pub(super) event: StateChange,
    pub(super) refused: Option<Reason>,
}

impl Commit {
    /// The record to be written.
    pub fn record(&self) -> &SessionRecord {
        &self.record
    }

    /// The event to be written with it.
    pub fn event(&self) -> &StateChange {
        &self.event
    }

    /// What the asker is to be told once this is committed: a time limit that had passed, or the end
    /// of the versions, ends the session instead of what was asked.
    pub fn answer(&self) -> Result<(), Reason> {
        match self.refused {
            None => Ok(()),
            Some(reason) => Err(reason),
        }
    }
}

/// STATE_CHANGE: what made a version. With the record before it, the record can be computed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StateChange {
    pub(super) session: SessionId,
    pub(super) version: StateVersion,
    pub(super) cause: ChangeCause,
    pub(super) context: Context,
}

/// What a change came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeCause {
    /// The session was made, for this service.
    Birth {
        /// See [`SessionRecord::service`].
        service: u64,
    },
    /// Something was asked of it.
    Input(Input),
}

impl StateChange {
    /// Of these parts, as an audit log has them.
    pub(crate) fn from_parts(
        session: SessionId,
        version: StateVersion,
        cause: ChangeCause,
        context: Context,
    ) -> Self {
        Self { session, version, cause, context }
    }

    /// The session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The version that the change made.
    pub fn version(&self) -> StateVersion {
        self.version
    }

    /// What it came from.
    pub fn cause(&self) -> ChangeCause {
        self.cause
    }

    /// The circumstances.
    pub fn context(&self) -> &Context {
        &self.context
    }
}
