//! DTLS 1.2 and 1.3 with connection ids.

use super::{PORT, SOURCE, bytes, config, find, found, service};
use dataplane_ebpf::{
    dissect::Dissected,
    service::{ServiceRow, protocol},
    wire_id::{ID_MAX, ID_MIN, WireId},
};
use proptest::{collection::vec, prelude::*};

fn dtls(id_length: usize) -> ServiceRow {
    ServiceRow { id_length: id_length as u8, ..service(protocol::DTLS) }
}

/// What stands for the client itself.
fn by_client() -> Option<Dissected> {
    let id = [&PORT.to_be_bytes()[..], &SOURCE.bytes()].concat();
    found(&id, true)
}

/// All that OpenSSL's client sends in a handshake of DTLS 1.2, recorded: ClientHello, the same with
/// a cookie, then ClientKeyExchange, ChangeCipherSpec and Finished.
const HANDSHAKE: [&str; 3] = [
    "16feff0000000000000000005e010000520000000000000052fefdda06e6f7f58f9d40e3920c390be5d544f91cde24\
     f64796664cfeeaccd147699100000004c02b00ff01000024000b000403000102000a00040002001700230000001600\
     0000170000000d000400020403",
    "16feff00000000000000010072010000660001000000000066fefdda06e6f7f58f9d40e3920c390be5d544f91cde24\
     f64796664cfeeaccd14769910014b66977d764343646f5d453c81c3eb75d52cd95d10004c02b00ff01000024000b00\
     0403000102000a000400020017002300000016000000170000000d000400020403",
    "16fefd0000000000000002004e10000042000200000000004241040b0156c0329330cc35a90f034ff283546de8b216\
     0b7f40d364e3a2baa7086825350b27c633c1563ab9e0d37e68b84bf61c345e90ed8cd70044a47072cea280d314fefd\
     000000000000000300010116fefd00010000000000000030e18b94eb718a52fb7d3d22ddcdb4894097642b9b13e777\
     e30d3879153495a1523b88638874067d0caec5f49b4e859273",
];

#[test]
fn a_whole_handshake_has_one_id() {
    for flight in HANDSHAKE {
        assert_eq!(find(&bytes(flight), &dtls(8)), by_client(), "{flight}");
    }
    // Nothing that ClientHello says could have been that id.
    let random = &HANDSHAKE[0][54..118];
    assert!(HANDSHAKE[1].contains(random) && !HANDSHAKE[2].contains(random));
}

#[test]
fn a_client_without_a_connection_id_has_no_session() {
    let data =
        "17fefd0001000000000001001ee18b94eb718a52fcf5bc0d4edc1445a1dc8280b01535f94897248068c9c4";
    assert_eq!(find(&bytes(data), &dtls(8)), None);
    // Finished alone, as a client sends it whose flight did not fit one datagram.
    let finished = &HANDSHAKE[2][2 * (13 + 78 + 14)..];
    assert!(finished.starts_with("16fefd0001"), "{finished}");
    assert_eq!(find(&bytes(finished), &dtls(8)), None);
}

/// RFC 9146 §4: type, version, epoch, sequence number, connection id, length.
#[test]
fn the_record_of_rfc_9146() {
    let record = bytes(
        "19 fefd 0001 000000000001 0102030405060708 0018 \
         a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8"
            .replace(' ', "")
            .as_str(),
    );
    assert_eq!(find(&record, &dtls(8)), found(&record[11..19], false));
    // How long it is, only the service knows.
    assert_eq!(find(&record, &dtls(20)), found(&record[11..31], false));
    for length in 0..21 {
        assert_eq!(find(&record[..length], &dtls(8)), None, "{length}");
    }
    assert_eq!(find(&record[..21], &dtls(8)), found(&record[11..19], false));
}

/// RFC 9147 §4, figure 4: "Full" and the other forms with and without a connection id.
#[test]
fn the_headers_of_rfc_9147_figure_4() {
    let id = [0xc1; 8];
    let with = |first: u8, behind: &[u8]| [&[first], &id[..], behind, &[0x55; 16]].concat();
    // 16-bit sequence number, length present, connection id present.
    let full = with(0b0011_1110, &[0x12, 0x34, 0x00, 0x10]);
    assert_eq!(find(&full, &dtls(8)), found(&id, false));
    // 8-bit sequence number, connection id present.
    let short = with(0b0011_0010, &[0x12]);
    assert_eq!(find(&short, &dtls(8)), found(&id, false));
    // "Minimal": 8-bit sequence number, nothing else.
    let minimal = [&[0b0010_0010, 0x12][..], &[0x55; 16]].concat();
    assert_eq!(find(&minimal, &dtls(8)), None);
}

#[test]
fn every_first_byte_has_its_meaning() {
    for first in 0..=255_u8 {
        let mut record = [0; 40];
        (record[0], record[1], record[2]) = (first, 254, 253);
        let expected = match first {
            20 | 21 | 22 | 26 => by_client(),
            25 => found(&record[11..19], false),
            0x30..=0x3f => found(&record[1..9], false),
            // Early data: epoch 1, without an id.
            0x21 | 0x25 | 0x29 | 0x2d => by_client(),
            _ => None,
        };
        assert_eq!(find(&record, &dtls(8)), expected, "{first}");
    }
}

#[test]
fn a_client_is_named_by_port_and_address() {
    use dataplane_ebpf::node::Address;
    let v4 = Address::from_v4(u32::from_ne_bytes([192, 0, 2, 1]));
    let id = bytes("9c4000000000000000000000ffffc0000201");
    assert_eq!(WireId::of_client(v4, PORT.to_be()), WireId::from_bytes(&id).unwrap());
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn an_id_is_as_long_as_the_service_says(
        id in vec(any::<u8>(), ID_MIN..=ID_MAX),
        head: [u8; 10],
        first in 0x30..0x40_u8,
        behind in vec(any::<u8>(), 2..30),
    ) {
        let service = dtls(id.len());
        let record = [&[25], &head[..], &id, &behind].concat();
        prop_assert_eq!(find(&record, &service), found(&id, false));
        let record = [&[first], &id[..], &behind].concat();
        prop_assert_eq!(find(&record, &service), found(&id, false));
    }
}
