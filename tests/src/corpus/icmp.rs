//! ICMP errors about a service's packets, as routers send them to a VIP and as nodes forward them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane_ebpf::dissect::native;
use dataplane_ebpf::verdict::Verdict;
use dataplane_user::dataplane::services::{Protocol, Service};

use super::from_clients::client;
use super::from_nodes::Forwarded;
use super::packet::{Packet, ones_sum};
use super::tables::{
    EPOCH, MTU, REVISION, Session, State, af_xdp_service, id_in, id_of, services, slot,
};
use super::{Case, payload};
use crate::address::Family;

/// An ICMP error, as one about a packet of a service unless a case says otherwise.
#[derive(Clone)]
pub struct Error {
    /// Type and code.
    pub kind: [u8; 2],
    /// What is behind the checksum.
    pub rest: u32,
    /// The quoted packet.
    pub quoted: Vec<u8>,
    /// Who sends the error.
    pub source: IpAddr,
    /// Who sent the quoted packet.
    pub destination: IpAddr,
}

/// A router somewhere.
pub fn router(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 1).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1).into(),
    }
}

/// "Fragmentation needed", or "packet too big".
pub fn too_big(family: Family) -> [u8; 2] {
    match family {
        Family::V4 => [3, 4],
        Family::V6 => [2, 0],
    }
}

impl Error {
    /// That a packet was too big for a path of 1,400 bytes.
    pub fn about(packet: &Packet) -> Self {
        let family = Family::of(packet.source);
        let mut quoted = packet.ip_packet();
        // As much as fits 576 bytes or 1,280.
        quoted.truncate(if family == Family::V4 { 548 } else { 1_232 });
        Self {
            kind: too_big(family),
            rest: 1_400,
            quoted,
            source: router(family),
            destination: packet.source,
        }
    }

    /// The whole IP packet.
    pub fn ip_packet(&self) -> Packet {
        let family = Family::of(self.destination);
        let protocol = if family == Family::V4 { 1 } else { 58 };
        let mut message = self.kind.to_vec();
        message.extend([0, 0]);
        message.extend(self.rest.to_be_bytes());
        message.extend(&self.quoted);
        let sum = !match (self.source, self.destination) {
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let length = (message.len() as u32).to_be_bytes();
                let pseudo = [&source.octets()[..], &destination.octets(), &length, &[0, 0, 0, 58]];
                ones_sum(&[&pseudo.concat(), &message])
            }
            _ => ones_sum(&[&message]),
        };
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        Packet {
            protocol,
            message: Some(message),
            ..Packet::new((self.source, 0), (self.destination, 0), Vec::new())
        }
    }
}

/// A packet of a service to its client.
pub fn reply(service: &Service, payload: Vec<u8>) -> Packet {
    let address = service.address;
    Packet::new((address.ip(), address.port()), client(Family::of(address.ip())), payload)
}

/// What a service sends of a session with this id, where the packet tells the id.
fn named(service: &Service, id: &[u8]) -> Option<Vec<u8>> {
    match service.protocol {
        Protocol::Native => Some(payload::native(native::TYPE_DATA, id)),
        Protocol::Quic { .. } => Some(payload::quic_reply(payload::QUIC_V1, &[9; 11], id)),
        Protocol::WireGuard => Some(payload::wireguard(2, 92, 4, id)),
        Protocol::QuicLb { .. } => {
            Some(payload::quic_reply(payload::QUIC_V1, &[9; 11], &payload::connection_id(id)))
        }
        Protocol::Offset { .. } | Protocol::Dtls { .. } | Protocol::GtpU => None,
    }
}

/// All cases of clients of one family behind an underlay of another.
pub fn cases(outer: Family, family: Family) -> Vec<Case> {
    let services = services(family);
    let native = &services[0];
    let mut cases = Vec::new();
    for service in services.iter().chain([&af_xdp_service(family)]) {
        cases.extend(sessions(outer, service));
    }
    cases.extend(unnamed(outer, &services));
    cases.extend(kinds(native));
    cases.extend(quotes(native));
    cases.extend(envelopes(native));
    cases.extend(not_ours(native));
    cases.extend(forwarded(outer, native));
    for case in &mut cases {
        case.name = match case.name.strip_prefix(NODE) {
            Some(name) => format!("node {outer:?}, ICMP {family:?}: {name}"),
            None => format!("ICMP {family:?}: {}", case.name),
        };
    }
    cases
}

