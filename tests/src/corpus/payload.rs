//! UDP payloads of every protocol.

use dataplane_ebpf::dissect::native::{Header, TYPE_CONTROL, TYPE_DATA, TYPE_OPEN};
use dataplane_user::dataplane::services::{Protocol, Service};

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
    }
}

/// A packet of the control port.
pub fn control(id: &[u8]) -> Vec<u8> {
    native(TYPE_CONTROL, id)
}

/// How long the id of a packet that opens a session is.
pub fn opening_length(service: &Service) -> usize {
    match service.protocol {
        Protocol::WireGuard => 20,
        _ => service.protocol.id_length(),
    }
}

/// A packet that opens a session by this id.
pub fn opening(service: &Service, id: &[u8]) -> Vec<u8> {
    match service.protocol {
        Protocol::Native => native(TYPE_OPEN, id),
        Protocol::Quic { .. } => quic_long(0xc0, QUIC_V1, id),
        Protocol::WireGuard => wireguard(1, 148, 4, id),
        Protocol::Offset { .. } => data(service, id),
    }
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
