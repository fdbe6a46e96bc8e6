//! Weighted rendezvous hashing, in integers: the same on every machine.
//!
//! Each member draws a number u, uniform in (0, 1), for each slot from a hash of its name and the
//! slot; the lowest `-log2(u) / weight` wins. That gives each member its share, and a member that
//! comes or goes only touches slots that it wins.

use super::{Member, SLOTS};
use crate::NodeIndex;
use xxhash_rust::xxh64::xxh64;

/// Bits of a logarithm behind the point.
const FRACTION: u32 = 24;

/// Bits of the mantissa that choose a row of the table of logarithms.
const MANTISSA: u32 = 12;

struct Best {
    /// Lower wins; ties, one in 2^40, go to the lower draw and then to the name that sorts first.
    score: (u64, u64),
    owner: NodeIndex,
}

/// The member that wins each slot. There is one with a weight above 0.
pub(super) fn winners(members: &[Member]) -> Vec<NodeIndex> {
    let mut members: Vec<_> = members.iter().filter(|member| member.weight > 0).collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let logarithms = logarithms();
    let mut best: Vec<Best> = Vec::with_capacity(SLOTS);
    for member in members {
        let seed = xxh64(member.name.as_bytes(), 0);
        // 2^32 / weight: at most 32 bits and a half, times a logarithm of 31 bits.
        let inverse = (1_u64 << 32) / member.weight as u64;
        for slot in 0..SLOTS {
            let draw = mix(seed ^ (slot as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let score = (negative_log2(draw, &logarithms) * inverse, !draw);
            match best.get_mut(slot) {
                None => best.push(Best { score, owner: member.index }),
                Some(best) if score < best.score => *best = Best { score, owner: member.index },
                Some(_) => {}
            }
        }
    }
    best.into_iter().map(|best| best.owner).collect()
}

/// The finalizer of SplitMix64: every bit of the input moves every bit of the output.
fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// `-log2(draw / 2^64)` with [`FRACTION`] bits behind the point, a draw of 0 counting as 1.
fn negative_log2(draw: u64, logarithms: &[u32]) -> u64 {
    let draw = draw | 1;
    let zeros = draw.leading_zeros();
    // The leading one goes, the next bits choose the row.
    let row = (draw << zeros << 1 >> (64 - MANTISSA)) as usize;
    ((zeros as u64 + 1) << FRACTION) - logarithms[row] as u64
}

/// `log2(1 + (row + 1/2) / 2^12)` for each row, by squaring.
fn logarithms() -> Vec<u32> {
    let rows = 1_u64 << MANTISSA;
    (0..rows)
        .map(|row| {
            // 1 to 2 with 31 bits behind the point.
            let mut x = (1 << 31) + (2 * row + 1) * (1 << 30) / rows;
            let mut logarithm = 0;
            for _ in 0..FRACTION {
                x = (x * x) >> 31;
                logarithm <<= 1;
                if x >= 1 << 32 {
                    x >>= 1;
                    logarithm |= 1;
                }
            }
            logarithm
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_right_to_their_last_bits() {
        let table = logarithms();
        for (row, &value) in table.iter().enumerate() {
            let exact = (1.0 + (row as f64 + 0.5) / 4096.0).log2();
            let ours = value as f64 / (1 << FRACTION) as f64;
            assert!((exact - ours).abs() < 1e-6, "row {row}: {exact} {ours}");
        }
        assert!(negative_log2(u64::MAX, &table) < 1 << (FRACTION - 10));
        assert_eq!(negative_log2(0, &table) >> FRACTION, 63, "a draw of 0 counts as 1");
    }
}
