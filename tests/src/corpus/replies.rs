//! Packets as a node sends them, and what becomes of each at egress.

use std::net::IpAddr;

use dataplane_ebpf::dissect::native::{Header, TYPE_CONTROL, TYPE_DATA, TYPE_OPEN, TYPE_OPENED};
use dataplane_ebpf::service::ENCAP_PORT;
use dataplane_ebpf::verdict::Egress;
use dataplane_user::dataplane::services::{Protocol, Service};

use super::bound;
use super::from_clients::{client, mapped};
use super::packet::Packet;
use super::payload;
use super::tables::{PEER, SELF, Session, State, id_in, id_of, services, slot, underlay};
use crate::address::Family;

/// A packet that is sent, and what becomes of it.
#[derive(Clone, Debug)]
pub struct Reply {
    /// What is special about it; unique in a corpus.
    pub name: String,
    /// The frame.
    pub frame: Vec<u8>,
    /// Where its IP header starts.
    pub ip: usize,
    /// The node's condition; in [`State::Shut`] by the exact clock, too.
    pub state: State,
    /// What is counted.
    pub egress: Egress,
    /// The service it is counted for; 0 if none.
    pub service: u16,
    /// Whether it stands for its kind: cut short at every byte both sides must agree.
    pub typical: bool,
}

impl Reply {
    /// A packet that is sent while all is well.
    pub fn new(name: impl Into<String>, packet: &Packet, service: u16, egress: Egress) -> Self {
        Self {
            name: name.into(),
            frame: packet.frame(),
            ip: packet.ip(),
            state: State::Ready,
            egress,
            service,
            typical: false,
        }
    }

    /// The same, to be tried cut short too.
    #[must_use]
    pub fn typical(self) -> Self {
        Self { typical: true, ..self }
    }

    /// The same in another condition of the node.
    #[must_use]
    pub fn when(self, state: State) -> Self {
        Self { state, ..self }
    }

    /// The same with more of a name.
    #[must_use]
    pub fn named(self, more: &str) -> Self {
        Self { name: format!("{}, {more}", self.name), ..self }
    }
}

/// A packet from a service's data port to a client.
pub fn from(service: &Service, payload: Vec<u8>) -> Packet {
    let address = service.address;
    Packet::new((address.ip(), address.port()), client(Family::of(address.ip())), payload)
}

/// All cases of a family, on a node known by an address of the family `underlay`.
pub fn cases(underlay: Family, family: Family) -> Vec<Reply> {
    let services = services(family);
    let native = &services[0];
    let mut cases = sessions(native);
    cases.extend(kinds(native));
    cases.extend(without_names(&services));
    cases.extend(shapes(native));
    cases.extend(broken(native));
    cases.extend(not_ours(underlay, native));
    cases.extend(conditions(&services));
    for case in &mut cases {
        case.name = format!("reply {family:?}: {}", case.name);
    }
    cases.extend(bound::replies(family));
    cases
}

/// The header names a session.
fn sessions(native: &Service) -> Vec<Reply> {
    let case = |session, egress| {
        let packet = from(native, payload::native(TYPE_DATA, &id_of(native, session)));
        Reply::new(format!("{session:?}"), &packet, native.index, egress)
    };
    let unknown = |name: &str, slot| {
        let packet = from(native, payload::native(TYPE_DATA, &id_in(native, slot, 90)));
        Reply::new(format!("unknown, slot {name}"), &packet, native.index, Egress::NoSession)
    };
    vec![
        case(Session::Here, Egress::Passed).typical(),
        case(Session::HereFromAway, Egress::Passed),
        case(Session::Stayed, Egress::Passed),
        case(Session::NoQueue, Egress::Passed),
        case(Session::TornVersion, Egress::Passed),
        case(Session::OldEpoch, Egress::OldEpoch),
        case(Session::Row, Egress::NotOwner).typical(),
        case(Session::RowLost, Egress::NotOwner),
        case(Session::Held, Egress::Passed),
        case(Session::HeldOldEpoch, Egress::OldEpoch),
        case(Session::HeldNotOurs, Egress::NotOwner).typical(),
        case(Session::TornWords, Egress::Torn),
        case(Session::TornBits, Egress::Torn),
        unknown("home", slot::HOME).typical(),
        unknown("home, no rows", slot::HOME_EMPTY),
        unknown("moved in", slot::MOVED_IN),
        unknown("away", slot::AWAY),
    ]
}

