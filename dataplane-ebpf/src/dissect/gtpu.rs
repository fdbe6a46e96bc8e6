//! GTP-U (3GPP TS 29.281 §5.1 and §7): tunnels named by the receiver's TEID.
//!
//! ```text
//! | version (3 bits) = 1, PT = 1, spare, E, S, PN | type | length 2 | TEID 4 |
//! | sequence 2 | N-PDU | type of the next extension header |   if any of E, S and PN is set
//! ```
//!
//! Most messages carry the TEID of a tunnel at the receiver: that is the wire id, as it stands in
//! the packet. The TEID 0 names no tunnel; messages with it are about a *path* between two hosts,
//! and each opens a session, which means that some application of the service gets it:
//!
//! - Echo Request and Response and Supported Extension Headers Notification are named by their first
//!   12 bytes, so by their sequence number, which spreads them over nodes and keeps copies together.
//!   A peer takes a path for dead that does not answer echoes; whichever node gets one can answer it.
//! - Error Indication says which TEID the *peer* does not know. It is named by its information
//!   elements: that TEID and the peer's address (§7.3.1). An application that registers this id for
//!   a session gets the session's errors where the session is.

use super::{Dissected, Payload};
use crate::wire_id::ID_MAX;

/// Length of the header with sequence number, N-PDU number and next extension header type.
const LONG_HEADER: usize = 12;

const ECHO_REQUEST: u8 = 1;
const ECHO_RESPONSE: u8 = 2;
const ERROR_INDICATION: u8 = 26;
const EXTENSION_HEADERS: u8 = 31;
const TUNNEL_STATUS: u8 = 253;
const END_MARKER: u8 = 254;
const G_PDU: u8 = 255;

/// Version 1 and protocol type GTP (not GTP'), of version, protocol type.
const VERSION_MASK: u8 = 0xf0;
const VERSION: u8 = 0x30;

const FLAG_EXTENSION: u8 = 0x04;
const FLAG_SEQUENCE: u8 = 0x02;

/// Length of the only extension header of an Error Indication (UDP Port), in 4 bytes.
const UDP_PORT_UNITS: u8 = 1;

/// Type of the information element with the peer's TEID, which comes first.
const TEID_DATA_I: u8 = 16;
/// Type of the information element with the peer's address, which comes second.
const PEER_ADDRESS: u8 = 133;

/// Length of the two information elements with an IPv4 address.
const ELEMENTS_V4: usize = 5 + 3 + 4;

/// The wire id is the TEID; see above for messages without one.
#[inline(always)]
pub(super) fn dissect(payload: Payload) -> Option<Dissected> {
    let flags = payload.byte(0)?;
    if flags & VERSION_MASK != VERSION || payload.length < 8 {
        return None;
    }
    let kind = payload.byte(1)?;
    let names_a_tunnel = payload.frame.read::<u32>(payload.start + 4)? != 0;
    let (offset, length) = match (kind, names_a_tunnel) {
        (G_PDU | END_MARKER | TUNNEL_STATUS, true) => {
            return Some(Dissected { id: payload.id(4, 4)?, opens: false });
        }
        // §5.1: these have a sequence number.
        _ if names_a_tunnel || flags & FLAG_SEQUENCE == 0 => return None,
        (ECHO_REQUEST | ECHO_RESPONSE | EXTENSION_HEADERS, _) => (0, LONG_HEADER),
        (ERROR_INDICATION, _) => error_indication(payload, flags)?,
        _ => return None,
    };
    Some(Dissected { id: payload.id(offset, length)?, opens: true })
}

/// Where the information elements lie that say what an Error Indication is about: offset and
/// length, which leaves out the last bytes of an IPv6 address.
#[inline(always)]
fn error_indication(payload: Payload, flags: u8) -> Option<(usize, usize)> {
    let mut at = LONG_HEADER;
    if flags & FLAG_EXTENSION != 0 && payload.byte(LONG_HEADER - 1)? != 0 {
        // Its units, its content, and that no other one follows.
        if payload.byte(LONG_HEADER)? != UDP_PORT_UNITS || payload.byte(LONG_HEADER + 3)? != 0 {
            return None;
        }
        at += 4;
    }
    if payload.byte(at)? != TEID_DATA_I || payload.byte(at + 5)? != PEER_ADDRESS {
        return None;
    }
    match [payload.byte(at + 6)?, payload.byte(at + 7)?] {
        [0, 4] => Some((at, ELEMENTS_V4)),
        [0, 16] => Some((at, ID_MAX)),
        _ => None,
    }
}
