//! Packets as other nodes forward them: right ones, stale ones and forged ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane_ebpf::service::ENCAP_PORT;
use dataplane_ebpf::shim::{HOPS, SHIM, Shim};
use dataplane_ebpf::verdict::Verdict;
use dataplane_user::dataplane::services::Service;

use super::from_clients::{mapped, opening, to};
use super::packet::{Packet, shim_bytes};
use super::tables::{
    EPOCH, FAR, LOST, PEER, REVISION, ROW_VERSION, SELF, Session, State, VERSION, id_in, id_of,
    services, slot, underlay,
};
use super::{Case, payload};
use crate::address::Family;

/// A packet that the peer forwarded, as the right one unless a case says otherwise.
#[derive(Clone)]
pub struct Forwarded {
    pub(super) family: Family,
    pub(super) source: IpAddr,
    pub(super) hops: u8,
    pub(super) sender: u16,
    pub(super) revision: u32,
    pub(super) epoch: u32,
    pub(super) version: u64,
    pub(super) second_chance: bool,
    pub(super) inner: Vec<u8>,
}

impl Forwarded {
    pub(super) fn new(family: Family, inner: &Packet) -> Self {
        Self {
            family,
            source: underlay(family, PEER),
            hops: HOPS - 1,
            sender: PEER,
            revision: REVISION,
            epoch: EPOCH,
            version: 0,
            second_chance: false,
            inner: inner.ip_packet(),
        }
    }

    fn shim(&self) -> Vec<u8> {
        let Self { hops, sender, revision, epoch, version, second_chance, .. } = *self;
        shim_bytes(Shim::new(hops, sender, revision, epoch, version, second_chance))
    }

    fn packet(&self) -> Packet {
        self.with_shim(self.shim())
    }

    fn with_shim(&self, shim: Vec<u8>) -> Packet {
        let destination = (underlay(self.family, SELF), ENCAP_PORT);
        Packet::new((self.source, 0xc123), destination, [shim, self.inner.clone()].concat())
    }

    pub(super) fn frame(&self) -> Vec<u8> {
        self.packet().frame()
    }
}

/// All cases of clients of one family behind an underlay of another.
pub fn cases(outer: Family, family: Family) -> Vec<Case> {
    let services = services(family);
    let native = &services[0];
    let mut cases = Vec::new();
    cases.extend(every_protocol(outer, &services));
    cases.extend(epochs_and_versions(outer, native));
    cases.extend(slots(outer, native));
    cases.extend(rows(outer, native));
    cases.extend(forged(outer, native));
    cases.extend(broken_inside(outer, native));
    cases.extend(broken_outside(outer, native));
    cases.extend(conditions(outer, native));
    for case in &mut cases {
        case.name = format!("node {outer:?}, client {family:?}: {}", case.name);
    }
    cases
}

fn every_protocol(outer: Family, services: &[Service]) -> Vec<Case> {
    let mut cases = Vec::new();
    for service in services {
        let mut case = |name: &str, packet: Packet, verdict| {
            let forwarded = Forwarded::new(outer, &packet);
            let name = format!("{}, {name}", service.name);
            cases.push(Case::new(name, forwarded.frame(), service.index, verdict).typical());
        };
        case("session of this node", inner(service, Session::Here), Verdict::Local);
        if service.name != "offset-V4" && service.name != "offset-V6" {
            case("opening", opening(service, slot::HOME, 95), Verdict::New);
        }
        let empty = Forwarded::new(outer, &to(service, Vec::new()));
        let name = format!("{}, empty payload", service.name);
        cases.push(Case::new(name, empty.frame(), service.index, Verdict::NoWireId));
    }
    cases
}

fn inner(service: &Service, session: Session) -> Packet {
    to(service, payload::data(service, &id_of(service, session)))
}

