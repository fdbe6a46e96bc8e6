//! Frames that the daemon makes.

use crate::checksum;
use std::net::{IpAddr, SocketAddr};

const UDP: u8 = 17;

/// Who seems to have sent it: an address of nobody's (locally administered).
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A UDP datagram in an Ethernet frame for the interface with this MAC address, with right checksums.
///
/// # Panics
///
/// If the addresses are of two families.
pub(crate) fn udp_frame(mac: [u8; 6], from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let fields = [from.port(), to.port(), length, 0].map(u16::to_be_bytes);
    let mut udp = [fields.as_flattened(), payload].concat();
    let mut frame = [mac, SENDER].concat();
    let mut pseudo = Vec::new();
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend([0x08, 0x00]);
            let mut header = vec![0x45, 0];
            header.extend((20 + length).to_be_bytes());
            header.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
            header.extend(from.octets());
            header.extend(to.octets());
            let sum = checksum_of(&[&header]);
            header[10..12].copy_from_slice(&sum);
            pseudo.extend(&header[12..]);
            frame.extend(header);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([UDP, 64]);
            pseudo.extend(from.octets());
            pseudo.extend(to.octets());
            frame.extend(&pseudo);
        }
        (from, to) => panic!("{from} and {to} are of two families"),
    }
    pseudo.extend([0, UDP]);
    pseudo.extend(length.to_be_bytes());
    let sum = checksum_of(&[&pseudo, &udp]);
    // 0 would mean that there is none.
    let sum = if sum == [0; 2] { [0xff; 2] } else { sum };
    udp[6..8].copy_from_slice(&sum);
    frame.extend(udp);
    frame
}

/// The bytes of the checksum of parts of even length, but for the last.
fn checksum_of(parts: &[&[u8]]) -> [u8; 2] {
    checksum::checksum(parts.iter().map(|part| checksum::sum(part)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_right() {
        for (from, to, header) in [
            ("192.0.2.1:7471", "198.51.100.1:7000", 20),
            ("[100::1]:7471", "[2001:db8::1]:7000", 40),
        ] {
            let frame = udp_frame([2; 6], from.parse().unwrap(), to.parse().unwrap(), &[7; 49]);
            let (ip, udp) = frame[14..].split_at(header);
            let addresses = if header == 20 { &ip[12..] } else { &ip[8..] };
            assert_eq!(checksum_of(&[addresses, &[0, UDP], &udp[4..6], udp]), [0; 2]);
            assert_eq!(udp[8..], [7; 49]);
            if header == 20 {
                assert_eq!(checksum_of(&[ip]), [0; 2]);
            }
        }
    }
}
