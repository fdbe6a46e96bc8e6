//! Requests and responses. Ids are hexadecimal, times in milliseconds.

use crate::{dataplane::counters::Counts, hold};
use ownership::control::Credentials;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::SocketAddr, os::fd::OwnedFd, path::PathBuf};

/// What an application or the command line asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How the node is. Answered with [`Response::Status`].
    Status,
    /// The counters. Answered with [`Response::Stats`].
    Stats {
        /// For each CPU too.
        #[serde(default)]
        by_cpu: bool,
    },
    /// Refused packets, in the order in which they were read. Answered with [`Response::Events`].
    Events {
        /// Only those behind this number; 0 is before the first.
        after: u64,
    },
    /// Reads the configuration file again: all of it is taken on, or nothing. Answered with
    /// [`Response::Reloaded`].
    Reload,
    /// The nodes of the cluster as this one sees them. Answered with [`Response::Nodes`].
    Nodes,
    /// The sessions, in the order of their ids. Answered with [`Response::Sessions`].
    Sessions {
        /// Only those behind this id.
        after: Option<String>,
        /// At most so many, up to 200; fewer if they have many wire ids, but at least one if there
        /// is one.
        limit: usize,
    },
    /// What would become of packets; nothing is counted. Answered with [`Response::Explanations`].
    Explain {
        /// The frames from their Ethernet headers on; at most 32.
        packets: Vec<String>,
        /// The interface that they would arrive on; the first one if none is named.
        interface: Option<String>,
    },
    /// What would become of a session's packets, one for each of its wire ids. Answered with
    /// [`Response::Explanations`].
    ExplainSession {
        /// The SessionID; this node owns it.
        session: String,
        /// As above.
        interface: Option<String>,
    },
    /// Captures a session's packets, those of its wire ids of now and of later, until it is stopped
    /// or nobody asked for five seconds; one session's at a time. Answered with
    /// [`Response::Capturing`].
    CaptureStart {
        /// The SessionID; this node owns it.
        session: String,
    },
    /// The packets that were captured meanwhile. Answered with [`Response::Captured`].
    CaptureNext {
        /// The capture's number.
        capture: u64,
    },
    /// Ends a capture. Answered with [`Response::Done`].
    CaptureStop {
        /// The capture's number.
        capture: u64,
    },
    /// Gives the socket beside the message to the selector. It is bound to the service's address
    /// with `SO_REUSEPORT` and not connected. Answered with [`Response::Done`].
    ///
    /// After a restart of the daemon the same sockets can be given again. The kernel lets go of
    /// them when the last service has left the earlier daemon's selector: what is refused as busy
    /// is accepted once a socket of every service was offered.
    AddSocket {
        /// The service's name.
        service: String,
        /// Whether it is bound to the control port.
        control: bool,
        /// The CPU whose sessions it serves.
        cpu: u32,
    },
    /// Mints a SessionID in a slot of this node. Answered with [`Response::Opened`].
    Open {
        /// The service's name.
        service: String,
        /// The CPU that will process the session.
        cpu: u32,
        /// Binds it to this client at once, as [`Request::Bind`] does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client: Option<SocketAddr>,
    },
    /// Binds a session to a client, instead of any that it was bound to. Where the service enforces
    /// bindings, packets of others are refused from now on. Answered with [`Response::Done`].
    Bind {
        /// The SessionID.
        session: String,
        /// The client's address and port.
        client: SocketAddr,
    },
    /// Binds a session to nobody. Where the service enforces bindings, packets are refused until it
    /// is bound again. Answered with [`Response::Done`].
    Unbind {
        /// The SessionID.
        session: String,
    },
    /// Mints a wire id in the slot of a session. Answered with [`Response::WireId`].
    Mint {
        /// The SessionID.
        session: String,
    },
    /// Adds a wire id that a session's peer chose. Answered with [`Response::Done`].
    AddWireId {
        /// The SessionID.
        session: String,
        /// The wire id.
        id: String,
        /// Whether the id may lie in another node's slot: that node then needs a row that leads
        /// here ([`Request::AddRow`]).
        off_home: bool,
    },
    /// Removes a wire id of a session. Answered with [`Response::Done`].
    RemoveWireId {
        /// The SessionID.
        session: String,
        /// The wire id.
        id: String,
    },
    /// Adds an off-home row: packets with this wire id go to another node. Answered with
    /// [`Response::Done`].
    AddRow {
        /// The service's name.
        service: String,
        /// The wire id.
        id: String,
        /// The name of the node that owns the session.
        node: String,
        /// The session's state_version.
        version: u64,
    },
    /// Removes an off-home row. Answered with [`Response::Done`].
    RemoveRow {
        /// The service's name.
        service: String,
        /// The wire id.
        id: String,
    },
    /// Gives the AF_XDP socket beside the message the packets that arrive at a queue for services
    /// that deliver to such sockets. It is bound to that interface and queue. Answered with
    /// [`Response::Xsk`] and the tables that the application needs; see [`crate::af_xdp`].
    AddXsk {
        /// The name of a configured interface.
        interface: String,
        /// The receive queue.
        queue: u32,
    },
    /// Holds sessions of this node, and waits until nothing of them is in flight: their packets wait
    /// in the daemon, and the application has read all that it gets. Answered with
    /// [`Response::Held`], or after the deadline with an error that names the sockets whose marker
    /// nobody has acknowledged; the sessions are held then all the same, until they are released.
    /// Those that are held already are waited for anew.
    Hold {
        /// The SessionIDs, up to [`HOLD_AT_ONCE`].
        sessions: Vec<String>,
        /// How long to wait, 1 to 60,000 milliseconds.
        deadline_ms: u64,
    },
    /// The application has read a marker ([`dataplane_ebpf::marker::recognise`]). Answered with
    /// [`Response::Done`], also if nobody waits for it any more.
    Acknowledge {
        /// The marker's token, 32 hexadecimal digits.
        marker: String,
    },
    /// Releases sessions that are held: what waited is delivered in order, then newer packets.
    /// Answered with [`Response::Released`] when all of it is on its way.
    ///
    /// With a node, it goes there at the session's new state_version, and the sessions are this
    /// node's no longer: their wire ids become off-home rows here.
    Release {
        /// The SessionIDs, up to [`HOLD_AT_ONCE`].
        sessions: Vec<String>,
        /// The name of the node that owns them from now on; without it, this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        /// Their new state_version there, above that of each: with a node only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<u64>,
    },
    /// Moves a session of this node to another one, without losing a packet. Answered with
    /// [`Response::Moved`] once that is decided.
    HandOver {
        /// The SessionID.
        session: String,
        /// The name of the node.
        node: String,
    },
    /// Lets a node take no more sessions, and give away those that it has. Answered with [`Response::Done`] once
    /// that is committed; [`Request::DrainStatus`] tells how far it is.
    Drain {
        /// The name of the node.
        node: String,
        /// How; only for the node that is asked, and its defaults if it is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        how: Option<DrainHow>,
    },
    /// Lets a node take sessions again: it gets its share of the slots back. Answered with
    /// [`Response::Done`] once that is committed.
    Undrain {
        /// The name of the node.
        node: String,
    },
    /// How far the drain of this node is. Answered with [`Response::Draining`].
    DrainStatus,
    /// Replays the whole audit log. Answered with [`Response::Verified`], or with what is not as it must be.
    AuditVerify,
    /// Moves what waits in this node's audit log to a file. Answered with [`Response::Exported`].
    AuditExport {
        /// An absolute path, as the daemon sees it.
        path: PathBuf,
    },
    /// A session as it stands, wherever it is. Answered with [`Response::Session`].
    Session {
        /// The SessionID.
        session: String,
    },
    /// The cluster's secrets have changed: reads their file again. Answered with [`Response::Secrets`].
    ReloadSecrets,
    /// Ends a session and forgets its wire ids. Answered with [`Response::Done`].
    Close {
        /// The SessionID.
        session: String,
    },
}

