//! The session record: all of a session that has a version.

use super::{Nonce, ReplayWindow, SwitchAllowance, Time, reason::Reason};
use crate::{Epoch, NodeIndex, SessionId, StateVersion};
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

/// Who may act for a session: a node in one of its epochs. An owner of an older epoch is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The node.
    pub node: NodeIndex,
    /// Its epoch.
    pub epoch: Epoch,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} in epoch {}", self.node, self.epoch)
    }
}

/// A client's address and port: the replaceable attachment of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transport {
    address: [u8; 16],
    port: u16,
}

impl Transport {
    /// Length of a transport in bytes.
    pub const LENGTH: usize = 18;

    /// The transport's bytes: the address (IPv4 as `::ffff:a.b.c.d`), then the port, big-endian.
    pub fn bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..16].copy_from_slice(&self.address);
        bytes[16..].copy_from_slice(&self.port.to_be_bytes());
        bytes
    }

    /// The transport with these bytes.
    pub fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        let [address @ .., high, low] = bytes;
        Self { address, port: u16::from_be_bytes([high, low]) }
    }
}

impl From<SocketAddr> for Transport {
    fn from(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Self { address: ip.octets(), port: address.port() }
    }
}

impl From<Transport> for SocketAddr {
    fn from(transport: Transport) -> Self {
        Self::new(Ipv6Addr::from(transport.address).to_canonical(), transport.port)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::from(*self).fmt(f)
    }
}

/// Where a session is in its life (versioning-model §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Made, with no transport yet.
    Birth,
    /// Bound to one transport.
    Attached(Transport),
    /// Has lost its transport, and may be reattached for a while.
    Recovering {
        /// When it lost it.
        since: Time,
    },
    /// Over. Nothing follows.
    Terminated(Cause),
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cause {
    /// The application or the client asked for it.
    Request = 1,
    /// The session's time to live ran out.
    SessionTtl = 2,
    /// It had no transport for too long.
    TransportLossTtl = 3,
    /// Its versions came to their end.
    VersionsExhausted = 4,
    /// Its owner was lost, and the policy is to terminate.
    OwnerLost = 5,
    /// The store and its owner contradict each other.
    Contradiction = 6,
    /// An operator ended it, or a drain's deadline did.
    Operator = 7,
}

impl Cause {
    /// All causes, in the order of their codes, from 1 on.
    pub const ALL: [Self; 7] = [
        Self::Request,
        Self::SessionTtl,
        Self::TransportLossTtl,
        Self::VersionsExhausted,
        Self::OwnerLost,
        Self::Contradiction,
        Self::Operator,
    ];

    /// The cause with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| *cause as u8 == code)
    }

    /// The name, as it stands in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "REQUEST",
            Self::SessionTtl => "SESSION_TTL",
            Self::TransportLossTtl => "TRANSPORT_LOSS_TTL",
            Self::VersionsExhausted => "VERSIONS_EXHAUSTED",
            Self::OwnerLost => "OWNER_LOST",
            Self::Contradiction => "CONTRADICTION",
            Self::Operator => "OPERATOR",
        }
    }

    /// Why later messages to the session are refused.
    pub fn reason(self) -> Reason {
        match self {
            Self::SessionTtl => Reason::SessionExpired,
            Self::TransportLossTtl => Reason::TransportLossExpired,
            Self::VersionsExhausted => Reason::VersionsExhausted,
            Self::Request | Self::OwnerLost | Self::Contradiction | Self::Operator => {
                Reason::SessionTerminated
            }
        }
    }
}

/// Whether a session is on its way to another node; independent of its [`State`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hold {
    /// It is not.
    Active,
    /// No new transport is bound; the owner makes it ready for this node.
    Frozen {
        /// The destination.
        to: NodeIndex,
    },
    /// Ownership has moved; the new owner has still to resume it.
    HandedOff {
        /// Where it came from.
        from: NodeIndex,
    },
}

/// The last reattach that was accepted: a client whose acknowledgement was lost recognises it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Accepted {
    /// The version that it led to.
    pub version: StateVersion,
    /// Its nonce.
    pub nonce: Nonce,
}

/// A session at one version. Made by [`super::birth`], changed by [`super::decide`], and by nothing
/// else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionRecord {
    pub(super) id: SessionId,
    pub(super) service: u64,
    pub(super) version: StateVersion,
    pub(super) owner: Owner,
    pub(super) state: State,
    pub(super) hold: Hold,
    pub(super) born: Time,
    pub(super) changed: Time,
    pub(super) key_generation: u32,
    pub(super) replay: ReplayWindow,
    pub(super) accepted: Option<Accepted>,
    pub(super) switches: SwitchAllowance,
}

impl SessionRecord {
    /// The session.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The service it belongs to, as a number that the model gives no meaning.
    pub fn service(&self) -> u64 {
        self.service
    }

    /// Its version.
    pub fn version(&self) -> StateVersion {
        self.version
    }

    /// Its only owner.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether it is moving.
    pub fn hold(&self) -> Hold {
        self.hold
    }

    /// When it was made.
    pub fn born(&self) -> Time {
        self.born
    }

    /// When this version was made.
    pub fn changed(&self) -> Time {
        self.changed
    }

    /// Which generation of its reattach key is in force.
    pub fn key_generation(&self) -> u32 {
        self.key_generation
    }

    /// The nonces that it has accepted.
    pub fn replay(&self) -> ReplayWindow {
        self.replay
    }

    /// The last reattach that it accepted.
    pub fn accepted(&self) -> Option<Accepted> {
        self.accepted
    }

    /// The one transport it is bound to, if any.
    pub fn transport(&self) -> Option<Transport> {
        match self.state {
            State::Attached(transport) => Some(transport),
            State::Birth | State::Recovering { .. } | State::Terminated(_) => None,
        }
    }

    /// Whether it is over.
    pub fn is_terminated(&self) -> bool {
        matches!(self.state, State::Terminated(_))
    }
}
