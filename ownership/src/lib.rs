//! Who owns a session.
//!
//! This crate knows nothing of packets or of the kernel. Today it holds the identities and versions
//! of the model, and the placement of slots on nodes.

mod epoch;
mod node;
pub mod placement;
mod session;
mod version;

pub use epoch::{Epoch, EpochsExhausted};
pub use node::{BadNodeIndex, NodeIndex};
pub use placement::{Placement, Revision};
pub use session::{BadSessionId, SessionId};
pub use version::{StateVersion, VersionsExhausted};
