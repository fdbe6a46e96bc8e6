//! QUIC with connection ids that name a server, not encrypted (draft-ietf-quic-load-balancers-21).
//!
//! ```text
//! connection id:  | config id (3 bits), length or random (5) | server id | nonce (4 bytes or more) |
//! wire id:        | config id (3 bits), 0 (5)                | server id | zeros up to 4 bytes     |
//! ```
//!
//! The wire id is what a load balancer routes by: the config id and the server id. All connection
//! ids that a server makes of one server id are one wire id, with one row in the session table, and
//! the server makes them without asking anybody. Whether a server id stands for a server process or
//! for a single connection, which can then move on its own, is the application's choice.
//!
//! Ids that cannot be routed ("unroutable" in the draft) are wire ids as a whole: those of config id
//! 0b111, which servers without a configuration use, those of a config id that is not in use, and those too
//! short to hold a server id and a nonce. So an application may register them too. In a short header
//! only one of config id 0b111 can be read, as it alone must say its own length.

use super::{
    Dissected, Payload,
    quic::{LONG_ID, LongHeader, SHORT_ID, SOURCE_ID, is_short, source_id},
};
use crate::{
    service::ServiceRow,
    wire_id::{ID_MIN, WireId},
};

/// The config id of connection ids that cannot be routed.
pub const UNROUTABLE: u8 = 0b111;

/// The longest server id, in bytes: 20 less the first octet and the nonce.
pub const SERVER_ID_MAX: usize = 15;

/// The shortest nonce, in bytes.
pub const NONCE_MIN: usize = 4;

const CONFIG_MASK: u8 = 0xe0;
const LENGTH_MASK: u8 = 0x1f;

/// The length of the wire id for a server id of this length.
#[inline(always)]
pub const fn wire_id_length(server_id: usize) -> usize {
    let length = 1 + server_id;
    if length < ID_MIN { ID_MIN } else { length }
}

/// The wire id is the config id and the server id of the Destination Connection ID.
///
/// Which packets open sessions: see [`super::quic`]. A client's own choice may look like any
/// server's; it then goes where that server's packets go, or opens a session where its slot is.
#[inline(always)]
pub(super) fn dissect(payload: Payload, service: &ServiceRow) -> Option<Dissected> {
    let first = payload.byte(0)?;
    if is_short(first) {
        let octet = payload.byte(SHORT_ID)?;
        let id = match service.server_id_length(octet) {
            Some(length) => routable(payload, SHORT_ID, length)?,
            None if octet >> 5 == UNROUTABLE => {
                payload.id(SHORT_ID, 1 + (octet & LENGTH_MASK) as usize)?
            }
            None => return None,
        };
        return Some(Dissected { id, opens: false });
    }
    let long = LongHeader::read(payload, first)?;
    let id = match service.server_id_length(payload.byte(LONG_ID)?) {
        Some(length) if long.length > length + NONCE_MIN => routable(payload, LONG_ID, length)?,
        _ => long.id(payload)?,
    };
    Some(Dissected { id, opens: long.opens })
}

/// The same of the Source Connection ID of a long header, as the server sends it.
#[inline(always)]
pub(super) fn dissect_reply(payload: Payload, service: &ServiceRow) -> Option<WireId> {
    let (rest, length) = source_id(payload, service.seed)?;
    match service.server_id_length(rest.byte(SOURCE_ID)?) {
        Some(server_id) if length > server_id + NONCE_MIN => routable(rest, SOURCE_ID, server_id),
        _ => rest.id(SOURCE_ID, length),
    }
}

/// The wire id of a connection id that starts at `offset`.
#[inline(always)]
fn routable(payload: Payload, offset: usize, server_id: usize) -> Option<WireId> {
    if offset + 1 + server_id + NONCE_MIN > payload.length {
        return None;
    }
    let id = payload.id(offset, wire_id_length(server_id))?;
    Some(id.masked(CONFIG_MASK, 1 + server_id))
}

impl ServiceRow {
    /// How long the server id is under the config id of a connection id's first octet; `None` if
    /// that is not in use.
    #[inline(always)]
    fn server_id_length(&self, octet: u8) -> Option<usize> {
        match self.server_id_lengths[(octet >> 5) as usize] as usize {
            length @ 1..=SERVER_ID_MAX => Some(length),
            _ => None,
        }
    }
}
