//! What can be asked of a session, and under which circumstances.

use super::{Cause, Nonce, Owner, Policy, Time, Transport};
use crate::{NodeIndex, StateVersion};

/// What is asked of a session. Whatever changes a record is one of these.
///
/// Telemetry, health of a transport without a transition, wire ids and the application's context are
/// none of them: they have no version (versioning-model §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Bind the first transport.
    Attach {
        /// The client's.
        transport: Transport,
    },
    /// The transport is lost. Names it, as it may be another one's by now.
    LoseTransport {
        /// The one that was lost.
        transport: Transport,
    },
    /// Bind another transport, on proof of possession.
    Reattach(Reattach),
    /// Begin to move the session: no new transport is bound from here on.
    Freeze {
        /// The destination.
        to: NodeIndex,
    },
    /// Give up moving it, before it was handed off.
    Abort,
    /// Give it to its destination. From here on that one owns it.
    HandOff {
        /// The destination, in the epoch in which it accepts sessions.
        to: Owner,
    },
    /// The destination has it and goes on.
    Resume,
    /// Another node takes it from an owner that is lost.
    TakeOver {
        /// That the owner cannot act any longer.
        proof: FenceProof,
    },
    /// The reattach key of the next generation comes into force.
    RotateKey,
    /// End it if one of its time limits is over.
    Expire,
    /// End it.
    Terminate {
        /// Why.
        cause: Cause,
    },
    /// End it for an owner that is lost.
    TerminateLost {
        /// That the owner cannot act any longer.
        proof: FenceProof,
    },
}

impl Input {
    /// The name, as it stands in logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Attach { .. } => "ATTACH",
            Self::LoseTransport { .. } => "LOSE_TRANSPORT",
            Self::Reattach(_) => "REATTACH",
            Self::Freeze { .. } => "FREEZE",
            Self::Abort => "ABORT",
            Self::HandOff { .. } => "HANDOFF",
            Self::Resume => "RESUME",
            Self::TakeOver { .. } => "TAKE_OVER",
            Self::RotateKey => "ROTATE_KEY",
            Self::Expire => "EXPIRE",
            Self::Terminate { .. } => "TERMINATE",
            Self::TerminateLost { .. } => "TERMINATE_LOST",
        }
    }
}

/// A client's request to bind its session to another transport, after its cookie and its proof of
/// possession were found right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reattach {
    /// The version that the client knows.
    pub version: StateVersion,
    /// The client's number for this request.
    pub nonce: Nonce,
    /// Where it came from.
    pub transport: Transport,
    /// The generation of the key that its proof was made with.
    pub key_generation: u32,
}

/// That every epoch of a node up to one is over: revoked in the directory, and its last possible
/// deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FenceProof {
    fenced: Owner,
}

impl FenceProof {
    /// The proof that `fenced`, and all earlier epochs of its node, can act no longer.
    ///
    /// Whoever makes one answers for it: it comes from the lease protocol, or out of an audit log.
    pub const fn new(fenced: Owner) -> Self {
        Self { fenced }
    }

    /// The node, and the last epoch of it that is over.
    pub const fn fenced(self) -> Owner {
        self.fenced
    }

    /// Whether it proves that `owner` can act no longer.
    pub fn covers(self, owner: Owner) -> bool {
        owner.node == self.fenced.node && owner.epoch <= self.fenced.epoch
    }
}

/// A number drawn for one attempt to change a record: by it a writer whose answer was lost
/// recognises its own change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u128);

/// The circumstances of a decision. With the record and the input they are all that it depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Context {
    /// The time, as the deciding node's clock has it.
    pub now: Time,
    /// Who decides.
    pub actor: Owner,
    /// The service's policy.
    pub policy: Policy,
    /// The attempt.
    pub operation: OperationId,
}
