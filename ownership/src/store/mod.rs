//! Where sessions, nodes and the placement are kept, and how they are written.
//!
//! A store keeps [`Row`]s under [`Key`]s. All that is ever written is a [`Transaction`]: what is
//! compared, what is put or deleted if all of that holds, and the events that tell of it, all of it or
//! nothing. Transactions are plain data and nobody makes one but the typed writes: [`SessionWrite`],
//! which follows from a [`Commit`](crate::model::Commit), [`TransferWrite`] and [`DirectoryWrite`].
//! What they mean is said by one state machine without I/O, [`Tables`]; the stores do the same on
//! their engines.
//!
//! # Outcomes
//!
//! Nothing is retried in here. An [`Outcome`] is Won, Lost, Fenced, Unknown or Unavailable, and of
//! these only Unknown is in doubt: the write was done, or was not, or *is done later*. **A read never
//! proves that a compare-and-swap failed**: whoever reads the old row may still see the write take
//! effect afterwards. An Unknown ends when the row is seen to be the one that was written
//! ([`SessionWrite::fate`]), or when a rival compare-and-swap on the same expected row has Won. Until
//! then the session stands still.
//!
//! # Two strategies
//!
//! *Shared*: one store is directory and session store, and a hand-off is one [`SessionWrite`].
//! *Sticky*: sessions are in a store of the node's own, whose fence rows are the node's own too; who
//! owns a frozen session next is decided by a [`TransferWrite`] in the directory, and the two nodes
//! copy what was decided ([`SessionWrite::settle`]).
//!
//! A store that is behind what was [`Seen`] of it is refused; what to do then is in [`recover`].

mod condition;
mod directory_write;
mod engine;
#[cfg(feature = "etcd")]
pub mod etcd;
mod key;
mod limbo;
mod memory;
mod outcome;
mod position;
pub mod recover;
pub mod redb;
mod row;
pub mod schema;
mod session_write;
mod tables;
mod traits;
mod transaction;
mod transfer_write;

pub use condition::Condition;
pub use directory_write::{Attempt, BadWrite, DirectoryWrite};
pub use engine::{Engine, Page};
#[cfg(feature = "etcd")]
pub use etcd::Etcd;
pub use key::{AuditKey, Key, OffHomeKey, Span, WireId};
pub use limbo::{Delivery, Limbo};
pub use memory::Memory;
pub use outcome::{Failure, Fault, Mismatch, Outcome};
pub use position::{Generation, OlderStore, Position, Seen};
pub use redb::Redb;
pub use row::{
    Admission, AuditRow, BaggageRow, FenceRow, HeartbeatRow, Identity, InboxRow, Incarnation,
    OffHomeRow, PlacementRow, Row, StoredSession, TransferRow,
};
pub use schema::{BadRow, Compared};
pub use session_write::{Fate, SessionWrite};
pub use tables::Tables;
pub use traits::{Directory, Sessions, Store};
pub use transaction::{Transaction, Write};
pub use transfer_write::TransferWrite;
