//! One node: its data plane, its sessions, and what applications may ask of them.

mod bindings;
mod capture;
mod cluster;
mod events;
mod explain;
mod handler;
mod holds;
mod ids;
mod incarnation;
mod owned;
mod probe_packet;
mod recovery;
mod refusal;
mod registry;
mod reload;
mod report;
mod state_folder;
mod xsk;

pub use handler::{Sessions, answer};
pub use holds::{end_holds, hold_until_quiet, release_held};
pub use incarnation::{Incarnation, Recorded, boot_id};
pub use owned::{Entering, FIRST_OWNED};
pub use recovery::{Recovered, recover};
pub use refusal::Refusal;
pub use registry::{Registry, Session, WIRE_IDS};
pub use state_folder::{StateError, StateFolder};

use crate::{
    cluster::Known,
    config,
    dataplane::{
        Dataplane,
        attach::Attached,
        clock::Jiffies,
        fence::FenceKeeper,
        services::{Delivery, Service},
        sessions::InsertError,
    },
    fences::EgressFences,
};
use bindings::Clients;
use capture::Capture;
use dataplane_ebpf::{
    table::{Entry, Place},
    wire_id::{Key, WireId},
    wire_id_row::Registered,
};
use events::EventLog;
use holds::Holds;
use ids::{hex, parse_session, unhex};
use ownership::{NodeIndex, Placement, SessionId, lease::BootTime};
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    sync::{Mutex, MutexGuard},
};

/// How often an id is drawn anew when its key is taken: a second time is a matter of 2^-40.
const DRAWS: usize = 8;

/// What off-home rows have instead of the key of a SessionID.
const NO_SESSION: u64 = 0;

/// A node whose programs are loaded.
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its data plane.
    pub dataplane: Dataplane,
    /// Its fence.
    pub fence: FenceKeeper,
    /// The interfaces that the program is attached to.
    pub attached: Vec<Attached>,
    /// The interfaces that are fenced at egress.
    pub egress: EgressFences,
    /// All nodes.
    pub peers: Vec<Peer>,
    /// What somebody should look at.
    pub warnings: Vec<String>,
    index: NodeIndex,
    cpus: Vec<u32>,
    services: Vec<Service>,
    sessions: Registry,
    clients: Clients,
    revision: u32,
    /// The slots where this node mints ids.
    slots: Vec<u16>,
    events: EventLog,
    holds: Holds,
    capture: Option<Capture>,
    /// Whether the program that captures is being loaded, and so is not here.
    loads_capture: bool,
    /// How many captures there were.
    captures: u64,
    known: Known,
    /// The indices of services at whose control port the daemon answers.
    answers: BTreeSet<u16>,
}

/// A node of the cluster as this node sees it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: NodeIndex,
    /// Its underlay address.
    pub address: IpAddr,
    /// The way there: MAC address and interface name.
    pub hop: Option<([u8; 6], String)>,
}

impl Peer {
    /// A node of the configuration; the way to it is not known.
    pub fn of(node: &config::Node) -> Self {
        let config::Node { name, index, address, .. } = node;
        Self { name: name.clone(), index: *index, address: *address, hop: None }
    }
}

/// What a node is made of.
pub struct Parts {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: NodeIndex,
    /// Its loaded programs, with services, links and nodes published.
    pub dataplane: Dataplane,
    /// Its fence.
    pub fence: FenceKeeper,
    /// The kernel's time.
    pub jiffies: Jiffies,
    /// All nodes.
    pub peers: Vec<Peer>,
    /// Its services.
    pub services: Vec<Service>,
    /// The CPUs that process sessions.
    pub cpus: Vec<u32>,
    /// Its sessions, which its table holds already.
    pub sessions: Registry,
}

/// Locks a node. A request that panicked has left it in a state that nobody knows: then the daemon
/// ends, and the fence shuts at its deadline.
pub fn lock(node: &Mutex<Node>) -> MutexGuard<'_, Node> {
    node.lock().expect("no request has panicked")
}

