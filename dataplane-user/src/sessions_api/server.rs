//! The daemon's end: sockets, and who is served.

use super::{
    ANSWER_MAX, MESSAGE_MAX,
    allowed::{Allowed, NoAccount, group},
    calls::{Calls, Desk, stopped},
    incoming::{Listener, connections},
    proto::sessions_server::SessionsServer,
    streams::Streams,
};
use crate::{
    api::listener::{Access, SocketFile, listen_at, make_socket},
    config::{Config, MutualTls, SessionsApi},
    runtime::Runtime,
};
use nix::sys::socket::SockType;
use std::{
    fs, io,
    net::SocketAddr,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use thiserror::Error;
use tokio::sync::watch;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

/// How many calls of one connection are under way at a time, its streams included.
const CALLS: u32 = 1024;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How often a TCP connection is asked for a sign of life, and how long that may take.
const ALIVE: Duration = Duration::from_secs(5);

/// A running server. When it is dropped it takes no more connections and ends its streams; calls that are
/// under way are answered.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    _file: SocketFile,
}

/// Why the Sessions API cannot be served.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The Unix socket could not be made.
    #[error(
        "listening at {} failed; set sessions_api.socket to a path that can be created, and \
         sessions_api.group to a group that this process may give it to",
        path.display()
    )]
    Unix {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The TCP socket could not be made.
    #[error("listening at {address} failed; set sessions_api.listen to an address of this node")]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("reading {}, which sessions_api.{key} names, failed", path.display())]
    Read {
        /// The key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Certificates or key make no sense.
    #[error(
        "the certificate, key and client_authorities of [sessions_api] do not go together, or are not PEM"
    )]
    Tls(#[source] tonic::transport::Error),
    /// No such user or group.
    #[error(transparent)]
    Account(#[from] NoAccount),
}

impl Server {
    /// Serves a node's sessions, as its configuration says, from the tokio runtime that this is called on; on
    /// a thread in the node's network namespace. A socket file that an earlier daemon left is replaced; the
    /// caller holds the node's lock.
    ///
    /// # Errors
    ///
    /// If something that the configuration names is not there or of no use.
    pub fn start(config: &Config, runtime: Arc<Runtime>) -> Result<Self, ServerError> {
        let SessionsApi { socket, mode, group: _, tcp } = &config.sessions_api;
        let Parts { allowed, access, tls } = Parts::new(config, *mode)?;
        let unix = |source| ServerError::Unix { path: socket.clone(), source };
        let (listener, file) = listen_at(socket, SockType::Stream, access).map_err(unix)?;
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(true).map_err(unix)?;
        let listener = tokio::net::UnixListener::from_std(listener).map_err(unix)?;
        let over_tcp = match (tcp, tls) {
            (Some(tcp), Some(tls)) => Some((listen_tcp(tcp.listen)?, tls)),
            _ => None,
        };
        let (stop, stops) = watch::channel(false);
        let desk = Desk { runtime, allowed, streams: Streams::default(), stops: stops.clone() };
        let calls = Calls(Arc::new(desk));
        serve(listener, builder(), calls.clone(), stops.clone());
        if let Some((listener, tls)) = over_tcp {
            let builder = builder()
                .http2_keepalive_interval(Some(ALIVE))
                .http2_keepalive_timeout(Some(ALIVE))
                .tls_config(tls)
                .map_err(ServerError::Tls)?;
            serve(listener, builder, calls, stops);
        }
        Ok(Self { stop, _file: file })
    }

    /// Whether [`Server::start`] could serve now. Nobody can connect meanwhile, and no file but an earlier
    /// daemon's socket is removed.
    ///
    /// # Errors
    ///
    /// If it could not.
    pub fn check(config: &Config) -> Result<(), ServerError> {
        let SessionsApi { socket, mode, tcp, .. } = &config.sessions_api;
        let Parts { tls, .. } = Parts::new(config, *mode)?;
        if let Some(tls) = tls {
            builder().tls_config(tls).map_err(ServerError::Tls)?;
        }
        let made = make_socket(socket, SockType::Stream);
        made.map_err(|source| ServerError::Unix { path: socket.clone(), source })?;
        if let Some(MutualTls { listen, .. }) = tcp {
            let address = *listen;
            let bound = std::net::TcpListener::bind(address);
            bound.map_err(|source| ServerError::Tcp { address, source })?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// What a configuration names outside of itself.
struct Parts {
    allowed: Allowed,
    access: Access,
    tls: Option<ServerTlsConfig>,
}

impl Parts {
    fn new(config: &Config, mode: u32) -> Result<Self, ServerError> {
        let SessionsApi { group: named, tcp, .. } = &config.sessions_api;
        let group = named.as_ref().map(group).transpose()?;
        let tls = tcp.as_ref().map(tls).transpose()?;
        let access = Access { mode, group };
        Ok(Self { allowed: Allowed::new(config)?, access, tls })
    }
}

fn tls(tcp: &MutualTls) -> Result<ServerTlsConfig, ServerError> {
    let MutualTls { listen: _, certificate, key, client_authorities } = tcp;
    let certificate = read("certificate", certificate)?;
    let key = read("key", key)?;
    let authorities = read("client_authorities", client_authorities)?;
    Ok(ServerTlsConfig::new()
        .identity(Identity::from_pem(certificate, key))
        .client_ca_root(Certificate::from_pem(authorities))
        .client_auth_optional(false)
        .timeout(HANDSHAKE))
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, ServerError> {
    fs::read(path).map_err(|source| ServerError::Read { key, path: path.to_owned(), source })
}

fn listen_tcp(address: SocketAddr) -> Result<tokio::net::TcpListener, ServerError> {
    let listen = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    };
    listen().map_err(|source| ServerError::Tcp { address, source })
}

fn builder() -> tonic::transport::Server {
    tonic::transport::Server::builder().max_concurrent_streams(CALLS)
}

/// Serves a listener until the server stops.
fn serve<L: Listener>(
    listener: L,
    builder: tonic::transport::Server,
    calls: Calls,
    stops: watch::Receiver<bool>,
) {
    let service = SessionsServer::new(calls)
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(ANSWER_MAX);
    tokio::spawn(async move {
        let (connections, stopped) = (connections(listener), stopped(stops));
        let served = builder.serve_with_incoming_shutdown(service, connections, stopped).await;
        if let Err(error) = served {
            tracing::error!(%error, "the Sessions API is served no longer");
        }
    });
}
