//! Dissectors: which bytes of a UDP payload name its session, for every protocol.

mod dtls;
mod gtpu;
#[path = "../property/mod.rs"]
mod property;
mod quic_lb;

use dataplane_ebpf::{
    dissect::{Dissected, Payload, dissect, native},
    frame::Frame,
    node::Address,
    service::{ServiceRow, kind, protocol},
    wire_id::{ID_MAX, ID_MIN, WireId},
};
use property::config;
use proptest::{collection::vec, prelude::*};

/// Where all payloads come from.
const SOURCE: Address = Address::from_bytes(*b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09");
const PORT: u16 = 40_000;

fn service(protocol: u8) -> ServiceRow {
    ServiceRow { kind: kind::DATA, protocol, id_length: 8, ..ServiceRow::EMPTY }
}

/// What is found in a payload behind the headers of a frame; what lies around the payload must not
/// matter, whether the frame ends with it or goes on.
fn find(payload: &[u8], service: &ServiceRow) -> Option<Dissected> {
    let within = |fill: u8, behind: usize| {
        let mut frame = vec![fill; 42];
        frame.extend(payload);
        frame.resize(frame.len() + behind, fill);
        frame[34..36].copy_from_slice(&PORT.to_be_bytes());
        let (frame, length) = (Frame::new(&frame), payload.len());
        let payload = Payload { frame: &frame, start: 42, length };
        dissect(payload, SOURCE, service)
    };
    let found = within(0x00, 0);
    for (fill, behind) in [(0xff, 0), (0x00, 30), (0xff, 30)] {
        assert_eq!(found, within(fill, behind), "read outside the payload");
    }
    found
}

fn found(id: &[u8], opens: bool) -> Option<Dissected> {
    Some(Dissected { id: WireId::from_bytes(id).expect("4 to 20 bytes"), opens })
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |digit: u8| (digit as char).to_digit(16).expect("hexadecimal") as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

mod quic {
    use super::*;

    const V1: u32 = 1;
    const V2: u32 = 0x6b33_43cf;

    fn long(first: u8, version: u32, destination: &[u8]) -> Vec<u8> {
        let mut packet = vec![first];
        packet.extend(version.to_be_bytes());
        packet.push(destination.len() as u8);
        packet.extend(destination);
        // Source connection id, and something behind it.
        packet.extend([4, 1, 2, 3, 4, 0, 0x40, 0x20]);
        packet
    }

    #[test]
    fn the_initial_packet_of_rfc_9001_a_2_opens_a_session_by_its_first_id() {
        let packet = bytes("c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11");
        let id = bytes("8394c8f03e515708");
        assert_eq!(find(&packet, &service(protocol::QUIC)), found(&id, true));
    }

    #[test]
    fn the_initial_packet_of_rfc_9369_a_2_opens_a_session_by_its_first_id() {
        let packet = bytes("d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485");
        let id = bytes("8394c8f03e515708");
        assert_eq!(find(&packet, &service(protocol::QUIC)), found(&id, true));
    }

    #[test]
    fn packets_to_a_client_without_an_id_name_no_session() {
        // RFC 9001 A.3 (server Initial) and A.4 (Retry), RFC 9369 A.3 and A.4: the client's own id
        // is empty.
        for packet in [
            "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a",
            "ff000000010008f067a5502a4262b5746f6b656e04a265ba2eff4d829058fb3f0f2496ba",
            "dc6b3343cf0008f067a5502a4262b5004075d92faaf16f05d8a4398c47089698",
            "cf6b3343cf0008f067a5502a4262b5746f6b656ec8646ce8bfe33952d955543665dcc7b6",
        ] {
            assert_eq!(find(&bytes(packet), &service(protocol::QUIC)), None, "{packet}");
        }
    }

    #[test]
    fn only_initial_and_0rtt_open_sessions() {
        let id = [9; 8];
        for fixed in [0x00, 0x40] {
            for (version, opening) in [(V1, [0, 1]), (V2, [1, 2])] {
                for kind in 0..4_u8 {
                    let packet = long(0x80 | fixed | kind << 4, version, &id);
                    let opens = opening.contains(&kind);
                    let what = format!("version {version:#x}, type {kind}, fixed bit {fixed:#x}");
                    assert_eq!(
                        find(&packet, &service(protocol::QUIC)),
                        found(&id, opens),
                        "{what}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_version_negotiation_names_no_session() {
        let packet = long(0xc0, 0, &[9; 8]);
        assert_eq!(find(&packet, &service(protocol::QUIC)), None);
    }

    #[test]
    fn an_unknown_version_opens_a_session_by_at_most_20_bytes_of_its_id() {
        for version in [2, 0x1a2a_3a4a, 0xff00_001d, u32::MAX] {
            for length in [4, 8, 20, 21, 255] {
                let id: Vec<u8> = (0..length as u8).collect();
                let packet = long(0xc0, version, &id);
                let expected = found(&id[..length.min(ID_MAX)], true);
                assert_eq!(find(&packet, &service(protocol::QUIC)), expected, "{length}");
                let cut = &packet[..6 + length - 1];
                assert_eq!(find(cut, &service(protocol::QUIC)), None, "{length} cut short");
            }
            let short = long(0xc0, version, &[1, 2, 3]);
            assert_eq!(find(&short, &service(protocol::QUIC)), None);
        }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn a_long_header_says_how_long_its_id_is(
            first in 0x80_u8..,
            version in prop_oneof![Just(V1), Just(V2)],
            id in vec(any::<u8>(), 0..40),
            configured in ID_MIN..=ID_MAX,
        ) {
            let service = ServiceRow { id_length: configured as u8, ..service(protocol::QUIC) };
            let packet = long(first, version, &id);
            let found = find(&packet, &service).map(|found| found.id);
            // RFC 9000 §17.2: at most 20 bytes in these versions.
            prop_assert_eq!(found, WireId::from_bytes(&id));
            let cut = find(&packet[..6 + id.len() - usize::from(!id.is_empty())], &service);
            prop_assert_eq!(cut, None);
        }

        #[test]
        fn a_short_headers_id_is_as_long_as_the_service_says(
            first in ..0x80_u8,
            payload in vec(any::<u8>(), 20..60),
            length in ID_MIN..=ID_MAX,
        ) {
            let service = ServiceRow { id_length: length as u8, ..service(protocol::QUIC) };
            let mut packet = vec![first];
            packet.extend(&payload);
            prop_assert_eq!(find(&packet, &service), found(&payload[..length], false));
            prop_assert_eq!(find(&packet[..1 + length], &service), found(&payload[..length], false));
            prop_assert_eq!(find(&packet[..length], &service), None);
        }
    }
}

mod wireguard {
    use super::*;

    fn message(kind: u8, length: usize) -> Vec<u8> {
        let mut message: Vec<u8> = (0..length).map(|at| at as u8).collect();
        message[0] = kind;
        message
    }

    #[test]
    fn every_message_type_has_its_index_and_its_length() {
        let service = service(protocol::WIREGUARD);
        let initiation = message(1, 148);
        assert_eq!(find(&initiation, &service), found(&initiation[4..24], true));
        let response = message(2, 92);
        assert_eq!(find(&response, &service), found(&response[8..12], false));
        let cookie = message(3, 64);
        assert_eq!(find(&cookie, &service), found(&cookie[4..8], false));
        for length in [32, 33, 1_400] {
            let data = message(4, length);
            assert_eq!(find(&data, &service), found(&data[4..8], false));
        }
    }

    #[test]
    fn a_message_of_another_length_names_no_session() {
        let service = service(protocol::WIREGUARD);
        for (kind, length) in [(1, 147), (1, 149), (2, 91), (2, 93), (3, 63), (3, 65), (4, 31)] {
            assert_eq!(find(&message(kind, length), &service), None, "type {kind}, {length} bytes");
        }
        assert_eq!(find(&[], &service), None);
    }

    #[test]
    fn another_type_names_no_session() {
        for kind in (0..=255).filter(|kind| !(1..=4).contains(kind)) {
            for length in [32, 64, 92, 148] {
                assert_eq!(find(&message(kind, length), &service(protocol::WIREGUARD)), None);
            }
        }
    }

    #[test]
    fn the_reserved_bytes_do_not_matter() {
        let mut data = message(4, 32);
        let expected = found(&data[4..8], false);
        for reserved in [[0, 0, 0], [1, 2, 3], [0xff, 0xff, 0xff]] {
            data[1..4].copy_from_slice(&reserved);
            assert_eq!(find(&data, &service(protocol::WIREGUARD)), expected);
        }
    }
}

mod offset {
    use super::*;

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn the_id_lies_where_the_service_says(
            payload in vec(any::<u8>(), 0..300),
            id_offset: u8,
            length in 0..=24_usize,
            opens: bool,
        ) {
            let service = ServiceRow {
                id_offset,
                id_length: length as u8,
                unknown_opens: opens as u8,
                ..service(protocol::OFFSET)
            };
            let id = payload.get(id_offset as usize..id_offset as usize + length);
            let id = id.and_then(WireId::from_bytes);
            prop_assert_eq!(find(&payload, &service), id.map(|id| Dissected { id, opens }));
        }
    }
}

mod native_header {
    use super::*;
    use native::{FLAG_OWNER, HEADER, Header, OWNER_HEADER};

    fn control() -> ServiceRow {
        ServiceRow { kind: kind::CONTROL, ..service(protocol::WIREGUARD) }
    }

    #[test]
    fn data_and_open_go_to_the_data_port_and_control_to_the_control_port() {
        let session = [7; 16];
        for kind in 0..16 {
            let (bytes, length) = Header { kind, session, owner: None }.encode();
            let at_data = match kind {
                native::TYPE_DATA => found(&session, false),
                native::TYPE_OPEN => found(&session, true),
                _ => None,
            };
            let at_control =
                if kind == native::TYPE_CONTROL { found(&session, false) } else { None };
            assert_eq!(find(&bytes[..length], &service(protocol::NATIVE)), at_data, "{kind}");
            assert_eq!(find(&bytes[..length], &control()), at_control, "{kind}");
        }
    }

    #[test]
    fn a_header_of_another_version_or_cut_short_names_no_session() {
        let (bytes, length) = Header { kind: 0, session: [7; 16], owner: None }.encode();
        for version in (0..16_u8).filter(|&version| version != native::VERSION) {
            let mut bytes = bytes;
            bytes[0] = version << 4;
            assert_eq!(find(&bytes[..length], &service(protocol::NATIVE)), None);
        }
        for length in 0..length {
            assert_eq!(find(&bytes[..length], &service(protocol::NATIVE)), None, "{length} bytes");
            assert_eq!(Header::decode(&bytes[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn the_documented_layout_is_the_one_on_the_wire() {
        let session = *b"0123456789abcdef";
        let owner = Some((0x0102_0304, 0x1112_1314_1516_1718));
        let (bytes, length) = Header { kind: native::TYPE_OPENED, session, owner }.encode();
        assert_eq!(length, OWNER_HEADER);
        let mut expected = vec![0x12, FLAG_OWNER, 0, 0];
        expected.extend(session);
        expected.extend([1, 2, 3, 4, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]);
        assert_eq!(bytes[..], expected);
        assert_eq!(native::ID_OFFSET % 4, 0);
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn what_is_encoded_is_decoded(
            kind in 0..16_u8,
            session: [u8; 16],
            owner: Option<(u32, u64)>,
            payload in vec(any::<u8>(), 0..30),
        ) {
            let header = Header { kind, session, owner };
            let (bytes, length) = header.encode();
            prop_assert_eq!(length, if owner.is_some() { OWNER_HEADER } else { HEADER });
            let mut packet = bytes[..length].to_vec();
            packet.extend(&payload);
            prop_assert_eq!(Header::decode(&packet), Some((header, &payload[..])));
            prop_assert_eq!(Header::decode(&packet[..length - 1]), None, "cut short");
        }

        #[test]
        fn any_bytes_decode_or_do_not_but_never_panic(bytes in vec(any::<u8>(), 0..50)) {
            let decoded = Header::decode(&bytes);
            prop_assert!(decoded.is_none_or(|(_, rest)| rest.len() + HEADER <= bytes.len()));
        }
    }
}

#[test]
fn a_protocol_that_does_not_exist_names_no_session() {
    for protocol in [0, 8, 255] {
        assert_eq!(find(&[0x10; 40], &service(protocol)), None);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_payload_is_read_within_its_length_only(
        payload in vec(any::<u8>(), 0..200),
        protocol in 0..9_u8,
        length: u8,
        id_offset: u8,
        server_id_lengths: [u8; 8],
    ) {
        let row = service(protocol);
        let service = ServiceRow { id_length: length, id_offset, server_id_lengths, ..row };
        find(&payload, &service);
        find(&payload, &ServiceRow { kind: kind::CONTROL, ..service });
    }
}
