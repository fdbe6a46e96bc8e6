//! What must be true of every run.

mod audit;
mod history;
mod ledger;
pub mod linear;

pub use audit::audited;
pub use history::History;
pub use ledger::Ledger;

use ownership::{SessionId, StateVersion, client::End};
use thiserror::Error;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    #[error("session {session} is delivered by two machines: {machines:?}")]
    DualOwner { session: SessionId, machines: [usize; 2] },
    #[error("session {session} is delivered by machine {machine}, which does not own it")]
    NotOwner { session: SessionId, machine: usize },
    #[error("session {session} has two states of version {version}")]
    VersionUsedTwice { session: SessionId, version: StateVersion },
    #[error("session {session} has come to version {version} without those before it")]
    VersionLeftOut { session: SessionId, version: StateVersion },
    #[error("the audit log: {0}")]
    Audit(String),
    #[error("session {session}, version {version}: {what}")]
    NotLinearizable { session: SessionId, version: StateVersion, what: &'static str },
    #[error("after the faults have ended: {0}")]
    Stuck(String),
    #[error("client {client} is locked out: {end:?}")]
    LockedOut { client: usize, end: End },
    #[error("session {0} was ended by a contradiction, and nobody is a clone")]
    Contradiction(SessionId),
    #[error("session {0} is gone")]
    Gone(SessionId),
    #[error("the daemon: {0}")]
    Glue(String),
    #[error("a panic: {0}")]
    Panic(String),
}
