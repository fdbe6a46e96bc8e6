//! The node of the corpus: its services, its slots and its sessions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use dataplane_ebpf::limit::{self, Limit};
use dataplane_ebpf::local::Fence;
use dataplane_ebpf::node::{LinkRow, NextHop, NodeRow};
use dataplane_ebpf::service::{SERVICE_ROWS, SERVICES, ServiceRow, kind, row_index};
use dataplane_ebpf::slot::SlotWord;
use dataplane_ebpf::table::{Bucket, DetailRow, Entry, Location, Place, WAYS, bits_for};
use dataplane_ebpf::tables::{Lookup, Tables, lookup};
use dataplane_ebpf::wire_id::{Key, WireId, mint};
use dataplane_ebpf::word::{MapWord, Word};
use dataplane_user::dataplane::memory::Memory;
use dataplane_user::dataplane::object::Object;
use dataplane_user::dataplane::services::{Delivery, Limits, Protocol, Rate, Service, rows};
use dataplane_user::dataplane::sessions::SessionTable;
use dataplane_user::dataplane::{Dataplane, LoadOptions, wire_address};

use super::bound;
use super::from_clients::client;
use crate::address::{Family, vip};

/// How many wire ids the node's table is made for.
pub const SESSIONS: u64 = 1_000;

/// The node itself.
pub const SELF: u16 = 1;
/// A node that packets can be forwarded to.
pub const PEER: u16 = 2;
/// A node without a known next hop.
pub const LOST: u16 = 3;
/// A node that was retracted.
pub const ABSENT: u16 = 4;
/// A node behind a link for which every packet is too big.
pub const NARROW: u16 = 5;
/// A node behind another interface than the one that packets arrive on.
pub const FAR: u16 = 6;
/// A node whose next hop names a link that does not exist.
pub const NO_LINK: u16 = 7;
/// A number that no node can have.
pub const BEYOND: u16 = 5_000;

/// The node's own epoch.
pub const EPOCH: u32 = 5;
/// The peer's epoch.
pub const PEER_EPOCH: u32 = 3;
/// The revision of every slot's placement.
pub const REVISION: u32 = 10;
/// The version of every session that is delivered here.
pub const VERSION: u64 = 7;
/// The version of every session that has moved away.
pub const ROW_VERSION: u64 = 9;

/// What every service takes from a source: a packet is never the second one.
const RATE: Rate = Rate { rate: 1, burst: 1 };

/// The MTU of the links.
pub const MTU: usize = 1500;

/// Slots, by whose they are.
pub mod slot {
    /// This node's.
    pub const HOME: u16 = 100;
    /// This node's, without any entry in the session table.
    pub const HOME_EMPTY: u16 = 101;
    /// This node's, moving here from the peer.
    pub const MOVED_IN: u16 = 102;
    /// This node's, moving here from the node without a next hop.
    pub const FROM_LOST: u16 = 103;
    /// The peer's.
    pub const AWAY: u16 = 104;
    /// The peer's, moving there from here.
    pub const MOVED_OUT: u16 = 105;
    /// Nobody's, as are all that are not named here.
    pub const NOBODY: u16 = 106;
    /// Of [`super::LOST`].
    pub const TO_LOST: u16 = 107;
    /// Of [`super::ABSENT`].
    pub const TO_ABSENT: u16 = 108;
    /// Of [`super::NARROW`].
    pub const TO_NARROW: u16 = 109;
    /// Of [`super::FAR`].
    pub const TO_FAR: u16 = 110;
    /// Of [`super::NO_LINK`].
    pub const TO_NO_LINK: u16 = 111;
    /// Of [`super::BEYOND`].
    pub const TO_BEYOND: u16 = 112;
}

const PLACEMENT: [(u16, u16, u16); 13] = [
    (slot::HOME, SELF, 0),
    (slot::HOME_EMPTY, SELF, 0),
    (slot::MOVED_IN, SELF, PEER),
    (slot::FROM_LOST, SELF, LOST),
    (slot::AWAY, PEER, 0),
    (slot::MOVED_OUT, PEER, SELF),
    (slot::NOBODY, 0, 0),
    (slot::TO_LOST, LOST, 0),
    (slot::TO_ABSENT, ABSENT, 0),
    (slot::TO_NARROW, NARROW, 0),
    (slot::TO_FAR, FAR, 0),
    (slot::TO_NO_LINK, NO_LINK, 0),
    (slot::TO_BEYOND, BEYOND, 0),
];

