//! Packets of QUIC-LB, DTLS and GTP-U in all their forms.

use dataplane_ebpf::verdict::Verdict;
use dataplane_ebpf::wire_id::mint;
use dataplane_user::dataplane::services::{Protocol, Service};

use super::from_clients::{opening, to};
use super::packet::Packet;
use super::payload::{
    QUIC_V1, QUIC_V2, connection_id, dtls_cid, dtls_plain, dtls_unified, gtpu, gtpu_error,
    gtpu_path, quic_long, quic_short,
};
use super::tables::{SERVER_ID_LENGTHS, Session, id_in, id_of, minted, slot};
use super::{Case, payload};

/// All cases.
pub(super) fn cases(services: &[Service]) -> Vec<Case> {
    let mut cases = Vec::new();
    for service in services {
        match service.protocol {
            Protocol::QuicLb { .. } => {
                cases.extend(routable(service));
                cases.extend(unroutable(service));
            }
            Protocol::Dtls { id_length } => {
                cases.extend(dtls(service));
                cases.extend(dtls_handshake(service, id_length.into()));
            }
            Protocol::GtpU => {
                cases.extend(tunnels(service));
                cases.extend(paths(service));
            }
            _ => {}
        }
    }
    cases
}

fn case(service: &Service, what: &str, payload: Vec<u8>, verdict: Verdict) -> Case {
    let name = format!("{}, {what}", service.name);
    Case::new(name, to(service, payload).frame(), service.index, verdict)
}

/// A connection id of another config id than the service's own, in the home slot if there is one.
fn of_config(config: u8, server_id: &[u8], nonce: usize) -> Vec<u8> {
    let mut id = vec![config << 5];
    id.extend(server_id);
    id.extend((0..nonce).map(|byte| 0xd0 ^ byte as u8));
    id
}

/// Connection ids that name a server.
fn routable(service: &Service) -> Vec<Case> {
    let case = |what: &str, payload, verdict| case(service, what, payload, verdict);
    let here = id_of(service, Session::Here);
    let whole = connection_id(&here);
    let with_low_bits = |bits: u8| {
        let mut id = whole.clone();
        id[0] = id[0] & 0xe0 | bits;
        id
    };
    let with_nonce = |nonce: [u8; 4]| [&here[..], &nonce].concat();
    let unknown = connection_id(&id_in(service, slot::HOME, 70));
    let away = connection_id(&id_in(service, slot::AWAY, 70));
    let mut cases = vec![
        case("low bits 0", quic_short(0x40, &with_low_bits(0)), Verdict::Local),
        case("low bits 1", quic_short(0x40, &with_low_bits(0x1f)), Verdict::Local),
        case("another nonce", quic_short(0x40, &with_nonce([0; 4])), Verdict::Local),
        case("nonce of ones", quic_short(0x40, &with_nonce([0xff; 4])), Verdict::Local),
        case("short header, fixed bit 0", quic_short(0x00, &whole), Verdict::Local),
        case("short header, all bits", quic_short(0x7f, &whole), Verdict::Local),
        case("v1 handshake", quic_long(0xe0, QUIC_V1, &whole), Verdict::Local).typical(),
        case("v2 handshake", quic_long(0xf0, QUIC_V2, &whole), Verdict::Local),
        case("v1 initial of a server's id", quic_long(0xc0, QUIC_V1, &whole), Verdict::Local),
        case("unknown version, server's id", quic_long(0xc0, 9, &whole), Verdict::Local),
        case("short header, unknown server", quic_short(0x40, &unknown), Verdict::NoSession),
        case("v1 handshake, unknown", quic_long(0xe0, QUIC_V1, &unknown), Verdict::NoSession),
        case("v1 0-RTT, unknown", quic_long(0xd0, QUIC_V1, &unknown), Verdict::New),
        case("v2 initial, unknown", quic_long(0xd0, QUIC_V2, &unknown), Verdict::New),
        case("unknown version, unknown server", quic_long(0xc0, 9, &unknown), Verdict::New),
        case("v1 handshake, away", quic_long(0xe0, QUIC_V1, &away), Verdict::ForwardSlot),
        case("version negotiation", quic_long(0xc0, 0, &whole), Verdict::NoWireId),
    ];
    // Bytes behind the nonce are the server's own business.
    for more in 0..=10 {
        let id = [&whole[..], &vec![7; more]].concat();
        let name = format!("v1 handshake, {more} bytes behind the nonce");
        cases.push(case(&name, quic_long(0xe0, QUIC_V1, &id), Verdict::Local));
    }
    // In every config id that is in use, the nonce must have 4 bytes.
    for (config, &length) in (0..).zip(&SERVER_ID_LENGTHS).filter(|(_, length)| **length > 0) {
        let server_id: Vec<u8> = (1..=length).collect();
        let found = Verdict::NoOwner;
        let name = |what: &str| format!("config id {config}, server id of {length} bytes, {what}");
        let id = of_config(config, &server_id, 4);
        cases.push(case(&name("short header"), quic_short(0x40, &id), found));
        cases.push(case(&name("v1 handshake"), quic_long(0xe0, QUIC_V1, &id), found));
        cases.push(case(&name("v1 initial"), quic_long(0xc0, QUIC_V1, &id), found));
        let mut cut = vec![0x40];
        cut.extend(&id[..id.len() - 1]);
        cases.push(case(&name("cut in the nonce"), cut, Verdict::NoWireId));
    }
    cases
}

