//! The parser: valid frames parse back to their parts, broken ones are refused, and nothing but
//! the frame's own bytes is ever looked at.

mod property;

use dataplane_ebpf::{
    frame::Frame,
    node::Address,
    parse::{Datagram, EXTENSION_HEADERS, Parsed, VLAN_TAGS, parse_frame, parse_ip, parse_reply},
    verdict::Verdict,
};
use property::config;
use proptest::{collection::vec, prelude::*, sample::select};
use std::net::Ipv4Addr;

/// A valid frame, as the parts it is made of.
#[derive(Clone, Debug)]
struct Parts {
    /// EtherTypes of the VLAN tags.
    tags: Vec<u16>,
    ip: Ip,
    source_port: u16,
    port: u16,
    payload: Vec<u8>,
    /// Bytes of the IP packet behind the UDP datagram.
    rest: usize,
    /// Bytes of the frame behind the IP packet.
    padding: usize,
}

#[derive(Clone, Debug)]
enum Ip {
    V4 { source: [u8; 4], destination: [u8; 4], options: usize },
    V6 { source: [u8; 16], destination: [u8; 16], extensions: Vec<Extension> },
}

#[derive(Clone, Copy, Debug)]
struct Extension {
    kind: u8,
    /// The header's own length field; 0 in a fragment header, which has none.
    units: u8,
}

const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const EXTENSIONS: [u8; 5] = [0, 43, FRAGMENT, AUTHENTICATION, 60];
const UDP: u8 = 17;
const FILL: u8 = 0xa5;

impl Extension {
    fn length(self) -> usize {
        match self.kind {
            FRAGMENT => 8,
            // RFC 4302 §2.2: in 4-byte units, minus 2. IPv6 keeps such a header 8-byte aligned,
            // which is not this parser's business.
            AUTHENTICATION => 8 + 4 * self.units as usize,
            _ => 8 + 8 * self.units as usize,
        }
    }
}

impl Parts {
    /// The number of ICMP in this family.
    fn icmp(&self) -> u8 {
        if self.is_v4() { 1 } else { 58 }
    }

    /// Where the number of the protocol stands, in a frame whose IP header is at `ip`.
    fn protocol_at(&self, ip: usize) -> usize {
        match &self.ip {
            Ip::V4 { .. } => ip + 9,
            Ip::V6 { extensions, .. } => {
                let chain = extensions.split_last().map(|(_, before)| before);
                let before = chain.map(|chain| chain.iter().map(|one| one.length()).sum::<usize>());
                before.map_or(ip + 6, |before| ip + 40 + before)
            }
        }
    }
}

/// A frame and where its fields lie.
struct Built {
    bytes: Vec<u8>,
    ip: usize,
    udp: usize,
    expected: Datagram,
}