/// How the names of those that nodes forward start.
const NODE: &str = "node: ";

/// Sessions in every place, by services whose packets name them.
fn sessions(outer: Family, service: &Service) -> Vec<Case> {
    let error = |id: &[u8]| Some(Error::about(&reply(service, named(service, id)?)).ip_packet());
    let mut cases = Vec::new();
    let places = [
        ("here", id_of(service, Session::Here), Verdict::IcmpLocal),
        ("stayed", id_of(service, Session::Stayed), Verdict::IcmpLocal),
        ("of an earlier epoch", id_of(service, Session::OldEpoch), Verdict::EntryEpoch),
        ("row", id_of(service, Session::Row), Verdict::IcmpForward),
        ("row without a next hop", id_of(service, Session::RowLost), Verdict::NoNextHop),
        ("away", id_in(service, slot::AWAY, 60), Verdict::IcmpForward),
        ("far", id_in(service, slot::TO_FAR, 60), Verdict::IcmpForward),
        ("unknown at home", id_in(service, slot::HOME, 60), Verdict::NoSession),
        ("unknown, moved in", id_in(service, slot::MOVED_IN, 60), Verdict::IcmpForward),
        ("nobody's", id_in(service, slot::NOBODY, 60), Verdict::NoOwner),
        ("behind a narrow link", id_in(service, slot::TO_NARROW, 60), Verdict::TooBig),
    ];
    for (name, id, verdict) in places {
        let Some(packet) = error(&id) else { continue };
        let name = format!("{}, {name}", service.name);
        let case = Case::new(name, packet.frame(), service.index, verdict);
        let short = matches!(verdict, Verdict::IcmpLocal | Verdict::IcmpForward);
        cases.push(if short { case.typical() } else { case });
    }
    // Never answered by another error (RFC 1122 §3.2.2).
    if let Some(payload) = named(service, &id_in(service, slot::AWAY, 60)) {
        let mut quoted = reply(service, payload).ip_packet();
        quoted.resize(1_440, 0);
        let error = Error { quoted, ..Error::about(&reply(service, Vec::new())) };
        let name = format!("{}, away, too long for the link", service.name);
        cases.push(Case::new(name, error.ip_packet().frame(), service.index, Verdict::TooBig));
    }
    if let Some(packet) = error(&id_of(service, Session::Here)) {
        let name = format!("{NODE}{}, here", service.name);
        let frame = Forwarded::new(outer, &packet).frame();
        cases.push(Case::new(name, frame, service.index, Verdict::IcmpLocal).typical());
    }
    cases
}

/// Packets of services that do not name their session.
fn unnamed(outer: Family, services: &[Service]) -> Vec<Case> {
    let [native, quic, wireguard, offset, _, quic_lb, dtls, gtpu] = services else {
        unreachable!("there are eight services");
    };
    let here = |service| id_of(service, Session::Here);
    let packets = [
        ("short header", quic, payload::quic_short(0x40, &[9; 8])),
        ("version negotiation", quic, payload::quic_reply(0, &[9; 8], &here(quic))),
        ("long header without an id", quic, payload::quic_reply(1, &[9; 8], &[])),
        ("long header, id of 21 bytes", quic, payload::quic_reply(1, &[9; 8], &[7; 21])),
        ("data", wireguard, payload::wireguard(4, 48, 4, &here(wireguard))),
        ("cookie", wireguard, payload::wireguard(3, 64, 4, &here(wireguard))),
        ("short header", quic_lb, payload::quic_short(0x40, &[9; 8])),
        ("id cut in the nonce", quic_lb, payload::quic_reply(1, &[9; 8], &[0x40, 1, 2])),
        ("record", dtls, payload::dtls_cid(&here(dtls))),
        ("G-PDU", gtpu, payload::gtpu(255, &here(gtpu))),
        ("anything", offset, payload::data(offset, &here(offset))),
        ("empty", native, Vec::new()),
        ("an opening", native, payload::native(native::TYPE_OPEN, &here(native))),
        ("another protocol", native, vec![0x22; 40]),
    ];
    let mut cases = Vec::new();
    for (name, service, payload) in packets {
        let packet = Error::about(&reply(service, payload)).ip_packet();
        let name = format!("{}, {name}", service.name);
        let frame = packet.frame();
        cases.push(Case::new(name.clone(), frame, service.index, Verdict::IcmpUnknown));
        let frame = Forwarded::new(outer, &packet).frame();
        let name = format!("{NODE}{name}");
        cases.push(Case::new(name, frame, service.index, Verdict::NoWireId));
    }
    // Where a control port's packets come from, only its own protocol counts.
    let port = quic.control_port.expect("it has one");
    for (name, session, verdict) in [
        ("unknown", minted(quic, slot::HOME), Verdict::NoSession),
        ("away", minted(quic, slot::AWAY), Verdict::IcmpForward),
    ] {
        let packet = Packet { source_port: port, ..reply(quic, payload::control(&session)) };
        let name = format!("control port, {name}");
        let frame = Error::about(&packet).ip_packet().frame();
        cases.push(Case::new(name, frame, quic.index, verdict));
    }
    cases
}

