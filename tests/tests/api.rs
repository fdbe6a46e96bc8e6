//! The daemon's socket and clients that misbehave: they harm themselves, not others.

use std::fs;
use std::io::{self, IoSlice, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Stdio;
use std::ptr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane_user::api::{Client as Api, Response};
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::fleet::{self, Options};
use jumpgate_tests::topology::Cluster;
use jumpgate_tests::{probe, require_root};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, sendmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

const PATIENCE: Duration = Duration::from_secs(20);

/// How many connections of one process are served.
const EACH: usize = 64;

/// A connection without manners.
struct Raw(OwnedFd);

impl Raw {
    fn connect(daemon: &Daemon) -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        connect(socket.as_raw_fd(), &UnixAddr::new(daemon.socket())?)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(10, 0))?;
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(1, 0))?;
        setsockopt(&socket, sockopt::SndBufForce, &(4 << 20))?;
        Ok(Self(socket))
    }

    /// Sends a message with so many descriptors beside it.
    fn send(&self, message: &[u8], fds: usize) -> nix::Result<()> {
        let fds = vec![self.0.as_raw_fd(); fds];
        let rights = [ControlMessage::ScmRights(&fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights };
        let parts = [IoSlice::new(message)];
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(self.0.as_raw_fd(), &parts, rights, flags, None).map(drop)
    }

    /// The reason for which a message is refused.
    fn refusal(&self) -> Result<String> {
        let mut buffer = vec![0; 1 << 20];
        let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        match serde_json::from_slice(&buffer[..length])? {
            Response::Error(reason) => Ok(reason),
            other => anyhow::bail!("answered with {other:?}"),
        }
    }
}

fn start(cluster: &Cluster) -> Result<Daemon> {
    let node = &cluster.nodes()[0];
    Daemon::start(cluster, node, &fleet::config(cluster, node, &Options::default()))
}

fn open_files(daemon: &Daemon) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", daemon.id()))?.count())
}

/// Whether `jumpgate status` answers: another process than this one.
fn status_answers(daemon: &Daemon) -> Result<bool> {
    let mut command = daemon.command()?;
    command.arg("status").arg("--socket").arg(daemon.socket());
    Ok(command.stdin(Stdio::null()).output()?.status.success())
}

#[test]
fn floods_of_descriptors_are_refused_and_closed() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let daemon = start(&cluster)?;
    let raw = Raw::connect(&daemon)?;
    Api::connect(daemon.socket())?.status()?;
    raw.send(b"{}", 0)?;
    raw.refusal()?;
    let before = open_files(&daemon)?;
    for count in [2, 8, 9, 64, 253] {
        for message in [&br#"{"request":"status"}"#[..], &[b'x'; 200 * 1024]] {
            for _ in 0..20 {
                raw.send(message, count)?;
                let reason = raw.refusal()?;
                let expected = ["more than one file descriptor", "longer than 131072 bytes"];
                ensure!(expected.iter().any(|expected| reason.contains(expected)), "{reason}");
            }
        }
    }
    // Beside an empty message, which ends a connection.
    for _ in 0..20 {
        Raw::connect(&daemon)?.send(b"", 253)?;
    }
    let closed = probe::until(PATIENCE, || open_files(&daemon).is_ok_and(|now| now <= before));
    ensure!(closed, "{before} files were open before, {} are now", open_files(&daemon)?);
    ensure!(status_answers(&daemon)?);
    Ok(())
}

#[test]
fn garbage_and_oversized_messages_are_refused_in_words() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let daemon = start(&cluster)?;
    let raw = Raw::connect(&daemon)?;
    let deep = "[".repeat(100_000);
    for garbage in ["\0", "{", "null", r#"{"request":"launch"}"#, "\u{fffd}", &deep] {
        raw.send(garbage.as_bytes(), 0)?;
        let reason = raw.refusal()?;
        ensure!(reason.starts_with("the request cannot be read: "), "{reason}");
    }
    raw.send(&vec![b' '; 1 << 20], 0)?;
    let reason = raw.refusal()?;
    ensure!(reason == "the message is longer than 131072 bytes", "{reason}");
    ensure!(status_answers(&daemon)?);
    Ok(())
}

