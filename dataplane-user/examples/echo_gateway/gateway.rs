//! The echo application: a thread and a socket for each CPU, and one thread that talks to the daemon.
//!
//! Payloads behind the native header:
//!
//! | packet | payload |
//! | --- | --- |
//! | DATA, the answer | what the client sent, place |
//! | OPENED, the answer to OPEN | the client's 16 bytes, place |
//!
//! A place is a CPU (2), the length of the gateway's name (1) and the name.
//!
//! What it keeps of a session is how many packets it has answered. That goes with the session to the gateway on
//! another node (`Quiesced` there, `Granted` here).

use anyhow::{Context, Result};
use dataplane_ebpf::{
    dissect::native::{Header, TYPE_DATA, TYPE_OPEN, TYPE_OPENED},
    marker::recognise,
};
use dataplane_user::{
    api,
    sessions_api::{Answers, Attachment, Client, ClientError, Notice, Opening},
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
    },
    unistd::Pid,
};
use ownership::SessionId;
use std::{
    collections::{HashMap, HashSet},
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{runtime, sync::watch};

/// How often threads look whether they are to stop.
const TICK: Duration = Duration::from_millis(50);

/// How long after the daemon was lost it is looked for again.
const AGAIN: Duration = Duration::from_millis(100);

/// How many sessions are being opened at a time; clients of others ask again.
const OPENING: usize = 1024;

/// What is received at a socket before it is read: the kernel's default is some 200 packets.
const RECEIVE_BUFFER: usize = 4 << 20;

/// What a gateway serves, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it calls itself in answers: at most 255 bytes.
    pub name: String,
    /// The daemon's socket, which takes ours.
    pub api: PathBuf,
    /// The socket of its Sessions API.
    pub sessions_api: PathBuf,
    /// The name of a service of the native protocol.
    pub service: String,
    /// The service's address and port.
    pub address: SocketAddr,
    /// The CPUs that process sessions.
    pub cpus: Vec<u32>,
}

/// A running gateway. It stops when this is dropped, and its sessions have lost their transport then.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<()>>>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    stop: AtomicBool,
    sockets: Vec<Socket>,
    sessions: Mutex<HashMap<SessionId, Session>>,
    /// The random bytes of clients whose sessions are being opened.
    opening: Mutex<HashSet<[u8; 16]>>,
    /// The connection to the daemon, while there is one.
    daemon: watch::Sender<Option<Daemon>>,
}

#[derive(Debug)]
struct Socket {
    cpu: u32,
    socket: UdpSocket,
}

/// What the gateway keeps of a session.
#[derive(Clone, Copy, Debug)]
struct Session {
    /// Owner epoch and state_version, which go into the answers.
    owner: (u32, u64),
    /// How many packets were answered, on all nodes.
    answered: u64,
}

/// A connection to the daemon, and the stream on it.
#[derive(Clone, Debug)]
struct Daemon {
    client: Client,
    stream: u64,
}

impl Gateway {
    /// Opens the sockets in the calling thread's network namespace, and starts to serve; it looks for the daemon
    /// until there is one.
    pub fn start(options: Options) -> Result<Self> {
        let open = |&cpu: &u32| -> Result<Socket> {
            let socket = shared_socket(options.address)
                .with_context(|| format!("binding a socket to {}", options.address))?;
            Ok(Socket { cpu, socket })
        };
        let sockets = options.cpus.iter().map(open).collect::<Result<Vec<_>>>()?;
        let shared = Arc::new(Shared {
            options,
            stop: AtomicBool::new(false),
            sockets,
            sessions: Mutex::default(),
            opening: Mutex::default(),
            daemon: watch::Sender::new(None),
        });
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let mut threads = Vec::new();
        for at in 0..shared.sockets.len() {
            let (shared, handle) = (Arc::clone(&shared), runtime.handle().clone());
            threads.push(thread::spawn(move || serve(&shared, at, &handle)));
        }
        let of_daemon = Arc::clone(&shared);
        threads.push(thread::spawn(move || {
            runtime.block_on(follow(&of_daemon));
            Ok(())
        }));
        Ok(Self { shared, threads })
    }

    /// Whether it is attached to a daemon, and the daemon has its sockets.
    pub fn is_attached(&self) -> bool {
        self.shared.daemon.borrow().is_some()
    }