impl Node {
    /// A node that owns nothing yet. Publishes the placement and makes the
    /// program decide; the fence stays shut until [`Node::arm`].
    pub fn new(parts: Parts, placement: &Placement) -> Self {
        let Parts { name, index, dataplane, fence, jiffies, peers, services, cpus, sessions } =
            parts;
        dataplane.set_placement(placement);
        dataplane.set_identity(index);
        let mut node = Self {
            name,
            dataplane,
            fence,
            attached: Vec::new(),
            egress: EgressFences::default(),
            peers,
            warnings: Vec::new(),
            index,
            cpus,
            services,
            sessions,
            clients: Clients::new(),
            revision: placement.revision().get(),
            slots: Vec::new(),
            events: EventLog::new(jiffies),
            holds: Holds::default(),
            capture: None,
            loads_capture: false,
            captures: 0,
            known: Known::default(),
            answers: BTreeSet::new(),
        };
        node.recover_clients();
        node
    }

    /// Opens the fence for a lease that ends then; shuts it if there is no lease.
    pub fn arm(&self, end: Option<BootTime>) {
        match end {
            Some(end) => self.fence.arm(self.dataplane.memory.local_row(), end),
            None => self.shut(),
        }
    }

    /// Shuts the fence.
    pub fn shut(&self) {
        FenceKeeper::shut(self.dataplane.memory.local_row());
    }

    /// The indices of all other nodes.
    pub fn others(&self) -> impl Iterator<Item = NodeIndex> {
        self.peers.iter().map(|peer| peer.index).filter(|&index| index != self.index)
    }

    /// Gives an application's socket to the selector.
    pub fn add_socket(
        &mut self,
        service: &str,
        control: bool,
        cpu: u32,
        socket: Option<BorrowedFd<'_>>,
    ) -> Result<(), Refusal> {
        let place = self.find_service(service)?;
        let Service { index, address, control_port, delivery, .. } = self.services[place];
        if delivery == Delivery::AfXdp && !control {
            return Err(Refusal::IsAfXdp(service.to_owned()));
        }
        if control && self.answers.contains(&index) {
            return Err(Refusal::DaemonAnswers(service.to_owned()));
        }
        let port = match (control, control_port) {
            (false, _) => address.port(),
            (true, Some(port)) => port,
            (true, None) => return Err(Refusal::NoControlPort(service.to_owned())),
        };
        let socket = socket.ok_or(Refusal::NoSocket)?;
        let address = SocketAddr::new(address.ip(), port);
        Ok(self.dataplane.add_socket(index, control, cpu, address, socket)?)
    }

    /// Gives a socket of the daemon's own for a control port to the selector. Applications can give none for
    /// that port from then on.
    pub fn add_control_socket(
        &mut self,
        service: &str,
        cpu: u32,
        socket: &UdpSocket,
    ) -> Result<(), Refusal> {
        let index = self.services[self.find_service(service)?].index;
        self.answers.remove(&index);
        self.add_socket(service, true, cpu, Some(socket.as_fd()))?;
        self.answers.insert(index);
        Ok(())
    }

    /// Adds an off-home row.
    pub fn add_row(
        &mut self,
        service: &str,
        wire_id: &str,
        node: &str,
        version: u64,
    ) -> Result<(), Refusal> {
        let place = self.find_service(service)?;
        let (bytes, key) = self.parse_wire_id(place, wire_id)?;
        let peer = self.peers.iter().find(|peer| peer.name == node);
        let peer = peer.ok_or_else(|| Refusal::NoNode(node.to_owned()))?;
        if peer.index == self.index {
            return Err(Refusal::OwnRow(node.to_owned()));
        }
        let remote = Place::Remote { node: peer.index.get() };
        let entry = Entry { place: remote, epoch: self.fence.epoch().get() };
        Ok(self.register(place, &bytes, key, entry, version, NO_SESSION)?)
    }

