//! Frames made of parts, with right lengths and checksums unless a case says otherwise.
//!
//! Written apart from the data plane's own headers, so that neither hides the other's mistakes.

use std::net::IpAddr;

use dataplane_ebpf::shim::Shim;

/// The MAC addresses that every frame has, destination first.
pub const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

const UDP: u8 = 17;

/// A UDP datagram, or another message, in an IP packet in an Ethernet frame.
#[derive(Clone, Debug)]
pub struct Packet {
    /// EtherTypes of the VLAN tags, outermost first.
    pub tags: Vec<u16>,
    /// Source address; of the same family as the destination.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IPv4 options, in words of 4 bytes.
    pub options: usize,
    /// IPv6 extension headers: type, and the whole header but its first byte.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// The IPv4 fragment field.
    pub fragment: u16,
    /// The protocol behind the IP header and its extensions.
    pub protocol: u8,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub port: u16,
    /// The UDP payload.
    pub payload: Vec<u8>,
    /// What stands in place of the UDP datagram.
    pub message: Option<Vec<u8>>,
    /// Whether UDP has a checksum.
    pub checksum: bool,
    /// Bytes of the IP packet behind the UDP datagram.
    pub rest: usize,
    /// Bytes of the frame behind the IP packet.
    pub padding: usize,
}

impl Packet {
    /// A packet without anything unusual.
    pub fn new(source: (IpAddr, u16), destination: (IpAddr, u16), payload: Vec<u8>) -> Self {
        Self {
            tags: Vec::new(),
            source: source.0,
            destination: destination.0,
            options: 0,
            extensions: Vec::new(),
            fragment: 0x4000,
            protocol: UDP,
            source_port: source.1,
            port: destination.1,
            payload,
            message: None,
            checksum: true,
            rest: 0,
            padding: 0,
        }
    }

    /// Where the IP header starts in the frame.
    pub fn ip(&self) -> usize {
        14 + 4 * self.tags.len()
    }

    /// Where the UDP header starts in the frame.
    pub fn udp(&self) -> usize {
        let extensions: usize = self.extensions.iter().map(|(_, rest)| 1 + rest.len()).sum();
        self.ip() + if self.destination.is_ipv4() { 20 + self.options * 4 } else { 40 + extensions }
    }

    /// The frame.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = MACS.to_vec();
        for tag in &self.tags {
            frame.extend(tag.to_be_bytes());
            frame.extend([0x20, 7]);
        }
        frame.extend(if self.destination.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] });
        frame.extend(self.ip_packet());
        frame.resize(frame.len() + self.padding, 0xa5);
        frame
    }

    /// The IP packet.
    pub fn ip_packet(&self) -> Vec<u8> {
        let udp = self.message.clone().unwrap_or_else(|| self.datagram());
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let total = 20 + self.options * 4 + udp.len() + self.rest;
                let mut packet = vec![0x45 + self.options as u8, 0];
                packet.extend((total as u16).to_be_bytes());
                packet.extend([0x12, 0x34]);
                packet.extend(self.fragment.to_be_bytes());
                packet.extend([63, self.protocol, 0, 0]);
                packet.extend(source.octets());
                packet.extend(destination.octets());
                // "No operation", as often as there is room.
                packet.resize(packet.len() + self.options * 4, 1);
                let sum = !ones_sum(&[&packet]);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
                packet.extend(udp);
                packet.resize(packet.len() + self.rest, 0x5a);
                packet
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut kinds: Vec<u8> = self.extensions.iter().map(|(kind, _)| *kind).collect();
                kinds.push(self.protocol);
                let chain: Vec<u8> = (self.extensions.iter().zip(&kinds[1..]))
                    .flat_map(|((_, rest), next)| [&[*next], &rest[..]].concat())
                    .collect();
                let length = chain.len() + udp.len() + self.rest;
                let mut packet = vec![0x60, 0, 0, 0];
                packet.extend((length as u16).to_be_bytes());
                packet.extend([kinds[0], 63]);
                packet.extend(source.octets());
                packet.extend(destination.octets());
                packet.extend(chain);
                packet.extend(udp);
                packet.resize(packet.len() + self.rest, 0x5a);
                packet
            }
            mixed => panic!("addresses of two families: {mixed:?}"),
        }
    }

    fn datagram(&self) -> Vec<u8> {
        let length = 8 + self.payload.len() as u16;
        let mut udp = self.source_port.to_be_bytes().to_vec();
        udp.extend(self.port.to_be_bytes());
        udp.extend(length.to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(&self.payload);
        if self.checksum {
            let sum = !udp_sum(self.source, self.destination, &udp);
            let sum = if sum == 0 { 0xffff } else { sum };
            udp[6..8].copy_from_slice(&sum.to_be_bytes());
        }
        udp
    }
}

/// The one's complement sum of a UDP datagram with its pseudo header (RFC 768, RFC 8200 §8.1):
/// 0xffff if its checksum is right.
pub fn udp_sum(source: IpAddr, destination: IpAddr, udp: &[u8]) -> u16 {
    let mut pseudo = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => pseudo.extend(address.octets()),
            IpAddr::V6(address) => pseudo.extend(address.octets()),
        }
    }
    pseudo.extend((udp.len() as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, UDP]);
    ones_sum(&[&pseudo, udp])
}

/// The one's complement sum of 16-bit words (RFC 1071); all parts but the last have even lengths.
pub fn ones_sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let words = bytes.chunks(2).map(|word| match *word {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The bytes of a shim.
pub fn shim_bytes(shim: Shim) -> Vec<u8> {
    shim.words().iter().flat_map(|word| word.to_ne_bytes()).collect()
}