    /// How many packets of a session were answered, on all nodes; nothing if this gateway has it not.
    pub fn answered(&self, session: SessionId) -> Option<u64> {
        locked(&self.shared.sessions).get(&session).map(|session| session.answered)
    }

    /// Serves until a thread fails.
    pub fn wait(mut self) -> Result<()> {
        self.join()
    }

    fn join(&mut self) -> Result<()> {
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            let end = thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")));
            result = result.and(end);
        }
        result
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Err(error) = self.join() {
            eprintln!("gateway: {error:#}");
        }
    }
}

/// The socket of one CPU: it shares its port with the others, and is not connected.
fn shared_socket(address: SocketAddr) -> nix::Result<UdpSocket> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReusePort, &true)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    // Without CAP_NET_ADMIN net.core.rmem_max bounds it.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(UdpSocket::from(socket))
}

/// Answers what comes to a socket.
fn serve(shared: &Arc<Shared>, at: usize, handle: &runtime::Handle) -> Result<()> {
    let Socket { cpu, socket } = &shared.sockets[at];
    let mut set = CpuSet::new();
    set.set(*cpu as usize).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))?;
    socket.set_read_timeout(Some(TICK))?;
    let mut acknowledging = Acknowledging { daemon: shared.options.api.clone(), client: None };
    let mut packet = [0; 2048];
    while !shared.stop.load(Ordering::Relaxed) {
        let (length, client) = match socket.recv_from(&mut packet) {
            Ok(received) => received,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                continue;
            }
            Err(error) => return Err(error).context("receiving"),
        };
        let packet = &packet[..length];
        if let Some(token) = recognise(packet) {
            // Whatever came before it is answered.
            acknowledging.acknowledge(token);
            continue;
        }
        match Header::decode(packet) {
            Some((header, payload)) if header.kind == TYPE_DATA => {
                let session = SessionId::new(header.session);
                if let Some(owner) = shared.answer(session) {
                    let header = Header { owner: Some(owner), ..header };
                    shared.send(at, client, header, payload);
                }
            }
            Some((header, _)) if header.kind == TYPE_OPEN => {
                open(shared, at, client, header.session, handle);
            }
            _ => {}
        }
    }
    Ok(())
}

impl Shared {
    /// Counts a packet of a session; its owner fields, if it is this gateway's.
    fn answer(&self, session: SessionId) -> Option<(u32, u64)> {
        let mut sessions = locked(&self.sessions);
        let session = sessions.get_mut(&session)?;
        session.answered += 1;
        Some(session.owner)
    }

    /// Sends an answer; a full queue loses it, as a network may.
    fn send(&self, at: usize, client: SocketAddr, header: Header, payload: &[u8]) {
        let Socket { cpu, socket } = &self.sockets[at];
        let name = &self.options.name;
        let (bytes, length) = header.encode();
        let mut packet = bytes[..length].to_vec();
        packet.extend(payload);
        packet.extend((*cpu as u16).to_be_bytes());
        packet.push(name.len() as u8);
        packet.extend(name.as_bytes());
        let _lost = socket.send_to(&packet, client);
    }
}

/// Opens a session for a client, and answers when that is done. The socket is read on meanwhile.
fn open(
    shared: &Arc<Shared>,
    at: usize,
    client: SocketAddr,
    random: [u8; 16],
    handle: &runtime::Handle,
) {
    let Some(daemon) = shared.daemon.borrow().clone() else { return };
    {
        // A client that hears nothing asks again, with the same bytes.
        let mut opening = locked(&shared.opening);
        if opening.len() >= OPENING || !opening.insert(random) {
            return;
        }
    }
    let shared = Arc::clone(shared);
    handle.spawn(async move {
        let opening = Opening {
            cpu: Some(shared.sockets[at].cpu),
            client: Some(client),
            stream: Some(daemon.stream),
            ..Opening::of(&shared.options.service)
        };
        let opened = daemon.client.open(opening).await;
        match opened {
            Ok(opened) => {
                let owner = (opened.epoch.get(), opened.version.get());
                locked(&shared.sessions).insert(opened.session, Session { owner, answered: 0 });
                let session = opened.session.bytes();
                let header = Header { kind: TYPE_OPENED, session, owner: Some(owner) };
                shared.send(at, client, header, &random);
            }
            Err(error) => eprintln!("a session was not opened: {error}"),
        }
        locked(&shared.opening).remove(&random);
    });
}

