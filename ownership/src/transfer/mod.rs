//! Moving a session from one node to another. Without I/O.
//!
//! ```text
//! origin        Frozen -> Quiesced -> (HANDOFF) -> HandedOff -> Resumed
//!                  `-- ABORT -- ' <----- in doubt     |            ^
//! destination                                         `-> Arrived -' (RESUME)
//! ```
//!
//! Each state is a type, and what is legal in it is a method of it: there is no hand-off of a session that
//! has not been quiesced, no way back from one that may have been handed off but by a commit that Won, and
//! nothing of the destination's before it finds the session in its inbox.
//!
//! 1. [`Frozen`]: FREEZE is committed. No new transport is bound; data goes on.
//! 2. [`Quiesced`]: the caller has put the session on hold: no CPU delivers it, no queue holds a packet
//!    of it, and the application has given its final context.
//! 3. [`Undecided`]: HANDOFF or its abort is on its way. Ownership moves with this one commit or not at all.
//!    **An outcome that is unknown keeps the hold**, until the row is seen or the rival has Won.
//! 4. [`HandedOff`]: packets go on to the new owner ([`Redirect`]), as long as the session lives.
//! 5. [`Resumed`]: the destination has gone on; what the origin kept for it may go.
//!
//! A process that follows another finds sessions frozen ([`Inherited`]) and finishes or aborts them before
//! its epoch is resumed; a destination that starts again finds what was handed to it in its inbox.
//!
//! # Two strategies
//!
//! Who decides is a type too ([`Deciding`]). *Shared*: a [`SessionWrite`](crate::store::SessionWrite)
//! replaces the record, compares the destination's fence row and leaves the session in its inbox, all in
//! one. *Sticky*: a [`TransferWrite`](crate::store::TransferWrite) creates the one transfer row of that
//! frozen version in the directory, as a hand-off or as its abort; each node then copies what was decided
//! into its own store ([`HandedOff::copy`], [`GivenUp::copy`], [`Arrived::copy`]). From when the first of
//! them was sent, the frozen record takes no other change: its next version is the directory's to make.

mod arrival;
mod context;
mod deciding;
mod frozen;
mod inherited;
mod redirect;
mod routes;
mod undecided;

pub use arrival::{Arrived, resume};
pub use context::{AppContext, ContextLimit, ContextTooLong};
pub use deciding::Deciding;
pub use frozen::{Frozen, GiveUp, Held, NoStep, Quiesced};
pub use inherited::Inherited;
pub use redirect::{HandedOff, Redirect, Resumed};
pub use routes::Routes;
pub use undecided::{Decided, GivenUp, Undecided};
