//! Wire ids: the slot one wants is the slot one gets, and ids spread evenly over slots and buckets.

mod property;

use dataplane_ebpf::{
    slot::SLOTS,
    table::Location,
    wire_id::{ID_MAX, ID_MIN, Key, WireId, mint},
};
use property::config;
use proptest::{collection::vec, prelude::*};
use std::collections::HashSet;

/// xxh64 of fewer than 32 bytes, written from the algorithm's specification
/// (github.com/Cyan4973/xxHash, doc/xxhash_spec.md) for lengths that are multiples of 8.
fn xxh64_short(bytes: &[u8], seed: u64) -> u64 {
    const P: [u64; 5] = [
        0x9e37_79b1_85eb_ca87,
        0xc2b2_ae3d_27d4_eb4f,
        0x1656_67b1_9e37_79f9,
        0x85eb_ca77_c2b2_ae63,
        0x27d4_eb2f_1656_67c5,
    ];
    assert!(bytes.len() < 32 && bytes.len().is_multiple_of(8));
    let mut sum = seed.wrapping_add(P[4]).wrapping_add(bytes.len() as u64);
    for lane in bytes.chunks(8) {
        let lane = u64::from_le_bytes(lane.try_into().expect("8 bytes"));
        sum ^= lane.wrapping_mul(P[1]).rotate_left(31).wrapping_mul(P[0]);
        sum = sum.rotate_left(27).wrapping_mul(P[0]).wrapping_add(P[3]);
    }
    sum = (sum ^ sum >> 33).wrapping_mul(P[1]);
    sum = (sum ^ sum >> 29).wrapping_mul(P[2]);
    sum ^ sum >> 32
}

/// The key as the documentation of [`WireId::key`] says it.
fn documented_key(id: &[u8], seed: u64) -> Key {
    let mut tail = id[2..].to_vec();
    tail.resize(if id.len() > 18 { 24 } else { 16 }, 0);
    let hash = xxh64_short(&tail, seed.wrapping_add(id.len() as u64));
    let prefix = u16::from_be_bytes([id[0], id[1]]);
    Key {
        hash: (hash ^ prefix as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        slot: prefix ^ (hash >> 48) as u16,
    }
}

fn key(id: &[u8], seed: u64) -> Key {
    WireId::from_bytes(id).expect("4 to 20 bytes").key(seed)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_minted_id_has_the_wanted_slot(
        id in vec(any::<u8>(), ID_MIN..=ID_MAX),
        slot: u16,
        seed: u64,
    ) {
        let mut minted = id.clone();
        let wire = mint(&mut minted, slot, seed);
        prop_assert_eq!(wire, WireId::from_bytes(&minted));
        prop_assert_eq!(key(&minted, seed).slot, slot);
        prop_assert_eq!(&minted[2..], &id[2..], "only the first two bytes are chosen");
    }

    #[test]
    fn an_id_of_another_length_is_none(id in vec(any::<u8>(), 0..40_usize), slot: u16, seed: u64) {
        prop_assume!(!(ID_MIN..=ID_MAX).contains(&id.len()));
        prop_assert_eq!(WireId::from_bytes(&id), None);
        let mut minted = id.clone();
        prop_assert_eq!(mint(&mut minted, slot, seed), None);
        prop_assert_eq!(minted, id, "nothing changes");
    }

    #[test]
    fn the_key_is_the_documented_one(id in vec(any::<u8>(), ID_MIN..=ID_MAX), seed: u64) {
        prop_assert_eq!(key(&id, seed), documented_key(&id, seed));
    }

    #[test]
    fn the_words_of_a_16_byte_id_are_its_bytes(id: [u8; 16]) {
        let [low, high] = [0, 8].map(|at| u64::from_ne_bytes(id[at..at + 8].try_into().unwrap()));
        prop_assert_eq!(Some(WireId::from_words(low, high)), WireId::from_bytes(&id));
    }

    #[test]
    fn ids_that_differ_in_one_bit_have_other_keys(
        id in vec(any::<u8>(), ID_MIN..=ID_MAX),
        seed: u64,
    ) {
        let key = key(&id, seed);
        for bit in 0..id.len() * 8 {
            let mut other = id.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            let other = documented_key(&other, seed);
            prop_assert_ne!(key.hash, other.hash, "bit {}", bit);
            prop_assert!(bit >= 16 || key.slot != other.slot, "a first byte names the slot");
        }
    }

    #[test]
    fn an_id_and_its_zero_padded_longer_self_have_other_keys(
        id in vec(any::<u8>(), ID_MIN..ID_MAX),
        seed: u64,
    ) {
        let mut longer = id.clone();
        longer.push(0);
        prop_assert_ne!(key(&id, seed).hash, key(&longer, seed).hash);
    }
}

#[test]
fn the_tests_own_xxh64_knows_the_published_vectors() {
    // From the reference implementation's sanity checks: no input, without and with a seed.
    assert_eq!(xxh64_short(&[], 0), 0xef46_db37_51d8_e999);
    assert_eq!(xxh64_short(&[], 2_654_435_761), 0xac75_fda2_929b_17ef);
}

/// How far counts are from even, in standard deviations of what chance would do.
fn unevenness(counts: &[u32]) -> f64 {
    let total: u64 = counts.iter().map(|&count| count as u64).sum();
    let expected = total as f64 / counts.len() as f64;
    let square = |&count: &u32| (count as f64 - expected).powi(2) / expected;
    let chi: f64 = counts.iter().map(square).sum();
    let freedom = (counts.len() - 1) as f64;
    (chi - freedom) / (2.0 * freedom).sqrt()
}

#[test]
fn ids_that_only_count_spread_evenly_over_the_slots() {
    for length in [4, 8, 16, 20] {
        let mut counts = vec![0; SLOTS];
        for number in 0..SLOTS as u32 * 8 {
            let mut id = [0; ID_MAX];
            id[length - 4..length].copy_from_slice(&number.to_le_bytes());
            counts[key(&id[..length], 7).slot as usize] += 1;
        }
        // Better than chance is welcome.
        let uneven = unevenness(&counts);
        assert!(uneven < 6.0, "length {length}: {uneven:.1} standard deviations");
    }
}

#[test]
fn ids_minted_for_one_slot_spread_evenly_over_the_tables_buckets() {
    for (length, bits) in [(8, 12), (16, 12), (20, 12)] {
        let mut counts = [vec![0; 1 << bits], vec![0; 1 << bits]];
        for number in 0..1_u32 << (bits + 4) {
            let mut id = [0; ID_MAX];
            id[4..8].copy_from_slice(&number.to_le_bytes());
            let minted = mint(&mut id[..length], 0x1234, 7).expect("a valid length");
            let at = Location::of(minted.key(7).hash, bits);
            counts[0][at.first as usize] += 1;
            counts[1][at.second as usize] += 1;
        }
        for counts in counts {
            let uneven = unevenness(&counts);
            assert!(uneven < 6.0, "length {length}: {uneven:.1} standard deviations");
        }
    }
}

#[test]
fn all_65536_four_byte_ids_of_a_slot_have_keys_of_their_own() {
    let mut keys = HashSet::new();
    for tail in 0..=u16::MAX {
        let mut id = [0, 0, tail as u8, (tail >> 8) as u8];
        let key = mint(&mut id, 99, 7).expect("4 bytes").key(7);
        assert_eq!(key.slot, 99);
        let at = Location::of(key.hash, 16);
        assert!(keys.insert((at.first, at.tag)), "{id:02x?}");
    }
}