impl Parts {
    fn build(&self) -> Built {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for (number, tag) in self.tags.iter().enumerate() {
            bytes.extend(tag.to_be_bytes());
            bytes.extend([0x20, number as u8 + 1]);
        }
        let udp_length = 8 + self.payload.len();
        let (source, destination) = match &self.ip {
            Ip::V4 { source, destination, .. } => {
                let address = |bytes| Address::from_v4(u32::from_ne_bytes(bytes));
                bytes.extend([0x08, 0x00]);
                (address(*source), address(*destination))
            }
            Ip::V6 { source, destination, .. } => {
                bytes.extend([0x86, 0xdd]);
                (Address::from_bytes(*source), Address::from_bytes(*destination))
            }
        };
        let ip = bytes.len();
        match &self.ip {
            Ip::V4 { source, destination, options } => {
                let total = 20 + options * 4 + udp_length + self.rest;
                bytes.extend([0x45 + *options as u8, 0]);
                bytes.extend((total as u16).to_be_bytes());
                bytes.extend([0x12, 0x34, 0x40, 0, 64, UDP, 0, 0]);
                bytes.extend(source);
                bytes.extend(destination);
                bytes.resize(bytes.len() + options * 4, 1);
            }
            Ip::V6 { source, destination, extensions } => {
                let chain: usize = extensions.iter().map(|extension| extension.length()).sum();
                let next = |at: usize| extensions.get(at).map_or(UDP, |extension| extension.kind);
                bytes.extend([0x60, 0, 0, 0]);
                bytes.extend(((chain + udp_length + self.rest) as u16).to_be_bytes());
                bytes.extend([next(0), 64]);
                bytes.extend(source);
                bytes.extend(destination);
                for (at, extension) in extensions.iter().enumerate() {
                    let end = bytes.len() + extension.length();
                    bytes.extend([next(at + 1), extension.units]);
                    if extension.kind == FRAGMENT {
                        // A whole packet with a fragment header (RFC 6946).
                        bytes.extend([0, 0, 1, 2, 3, 4]);
                    }
                    bytes.resize(end, 0);
                }
            }
        }
        let udp = bytes.len();
        bytes.extend(self.source_port.to_be_bytes());
        bytes.extend(self.port.to_be_bytes());
        bytes.extend((udp_length as u16).to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(&self.payload);
        bytes.resize(bytes.len() + self.rest, FILL);
        let expected = Datagram {
            source,
            destination,
            port: self.port.to_be(),
            source_port: self.source_port.to_be(),
            ip,
            ip_length: bytes.len() - ip,
            udp,
            payload_length: self.payload.len(),
        };
        bytes.resize(bytes.len() + self.padding, FILL);
        Built { bytes, ip, udp, expected }
    }

    fn is_v4(&self) -> bool {
        matches!(self.ip, Ip::V4 { .. })
    }
}

fn parts() -> impl Strategy<Value = Parts> {
    let v4 = (any::<[u8; 4]>(), any::<[u8; 4]>(), 0..=10_usize)
        .prop_map(|(source, destination, options)| Ip::V4 { source, destination, options });
    let extension = (select(&EXTENSIONS[..]), 0..4_u8).prop_map(|(kind, units)| Extension {
        kind,
        units: if kind == FRAGMENT { 0 } else { units },
    });
    let v6 = (any::<[u8; 16]>(), any::<[u8; 16]>(), vec(extension, 0..=EXTENSION_HEADERS))
        .prop_map(|(source, destination, extensions)| Ip::V6 { source, destination, extensions });
    (
        vec(select(&[0x8100_u16, 0x88a8][..]), 0..=VLAN_TAGS),
        prop_oneof![v4, v6],
        any::<(u16, u16)>(),
        vec(any::<u8>(), 0..200),
        prop_oneof![3 => Just(0_usize), 1 => 0..20_usize],
        0..40_usize,
    )
        .prop_map(|(tags, ip, (source_port, port), payload, rest, padding)| Parts {
            tags,
            ip,
            source_port,
            port,
            payload,
            rest,
            padding,
        })
}

/// Parses a frame within other bytes; what lies around it must not matter.
fn parse(bytes: &[u8]) -> Parsed {
    let within = |fill: u8| {
        let mut all = vec![fill; 64];
        all.extend(bytes);
        all.resize(all.len() + 64, fill);
        parse_frame(&Frame::new(&all[64..64 + bytes.len()]))
    };
    let parsed = within(0x00);
    assert_eq!(parsed, within(0xff), "read outside the frame");
    assert_eq!(parsed, within(0x45), "read outside the frame");
    if let Parsed::Udp(datagram) = parsed {
        assert!(datagram.ip >= 14 && datagram.udp >= datagram.ip + 20);
        assert!(datagram.payload() + datagram.payload_length <= datagram.ip + datagram.ip_length);
        assert!(datagram.ip + datagram.ip_length <= bytes.len());
    }
    parsed
}

fn refused(bytes: &[u8], verdict: Verdict) -> Result<(), TestCaseError> {
    match parse(bytes) {
        Parsed::Broken(_, reason) => prop_assert_eq!(reason, verdict),
        other => prop_assert!(false, "{:?}", other),
    }
    Ok(())
}

fn put(bytes: &[u8], at: usize, value: u16) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
    bytes
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_are_read_within_the_frame_only(bytes in vec(any::<u8>(), 0..200)) {
        parse(&bytes);
        for ip in [0, 14, bytes.len().saturating_sub(1), bytes.len(), 0x4000] {
            parse_ip(&Frame::new(&bytes), ip, 100);
        }
    }