/// Connection ids that name no server.
fn unroutable(service: &Service) -> Vec<Case> {
    let case = |what: &str, payload, verdict| case(service, what, payload, verdict);
    let mut cases = Vec::new();
    // Of config id 0b111: the whole id, as long as it says in a short header.
    for length in 0..32_u8 {
        let mut id = vec![0xe0 | length];
        id.extend((0..length).map(|byte| byte ^ 0x3c));
        let is_id = (3..20).contains(&length);
        let known = if is_id { Verdict::NoOwner } else { Verdict::NoWireId };
        let name = format!("unroutable id of {length} bytes and one, short header");
        cases.push(case(&name, quic_short(0x40, &id), known));
        let name = format!("unroutable id of {length} bytes and one, v1 initial");
        cases.push(case(&name, quic_long(0xc0, QUIC_V1, &id), known));
    }
    let short = [0xe7, 1, 2, 3, 4, 5, 6];
    let cut = [&[0x40][..], &short].concat();
    cases.push(case("unroutable id, cut short", cut, Verdict::NoWireId));
    // Of a config id that is not in use: a short header does not say how long it is.
    for config in [4, 5] {
        let id = of_config(config, &[1, 2, 3], 8);
        let name = |what: &str| format!("config id {config}, not in use, {what}");
        cases.push(case(&name("short header"), quic_short(0x40, &id), Verdict::NoWireId));
        cases.push(case(&name("v1 handshake"), quic_long(0xe0, QUIC_V1, &id), Verdict::NoOwner));
    }
    // What clients choose.
    for length in 4..=20 {
        let Some(id) = unroutable_at_home(service, length) else { continue };
        let name = format!("v1 initial, a client's unroutable id of {length} bytes");
        cases.push(case(&name, quic_long(0xc0, QUIC_V1, &id), Verdict::New));
        let name = format!("v1 handshake, a client's unroutable id of {length} bytes");
        cases.push(case(&name, quic_long(0xe0, QUIC_V1, &id), Verdict::NoSession));
    }
    cases.push(case("v1 initial, no id", quic_long(0xc0, QUIC_V1, &[]), Verdict::NoWireId));
    let long = vec![0xe0; 21];
    cases.push(case(
        "v1 initial, id of 21 bytes",
        quic_long(0xc0, QUIC_V1, &long),
        Verdict::NoWireId,
    ));
    let long = [&connection_id(&id_of(service, Session::Here))[..], &[0; 90]].concat();
    cases.push(case("unknown version, id of 100 bytes", quic_long(0xc0, 9, &long), Verdict::Local));
    cases
}

/// A connection id in the home slot that is too short for its config id, or of none that is in use.
fn unroutable_at_home(service: &Service, length: usize) -> Option<Vec<u8>> {
    (0..=255).find_map(|draw| {
        let mut id = minted(service, slot::HOME, 71, length);
        id[2] = draw;
        mint(&mut id, slot::HOME, service.seed())?;
        let server_id = SERVER_ID_LENGTHS.get(usize::from(id[0] >> 5)).copied().unwrap_or(0);
        (server_id == 0 || length < 1 + usize::from(server_id) + 4).then_some(id)
    })
}