fn minted(service: &Service, slot: u16) -> Vec<u8> {
    super::tables::minted(service, slot, 61, 16)
}

fn here(service: &Service) -> Packet {
    reply(service, payload::data(service, &id_of(service, Session::Here)))
}

/// Types of messages: errors, and all else.
fn kinds(service: &Service) -> Vec<Case> {
    let is_v4 = service.address.is_ipv4();
    let errors: &[u8] = if is_v4 { &[3, 11, 12] } else { &[1, 2, 3, 4] };
    let mut cases = Vec::new();
    for kind in 0..=255 {
        let error = Error { kind: [kind, 0], ..Error::about(&here(service)) };
        let is_error = errors.contains(&kind);
        let (service, verdict) =
            if is_error { (service.index, Verdict::IcmpLocal) } else { (0, Verdict::Pass) };
        let frame = error.ip_packet().frame();
        cases.push(Case::new(format!("type {kind}"), frame, service, verdict));
    }
    // What the other family calls an error.
    let mut other = Error::about(&here(service)).ip_packet();
    other.protocol = if is_v4 { 58 } else { 1 };
    cases.push(Case::new("the other family's ICMP", other.frame(), 0, Verdict::Pass));
    cases
}

/// How much is quoted, and what it looks like.
fn quotes(service: &Service) -> Vec<Case> {
    let is_v4 = service.address.is_ipv4();
    let packet = here(service);
    let right = Error::about(&packet);
    let headers = if is_v4 { 28 } else { 48 };
    let unknown = (service.index, Verdict::IcmpUnknown);
    let pass = (0, Verdict::Pass);
    let case = |name: &str, quoted: Vec<u8>, (index, verdict)| {
        let frame = Error { quoted, ..right.clone() }.ip_packet().frame();
        Case::new(name, frame, index, verdict)
    };
    let cut = |length: usize| right.quoted[..length].to_vec();
    let local = (service.index, Verdict::IcmpLocal);
    let put = |at: usize, value: u8| {
        let mut quoted = right.quoted.clone();
        quoted[at] = value;
        quoted
    };
    let mut cases = vec![
        case("quotes nothing", Vec::new(), pass),
        case("quotes half an IP header", cut(10), pass),
        case("quotes an IP header", cut(headers - 8), pass),
        case("quotes ports", cut(headers - 4), pass),
        case("quotes 8 bytes", cut(headers), unknown),
        case("quotes half an id", cut(headers + 12), unknown),
        case("quotes an id but a byte", cut(headers + 19), unknown),
        case("quotes an id", cut(headers + 20), local),
        case("quotes UDP of 7 bytes", put(headers - 3, 7), pass),
        case("quotes UDP shorter than the id", put(headers - 3, 27), unknown),
        case("quotes IP version 0", put(0, 0), pass),
        case("quotes the other version", put(0, if is_v4 { 0x65 } else { 0x45 }), pass),
        case("quotes TCP", put(if is_v4 { 9 } else { 6 }, 6), pass),
        case("quotes another port", put(headers - 7, 0x99), pass),
        case("quotes another address", put(if is_v4 { 15 } else { 23 }, 0x99), pass),
    ];
    // The rest of the quote is on the wire, but no part of the ICMP message.
    let mut padded = Error { quoted: cut(headers + 12), ..right.clone() }.ip_packet();
    padded.padding = 40;
    let name = "id that goes on in the padding";
    cases.push(Case::new(name, padded.frame(), unknown.0, unknown.1));
    if is_v4 {
        let mut options = packet.clone();
        options.options = 10;
        cases.push(case("quotes options", options.ip_packet(), local));
        cases.push(case("quotes a header of 16 bytes", put(0, 0x44), pass));
        cases.push(case("quotes a header beyond the quote", put(0, 0x4f), pass));
        cases.push(case("quotes the first fragment", put(6, 0x20), local));
        cases.push(case("quotes a later fragment", put(7, 0x20), pass));
    } else {
        let mut extended = packet;
        extended.extensions = vec![(60, vec![0; 7])];
        cases.push(case("quotes an extension header", extended.ip_packet(), pass));
    }
    cases
}

