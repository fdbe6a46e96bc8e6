//! Packets as clients send them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane_ebpf::dissect::native;
use dataplane_ebpf::hold::{CLASSES, HELD_MAX};
use dataplane_ebpf::verdict::Verdict;
use dataplane_user::dataplane::services::{Protocol, Service};

use super::packet::Packet;
use super::tables::{MTU, Session, State, id_in, id_of, minted, services, slot};
use super::{Case, from_protocols, payload};
use crate::address::{Family, vip};

/// Where clients send from.
pub fn client(family: Family) -> (IpAddr, u16) {
    let address = match family {
        Family::V4 => Ipv4Addr::new(203, 0, 113, 9).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 9).into(),
    };
    (address, 40_000)
}

/// A client's packet to a service's data port.
pub fn to(service: &Service, payload: Vec<u8>) -> Packet {
    let address = service.address;
    Packet::new(client(Family::of(address.ip())), (address.ip(), address.port()), payload)
}

/// A client's packet that opens a session in a slot.
pub fn opening(service: &Service, slot: u16, number: u8) -> Packet {
    let (address, any_port) = client(Family::of(service.address.ip()));
    let (port, payload) = payload::opening(service, address, slot, number);
    Packet { source_port: port.unwrap_or(any_port), ..to(service, payload) }
}

/// All cases of a family.
pub fn cases(family: Family) -> Vec<Case> {
    let services = services(family);
    let native = &services[0];
    let mut cases = Vec::new();
    for service in &services {
        cases.extend(sessions(service));
        cases.extend(unknown(service));
        cases.extend(refused_payloads(service));
    }
    cases.extend(control_port(&services));
    cases.extend(quic(&services[1]));
    cases.extend(wireguard(&services[2]));
    cases.extend(from_protocols::cases(&services));
    cases.extend(shapes(native));
    cases.extend(held(native));
    cases.extend(broken(native));
    cases.extend(not_ours(native));
    cases.extend(torn(native));
    cases.extend(conditions(native));
    cases.extend(no_way(native));
    for case in &mut cases {
        case.name = format!("client {family:?}: {}", case.name);
    }
    cases
}

/// Sessions that have an entry.
fn sessions(service: &Service) -> Vec<Case> {
    let case = |session, verdict| {
        let packet = to(service, payload::data(service, &id_of(service, session)));
        let name = format!("{}, {session:?}", service.name);
        Case::new(name, packet.frame(), service.index, verdict)
    };
    vec![
        case(Session::Here, Verdict::Local).typical(),
        case(Session::HereFromAway, Verdict::Local),
        case(Session::Stayed, Verdict::Local),
        case(Session::OldEpoch, Verdict::EntryEpoch),
        case(Session::Row, Verdict::ForwardRow).typical(),
        case(Session::RowLost, Verdict::NoNextHop),
        case(Session::NoQueue, Verdict::Local).but_in_kernel(Verdict::NoCpu),
        case(Session::Held, Verdict::Held).typical(),
        case(Session::HeldOldEpoch, Verdict::EntryEpoch),
        case(Session::HeldNotOurs, Verdict::Held),
    ]
}

/// Packets of every length of a session on its way, around the sizes of the ring's records.
fn held(service: &Service) -> Vec<Case> {
    let shortest = to(service, payload::data(service, &id_of(service, Session::Held)));
    let headers = shortest.frame().len();
    let of_length = |length: usize| {
        let mut payload = payload::data(service, &id_of(service, Session::Held));
        payload.extend((headers..length).map(|byte| byte as u8));
        to(service, payload)
    };
    let case = |name: String, packet: &Packet, verdict| {
        Case::new(name, packet.frame(), service.index, verdict)
    };
    let mut cases = Vec::new();
    for class in CLASSES {
        for length in [class - 1, class, class + 1] {
            let verdict = if length > HELD_MAX { Verdict::HoldTooLong } else { Verdict::Held };
            cases.push(case(format!("held, {length} bytes"), &of_length(length), verdict));
        }
        // Padding is not kept, so it makes no packet too long.
        let padded = Packet { padding: 7, ..of_length(class) };
        cases.push(case(format!("held, {class} bytes and padding"), &padded, Verdict::Held));
    }
    for (name, packet) in envelopes(&of_length(headers)) {
        cases.push(case(format!("held, {name}"), &packet, Verdict::Held));
    }
    let full = case("held, but the ring is full".into(), &of_length(1_500), Verdict::Held);
    cases.push(full.when(State::RingFull).but_in_kernel(Verdict::HoldFull));
    let shut = case("held, behind the fence".into(), &of_length(headers), Verdict::Held);
    cases.push(shut.when(State::Shut));
    cases
}

