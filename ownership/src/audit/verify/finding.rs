use crate::{NodeIndex, SessionId, store::AuditKey};
use std::fmt;
use thiserror::Error;

/// Where an event stands in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The row.
    pub row: AuditKey,
    /// Which of its events, from 0 on.
    pub at: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {} of row {}", self.at, self.row)
    }
}

/// What the events of one chain are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Chain {
    /// A session; its events are numbered by version.
    Session(SessionId),
    /// A node; its events are numbered by the changes of its fence row.
    Node(NodeIndex),
    /// The placement; its events are numbered by revision.
    Placement,
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(session) => write!(f, "session {session}"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Placement => f.write_str("the placement"),
        }
    }
}

/// What is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Finding {
    /// A row is there twice.
    #[error("row {0} is there twice")]
    DoubleRow(AuditKey),
    /// A version is told of twice.
    #[error("{place} is a second event with number {number} of {chain}")]
    Double {
        /// The second one.
        place: Place,
        /// Whose.
        chain: Chain,
        /// Its number.
        number: u64,
    },
    /// A version is told of by nobody.
    #[error("event {number} of {chain} is missing{}", before(.place))]
    Missing {
        /// Whose.
        chain: Chain,
        /// Its number.
        number: u64,
        /// The next one of the chain, if there is one.
        place: Option<Place>,
    },
    /// An event was changed: its hash does not follow from it and the one before.
    #[error("{0} was changed: its hash does not follow from it and the event before")]
    Changed(Place),
    /// An event does not follow from the one before it.
    #[error("{place} does not follow from what was before: {what}")]
    Wrong {
        /// Which.
        place: Place,
        /// What is wrong with it.
        what: &'static str,
    },
    /// What a store keeps is not what the log leads to.
    #[error("what the store keeps of {0} is not what the log leads to")]
    Stored(Chain),
}

fn before(place: &Option<Place>) -> String {
    place.map_or(String::new(), |place| format!(", before {place}"))
}
