use super::Generation;
use crate::{NodeIndex, SessionId, StateVersion};
use std::fmt;

/// Where a row stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The store's generation.
    Generation,
    /// The counter of epochs.
    Epochs,
    /// A node's fence row.
    Fence(NodeIndex),
    /// A node's heartbeat row: apart from the fence row, or every beat would fail commits in flight.
    Heartbeat(NodeIndex),
    /// The placement.
    Placement,
    /// A session.
    Session(SessionId),
    /// A wire id whose owner is not its slot's owner.
    OffHome(OffHomeKey),
    /// What has been handed to a node and not been resumed there.
    Inbox(NodeIndex, SessionId),
    /// What became of a session that was frozen at this version.
    Transfer(SessionId, StateVersion),
    /// Events of one transaction.
    Audit(AuditKey),
    /// What a session carries besides its record.
    Baggage(SessionId),
}

/// The key of an off-home row; a slot's rows stand together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OffHomeKey {
    /// The slot of the id.
    pub slot: u16,
    /// The id.
    pub id: WireId,
}

/// An id as it stands in packets: up to [`WireId::MAX`] bytes that this crate gives no meaning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireId(Box<[u8]>);

impl WireId {
    /// The most bytes that an id has.
    pub const MAX: usize = 255;

    /// The id with these bytes, unless they are too many.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= Self::MAX).then(|| Self(bytes.into()))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<SessionId> for WireId {
    fn from(id: SessionId) -> Self {
        Self(id.bytes().into())
    }
}

/// The key of an audit row: counts up within a stream, and may leave numbers out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuditKey {
    /// Who numbers, so that no two logs that are looked at together have rows with the same key.
    pub stream: u64,
    /// The number.
    pub number: u64,
}

impl AuditKey {
    /// The stream of rows that one store numbers itself, in one generation. Stores that share logs
    /// differ in `writer`.
    pub const fn stream_of(generation: Generation, writer: u16) -> u64 {
        generation.0 << 16 | writer as u64
    }

    /// Before all others.
    pub const FIRST: Self = Self { stream: 0, number: 0 };
    /// After all others.
    pub const LAST: Self = Self { stream: u64::MAX, number: u64::MAX };
}

impl fmt::Display for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.stream, self.number)
    }
}

/// Rows that stand together and are read in the order of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Span {
    /// All fence rows.
    Fences,
    /// All heartbeat rows.
    Heartbeats,
    /// All sessions.
    Sessions,
    /// The off-home rows of these slots, first and last.
    OffHome(u16, u16),
    /// A node's inbox.
    Inbox(NodeIndex),
    /// All transfer rows.
    Transfers,
    /// All audit rows.
    Audit,
    /// What all sessions carry besides their records.
    Baggage,
}

impl Span {
    /// The least key of the span, and the greatest that could be in it.
    pub fn bounds(self) -> (Key, Key) {
        let nodes = (NodeIndex::FIRST, NodeIndex::LAST);
        let ids = (SessionId::new([0; 16]), SessionId::new([0xff; 16]));
        let versions = (StateVersion::BIRTH, StateVersion::new(u64::MAX));
        match self {
            Self::Fences => (Key::Fence(nodes.0), Key::Fence(nodes.1)),
            Self::Heartbeats => (Key::Heartbeat(nodes.0), Key::Heartbeat(nodes.1)),
            Self::Sessions => (Key::Session(ids.0), Key::Session(ids.1)),
            Self::OffHome(first, last) => {
                let (least, greatest) = ([].into(), [0xff; WireId::MAX].into());
                (
                    Key::OffHome(OffHomeKey { slot: first, id: WireId(least) }),
                    Key::OffHome(OffHomeKey { slot: last, id: WireId(greatest) }),
                )
            }
            Self::Inbox(node) => (Key::Inbox(node, ids.0), Key::Inbox(node, ids.1)),
            Self::Transfers => (Key::Transfer(ids.0, versions.0), Key::Transfer(ids.1, versions.1)),
            Self::Audit => (Key::Audit(AuditKey::FIRST), Key::Audit(AuditKey::LAST)),
            Self::Baggage => (Key::Baggage(ids.0), Key::Baggage(ids.1)),
        }
    }
}