/// Sessions that the node's table has an entry of, in every service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Session {
    /// Delivered here.
    Here = 1,
    /// Delivered here, in the peer's slot.
    HereFromAway,
    /// Delivered here, in a slot that is moving to the peer.
    Stayed,
    /// Of an earlier epoch of this node.
    OldEpoch,
    /// On the peer.
    Row,
    /// On the node without a next hop.
    RowLost,
    /// On a CPU that has no queue.
    NoQueue,
    /// On its way: held.
    Held,
    /// The same, of an earlier epoch of this node.
    HeldOldEpoch,
    /// On its way here: held, and not ours yet.
    HeldNotOurs,
    /// On its way; its version is of another generation.
    TornHeld,
    /// The words of its entry are of two generations.
    TornWords,
    /// The bits of its entry are none.
    TornBits,
    /// Delivered here; its version is of another generation.
    TornVersion,
    /// On the peer; its version is of another generation.
    TornRow,
    /// No entry: the first number that is free.
    Unknown,
}

impl Session {
    const ALL: [Self; 15] = [
        Self::Here,
        Self::HereFromAway,
        Self::Stayed,
        Self::OldEpoch,
        Self::Row,
        Self::RowLost,
        Self::NoQueue,
        Self::Held,
        Self::HeldOldEpoch,
        Self::HeldNotOurs,
        Self::TornHeld,
        Self::TornWords,
        Self::TornBits,
        Self::TornVersion,
        Self::TornRow,
    ];

    fn slot(self) -> u16 {
        match self {
            Self::HereFromAway => slot::AWAY,
            Self::Stayed => slot::MOVED_OUT,
            _ => slot::HOME,
        }
    }

    fn entry(self) -> (Entry, u64) {
        let here = Place::Local { cpu: 0 };
        let held = Place::Hold { cpu: 0, ours: true };
        let (place, epoch, version) = match self {
            Self::OldEpoch => (here, EPOCH - 1, VERSION),
            Self::Row | Self::TornRow => (Place::Remote { node: PEER }, EPOCH, ROW_VERSION),
            Self::RowLost => (Place::Remote { node: LOST }, EPOCH, ROW_VERSION),
            Self::NoQueue => (Place::Local { cpu: 1_023 }, EPOCH, VERSION),
            Self::Held | Self::TornHeld => (held, EPOCH, VERSION),
            Self::HeldOldEpoch => (held, EPOCH - 1, VERSION),
            Self::HeldNotOurs => (Place::Hold { cpu: 0, ours: false }, EPOCH, VERSION),
            _ => (here, EPOCH, VERSION),
        };
        (Entry { place, epoch }, version)
    }
}

/// An address of the underlay; `node` is at most 255.
pub fn underlay(family: Family, node: u16) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 1, 0, node as u8).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, node).into(),
    }
}

/// The services at a family's VIP: one of each protocol, and a second one with an id at an offset,
/// which opens a session for an unknown id.
pub fn services(family: Family) -> [Service; 8] {
    let offset = |unknown_opens| Protocol::Offset { offset: 3, length: 6, unknown_opens };
    let quic_lb = Protocol::QuicLb { server_id_lengths: SERVER_ID_LENGTHS, config_id: CONFIG_ID };
    let services = [
        ("native", 4000, Some(4001), Protocol::Native),
        ("quic", 443, Some(444), Protocol::Quic { id_length: 8 }),
        ("wireguard", 51820, None, Protocol::WireGuard),
        ("offset", 5000, None, offset(false)),
        ("opener", 5001, None, offset(true)),
        ("quic-lb", 4433, None, quic_lb),
        ("dtls", 5684, Some(5685), Protocol::Dtls { id_length: 7 }),
        ("gtpu", 2152, None, Protocol::GtpU),
    ];
    let mut index = match family {
        Family::V4 => 1,
        Family::V6 => 1 + services.len() as u16,
    };
    services.map(|(name, port, control_port, protocol)| {
        let service = Service {
            index,
            name: format!("{name}-{family:?}"),
            address: (vip(family), port).into(),
            control_port,
            protocol,
            limits: Limits { new: Some(RATE), control: Some(RATE) },
            delivery: Delivery::Socket,
            enforces_binding: false,
            cluster_seed: 7,
        };
        index += 1;
        service
    })
}

/// Lengths of the server ids of QUIC-LB, by config id.
pub const SERVER_ID_LENGTHS: [u8; 7] = [1, 2, 3, 5, 0, 0, 15];
/// The config id of new ids.
pub const CONFIG_ID: u8 = 3;

/// A native service at a family's VIP whose application has AF_XDP sockets.
pub fn af_xdp_service(family: Family) -> Service {
    Service {
        index: SERVICES as u16 - 1 - family as u16,
        name: format!("af_xdp-{family:?}"),
        address: (vip(family), 6000).into(),
        control_port: Some(6001),
        protocol: Protocol::Native,
        limits: Limits::default(),
        delivery: Delivery::AfXdp,
        enforces_binding: false,
        cluster_seed: 7,
    }
}

