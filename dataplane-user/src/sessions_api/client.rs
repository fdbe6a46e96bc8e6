//! An application's end.

use super::{
    ANSWER_MAX, MESSAGE_MAX, REASON_TRAILER,
    attachment::Attachment,
    convert::bytes,
    proto::{self, Reason, sessions_client::SessionsClient},
};
use crate::runtime::Opened;
use hyper_util::rt::TokioIo;
use ownership::{Epoch, NodeIndex, SessionId, StateVersion, control::Credentials};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use thiserror::Error;
use tokio::net::UnixStream;
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri},
};

/// How often a TCP connection is asked for a sign of life, and how long that may take.
const ALIVE: Duration = Duration::from_secs(5);

/// A connection to the daemon of a node. Clones share it.
///
/// Calls are made on the tokio runtime that it was connected on, which has to run meanwhile. A thread that
/// blocks waits for them with [`Handle::block_on`](tokio::runtime::Handle::block_on) of that runtime.
///
/// ```no_run
/// use dataplane_user::sessions_api::{Client, Notice, Opening};
/// use std::path::Path;
///
/// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect(Path::new("/run/jumpgate/a.sessions.sock")).await?;
/// let mut attachment = client.attach("game").await?;
/// let opening = Opening {
///     client: Some("192.0.2.7:4000".parse()?),
///     stream: Some(attachment.stream()),
///     ..Opening::of("game")
/// };
/// let opened = client.open(opening).await?;
/// println!("{} at version {}", opened.session, opened.version);
/// while let Some(notice) = attachment.next().await? {
///     match notice {
///         Notice::Granted { session, .. } => attachment.answers().ready(session, true).await?,
///         Notice::Quiesce { session } => {
///             let context = b"score: 7".to_vec();
///             attachment.answers().quiesced(session, Some(context)).await?;
///         }
///         other => println!("{other:?}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    calls: SessionsClient<Channel>,
}

/// A session that is to be opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// The service's name.
    pub service: String,
    /// The CPU that processes it; any if it is none.
    pub cpu: Option<u32>,
    /// The client to bind it to at once.
    pub client: Option<SocketAddr>,
    /// What the application leaves for itself.
    pub context: Vec<u8>,
    /// The number of the open stream that owns it ([`Attachment::stream`]), if one does.
    pub stream: Option<u64>,
}

impl Opening {
    /// A session of a service, and nothing else.
    pub fn of(service: &str) -> Self {
        Self { service: service.to_owned(), ..Self::default() }
    }
}

/// A session as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its SessionID.
    pub session: SessionId,
    /// The name of its service.
    pub service: String,
    /// Where it is in its life.
    pub state: proto::State,
    /// Whether it is on its way.
    pub hold: proto::Hold,
    /// Its state_version.
    pub version: StateVersion,
    /// The node that owns it.
    pub node: NodeIndex,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// The client that it is bound to.
    pub client: Option<SocketAddr>,
    /// Its wire ids besides the SessionID.
    pub wire_ids: Vec<Vec<u8>>,
    /// What the application has left for itself; empty in lists.
    pub context: Vec<u8>,
    /// Whether the node that was asked owns it.
    pub is_here: bool,
}

/// Some of a node's sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// They; none does not mean that there are no more.
    pub sessions: Vec<Session>,
    /// Where the next page begins, if there may be one.
    pub next: Option<SessionId>,
}

/// Paths of files in PEM, for a node that is reached over TCP.
#[derive(Clone, Debug)]
pub struct MutualTls {
    /// Who signs the node's certificate.
    pub authorities: PathBuf,
    /// The application's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The name in the node's certificate.
    pub name: String,
}

/// Why a call failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("no daemon answers at {place}; is `jumpgate run` running, and may you use its socket?")]
    Connect {
        /// Where.
        place: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// A file cannot be read.
    #[error("reading {} failed", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The daemon refuses. Nothing has changed, unless the reason is [`Reason::Other`].
    #[error("{message}")]
    Refused {
        /// Why.
        reason: Reason,
        /// The kind of it, in gRPC's words.
        code: Code,
        /// In words for people.
        message: String,
    },
    /// The connection broke: whether it was done, nobody says.
    #[error("talking to the daemon failed")]
    Broken(#[source] Box<Status>),
    /// The daemon's answer makes no sense here.
    #[error("the daemon answers in words of another version: its {0} has no meaning")]
    Answer(&'static str),
}

impl ClientError {
    /// Why the daemon refused, if it did.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused { reason, .. } => Some(*reason),
            Self::Connect { .. } | Self::Read { .. } | Self::Broken(_) | Self::Answer(_) => None,
        }
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let reason = status.metadata().get(REASON_TRAILER);
        let reason = reason.and_then(|name| name.to_str().ok()?.to_owned().into());
        match reason {
            Some(name) => Self::Refused {
                reason: Reason::from_str_name(&name).unwrap_or(Reason::Other),
                code: status.code(),
                message: status.message().to_owned(),
            },
            None => Self::Broken(Box::new(status)),
        }
    }
}

