//! Ids as applications write them, and how new ones are drawn.

use super::Refusal;
use dataplane_ebpf::wire_id::{Key, mint};
use ownership::SessionId;
use rand::{TryRngCore, rngs::OsRng};

/// Random bytes with the head that leads to `slot`, and their key.
pub(super) fn draw<const N: usize>(
    length: usize,
    slot: u16,
    seed: u64,
) -> Result<(Vec<u8>, Key), Refusal> {
    let mut bytes = [0; N];
    let bytes = &mut bytes[..length];
    OsRng.try_fill_bytes(bytes).map_err(|_| Refusal::Random)?;
    let key = mint(bytes, slot, seed).expect("a length that wire ids have").key(seed);
    debug_assert_eq!(key.slot, slot);
    Ok((bytes.to_vec(), key))
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
