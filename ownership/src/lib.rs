//! Who owns a session.
//!
//! This crate knows nothing of packets or of the kernel. It holds the model of a session ([`model`]) and
//! what it carries besides ([`baggage`]), where sessions, nodes and the placement are kept ([`store`]),
//! what is told of their changes ([`audit`]), and the placement of slots on nodes ([`placement`]).
//!
//! The protocols are state machines without clock, I/O or randomness: until when a node may act as owner
//! ([`lease`]); what became of a write ([`pending`]); how a session moves to another node ([`transfer`]), and
//! all of a node's do ([`drain`]); what becomes of it if its owner is lost ([`takeover`]); and how a client
//! attaches again: the messages ([`control`]), the node's side ([`reattach`]) and the client's ([`client`]).
//!
//! Of the protocols the daemon uses leases so far.

pub mod audit;
pub mod baggage;
mod bytes;
#[doc = include_str!("clauses.md")]
pub mod clauses {}
pub mod client;
pub mod control;
pub mod drain;
mod epoch;
pub mod lease;
pub mod model;
mod node;
pub mod pending;
pub mod placement;
pub mod reattach;
mod session;
pub mod store;
pub mod takeover;
pub mod transfer;
mod version;

pub use epoch::{Epoch, EpochsExhausted};
pub use node::{BadNodeIndex, NodeIndex};
pub use placement::{Placement, Revision};
pub use session::{BadSessionId, SessionId};
pub use version::{StateVersion, VersionsExhausted};
