//! What is told of every change: one event each, in the same commit, in a chain of hashes.

mod codec;
mod event;
mod export;
mod head;
mod verify;

pub use codec::BadEvent;
pub use event::{Entry, Event, NodeChange, NodeEvent, PlacementEvent, Refusal};
pub use export::{
    BadLine, EXPORTED_AT_ONCE, ExportError, JsonLines, LogError, Sink, Tracing, export, read_rows,
};
pub use head::Head;
pub use verify::{Chain, Finding, Place, Verifier};
