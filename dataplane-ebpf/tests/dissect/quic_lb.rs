//! QUIC-LB: connection ids that name a server.

use super::{bytes, config, find, found, service};
use dataplane_ebpf::{
    dissect::quic_lb::{NONCE_MIN, SERVER_ID_MAX, UNROUTABLE, wire_id_length},
    service::{ServiceRow, protocol},
};
use proptest::{collection::vec, prelude::*};

/// A service whose config ids have server ids of these lengths.
fn with_lengths(lengths: [u8; 8]) -> ServiceRow {
    ServiceRow { server_id_lengths: lengths, ..service(protocol::QUIC_LB) }
}

fn short(id: &[u8]) -> Vec<u8> {
    [&[0x40], id, b"packet number and payload"].concat()
}

fn long(first: u8, version: u32, id: &[u8]) -> Vec<u8> {
    let source = [4, 1, 2, 3, 4, 0, 0x40, 0x20];
    [&[first], &version.to_be_bytes()[..], &[id.len() as u8], id, &source].concat()
}

/// "Test Vectors" in the draft, "Unencrypted CIDs", the first one.
#[test]
fn the_drafts_first_vector() {
    let service = with_lengths([3, 0, 0, 0, 0, 0, 0, 0]);
    let id = bytes("07c4605e4504cc4f");
    assert_eq!(find(&short(&id), &service), found(&bytes("00c4605e"), false));
    assert_eq!(find(&long(0xe0, 1, &id), &service), found(&bytes("00c4605e"), false));
}

/// The second one, as it must be meant: the draft's text has a nonce of nine digits, and an id in
/// which one is missing and the length stands beside the config id's byte instead of in it.
#[test]
fn the_drafts_second_vector_with_its_digits_mended() {
    let service = with_lengths([3, 5, 0, 0, 0, 0, 0, 0]);
    let id = bytes("2a350d28b42003487d970b");
    assert_eq!(usize::from(id[0] & 0x1f), id.len() - 1);
    assert_eq!(find(&short(&id), &service), found(&bytes("20350d28b420"), false));
}

#[test]
fn short_server_ids_are_padded() {
    let service = with_lengths([1, 2, 3, 0, 0, 0, 0, 0]);
    for (id, wire_id) in [
        ("06aa01020304", "00aa0000"),
        ("27aabb01020304", "20aabb00"),
        ("48aabbcc01020304", "40aabbcc"),
    ] {
        assert_eq!(find(&short(&bytes(id)), &service), found(&bytes(wire_id), false), "{id}");
    }
    assert_eq!([1, 2, 3, 4, 15].map(wire_id_length), [4, 4, 4, 5, 16]);
}

#[test]
fn an_unroutable_id_is_a_wire_id_as_a_whole_and_says_its_length() {
    let service = with_lengths([3, 3, 3, 3, 3, 3, 3, 0]);
    for rest in 0..32_u8 {
        let id: Vec<u8> = std::iter::once(0xe0 | rest).chain(1..=rest).collect();
        let is_id = (4..=20).contains(&id.len());
        let expected = |opens| if is_id { found(&id, opens) } else { None };
        assert_eq!(find(&short(&id), &service), expected(false), "{rest}");
        assert_eq!(find(&long(0xe0, 1, &id), &service), expected(false), "{rest}");
        assert_eq!(find(&long(0xc0, 1, &id), &service), expected(true), "{rest}");
    }
}

#[test]
fn a_config_id_that_is_not_in_use_cannot_be_routed() {
    let service = with_lengths([3, 0, 0, 0, 0, 0, 0, 0]);
    let id = bytes("27c4605e4504cc4f");
    assert_eq!(find(&short(&id), &service), None, "nobody says how long it is");
    assert_eq!(find(&long(0xe0, 1, &id), &service), found(&id, false));
    assert_eq!(find(&long(0xc0, 1, &id), &service), found(&id, true));
}

#[test]
fn a_client_may_choose_an_id_too_short_to_be_routed() {
    let service = with_lengths([9, 0, 0, 0, 0, 0, 0, 0]);
    for length in 4..14_usize {
        let id: Vec<u8> = (0..length as u8).collect();
        assert_eq!(find(&long(0xc0, 1, &id), &service), found(&id, true), "{length}");
    }
    let id: Vec<u8> = (0..14).collect();
    assert_eq!(find(&long(0xc0, 1, &id), &service), found(&id[..10], true));
    for length in 0..4_usize {
        assert_eq!(find(&long(0xc0, 1, &[0; 3][..length.min(3)]), &service), None, "{length}");
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn config_id_and_server_id_are_all_that_counts(
        config_id in 0..UNROUTABLE,
        server_id in vec(any::<u8>(), 1..=SERVER_ID_MAX),
        nonces in [vec(any::<u8>(), NONCE_MIN..20), vec(any::<u8>(), NONCE_MIN..20)],
        low_bits in [0..32_u8, 0..32_u8],
        first in 0..0x80_u8,
    ) {
        let mut lengths = [0; 8];
        lengths[usize::from(config_id)] = server_id.len() as u8;
        let service = with_lengths(lengths);
        let mut wire_id = vec![config_id << 5];
        wire_id.extend(&server_id);
        wire_id.resize(wire_id_length(server_id.len()), 0);
        for (nonce, low_bits) in nonces.iter().zip(low_bits) {
            let id = [&[config_id << 5 | low_bits], &server_id[..], nonce].concat();
            let packet = [&[first], &id[..]].concat();
            prop_assert_eq!(find(&packet, &service), found(&wire_id, false));
            let cut = &packet[..1 + 1 + server_id.len() + NONCE_MIN - 1];
            prop_assert_eq!(find(cut, &service), None);
            if id.len() <= 20 {
                prop_assert_eq!(find(&long(0xc0, 1, &id), &service), found(&wire_id, true));
            }
        }
    }

    #[test]
    fn a_long_header_without_a_server_id_is_as_in_quic(
        packet in vec(any::<u8>(), 0..60),
        first in 0x80..=0xff_u8,
    ) {
        let packet = [&[first], &packet[..]].concat();
        let as_quic = find(&packet, &service(protocol::QUIC));
        prop_assert_eq!(find(&packet, &with_lengths([0; 8])), as_quic);
    }
}
