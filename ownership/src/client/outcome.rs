use crate::{
    control::{BadMessage, Message},
    model::Reason,
};
use thiserror::Error;

/// What to do after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what is to be sent is sent nowhere else"]
pub enum Next {
    /// Send this now.
    Send(Message),
    /// Nothing now; [`Tracker::retry`](super::Tracker::retry) when the timer fires. With the code of
    /// the reason, if something was refused: [`Reason::from_code`] knows those of this version.
    Wait(Option<u16>),
    /// Nothing until the application was given the keys of this generation.
    KeyNeeded(u32),
    /// Nothing: what was asked for is so.
    Done(Status),
}

/// How a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The session is bound to the client's address.
    Attached,
    /// The client has left, and the session waits for it.
    Detached,
    /// It is not known to be as it should be: the timer must run.
    Unsettled,
    /// It is over.
    Closed(End),
}

/// Why a session is over for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client asked for it.
    Requested,
    /// Its owner says so.
    Terminated(Reason),
    /// The client was told things that cannot both be true, by somebody who has the session's keys.
    Contradiction(Contradiction),
    /// The client has used up its nonces.
    NoncesExhausted,
}

/// Two authenticated statements that cannot both be true. The session must not go on
/// (versioning-model, final principle).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Contradiction {
    /// An ACK whose version or nonce does not follow from its request.
    #[error("an acknowledgement does not match its request")]
    Acknowledgement,
    /// A reattach was accepted that the client did not ask for: somebody else has its keys.
    #[error("somebody else has reattached this session with its keys")]
    ForeignReattach,
    /// One version was described in two ways.
    #[error("one state_version was described in two ways")]
    TwoStates,
    /// A later version has an earlier generation of the key.
    #[error("the key's generation went back")]
    KeyWentBack,
}

/// Why a datagram was dropped. It has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Dropped {
    /// It is no answer.
    #[error(transparent)]
    Unreadable(#[from] BadMessage),
    /// It is for another session.
    #[error("the answer is for another session")]
    OtherSession,
    /// It answers no request that the client remembers.
    #[error("the answer is for no request that is still remembered")]
    Unasked,
    /// Its tag is wrong: a forgery, or the answer to something else.
    #[error("the answer is not authenticated")]
    Forged,
    /// It was overtaken: its version is lower than what the client knows. If that goes on, the owner is
    /// one that should not be.
    #[error("the answer has a lower state_version than is known")]
    Lower,
    /// The session is over.
    #[error("the session is over")]
    Closed,
}
