//! Keys, rows and comparisons as bytes: the schema that redb and etcd share.
//!
//! A key is a hexadecimal digit for its kind, then its fields; the bytes are in the order of the keys. What the key
//! says is not repeated in the row. Numbers are big-endian.
//!
//! | key | row | written by | read, and watched, by |
//! | --- | --- | --- | --- |
//! | `0` | format (1), generation (8) | a [recovery](super::recover) | whoever opens the store |
//! | `1` | last epoch (4) | a node that registers | the same |
//! | `2` node (2) | epoch (4), fenced (1), incarnation (16), draining (1), changes (8), head (32), operation (16), name | the node; whoever fences it | every node, watched |
//! | `3` node (2) | epoch (4), count (8), applied revision (4, 0 for none), operation (16) | the node | every node, watched; apart from `2`, or every beat would fail commits |
//! | `4` | revision (4), head (32), operation (16), [`Placement::to_bytes`](crate::Placement::to_bytes) | who plans | every node, watched |
//! | `5` session (16) | head (32), operation (16), record (144) | its owner; who proves that this one is lost | whoever needs it, watched by nobody |
//! | `6` slot (2) wire id | session (16), owner (6), version (8) | with the session | the slot's owner, watched |
//! | `7` node (2) session (16) | origin (6), session row (192), what goes with it | the origin; deleted by the destination | the node, and the origin its deletion, watched |
//! | `8` session (16) version (8) | session row (192) | the origin | the origin |
//! | `9` stream (8) number (8) | for each event: length (4), 1 (1) and head (32) or 0 (1), event | with what it tells of | who exports, and trims it |
//! | `a` session (16) | changes (8), [`Baggage::to_bytes`](crate::baggage::Baggage::to_bytes) | the session's owner; deleted with its end | the same, watched by nobody |
//!
//! It grows with the nodes by two small rows each, with the sessions by 209 bytes each until they are over and
//! [forgotten](super::DirectoryWrite::forget_session), and by about
//! 220 bytes for each event until that is trimmed; rows of kinds 6 to 8 are few. A session that carries
//! something takes 27 bytes more while it lives, a byte for each wire id, and what that and the application's
//! context have.

mod compared;
mod key;
mod row;

pub use compared::Compared;

use crate::{audit::BadEvent, baggage::BadBaggage, bytes::Bad, model::BadRecord};
use thiserror::Error;

/// The number of this schema.
const FORMAT: u8 = 2;

/// Bytes that are no key, or no row of their key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the row is corrupt: its {0} has no meaning")]
pub struct BadRow(&'static str);

impl BadRow {
    /// A store that does not say where it stands.
    pub(super) const POSITION: Self = Self("position");
}

impl From<Bad> for BadRow {
    fn from(Bad(what): Bad) -> Self {
        Self(what)
    }
}

impl From<BadRecord> for BadRow {
    fn from(_: BadRecord) -> Self {
        Self("record")
    }
}

impl From<BadEvent> for BadRow {
    fn from(_: BadEvent) -> Self {
        Self("event")
    }
}

impl From<BadBaggage> for BadRow {
    fn from(_: BadBaggage) -> Self {
        Self("baggage")
    }
}
