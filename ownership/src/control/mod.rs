//! The native control messages between a client and the nodes, as bytes.
//!
//! A client sends [`Request`]s, a node sends one [`Answer`] to each. All of them have
//! [`MESSAGE_LENGTH`] bytes, so an answer is never larger than its request, and begin with the native
//! header's type CONTROL, by which a data plane steers them to the session's owner. `docs/control-protocol.md`
//! shows every byte.
//!
//! Both directions are authenticated, each by a key of its own ([`RequestKey`], [`AnswerKey`]). An
//! answer's tag also covers the tag of the request that it answers, so it says nothing about any
//! other request. One message has one form: bytes without a meaning are zero, and anything else is
//! refused.

mod answer;
mod cookie;
mod credentials;
mod key;
mod request;

pub use answer::{Answer, InReplyTo, Snapshot, Unverified};
pub use cookie::Cookie;
pub use credentials::{BadCredentials, CREDENTIALS_LENGTH, Credentials, KeyName};
pub use key::{AnswerKey, KEY_LENGTH, RequestKey, Tag};
pub use request::{Ask, Request, Unproven};

pub(crate) use key::MacKey;

use thiserror::Error;

/// Length of every control message in bytes, of the UDP payload.
pub const MESSAGE_LENGTH: usize = 88;

/// A control message as it travels.
pub type Message = [u8; MESSAGE_LENGTH];

/// The version of these messages. It stands behind the native header, which has a version of its own.
pub const VERSION: u8 = 1;

/// The first byte of the native header: its version, 1, and its type, 3 for CONTROL.
const NATIVE: u8 = 0x13;

/// Bytes that are no control message of this version and direction. They are counted, not answered:
/// nobody knows whom they are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadMessage {
    /// Of another length.
    #[error("a control message has {MESSAGE_LENGTH} bytes, not {0}")]
    Length(usize),
    /// It does not begin with a native header of type CONTROL.
    #[error("a control message begins with a native header of type CONTROL")]
    Header,
    /// Of another version.
    #[error("the control message has version {0}; this program speaks version {VERSION}")]
    Version(u8),
    /// Of a kind that this version does not have, or that goes the other way.
    #[error("no control message of version {VERSION} in this direction is of kind {0:#04x}")]
    Kind(u8),
    /// Something in it has no meaning.
    #[error("the control message's {0} has no meaning")]
    Field(&'static str),
}