/// Ids without an entry, in every kind of slot.
fn unknown(service: &Service) -> Vec<Case> {
    let opener = matches!(service.protocol, Protocol::Offset { unknown_opens: true, .. });
    let unless_it_opens = |verdict| if opener { Verdict::New } else { verdict };
    let slots = [
        ("home", slot::HOME, Verdict::NoSession, Verdict::New),
        ("home, no rows", slot::HOME_EMPTY, Verdict::NoSession, Verdict::New),
        ("moved in", slot::MOVED_IN, Verdict::SecondChance, Verdict::New),
        ("away", slot::AWAY, Verdict::ForwardSlot, Verdict::ForwardSlot),
        ("moved out", slot::MOVED_OUT, Verdict::ForwardSlot, Verdict::ForwardSlot),
        ("nobody's", slot::NOBODY, Verdict::NoOwner, Verdict::NoOwner),
    ];
    let mut cases = Vec::new();
    for (name, slot, data, opening) in slots {
        let id = id_in(service, slot, Session::Unknown as u8);
        let frame = to(service, payload::data(service, &id)).frame();
        let mine = matches!(slot, slot::HOME | slot::HOME_EMPTY | slot::MOVED_IN);
        let data = if mine { unless_it_opens(data) } else { data };
        let name = |what: &str| format!("{}, {what}, slot {name}", service.name);
        cases.push(Case::new(name("unknown session"), frame, service.index, data));
        let offset = matches!(service.protocol, Protocol::Offset { .. });
        // Few echoes lead to a given slot: they take long to find.
        let slow = service.protocol == Protocol::GtpU && !matches!(slot, slot::HOME | slot::AWAY);
        if !offset && !slow {
            let frame = self::opening(service, slot, 77).frame();
            cases.push(Case::new(name("opening"), frame, service.index, opening).typical());
        }
    }
    cases
}

/// Payloads in which no id can be read.
fn refused_payloads(service: &Service) -> Vec<Case> {
    let whole = payload::data(service, &id_of(service, Session::Here));
    let case = |what: &str, payload: Vec<u8>| {
        let name = format!("{}, {what}", service.name);
        Case::new(name, to(service, payload).frame(), service.index, Verdict::NoWireId)
    };
    let id_end = match service.protocol {
        Protocol::Native => 20,
        Protocol::Quic { id_length } => 1 + usize::from(id_length),
        Protocol::WireGuard => 32,
        Protocol::Offset { offset, length, .. } => usize::from(offset + length),
        // With a nonce of 4 bytes.
        Protocol::QuicLb { .. } => 1 + service.protocol.id_length() + 4,
        // With the length of the record.
        Protocol::Dtls { id_length } => 13 + usize::from(id_length),
        Protocol::GtpU => 8,
    };
    let mut cases = vec![
        case("empty payload", Vec::new()),
        case("payload of one byte", whole[..1].to_vec()),
        case("payload that ends in the id", whole[..id_end - 1].to_vec()),
    ];
    let shortest = to(service, whole[..id_end].to_vec());
    let name = format!("{}, payload that ends with the id", service.name);
    cases.push(Case::new(name, shortest.frame(), service.index, Verdict::Local));
    // Padding is no payload.
    let padded = Packet { padding: 60, ..to(service, whole[..id_end - 1].to_vec()) };
    let name = format!("{}, id that goes on in the padding", service.name);
    cases.push(Case::new(name, padded.frame(), service.index, Verdict::NoWireId));
    if service.protocol == Protocol::Native {
        let here = id_of(service, Session::Here);
        for kind in [native::TYPE_OPENED, native::TYPE_CONTROL, 9] {
            let name = format!("type {kind} at the data port");
            cases.push(case(&name, payload::native(kind, &here)));
        }
        let mut later = whole;
        later[0] = 0x20;
        cases.push(case("version 2", later));
    }
    cases
}