/// How many sessions one request may hold or release.
pub const HOLD_AT_ONCE: usize = 1024;

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "response", content = "value", rename_all = "kebab-case")]
pub enum Response {
    /// It is done.
    Done,
    /// The node's state.
    Status(Box<Status>),
    /// The counters.
    Stats(Stats),
    /// The configuration was read again; the sections that have changed.
    Reloaded(Vec<String>),
    /// Some events.
    Events(Events),
    /// Some sessions.
    Sessions(Vec<SessionRow>),
    /// The nodes, in the order of the configuration.
    Nodes(Vec<NodeRow>),
    /// What would become of packets, in their order.
    Explanations(Vec<Explanation>),
    /// A capture has begun; its number.
    Capturing(u64),
    /// Captured packets.
    Captured(CapturedPackets),
    /// A new session.
    Opened(OpenedSession),
    /// A new wire id.
    WireId(String),
    /// An AF_XDP socket has its place. Beside it come the file descriptors of the tables `LOCAL`,
    /// `SERVICES`, `SLOTS`, `SESSIONS` and `BINDINGS`, which are to be read only, and of `XSK_COUNTS`.
    Xsk(XskPlace),
    /// Sessions are held, and nothing of them is in flight.
    Held(HeldSessions),
    /// What came of a move.
    Moved(MoveResult),
    /// How far a drain is.
    Draining(DrainProgress),
    /// The audit log is whole: its rows, its events, and the sessions that it leads to.
    Verified {
        /// Rows.
        rows: usize,
        /// Events.
        events: usize,
        /// Sessions that the store keeps.
        sessions: usize,
    },
    /// How many rows of the audit log were moved.
    Exported(usize),
    /// A session as it stands; nothing if there is none, or only its owner has it.
    Session(Option<SessionState>),
    /// The numbers of the secrets that are live, the one in force first.
    Secrets(Vec<u16>),
    /// Sessions were released: what became of the packets that were held.
    Released(hold::Counts),
    /// It was refused; nothing has changed, unless it says so.
    Error(String),
}