/// Everything that may stand in front of ICMP.
fn envelopes(service: &Service) -> Vec<Case> {
    let packet = Error::about(&here(service)).ip_packet();
    let away = reply(service, payload::data(service, &id_in(service, slot::AWAY, 62)));
    let away = Error::about(&away).ip_packet();
    let mut cases = Vec::new();
    for (packet, verdict) in [(packet, Verdict::IcmpLocal), (away, Verdict::IcmpForward)] {
        let mut case = |name: &str, packet: Packet, verdict: Verdict| {
            let name = format!("{name}, {}", verdict.name());
            cases.push(Case::new(name, packet.frame(), service.index, verdict));
        };
        case("one VLAN tag", Packet { tags: vec![0x8100], ..packet.clone() }, verdict);
        case("two VLAN tags", Packet { tags: vec![0x88a8, 0x8100], ..packet.clone() }, verdict);
        case("padding", Packet { padding: 18, ..packet.clone() }, verdict);
        if service.address.is_ipv4() {
            case("options", Packet { options: 7, ..packet.clone() }, verdict);
        } else {
            let with =
                |count| Packet { extensions: vec![(60, vec![0; 7]); count], ..packet.clone() };
            case("one extension header", with(1), verdict);
            case("four extension headers", with(4), verdict);
        }
    }
    let packet = Error::about(&here(service)).ip_packet();
    let mut case = |name: &str, frame: Vec<u8>, index, verdict| {
        cases.push(Case::new(name, frame, index, verdict));
    };
    let (index, ip) = (service.index, packet.ip());
    let frame = packet.frame();
    let put = |at: usize, value: u16| {
        let mut frame = frame.clone();
        frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
        frame
    };
    if service.address.is_ipv4() {
        let fragment = |fragment| Packet { fragment, ..packet.clone() }.frame();
        case("first fragment", fragment(0x2000), index, Verdict::Fragment);
        case("later fragment", fragment(0x2001), 0, Verdict::Pass);
        case("shorter than its header", put(ip + 2, 27), index, Verdict::Malformed);
        case("longer than the frame", put(ip + 2, u16::MAX), index, Verdict::Malformed);
    } else {
        let with = |extensions| Packet { extensions, ..packet.clone() }.frame();
        let fragment = with(vec![(44, vec![0, 0, 1, 1, 2, 3, 4])]);
        case("first fragment", fragment, index, Verdict::Fragment);
        let five = with(vec![(60, vec![0; 7]); 5]);
        case("five extension headers", five, index, Verdict::ExtensionHeaders);
        case("shorter than its header", put(ip + 4, 7), index, Verdict::Malformed);
        case("longer than the frame", put(ip + 4, u16::MAX), index, Verdict::Malformed);
    }
    cases
}

/// Messages to other addresses, and in other conditions of the node.
fn not_ours(service: &Service) -> Vec<Case> {
    let right = Error::about(&here(service));
    let elsewhere = match right.destination {
        IpAddr::V4(_) => Ipv4Addr::new(198, 51, 100, 2).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 2).into(),
    };
    let other = Error { destination: elsewhere, ..right.clone() }.ip_packet();
    let frame = right.ip_packet().frame();
    let row = reply(service, payload::data(service, &id_of(service, Session::Row)));
    let row = Error::about(&row).ip_packet().frame();
    let case = |name: &str, frame: Vec<u8>, state: State, index, verdict| {
        Case::new(format!("{state:?}: {name}"), frame, index, verdict).when(state)
    };
    let index = service.index;
    vec![
        case("to another address", other.frame(), State::Ready, 0, Verdict::Pass),
        case("here", frame.clone(), State::Shut, index, Verdict::FenceShut),
        case("row", row, State::Shut, index, Verdict::IcmpForward),
        case("here", frame, State::NotReady, index, Verdict::NotReady),
    ]
}