/// Follows what the daemon tells, and looks for the next one when that ends.
async fn follow(shared: &Arc<Shared>) {
    let stopped = async {
        while !shared.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(TICK).await;
        }
    };
    let followed = async {
        loop {
            if let Err(error) = attach(shared).await {
                eprintln!("the daemon is looked for: {error:#}");
            }
            shared.daemon.send_replace(None);
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::select! {
        () = stopped => {}
        () = followed => {}
    }
}

/// Attaches to the daemon, and goes on until that ends.
async fn attach(shared: &Arc<Shared>) -> Result<()> {
    let Options { api, sessions_api, service, .. } = &shared.options;
    let client = Client::connect(sessions_api).await?;
    let mut attachment = client.attach(service).await?;
    // A daemon with new tables needs them; any other has them, and nothing changes.
    let mut sockets = api::Client::connect(api)?;
    for Socket { cpu, socket } in &shared.sockets {
        sockets
            .add_socket(service, false, *cpu, socket.as_fd())
            .with_context(|| format!("handing over the socket of CPU {cpu}"))?;
    }
    drop(sockets);
    take_up(shared, &client, &attachment).await?;
    let daemon = Daemon { client, stream: attachment.stream() };
    shared.daemon.send_replace(Some(daemon));
    let answers = attachment.answers();
    while let Some(notice) = attachment.next().await? {
        obey(shared, &answers, notice).await?;
    }
    Ok(())
}

/// Goes on with the sessions that are here, from before.
async fn take_up(
    shared: &Shared,
    client: &Client,
    attachment: &Attachment,
) -> Result<(), ClientError> {
    let (mut after, mut known) = (None, HashSet::new());
    loop {
        let page = client.list(Some(&shared.options.service), after, None).await?;
        for session in page.sessions {
            let (session, owner) = (session.session, (session.epoch.get(), session.version.get()));
            known.insert(session);
            attachment.answers().own(session).await?;
            let was_here = locked(&shared.sessions).get_mut(&session).map(|row| row.owner = owner);
            if was_here.is_none() {
                // It came while nobody was attached.
                let answered = answered(client.get(session).await?.context);
                locked(&shared.sessions).insert(session, Session { owner, answered });
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    locked(&shared.sessions).retain(|session, _| known.contains(session));
    Ok(())
}

/// Does what a notice says.
async fn obey(shared: &Shared, answers: &Answers, notice: Notice) -> Result<(), ClientError> {
    match notice {
        Notice::Granted { session, epoch, version, context, .. } => {
            let (owner, answered) = ((epoch.get(), version.get()), answered(context));
            locked(&shared.sessions).insert(session, Session { owner, answered });
            answers.ready(session, true).await
        }
        Notice::Quiesce { session } => {
            // All that came was answered: the markers said so.
            let answered = locked(&shared.sessions).get(&session).map(|session| session.answered);
            let context = answered.map(|answered| answered.to_be_bytes().to_vec());
            answers.quiesced(session, context).await
        }
        Notice::Lost { session, .. } | Notice::Ended { session } => {
            locked(&shared.sessions).remove(&session);
            Ok(())
        }
        Notice::Changed { session, version, .. } => {
            if let Some(session) = locked(&shared.sessions).get_mut(&session) {
                session.owner.1 = version.get();
            }
            Ok(())
        }
        Notice::Freezes { .. } | Notice::Thaws { .. } => Ok(()),
        Notice::Refused { session, message, .. } => {
            eprintln!("session {session}: {message}");
            Ok(())
        }
    }
}

/// How many packets were answered, by the context of a session.
fn answered(context: Vec<u8>) -> u64 {
    context.try_into().map_or(0, u64::from_be_bytes)
}

/// Tells the daemon that markers were read.
struct Acknowledging {
    daemon: PathBuf,
    client: Option<api::Client>,
}

impl Acknowledging {
    fn acknowledge(&mut self, token: dataplane_ebpf::marker::Token) {
        let daemon: &Path = &self.daemon;
        let client = self.client.take().map_or_else(|| api::Client::connect(daemon), Ok);
        // A marker that is not acknowledged comes again.
        self.client = client.ok().and_then(|mut client| match client.acknowledge(token) {
            Ok(()) | Err(api::ClientError::Refused(_)) => Some(client),
            Err(_) => None,
        });
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