#[test]
fn three_hundred_connections_of_one_process_lock_nobody_out() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let daemon = start(&cluster)?;
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..300 {
        let mut api = Api::connect(daemon.socket())?;
        match api.status() {
            Ok(_) => held.push(api),
            Err(error) => {
                ensure!(error.to_string().contains("connections open already"), "{error}");
                refused += 1;
            }
        }
    }
    ensure!(held.len() >= EACH && refused >= 300 - EACH - 2, "{} held", held.len());
    ensure!(status_answers(&daemon)?);
    drop(held);
    let free = probe::until(PATIENCE, || {
        Api::connect(daemon.socket()).is_ok_and(|mut api| api.status().is_ok())
    });
    ensure!(free, "places are not given back");
    Ok(())
}

#[test]
fn clients_that_do_not_read_lose_their_places() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let daemon = start(&cluster)?;
    let mut greedy = Vec::new();
    for _ in 0..EACH {
        let raw = Raw::connect(&daemon)?;
        while raw.send(br#"{"request":"status"}"#, 0).is_ok() && greedy.len() < 4 {}
        greedy.push(raw);
    }
    // Those that wait with full queues are hung up on, the others sit idle.
    let ended = probe::until(PATIENCE, || {
        greedy[..4].iter().all(|raw| raw.send(b"{}", 0) == Err(nix::errno::Errno::EPIPE))
    });
    ensure!(ended, "the daemon waits for clients that do not read");
    ensure!(status_answers(&daemon)?);
    Ok(())
}

#[test]
fn a_daemon_without_descriptors_accepts_again_when_it_has_some() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let daemon = start(&cluster)?;
    let mut api = Api::connect(daemon.socket())?;
    api.status()?;
    let limit = |soft: Option<u64>| -> Result<u64> {
        let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        let id = daemon.id() as i32;
        // SAFETY: the old limits outlive the call.
        let read = unsafe { libc::prlimit(id, libc::RLIMIT_NOFILE, ptr::null(), &raw mut old) };
        ensure!(read == 0, "reading limits: {}", io::Error::last_os_error());
        let Some(soft) = soft else { return Ok(old.rlim_cur) };
        let new = libc::rlimit { rlim_cur: soft, ..old };
        // SAFETY: the new limits outlive the call.
        let set =
            unsafe { libc::prlimit(id, libc::RLIMIT_NOFILE, &raw const new, ptr::null_mut()) };
        ensure!(set == 0, "setting a limit: {}", io::Error::last_os_error());
        Ok(old.rlim_cur)
    };
    let old = limit(None)?;
    limit(Some(3))?;
    let waiting: Vec<_> = (0..5).map(|_| Raw::connect(&daemon)).collect::<Result<_>>()?;
    let said = probe::until(PATIENCE, || daemon.log().contains("Too many open files"));
    ensure!(said, "{}", daemon.log());
    api.status().context("who is connected is served")?;
    limit(Some(old))?;
    ensure!(status_answers(&daemon)?);
    drop(waiting);
    Ok(())
}

#[test]
fn commands_end_quietly_when_nobody_reads() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let daemon = start(&cluster)?;
    let commands: [&[&str]; 4] =
        [&["status"], &["sessions", "--json"], &["stats"], &["stats", "--watch"]];
    for arguments in commands {
        let (reader, writer) = io::pipe()?;
        drop(reader);
        let mut command = daemon.command()?;
        command.args(arguments).arg("--socket").arg(daemon.socket());
        let mut child =
            command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).spawn()?;
        let mut error = String::new();
        child.stderr.take().context("it is piped")?.read_to_string(&mut error)?;
        let status = child.wait()?;
        ensure!(status.success() && error.is_empty(), "{arguments:?}: {status}, {error}");
    }
    Ok(())
}

#[test]
fn a_daemon_that_ends_removes_no_file_but_its_own() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let mut daemon = start(&cluster)?;
    let path = daemon.socket().to_owned();
    fs::remove_file(&path)?;
    fs::write(&path, "precious")?;
    daemon.stop()?;
    ensure!(fs::read_to_string(&path)? == "precious");
    Ok(())
}
