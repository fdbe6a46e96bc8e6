//! Markers: datagrams of the daemon's own that go through a CPU's queue to an application's socket.
//! When the application has read one, it has read whatever was queued before.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------------------------------------------------------+
//! |                  "jumpgate marker\n" (16 bytes)               |
//! +---------------------------------------------------------------+
//! |                        nonce (16 bytes)                       |
//! +---------------------------------------------------------------+
//! |                        token (16 bytes)                       |
//! +---------------------------------------------------------------+
//! ```
//!
//! The selector knows a marker by its nonce, which is drawn anew whenever queues are emptied and
//! forgotten afterwards, so no client can make one. The token is the marker's own: the application
//! returns it to the daemon. No protocol's packet looks like a marker by chance.

use crate::frame::Frame;

/// What a marker starts with.
pub const MAGIC: [u8; 16] = *b"jumpgate marker\n";

/// Length of a marker in bytes.
pub const MARKER: usize = 48;

/// The part of a marker that is its own.
pub type Token = [u8; 16];

/// The marker with this token; the nonce's words are in memory order.
pub fn encode(nonce: [u64; 2], token: Token) -> [u8; MARKER] {
    let mut bytes = [0; MARKER];
    bytes[..16].copy_from_slice(&MAGIC);
    bytes[16..24].copy_from_slice(&nonce[0].to_ne_bytes());
    bytes[24..32].copy_from_slice(&nonce[1].to_ne_bytes());
    bytes[32..].copy_from_slice(&token);
    bytes
}

/// The token of what looks like a marker; `None` for any other datagram. Whether it is one, only
/// the daemon knows.
pub fn recognise(payload: &[u8]) -> Option<Token> {
    let marker: &[u8; MARKER] = payload.try_into().ok()?;
    let (magic, rest) = marker.split_at(16);
    (magic == MAGIC).then(|| rest[16..].try_into().expect("16 bytes"))
}

/// Whether the `length` bytes at `start` are a marker with this nonce.
#[inline(always)]
pub fn is_marker(frame: &Frame, start: usize, length: usize, nonce: [u64; 2]) -> bool {
    length == MARKER
        && frame.read::<u64>(start + 16) == Some(nonce[0])
        && frame.read::<u64>(start + 24) == Some(nonce[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_known_by_its_nonce_and_returns_its_token() {
        let bytes = encode([1, 2], [7; 16]);
        let marks = |bytes: &[u8], nonce| is_marker(&Frame::new(bytes), 0, bytes.len(), nonce);
        assert!(marks(&bytes, [1, 2]));
        assert!(!marks(&bytes, [1, 3]) && !marks(&bytes, [2, 2]));
        assert!(!marks(&bytes[..47], [1, 2]));
        assert_eq!(recognise(&bytes), Some([7; 16]));
        assert_eq!(recognise(&bytes[..47]), None);
        let mut other = bytes;
        other[0] ^= 1;
        assert_eq!(recognise(&other), None);
    }
}