    #[test]
    fn a_damaged_frame_is_read_within_the_frame_only(
        parts in parts(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = parts.build().bytes;
        for (at, value) in damage {
            let at = at.index(bytes.len().min(100));
            bytes[at] = value;
        }
        parse(&bytes);
        parse(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn a_valid_frame_parses_back_to_its_parts(parts in parts()) {
        let Built { bytes, ip, expected, .. } = parts.build();
        prop_assert_eq!(parse(&bytes), Parsed::Udp(expected));
        let frame = Frame::new(&bytes);
        let parsed = parse_ip(&frame, ip, expected.ip_length);
        prop_assert_eq!(parsed, Parsed::Udp(expected), "without its Ethernet header");
        let reason = parse_ip(&frame, ip, expected.ip_length - 1);
        prop_assert_eq!(reason, Parsed::Broken(expected.destination, Verdict::Malformed));
    }

    #[test]
    fn a_frame_that_ends_before_its_packet_does_is_never_a_datagram(
        parts in parts(),
        cut in any::<prop::sample::Index>(),
    ) {
        let Built { bytes, ip, expected, .. } = parts.build();
        let end = ip + expected.ip_length;
        let short = cut.index(end);
        match parse(&bytes[..short]) {
            Parsed::Udp(datagram) | Parsed::IcmpError(datagram) => {
                prop_assert!(false, "{short} of {end}: {datagram:?}");
            }
            // Once the addresses are there, it is known whose packet is cut.
            Parsed::Other => {
                let header = if parts.is_v4() { 20 } else { 40 };
                prop_assert!(short < ip + header, "{} of {}", short, end);
            }
            Parsed::Broken(address, verdict) => {
                prop_assert_eq!(address, expected.destination);
                prop_assert_eq!(verdict, Verdict::Malformed);
            }
        }
    }

    #[test]
    fn a_reply_is_read_as_soon_as_its_headers_are_there(parts in parts(), cut in any::<usize>()) {
        let Built { bytes, ip, udp, expected } = parts.build();
        let end = cut % (bytes.len() + 1);
        let reply = parse_reply(&Frame::new(&bytes[..end]), true);
        match reply {
            Parsed::Udp(datagram) => prop_assert!(datagram == expected && end >= udp + 8),
            _ => prop_assert!(end < udp + 8, "{:?} with {} of {}", reply, end, udp + 8),
        }
        if let Parsed::Broken(source, _) = reply {
            prop_assert_eq!(source, expected.source);
        }
        // Without a link layer.
        let reply = parse_reply(&Frame::new(&bytes[ip..]), false);
        let shifted = Datagram { ip: 0, udp: udp - ip, ..expected };
        prop_assert_eq!(reply, Parsed::Udp(shifted));
    }

    #[test]
    fn a_wrong_length_is_refused(parts in parts(), wrong in 0..8_u16, beyond in 1..1_000_u16) {
        let Built { bytes, ip, udp, expected } = parts.build();
        let malformed = |bytes: Vec<u8>| refused(&bytes, Verdict::Malformed);
        malformed(put(&bytes, udp + 4, wrong))?;
        let behind_udp = (expected.ip + expected.ip_length - udp) as u16;
        malformed(put(&bytes, udp + 4, behind_udp + beyond))?;
        let room = (bytes.len() - ip) as u16;
        let header = (udp - ip) as u16;
        let udp_length = 8 + parts.payload.len() as u16;
        if parts.is_v4() {
            malformed(put(&bytes, ip + 2, room + beyond))?;
            malformed(put(&bytes, ip + 2, header + udp_length - 1))?;
            malformed(put(&bytes, ip + 2, wrong))?;
            let mut short_header = bytes.clone();
            short_header[ip] = 0x40 | (wrong as u8 % 5);
            malformed(short_header)?;
        } else {
            malformed(put(&bytes, ip + 4, room - 40 + beyond))?;
            malformed(put(&bytes, ip + 4, header - 40 + udp_length - 1))?;
            malformed(put(&bytes, ip + 4, wrong))?;
        }
    }

    #[test]
    fn an_ip_version_that_is_not_the_ethertypes_is_refused(parts in parts(), version in 0..16_u8) {
        let Built { mut bytes, ip, .. } = parts.build();
        prop_assume!(version != bytes[ip] >> 4);
        bytes[ip] = version << 4 | bytes[ip] & 0xf;
        refused(&bytes, Verdict::Malformed)?;
        if version != 4 && version != 6 {
            prop_assert_eq!(parse_ip(&Frame::new(&bytes), ip, 1_000), Parsed::Other);
        }
    }

    #[test]
    fn an_extension_header_that_leads_out_of_the_packet_is_refused(
        parts in parts(),
        which in any::<prop::sample::Index>(),
    ) {
        let Ip::V6 { extensions, .. } = &parts.ip else { return Ok(()) };
        prop_assume!(!extensions.is_empty());
        let which = which.index(extensions.len());
        prop_assume!(extensions[which].kind != FRAGMENT);
        let Built { mut bytes, ip, .. } = parts.build();
        let before: usize = extensions[..which].iter().map(|extension| extension.length()).sum();
        bytes[ip + 40 + before + 1] = 255;
        refused(&bytes, Verdict::Malformed)?;
    }

    #[test]
    fn a_fragment_is_refused_for_what_it_is(parts in parts(), offset in 1..8_192_u16, more: bool) {
        let Built { bytes, ip, .. } = parts.build();
        match &parts.ip {
            Ip::V4 { .. } => {
                refused(&put(&bytes, ip + 6, offset | (more as u16) << 13), Verdict::Fragment)?;
                refused(&put(&bytes, ip + 6, 0x2000), Verdict::Fragment)?;
                let whole = parse(&put(&bytes, ip + 6, 0));
                prop_assert!(matches!(whole, Parsed::Udp(_)), "{:?}", whole);
            }
            Ip::V6 { extensions, .. } => {
                let mut at = ip + 40;
                for extension in extensions {
                    if extension.kind == FRAGMENT {
                        let word = offset << 3 | more as u16;
                        refused(&put(&bytes, at + 2, word), Verdict::Fragment)?;
                        refused(&put(&bytes, at + 2, 1), Verdict::Fragment)?;
                        // The two bits between are reserved, and ignored.
                        let whole = parse(&put(&bytes, at + 2, 6));
                        prop_assert!(matches!(whole, Parsed::Udp(_)), "{:?}", whole);
                    }
                    at += extension.length();
                }
            }
        }
    }

    #[test]
    fn what_is_not_udp_is_left_alone(parts in parts(), protocol in any::<u8>()) {
        prop_assume!(protocol != UDP && protocol != parts.icmp());
        prop_assume!(!EXTENSIONS.contains(&protocol));
        let Built { mut bytes, ip, .. } = parts.build();
        bytes[parts.protocol_at(ip)] = protocol;
        prop_assert_eq!(parse(&bytes), Parsed::Other);
    }

    #[test]
    fn of_icmp_only_errors_are_looked_at(parts in parts(), kind in 0..20_u8) {
        let Built { mut bytes, ip, udp, expected } = parts.build();
        bytes[parts.protocol_at(ip)] = parts.icmp();
        bytes[udp] = kind;
        let is_error = if parts.is_v4() { [3, 11, 12].contains(&kind) } else { (1..5).contains(&kind) };
        let behind = expected.ip + expected.ip_length - udp;
        let message =
            Datagram { port: 0, source_port: 0, payload_length: behind - 8, ..expected };
        let found = if is_error { Parsed::IcmpError(message) } else { Parsed::Other };
        prop_assert_eq!(parse(&bytes), found);
    }
}

#[test]
fn one_extension_header_too_many_is_refused_for_what_it_is() {
    let mut parts = plain_v6();
    let Ip::V6 { extensions, .. } = &mut parts.ip else { unreachable!("built so") };
    *extensions = vec![Extension { kind: 60, units: 0 }; EXTENSION_HEADERS + 1];
    let Built { bytes, expected, .. } = parts.build();
    let refused = Parsed::Broken(expected.destination, Verdict::ExtensionHeaders);
    assert_eq!(parse(&bytes), refused);
}

#[test]
fn one_vlan_tag_too_many_is_left_alone() {
    let mut parts = plain_v6();
    parts.tags = vec![0x88a8, 0x8100, 0x8100];
    assert_eq!(parse(&parts.build().bytes), Parsed::Other);
}

#[test]
fn ipv6_addresses_that_stand_for_ipv4_are_left_alone() {
    let mapped = Ipv4Addr::new(198, 51, 100, 1).to_ipv6_mapped().octets();
    let plain = [2; 16];
    for (source, destination) in [(mapped, plain), (plain, mapped), (mapped, mapped)] {
        let ip = Ip::V6 { source, destination, extensions: Vec::new() };
        let parts = Parts { ip, ..plain_v6() };
        assert_eq!(parse(&parts.build().bytes), Parsed::Other);
    }
}

#[test]
fn a_frame_longer_than_offsets_reach_is_read_as_far_as_they_do() {
    let mut bytes = plain_v6().build().bytes;
    bytes.resize(0x8000, 0);
    assert!(matches!(parse(&bytes), Parsed::Udp(_)));
}

fn plain_v6() -> Parts {
    Parts {
        tags: Vec::new(),
        ip: Ip::V6 { source: [1; 16], destination: [2; 16], extensions: Vec::new() },
        source_port: 1,
        port: 2,
        payload: vec![3; 10],
        rest: 0,
        padding: 0,
    }
}
