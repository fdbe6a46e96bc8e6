//! UDP payloads of every protocol.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;

use dataplane_ebpf::dissect::native::{Header, TYPE_CONTROL, TYPE_DATA, TYPE_OPEN};
use dataplane_ebpf::wire_id::{WireId, mint};
use dataplane_user::dataplane::services::{Protocol, Service};

use super::tables::{id_in, minted};

/// QUIC version 1 (RFC 9000).
pub const QUIC_V1: u32 = 1;
/// QUIC version 2 (RFC 9369).
pub const QUIC_V2: u32 = 0x6b33_43cf;

/// A packet of a session that a service's side has given this wire id.
pub fn data(service: &Service, id: &[u8]) -> Vec<u8> {
    match service.protocol {
        Protocol::Native => native(TYPE_DATA, id),
        Protocol::Quic { .. } => quic_short(0x40, id),
        Protocol::WireGuard => wireguard(4, 48, 4, id),
        Protocol::Offset { offset, .. } => {
            let mut payload = vec![0x11; usize::from(offset)];
            payload.extend(id);
            payload.extend([0x22; 10]);
            payload
        }
        Protocol::QuicLb { .. } => quic_short(0x40, &connection_id(id)),
        Protocol::Dtls { .. } => dtls_cid(id),
        Protocol::GtpU => gtpu(255, id),
    }
}

/// A packet of the control port.
pub fn control(id: &[u8]) -> Vec<u8> {
    native(TYPE_CONTROL, id)
}

/// How long the id of a packet that opens a session is, where its sender chooses it.
fn opening_length(service: &Service) -> usize {
    match service.protocol {
        Protocol::WireGuard => 20,
        _ => service.protocol.id_length(),
    }
}