/// A session that was just opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedSession {
    /// The SessionID.
    pub session: String,
    /// The epoch of its owner.
    pub epoch: u32,
    /// Its state_version.
    pub version: u64,
    /// What its client needs to speak for it at the control port.
    pub credentials: HexCredentials,
}

/// A client's [credentials](ownership::control::Credentials), in hexadecimal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HexCredentials(String);

impl HexCredentials {
    /// As they are sent and kept.
    pub fn new(credentials: &Credentials) -> Self {
        Self(credentials.bytes().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Those that these are, if they are any.
    pub fn read(&self) -> Option<Credentials> {
        let byte = |at| u8::from_str_radix(self.0.get(at..at + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..self.0.len()).step_by(2).map(byte).collect();
        Credentials::from_bytes(&bytes?).ok()
    }
}

/// Whoever has them can speak for the session, so they are not shown.
impl std::fmt::Debug for HexCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HexCredentials")
    }
}

/// How a node is drained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainHow {
    /// How long its sessions may take to leave, in milliseconds.
    pub within_ms: u64,
    /// What becomes of those that have not.
    pub left_over: LeftOver,
    /// How many are started in a second; as many as can be if it is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
}

/// What becomes of sessions that are left when a drain's deadline comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeftOver {
    /// They are moved without waiting for their application.
    Move,
    /// They end.
    Terminate,
}

/// How far the drain of a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainProgress {
    /// Whether the node takes no more sessions.
    pub is_draining: bool,
    /// The sessions that it has.
    pub sessions: usize,
    /// Slots that it owns, or has owned until its sessions there have gone.
    pub slots: usize,
    /// Sessions that wait for their turn to leave.
    pub waiting: usize,
    /// Sessions that are leaving.
    pub under_way: usize,
    /// Sessions that were handed over with their application's context.
    pub handed_over: usize,
    /// Sessions that were handed over in haste, without.
    pub in_haste: usize,
    /// Sessions that the deadline has ended.
    pub terminated: usize,
    /// Sessions that came to their end, or went, by themselves.
    pub over: usize,
    /// Whether nothing is left here and every node knows: then the node can be stopped.
    pub is_safe_to_stop: bool,
}

/// What came of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MoveResult {
    /// The other node owns the session.
    HandedOver,
    /// The same, and its application's last context did not go with it.
    HandedOverWithoutContext,
    /// It stays here.
    Stays,
    /// It is over.
    Over,
}

/// A session as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionState {
    /// The SessionID.
    pub session: String,
    /// Its service; nothing if that is not configured here.
    pub service: Option<String>,
    /// Its state_version.
    pub version: u64,
    /// The index of its owner, and the epoch.
    pub owner: (u16, u32),
    /// Whether the node that answers owns it.
    pub is_here: bool,
    /// `BIRTH`, `ATTACHED`, `RECOVERING` or `TERMINATED`, and why it ended.
    pub state: String,
    /// `ACTIVE`, `FROZEN` or `HANDED_OFF`.
    pub hold: String,
    /// The client that it is bound to.
    pub client: Option<SocketAddr>,
    /// When it was made, and when it changed last, in milliseconds of Unix time.
    pub born_ms: u64,
    /// See above.
    pub changed_ms: u64,
    /// The generation of its reattach key.
    pub key_generation: u32,
    /// Its wire ids besides the SessionID, as far as this node knows.
    pub wire_ids: Vec<String>,
    /// How long its application's context is, in bytes.
    pub context_bytes: usize,
}