fn epochs_and_versions(outer: Family, service: &Service) -> Vec<Case> {
    let case = |name: &str, session, epoch, version, verdict| {
        let right = Forwarded::new(outer, &inner(service, session));
        let frame = Forwarded { epoch, version, ..right }.frame();
        Case::new(name, frame, service.index, verdict)
    };
    let here = Session::Here;
    vec![
        case("epoch and version not known", here, 0, 0, Verdict::Local),
        case("right epoch and version", here, EPOCH, VERSION, Verdict::Local),
        case("right version, epoch not known", here, 0, VERSION, Verdict::Local),
        case("earlier epoch", here, EPOCH - 1, VERSION, Verdict::ShimEpochOld),
        case("later epoch", here, EPOCH + 1, VERSION, Verdict::ShimEpochNew),
        case("epoch of all ones", here, u32::MAX, VERSION, Verdict::ShimEpochNew),
        case("older version", here, EPOCH, VERSION - 1, Verdict::ShimVersionOld),
        case("newer version", here, EPOCH, VERSION + 1, Verdict::ShimVersionNew),
        case("version of all ones", here, EPOCH, u64::MAX, Verdict::ShimVersionNew),
        case("entry of an earlier epoch", Session::OldEpoch, EPOCH, 0, Verdict::EntryEpoch),
        case("torn version, compared", Session::TornVersion, EPOCH, VERSION, Verdict::EntryTorn),
        case("torn version, not compared", Session::TornVersion, EPOCH, 0, Verdict::Local),
        case("torn words", Session::TornWords, EPOCH, VERSION, Verdict::EntryTorn),
        case("second chance that hits", Session::Stayed, EPOCH, 0, Verdict::Local),
        case("held", Session::Held, EPOCH, VERSION, Verdict::Held).typical(),
        case("held, nothing known", Session::Held, 0, 0, Verdict::Held),
        case("held, earlier epoch", Session::Held, EPOCH - 1, VERSION, Verdict::ShimEpochOld),
        case("held, later epoch", Session::Held, EPOCH + 1, VERSION, Verdict::ShimEpochNew),
        case("held, older version", Session::Held, EPOCH, VERSION - 1, Verdict::ShimVersionOld),
        case("held, newer version", Session::Held, EPOCH, VERSION + 1, Verdict::ShimVersionNew),
        case(
            "held, entry of an earlier epoch",
            Session::HeldOldEpoch,
            EPOCH,
            0,
            Verdict::EntryEpoch,
        ),
        case("held, torn version, compared", Session::TornHeld, EPOCH, VERSION, Verdict::EntryTorn),
        case("held, torn version, not compared", Session::TornHeld, EPOCH, 0, Verdict::Held),
        case("no queue", Session::NoQueue, EPOCH, 0, Verdict::Local).but_in_kernel(Verdict::NoCpu),
    ]
}

