//! The client's side: what it knows of its session, what it asks, and what it believes. Without I/O.
//!
//! A [`Tracker`] makes the datagrams for the control port and judges what comes back. The caller sends
//! them, sets a timer while there is something left to do (a quarter of a second, doubled up to some
//! seconds, will do), and calls:
//!
//! | when | call |
//! | --- | --- |
//! | the client's address has changed, or may have | [`Tracker::moved`] |
//! | the client leaves the network, or ends | [`Tracker::detach`], [`Tracker::close`] |
//! | a datagram comes from the control port | [`Tracker::receive`] |
//! | a data packet of the native protocol comes | [`Tracker::hint`] |
//! | the timer fires | [`Tracker::retry`] |
//! | the application was given newer keys | [`Tracker::give`] |
//!
//! # What it believes (versioning-model §5, §10)
//!
//! - Nothing that is not authenticated, and bound to a request of its own ([`Dropped`]). The fields
//!   in data packets make it ask, no more.
//! - Nothing lower than what it knows: versions only grow. An answer that was overtaken is dropped.
//! - One version more for a request of its own; an ACK with another version or nonce is a
//!   contradiction.
//! - More than that only as a range that leaves no version open: an answer to a request that said which
//!   version it knew, in which the last accepted reattach is either the one that it knew already, or its
//!   own, made at the version that it knew and therefore the very next one. All other versions in
//!   between are the cluster's: moves, losses of transport, rotated keys.
//! - It closes on an authenticated [`Contradiction`], and on the session's end, and on nothing else.
//!
//! So losses, duplicates, reordering and forgeries can delay it, and that is all: a request is never
//! used up by an answer, and whatever was lost is said again in the answer to the next one.
//!
//! The *owner's epoch* is that of the highest version. It says which node incarnation owns
//! the session and is no order of its own: a session may be handed to a node that has been up for longer than
//! its owner, whose epoch is lower then.

mod hint;
mod keyring;
mod memory;
mod outcome;
mod sent;
mod tracker;

pub use hint::Hint;
pub use memory::Memory;
pub use outcome::{Contradiction, Dropped, End, Next, Status};
pub use tracker::Tracker;
