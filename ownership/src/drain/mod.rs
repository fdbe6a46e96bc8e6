//! Draining a node: its sessions are handed over a few at a time, until a deadline. Without I/O.
//!
//! First the node's [slots](crate::placement) go to its successors, so that no session is made there any
//! more, and every node is waited for; then a [`Drain`] says which sessions to start with, as others come to
//! their end. It knows nothing of how a session is moved: that is a [transfer](crate::transfer).
//!
//! What is left at the deadline is cut short by policy ([`LeftOver`]). A session of which nobody knows whether
//! it was handed off is never cut short: it comes to its end by itself.

mod limits;
mod plan;

pub use limits::{BadLimits, LeftOver, Limits};
pub use plan::{Drain, Ending, How, Progress, Start};
