//! Numbered sessions: the same numbers lead to the same SessionIDs here and in the probe programs.

use dataplane_ebpf::wire_id::{Key, WireId};

/// What the probe programs mix into the number.
pub const SEED: u64 = 0x6a75_6d70_6761_7465;

/// The SessionID with this number; see `steer_random` in the probe object.
pub fn session(number: u64) -> [u8; 16] {
    let mixed = (number ^ SEED).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mixed.to_ne_bytes());
    id[8..].copy_from_slice(&number.to_ne_bytes());
    id
}

/// Its key in a service with this hash seed.
pub fn key(number: u64, seed: u64) -> Key {
    WireId::from_bytes(&session(number)).expect("16 bytes").key(seed)
}
