//! The model: what a session is, and the one function that changes it.
//!
//! [`decide`] takes a record, an input and a context, and gives a [`Commit`] or a [`Reason`]. It
//! knows no clock, no randomness and no I/O, so whoever has the three can tell what must have come
//! out: the owner, a test, a model checker, an auditor.

mod codec;
mod commit;
mod decide;
mod input;
mod policy;
mod reason;
mod record;
mod replay;
mod time;

pub use codec::{BadRecord, RECORD_LENGTH};
pub use commit::{ChangeCause, Commit, Decision, StateChange};
pub use decide::{birth, decide};
pub use input::{Context, FenceProof, Input, OperationId, Reattach};
pub use policy::{Policy, SwitchAllowance};
pub use reason::{Class, Reason};
pub use record::{Accepted, Cause, Hold, Owner, SessionRecord, State, Transport};
pub use replay::{Freshness, Nonce, ReplayWindow};
pub use time::Time;