/// How sessions came to be quiet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldSessions {
    /// How many sockets have acknowledged a marker.
    pub markers: usize,
    /// How long the kernel's programs were waited for, in microseconds.
    pub grace_us: u64,
    /// How long it took in all, in microseconds.
    pub took_us: u64,
}

/// What an application with an AF_XDP socket needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct XskPlace {
    /// The layout of the tables: [`dataplane_ebpf::abi::SCHEMA`] of the daemon.
    pub schema: u32,
    /// The services that deliver to AF_XDP sockets: their index in the tables, and their name.
    pub services: BTreeMap<u16, String>,
    /// Whether any service enforces bindings: then there is a row for each way of the session table.
    pub bindings: bool,
}

/// A response and the file descriptors that go beside it.
#[derive(Debug)]
pub struct Answer {
    /// The response.
    pub response: Response,
    /// At most eight.
    pub fds: Vec<OwnedFd>,
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self { response, fds: Vec::new() }
    }
}

/// The state of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The node's name.
    pub node: String,
    /// The daemon's process id.
    pub pid: u32,
    /// The version of the daemon.
    pub version: String,
    /// The node's epoch.
    pub epoch: u32,
    /// How long the fence stays open unless it is renewed; 0 if it is shut.
    pub fence_open_ms: u64,
    /// The placement's revision.
    pub revision: u32,
    /// How many slots this node owns, of 65,536.
    pub slots: usize,
    /// Sessions that this node owns.
    pub sessions: usize,
    /// Wire ids and off-home rows in the session table.
    pub entries: usize,
    /// How many the table is made for.
    pub capacity: usize,
    /// The CPUs that process sessions.
    pub cpus: Vec<u32>,
    /// The interfaces that the program is attached to.
    pub interfaces: Vec<Interface>,
    /// The interfaces that are fenced at egress.
    #[serde(default)]
    pub egress: Vec<String>,
    /// The ways to the other nodes.
    pub nodes: Vec<NextHop>,
    /// What is held, and what became of what was; `None` if this daemon cannot hold sessions.
    #[serde(default)]
    pub hold: Option<hold::Totals>,
    /// The services.
    pub services: Vec<ServiceStatus>,
    /// What somebody should look at.
    pub warnings: Vec<String>,
}

/// An interface that the program is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `native` or `skb`.
    pub mode: String,
}

/// The way to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHop {
    /// The node's name.
    pub node: String,
    /// Its underlay address.
    pub address: String,
    /// The next hop's MAC address; `None` while it is not known.
    pub mac: Option<String>,
    /// The interface that leads there.
    pub interface: Option<String>,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its name.
    pub node: String,
    /// Its index.
    pub index: u16,
    /// Its underlay address.
    pub address: String,
    /// Whether it is the node that answers.
    pub is_this: bool,
    /// What it may do by the store.
    pub standing: Standing,
    /// Its epoch by the store.
    pub epoch: Option<u32>,
    /// For how long its heartbeat has stood unchanged, as far as this node has seen, in milliseconds;
    /// `None` if its epoch is over or nothing is known of it.
    pub silent_ms: Option<u64>,
}

/// What a node may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Own sessions, and take more.
    Accepting,
    /// Own sessions, and take no more.
    Draining,
    /// Nothing: its epoch is over.
    Fenced,
    /// The store knows nothing of it, or is not shared with it.
    Unknown,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Accepting, Self::Draining, Self::Fenced, Self::Unknown];

    /// As it is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepting => "accepting",
            Self::Draining => "draining",
            Self::Fenced => "fenced",
            Self::Unknown => "unknown",
        }
    }
}

/// A service of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Its address and port.
    pub address: String,
    /// Its control port.
    #[serde(default)]
    pub control_port: Option<u16>,
    /// Its protocol.
    pub protocol: String,
    /// How packets get to its application: `socket` or `af_xdp`.
    pub deliver: String,
    /// The CPUs for which an application has given a socket.
    pub sockets: Vec<u32>,
}

