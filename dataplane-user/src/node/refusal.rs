//! Why requests are refused, in words for people.

use super::WIRE_IDS;
use crate::{
    api::HOLD_AT_ONCE,
    dataplane::{
        capture::CaptureError, losses::LossError, sessions::InsertError, sockets::SocketError,
        xsk::XskError,
    },
    hold::{HoldError, ReleaseError, Unquiet},
    runtime::{NotExported, NotVerified, Unadmitted, Unchanged},
    secrets::SecretsError,
};
use aya::maps::MapError;
use std::net::SocketAddr;
use thiserror::Error;

/// Why an application's request was refused. Nothing has changed then.
#[derive(Debug, Error)]
pub enum Refusal {
    /// No such service.
    #[error("there is no service {name:?}; this node serves {known}")]
    NoService {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// No such session.
    #[error("this node owns no session {0}")]
    NoSession(String),
    /// No such node.
    #[error("there is no node {0:?} in the configuration")]
    NoNode(String),
    /// A row to this node itself.
    #[error(
        "node {0:?} is this node: an off-home row leads to another one; open a session instead"
    )]
    OwnRow(String),
    /// Not one of the CPUs that process sessions.
    #[error("CPU {cpu} processes no sessions: `sessions.cpus` is {cpus:?}")]
    NoCpu {
        /// What was asked for.
        cpu: u32,
        /// What there is.
        cpus: Vec<u32>,
    },
    /// No control port.
    #[error("service {0:?} has no control_port")]
    NoControlPort(String),
    /// The secrets cannot be read.
    #[error("the secrets stay as they were: {}", chain(.0))]
    Secrets(#[from] SecretsError),
    /// The daemon answers there.
    #[error(
        "the daemon answers at the control port of service {0:?}; if an application is to, set `control = \
         \"application\"` for it"
    )]
    DaemonAnswers(String),
    /// A node without slots mints nothing.
    #[error("this node owns no slots (its weight is 0), so it cannot mint ids")]
    NoSlots,
    /// The fence is shut.
    #[error("the fence is shut: this node may not act as owner until its lease is renewed")]
    FenceShut,
    /// Not hexadecimal.
    #[error("{0:?} is not hexadecimal")]
    NotHex(String),
    /// The id has a length that this service's packets do not carry.
    #[error("a wire id of this service has {expected}, not {got} bytes")]
    Length {
        /// What fits.
        expected: String,
        /// What was given.
        got: usize,
    },
    /// The id lies in another node's slot.
    #[error(
        "wire id {id} lies in slot {slot}, which is not this session's (slot {home}); mint one, or \
         add it with off_home and a row at the slot's owner"
    )]
    ForeignSlot {
        /// The id.
        id: String,
        /// Its slot.
        slot: u16,
        /// The session's.
        home: u16,
    },
    /// The session has no such wire id, or it is its SessionID.
    #[error("session {session} has no wire id {id} that could be removed")]
    NoWireId {
        /// The session.
        session: String,
        /// The id.
        id: String,
    },
    /// No such off-home row.
    #[error("there is no off-home row for {0}")]
    NoRow(String),
    /// No client can have this address.
    #[error("{0} is no address and port of a client")]
    NoClient(SocketAddr),
    /// No packet from this client can get to the service.
    #[error("{client} cannot be a client of {service}: name one of the same address family")]
    ClientFamily {
        /// The client.
        client: SocketAddr,
        /// The service's address.
        service: SocketAddr,
    },
    /// The session has as many wire ids as one may have.
    #[error("session {0} has {WIRE_IDS} wire ids, as many as one may have")]
    TooManyIds(String),
    /// The table said no.
    #[error(transparent)]
    Table(#[from] InsertError),
    /// The socket was refused.
    #[error("{}", chain(.0))]
    Socket(#[from] SocketError),
    /// A socket for a service that has no use for it.
    #[error(
        "service {0:?} delivers to AF_XDP sockets (`deliver = \"af_xdp\"`): open a port on a queue \
         instead; only its control port takes sockets"
    )]
    IsAfXdp(String),
    /// An AF_XDP socket that nothing would be delivered to.
    #[error("no service here delivers to AF_XDP sockets: set `deliver = \"af_xdp\"` for one")]
    NoAfXdp,
    /// No such interface.
    #[error("the program is not attached to an interface {interface:?}, only to {known}")]
    NoInterface {
        /// What was asked for.
        interface: String,
        /// What there is.
        known: String,
    },
    /// The AF_XDP socket was refused.
    #[error("{}", chain(.0))]
    Xsk(#[from] XskError),
    /// A socket request without a socket.
    #[error("no file descriptor came with the request (SCM_RIGHTS)")]
    NoSocket,
    /// The counters could not be read.
    #[error("reading the counters failed: {0}")]
    Counters(#[from] MapError),
    /// Ids of this protocol are too short to lead everywhere.
    #[error(
        "no server id leads to this session's slot: set server_id_length to 3 bytes or more, or add \
         a server id with off_home and a row at the owner of its slot"
    )]
    NoneInSlot,
    /// What was lost could not be read.
    #[error("{}", chain(.0))]
    Losses(#[from] LossError),
    /// The program is not attached there.
    #[error("the program is not attached to {name:?}; it is to: {known}")]
    NotAttached {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// More packets than a request may hold.
    #[error("a request explains {most} packets at most, not {got}")]
    TooManyPackets {
        /// What fits.
        most: usize,
        /// What was given.
        got: usize,
    },
    /// A packet could not be explained.
    #[error("{0}")]
    Explain(String),
    /// Somebody captures already.
    #[error("packets are captured already: one session's at a time; wait until that has ended")]
    CaptureRuns,
    /// No such capture.
    #[error(
        "capture {0} has ended: captured packets must be asked for at least every five seconds"
    )]
    NoCapture(u64),
    /// The capture could not begin or end.
    #[error("{}", chain(.0))]
    Capture(#[from] CaptureError),
    /// Nothing can be held here.
    #[error("this daemon cannot hold sessions: {0}")]
    NoKeeper(String),
    /// The daemon ends.
    #[error("the daemon is about to end and begins nothing more")]
    Ending,
    /// Too many or none in one request.
    #[error("a request names 1 to {HOLD_AT_ONCE} sessions, not {0}; make several")]
    SessionCount(usize),
    /// Too many in all.
    #[error("{0} sessions are held at a time at most; release some first")]
    TooManyHeld(usize),
    /// A deadline out of range.
    #[error("deadline_ms is 1 to {most}, not {got}")]
    Deadline {
        /// What was asked for.
        got: u64,
        /// The most.
        most: u64,
    },
    /// The session is held.
    #[error("session {0} is held: its wire ids cannot change until it is released")]
    IsHeld(String),
    /// The session is not held.
    #[error("session {0} is not held")]
    NotHeld(String),
    /// The session is being released.
    #[error("session {0} is being released")]
    IsReleased(String),
    /// A node without a version or the other way round.
    #[error("a release to another node takes both, `node` and `version`")]
    HalfATarget,
    /// A version that is not newer.
    #[error(
        "session {session} has version {known} here: another node takes it at a later one, not at \
         {version}"
    )]
    OldVersion {
        /// The session.
        session: String,
        /// What was asked for.
        version: u64,
        /// What it has.
        known: u64,
    },
    /// No marker's token.
    #[error("{0:?} is no marker's token: those are 32 hexadecimal digits")]
    NoMarker(String),
    /// Sessions were refused by the keeper.
    #[error("{}; nothing is held that was not before", chain(.0))]
    Hold(#[from] HoldError),
    /// It is not quiet.
    #[error("{}; the sessions stay held until they are released", chain(.0))]
    Unquiet(#[from] Unquiet),
    /// Somebody released or ended them.
    #[error("some of the sessions were released or have ended meanwhile; the others are held")]
    ReleasedMeanwhile,
    /// The release failed.
    #[error("{}; the sessions stay held until they are released", chain(.0))]
    Release(#[from] ReleaseError),
    /// The session is as it was.
    #[error(transparent)]
    Unchanged(#[from] Unchanged),
    /// Another session has that id.
    #[error("another session has this wire id: {}", .0.as_deref().unwrap_or("nobody knows which"))]
    TakenId(Option<String>),
    /// What an application leaves for itself is too long.
    #[error("a session's context has at most {most} bytes in this store, not {got}")]
    ContextTooLong {
        /// What was given.
        got: usize,
        /// The most.
        most: usize,
    },
    /// The node takes sessions as before.
    #[error(transparent)]
    Unadmitted(#[from] Unadmitted),
    /// How another node is drained, it says itself.
    #[error(
        "how node {0:?} is drained can be said at that node only: ask its own daemon, or leave deadline and policy out"
    )]
    OtherNodesDrain(String),
    /// The audit log.
    #[error("{}", chain(.0))]
    NotVerified(#[from] NotVerified),
    /// The audit log stays where it is.
    #[error("{}", chain(.0))]
    NotExported(#[from] NotExported),
    /// The random source failed.
    #[error("the system's random source failed")]
    Random,
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
