//! The other end of the daemon's socket, for applications and the command line.

use super::{
    message::{
        CapturedPackets, DrainHow, DrainProgress, Events, Explanation, HeldSessions, MoveResult,
        NodeRow, OpenedSession, Request, Response, SessionRow, SessionState, Stats, Status,
        XskPlace,
    },
    wire::{self, ReceiveError, ResponseMessage},
};
use crate::hold::Counts;
use dataplane_ebpf::marker::Token;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, socket};
use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};
use thiserror::Error;

/// A connection to the daemon of this node. Calls block until the daemon has answered.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// Why a call failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error(
        "no daemon answers at {}: {error}; is `jumpgate run` running, and may you use its socket?",
        path.display()
    )]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The connection broke.
    #[error("talking to the daemon failed")]
    Io(#[from] io::Error),
    /// The daemon hung up.
    #[error("the daemon has ended the connection")]
    HungUp,
    /// The daemon's answer makes no sense here.
    #[error("the daemon answers in words of another version")]
    Answer(#[source] Option<serde_json::Error>),
    /// The daemon refused.
    #[error("{0}")]
    Refused(String),
}

impl Client {
    /// Connects to the daemon's socket.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let dial = || -> nix::Result<OwnedFd> {
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
            connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
            Ok(socket)
        };
        match dial() {
            Ok(socket) => Ok(Self { socket, buffer: vec![0; wire::RESPONSE_MAX] }),
            Err(error) => Err(ClientError::Connect { path: path.to_owned(), error: error.into() }),
        }
    }

    /// How the node is.
    pub fn status(&mut self) -> Result<Status, ClientError> {
        match self.call(&Request::Status, None)? {
            Response::Status(status) => Ok(*status),
            _ => Err(ClientError::Answer(None)),
        }
    }

    /// The nodes of the cluster as this one sees them.
    pub fn nodes(&mut self) -> Result<Vec<NodeRow>, ClientError> {
        match self.call(&Request::Nodes, None)? {
            Response::Nodes(nodes) => Ok(nodes),
            _ => Err(ClientError::Answer(None)),
        }
    }

    /// Has the configuration file read again; the sections that have changed.
    pub fn reload(&mut self) -> Result<Vec<String>, ClientError> {
        match self.call(&Request::Reload, None)? {
            Response::Reloaded(sections) => Ok(sections),
            _ => Err(ClientError::Answer(None)),
        }
    }

    /// The counters.
    pub fn stats(&mut self) -> Result<Stats, ClientError> {
        self.read_stats(false)
    }

    /// The counters, for each CPU too.
    pub fn stats_by_cpu(&mut self) -> Result<Stats, ClientError> {
        self.read_stats(true)
    }

    fn read_stats(&mut self, by_cpu: bool) -> Result<Stats, ClientError> {
        match self.call(&Request::Stats { by_cpu }, None)? {
            Response::Stats(stats) => Ok(stats),
            _ => Err(ClientError::Answer(None)),
        }
    }

    /// Refused packets behind the number `after`, and how many there were in all.
    pub fn events(&mut self, after: u64) -> Result<Events, ClientError> {
        match self.call(&Request::Events { after }, None)? {
            Response::Events(events) => Ok(events),
            _ => Err(ClientError::Answer(None)),
        }
    }

    /// Up to 200 sessions behind the id `after`, fewer if they have many wire ids. None only when
    /// there are no more.
    pub fn sessions(&mut self, after: Option<&str>) -> Result<Vec<SessionRow>, ClientError> {
        let request = Request::Sessions { after: after.map(str::to_owned), limit: 200 };
        match self.call(&request, None)? {
            Response::Sessions(sessions) => Ok(sessions),
            _ => Err(ClientError::Answer(None)),
        }
    }

    /// What would become of frames (hexadecimal, at most 32) that arrive on an interface.
    pub fn explain(
        &mut self,
        packets: Vec<String>,
        interface: Option<String>,
    ) -> Result<Vec<Explanation>, ClientError> {
        self.explanations(&Request::Explain { packets, interface })
    }

    /// What would become of a session's packets.
    pub fn explain_session(
        &mut self,
        session: String,
        interface: Option<String>,
    ) -> Result<Vec<Explanation>, ClientError> {
        self.explanations(&Request::ExplainSession { session, interface })
    }

    fn explanations(&mut self, request: &Request) -> Result<Vec<Explanation>, ClientError> {
        match self.call(request, None)? {
            Response::Explanations(explanations) => Ok(explanations),
            _ => Err(ClientError::Answer(None)),
        }
    }

    /// Begins to capture a session's packets; returns the capture's number. It ends if
    /// [`Client::next_captured`] is not called for five seconds.
    pub fn start_capture(&mut self, session: &str) -> Result<u64, ClientError> {
        match self.call(&Request::CaptureStart { session: session.to_owned() }, None)? {
            Response::Capturing(capture) => Ok(capture),
            _ => Err(ClientError::Answer(None)),
        }
    }

    /// Packets that were captured meanwhile.
    pub fn next_captured(&mut self, capture: u64) -> Result<CapturedPackets, ClientError> {
        match self.call(&Request::CaptureNext { capture }, None)? {
            Response::Captured(captured) => Ok(captured),
            _ => Err(ClientError::Answer(None)),
        }
    }

    /// Ends a capture.
    pub fn stop_capture(&mut self, capture: u64) -> Result<(), ClientError> {
        self.done(&Request::CaptureStop { capture }, None)
    }

    /// Gives a socket to the selector; it stays open here too.
    pub fn add_socket(
        &mut self,
        service: &str,
        control: bool,
        cpu: u32,
        socket: BorrowedFd<'_>,
    ) -> Result<(), ClientError> {
        let request = Request::AddSocket { service: service.to_owned(), control, cpu };
        self.done(&request, Some(socket))
    }

    /// Opens a session on a CPU of this node.
    pub fn open(&mut self, service: &str, cpu: u32) -> Result<OpenedSession, ClientError> {
        self.open_for(service, cpu, None)
    }

    /// Opens a session that is bound to a client from the start.
    pub fn open_for(
        &mut self,
        service: &str,
        cpu: u32,
        client: Option<SocketAddr>,
    ) -> Result<OpenedSession, ClientError> {
        match self.call(&Request::Open { service: service.to_owned(), cpu, client }, None)? {
            Response::Opened(opened) => Ok(opened),
            _ => Err(ClientError::Answer(None)),
        }
    }

    /// Binds a session to a client, or to nobody.
    pub fn bind(&mut self, session: &str, client: Option<SocketAddr>) -> Result<(), ClientError> {
        let session = session.to_owned();
        let request = match client {
            Some(client) => Request::Bind { session, client },
            None => Request::Unbind { session },
        };
        self.done(&request, None)
    }

    /// Moves a session to another node.
    pub fn hand_over(&mut self, session: &str, node: &str) -> Result<MoveResult, ClientError> {
        let (session, node) = (session.to_owned(), node.to_owned());
        match self.call(&Request::HandOver { session, node }, None)? {
            Response::Moved(result) => Ok(result),
            _ => Err(ClientError::Answer(None)),
        }
    }

    /// Lets a node take no more sessions, and give away those that it has.
    pub fn drain(&mut self, node: &str, how: Option<DrainHow>) -> Result<(), ClientError> {
        self.done(&Request::Drain { node: node.to_owned(), how }, None)
    }

    /// Lets a node take sessions again.
    pub fn undrain(&mut self, node: &str) -> Result<(), ClientError> {
        self.done(&Request::Undrain { node: node.to_owned() }, None)
    }

    /// How far the drain of the node is.
    pub fn drain_status(&mut self) -> Result<DrainProgress, ClientError> {
        match self.call(&Request::DrainStatus, None)? {
            Response::Draining(progress) => Ok(progress),
            _ => Err(ClientError::Answer(None)),
        }
    }

    /// A session as it stands, wherever it is; nothing if there is none, or only its owner has it.
    pub fn session(&mut self, session: &str) -> Result<Option<SessionState>, ClientError> {
        match self.call(&Request::Session { session: session.to_owned() }, None)? {
            Response::Session(state) => Ok(state),
            _ => Err(ClientError::Answer(None)),
        }
    }

    /// Replays the whole audit log: its rows, its events, and the sessions that it leads to.
    pub fn verify_audit(&mut self) -> Result<(usize, usize, usize), ClientError> {
        match self.call(&Request::AuditVerify, None)? {
            Response::Verified { rows, events, sessions } => Ok((rows, events, sessions)),
            _ => Err(ClientError::Answer(None)),
        }
    }

    /// Moves what waits in the node's audit log to a file, and gives how many rows that were.
    pub fn export_audit(&mut self, path: &Path) -> Result<usize, ClientError> {
        match self.call(&Request::AuditExport { path: path.to_owned() }, None)? {
            Response::Exported(rows) => Ok(rows),
            _ => Err(ClientError::Answer(None)),
        }
    }

    /// Lets the daemon read the cluster's secrets again; the numbers of those that are live.
    pub fn reload_secrets(&mut self) -> Result<Vec<u16>, ClientError> {
        match self.call(&Request::ReloadSecrets, None)? {
            Response::Secrets(numbers) => Ok(numbers),
            _ => Err(ClientError::Answer(None)),
        }
    }

    /// Mints a wire id in the slot of a session.
    pub fn mint(&mut self, session: &str) -> Result<String, ClientError> {
        match self.call(&Request::Mint { session: session.to_owned() }, None)? {
            Response::WireId(id) => Ok(id),
            _ => Err(ClientError::Answer(None)),
        }
    }

    /// Holds sessions, and returns when nothing of them is in flight. After an error they may be held:
    /// it says so.
    pub fn hold(
        &mut self,
        sessions: &[String],
        deadline: Duration,
    ) -> Result<HeldSessions, ClientError> {
        let deadline_ms = deadline.as_millis() as u64;
        match self.call(&Request::Hold { sessions: sessions.to_vec(), deadline_ms }, None)? {
            Response::Held(held) => Ok(held),
            _ => Err(ClientError::Answer(None)),
        }
    }

    /// Tells that the application has read a marker: whatever has been queued for the same socket
    /// before it must have been read, too.
    pub fn acknowledge(&mut self, marker: Token) -> Result<(), ClientError> {
        let marker = marker.iter().map(|byte| format!("{byte:02x}")).collect();
        self.done(&Request::Acknowledge { marker }, None)
    }

    /// Releases held sessions: here, or to a node at their new state_version there.
    pub fn release(
        &mut self,
        sessions: &[String],
        to: Option<(&str, u64)>,
    ) -> Result<Counts, ClientError> {
        let (node, version) = to.map(|(node, version)| (node.to_owned(), version)).unzip();
        let request = Request::Release { sessions: sessions.to_vec(), node, version };
        match self.call(&request, None)? {
            Response::Released(counts) => Ok(counts),
            _ => Err(ClientError::Answer(None)),
        }
    }

    /// Gives an AF_XDP socket the packets of a queue, and returns what its application needs; for
    /// [`crate::af_xdp::Port`], which does it.
    pub fn add_xsk(
        &mut self,
        interface: &str,
        queue: u32,
        socket: BorrowedFd<'_>,
    ) -> Result<(XskPlace, Vec<OwnedFd>), ClientError> {
        let request = Request::AddXsk { interface: interface.to_owned(), queue };
        match self.call_with_fds(&request, Some(socket))? {
            (Response::Xsk(place), fds) => Ok((place, fds)),
            _ => Err(ClientError::Answer(None)),
        }
    }

    /// Sends a request that is answered with "done".
    pub fn done(
        &mut self,
        request: &Request,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), ClientError> {
        match self.call(request, fd)? {
            Response::Done => Ok(()),
            _ => Err(ClientError::Answer(None)),
        }
    }

    fn call(
        &mut self,
        request: &Request,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<Response, ClientError> {
        Ok(self.call_with_fds(request, fd)?.0)
    }

    fn call_with_fds(
        &mut self,
        request: &Request,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(Response, Vec<OwnedFd>), ClientError> {
        let message = serde_json::to_vec(request).expect("a request is plain data");
        let sent = wire::send(self.socket.as_fd(), &message, fd.as_slice(), MsgFlags::empty());
        // A daemon that has no place for this connection says so before it hangs up.
        match sent {
            Err(error) if !hung_up(&error) => return Err(error.into()),
            _ => {}
        }
        let received = wire::receive_response(self.socket.as_fd(), &mut self.buffer);
        let received = received.map_err(|error| match error {
            ReceiveError::Io(error) => error,
            error => io::Error::new(io::ErrorKind::InvalidData, error),
        })?;
        let ResponseMessage { bytes, fds } = received.ok_or(ClientError::HungUp)?;
        match serde_json::from_slice(bytes) {
            Ok(Response::Error(reason)) => Err(ClientError::Refused(reason)),
            Ok(response) => Ok((response, fds)),
            Err(error) => Err(ClientError::Answer(Some(error))),
        }
    }
}

fn hung_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