fn control_port(services: &[Service]) -> Vec<Case> {
    let mut cases = Vec::new();
    for service in services {
        let Some(port) = service.control_port else {
            continue;
        };
        let mut case = |what: &str, payload: Vec<u8>, verdict| {
            let packet = Packet { port, ..to(service, payload) };
            let name = format!("{}, control port, {what}", service.name);
            cases.push(Case::new(name, packet.frame(), service.index, verdict));
        };
        let id = |slot| minted(service, slot, 78, 16);
        case("no session", payload::control(&id(slot::HOME)), Verdict::ControlUnknown);
        case("away", payload::control(&id(slot::AWAY)), Verdict::ForwardSlot);
        let data = payload::native(native::TYPE_DATA, &id(slot::HOME));
        case("data packet", data, Verdict::NoWireId);
        let open = payload::native(native::TYPE_OPEN, &id(slot::HOME));
        case("opening packet", open, Verdict::NoWireId);
        if service.protocol == Protocol::Native {
            let here = id_of(service, Session::Here);
            case("session of this node", payload::control(&here), Verdict::Local);
        }
    }
    cases
}

fn quic(service: &Service) -> Vec<Case> {
    use payload::{QUIC_V1, QUIC_V2, quic_long, quic_short};
    let here = id_of(service, Session::Here);
    let home = |length| minted(service, slot::HOME, 80, length);
    let case = |what: &str, payload: Vec<u8>, verdict| {
        let name = format!("{}, {what}", service.name);
        Case::new(name, to(service, payload).frame(), service.index, verdict)
    };
    let mut cases = vec![
        case("short header, fixed bit 0", quic_short(0x00, &here), Verdict::Local),
        case("v1 handshake", quic_long(0xe0, QUIC_V1, &here), Verdict::Local).typical(),
        case("v1 retry", quic_long(0xf0, QUIC_V1, &here), Verdict::Local),
        case("v2 handshake", quic_long(0xf0, QUIC_V2, &here), Verdict::Local),
        case("v2 retry", quic_long(0xc0, QUIC_V2, &here), Verdict::Local),
        case("v1 initial of a session", quic_long(0xc0, QUIC_V1, &here), Verdict::Local),
        case("v1 0-RTT", quic_long(0xd0, QUIC_V1, &home(8)), Verdict::New),
        case("v1 handshake, unknown", quic_long(0xe0, QUIC_V1, &home(8)), Verdict::NoSession),
        case("v2 initial", quic_long(0xd0, QUIC_V2, &home(8)), Verdict::New),
        case("v2 0-RTT", quic_long(0xe0, QUIC_V2, &home(8)), Verdict::New),
        case("v2 handshake, unknown", quic_long(0xf0, QUIC_V2, &home(8)), Verdict::NoSession),
        case("unknown version", quic_long(0xc0, 0x1a2a_3a4a, &home(8)), Verdict::New),
        case("version negotiation", quic_long(0xc0, 0, &here), Verdict::NoWireId),
        case("v1, id of 3 bytes", quic_long(0xc0, QUIC_V1, &here[..3]), Verdict::NoWireId),
        case("v1, no id", quic_long(0xc0, QUIC_V1, &[]), Verdict::NoWireId),
        case("v1, id of 21 bytes", quic_long(0xc0, QUIC_V1, &[1; 21]), Verdict::NoWireId),
        case("unknown version, id of 3 bytes", quic_long(0xc0, 9, &here[..3]), Verdict::NoWireId),
    ];
    for length in 4..=20 {
        let name = format!("v1 initial, id of {length} bytes");
        cases.push(case(&name, quic_long(0xc0, QUIC_V1, &home(length)), Verdict::New));
    }
    let mut long = home(20);
    long.resize(200, 9);
    cases.push(case("unknown version, id of 200 bytes", quic_long(0xc0, 9, &long), Verdict::New));
    let mut cut = quic_long(0xc0, QUIC_V1, &home(20));
    cut.truncate(6 + 19);
    cases.push(case("v1 initial that ends in its id", cut, Verdict::NoWireId));
    cases
}