/// What nodes forward, and what they would not.
fn forwarded(outer: Family, service: &Service) -> Vec<Case> {
    let error = |packet: &Packet| Error::about(packet).ip_packet();
    let right = Forwarded::new(outer, &error(&here(service)));
    let index = service.index;
    let case = |name: &str, forwarded: Forwarded, index, verdict| {
        Case::new(format!("{NODE}{name}"), forwarded.frame(), index, verdict)
    };
    let away = reply(service, payload::data(service, &id_in(service, slot::AWAY, 63)));
    let away = Forwarded::new(outer, &error(&away));
    let before = Forwarded { revision: REVISION - 1, ..away.clone() };
    let mut other = here(service);
    other.source_port = 9;
    let echo = Error {
        kind: if service.address.is_ipv4() { [8, 0] } else { [128, 0] },
        ..Error::about(&here(service))
    };
    vec![
        case(
            "the owner's epoch is older",
            Forwarded { epoch: EPOCH - 1, ..right.clone() },
            index,
            Verdict::ShimEpochOld,
        ),
        case(
            "another version",
            Forwarded { version: 6, ..right.clone() },
            index,
            Verdict::ShimVersionOld,
        ),
        case("by a stranger", Forwarded { sender: 9, ..right }, 0, Verdict::ShimSender),
        case("not newer", away, index, Verdict::NotNewer),
        case("by an older placement", before.clone(), index, Verdict::IcmpForward),
        case("no hop left", Forwarded { hops: 0, ..before }, index, Verdict::HopLimit),
        case(
            "about another port",
            Forwarded::new(outer, &error(&other)),
            0,
            Verdict::ShimMalformed,
        ),
        case("no error", Forwarded::new(outer, &echo.ip_packet()), 0, Verdict::ShimMalformed),
    ]
}

/// A client's packets that do not fit the link, for an encapsulation of `overhead` bytes.
pub fn answers(family: Family, overhead: usize) -> Vec<Case> {
    let service = &services(family)[0];
    let id = id_in(service, slot::AWAY, 95);
    let headers = if family == Family::V4 { 28 } else { 48 };
    let long = |beyond: usize| {
        let mut payload = payload::data(service, &id);
        payload.extend(
            (0..)
                .map(|byte| (byte * 7) as u8)
                .take(MTU - overhead - headers + beyond - payload.len()),
        );
        super::from_clients::to(service, payload)
    };
    let packet = long(40);
    let case = |name: &str, packet: Packet, verdict| {
        Case::new(format!("too big {family:?}: {name}"), packet.frame(), service.index, verdict)
    };
    let answered = Verdict::TooBigAnswered;
    let mut cases = vec![
        case("full", packet.clone(), answered),
        case("one VLAN tag", Packet { tags: vec![0x8100], ..packet.clone() }, answered),
        case("two VLAN tags", Packet { tags: vec![0x88a8, 0x8100], ..packet.clone() }, answered),
        case("padding", Packet { padding: 9, ..packet.clone() }, answered),
        case("no checksum", Packet { checksum: false, ..packet.clone() }, answered),
    ];
    for beyond in 1..9 {
        cases.push(case(&format!("{beyond} bytes beyond"), long(beyond), answered));
    }
    let silent: Vec<IpAddr> = match family {
        Family::V4 => {
            cases.push(case("options", Packet { options: 10, ..packet.clone() }, answered));
            cases.push(case(
                "may be fragmented",
                Packet { fragment: 0, ..packet.clone() },
                answered,
            ));
            ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"]
                .map(|address| address.parse().expect("an address"))
                .into()
        }
        Family::V6 => {
            let extensions = vec![(60, vec![0; 7]); 4];
            cases.push(case(
                "four extension headers",
                Packet { extensions, ..packet.clone() },
                answered,
            ));
            let extensions = vec![(60, [vec![154], vec![0; 154 * 8 + 6]].concat())];
            let mut headers = Packet { extensions, ..packet.clone() };
            headers.payload.truncate(220);
            cases.push(case("headers that fill the quote", headers, Verdict::TooBig));
            ["::", "::1", "ff02::1", "ff0e::7"]
                .map(|address| address.parse().expect("an address"))
                .into()
        }
    };
    for source in silent {
        let packet = Packet { source, ..packet.clone() };
        cases.push(case(&format!("from {source}"), packet, Verdict::TooBig));
    }
    let limited = case("answered enough", packet.clone(), Verdict::TooBig).when(State::Limited);
    cases.push(limited);
    for (name, at) in [("to a group's MAC address", 0), ("from a group's MAC address", 6)] {
        let mut case = case(name, packet.clone(), Verdict::TooBig);
        case.frame[at] |= 1;
        cases.push(case);
    }
    cases
}
