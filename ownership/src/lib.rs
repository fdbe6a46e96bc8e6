//! Who owns a session.
//!
//! This crate knows nothing of packets or of the kernel. Today it holds the model of a session
//! ([`model`]), and the placement of slots on nodes. Stores and protocols are still to come: the
//! daemon does not use the model yet.

mod epoch;
pub mod model;
mod node;
pub mod placement;
mod session;
mod version;

pub use epoch::{Epoch, EpochsExhausted};
pub use node::{BadNodeIndex, NodeIndex};
pub use placement::{Placement, Revision};
pub use session::{BadSessionId, SessionId};
pub use version::{StateVersion, VersionsExhausted};