fn wireguard(service: &Service) -> Vec<Case> {
    use payload::wireguard;
    let here = id_of(service, Session::Here);
    let home = minted(service, slot::HOME, 81, 20);
    let case = |what: &str, payload: Vec<u8>, verdict| {
        let name = format!("{}, {what}", service.name);
        Case::new(name, to(service, payload).frame(), service.index, verdict)
    };
    let mut reserved = payload::data(service, &here);
    reserved[1..4].fill(0xff);
    vec![
        case("response", wireguard(2, 92, 8, &here), Verdict::Local).typical(),
        case("cookie", wireguard(3, 64, 4, &here), Verdict::Local),
        case("keepalive", wireguard(4, 32, 4, &here), Verdict::Local),
        case("reserved bytes in use", reserved, Verdict::Local),
        case("short initiation", wireguard(1, 147, 4, &home), Verdict::NoWireId),
        case("long initiation", wireguard(1, 149, 4, &home), Verdict::NoWireId),
        case("short response", wireguard(2, 91, 8, &here), Verdict::NoWireId),
        case("long cookie", wireguard(3, 65, 4, &here), Verdict::NoWireId),
        case("short data", wireguard(4, 31, 4, &here), Verdict::NoWireId),
        case("type 0", wireguard(0, 48, 4, &here), Verdict::NoWireId),
        case("type 5", wireguard(5, 48, 4, &here), Verdict::NoWireId),
    ]
}

/// Everything that may stand in front of UDP or behind it.
fn envelopes(packet: &Packet) -> Vec<(String, Packet)> {
    let mut all = vec![
        ("one VLAN tag".into(), Packet { tags: vec![0x8100], ..packet.clone() }),
        ("two VLAN tags".into(), Packet { tags: vec![0x88a8, 0x8100], ..packet.clone() }),
        ("padding".into(), Packet { padding: 18, ..packet.clone() }),
        ("no UDP checksum".into(), Packet { checksum: false, ..packet.clone() }),
        ("bytes behind UDP".into(), Packet { rest: 5, ..packet.clone() }),
    ];
    if packet.destination.is_ipv4() {
        for options in [1, 10] {
            let name = format!("{options} words of options");
            all.push((name, Packet { options, ..packet.clone() }));
        }
        let packet = Packet { tags: vec![0x8100], options: 3, padding: 7, ..packet.clone() };
        all.push(("tag, options and padding".into(), packet));
        return all;
    }
    for (name, kind) in [("hop-by-hop", 0), ("routing", 43), ("destination", 60)] {
        let short = (kind, vec![0; 7]);
        let long = (kind, [vec![2], vec![0; 22]].concat());
        for (size, header) in [("short", short), ("long", long)] {
            let packet = Packet { extensions: vec![header], ..packet.clone() };
            all.push((format!("{size} {name} header"), packet));
        }
    }
    let authentication = vec![(51, [vec![4], vec![0; 22]].concat())];
    let packet_with = |extensions| Packet { extensions, ..packet.clone() };
    all.push(("authentication header".into(), packet_with(authentication)));
    all.push(("atomic fragment".into(), packet_with(vec![(44, vec![0, 0, 0, 1, 2, 3, 4])])));
    all.push(("four extension headers".into(), packet_with(four_headers())));
    let tagged = Packet { tags: vec![0x88a8, 0x8100], padding: 3, ..packet_with(four_headers()) };
    all.push(("tags, four extension headers and padding".into(), tagged));
    all
}

fn four_headers() -> Vec<(u8, Vec<u8>)> {
    vec![
        (0, vec![0; 7]),
        (60, [vec![1], vec![0; 14]].concat()),
        (43, vec![0; 7]),
        (44, vec![0, 0, 0, 1, 2, 3, 4]),
    ]
}

