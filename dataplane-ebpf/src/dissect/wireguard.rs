//! WireGuard (whitepaper §5.4). Indices are little-endian; the wire id is their four bytes as
//! they stand in the packet. The three reserved bytes behind the type are not tested: other
//! implementations use them.

use super::{Dissected, Payload};
use crate::wire_id::WireId;

const INITIATION: u8 = 1;
const RESPONSE: u8 = 2;
const COOKIE: u8 = 3;
const DATA: u8 = 4;

const INITIATION_LENGTH: usize = 148;
const RESPONSE_LENGTH: usize = 92;
const COOKIE_LENGTH: usize = 64;
const DATA_LENGTH_MIN: usize = 32;

/// The wire id is the receiver index.
///
/// An initiation has none: it opens a session, and its id is its sender index with the first half
/// of its ephemeral key, which spreads initiations over the nodes and keeps copies of one together.
#[inline(always)]
pub(super) fn dissect(payload: Payload) -> Option<Dissected> {
    let (offset, right_length) = match payload.byte(0)? {
        DATA => (4, payload.length >= DATA_LENGTH_MIN),
        INITIATION => {
            if payload.length != INITIATION_LENGTH {
                return None;
            }
            return Some(Dissected { id: payload.id(4, 20)?, opens: true });
        }
        RESPONSE => (8, payload.length == RESPONSE_LENGTH),
        COOKIE => (4, payload.length == COOKIE_LENGTH),
        _ => return None,
    };
    if !right_length {
        return None;
    }
    Some(Dissected { id: payload.id(offset, 4)?, opens: false })
}

/// The sender index, by which the peer is to answer; only what opens or accepts a session has one.
///
/// Lengths are not tested: what is looked at may be cut short.
#[inline(always)]
pub(super) fn dissect_reply(payload: Payload) -> Option<WireId> {
    match payload.byte(0)? {
        INITIATION | RESPONSE => payload.id(4, 4),
        _ => None,
    }
}
