//! Services that enforce bindings: packets from the session's client and from others, and replies
//! to them.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::binding::{Binding, BindingRow};
use dataplane_ebpf::table::{Entry, Place, WAYS, bits_for};
use dataplane_ebpf::tables::{Lookup, Tables, lookup};
use dataplane_ebpf::verdict::{Egress, Verdict};
use dataplane_ebpf::wire_id::{Key, WireId};
use dataplane_ebpf::word::MapWord;
use dataplane_user::dataplane::Dataplane;
use dataplane_user::dataplane::services::{Delivery, Limits, Protocol, Service};

use super::from_clients::{client, to};
use super::from_nodes::Forwarded;
use super::icmp::Error;
use super::packet::Packet;
use super::replies::{self, Reply};
use super::tables::{EPOCH, PEER, SESSIONS, State, VERSION, id_in, slot};
use super::{Case, payload};
use crate::address::{Family, vip};

/// Sessions of such a service, by how they are bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Session {
    /// To the client that sends.
    Client = 1,
    /// To its address, but another port.
    OtherPort,
    /// To another address, with its port.
    OtherAddress,
    /// To nobody.
    Nobody,
    /// The words of its binding are of two changes.
    TornChange,
    /// The words of its binding are of another generation.
    TornGeneration,
    /// To a client; its entry is of an earlier epoch.
    OldEpoch,
    /// To a client; moved to the peer.
    Moved,
    /// To a client; its entry is being replaced.
    TornEntry,
    /// To a client that nobody has forgotten since it was closed and another took its way.
    Closed,
}

impl Session {
    const ALL: [Self; 10] = [
        Self::Client,
        Self::OtherPort,
        Self::OtherAddress,
        Self::Nobody,
        Self::TornChange,
        Self::TornGeneration,
        Self::OldEpoch,
        Self::Moved,
        Self::TornEntry,
        Self::Closed,
    ];

    fn key(self, service: &Service) -> Key {
        let id = id_in(service, slot::HOME, self as u8);
        WireId::from_bytes(&id).expect("4 to 20 bytes").key(service.seed())
    }

    /// The client that it is bound to; each session of a service has its own.
    fn client(self, family: Family) -> Option<SocketAddr> {
        let (address, port) = client(family);
        let other = match family {
            Family::V4 => "203.0.113.10",
            Family::V6 => "2001:db8:99::a",
        };
        match self {
            Self::Nobody => None,
            Self::Client => Some((address, port).into()),
            Self::OtherAddress => Some((other.parse::<IpAddr>().expect("an address"), port).into()),
            _ => Some((address, port + self as u16).into()),
        }
    }
}

/// A native service and one of QUIC, whose replies are told by the client.
pub fn services(family: Family) -> [Service; 2] {
    let first = match family {
        Family::V4 => 58,
        Family::V6 => 60,
    };
    let service = |index, port, control_port, protocol| Service {
        index,
        name: format!("bound-{index}"),
        address: (vip(family), port).into(),
        control_port,
        protocol,
        enforces_binding: true,
        limits: Limits::default(),
        delivery: Delivery::Socket,
        cluster_seed: 7,
    };
    [
        service(first, 6100, Some(6101), Protocol::Native),
        service(first + 1, 6102, None, Protocol::Quic { id_length: 8 }),
    ]
}

/// Fills the tables.
pub fn fill(dataplane: &mut Dataplane, family: Family) -> Result<()> {
    for service in services(family) {
        for session in Session::ALL {
            fill_in(dataplane, &service, session, family)
                .with_context(|| format!("{session:?} of {}", service.name))?;
        }
    }
    Ok(())
}

fn fill_in(
    dataplane: &mut Dataplane,
    service: &Service,
    session: Session,
    family: Family,
) -> Result<()> {
    let key = session.key(service);
    let place = match session {
        Session::Moved => Place::Remote { node: PEER },
        _ => Place::Local { cpu: 0 },
    };
    let epoch = if session == Session::OldEpoch { EPOCH - 1 } else { EPOCH };
    let entry = Entry { place, epoch };
    dataplane.insert(key, entry, VERSION)?;
    let client = session.client(family);
    ensure!(dataplane.set_binding(key, client));
    if let Some(client) = client {
        dataplane.set_client(client, service.seed(), key)?;
    }
    let Lookup::Hit { detail, generation, .. } =
        lookup(&dataplane.memory, key.hash, bits_for(SESSIONS))
    else {
        anyhow::bail!("just inserted, but not there");
    };
    let memory = &mut dataplane.memory;
    let word = |change: u64, generation: u16| MapWord::new(change << 16 | u64::from(generation));
    match session {
        Session::TornChange => {
            let words = [1, 1, 2, 1].map(|change| word(change, generation));
            memory.bindings.set(detail as usize, BindingRow::from_words(words));
        }
        Session::TornGeneration => {
            let words = [(); 4].map(|()| word(0, generation.wrapping_sub(1)));
            memory.bindings.set(detail as usize, BindingRow::from_words(words));
        }
        Session::TornEntry => {
            let bucket = memory.bucket(detail / WAYS as u32).context("the entry's bucket")?;
            bucket.update((detail % WAYS as u32) as u8, 0);
        }
        Session::Closed => {
            ensure!(dataplane.remove(key));
            dataplane.insert(key, entry, VERSION)?;
            let row = dataplane.memory.binding(detail).context("its row")?;
            ensure!(row.get(generation.wrapping_add(1)) == Some(Binding::NONE), "bound anew");
        }
        _ => {}
    }
    Ok(())
}