/// Unusual but right frames, delivered here and forwarded.
fn shapes(service: &Service) -> Vec<Case> {
    let mut cases = Vec::new();
    for (session, verdict) in [
        (id_of(service, Session::Here), Verdict::Local),
        (id_in(service, slot::AWAY, 90), Verdict::ForwardSlot),
    ] {
        let packet = to(service, payload::data(service, &session));
        for (name, packet) in envelopes(&packet) {
            let name = format!("{name}, {}", verdict.name());
            cases.push(Case::new(name, packet.frame(), service.index, verdict).typical());
        }
    }
    for length in [0, 1, 2, 255, 1_000] {
        let mut payload = payload::data(service, &id_in(service, slot::AWAY, 91));
        payload.extend((0..length).map(|byte| byte as u8));
        let name = format!("{length} bytes more, forwarded");
        let frame = to(service, payload).frame();
        cases.push(Case::new(name, frame, service.index, Verdict::ForwardSlot));
    }
    cases
}

/// Frames whose headers contradict each other or the frame.
fn broken(service: &Service) -> Vec<Case> {
    let packet = to(service, payload::data(service, &id_of(service, Session::Here)));
    let (ip, udp) = (packet.ip(), packet.udp());
    let frame = packet.frame();
    let is_v4 = packet.destination.is_ipv4();
    let case = |name: &str, frame: Vec<u8>, verdict| Case::new(name, frame, service.index, verdict);
    let put = |at: usize, value: u16| {
        let mut frame = frame.clone();
        frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
        frame
    };
    let length = frame.len() as u16;
    let malformed = |name: &str, frame| case(name, frame, Verdict::Malformed);
    let mut cases = vec![
        malformed("UDP length 0", put(udp + 4, 0)),
        malformed("UDP length 7", put(udp + 4, 7)),
        malformed("UDP longer than its packet", put(udp + 4, length - udp as u16 + 1)),
        malformed("UDP length 65,535", put(udp + 4, u16::MAX)),
    ];
    let version = |version: u8| {
        let mut frame = frame.clone();
        frame[ip] = version << 4 | frame[ip] & 0xf;
        frame
    };
    cases.push(malformed("IP version 5", version(5)));
    cases.push(malformed("the other IP version", version(if is_v4 { 6 } else { 4 })));
    if is_v4 {
        let header = |words: u8| {
            let mut frame = frame.clone();
            frame[ip] = 0x40 | words;
            frame
        };
        cases.push(malformed("IPv4 header of 16 bytes", header(4)));
        cases.push(malformed("IPv4 header of 0 bytes", header(0)));
        cases.push(malformed("IPv4 header that covers UDP", header(15)));
        cases.push(malformed("IPv4 packet longer than the frame", put(ip + 2, length - 13)));
        cases.push(malformed("IPv4 packet of 65,535 bytes", put(ip + 2, u16::MAX)));
        cases.push(malformed("IPv4 packet shorter than its header", put(ip + 2, 19)));
        cases.push(malformed("IPv4 packet shorter than UDP", put(ip + 2, 27)));
        cases.push(malformed("IPv4 packet of 0 bytes", put(ip + 2, 0)));
        for (name, fragment) in
            [("first fragment", 0x2000), ("later fragment", 0x2001), ("last fragment", 0x0100)]
        {
            cases.push(case(name, put(ip + 6, fragment), Verdict::Fragment).typical());
        }
        cases.push(case("may be fragmented", put(ip + 6, 0), Verdict::Local));
        return cases;
    }
    cases.push(malformed("IPv6 packet longer than the frame", put(ip + 4, length - 53)));
    cases.push(malformed("IPv6 packet of 65,575 bytes", put(ip + 4, u16::MAX)));
    cases.push(malformed("IPv6 packet shorter than UDP", put(ip + 4, 7)));
    cases.push(malformed("IPv6 packet without payload", put(ip + 4, 0)));
    let with = |extensions| Packet { extensions, ..packet.clone() }.frame();
    for (name, field) in [("first", 1_u16), ("later", 9), ("last", 8)] {
        let [high, low] = field.to_be_bytes();
        let frame = with(vec![(44, vec![0, high, low, 1, 2, 3, 4])]);
        cases.push(case(&format!("{name} fragment"), frame, Verdict::Fragment).typical());
    }
    let behind = vec![(0, vec![0; 7]), (44, vec![0, 0, 1, 1, 2, 3, 4])];
    cases.push(case("fragment behind another header", with(behind), Verdict::Fragment));
    let mut five = four_headers();
    five.push((60, vec![0; 7]));
    cases.push(case("five extension headers", with(five), Verdict::ExtensionHeaders).typical());
    for kind in [0, 43, 51, 60] {
        let long = with(vec![(kind, [vec![255], vec![0; 6]].concat())]);
        let name = format!("extension header {kind} that leads out of the packet");
        cases.push(malformed(&name, long));
    }
    cases
}

