//! Forwarded packets made by hand: what a node would send to another, or somebody who pretends.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyhow::{Context, Result};
use dataplane_ebpf::service::ENCAP_PORT;
use dataplane_ebpf::shim::Shim;

use crate::corpus::packet::ones_sum;
use crate::netns::Namespace;

const UDP: u8 = 17;
const TTL: u8 = 64;

/// A client's whole IP packet: a UDP datagram with right checksums.
///
/// # Panics
/// When the addresses are of different families.
pub fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let mut udp = Vec::new();
    for field in [from.port(), to.port(), length, 0] {
        udp.extend(field.to_be_bytes());
    }
    udp.extend(payload);
    let mut pseudo = Vec::new();
    let mut packet = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let addresses = [from.octets(), to.octets()].concat();
            pseudo.extend(&addresses);
            let mut header = vec![0x45, 0];
            header.extend((20 + length).to_be_bytes());
            header.extend([0, 0, 0x40, 0, TTL, UDP, 0, 0]);
            header.extend(addresses);
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let addresses = [from.octets(), to.octets()].concat();
            pseudo.extend(&addresses);
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(length.to_be_bytes());
            header.extend([UDP, TTL]);
            header.extend(addresses);
            header
        }
        _ => panic!("{from} and {to} are of different families"),
    };
    pseudo.extend([0, UDP]);
    pseudo.extend(length.to_be_bytes());
    pseudo.extend(&udp);
    let sum = match checksum(&pseudo) {
        0 => 0xffff,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    packet.extend(udp);
    packet
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    !ones_sum(&[bytes])
}

/// A shim around a client's packet: the payload of an outer datagram.
pub fn wrap(shim: Shim, inner: &[u8]) -> Vec<u8> {
    // The words are in memory order.
    let mut payload = shim.words().map(u64::to_ne_bytes).concat();
    payload.extend(inner);
    payload
}

/// Sends outer datagrams from an address of a namespace, as the kernel's stack there sends them.
#[derive(Debug)]
pub struct Forger {
    socket: UdpSocket,
}

impl Forger {
    /// A sender in `namespace` at one of its addresses.
    pub fn new(namespace: &Namespace, address: IpAddr) -> Result<Self> {
        let socket = namespace
            .run(|| UdpSocket::bind((address, 0)))
            .with_context(|| format!("binding {address} in {}", namespace.name()))?;
        Ok(Self { socket })
    }

    /// Sends to the encapsulation port of the node at `node`.
    pub fn send(&self, payload: &[u8], node: IpAddr) -> Result<()> {
        self.socket.send_to(payload, (node, ENCAP_PORT)).context("sending a forged packet")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_with_right_checksums_sums_up_to_nothing() {
        let packet = datagram("10.0.0.1:5".parse().unwrap(), "10.0.0.2:6".parse().unwrap(), b"odd");
        assert_eq!(packet.len(), 31);
        assert_eq!(checksum(&packet[..20]), 0);
        let pseudo = [&packet[12..20], &[0, 17, 0, 11], &packet[20..]].concat();
        assert_eq!(checksum(&pseudo), 0);
    }
}