/// A wire id of a service, of the length that the service's own ids have, in a slot.
pub fn id_in(service: &Service, slot: u16, number: u8) -> Vec<u8> {
    let length = service.protocol.id_length();
    (0..=u16::MAX)
        .map(|draw| drawn(service, slot, number, length, draw))
        .find(|id| service.protocol.can_carry(id))
        .expect("one id in 256 begins with the config id")
}

/// A wire id of another length.
pub fn minted(service: &Service, slot: u16, number: u8, length: usize) -> Vec<u8> {
    drawn(service, slot, number, length, 0)
}

/// The wire id of a number, or at a later draw another one.
fn drawn(service: &Service, slot: u16, number: u8, length: usize, draw: u16) -> Vec<u8> {
    let mut id: Vec<u8> = (0..length as u8).map(|at| at.wrapping_mul(37) ^ number).collect();
    id[length - 1] = number;
    if draw > 0 {
        id[2..4].copy_from_slice(&draw.to_be_bytes());
    }
    mint(&mut id, slot, service.seed()).expect("4 to 20 bytes");
    id
}

/// The wire id of a session.
pub fn id_of(service: &Service, session: Session) -> Vec<u8> {
    id_in(service, session.slot(), session as u8)
}

fn key_of(service: &Service, session: Session) -> Key {
    let id = id_of(service, session);
    WireId::from_bytes(&id).expect("4 to 20 bytes").key(service.seed())
}

/// Loads the daemon's programs and fills their tables.
///
/// `interfaces` are the index of the one that packets arrive on, and of another.
pub fn load(family: Family, interfaces: [u32; 2]) -> Result<Dataplane> {
    let options = LoadOptions {
        object: Object::Daemon,
        sessions: SESSIONS,
        cpus: vec![0],
        queue: 192,
        bindings: true,
        hold_ring: 4096,
        log_packets: false,
    };
    let mut dataplane = Dataplane::load(options).context("loading the programs")?;
    let Dataplane { memory, sessions, .. } = &mut dataplane;
    fill(memory, sessions, family, interfaces)?;
    State::Ready.apply(&dataplane);
    Family::ALL.into_iter().try_for_each(|family| bound::fill(&mut dataplane, family))?;
    Ok(dataplane)
}

/// The same tables without a kernel, and without the sessions of services that enforce bindings.
pub fn on_host(family: Family, interfaces: [u32; 2]) -> Result<Memory> {
    let bits = bits_for(SESSIONS);
    let mut memory = Memory::anonymous(bits).context("allocating the tables")?;
    fill(&mut memory, &mut SessionTable::new(bits), family, interfaces)?;
    memory.cpus.set(0, 0);
    State::Ready.apply_to(&memory);
    Ok(memory)
}

/// Fills all token buckets.
pub fn refill(memory: &Memory) {
    for index in 0..memory.limits.len() {
        memory.limits.get(index).expect("within the table").store(0);
    }
}

/// Takes the services' token buckets out of the tables, so that no packet's verdict depends on
/// others; but for answers to packets that do not fit, behind which [`refill`] is due.
pub fn lift_limits(memory: &mut Memory) {
    for row in 0..SERVICE_ROWS {
        let service = *memory.services.get(row).expect("within the table");
        memory.services.set(row, ServiceRow { limit: Limit::NONE, ..service });
    }
}

/// Takes out what only the kernel knows: sessions on a CPU that has no queue.
pub fn remove_queueless(dataplane: &mut Dataplane) {
    let af_xdp = Family::ALL.map(af_xdp_service);
    for service in Family::ALL.into_iter().flat_map(services).chain(af_xdp) {
        dataplane.remove(key_of(&service, Session::NoQueue));
    }
}

