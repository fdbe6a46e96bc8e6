//! Leases: until when a node may act as owner, and when others may act for it. Without I/O.
//!
//! A node in an [`Epoch`](crate::Epoch) is the *holder* of a lease, which it renews by heartbeats: one
//! row of its own in the directory, replaced by compare-and-swap. Whoever would act for it is a *taker*.
//! Neither knows the other's clock, and nothing is ever asked of the holder, which may be stopped:
//!
//! ```text
//! holder  send beat ----------- deadline: shut
//! store       `-> written
//! taker              `-> seen ------------------------ wait is over: fence -> proof
//! ```
//!
//! The [`Holder`]'s deadline runs from when it sent its last heartbeat that was written; the [`Taker`]'s
//! wait from when it was told of that one, which is later; and the wait is longer than the lease by more
//! than two clocks can differ ([`LeaseTimes`]). The taker's commit compares the heartbeat that it waited on.
//! So the holder has stopped before anybody has a [`FenceProof`](crate::model::FenceProof).
//!
//! - A heartbeat that is Lost means that somebody else is this node, a clone: shut at once, and never go
//!   on in that epoch.
//! - A heartbeat of unknown outcome is looked for, and sent again unchanged until its row is seen or
//!   another one stands there. The lease runs on meanwhile.
//! - Epochs are drawn by a [`Registration`], which ends all earlier ones of the node. A process that
//!   follows another goes on in its epoch only by the rules of [`Resuming`].
//! - An operator's fence ([`DirectoryWrite::fence`](crate::store::DirectoryWrite::fence)) revokes at
//!   once what a node may write; the proof still takes a whole wait.
//!
//! Two things are beyond this. Clocks that stop with a virtual machine: what its packets say of the owner's
//! epoch and version is what catches it then. And a clone that has a copy of its node's own store (*sticky*):
//! it never acts while its node may, but afterwards it goes on from what the copy holds, and what the node has
//! written since is lost. Never start a node on an older copy of its store.

mod boot_time;
mod holder;
mod registration;
mod resume;
mod taker;
mod times;

pub use boot_time::BootTime;
pub use holder::{Holder, Next, Over};
pub use registration::{Registered, Registration};
pub use resume::{BootId, Found, IncarnationRecord, NotResumable, Resuming, is_unsettled};
pub use taker::Taker;
pub use times::{BadLeaseTimes, LeaseTimes};
