//! Ids as applications write them, and how new ones are drawn.

use super::Refusal;
use crate::dataplane::services::Protocol;
use dataplane_ebpf::wire_id::{ID_MAX, Key, mint};
use ownership::SessionId;
use rand::{TryRngCore, rngs::OsRng};

/// A random SessionID that leads to `slot`, and its key.
pub(super) fn draw(slot: u16, seed: u64) -> Result<([u8; 16], Key), Refusal> {
    let mut bytes = [0; 16];
    OsRng.try_fill_bytes(&mut bytes).map_err(|_| Refusal::Random)?;
    let key = mint(&mut bytes, slot, seed).expect("a length that wire ids have").key(seed);
    debug_assert_eq!(key.slot, slot);
    Ok((bytes, key))
}

/// How often an id is drawn that packets may not be able to carry: one in 256 can, of those that fix
/// their first byte.
const TRIES: usize = 8192;

/// A random wire id that packets of a protocol can carry and that leads to `slot`, and its key.
pub(super) fn draw_for(
    protocol: Protocol,
    slot: u16,
    seed: u64,
) -> Result<(Vec<u8>, Key), Refusal> {
    let (length, random) = (protocol.id_length(), protocol.random_length());
    for _ in 0..TRIES {
        let mut bytes = [0; ID_MAX];
        let bytes = &mut bytes[..length];
        OsRng.try_fill_bytes(&mut bytes[..random]).map_err(|_| Refusal::Random)?;
        let key = mint(bytes, slot, seed).expect("a length that wire ids have").key(seed);
        if protocol.can_carry(bytes) {
            return Ok((bytes.to_vec(), key));
        }
    }
    Err(Refusal::NoneInSlot)
}

/// The SessionID with these hexadecimal digits.
pub(super) fn parse_session(text: &str) -> Result<SessionId, Refusal> {
    text.parse().map_err(|_| Refusal::NoSession(text.to_owned()))
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from hexadecimal; `None` if it is none.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = (0..text.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