/// Frames that are nobody's business.
fn not_ours(service: &Service) -> Vec<Case> {
    let packet = to(service, payload::data(service, &id_of(service, Session::Here)));
    let pass = |name: &str, frame: Vec<u8>| Case::new(name, frame, 0, Verdict::Pass);
    let other_address = match packet.destination {
        IpAddr::V4(_) => Ipv4Addr::new(198, 51, 100, 2).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 2).into(),
    };
    let other = Packet { destination: other_address, ..packet.clone() };
    let mut fragment = Packet { fragment: 0x2000, ..other.clone() };
    if other_address.is_ipv6() {
        fragment.extensions = vec![(44, vec![0, 0, 1, 1, 2, 3, 4])];
    }
    let mut arp = vec![0xff; 6];
    arp.extend([2, 0, 0, 0, 0, 2, 0x08, 0x06]);
    arp.resize(60, 0);
    let mut unknown = packet.frame();
    unknown[12..14].copy_from_slice(&[0x88, 0xcc]);
    let mut no_family = packet.frame();
    no_family[12..14].copy_from_slice(&[0x81, 0x00]);
    let mut cases = vec![
        pass("other address", other.frame()),
        pass("other port", Packet { port: 4_002, ..packet.clone() }.frame()),
        pass("port 0", Packet { port: 0, ..packet.clone() }.frame()),
        pass("fragment to another address", fragment.frame()),
        pass("three VLAN tags", Packet { tags: vec![0x8100; 3], ..packet.clone() }.frame()),
        pass("ARP", arp),
        pass("LLDP", unknown),
        pass("a VLAN tag that leads nowhere", no_family),
        pass("an Ethernet header alone", packet.frame()[..14].to_vec()),
    ];
    // The tables hold IPv4 addresses as IPv6-mapped ones; on the wire those are nobody's.
    let [source, destination] = [packet.source, packet.destination].map(mapped);
    let mapped = Packet { source, destination, ..packet.clone() };
    let name = "IPv6 with addresses that stand for IPv4";
    if packet.destination.is_ipv4() {
        cases.push(pass(name, mapped.frame()));
    }
    for (name, protocol) in [("TCP", 6), ("ICMP", 1), ("ICMPv6", 58), ("ESP", 50)] {
        cases.push(pass(name, Packet { protocol, ..packet.clone() }.frame()));
    }
    cases
}

/// An address as an IPv6 one.
pub fn mapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().into(),
        address => address,
    }
}

/// Entries that are being replaced.
fn torn(service: &Service) -> Vec<Case> {
    [
        (Session::TornWords, Verdict::EntryTorn),
        (Session::TornBits, Verdict::EntryTorn),
        (Session::TornRow, Verdict::EntryTorn),
        // Who delivers a client's own packet need not know the version.
        (Session::TornVersion, Verdict::Local),
        (Session::TornHeld, Verdict::Held),
    ]
    .map(|(session, verdict)| {
        let packet = to(service, payload::data(service, &id_of(service, session)));
        Case::new(format!("{session:?}"), packet.frame(), service.index, verdict)
    })
    .into()
}