/// What clients send.
pub fn cases(family: Family) -> Vec<Case> {
    let mut cases = Vec::new();
    let [native, quic] = services(family);
    for service in [&native, &quic] {
        let case = |session: Session, verdict| {
            let id = id_in(service, slot::HOME, session as u8);
            let frame = to(service, payload::data(service, &id)).frame();
            let name = format!("client {family:?}: {}, {session:?}", service.name);
            Case::new(name, frame, service.index, verdict)
        };
        cases.extend([
            case(Session::Client, Verdict::Local).typical(),
            case(Session::OtherPort, Verdict::TransportOld).typical(),
            case(Session::OtherAddress, Verdict::TransportOld),
            case(Session::Nobody, Verdict::Unbound),
            case(Session::TornChange, Verdict::EntryTorn),
            case(Session::TornGeneration, Verdict::EntryTorn),
            case(Session::OldEpoch, Verdict::EntryEpoch),
            case(Session::Moved, Verdict::ForwardRow),
        ]);
        let mut shut = case(Session::OtherPort, Verdict::FenceShut).when(State::Shut);
        shut.name += ", shut";
        cases.push(shut);
    }
    // Whoever attaches again comes from elsewhere.
    for session in [Session::Client, Session::OtherAddress, Session::Nobody] {
        let id = id_in(&native, slot::HOME, session as u8);
        let packet = Packet { port: 6101, ..to(&native, payload::control(&id)) };
        let name = format!("client {family:?}: {}, control port, {session:?}", native.name);
        cases.push(Case::new(name, packet.frame(), native.index, Verdict::Local));
    }
    cases
}

/// What routers say about packets of the QUIC service that name no session.
pub fn errors(outer: Family, family: Family) -> Vec<Case> {
    let [native, quic] = services(family);
    let about = |service: &Service, client: SocketAddr| {
        let payload = payload::quic_short(0x40, &[9; 8]);
        let packet = replies::from(service, payload);
        Error::about(&Packet { destination: client.ip(), port: client.port(), ..packet })
    };
    let case = |session: Session, verdict| {
        let client = session.client(family).expect("bound to a client");
        let frame = about(&quic, client).ip_packet().frame();
        let name = format!("ICMP {family:?}: {}, to {session:?}", quic.name);
        Case::new(name, frame, quic.index, verdict)
    };
    let (address, port) = client(family);
    let stranger = about(&quic, SocketAddr::new(address, port ^ 0x4000));
    let to_client = about(&quic, SocketAddr::new(address, port));
    let forwarded = Forwarded::new(outer, &to_client.ip_packet());
    let named = |what: &str| format!("ICMP {family:?}: {}, {what}", quic.name);
    let mut cases = vec![
        case(Session::Client, Verdict::IcmpLocal).typical(),
        case(Session::OtherPort, Verdict::IcmpLocal),
        case(Session::OtherAddress, Verdict::IcmpLocal),
        case(Session::OldEpoch, Verdict::EntryEpoch),
        case(Session::Moved, Verdict::IcmpUnknown),
        case(Session::TornEntry, Verdict::IcmpUnknown),
        case(Session::Closed, Verdict::IcmpUnknown),
        case(Session::Client, Verdict::FenceShut).when(State::Shut),
        Case::new(
            named("to a stranger"),
            stranger.ip_packet().frame(),
            quic.index,
            Verdict::IcmpUnknown,
        ),
        // Nodes do not ask each other about clients.
        Case::new(named("forwarded"), forwarded.frame(), quic.index, Verdict::NoWireId),
    ];
    if family == Family::V4 {
        let mut packet = replies::from(&quic, payload::quic_short(0x40, &[9; 8]));
        (packet.destination, packet.port, packet.options) = (address, port, 10);
        let frame = Error::about(&packet).ip_packet().frame();
        let name = named("quotes options");
        cases.push(Case::new(name, frame, quic.index, Verdict::IcmpLocal));
    }
    // A daemon lets nothing lead from clients of such a service to sessions; here something does.
    let name = format!("ICMP {family:?}: {}, without an id", native.name);
    let frame = about(&native, (address, port).into()).ip_packet().frame();
    cases.push(Case::new(name, frame, native.index, Verdict::IcmpLocal));
    for case in &mut cases {
        if case.state == State::Shut {
            case.name += ", shut";
        }
    }
    cases
}

/// What the QUIC service sends.
pub fn replies(family: Family) -> Vec<Reply> {
    let [_, quic] = services(family);
    let case = |session: Session, egress| {
        let client = session.client(family).expect("bound to a client");
        let packet = replies::from(&quic, b"anything".to_vec());
        let packet = Packet { destination: client.ip(), port: client.port(), ..packet };
        let name = format!("reply {family:?}: {}, to {session:?}", quic.name);
        Reply::new(name, &packet, quic.index, egress)
    };
    let stranger = Packet { port: 9, ..replies::from(&quic, b"anything".to_vec()) };
    let name = format!("reply {family:?}: {}, to a stranger", quic.name);
    vec![
        case(Session::Client, Egress::Passed).typical(),
        case(Session::OtherPort, Egress::Passed),
        case(Session::OtherAddress, Egress::Passed),
        case(Session::OldEpoch, Egress::OldEpoch),
        case(Session::Moved, Egress::NotOwner),
        case(Session::TornEntry, Egress::Torn),
        case(Session::Closed, Egress::NoSession),
        Reply::new(name, &stranger, quic.index, Egress::NoSession),
        case(Session::Client, Egress::Shut).when(State::Shut).named("shut"),
        case(Session::Client, Egress::NotReady).when(State::NotReady).named("no tables"),
    ]
}