fn slots(outer: Family, service: &Service) -> Vec<Case> {
    struct Sent {
        revision: u32,
        second_chance: bool,
        hops: u8,
    }
    const NOW: Sent = Sent { revision: REVISION, second_chance: false, hops: HOPS - 1 };
    const BEFORE: Sent = Sent { revision: REVISION - 1, ..NOW };
    const LATER: Sent = Sent { revision: REVISION + 1, ..NOW };
    const SECOND: Sent = Sent { second_chance: true, ..NOW };
    let case = |name: &str, slot, sent: &Sent, verdict| {
        let packet = to(service, payload::data(service, &id_in(service, slot, 96)));
        let Sent { revision, second_chance, hops } = *sent;
        let right = Forwarded::new(outer, &packet);
        let frame = Forwarded { revision, second_chance, hops, ..right }.frame();
        Case::new(name, frame, service.index, verdict)
    };
    let opening = |name: &str, slot, revision, verdict| {
        let packet = self::opening(service, slot, 96);
        let frame = Forwarded { revision, ..Forwarded::new(outer, &packet) }.frame();
        Case::new(name, frame, service.index, verdict)
    };
    let last = |sent: Sent| Sent { hops: 0, ..sent };
    use Verdict::*;
    vec![
        case("unknown at home", slot::HOME, &NOW, NoSession),
        case("unknown at home, by an older placement", slot::HOME, &BEFORE, NoSession),
        case("unknown at home, by a later placement", slot::HOME, &LATER, PlacementOld),
        case("unknown at home, second chance", slot::HOME, &SECOND, SecondChanceMissed),
        case("moved in", slot::MOVED_IN, &NOW, SecondChance).typical(),
        case("moved in, by a later placement", slot::MOVED_IN, &LATER, PlacementOld),
        case("moved in, second chance", slot::MOVED_IN, &SECOND, SecondChanceMissed),
        case("moved in, no hop left", slot::MOVED_IN, &last(NOW), HopLimit),
        case("away", slot::AWAY, &NOW, NotNewer),
        case("away, by a later placement", slot::AWAY, &LATER, NotNewer),
        case("away, by an older placement", slot::AWAY, &BEFORE, ForwardSlot).typical(),
        case("away, no hop left", slot::AWAY, &last(BEFORE), HopLimit),
        case("away, second chance", slot::AWAY, &SECOND, SecondChanceMissed),
        case("moved out, second chance", slot::MOVED_OUT, &SECOND, SecondChanceMissed),
        case("nobody's", slot::NOBODY, &NOW, NotNewer),
        case("nobody's, by an older placement", slot::NOBODY, &BEFORE, NoOwner),
        case("no way, by an older placement", slot::TO_LOST, &BEFORE, NoNextHop),
        case("too big, by an older placement", slot::TO_NARROW, &BEFORE, TooBig),
        case("far, by an older placement", slot::TO_FAR, &BEFORE, ForwardSlot),
        opening("opening at home", slot::HOME, REVISION, New),
        opening("opening at home, by a later placement", slot::HOME, REVISION + 1, PlacementOld),
        opening("opening in a slot that moved in", slot::MOVED_IN, REVISION, New),
        opening("opening away", slot::AWAY, REVISION, NotNewer),
    ]
}

fn rows(outer: Family, service: &Service) -> Vec<Case> {
    let case = |name: &str, session, version, hops, verdict| {
        let right = Forwarded::new(outer, &inner(service, session));
        let frame = Forwarded { version, hops, ..right }.frame();
        Case::new(name, frame, service.index, verdict)
    };
    let before = ROW_VERSION - 1;
    vec![
        case("row, version not known", Session::Row, 0, 3, Verdict::ForwardRow).typical(),
        case("row, older version", Session::Row, before, 1, Verdict::ForwardRow),
        case("row, same version", Session::Row, ROW_VERSION, 3, Verdict::NotNewer),
        case("row, newer version", Session::Row, ROW_VERSION + 1, 3, Verdict::NotNewer),
        case("row, no hop left", Session::Row, before, 0, Verdict::HopLimit),
        case("row without a next hop", Session::RowLost, before, 3, Verdict::NoNextHop),
        case("torn row", Session::TornRow, before, 3, Verdict::EntryTorn),
    ]
}

fn forged(outer: Family, service: &Service) -> Vec<Case> {
    let right = Forwarded::new(outer, &inner(service, Session::Here));
    let case = |name: &str, frame: Vec<u8>, verdict| Case::new(name, frame, 0, verdict);
    let stranger = match outer {
        Family::V4 => Ipv4Addr::new(10, 1, 0, 77).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 77).into(),
    };
    let mut cases = Vec::new();
    for sender in [0, 9, 4_095, 4_096, u16::MAX, FAR, LOST, SELF, super::tables::ABSENT] {
        let frame = Forwarded { sender, ..right.clone() }.frame();
        cases.push(case(&format!("sent by {sender}"), frame, Verdict::ShimSender));
    }
    let source = |source| Forwarded { source, ..right.clone() }.frame();
    cases.push(case("from a stranger's address", source(stranger), Verdict::ShimSender));
    let absent = super::tables::ABSENT;
    let retracted = Forwarded { sender: absent, source: underlay(outer, absent), ..right.clone() };
    cases.push(case("from a retracted node", retracted.frame(), Verdict::ShimSender));
    let far = Forwarded { sender: FAR, source: underlay(outer, FAR), ..right.clone() };
    cases.push(case("on the other node's interface", far.frame(), Verdict::ShimInterface));
    let mut elsewhere = case("on the wrong interface", right.frame(), Verdict::ShimInterface);
    elsewhere.elsewhere = true;
    cases.push(elsewhere);
    let mut far_elsewhere = Case::new(
        "from the node behind the other interface",
        far.frame(),
        service.index,
        Verdict::Local,
    );
    far_elsewhere.elsewhere = true;
    cases.push(far_elsewhere);
    cases
}