    /// Removes an off-home row.
    pub fn remove_row(&mut self, service: &str, wire_id: &str) -> Result<(), Refusal> {
        let place = self.find_service(service)?;
        let (_, key) = self.parse_wire_id(place, wire_id)?;
        let was_there = self.remove_redirect(key);
        was_there.then_some(()).ok_or_else(|| Refusal::NoRow(wire_id.to_owned()))
    }

    /// The SessionID goes first: a successor of this daemon ends a session without one.
    fn end(&mut self, id: SessionId) {
        self.leave_client(id);
        let session = self.sessions.remove(&id).expect("just found");
        for bytes in &session.wire_ids {
            let key = self.key(session.service, bytes).expect("it was registered");
            self.dataplane.remove(key);
        }
        self.holds.end(id);
    }

    /// Puts a wire id into the table; `home` is the key of its session's SessionID.
    fn register(
        &mut self,
        service: usize,
        bytes: &[u8],
        key: Key,
        entry: Entry,
        version: u64,
        home: u64,
    ) -> Result<(), InsertError> {
        let service = self.services[service].index;
        let registered = Registered::new(bytes, service, home).expect("it has a key");
        self.dataplane.register(key, entry, version, &registered)
    }

    fn local_entry(&self, cpu: u32) -> Entry {
        let place = Place::Local { cpu: cpu as u16 };
        Entry { place, epoch: self.fence.epoch().get() }
    }

    /// The place of a service in the configuration.
    pub fn find_service(&self, name: &str) -> Result<usize, Refusal> {
        self.services.iter().position(|service| service.name == name).ok_or_else(|| {
            let known: Vec<_> = self.services.iter().map(|service| &*service.name).collect();
            Refusal::NoService { name: name.to_owned(), known: known.join(", ") }
        })
    }

    fn find_session(&self, text: &str) -> Result<SessionId, Refusal> {
        let id = parse_session(text)?;
        let known = self.sessions.contains_key(&id);
        known.then_some(id).ok_or_else(|| Refusal::NoSession(text.to_owned()))
    }

    fn session_mut(&mut self, id: SessionId) -> &mut Session {
        self.sessions.get_mut(&id).expect("just found")
    }

    /// Whether a CPU processes sessions.
    pub fn check_cpu(&self, cpu: u32) -> Result<(), Refusal> {
        let known = self.cpus.contains(&cpu);
        known.then_some(()).ok_or_else(|| Refusal::NoCpu { cpu, cpus: self.cpus.clone() })
    }

    /// Whoever may not deliver may not mint either.
    fn check_fence(&self) -> Result<(), Refusal> {
        self.is_open().then_some(()).ok_or(Refusal::FenceShut)
    }

    /// A wire id in hexadecimal, of any length that wire ids have: peers choose their own.
    fn parse_wire_id(&self, service: usize, text: &str) -> Result<(Vec<u8>, Key), Refusal> {
        let bytes = unhex(text).ok_or_else(|| Refusal::NotHex(text.to_owned()))?;
        self.wire_id(service, &bytes)
    }

    /// What packets carry of an id, and its key.
    fn wire_id(&self, service: usize, id: &[u8]) -> Result<(Vec<u8>, Key), Refusal> {
        let bytes = self.services[service].protocol.wire_id(id);
        let key = self.key_of(service, &bytes)?;
        Ok((bytes, key))
    }

    fn key_of(&self, service: usize, bytes: &[u8]) -> Result<Key, Refusal> {
        let length = || Refusal::Length { expected: "4 to 20 bytes".into(), got: bytes.len() };
        self.key(service, bytes).ok_or_else(length)
    }

    fn key(&self, service: usize, bytes: &[u8]) -> Option<Key> {
        Some(WireId::from_bytes(bytes)?.key(self.services[service].seed()))
    }
}
