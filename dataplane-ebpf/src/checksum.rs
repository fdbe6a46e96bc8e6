//! One's complement sums (RFC 1071).

use crate::{frame::Frame, node::Address};

/// The sum of the two 16-bit words of an address in memory order.
#[inline(always)]
pub(crate) fn sum32(address: u32) -> u32 {
    let address = u32::from_be(address);
    (address >> 16) + (address & 0xffff)
}

/// The sum of the four 16-bit words of a word in memory order; at most 18 bits.
#[inline(always)]
pub(crate) fn sum64(word: u64) -> u32 {
    let word = u64::from_be(word);
    let halves = (word >> 32) + (word & 0xffff_ffff);
    // At most 33 bits: fold them to 18.
    ((halves >> 16) + (halves & 0xffff)) as u32
}

/// The sum of an address's 16 bytes.
#[inline(always)]
pub(crate) fn sum_address(address: Address) -> u32 {
    sum64(address.0[0]) + sum64(address.0[1])
}

/// Folds a sum into 16 bits.
#[inline(always)]
pub(crate) fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The sum of `length` bytes of a frame from `start` on, or `None` if it ends before; `length` is a
/// multiple of 8, and what is beyond `8 * WORDS` is left out. Not folded.
#[inline(always)]
pub(crate) fn sum_frame<const WORDS: usize>(
    frame: &Frame,
    start: usize,
    length: usize,
) -> Option<u32> {
    const { assert!(WORDS < 1 << 14, "the sum has 32 bits") };
    let mut sum = 0;
    for word in 0..WORDS {
        let at = word * 8;
        if at >= length {
            break;
        }
        sum += sum64(frame.read::<u64>(start + at)?);
    }
    Some(sum)
}