/// Shims and inner packets that cannot be read, or that no node would send.
fn broken_inside(outer: Family, service: &Service) -> Vec<Case> {
    let packet = inner(service, Session::Here);
    let right = Forwarded::new(outer, &packet);
    let case = |name: &str, frame: Vec<u8>, verdict| Case::new(name, frame, 0, verdict);
    let malformed = |name: &str, frame| case(name, frame, Verdict::ShimMalformed);
    let patched = |at: usize, value: u8| {
        let mut shim = right.shim();
        shim[at] = value;
        right.with_shim(shim).frame()
    };
    let around = |packet: Packet| Forwarded::new(outer, &packet).frame();
    let raw = |inner: Vec<u8>| Forwarded { inner, ..right.clone() }.frame();
    let shim_only = |length: usize| {
        let mut packet = right.packet();
        packet.payload.truncate(length);
        packet.frame()
    };
    let mut cases = vec![
        malformed("shim of version 0", patched(0, 0x00)),
        malformed("shim of version 2", patched(0, 0x20)),
        malformed("as many hops left as there are", patched(1, HOPS)),
        malformed("255 hops left", patched(1, 255)),
        malformed("no shim", shim_only(0)),
        malformed("half a shim", shim_only(SHIM / 2)),
        malformed("a shim but its last byte", shim_only(SHIM - 1)),
        malformed("a shim alone", shim_only(SHIM)),
        malformed("one byte behind the shim", shim_only(SHIM + 1)),
        malformed("inner packet of IP version 0", raw(vec![0; 60])),
        malformed("inner packet of TCP", around(Packet { protocol: 6, ..packet.clone() })),
        malformed("inner packet to another port", around(Packet { port: 9, ..packet.clone() })),
        malformed("inner packet to port 0", around(Packet { port: 0, ..packet.clone() })),
        malformed("a forwarded packet in a forwarded packet", around(right.packet())),
    ];
    for (name, at, value) in
        [("flags", 0, 0x1e), ("reserved bytes", 12, 0xff), ("authentication tag", 24, 0xff)]
    {
        let name = format!("{name} of a later version");
        cases.push(Case::new(name, patched(at, value), service.index, Verdict::Local));
    }
    let (ip, udp) = (0, packet.udp() - packet.ip());
    let put = |at: usize, value: u16| {
        let mut inner = packet.ip_packet();
        inner[at..at + 2].copy_from_slice(&value.to_be_bytes());
        raw(inner)
    };
    let length = packet.ip_packet().len() as u16;
    let wrong = |name: &str, frame| case(name, frame, Verdict::Malformed);
    cases.push(wrong("inner UDP length 7", put(udp + 4, 7)));
    cases.push(wrong("inner UDP longer than its packet", put(udp + 4, length)));
    if packet.destination.is_ipv4() {
        cases.push(wrong("inner packet longer than the shim's", put(ip + 2, length + 1)));
        cases.push(case("inner fragment", put(ip + 6, 0x2000), Verdict::Fragment));
        let inner = Packet { options: 4, ..packet.clone() };
        let frame = around(inner);
        cases.push(Case::new("inner options", frame, service.index, Verdict::Local).typical());
    } else {
        cases.push(wrong("inner packet longer than the shim's", put(ip + 4, length - 39)));
        let with = |extensions| around(Packet { extensions, ..packet.clone() });
        let fragment = with(vec![(44, vec![0, 0, 1, 1, 2, 3, 4])]);
        cases.push(case("inner fragment", fragment, Verdict::Fragment));
        let five = with(vec![(60, vec![0; 7]); 5]);
        cases.push(case("five inner extension headers", five, Verdict::ExtensionHeaders));
        let four = with(vec![(60, vec![0; 7]); 4]);
        let four = Case::new("four inner extension headers", four, service.index, Verdict::Local);
        cases.push(four.typical());
    }
    let mut longer = right.packet();
    longer.payload.extend([7; 9]);
    let name = "bytes behind the inner packet";
    cases.push(Case::new(name, longer.frame(), service.index, Verdict::Local));
    let bare = Packet { checksum: false, ..packet };
    cases.push(Case::new("no inner checksum", around(bare), service.index, Verdict::Local));
    cases
}

