//! The daemon's end of the socket: a thread for each connection, and a bound on them.

use super::{
    listener::{Access, SocketFile, accept, listen_at, make_socket},
    message::{Answer, Request, Response},
    places::Places,
    wire::{self, Message, ReceiveError},
};
use nix::sys::{
    socket::{MsgFlags, SockType, getsockopt, setsockopt, sockopt},
    time::{TimeVal, TimeValLike},
};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use thiserror::Error;

/// How many seconds an answer waits for a client that does not read.
const SEND_SECONDS: i64 = 5;

/// How long nothing is accepted after accepting failed: most often too many files are open.
const PAUSE: Duration = Duration::from_millis(100);

/// How often the log says that connections are refused or fail.
const COMPLAINTS: Duration = Duration::from_secs(10);

/// A listening socket; its file goes when this is dropped.
#[derive(Debug)]
pub struct Server {
    _file: SocketFile,
}

/// The socket could not be made.
#[derive(Debug, Error)]
#[error("listening at {} failed; set api.socket to a path that can be created", path.display())]
pub struct ServerError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Server {
    /// Listens at `path`, whose file gets `mode`, and answers with `handler` from threads of its
    /// own. A socket that an earlier daemon left is replaced; the caller holds the node's lock.
    pub fn start<H>(path: &Path, mode: u32, handler: H) -> Result<Self, ServerError>
    where
        H: Fn(Request, Option<OwnedFd>) -> Answer + Send + Sync + 'static,
    {
        let start = || {
            let (listener, file) =
                listen_at(path, SockType::SeqPacket, Access { mode, group: None })?;
            thread::Builder::new()
                .name("api".into())
                .spawn(move || accept_all(&listener, &Arc::new(handler)))?;
            Ok(Self { _file: file })
        };
        start().map_err(|source| ServerError { path: path.to_owned(), source })
    }

    /// Whether [`Server::start`] could listen at `path` now. Nobody can connect meanwhile, and no
    /// file but an earlier daemon's socket is removed.
    pub fn check(path: &Path) -> Result<(), ServerError> {
        let made = make_socket(path, SockType::SeqPacket).map(drop);
        made.map_err(|source| ServerError { path: path.to_owned(), source })
    }
}

/// Serves whoever connects, for ever: what fails for one connection may work for the next.
fn accept_all<H>(listener: &OwnedFd, handler: &Arc<H>)
where
    H: Fn(Request, Option<OwnedFd>) -> Answer + Send + Sync + 'static,
{
    let places = Places::default();
    let mut complained: Option<Instant> = None;
    loop {
        let (failed, pause) = match accept(listener) {
            Ok(connection) => (admit(connection, &places, handler), Duration::ZERO),
            Err(error) => (Err(error), PAUSE),
        };
        if let Err(error) = failed {
            if complained.is_none_or(|at| at.elapsed() > COMPLAINTS) {
                tracing::warn!("a connection to the API failed: {error}");
                complained = Some(Instant::now());
            }
            thread::sleep(pause);
        }
    }
}

/// Serves a connection from a thread of its own, or answers that there is no place for it.
fn admit<H>(connection: OwnedFd, places: &Places, handler: &Arc<H>) -> io::Result<()>
where
    H: Fn(Request, Option<OwnedFd>) -> Answer + Send + Sync + 'static,
{
    prepare(&connection)?;
    let process = getsockopt(&connection, sockopt::PeerCredentials)?.pid();
    let place = match places.take(process) {
        Ok(place) => place,
        Err(full) => {
            let refusal = Response::Error(full.to_string()).into();
            answer(&connection, &refusal, MsgFlags::MSG_DONTWAIT)?;
            return Err(io::Error::other(full));
        }
    };
    let handler = Arc::clone(handler);
    thread::Builder::new().name("api-connection".into()).spawn(move || {
        let _place = place;
        if let Err(error) = serve(&connection, &*handler) {
            tracing::debug!(%error, "a connection broke");
        }
    })?;
    Ok(())
}

/// Lets the longest answer through, and no client hold its thread by not reading.
fn prepare(connection: &OwnedFd) -> io::Result<()> {
    setsockopt(connection, sockopt::SendTimeout, &TimeVal::seconds(SEND_SECONDS))?;
    let buffer = wire::RESPONSE_MAX;
    if setsockopt(connection, sockopt::SndBufForce, &buffer).is_err() {
        // Without CAP_NET_ADMIN net.core.wmem_max bounds it; then long answers may be refused.
        setsockopt(connection, sockopt::SndBuf, &buffer)?;
    }
    Ok(())
}

