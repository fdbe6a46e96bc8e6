//! QUIC versions 1 and 2 (RFC 8999, RFC 9000 §17, RFC 9369 §3.2).

use super::{Dissected, Payload};
use crate::{
    frame::forget,
    wire_id::{ID_MAX, ID_MIN, WireId},
};

const VERSION_1: u32 = 1;
const VERSION_2: u32 = 0x6b33_43cf;

/// The wire id is the Destination Connection ID.
///
/// A short header does not say how long it is, so the service does: `id_length`. The fixed bit is
/// not tested (RFC 9287). A client's Initial and 0-RTT packets carry an id of the client's own
/// choosing until the server has answered: they may open a session. So may a version that is not
/// known here, to which the server answers with Version Negotiation; its id may be longer than
/// ours, and then its first 20 bytes stand for it.
#[inline(always)]
pub(super) fn dissect(payload: Payload, id_length: usize) -> Option<Dissected> {
    let first = payload.byte(0)?;
    if first & 0x80 == 0 {
        return Some(Dissected { id: payload.id(1, id_length)?, opens: false });
    }
    let version = payload.version()?;
    let length = payload.byte(5)? as usize;
    // Initial is type 0 in version 1 and type 1 in version 2, and 0-RTT the next one.
    let opens = match version {
        // Version Negotiation is for servers to send.
        0 => return None,
        VERSION_1 => first & 0x20 == 0,
        VERSION_2 => first & 0x30 == 0x10 || first & 0x30 == 0x20,
        _ => {
            return Some(Dissected { id: invariant_id(payload, length)?, opens: true });
        }
    };
    Some(Dissected { id: payload.id(6, length)?, opens })
}

/// The Source Connection ID of a long header, as the server sends it; a short header has none, and
/// Version Negotiation repeats what the client chose (RFC 9000 §17.2.1).
#[inline(always)]
pub(super) fn dissect_reply(payload: Payload, noise: u64) -> Option<WireId> {
    if payload.byte(0)? & 0x80 == 0 || payload.version()? == 0 {
        return None;
    }
    // What is behind the first id; the verifier is to know no more of it than that much is before.
    let id = payload.byte(5)? as usize;
    let start = forget(payload.start + id, noise) + 6;
    let rest = Payload { start, length: payload.length.checked_sub(6 + id)?, ..payload };
    let length = rest.byte(0)? as usize;
    rest.id(1, length)
}

/// The id of an unknown version, of which only the invariants are known (RFC 8999 §5.1).
#[inline(always)]
fn invariant_id(payload: Payload, length: usize) -> Option<WireId> {
    if length < ID_MIN || 6 + length > payload.length {
        return None;
    }
    payload.id(6, if length > ID_MAX { ID_MAX } else { length })
}

impl Payload<'_, '_> {
    #[inline(always)]
    fn version(&self) -> Option<u32> {
        if self.length < 5 {
            return None;
        }
        self.frame.read::<[u8; 4]>(self.start + 1).map(u32::from_be_bytes)
    }
}