/// A packet of a client that opens a session in a slot: the client's port if it has to be a certain
/// one, and the payload.
pub fn opening(service: &Service, client: IpAddr, slot: u16, number: u8) -> (Option<u16>, Vec<u8>) {
    let id = |length| minted(service, slot, number, length);
    let payload = match service.protocol {
        Protocol::Native => native(TYPE_OPEN, &id(16)),
        Protocol::Quic { .. } => quic_long(0xc0, QUIC_V1, &id(opening_length(service))),
        Protocol::WireGuard => wireguard(1, 148, 4, &id(20)),
        Protocol::Offset { .. } => data(service, &id(opening_length(service))),
        Protocol::QuicLb { .. } => {
            quic_long(0xc0, QUIC_V1, &connection_id(&id_in(service, slot, number)))
        }
        Protocol::Dtls { .. } => {
            let address = match client {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            let mut id = [&[0, 0], &address.octets()[..]].concat();
            mint(&mut id, slot, service.seed()).expect("18 bytes");
            return (Some(u16::from_be_bytes([id[0], id[1]])), dtls_plain(22, 0));
        }
        Protocol::GtpU => echo_in(service.seed(), slot, number),
    };
    (None, payload)
}

/// An Echo Request that leads to a slot. One in 65,536 does, and finding it takes a while, so those
/// that were found are kept.
fn echo_in(seed: u64, slot: u16, number: u8) -> Vec<u8> {
    static FOUND: Mutex<BTreeMap<(u64, u16), [u8; 3]>> = Mutex::new(BTreeMap::new());
    let echo = |[npdu, high, low]: [u8; 3]| {
        let mut payload = gtpu_path(1, u16::from_be_bytes([high, low]), &[14, number]);
        payload[10] = npdu;
        payload
    };
    let leads_there = |draw: &[u8; 3]| {
        let id = WireId::from_bytes(&echo(*draw)[..12]).expect("12 bytes");
        id.key(seed).slot == slot
    };
    let mut found = FOUND.lock().expect("nobody panics with it");
    let draw = found.entry((seed, slot)).or_insert_with(|| {
        (0..1_u32 << 24)
            .map(|draw| {
                let [_, npdu, high, low] = draw.to_be_bytes();
                [npdu, high, low]
            })
            .find(leads_there)
            .expect("every slot has an id")
    });
    echo(*draw)
}

/// A connection id as a server makes it of its own id (draft-ietf-quic-load-balancers): its length in
/// the first byte, and a nonce.
pub fn connection_id(server: &[u8]) -> Vec<u8> {
    let mut id = server.to_vec();
    id.extend([0x9c, 0x69, 0xc2, 0x75]);
    id[0] |= id.len() as u8 - 1;
    id
}

/// A record of DTLS 1.2 with a connection id (RFC 9146 §4).
pub fn dtls_cid(id: &[u8]) -> Vec<u8> {
    let mut payload = vec![25, 254, 253, 0, 1, 0, 0, 0, 0, 0, 1];
    payload.extend(id);
    payload.extend([0, 24]);
    payload.extend([0x66; 24]);
    payload
}

/// An encrypted record of DTLS 1.3 (RFC 9147 §4) whose first byte is this.
pub fn dtls_unified(first: u8, id: &[u8]) -> Vec<u8> {
    let mut payload = vec![first];
    payload.extend(id);
    payload.extend([0, 7]);
    payload.extend([0x77; 24]);
    payload
}

/// A record without a connection id, of a content type and epoch.
pub fn dtls_plain(kind: u8, epoch: u16) -> Vec<u8> {
    let [high, low] = epoch.to_be_bytes();
    let mut payload = vec![kind, 254, 253, high, low, 0, 0, 0, 0, 0, 0, 0, 40];
    payload.extend([0x88; 40]);
    payload
}

/// A message of GTP-U about a tunnel.
pub fn gtpu(kind: u8, teid: &[u8]) -> Vec<u8> {
    let mut payload = vec![0x30, kind, 0, 30];
    payload.extend(teid);
    payload.extend([0x99; 30]);
    payload
}

/// A message of GTP-U about a path: with a sequence number and information elements.
pub fn gtpu_path(kind: u8, sequence: u16, elements: &[u8]) -> Vec<u8> {
    let mut payload = vec![0x32, kind, 0, 4 + elements.len() as u8, 0, 0, 0, 0];
    payload.extend(sequence.to_be_bytes());
    payload.extend([0, 0]);
    payload.extend(elements);
    payload
}

/// The information elements of an Error Indication: the peer's TEID and address (3GPP TS 29.281
/// §7.3.1).
pub fn gtpu_error(teid: [u8; 4], address: &[u8]) -> Vec<u8> {
    let mut elements = vec![16];
    elements.extend(teid);
    elements.extend([133, 0, address.len() as u8]);
    elements.extend(address);
    elements
}

/// A native packet of a type.
pub fn native(kind: u8, id: &[u8]) -> Vec<u8> {
    let session = id.try_into().expect("a SessionID has 16 bytes");
    let (header, length) = Header { kind, session, owner: None }.encode();
    let mut payload = header[..length].to_vec();
    payload.extend(b"payload");
    payload
}

/// A QUIC packet with a short header.
pub fn quic_short(first: u8, id: &[u8]) -> Vec<u8> {
    let mut payload = vec![first];
    payload.extend(id);
    payload.extend([0x33; 20]);
    payload
}

/// A QUIC packet with a long header.
pub fn quic_long(first: u8, version: u32, id: &[u8]) -> Vec<u8> {
    let mut payload = vec![first];
    payload.extend(version.to_be_bytes());
    payload.push(id.len() as u8);
    payload.extend(id);
    payload.extend([4, 1, 2, 3, 4, 0, 0x40, 0x20]);
    payload.extend([0x44; 32]);
    payload
}

/// A QUIC packet with a long header from a server: the client's id, then its own.
pub fn quic_reply(version: u32, client: &[u8], id: &[u8]) -> Vec<u8> {
    let mut payload = vec![0xe0];
    payload.extend(version.to_be_bytes());
    for id in [client, id] {
        payload.push(id.len() as u8);
        payload.extend(id);
    }
    payload.extend([0x44; 32]);
    payload
}

/// A WireGuard message of a type and length, with an index at an offset.
pub fn wireguard(kind: u8, length: usize, at: usize, index: &[u8]) -> Vec<u8> {
    let mut payload = vec![0x55; length];
    payload[..4].copy_from_slice(&[kind, 0, 0, 0]);
    payload[at..at + index.len()].copy_from_slice(index);
    payload
}