fn fill(
    memory: &mut Memory,
    sessions: &mut SessionTable,
    family: Family,
    interfaces: [u32; 2],
) -> Result<()> {
    let mut services: Vec<_> = Family::ALL.into_iter().flat_map(services).collect();
    services.extend(Family::ALL.map(af_xdp_service));
    let bound = Family::ALL.into_iter().flat_map(bound::services);
    let all: Vec<_> = services.iter().cloned().chain(bound).collect();
    let (seed, rows) = rows(&all, underlay(family, SELF))?;
    for row in rows {
        memory.services.set(row_index(row.address, row.port, seed) as usize, row);
    }
    memory.local_row().set_service_seed(seed);
    for (link, (ifindex, mtu)) in
        [(interfaces[0], MTU), (interfaces[0], 90), (interfaces[1], MTU)].into_iter().enumerate()
    {
        let row = LinkRow {
            ifindex,
            mtu: mtu as u32,
            mac: [2, 0, 0, 0, 1, link as u8],
            source: wire_address(underlay(family, SELF)),
            ..LinkRow::EMPTY
        };
        memory.links.set(link, row);
    }
    let nodes = [
        (SELF, Some(0)),
        (PEER, Some(0)),
        (LOST, None),
        (ABSENT, Some(0)),
        (NARROW, Some(1)),
        (FAR, Some(2)),
        (NO_LINK, Some(200)),
    ];
    for (node, link) in nodes {
        let mut row = NodeRow::empty();
        row.address = wire_address(underlay(family, node));
        row.interfaces[0] = interfaces[usize::from(node == FAR)];
        if let Some(link) = link {
            row.set_next_hop(NextHop::new([2, 0, 0, 0, 2, node as u8], link));
        }
        row.set_epoch(if node == PEER { PEER_EPOCH } else { 0 });
        row.set_present(node != ABSENT);
        memory.nodes.set(node.into(), row);
    }
    for (slot, owner, previous) in PLACEMENT {
        let word = memory.slots.get(slot.into()).context("a word for each slot")?;
        word.store(SlotWord::new(owner, previous, REVISION).bits());
    }
    for service in &services {
        for session in Session::ALL {
            let (entry, version) = session.entry();
            sessions
                .insert(memory, key_of(service, session), entry, version)
                .with_context(|| format!("inserting {session:?} of {}", service.name))?;
            tear(memory, key_of(service, session), session)?;
        }
    }
    memory.set_jiffies(JIFFIES);
    Ok(())
}

/// The time that decisions in userspace see; the kernel's own is always later.
const JIFFIES: u64 = 100;

/// Leaves an entry as a reader may find it in the middle of a change.
fn tear(memory: &mut Memory, key: Key, session: Session) -> Result<()> {
    let bits = bits_for(SESSIONS);
    let Lookup::Hit { detail, generation, .. } = lookup(&*memory, key.hash, bits) else {
        anyhow::bail!("the entry that was just inserted is not there");
    };
    let (bucket, way) = (detail / WAYS as u32, (detail % WAYS as u32) as u8);
    let other = generation.wrapping_add(1);
    match session {
        Session::TornWords => {
            // The whole bucket anew, as only this way's value may be of another generation.
            let at = Location::of(key.hash, bits);
            let line = memory.bucket(bucket).context("the entry's bucket")?;
            let mut words = [[0; 2]; WAYS];
            for way in 0..WAYS as u8 {
                if let Some((tag, bits, generation)) = line.occupied(way) {
                    let generation = u64::from(generation);
                    words[usize::from(way)] = [tag << 17 | generation, bits << 16 | generation];
                }
            }
            words[usize::from(way)][1] ^= 1;
            let tag = words[usize::from(way)][0] >> 17;
            anyhow::ensure!(tag == at.tag, "way {way} holds another tag");
            let words = words.map(|words| words.map(MapWord::new));
            memory.sessions.set(bucket as usize, Bucket::from_words(words));
        }
        Session::TornBits => memory.bucket(bucket).context("the entry's bucket")?.update(way, 0),
        Session::TornVersion | Session::TornRow | Session::TornHeld => {
            let row: &DetailRow = memory.detail(detail).context("the entry's detail")?;
            row.set_version(VERSION, other);
        }
        _ => {}
    }
    Ok(())
}

/// The node's condition while a packet is decided about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// The lease is held.
    #[default]
    Ready,
    /// The lease has run out.
    Shut,
    /// The daemon has not filled the tables.
    NotReady,
    /// No CPU takes new sessions.
    NoCpu,
    /// Every source has sent as much as it may.
    Limited,
    /// The hold ring has no room for another packet like this one.
    RingFull,
}

impl State {
    /// Brings the node into this condition.
    pub fn apply(self, dataplane: &Dataplane) {
        self.apply_to(&dataplane.memory);
    }

    /// The same where only tables are.
    pub fn apply_to(self, memory: &Memory) {
        let local = memory.local_row();
        let deadline = if self == Self::Shut { JIFFIES } else { u64::MAX };
        local.arm(Fence::new(EPOCH, deadline), u64::MAX);
        local.set_identity(dataplane_ebpf::local::Identity {
            node: if self == Self::NotReady { 0 } else { SELF },
            bucket_bits: bits_for(SESSIONS),
            cpus: if self == Self::NoCpu { 0 } else { 1 },
        });
        let until = if self == Self::Limited { u64::MAX / 2 } else { 0 };
        for service in Family::ALL.into_iter().flat_map(services) {
            let (client, _) = client(Family::of(service.address.ip()));
            for kind in [kind::DATA, kind::CONTROL, limit::ANSWERS] {
                let index = limit::index(wire_address(client), service.seed(), kind);
                let word = memory.limits.get(index as usize).expect("a word for each");
                word.store(until);
            }
        }
    }
}
