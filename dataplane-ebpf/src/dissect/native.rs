//! Jumpgate's own header, for services whose protocol has no session id of its own, and for the
//! control port of every service.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-------+---------------+-------------------------------+
//! |version| type  |     flags     |           reserved            |
//! +-------+-------+---------------+-------------------------------+
//! |                                                               |
//! +                                                               +
//! |                           SessionID                           |
//! +                          (16 bytes)                           +
//! |                                                               |
//! +                                                               +
//! |                                                               |
//! +---------------------------------------------------------------+
//! |                 owner epoch (from the server)                 |
//! +---------------------------------------------------------------+
//! |                                                               |
//! +                state_version (from the server)                +
//! |                                                               |
//! +---------------------------------------------------------------+
//! ```
//!
//! Numbers are big-endian. The version is 1. The last two fields are there when
//! [`FLAG_OWNER`] is set, as it is in every packet from server to client. The state_version tells
//! who the owner is: a higher one than the client knows makes it ask; at any other, what does not
//! come from the owner's epoch is an older owner's, and is dropped. The epoch is no order: a session
//! may be handed to a node of an older one. Both are hints, unauthenticated: they may make a client
//! ask its owner, never change its state.
//!
//! [`TYPE_OPEN`] starts a session: its SessionID field holds 16 random bytes of the client's,
//! which only choose the node that answers. That node mints the SessionID and returns it in the
//! header of its answer, a [`TYPE_OPENED`], whose payload repeats the client's 16 bytes.

use super::{Dissected, Payload};
use crate::wire_id::WireId;

/// The header's version.
pub const VERSION: u8 = 1;

/// A packet of the session.
pub const TYPE_DATA: u8 = 0;
/// The start of a session; its id is the client's own random choice.
pub const TYPE_OPEN: u8 = 1;
/// The answer to [`TYPE_OPEN`]; its payload begins with the id that the client chose.
pub const TYPE_OPENED: u8 = 2;
/// A message of the control port.
pub const TYPE_CONTROL: u8 = 3;

/// Owner epoch and state_version follow the SessionID.
pub const FLAG_OWNER: u8 = 1;

/// Where the SessionID starts.
pub const ID_OFFSET: usize = 4;

/// Length of a SessionID.
pub const ID_LENGTH: usize = 16;

/// Length of the header from client to server.
pub const HEADER: usize = 20;

/// Length of the header from server to client, with [`FLAG_OWNER`].
pub const OWNER_HEADER: usize = 32;

/// A header as applications write and read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// One of the `TYPE_` constants; 0 to 15.
    pub kind: u8,
    /// The SessionID.
    pub session: [u8; ID_LENGTH],
    /// Owner epoch and state_version, in packets from server to client.
    pub owner: Option<(u32, u64)>,
}

impl Header {
    /// Writes the header and returns how many bytes of the buffer hold it.
    pub fn encode(&self) -> ([u8; OWNER_HEADER], usize) {
        let mut bytes = [0; OWNER_HEADER];
        bytes[0] = VERSION << 4 | self.kind & 0xf;
        bytes[ID_OFFSET..HEADER].copy_from_slice(&self.session);
        let Some((epoch, version)) = self.owner else {
            return (bytes, HEADER);
        };
        bytes[1] = FLAG_OWNER;
        bytes[HEADER..HEADER + 4].copy_from_slice(&epoch.to_be_bytes());
        bytes[HEADER + 4..].copy_from_slice(&version.to_be_bytes());
        (bytes, OWNER_HEADER)
    }

    /// Reads a header and returns it with the payload behind it; `None` if it is cut short or of
    /// another version.
    pub fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (fixed, rest) = bytes.split_first_chunk::<HEADER>()?;
        if fixed[0] >> 4 != VERSION {
            return None;
        }
        let session = *fixed.last_chunk()?;
        let kind = fixed[0] & 0xf;
        if fixed[1] & FLAG_OWNER == 0 {
            return Some((Self { kind, session, owner: None }, rest));
        }
        let (epoch, rest) = rest.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        let owner = Some((u32::from_be_bytes(*epoch), u64::from_be_bytes(*version)));
        Some((Self { kind, session, owner }, rest))
    }
}

/// A packet to a data port.
#[inline(always)]
pub(super) fn dissect(payload: Payload) -> Option<Dissected> {
    let kind = kind(payload)?;
    if kind != TYPE_DATA && kind != TYPE_OPEN {
        return None;
    }
    Some(Dissected { id: payload.id16(ID_OFFSET)?, opens: kind == TYPE_OPEN })
}

/// A packet to a control port: it never opens a session.
#[inline(always)]
pub(super) fn dissect_control(payload: Payload) -> Option<Dissected> {
    if kind(payload)? != TYPE_CONTROL {
        return None;
    }
    Some(Dissected { id: payload.id16(ID_OFFSET)?, opens: false })
}

/// The SessionID that a packet from a data port names.
#[inline(always)]
pub(crate) fn reply(payload: Payload) -> Option<WireId> {
    let kind = kind(payload)?;
    if kind != TYPE_DATA && kind != TYPE_OPENED {
        return None;
    }
    payload.id16(ID_OFFSET)
}

#[inline(always)]
fn kind(payload: Payload) -> Option<u8> {
    let first = payload.byte(0)?;
    (first >> 4 == VERSION).then_some(first & 0xf)
}
