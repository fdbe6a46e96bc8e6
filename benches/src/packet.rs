//! Packets to a native service.

use dataplane_ebpf::dissect::native::{Header, TYPE_DATA};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

/// Where the packets of the benchmarks go.
pub const VIP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 7000);

/// The same over IPv6.
pub const VIP_V6: SocketAddrV6 =
    SocketAddrV6::new(Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1), 7000, 0, 0);

/// Where they come from.
pub const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), 40_000);

/// An Ethernet frame with a data packet of a session and `payload` bytes behind the header.
pub fn native_frame(session: [u8; 16], payload: usize) -> Vec<u8> {
    let (header, length) = Header { kind: TYPE_DATA, session, owner: None }.encode();
    let mut datagram = header[..length].to_vec();
    datagram.resize(length + payload, 0x5a);
    udp_frame(VIP.port(), &datagram)
}

/// An Ethernet frame from [`CLIENT`] to a port of [`VIP`] with this UDP payload. No UDP checksum: nothing
/// in the data plane looks at it.
pub fn udp_frame(port: u16, payload: &[u8]) -> Vec<u8> {
    let udp_length = 8 + payload.len();
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00, 0x45, 0];
    frame.extend(((20 + udp_length) as u16).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame.extend(CLIENT.ip().octets());
    frame.extend(VIP.ip().octets());
    frame.extend(CLIENT.port().to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend((udp_length as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

/// The same over IPv6, to a port of [`VIP_V6`].
pub fn udp_frame_v6(port: u16, payload: &[u8]) -> Vec<u8> {
    let udp_length = (8 + payload.len()) as u16;
    let client = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0];
    frame.extend(udp_length.to_be_bytes());
    frame.extend([17, 64]);
    frame.extend(client.octets());
    frame.extend(VIP_V6.ip().octets());
    frame.extend(CLIENT.port().to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend(udp_length.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

/// The frame as its answer would come back: addresses and ports in the other direction.
pub fn reply(mut frame: Vec<u8>) -> Vec<u8> {
    let (ip, width) = if frame[12..14] == [0x08, 0x00] { (26, 4) } else { (22, 16) };
    let swap = |frame: &mut [u8], at: usize, width: usize| {
        let (first, second) = frame[at..at + 2 * width].split_at_mut(width);
        first.swap_with_slice(second);
    };
    swap(&mut frame, ip, width);
    swap(&mut frame, ip + 2 * width, 2);
    frame
}

/// The frame with a VLAN tag.
pub fn tagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0x00, 0x00, 0x2a], &frame[12..]].concat()
}
