//! Packets as a client of a session might send them: what is explained when only a session is
//! named.

use crate::{
    dataplane::services::{Protocol, Service},
    frame::udp_frame,
};
use dataplane_ebpf::dissect::{
    native::{Header, TYPE_CONTROL, TYPE_DATA},
    quic_lb,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Any interface's MAC address.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// One packet for each wire id, from the client that the session is bound to; from nobody's address
/// (RFC 5737, RFC 3849) if it is bound to none. A SessionID that data packets do not carry stands in
/// one to the control port; where there is none, there is no packet of it.
pub(super) fn probe_packets(
    service: &Service,
    wire_ids: &[Vec<u8>],
    client: Option<SocketAddr>,
) -> Vec<Vec<u8>> {
    let vip = service.address.ip();
    let nobody: IpAddr = match vip {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    // An earlier daemon may have bound one of another family.
    let client = client.filter(|client| client.is_ipv4() == vip.is_ipv4());
    let from = client.unwrap_or((nobody, 50_000).into());
    let packet = |(place, id): (usize, &Vec<u8>)| {
        // The first is the SessionID.
        if place == 0 && service.protocol != Protocol::Native {
            let port = service.control_port?;
            return Some(udp_frame(MAC, from, (vip, port).into(), &native(TYPE_CONTROL, id)?));
        }
        let payload = payload(service.protocol, id)?;
        Some(udp_frame(MAC, from, service.address, &payload))
    };
    wire_ids.iter().enumerate().filter_map(packet).collect()
}

fn native(kind: u8, id: &[u8]) -> Option<Vec<u8>> {
    let header = Header { kind, session: id.try_into().ok()?, owner: None };
    let (bytes, length) = header.encode();
    Some(bytes[..length].to_vec())
}

/// The shortest payload of a data packet with this id.
fn payload(protocol: Protocol, id: &[u8]) -> Option<Vec<u8>> {
    let with = |head: &[u8], rest: usize| [head, id, &vec![0; rest]].concat();
    Some(match protocol {
        Protocol::Native => native(TYPE_DATA, id)?,
        // A handshake packet of version 1 says how long its id is.
        Protocol::Quic { id_length } if usize::from(id_length) != id.len() => {
            with(&[0xe0, 0, 0, 0, 1, id.len() as u8], 20)
        }
        Protocol::Quic { .. } => with(&[0x40], 20),
        Protocol::QuicLb { .. } => with(&[0x40], quic_lb::NONCE_MIN + 16),
        Protocol::WireGuard => with(&[4, 0, 0, 0], 24),
        Protocol::Offset { offset, .. } => with(&vec![0; usize::from(offset)], 0),
        // Version 1.2, with a connection id (RFC 9146), and a record of 32 bytes.
        Protocol::Dtls { .. } => {
            let record = with(&[25, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 1], 0);
            [record, vec![0, 32], vec![0; 32]].concat()
        }
        // A G-PDU of 32 bytes.
        Protocol::GtpU => with(&[0x30, 255, 0, 32], 32),
    })
}
