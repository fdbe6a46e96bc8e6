//! QUIC versions 1 and 2 (RFC 8999, RFC 9000 §17, RFC 9369 §3.2).

use super::{Dissected, Payload};
use crate::{
    frame::forget,
    wire_id::{ID_MAX, ID_MIN, WireId},
};

const VERSION_1: u32 = 1;
const VERSION_2: u32 = 0x6b33_43cf;

/// Where the Destination Connection ID starts in a packet with a short header.
pub(super) const SHORT_ID: usize = 1;

/// Where the Destination Connection ID starts in a packet with a long header.
pub(super) const LONG_ID: usize = 6;

/// Where the Source Connection ID starts in what is behind the other one.
pub(super) const SOURCE_ID: usize = 1;

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
    if is_short(first) {
        return Some(Dissected { id: payload.id(SHORT_ID, id_length)?, opens: false });
    }
    let long = LongHeader::read(payload, first)?;
    Some(Dissected { id: long.id(payload)?, opens: long.opens })
}

/// The Source Connection ID of a long header, as the server sends it; a short header has none, and
/// Version Negotiation repeats what the client chose (RFC 9000 §17.2.1).
#[inline(always)]
pub(super) fn dissect_reply(payload: Payload, noise: u64) -> Option<WireId> {
    let (rest, length) = source_id(payload, noise)?;
    rest.id(SOURCE_ID, length)
}

/// What is behind the Destination Connection ID of a long header, and the length of the Source
/// Connection ID, which starts there at [`SOURCE_ID`].
#[inline(always)]
pub(super) fn source_id<'a, 'f>(
    payload: Payload<'a, 'f>,
    noise: u64,
) -> Option<(Payload<'a, 'f>, usize)> {
    if is_short(payload.byte(0)?) || payload.version()? == 0 {
        return None;
    }
    // The verifier is to know no more of the first id than that much is before the second one.
    let id = payload.byte(LONG_ID - 1)? as usize;
    let start = forget(payload.start + id, noise) + LONG_ID;
    let rest = Payload { start, length: payload.length.checked_sub(LONG_ID + id)?, ..payload };
    let length = rest.byte(0)? as usize;
    Some((rest, length))
}

/// Whether the first byte is that of a short header.
#[inline(always)]
pub(super) fn is_short(first: u8) -> bool {
    first & 0x80 == 0
}

/// What a long header says.
pub(super) struct LongHeader {
    /// Length of the Destination Connection ID, which may go on behind the payload.
    pub(super) length: usize,
    /// Whether the id may be of the client's own choosing.
    pub(super) opens: bool,
    is_known: bool,
}

impl LongHeader {
    /// Reads it; `None` if it is none that a client sends.
    #[inline(always)]
    pub(super) fn read(payload: Payload, first: u8) -> Option<Self> {
        let version = payload.version()?;
        let length = payload.byte(LONG_ID - 1)? as usize;
        // Initial is type 0 in version 1 and type 1 in version 2, and 0-RTT the next one.
        let (opens, is_known) = match version {
            // Version Negotiation is for servers to send.
            0 => return None,
            VERSION_1 => (first & 0x20 == 0, true),
            VERSION_2 => (first & 0x30 == 0x10 || first & 0x30 == 0x20, true),
            _ => (true, false),
        };
        Some(Self { length, opens, is_known })
    }

    /// The whole id, if it can be a wire id. Of an unknown version only the invariants are known
    /// (RFC 8999 §5.1), so it may be longer.
    #[inline(always)]
    pub(super) fn id(&self, payload: Payload) -> Option<WireId> {
        let length = self.length;
        if self.is_known {
            return payload.id(LONG_ID, length);
        }
        if length < ID_MIN || LONG_ID + length > payload.length {
            return None;
        }
        payload.id(LONG_ID, if length > ID_MAX { ID_MAX } else { length })
    }
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