/// Records with a connection id.
fn dtls(service: &Service) -> Vec<Case> {
    let case = |what: &str, payload, verdict| case(service, what, payload, verdict);
    let here = id_of(service, Session::Here);
    let unknown = id_in(service, slot::HOME, 72);
    let away = id_in(service, slot::AWAY, 72);
    let mut cases = vec![
        case("1.2, unknown", dtls_cid(&unknown), Verdict::NoSession),
        case("1.2, away", dtls_cid(&away), Verdict::ForwardSlot),
        case("1.3, a short sequence number", dtls_unified(0x30, &here), Verdict::Local).typical(),
        case("1.3, unknown", dtls_unified(0x3f, &unknown), Verdict::NoSession),
        case("1.3, away", dtls_unified(0x3f, &away), Verdict::ForwardSlot),
        case("1.3, ends with the id", [&[0x38][..], &here].concat(), Verdict::Local),
        case("1.3, ends in the id", [&[0x38][..], &here[..6]].concat(), Verdict::NoWireId),
    ];
    for first in 0x30..0x40 {
        let name = format!("1.3, first byte {first:#x}");
        cases.push(case(&name, dtls_unified(first, &here), Verdict::Local));
    }
    // Without an id only early data has a place in the handshake.
    for first in (0x20..0x30).filter(|first| first & 3 != 1) {
        let name = format!("1.3 without an id, first byte {first:#x}");
        cases.push(case(&name, dtls_unified(first, &[]), Verdict::NoWireId));
    }
    for kind in [0, 19, 24, 27, 31, 64, 0x80, 0xff] {
        let mut record = dtls_cid(&here);
        record[0] = kind;
        cases.push(case(&format!("content type {kind}"), record, Verdict::NoWireId));
    }
    cases
}

/// Records of the handshake, named by the client's address and port.
fn dtls_handshake(service: &Service, id_length: usize) -> Vec<Case> {
    let from = |slot, payload: Vec<u8>| Packet { payload, ..opening(service, slot, 0) };
    let case = |what: &str, slot, payload, verdict| {
        let name = format!("{}, {what}", service.name);
        Case::new(name, from(slot, payload).frame(), service.index, verdict)
    };
    let home = |what: &str, payload, verdict| case(what, slot::HOME, payload, verdict);
    let mut cases = Vec::new();
    for (name, kind) in
        [("ChangeCipherSpec", 20), ("alert", 21), ("handshake", 22), ("acknowledgement", 26)]
    {
        cases.push(home(name, dtls_plain(kind, 0), Verdict::New).typical());
        let away = dtls_plain(kind, 0);
        cases.push(case(&format!("{name}, away"), slot::AWAY, away, Verdict::ForwardSlot));
        let name = format!("{name} of a later epoch without an id");
        cases.push(home(&name, dtls_plain(kind, 1), Verdict::NoWireId));
    }
    cases.push(home("application data without an id", dtls_plain(23, 0), Verdict::NoWireId));
    cases.push(home("application data, epoch 1", dtls_plain(23, 1), Verdict::NoWireId));
    for first in [0x21, 0x25, 0x29, 0x2d] {
        let name = format!("early data, first byte {first:#x}");
        cases.push(home(&name, dtls_unified(first, &[]), Verdict::New));
    }
    let mut first_version = dtls_plain(22, 0);
    first_version[2] = 255;
    cases.push(home("ClientHello of version 1.0", first_version, Verdict::New));
    let mut other = dtls_plain(22, 0);
    other[1] = 3;
    cases.push(home("a record of TLS", other, Verdict::NoWireId));
    for epoch in [0x0100, 0x00ff, 0xffff] {
        let name = format!("handshake of epoch {epoch}");
        cases.push(home(&name, dtls_plain(22, epoch), Verdict::NoWireId));
    }
    cases.push(home("a record's header alone", dtls_plain(22, 0)[..13].to_vec(), Verdict::New));
    cases.push(home("half a header", dtls_plain(22, 0)[..12].to_vec(), Verdict::NoWireId));
    let both = [dtls_plain(22, 0), dtls_cid(&vec![1; id_length])].concat();
    cases.push(home("a handshake record before one with an id", both, Verdict::New));
    cases
}