/// The node without its lease, without its tables, without a CPU.
fn conditions(service: &Service) -> Vec<Case> {
    let case = |name: &str, state, payload: Vec<u8>, verdict| {
        let frame = to(service, payload).frame();
        Case::new(format!("{state:?}: {name}"), frame, service.index, verdict).when(state)
    };
    let at_control_port = |name: &str, id: Vec<u8>, verdict| {
        let port = service.control_port.expect("the service has one");
        let frame = Packet { port, ..to(service, payload::control(&id)) }.frame();
        Case::new(format!("Limited: control port, {name}"), frame, service.index, verdict)
            .when(State::Limited)
    };
    let here = payload::data(service, &id_of(service, Session::Here));
    let old = payload::data(service, &id_of(service, Session::OldEpoch));
    let row = payload::data(service, &id_of(service, Session::Row));
    let away = payload::data(service, &id_in(service, slot::AWAY, 92));
    let moved = payload::data(service, &id_in(service, slot::MOVED_IN, 92));
    let unknown = payload::data(service, &id_in(service, slot::HOME, 92));
    let opening = opening(service, slot::HOME, 92).payload;
    let elsewhere = Packet { port: 9, ..to(service, here.clone()) }.frame();
    vec![
        case("session of this node", State::Shut, here.clone(), Verdict::FenceShut),
        case("session of an earlier epoch", State::Shut, old, Verdict::FenceShut),
        case("opening", State::Shut, opening.clone(), Verdict::FenceShut),
        case("row", State::Shut, row.clone(), Verdict::ForwardRow),
        case("away", State::Shut, away.clone(), Verdict::ForwardSlot),
        case("moved in", State::Shut, moved, Verdict::SecondChance),
        case("unknown", State::Shut, unknown, Verdict::NoSession),
        case("session of this node", State::NotReady, here.clone(), Verdict::NotReady),
        case("row", State::NotReady, row, Verdict::NotReady),
        case("away", State::NotReady, away.clone(), Verdict::NotReady),
        case("no id", State::NotReady, Vec::new(), Verdict::NotReady),
        Case::new("NotReady: not for a service", elsewhere, 0, Verdict::Pass).when(State::NotReady),
        case("opening", State::NoCpu, opening.clone(), Verdict::NoCpu),
        case("session of this node", State::NoCpu, here.clone(), Verdict::Local),
        case("opening", State::Limited, opening, Verdict::RateLimited),
        case("session of this node", State::Limited, here, Verdict::Local),
        case("away", State::Limited, away, Verdict::ForwardSlot),
        at_control_port(
            "session of this node",
            id_of(service, Session::Here),
            Verdict::RateLimited,
        ),
        at_control_port("no session", id_in(service, slot::HOME, 92), Verdict::RateLimited),
    ]
}

/// Nodes that cannot be reached, and links that are too small.
fn no_way(service: &Service) -> Vec<Case> {
    let id = |slot| id_in(service, slot, 93);
    let case = |name: &str, slot, verdict| {
        let frame = to(service, payload::data(service, &id(slot))).frame();
        Case::new(name, frame, service.index, verdict)
    };
    let mut cases = vec![
        case("owner without a next hop", slot::TO_LOST, Verdict::NoNextHop),
        case("owner that was retracted", slot::TO_ABSENT, Verdict::NoNextHop),
        case("owner behind no link", slot::TO_NO_LINK, Verdict::NoNextHop),
        case("owner beyond the table", slot::TO_BEYOND, Verdict::NoNextHop),
        case("previous owner without a next hop", slot::FROM_LOST, Verdict::NoNextHop),
        case("owner behind a narrow link", slot::TO_NARROW, Verdict::TooBig),
        case("owner behind another interface", slot::TO_FAR, Verdict::ForwardSlot).typical(),
    ];
    let no_room =
        case("metadata where the encapsulation should go", slot::AWAY, Verdict::ForwardSlot);
    cases.push(Case { metadata: 200, ..no_room.but_in_kernel(Verdict::NoHeadroom) });
    cases
}

/// Packets that just fit the links, and ones of a byte more, for an encapsulation of `overhead`
/// bytes.
pub fn at_the_limit(family: Family, overhead: usize) -> Vec<Case> {
    let service = &services(family)[0];
    let id = id_in(service, slot::AWAY, 94);
    let headers = if vip(family).is_ipv4() { 28 } else { 48 };
    let fitting = MTU - overhead - headers;
    let cases = [
        ("just fits the link", fitting, Verdict::ForwardSlot),
        ("is a byte too long for the link", fitting + 1, Verdict::TooBigAnswered),
    ];
    let case = |(name, length, verdict)| {
        let mut payload = payload::data(service, &id);
        payload.resize(length, 0x66);
        let name = format!("client {family:?}: {name}");
        Case::new(name, to(service, payload).frame(), service.index, verdict)
    };
    cases.map(case).into()
}