impl Client {
    /// Connects to the Unix socket of a daemon.
    ///
    /// # Errors
    ///
    /// If nobody answers there.
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        let connect = {
            let path = path.to_owned();
            tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            })
        };
        // Its name is not looked up: the socket is found by its path.
        let endpoint = Endpoint::from_static("http://jumpgate");
        let channel = endpoint.connect_with_connector(connect).await;
        let place = || path.display().to_string();
        let channel = channel.map_err(|source| ClientError::Connect { place: place(), source })?;
        Ok(Self::over(channel))
    }

    /// Connects to a daemon that listens on TCP.
    ///
    /// # Errors
    ///
    /// If nobody answers there, one does not know the other's certificate, or a file cannot be read.
    pub async fn connect_tcp(address: SocketAddr, tls: &MutualTls) -> Result<Self, ClientError> {
        let MutualTls { authorities, certificate, key, name } = tls;
        let (authorities, certificate) = (read(authorities)?, read(certificate)?);
        let config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(authorities))
            .identity(Identity::from_pem(certificate, read(key)?))
            .domain_name(name);
        let failed = |source| ClientError::Connect { place: address.to_string(), source };
        let endpoint = Endpoint::from_shared(format!("https://{address}")).map_err(failed)?;
        let endpoint = endpoint
            .tls_config(config)
            .map_err(failed)?
            .http2_keep_alive_interval(ALIVE)
            .keep_alive_timeout(ALIVE)
            .keep_alive_while_idle(true);
        Ok(Self::over(endpoint.connect().await.map_err(failed)?))
    }

    fn over(channel: Channel) -> Self {
        let calls = SessionsClient::new(channel)
            .max_decoding_message_size(ANSWER_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        Self { calls }
    }

    /// Begins to be told of a service's sessions.
    ///
    /// # Errors
    ///
    /// If the daemon refuses, or the connection breaks.
    pub async fn attach(&self, service: &str) -> Result<Attachment, ClientError> {
        Attachment::begin(self.calls.clone(), service).await
    }

    /// Opens a session.
    ///
    /// # Errors
    ///
    /// If the daemon refuses, or the connection breaks.
    pub async fn open(&self, opening: Opening) -> Result<Opened, ClientError> {
        let Opening { service, cpu, client, context, stream } = opening;
        let request = proto::OpenRequest {
            service,
            cpu,
            client: client.map(|client| client.to_string()).unwrap_or_default(),
            context,
            owned_by_connection: stream.is_some(),
            stream: stream.unwrap_or_default(),
        };
        let opened = self.calls.clone().open(request).await?.into_inner();
        let credentials = Credentials::from_bytes(&opened.credentials);
        Ok(Opened {
            session: session_id(&opened.session)?,
            epoch: Epoch::new(opened.epoch).ok_or(ClientError::Answer("epoch"))?,
            version: StateVersion::new(opened.version),
            credentials: credentials.map_err(|_| ClientError::Answer("credentials"))?,
        })
    }

    /// Binds a session to a client, whom the application vouches for; returns its state_version.
    ///
    /// # Errors
    ///
    /// If the daemon refuses, or the connection breaks.
    pub async fn bind(
        &self,
        session: SessionId,
        client: SocketAddr,
    ) -> Result<StateVersion, ClientError> {
        let request = proto::BindRequest { session: bytes(session), client: client.to_string() };
        let bound = self.calls.clone().bind(request).await?.into_inner();
        Ok(StateVersion::new(bound.version))
    }

    /// Reports that a session has lost its client, or this one if it is still bound to it; returns its
    /// state_version.
    ///
    /// # Errors
    ///
    /// If the daemon refuses, or the connection breaks.
    pub async fn report_transport_loss(
        &self,
        session: SessionId,
        client: Option<SocketAddr>,
    ) -> Result<StateVersion, ClientError> {
        let client = client.map(|client| client.to_string()).unwrap_or_default();
        let request = proto::ReportTransportLossRequest { session: bytes(session), client };
        let lost = self.calls.clone().report_transport_loss(request).await?.into_inner();
        Ok(StateVersion::new(lost.version))
    }

    /// Ends a session.
    ///
    /// # Errors
    ///
    /// If the daemon refuses, or the connection breaks.
    pub async fn terminate(&self, session: SessionId) -> Result<(), ClientError> {
        let request = proto::TerminateRequest { session: bytes(session) };
        self.calls.clone().terminate(request).await?;
        Ok(())
    }

    /// A session as it stands.
    ///
    /// # Errors
    ///
    /// If there is none, or the connection breaks.
    pub async fn get(&self, session: SessionId) -> Result<Session, ClientError> {
        let request = proto::GetRequest { session: bytes(session) };
        let found = self.calls.clone().get(request).await?.into_inner().session;
        found.ok_or(ClientError::Answer("session"))?.try_into()
    }

    /// Sessions of the node, of one service or of all, behind a SessionID; at most `limit`, or as many as a
    /// page has.
    ///
    /// # Errors
    ///
    /// If the daemon refuses, or the connection breaks.
    pub async fn list(
        &self,
        service: Option<&str>,
        after: Option<SessionId>,
        limit: Option<u32>,
    ) -> Result<Page, ClientError> {
        let request = proto::ListRequest {
            service: service.unwrap_or_default().to_owned(),
            after: after.map(bytes).unwrap_or_default(),
            limit: limit.unwrap_or_default(),
        };
        let listed = self.calls.clone().list(request).await?.into_inner();
        let sessions = listed.sessions.into_iter().map(Session::try_from);
        let next = Some(listed.next).filter(|next| !next.is_empty());
        Ok(Page {
            sessions: sessions.collect::<Result<_, _>>()?,
            next: next.as_deref().map(session_id).transpose()?,
        })
    }

    /// Keeps what the application leaves for itself.
    ///
    /// # Errors
    ///
    /// If the daemon refuses, or the connection breaks.
    pub async fn put_context(
        &self,
        session: SessionId,
        context: Vec<u8>,
    ) -> Result<(), ClientError> {
        let request = proto::PutContextRequest { session: bytes(session), context };
        self.calls.clone().put_context(request).await?;
        Ok(())
    }

    /// Mints one more wire id for a session.
    ///
    /// # Errors
    ///
    /// If the daemon refuses, or the connection breaks.
    pub async fn mint(&self, session: SessionId) -> Result<Vec<u8>, ClientError> {
        let request = proto::MintRequest { session: bytes(session) };
        Ok(self.calls.clone().mint(request).await?.into_inner().wire_id)
    }

    /// Adds a wire id that the session's peer chose; `off_home` says whether it may lie in another slot than
    /// the session.
    ///
    /// # Errors
    ///
    /// If the daemon refuses, or the connection breaks.
    pub async fn add_wire_id(
        &self,
        session: SessionId,
        wire_id: Vec<u8>,
        off_home: bool,
    ) -> Result<(), ClientError> {
        let request = proto::AddWireIdRequest { session: bytes(session), wire_id, off_home };
        self.calls.clone().add_wire_id(request).await?;
        Ok(())
    }

    /// Removes a wire id.
    ///
    /// # Errors
    ///
    /// If the daemon refuses, or the connection breaks.
    pub async fn remove_wire_id(
        &self,
        session: SessionId,
        wire_id: Vec<u8>,
    ) -> Result<(), ClientError> {
        let request = proto::RemoveWireIdRequest { session: bytes(session), wire_id };
        self.calls.clone().remove_wire_id(request).await?;
        Ok(())
    }
}