/// Messages about a tunnel.
fn tunnels(service: &Service) -> Vec<Case> {
    let case = |what: &str, payload, verdict| case(service, what, payload, verdict);
    let here = id_of(service, Session::Here);
    let away = id_in(service, slot::AWAY, 73);
    let unknown = id_in(service, slot::HOME, 73);
    let with_flags = |flags: u8| {
        let mut payload = gtpu(255, &here);
        payload[0] = flags;
        payload
    };
    let mut cases = vec![
        case("end marker", gtpu(254, &here), Verdict::Local).typical(),
        case("tunnel status", gtpu(253, &here), Verdict::Local),
        case("end marker, away", gtpu(254, &away), Verdict::ForwardSlot),
        case("end marker, unknown", gtpu(254, &unknown), Verdict::NoSession),
        case("G-PDU of TEID 0", gtpu(255, &[0; 4]), Verdict::NoWireId),
        case("end marker of TEID 0", gtpu(254, &[0; 4]), Verdict::NoWireId),
        case("tunnel status of TEID 0", gtpu(253, &[0; 4]), Verdict::NoWireId),
        case("echo with a TEID", gtpu(1, &here), Verdict::NoWireId),
        case("error indication with a TEID", gtpu(26, &here), Verdict::NoWireId),
        case("header alone", gtpu(254, &here)[..8].to_vec(), Verdict::Local),
    ];
    for flags in 0x30..0x40 {
        let name = format!("G-PDU with flags {flags:#x}");
        cases.push(case(&name, with_flags(flags), Verdict::Local));
    }
    for flags in [0x00, 0x10, 0x20, 0x48, 0x50, 0x70, 0xb0, 0xf0] {
        let name = format!("G-PDU of another version or protocol, flags {flags:#x}");
        cases.push(case(&name, with_flags(flags), Verdict::NoWireId));
    }
    for kind in [0, 3, 4, 25, 27, 30, 32, 100, 252] {
        let name = format!("message type {kind}");
        cases.push(case(&name, gtpu(kind, &here), Verdict::NoWireId));
    }
    cases
}

/// Messages about a path: the slot follows from their bytes, and nobody owns most slots.
fn paths(service: &Service) -> Vec<Case> {
    let case = |what: &str, payload, verdict| case(service, what, payload, verdict);
    let v4 = gtpu_error([1, 2, 3, 4], &[192, 0, 2, 1]);
    let v6 = gtpu_error([1, 2, 3, 4], &[0x20; 16]);
    let error = |elements: &[u8]| gtpu_path(26, 7, elements);
    let extended = |header: [u8; 4]| {
        let mut payload = error(&[&header[..], &v4].concat());
        (payload[0], payload[11]) = (0x36, 0x40);
        payload
    };
    let home = opening(service, slot::HOME, 74).payload;
    let with = |at: usize, value: u8| {
        let mut payload = home.clone();
        payload[at] = value;
        payload
    };
    use Verdict::{NoOwner, NoWireId};
    let mut wrong = v4.clone();
    wrong[0] = 14;
    let mut other = v4.clone();
    other[5] = 141;
    let odd = gtpu_error([1, 2, 3, 4], &[9; 5]);
    let mut not_extended = error(&v4);
    not_extended[11] = 0x40;
    vec![
        case("echo request", home.clone(), Verdict::New).typical(),
        case("echo request that ends with its header", home[..12].to_vec(), Verdict::New),
        case("echo request without a sequence number", with(0, 0x30), NoWireId),
        case("echo request of version 2", with(0, 0x52), NoWireId),
        case("echo response", payload::gtpu_path(2, 7, &[14, 0]), NoOwner),
        case("extension headers notification", payload::gtpu_path(31, 7, &[141, 1, 0]), NoOwner),
        case("error indication, IPv4", error(&v4), NoOwner).typical(),
        case("error indication, IPv6", error(&v6), NoOwner).typical(),
        case("error indication behind a UDP port", extended([1, 8, 104, 0]), NoOwner).typical(),
        case("error indication behind a long header", extended([2, 8, 104, 0]), NoWireId),
        case("error indication behind two headers", extended([1, 8, 104, 0x40]), NoWireId),
        case("extension header without its flag", not_extended, NoOwner),
        case("error indication without a TEID", error(&wrong), NoWireId),
        case("error indication without an address", error(&other), NoWireId),
        case("error indication, address of 5 bytes", error(&odd), NoWireId),
        case("error indication alone", error(&[]), NoWireId),
        case("error indication that ends in the address", error(&v4[..11]), NoWireId),
        case("message type 3 about a path", gtpu_path(3, 7, &[14, 0]), NoWireId),
    ]
}
