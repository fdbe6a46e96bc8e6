//! What is told of every change: one event each, in the same commit, in a chain of hashes.

mod codec;
mod event;
mod head;

pub use codec::BadEvent;
pub use event::{Entry, Event, NodeChange, NodeEvent, PlacementEvent, Refusal};
pub use head::Head;