/// Outer headers as no node sends them.
fn broken_outside(outer: Family, service: &Service) -> Vec<Case> {
    let packet = Forwarded::new(outer, &inner(service, Session::Here)).packet();
    let case = |name: &str, packet: Packet, service, verdict| {
        Case::new(name, packet.frame(), service, verdict)
    };
    let refused = |name: &str, packet| case(name, packet, 0, Verdict::ShimMalformed);
    let mut cases = vec![
        refused("outer VLAN tag", Packet { tags: vec![0x8100], ..packet.clone() }),
        case("another outer port", Packet { port: 7_472, ..packet.clone() }, 0, Verdict::Pass),
        case(
            "outer padding",
            Packet { padding: 11, ..packet.clone() },
            service.index,
            Verdict::Local,
        ),
        case(
            "no outer checksum",
            Packet { checksum: false, ..packet.clone() },
            service.index,
            Verdict::Local,
        ),
        case(
            "bytes behind outer UDP",
            Packet { rest: 5, ..packet.clone() },
            service.index,
            Verdict::Local,
        ),
    ];
    // Broken packets to an address without a service are the kernel's business.
    match outer {
        Family::V4 => {
            // Five words make the header as long as one of IPv6.
            for options in [1, 5, 10] {
                let packet = Packet { options, ..packet.clone() };
                cases.push(refused(&format!("{options} words of outer options"), packet));
            }
            let [source, destination] = [packet.source, packet.destination].map(mapped);
            let foreign = Packet { source, destination, ..packet.clone() };
            cases.push(case("outer IPv6 that stands for IPv4", foreign, 0, Verdict::Pass));
            let fragment = Packet { fragment: 0x2000, ..packet };
            cases.push(case("outer fragment", fragment, 0, Verdict::Pass));
        }
        Family::V6 => {
            let with = |extensions| Packet { extensions, ..packet.clone() };
            cases.push(refused("outer extension header", with(vec![(60, vec![0; 7])])));
            let fragment = with(vec![(44, vec![0, 0, 1, 1, 2, 3, 4])]);
            cases.push(case("outer fragment", fragment, 0, Verdict::Pass));
        }
    }
    cases
}

fn conditions(outer: Family, service: &Service) -> Vec<Case> {
    let case = |name: &str, state, session, verdict| {
        let frame = Forwarded::new(outer, &inner(service, session)).frame();
        Case::new(format!("{state:?}: {name}"), frame, service.index, verdict).when(state)
    };
    let opening = Forwarded::new(outer, &opening(service, slot::HOME, 97));
    let opens = |state, verdict| {
        Case::new(format!("{state:?}: opening"), opening.frame(), service.index, verdict)
            .when(state)
    };
    vec![
        case("session of this node", State::Shut, Session::Here, Verdict::FenceShut),
        case("row", State::Shut, Session::Row, Verdict::ForwardRow),
        case("session of this node", State::NotReady, Session::Here, Verdict::NotReady),
        opens(State::Shut, Verdict::FenceShut),
        opens(State::NoCpu, Verdict::NoCpu),
    ]
}
