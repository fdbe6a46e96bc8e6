//! The sessions that this node owns, and what it needs of them besides the table.

use ownership::{SessionId, StateVersion};
use std::{collections::BTreeMap, net::SocketAddr};

/// A session of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The service's place in the configuration.
    pub service: usize,
    /// The CPU that processes it.
    pub cpu: u32,
    /// Its slot.
    pub slot: u16,
    /// Its state_version.
    pub version: StateVersion,
    /// Its wire ids; the first is the SessionID.
    pub wire_ids: Vec<Vec<u8>>,
    /// The client that it is bound to.
    pub client: Option<SocketAddr>,
}

/// The most wire ids that one session can have.
pub const WIRE_IDS: usize = 32;

/// All sessions of this node, in the order of their ids. A row lives as long as its session; the
/// session table bounds how many there are.
pub type Registry = BTreeMap<SessionId, Session>;