/// Types of the native header, with and without the fields that servers add.
fn kinds(native: &Service) -> Vec<Reply> {
    let session: [u8; 16] = id_of(native, Session::Here).try_into().expect("16 bytes");
    let case = |kind, owner, egress| {
        let (bytes, length) = Header { kind, session, owner }.encode();
        let packet = from(native, [&bytes[..length], b"x"].concat());
        Reply::new(format!("type {kind}, owner {owner:?}"), &packet, native.index, egress)
    };
    let whole = payload::native(TYPE_DATA, &session);
    let cut = |length: usize, egress| {
        let packet = Packet { padding: 60, ..from(native, whole[..length].to_vec()) };
        Reply::new(format!("payload of {length} bytes"), &packet, native.index, egress)
    };
    let mut version = whole.clone();
    version[0] = 0x20;
    vec![
        case(TYPE_DATA, None, Egress::Passed),
        case(TYPE_DATA, Some((5, 7)), Egress::Passed),
        case(TYPE_OPENED, Some((5, 7)), Egress::Passed),
        case(TYPE_OPEN, None, Egress::NoWireId),
        case(TYPE_CONTROL, Some((5, 7)), Egress::NoWireId),
        case(9, None, Egress::NoWireId),
        cut(0, Egress::NoWireId),
        cut(19, Egress::NoWireId),
        cut(20, Egress::Passed),
        Reply::new("version 2", &from(native, version), native.index, Egress::NoWireId),
    ]
}

/// Replies that name no session: of other protocols, and of control ports.
fn without_names(services: &[Service]) -> Vec<Reply> {
    let mut cases = Vec::new();
    for service in services {
        if service.protocol != Protocol::Native {
            let name = format!("{}, anything", service.name);
            let packet = from(service, b"anything".to_vec());
            cases.push(Reply::new(name, &packet, service.index, Egress::Passed).typical());
        }
        if let Some(port) = service.control_port {
            for session in [Session::Here, Session::Row, Session::Unknown] {
                let id: Vec<u8> = (0..16).map(|at| at ^ session as u8).collect();
                let packet = Packet { source_port: port, ..from(service, payload::control(&id)) };
                let name = format!("{}, control port, {session:?}", service.name);
                cases.push(Reply::new(name, &packet, service.index, Egress::Passed));
            }
        }
    }
    cases
}

/// Unusual but right frames of a session of this node, and of another node's.
fn shapes(native: &Service) -> Vec<Reply> {
    let mut cases = Vec::new();
    for (session, egress) in [(Session::Here, Egress::Passed), (Session::Row, Egress::NotOwner)] {
        let packet = from(native, payload::native(TYPE_DATA, &id_of(native, session)));
        let mut push = |name: &str, packet: Packet| {
            let name = format!("{name}, {}", egress.name());
            cases.push(Reply::new(name, &packet, native.index, egress).typical());
        };
        push("one tag", Packet { tags: vec![0x8100], ..packet.clone() });
        push("two tags", Packet { tags: vec![0x88a8, 0x8100], ..packet.clone() });
        push("padding", Packet { padding: 20, ..packet.clone() });
        push("no checksum", Packet { checksum: false, ..packet.clone() });
        push("bytes behind UDP", Packet { rest: 9, ..packet.clone() });
        if packet.source.is_ipv4() {
            push("options", Packet { options: 10, ..packet.clone() });
            push("may be fragmented", Packet { fragment: 0, ..packet.clone() });
            push("first fragment", Packet { fragment: 0x2000, ..packet.clone() });
        } else {
            let with = |extensions| Packet { extensions, ..packet.clone() };
            push("destination options", with(vec![(60, [vec![1], vec![0; 14]].concat())]));
            push("atomic fragment", with(vec![(44, vec![0, 0, 0, 1, 2, 3, 4])]));
            push("first fragment", with(vec![(44, vec![0, 0, 1, 1, 2, 3, 4])]));
        }
    }
    cases
}