impl TryFrom<proto::Session> for Session {
    type Error = ClientError;

    fn try_from(told: proto::Session) -> Result<Self, ClientError> {
        Ok(Self {
            session: session_id(&told.session)?,
            state: told.state(),
            hold: told.hold(),
            version: StateVersion::new(told.version),
            node: node(told.node)?,
            epoch: epoch(told.epoch)?,
            client: client(&told.client)?,
            service: told.service,
            wire_ids: told.wire_ids,
            context: told.context,
            is_here: told.is_here,
        })
    }
}

pub(super) fn session_id(bytes: &[u8]) -> Result<SessionId, ClientError> {
    bytes.try_into().map(SessionId::new).map_err(|_| ClientError::Answer("session"))
}

pub(super) fn node(index: u32) -> Result<NodeIndex, ClientError> {
    let index = u16::try_from(index).ok().and_then(|index| NodeIndex::new(index).ok());
    index.ok_or(ClientError::Answer("node"))
}

pub(super) fn epoch(number: u32) -> Result<Epoch, ClientError> {
    Epoch::new(number).ok_or(ClientError::Answer("epoch"))
}

pub(super) fn client(text: &str) -> Result<Option<SocketAddr>, ClientError> {
    let text = Some(text).filter(|text| !text.is_empty());
    text.map(str::parse).transpose().map_err(|_| ClientError::Answer("client"))
}

fn read(path: &Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(path).map_err(|source| ClientError::Read { path: path.to_owned(), source })
}