/// The counters of a node since its programs were loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The node's name.
    pub node: String,
    /// By service.
    pub services: BTreeMap<String, Counts>,
    /// What belongs to no service.
    pub other: Counts,
    /// Packets that were lost after their verdict, by [`dataplane_ebpf::loss::Loss`]; names with a
    /// count of 0 are left out. What the kernel's stack drops is of the whole network namespace.
    #[serde(default)]
    pub lost: BTreeMap<String, u64>,
}

/// Refused packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// Some of which the kernel told, those asked for first; none only when there are no more yet.
    pub events: Vec<EventRow>,
    /// How many events behind the number asked for the daemon does not keep any more.
    pub missed: u64,
    /// How many packets were refused in all; reasons without any are left out.
    pub totals: Vec<EventTotal>,
}

/// A refused packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow {
    /// Its number: one more than that of the event before it.
    pub number: u64,
    /// When, in milliseconds since 1970; exact to a tick of the kernel.
    pub time_ms: u64,
    /// `SECURITY_EVENT` or `POLICY_EVENT`.
    pub class: String,
    /// Where it was refused, as in the counters.
    pub place: String,
    /// Why, as in the counters.
    pub what: String,
    /// The service's name, if it was for one.
    pub service: Option<String>,
    /// Address and port that it came from, or was to go to for what this node sends; if they could
    /// be read.
    pub source: Option<String>,
    /// The interface that it arrived on, if that is known.
    pub interface: Option<String>,
    /// The CPU that refused it.
    pub cpu: u32,
    /// The slot of its session, if it named one.
    pub slot: Option<u16>,
    /// The table key's hash of its session, if it named one.
    pub key: Option<String>,
    /// How many packets were refused on that CPU for the same service and reason without an event of
    /// their own, since the event of that kind before this one.
    pub suppressed: u64,
}

/// How many packets of a service were refused for one reason since the programs were loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTotal {
    /// The service's name; `None` for what belongs to none.
    pub service: Option<String>,
    /// Where, as in the counters.
    pub place: String,
    /// Why, as in the counters.
    pub what: String,
    /// `SECURITY_EVENT` or `POLICY_EVENT`.
    pub class: String,
    /// Of so many there was an event.
    pub told: u64,
    /// Of so many there was none.
    pub suppressed: u64,
}

/// What would become of a packet, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The interface that it would arrive on.
    pub interface: String,
    /// The service's name, if it is for one.
    pub service: Option<String>,
    /// How the service's packets name their session.
    pub protocol: Option<String>,
    /// The wire id in it, if there is one.
    pub wire_id: Option<String>,
    /// The table key's hash.
    pub key: Option<String>,
    /// The slot.
    pub slot: Option<u16>,
    /// The node that owns the slot.
    pub slot_owner: Option<String>,
    /// The node that the slot is moving from, if it is.
    pub slot_previous: Option<String>,
    /// The placement revision that last changed the slot.
    pub slot_revision: Option<u32>,
    /// What the session table says.
    pub entry: Option<String>,
    /// The verdict, as in the counters. Token buckets are taken to be full, those of answers too.
    pub verdict: String,
    /// One sentence for people.
    pub reason: String,
    /// Where it would go.
    pub goes: String,
}

/// Captured packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedPackets {
    /// Some, in their order; none if there are no more now.
    pub packets: Vec<CapturedPacket>,
    /// How many more there were since the capture began that came faster than they were read.
    pub lost: u64,
}

/// A captured packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedPacket {
    /// When, in nanoseconds since 1970.
    pub time_ns: u64,
    /// The interface that it arrived on.
    pub interface: String,
    /// The CPU that it was steered on.
    pub cpu: u32,
    /// The service's name.
    pub service: Option<String>,
    /// What became of it, as in the counters.
    pub verdict: String,
    /// Its length in bytes.
    pub length: u32,
    /// It as it arrived, from its Ethernet header on; at most its first 2048 bytes.
    pub frame: String,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// The SessionID.
    pub session: String,
    /// The service's name.
    pub service: String,
    /// The CPU that processes it.
    pub cpu: u32,
    /// Its slot.
    pub slot: u16,
    /// Its state_version.
    pub version: u64,
    /// Its wire ids; the first is the SessionID.
    pub wire_ids: Vec<String>,
    /// The client that it is bound to.
    #[serde(default)]
    pub client: Option<SocketAddr>,
}