fn serve<H>(connection: &OwnedFd, handler: &H) -> io::Result<()>
where
    H: Fn(Request, Option<OwnedFd>) -> Answer,
{
    let mut buffer = vec![0; wire::REQUEST_MAX];
    loop {
        let answered = match wire::receive(connection.as_fd(), &mut buffer) {
            Ok(None) => return Ok(()),
            Ok(Some(Message { bytes, fd })) => match serde_json::from_slice(bytes) {
                Ok(request) => handler(request, fd),
                Err(error) => {
                    Response::Error(format!("the request cannot be read: {error}")).into()
                }
            },
            Err(ReceiveError::Io(error)) => return Err(error),
            Err(error) => Response::Error(error.to_string()).into(),
        };
        answer(connection, &answered, MsgFlags::empty())?;
    }
}

fn answer(connection: &OwnedFd, answer: &Answer, flags: MsgFlags) -> io::Result<()> {
    let message = serde_json::to_vec(&answer.response).map_err(io::Error::other)?;
    let sent = match message.len() {
        0..=wire::RESPONSE_MAX => {
            let fds: Vec<_> = answer.fds.iter().map(AsFd::as_fd).collect();
            wire::send(connection.as_fd(), &message, &fds, flags)
        }
        _ => Err(io::Error::from_raw_os_error(libc::EMSGSIZE)),
    };
    match sent {
        Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
            let reason = format!("the answer is too long: it has {} bytes", message.len());
            let message = serde_json::to_vec(&Response::Error(reason)).map_err(io::Error::other)?;
            wire::send(connection.as_fd(), &message, &[], flags)
        }
        sent => sent,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Client, ClientError, NextHop, Status, places},
        *,
    };

    fn status(nodes: usize) -> Status {
        let nodes = (0..nodes).map(|number| NextHop {
            node: format!("gateway-{number}.rack-17.zone-3.example.net"),
            address: "2001:db8:1234:5678:9abc:def0:1234:5678".into(),
            mac: Some("02:00:00:00:00:01".into()),
            interface: Some("enp65s0f0np0".into()),
        });
        Status {
            node: "a".into(),
            pid: 1,
            version: "1".into(),
            epoch: 1,
            fence_open_ms: 1,
            revision: 1,
            slots: 1,
            sessions: 0,
            entries: 0,
            capacity: 1,
            cpus: vec![0],
            interfaces: Vec::new(),
            egress: vec![],
            nodes: nodes.collect(),
            hold: None,
            services: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn serve_nodes(nodes: usize) -> (tempfile::TempDir, PathBuf, Server) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sock");
        let handler = move |_, _| Response::Status(Box::new(status(nodes))).into();
        let server = Server::start(&path, 0o600, handler).expect("listening");
        (folder, path, server)
    }

    #[test]
    fn the_status_of_a_thousand_nodes_arrives() {
        let (_folder, path, _server) = serve_nodes(1_000);
        let mut client = Client::connect(&path).expect("connected");
        assert_eq!(client.status().expect("an answer"), status(1_000));
    }

    #[test]
    fn an_answer_that_is_too_long_is_said_to_be() {
        let (_folder, path, _server) = serve_nodes(20_000);
        let mut client = Client::connect(&path).expect("connected");
        let error = client.status().expect_err("refused").to_string();
        assert!(error.starts_with("the answer is too long"), "{error}");
        let error = client.status().expect_err("refused").to_string();
        assert!(error.starts_with("the answer is too long"), "the connection lives: {error}");
    }

    #[test]
    fn whoever_has_too_many_connections_is_told() {
        let (_folder, path, _server) = serve_nodes(1);
        let connect = || Client::connect(&path).expect("connected");
        let mut served: Vec<_> = (0..places::EACH).map(|_| connect()).collect();
        for client in &mut served {
            client.status().expect("an answer");
        }
        for _ in 0..100 {
            match connect().status() {
                Err(ClientError::Refused(reason)) => {
                    assert!(reason.contains("64 connections"), "{reason}");
                }
                other => panic!("{other:?}"),
            }
        }
        served.clear();
        let mut client = connect();
        while client.status().is_err() {
            client = connect();
        }
    }
}
