//! DTLS 1.2 with connection ids (RFC 9146 §4) and DTLS 1.3 (RFC 9147 §4).
//!
//! ```text
//! DTLS 1.2, with an id    | 25 | version 2 | epoch 2 | sequence 6 | connection id | length 2 | ...
//! DTLS 1.3, encrypted     | 001CSLEE | connection id, if C | sequence, 1 or 2 | ...
//! handshake, in the clear | type | version 2 | epoch 2 = 0 | sequence 6 | length 2 | ...
//! ```
//!
//! A connection id is as long as the service says, as it was agreed on in the handshake.
//!
//! **The handshake has no id.** Until the server has given the client one, records say nothing that
//! holds from flight to flight: ClientHello has a random, but the client's second flight in DTLS 1.2
//! (Certificate, ClientKeyExchange, ChangeCipherSpec) repeats nothing of it. So all records of epoch
//! 0, and early data of DTLS 1.3, are named by the client's address and port
//! ([`WireId::of_client`]), as in DTLS without connection ids
//! (RFC 9146 §1): the whole handshake, with whatever is sent again, comes to one node and CPU, where
//! it opens a session. A client that changes address in mid-handshake has to begin anew.
//!
//! Records of later epochs without an id name no session: their client could never move.

use super::{Dissected, Payload};
use crate::{node::Address, parse::UDP, wire_id::WireId};

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const TLS12_CID: u8 = 25;
const ACK: u8 = 26;

/// Offset of the connection id in a record of DTLS 1.2.
const ID_1_2: usize = 11;

/// Offset of the connection id in a record of DTLS 1.3.
const ID_1_3: usize = 1;

/// Length of a record's header without an id.
const HEADER: usize = 13;

/// The most significant byte of all versions (they are one's complements: 1.0 is 254.255).
const VERSION_MAJOR: u8 = 254;

/// The wire id is the connection id of the datagram's first record, or the client's address and
/// port in the handshake.
#[inline(always)]
pub(super) fn dissect(payload: Payload, source: Address, id_length: usize) -> Option<Dissected> {
    match payload.byte(0)? {
        TLS12_CID => {
            if payload.length < HEADER + id_length {
                return None;
            }
            Some(Dissected { id: payload.id(ID_1_2, id_length)?, opens: false })
        }
        first if first & 0xf0 == 0x30 => {
            Some(Dissected { id: payload.id(ID_1_3, id_length)?, opens: false })
        }
        // Early data: the client has no id yet, and epoch 1 ends in 01.
        first if first & 0xf3 == 0x21 => handshake(payload, source),
        CHANGE_CIPHER_SPEC | ALERT | HANDSHAKE | ACK => {
            let is_plain = payload.length >= HEADER
                && payload.byte(1)? == VERSION_MAJOR
                && payload.frame.read::<u16>(payload.start + 3)? == 0;
            if is_plain { handshake(payload, source) } else { None }
        }
        _ => None,
    }
}

#[inline(always)]
fn handshake(payload: Payload, source: Address) -> Option<Dissected> {
    let port = payload.frame.read::<u16>(payload.start.checked_sub(UDP)?)?;
    Some(Dissected { id: WireId::of_client(source, port), opens: true })
}