/// Frames from a service's address that cannot be followed.
fn broken(native: &Service) -> Vec<Reply> {
    let packet = from(native, payload::native(TYPE_DATA, &id_of(native, Session::Here)));
    let (ip, udp) = (packet.ip(), packet.udp());
    let unreadable = |name: &str, at: usize, bytes: &[u8]| {
        let mut case = Reply::new(name, &packet, native.index, Egress::Unreadable);
        case.frame[at..at + bytes.len()].copy_from_slice(bytes);
        case
    };
    let mut cases = vec![
        unreadable("UDP length 0", udp + 4, &[0, 0]),
        unreadable("UDP length 7", udp + 4, &[0, 7]),
    ];
    if packet.source.is_ipv4() {
        cases.push(unreadable("IP version 5", ip, &[0x55]));
        cases.push(unreadable("IPv4 header of 16 bytes", ip, &[0x44]));
        cases.push(unreadable("IPv4 packet shorter than its header", ip + 2, &[0, 19]));
    } else {
        cases.push(unreadable("IP version 5", ip, &[0x50]));
        let five = vec![(0, vec![0; 7]); 5];
        let packet = Packet { extensions: five, ..packet.clone() };
        let name = "five extension headers";
        cases.push(Reply::new(name, &packet, native.index, Egress::Unreadable).typical());
    }
    cases
}

/// Frames that are nobody's business.
fn not_ours(underlay_family: Family, native: &Service) -> Vec<Reply> {
    let packet = from(native, payload::native(TYPE_DATA, &id_of(native, Session::Row)));
    let other = |name: &str, packet: Packet| Reply::new(name, &packet, 0, Egress::Other);
    let to_service = Packet::new(
        (packet.destination, packet.port),
        (packet.source, packet.source_port),
        packet.payload.clone(),
    );
    let nodes = [SELF, PEER].map(|node| (underlay(underlay_family, node), ENCAP_PORT));
    let forwarded = Packet::new(nodes[0], nodes[1], b"a shim".to_vec());
    let mut arp = other("ARP", packet.clone());
    arp.frame[12..14].copy_from_slice(&[0x08, 0x06]);
    let mut cases = vec![
        other("to a service", to_service),
        other("another port", Packet { source_port: 4_002, ..packet.clone() }),
        other("port 0", Packet { source_port: 0, ..packet.clone() }),
        other("three tags", Packet { tags: vec![0x8100; 3], ..packet.clone() }),
        other("from a node to a node", forwarded).typical(),
        // Shows no port, and is nothing without the first.
        other(
            "later fragment",
            match packet.source {
                IpAddr::V4(_) => Packet { fragment: 0x2001, ..packet.clone() },
                IpAddr::V6(_) => {
                    let extensions = vec![(44, vec![0, 0, 9, 1, 2, 3, 4])];
                    Packet { extensions, ..packet.clone() }
                }
            },
        ),
        arp,
    ];
    if packet.source.is_ipv4() {
        let [source, destination] = [packet.source, packet.destination].map(mapped);
        cases.push(other(
            "IPv6 from addresses that stand for IPv4",
            Packet { source, destination, ..packet.clone() },
        ));
    }
    for (name, protocol) in [("TCP", 6), ("ICMP", 1), ("ICMPv6", 58)] {
        cases.push(other(name, Packet { protocol, ..packet.clone() }));
    }
    cases
}

/// The lease has run out, or the tables are not filled.
fn conditions(services: &[Service]) -> Vec<Reply> {
    let mut cases = Vec::new();
    for service in services {
        let packet = from(service, payload::data(service, &id_of(service, Session::Here)));
        let index = service.index;
        let case = |name: &str, packet: &Packet, egress| {
            Reply::new(format!("shut: {}, {name}", service.name), packet, index, egress)
                .when(State::Shut)
        };
        cases.push(case("session of this node", &packet, Egress::Shut).typical());
        if let Some(port) = service.control_port {
            let control = Packet { source_port: port, ..packet.clone() };
            cases.push(case("control port", &control, Egress::Shut));
        }
        if service.protocol == Protocol::Native {
            let opened = payload::native(TYPE_OPENED, &id_of(service, Session::Unknown));
            cases.push(case("unknown session", &from(service, opened), Egress::Shut));
            let other = Packet { source_port: 9, ..packet.clone() };
            let name = "shut: not from a service";
            cases.push(Reply::new(name, &other, 0, Egress::Other).when(State::Shut));
            let name = "no tables: session of this node";
            let case = Reply::new(name, &packet, index, Egress::NotReady);
            cases.push(case.when(State::NotReady));
        }
    }
    cases
}
