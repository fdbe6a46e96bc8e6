//! The daemon's end of the socket: a thread for each connection, and a bound on them.

use super::{
    message::{Request, Response},
    wire,
};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, listen, socket,
};
use std::{
    fs::{self, Permissions},
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use thiserror::Error;

/// How many connections are served at a time.
const CONNECTIONS: usize = 256;

/// A listening socket; its file goes when this is dropped.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
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
    /// own. A file that an earlier daemon left is replaced; the caller holds the node's lock.
    pub fn start<H>(path: &Path, mode: u32, handler: H) -> Result<Self, ServerError>
    where
        H: Fn(Request, Option<OwnedFd>) -> Response + Send + Sync + 'static,
    {
        let listener = listen_at(path, mode)
            .map_err(|source| ServerError { path: path.to_owned(), source })?;
        let handler = Arc::new(handler);
        let serving = Arc::new(AtomicUsize::new(0));
        thread::spawn(move || {
            while let Ok(connection) = accept(&listener) {
                if serving.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
                    serving.fetch_sub(1, Ordering::Relaxed);
                    tracing::warn!("refused a connection: {CONNECTIONS} are open already");
                    continue;
                }
                let (handler, serving) = (Arc::clone(&handler), Arc::clone(&serving));
                thread::spawn(move || {
                    if let Err(error) = serve(&connection, &*handler) {
                        tracing::debug!(%error, "a connection broke");
                    }
                    serving.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "removing the socket's file failed");
        }
    }
}

fn listen_at(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    bind(listener.as_raw_fd(), &UnixAddr::new(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    listen(&listener, Backlog::new(64)?)?;
    Ok(listener)
}

fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    loop {
        match accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            // SAFETY: the kernel has just made the descriptor for us.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            Err(nix::errno::Errno::EINTR | nix::errno::Errno::ECONNABORTED) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn serve<H>(connection: &OwnedFd, handler: &H) -> io::Result<()>
where
    H: Fn(Request, Option<OwnedFd>) -> Response,
{
    let mut buffer = Vec::new();
    while let Some(fd) = wire::receive(connection.as_fd(), &mut buffer)? {
        let response = match serde_json::from_slice(&buffer) {
            Ok(request) => handler(request, fd),
            Err(error) => Response::Error(format!("the request cannot be read: {error}")),
        };
        let message = serde_json::to_vec(&response).map_err(io::Error::other)?;
        wire::send(connection.as_fd(), &message, None)?;
    }
    Ok(())
}
