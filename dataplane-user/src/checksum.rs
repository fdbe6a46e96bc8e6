//! The Internet checksum (RFC 1071).

/// The one's complement sum of bytes, not folded. The sums of parts can be added up where all but
/// the last have even lengths; at most 16 GiB.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    // Words in memory order: the sum is the same in any byte order (RFC 1071 §2.B).
    let words: u64 = words.iter().map(|&word| u64::from(u32::from_ne_bytes(word))).sum();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    words + u64::from(u32::from_ne_bytes(last))
}

/// A sum in 16 bits, in memory order: all ones for what has a right checksum in it.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The bytes of the checksum that belongs to a sum.
pub(crate) fn checksum(sum: u64) -> [u8; 2] {
    (!fold(sum)).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_the_standard() {
        // RFC 1071 §3.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes)).to_ne_bytes(), [0xdd, 0xf2]);
        assert_eq!(checksum(sum(&bytes)), [0x22, 0x0d]);
        assert_eq!(fold(sum(&[0xff; 9_000])), 0xffff);
    }

    proptest! {
        #[test]
        fn as_word_by_word(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let mut slow: u32 = 0;
            for pair in bytes.chunks(2) {
                slow += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
                slow = (slow & 0xffff) + (slow >> 16);
            }
            prop_assert_eq!(fold(sum(&bytes)).to_ne_bytes(), (slow as u16).to_be_bytes());
            let middle = (bytes.len() / 2) & !1;
            let parts = sum(&bytes[..middle]) + sum(&bytes[middle..]);
            prop_assert_eq!(fold(parts), fold(sum(&bytes)));
        }
    }
}
